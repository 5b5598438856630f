"""agent-run: start a task's script, or take over one that runs unwatched, and record how it ends."""

import os

from agentpipe import command

EXAMPLES = """
  agent-pull gpu | agent-prepare | agent-run
  agent-prepare < receipt.json | agent-run --time-limit 3600
  agent-run --dry-run prepared.json
"""


def options():
    """The command's own options."""
    from agentpipe.options import Flag, Option
    return [
        Flag("--supervised", "Exit 0 once the end is recorded, whatever it was, or somebody else has decided about the "
                             "task meanwhile; 73 when the receipt cannot be written, 76 when what the set-up needs "
                             "was away, 69, 73, 75 or 78 where this machine has kept the task from running (for "
                             "agent-supervisor)."),
        Option("--time-limit", "SECONDS", "End the script after this long (class time_limit).", float),
        Option("--stall-limit", "SECONDS", "End it when it has printed nothing for this long (class stalled).", float),
        Option("--grace", "SECONDS", "Between TERM and KILL.", float, 10.0),
        Option("--on-drain", "POLICY", "After TERM to agent-run: `requeue` the task, or `stop` it.", str, "requeue"),
        Option("--hold-on-failure", "TIME", "Keep the container of a script that failed for so long (2h, 30m), for "
                                            "agent-task shell."),
        Option("--on-lost", "POLICY", "When the script is gone without a status: `fail`, or `requeue` the task. "
                                      "Default: $AGENT_ON_LOST, or fail."),
        Option("--gpus", "GPUS", "The GPUs that the script sees: numbers (0,1 or 0-3), UUIDs, `all` or `none`."),
        Flag("--cpu-only", "The script sees no GPU."),
        Option("--log-level", "LEVEL", "Of the clearml package in the script. Default: $CLEARML_LOG_LEVEL, or INFO."),
        Option("--optimize", "LEVEL", "Start Python with -O (1) or -OO (2).", int, 0, short="-O"),
    ]


def each(raw, values):
    """One line: report its failure, watch the script that already runs, or start it; the exit code."""
    from agentpipe import errors, stages
    from agentpipe.run import ending
    verdicts = []

    def steps(held):
        from agentpipe.run import monitor
        from agentpipe.signals import SIGNALS
        if held.dry:
            dry_run(held, values)
            return
        if not is_running(held):
            stages.hook(held, "pre-run")
        # from the script's start to the verdict no signal may lose it: monitor.py opens where it waits
        with SIGNALS.closed():
            held.script = taken_over(held) if is_running(held) else started(held, values)
            verdicts.append(monitor.watch(held, held.script, values))

    def end(held):
        if held.dry:
            from agentpipe import stdio
            stdio.say(f"agent-run: would report that it failed: {held.manifest['failed']['reason']}")
            held.put_down()
            return held.manifest["failed"]["exit"]
        if verdicts:
            return ending.of_script(held, verdicts[0], values)
        return ending.of_failed(held, values)

    try:
        return stages.each("run", steps, raw, values, end, ready)
    except errors.LetGo as gone:
        from agentpipe import failures
        code = failures.tell("agent-run", gone)
        return 0 if values["supervised"] else code


def check_options(values):
    """Values that cannot be meant: Failure 64."""
    from agentpipe import errors, gpus
    from agentpipe.run import hold
    from agentpipe.settings import checks
    wrong = ""
    if values["on_lost"] is not None:
        checks.lost_policy(values["on_lost"])
    if values["hold_on_failure"]:
        hold.seconds(values["hold_on_failure"])
    if values["on_drain"] not in ("requeue", "stop"):
        wrong = f"--on-drain is requeue or stop, not {values['on_drain']}"
    for name in ("time_limit", "stall_limit"):
        if values[name] is not None and not values[name] > 0:
            wrong = f"--{name.replace('_', '-')} wants seconds above 0"
    if not values["grace"] >= 0:
        wrong = "--grace wants 0 or more seconds"
    if values["optimize"] not in (0, 1, 2):
        wrong = "--optimize is 1 or 2"
    if values["gpus"] is not None and values["cpu_only"]:
        wrong = "--gpus and --cpu-only do not go together"
    if wrong:
        raise errors.Failure(wrong, errors.USAGE, remedy="agent-run --help")
    if values["gpus"] is not None:
        gpus.parsed(values["gpus"])


def ready(values):
    """Settings that cannot be meant: Failure 78; and show ourselves, and so the script, only the GPUs asked for."""
    from agentpipe.settings import checks
    checks.lost_policy(values["on_lost"])
    checks.check_user()
    if values["gpus"] is not None or values["cpu_only"]:
        from agentpipe import gpus
        os.environ.update(gpus.variables(gpus.NONE if values["cpu_only"] else gpus.parsed(values["gpus"])))


def is_running(held):
    """Whether another agent-run has started the script of this attempt."""
    from agentpipe.claim import attempt
    directory = held.claim.directory
    return held.started or attempt.exit_status(directory) is not None or attempt.shim_lives(directory)


def taken_over(held):
    """The script that another agent-run has started and left."""
    from agentpipe.run import script
    held.job.say("agent-run: taking over the script that runs already")
    return script.taken_over(held.claim.directory, held.place)


def started(held, values):
    """Start the script; from here on its shim keeps the status, whatever happens to us."""
    from agentpipe import manifest
    from agentpipe.claim import attempt
    from agentpipe.crash import crash_point
    from agentpipe.place import memory
    from agentpipe.run import callbacks, former, launch, script, script_env
    begin = launch.of(held.manifest, held.claim.directory, values)
    if not held.place.prefix and not os.path.isdir(begin.cwd):
        from agentpipe import errors
        raise errors.Failure(f"the folder to run in is not there: {begin.cwd}", errors.NOT_FOUND,
                             remedy="let agent-prepare make it again, with the manifest as agent-pull printed it")
    if not held.place.prefix and (before := former.variables(held.manifest, held.claim.directory)):
        begin.env |= before
        for name, path in before.items():
            held.job.say(f"agent-run: {name} is where the attempt before this one ran: {path}")
    if held.place.isolated and (values["gpus"] or values["cpu_only"]):
        held.job.say("agent-run: a container's GPUs are fixed when it is made: agent-prepare --gpus")
    if (held.job.task.get("container") or {}).get("image") and "place" not in held.manifest:
        held.job.say("agent-run: the task asks for an image, but no agent-prepare has run: it runs on the host")
    attempt.store_manifest(held.claim.directory, manifest.write(held.manifest))
    crash_point("run:stored")
    if held.api:
        script_env.write_conf(held.claim.directory, held.place.settings())
        callbacks.register(held)
    if held.place.prefix:
        inside = {**begin.env, **held.place.variables()}
        for name in launch.write_spec(held.claim.directory, inside, held.place.isolated):
            held.job.say(f"agent-run: the variable {name} cannot be passed into this place")
        held.place.open_up()
    memory.mark(held.claim.directory)
    env = launch.own() if held.place.prefix else begin.env
    found = script.start(held.claim.directory, begin.argv, begin.cwd, env, held.place, begin.piped)
    crash_point("run:started")
    return found


def dry_run(held, values):
    """Say what would be started."""
    import shlex

    from agentpipe import stdio
    from agentpipe.run import launch
    begin = launch.of(held.manifest, held.claim.directory, values)
    stdio.say(f"agent-run: would run in {begin.cwd}: {shlex.join([*held.job.prefix, *begin.argv])}")


def main():
    """The entry point."""
    command.entry("agent-run", options, __doc__, EXAMPLES, each, check=check_options)


if __name__ == "__main__":
    main()
