"""agent-run: start a task's script, or take over one that runs unwatched, and record how it ends."""

from agentpipe import command

EXAMPLES = """
  agent-pull gpu | agent-prepare | agent-run
  agent-prepare < receipt.json | agent-run --time-limit 3600
  agent-run --dry-run prepared.json
"""


def options():
    from agentpipe.options import Flag, Option
    return [
        Flag("--supervised", "Exit 0 once the end is recorded, whatever it was (for agent-supervisor)."),
        Option("--time-limit", "SECONDS", "End the script after this long (class time_limit).", float),
        Option("--stall-limit", "SECONDS", "End it when it has printed nothing for this long (class stalled).", float),
        Option("--grace", "SECONDS", "Between TERM and KILL.", float, 10.0),
        Option("--on-drain", "POLICY", "After TERM to agent-run: `requeue` the task, or `stop` it.", str, "requeue"),
    ]


def each(raw, values):
    """One line: report its failure, watch the script that already runs, or start it; the exit code."""
    from agentpipe import ending, errors, manifest, stages
    try:
        line = manifest.read(raw)
        if "failed" in line and "task" not in line:
            command.put(raw + b"\n")
            return line["failed"]["exit"]
        held = stages.Held(line if "failed" in line else stages.identified(line), "run", values)
    except errors.Failure as failure:
        return command.tell("agent-run", failure)
    if "failed" in line:
        return ending.of_failed(held, values)
    try:
        if values.get("dry_run"):
            return dry_run(held)
        if not held.started:
            held.begin()
        elif held.api:
            held.watch()
        held.script = running(held) or started(held)
    except errors.Interrupted:
        with command.SIGNALS:
            held.give_back("told to stop")
            command.SIGNALS.forget()
        raise
    except errors.Aborted as aborted:
        held.manifest, _ = stages.aborted_line(held, aborted)
        return ending.of_failed(held, values)
    except errors.Failure as failure:
        if failure.exit == errors.TRY_AGAIN or values.get("dry_run"):
            held.release()
            return command.tell("agent-run", failure)
        held.manifest = stages.explained(held, failure)
        command.say(f"agent-run: {failure.reason}" + (f" ({failure.remedy})" if failure.remedy else ""))
        held.job.say(f"agent-run: {failure.reason}")
        return ending.of_failed(held, values)
    from agentpipe import watching
    return ending.of_script(held, held.script, watching.watch(held, held.script, values), values)


def running(held):
    """The script of this attempt that another agent-run has started and left, or None."""
    from agentpipe import attempt, script
    directory = held.claim.directory
    if not (held.started or attempt.exit_status(directory) is not None or attempt.shim_lives(directory)):
        return None
    held.job.say("agent-run: taking over the script that runs already")
    return script.taken_over(directory, held.job.prefix)


def started(held):
    """Start the script; from here on its shim keeps the status, whatever happens to us."""
    from agentpipe import attempt, hooks, launch, manifest, memory, script
    from agentpipe.crash import crash_point
    held.manifest = held.job.manifest = hooks.run("pre-run", held.manifest, held.job)
    begin = launch.of(held.manifest, held.claim.directory)
    attempt.store_manifest(held.claim.directory, manifest.write(held.manifest))
    crash_point("run:stored")
    if held.job.prefix:
        for name in launch.write_spec(held.claim.directory, begin.env):
            held.job.say(f"agent-run: the variable {name} cannot be passed into this place")
    env = launch.own() if held.job.prefix else begin.env
    held.memory_mark = memory.mark()
    found = script.start(held.claim.directory, begin.argv, begin.cwd, env, held.job.prefix, begin.piped)
    crash_point("run:started")
    return found


def dry_run(held):
    """Say what would be started; the task goes back to its queue."""
    import shlex

    from agentpipe import launch
    begin = launch.of(held.manifest, held.claim.directory)
    command.say(f"agent-run: would run in {begin.cwd}: {shlex.join([*held.job.prefix, *begin.argv])}")
    held.release()
    return 0


def main():
    """The entry point."""
    command.entry("agent-run", options, __doc__, EXAMPLES, each)


if __name__ == "__main__":
    main()
