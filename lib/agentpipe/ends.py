"""How a task ends: one word, with its exit code, its ClearML status and what to do about it."""

from agentpipe import errors


class End:
    """One row: `status` is the ClearML status; `exit` is None where the script or the failed stage says it.

    `remedy` is a command that can be typed as it is ({id} is the task's), `advice` is in words, `inside` those for a
    script in a place of its own, which sees nothing of the attempt before it.
    """

    __slots__ = ("_inside", "advice", "exit", "name", "remedy", "status", "when")

    def __init__(self, name: str, status: str, exit: int | None, when: str, remedy: str, advice: str = "",
                 inside: str = "") -> None:
        self.name, self.status, self.exit, self.when = name, status, exit, when
        self.remedy, self.advice, self._inside = remedy, advice, inside

    def advised(self, inside: bool) -> str:
        """What to do, in words, of a script that ran on the host, or `inside` of another place."""
        return self._inside if inside and self._inside else self.advice


GOES_ON = "continue it (agent-task continue); a script that saves finds its files in $AGENT_LAST_ATTEMPT, agentpipe(7)"
GOES_ON_INSIDE = ("continue it (agent-task continue); a script in a container finds what it has saved outside of its "
                  "own directory: in a folder that --docker-args mounts, or as an artefact")
ENDS = {
    end.name: end
    for end in (
        End("completed", "completed", 0, "the script ended with 0", ""),
        End("script_failed", "failed", None, "the script ended with another status, or by a signal of its own",
            "agent-task log {id}"),
        End("out_of_memory", "failed", 137, "the kernel or the container's limit killed it",
            "", "run it where more memory is free, or with less data at a time"),
        End("time_limit", "failed", 124, "it ran longer than allowed",
            "", "raise --time-limit of agent-run, or let the script save, and look in $AGENT_LAST_ATTEMPT "
                "(agentpipe(7)) after agent-task continue",
            "raise --time-limit of agent-run, or let the script save outside of its own directory (in a folder that "
            "--docker-args mounts, or as an artefact), and go on from there after agent-task continue"),
        End("stalled", "failed", 124, "it printed nothing for longer than allowed",
            "", "raise --stall-limit of agent-run, or let the script print progress"),
        End("setup_failed", "failed", None, "a stage before run failed", "agent-task log {id}"),
        End("aborted", "stopped", 130, "a user stopped it", "agent-task enqueue {id}"),
        End("drained", "queued", errors.TRY_AGAIN, "the operator stopped this worker", "", GOES_ON,
            GOES_ON_INSIDE),
        End("preempted", "queued", errors.TRY_AGAIN, "the scheduler took the machine back", "", GOES_ON,
            GOES_ON_INSIDE),
        End("lost", "failed", 125, "the process is gone and left no status: power, reboot, or killed from outside",
            "agent-task enqueue {id}"),
    )
}


def of_exit(status: int) -> str:
    """The end's class of a script that ended by itself with this exit status (128 + N after signal N)."""
    return "completed" if status == 0 else "script_failed"
