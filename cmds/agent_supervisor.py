"""agent-supervisor: serve queues: pull a task, prepare it, run it, and again; look after those that run here."""

import os
import sys

from agentpipe import command, stdio

LOOPS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent-supervisor", "")
EXAMPLES = """
  agent-supervisor gpu
  agent-supervisor --jobs 2 urgent default
  agent-supervisor --status
  agent-supervisor --drain
"""
# what clearml-agent's daemon takes and we do not: the exit code, and what to do instead
OF_THE_DAEMON = {
    "--services-mode": (64, "services mode is: --services --jobs N"),
    "--foreground": (64, "it stays in the foreground"),
    "--detached": (64, "it stays in the foreground; systemd, nohup or & take it away"),
    "-d": (64, "it stays in the foreground; systemd, nohup or & take it away"),
    "--dynamic-gpus": (78, "it needs a paid ClearML server, and is not part of this version"),
    "--use-owner-token": (78, "it needs a paid ClearML server, and is not part of this version"),
}


def options():
    """The command's own options."""
    from agentpipe.options import Argument, Flag, Option
    return [
        Argument("QUEUE", "Queues to serve, the first one first; with --drain, --stop and --status names of workers.",
                 many=True, filled=True),
        Option("--jobs", "N", "Run N tasks at the same time, each under a worker name of its own. Default: 1; with "
                              "--services at most so many, default 100.", int),
        Flag("--services", "For tasks that stay: side by side, each a worker of its own (NAME:service:TASK), while one "
                           "process waits for the next. They see no GPU unless --gpus names some."),
        Option("--worker", "NAME", "The name of this worker. Default: HOST:N, HOST:gpu0,1 or HOST:cpu:N, the first "
                                   "that is free."),
        Option("--gpus", "GPUS", "Tasks see only these GPUs: 0,1 or 0-3, UUIDs, all or none."),
        Flag("--cpu-only", "Tasks see no GPU."),
        Flag("--fair", "Take turns between the queues."),
        Option("--uptime", "HOURS DAYS", "Take tasks only then (\"17-20 TUE\", see agent-pull). May stand several "
                                         "times.", many=True),
        Option("--downtime", "HOURS DAYS", "Take no task in these hours.", many=True),
        Flag("--create-queue", "Create queues that are missing."),
        Flag("--exit-on-error", "Leave when a stage fails, instead of trying again."),
        Flag("--drain", "Of the supervisors of this machine, all or those of the workers named: each leaves when its "
                        "task has ended."),
        Flag("--stop", "Each leaves now; its task goes back to its queue."),
        Flag("--status", "Say what each serves and runs."),
        Flag("--json", "With --status: a JSON object a line."),
    ]


def supervise(values):
    """Become the loop that serves; or look after those that run, the exit code."""
    from agentpipe import errors
    asked = [name for name in ("drain", "stop", "status") if values[name]]
    if len(asked) > 1:
        raise errors.Failure(f"--{asked[0]} or --{asked[1]}?", errors.USAGE, remedy="agent-supervisor --help")
    if asked:
        return look_after(asked[0], values)
    if values["json"]:
        raise errors.Failure("--json goes with --status", errors.USAGE, remedy="agent-supervisor --help")
    if not values["queue"]:
        raise errors.Failure("which queue?", errors.USAGE, remedy="agent-supervisor --help")
    if values["uptime"] or values["downtime"]:
        from agentpipe.pull import schedule
        schedule.of(values["uptime"], values["downtime"])  # what agent-pull would refuse for ever
    if values["jobs"] is not None and values["jobs"] < 1:
        raise errors.Failure("--jobs wants a number above 0", errors.USAGE, remedy="agent-supervisor --help")
    from agentpipe import swapped
    server = check_what_pull_refuses(values)
    for failure in swapped.unusable():
        raise failure
    tell_odd_hooks()
    serve(values, there(chosen_gpus(values)), server)
    return None


def tell_odd_hooks():
    """Say what stands among the hooks and is none: the supervisor of a slot leaves that to the one of all."""
    from agentpipe import hook_files
    from agentpipe.claim import supervisors
    for each in () if os.environ.get(supervisors.PARENT) else hook_files.look()[1]:
        stdio.say(f"agent-supervisor: warning: {each}")


def check_what_pull_refuses(values):
    """A Failure for what agent-pull would refuse again and again, now that somebody looks; else the server, if it was
    asked.

    Once it serves it tries again, whatever happens to its queues; a server that is away is waited for, and a store
    that is damaged is not.
    """
    from agentpipe import errors, find
    from agentpipe.claim import supervisors
    from agentpipe.place import decide, own_settings
    from agentpipe.pull import queues, room
    from agentpipe.settings import checks
    from agentpipe.transport import api
    if os.environ.get("AGENT_STAGE_PULL") or os.environ.get(supervisors.PARENT):
        return None  # another's pull, or looked at by the supervisor of this slot
    for name in values["queue"] if values["create_queue"] else ():
        find.check_new_name(name)
    checks.lost_policy(None)
    checks.check_user(ahead=True)
    checks.check_values()
    room.gate(None, None, stdio.say)
    if not os.environ.get("AGENT_STAGE_PREPARE") and decide.engine(lambda option: None) != "host":
        for wrong in own_settings.wrong():
            raise wrong
    if values["services"]:
        from agentpipe.run import services
        services.check_setting()
    server = None
    try:
        server = api.connect(patience=0)
        if isinstance(server, api.StoreApi):
            server.write()
        if not values["create_queue"]:
            queues.Queues(server, values["queue"])
    except errors.ApiError:
        pass
    except errors.Failure as failure:
        if failure.exit == errors.NOT_FOUND:
            failure.remedy = "the same with --create-queue"
        lasting = (errors.NOT_FOUND, errors.NO_PERMISSION, errors.BAD_CONFIG, errors.CANNOT_CREATE)
        if failure.exit in lasting or isinstance(failure, errors.Damaged):
            raise
    return server


def look_after(what, values):
    """--status, --drain or --stop."""
    from agentpipe import errors
    from agentpipe.claim import supervisors
    found = supervisors.running(values["queue"])
    if what == "status" and (found or not values["queue"]):
        for one in found:
            stdio.put(shown(one, values["json"]))
        return 0
    if not found:
        named = " as " + " ".join(values["queue"]) if values["queue"] else ""
        raise errors.Failure(f"no supervisor runs here{named}", errors.NOT_FOUND)
    (supervisors.drain if what == "drain" else supervisors.stop)(found)
    return 0


def shown(one, as_json):
    """A line about one supervisor."""
    if as_json:
        import json
        said = {"worker": one["worker"], "serves": one["serves"], "task": next(iter(one["tasks"]), None),
                "tasks": one["tasks"], "pid": int(one["process"].split()[0])}
        return json.dumps(said).encode() + b"\n"
    runs = "runs " + " ".join(one["tasks"]) if one["tasks"] else ""
    return os.fsencode("\t".join([one["worker"], one["serves"], runs])) + b"\n"


def chosen_gpus(values):
    """What tasks may see, as gpus.parsed() gives it; None when nothing says so."""
    from agentpipe import gpus
    if values["cpu_only"]:
        return gpus.NONE
    if values["gpus"] is not None:
        return gpus.parsed(values["gpus"])
    return gpus.NONE if values["services"] else None


def there(seen):
    """`seen`, when this machine has these GPUs; 64 when not: every task of the queue would fail."""
    from agentpipe import errors, gpus
    if seen in (None, gpus.NONE, gpus.ALL):
        return seen
    from agentpipe.report import gpu_reader
    cards = gpu_reader.ask(everything=True).get("gpus") or []
    missing = gpus.absent(seen.split(","), cards) if cards else []
    if missing:
        have = ", ".join(f"{card['index']} ({card['name']})" for card in cards)
        raise errors.Failure(f"--gpus {seen}: {', '.join(missing)} is not there; this machine has {have}",
                             errors.USAGE, remedy="nvidia-smi -L lists them")
    return seen


def serve(values, seen, server):
    """Take a worker's name and become the loop; the stages get everything else by their options and variables."""
    import itertools

    from agentpipe import cells, errors, gpus, processes
    from agentpipe.claim import supervisors, workers
    from agentpipe.settings import config
    from agentpipe.transport import api
    leaves = config.flag("agent.crash_on_exception", values["exit_on_error"], "CLEARML_AGENT_CRASH_ON_EXCEPTION")
    strict = "1" if leaves or values["exit_on_error"] else ""
    name = values["worker"] or workers.given_name()
    for_stages = for_pull(values)
    base = workers.host()
    if seen is not None:
        os.environ.update(gpus.variables(seen))
        base += {gpus.NONE: ":cpu", gpus.ALL: ""}.get(seen, f":gpu{seen}")
    if (values["jobs"] or 1) > 1 and not values["services"]:
        # GPUs are named once for all: the slots inherit the variables
        name = name or (base if seen else "")
        if name and any(processes.alive(one["parent"]) for one in supervisors.running([name]) if one["parent"]):
            raise errors.Failure(f"another process serves as {name}", errors.TRY_AGAIN,
                                 remedy="agent-supervisor --status")
        supervisors.become(LOOPS + "slots.sh", [name, str(values["jobs"]), strict, *for_stages])
    names = workers.numbered(base)
    if seen not in (None, gpus.NONE, gpus.ALL):
        names = itertools.chain([base], workers.numbered(base, 1))
    # a line of the lock's file
    serves = " ".join(cells.plain(word) for word in for_stages if word not in ("--", "--create-queue"))
    name = supervisors.serve(name, names, serves, workers.known_as(server or api.connect(patience=0)))
    stdio.say(f"agent-supervisor: {name} serves {serves}")
    files = workers.lock_path(name).removesuffix(".lock")
    if values["services"]:
        supervisors.become(LOOPS + "services.sh", [name, files, strict, str(values["jobs"] or 100), *for_stages])
    supervisors.become(LOOPS + "loop.sh", [name, files, strict, *for_stages])


def for_pull(values):
    """The options and queues that agent-pull gets, and every slot of --jobs."""
    hours = [f"--{name}={each}" for name in ("uptime", "downtime") for each in values[name]]
    return [*(["--fair"] if values["fair"] else []), *hours,
            *(["--create-queue"] if values["create_queue"] else []), "--", *values["queue"]]


def refuse_what_only_the_daemon_takes(words):
    """Failure that says what to do instead."""
    from agentpipe import errors
    for word in words:
        name = word.partition("=")[0]
        if name in OF_THE_DAEMON:
            code, instead = OF_THE_DAEMON[name]
            raise errors.Failure(f"no {word}: {instead}", code, remedy="agent-supervisor --help")


def main():
    """The entry point."""
    def work():
        from agentpipe import options as parser
        refuse_what_only_the_daemon_takes(sys.argv[1:])
        return supervise(parser.read("agent-supervisor", options(), sys.argv[1:], __doc__, EXAMPLES))

    command.plain("agent-supervisor", work)


if __name__ == "__main__":
    main()
