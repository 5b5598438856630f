"""agent-pull: recover what this node left behind, then take the next task of a queue and print its manifest."""

import os

from agentpipe import command, stdio

EXAMPLES = """
  agent-pull gpu | agent-prepare | agent-run
  agent-pull --wait urgent default > task.json
  agent-pull --id 1f3c9a > task.json
"""


def options():
    """The command's own options."""
    from agentpipe.options import Argument, Flag, Option
    return [
        Argument("QUEUE", "Queues by name or id, in falling priority. Default: the server's default queue.", many=True,
                 filled=True),
        Flag("--wait", "Stay until there is a task; the worker is registered meanwhile."),
        Option("--id", "TASK", "Take this task, queued or not; no other is touched. The beginning of its id will do.",
               filled=True),
        Flag("--clone", "With --id: take a copy of it, \"Clone of NAME\", which is made now."),
        Flag("--require-queue", "With --id: fail (75) unless the task is still in its queue."),
        Flag("--fair", "Take turns between the queues instead of always asking the first one first."),
        Option("--uptime", "HOURS DAYS", "Take tasks only then, by local time: \"17-20 TUE\", \"22-6 MON-FRI\". May "
                                         "stand several times. Default: agent.uptime.", many=True),
        Option("--downtime", "HOURS DAYS", "Take no task in these hours. Default: agent.downtime.", many=True),
        Option("--need-disk", "SIZE", "Take no task while less of this node's disk is free (50G, 800M). Default: "
                                      "$AGENT_NEED_DISK."),
        Flag("--create-queue", "Create queues that are missing."),
        Flag("--no-recover", "Do not look at what this node left behind."),
        Option("--on-lost", "POLICY", "A task whose process is gone without a status: `fail` it, or `requeue` it. "
                                      "Default: $AGENT_ON_LOST, or fail."),
        Option("--worker", "NAME", "The worker's name. Default: HOST:N, the first N that is free."),
        Flag("--services", "Give the task a worker of its own, NAME:service:TASK, as ClearML's services mode does."),
        Option("--owner", "PID", "The process that has the task until a stage reads it. Default: whoever has the "
                                 "pipe open, or the parent.", int),
        Flag("--verbose", "Say what is recovered and asked, also when standard error is no terminal.", "-v"),
        Flag("--quiet", "Show nothing but errors.", "-q"),
    ]


def pull(values):
    """Print one manifest, or nothing when there is no work; the exit code."""
    from agentpipe.claim import claims, homes, retention, workers
    from agentpipe.pull import schedule
    from agentpipe.settings import checks, config
    from agentpipe.signals import SIGNALS
    from agentpipe.transport import api
    config.apply()
    checks.check_values()
    checks.check_user(ahead=True)
    check_options(values)
    ends_with = values["owner"]
    if values["services"]:  # the owner has other tasks at work: it ends this wait, and holds nothing
        values = {**values, "owner": None}
    hours = schedule.of(values["uptime"], values["downtime"])
    server = api.connect()
    if values["id"]:
        from agentpipe import find
        values = {**values, "id": find.whole_id(server, values["id"])}
    if not values["no_recover"] and claims.any_active():
        done = recovered(server, values)
        if done is not None:
            return done
    with SIGNALS.open():  # large trees take their time
        retention.prune()
    homes.keep()
    worker = workers.Worker(server, values["worker"])
    server.worker = worker.name
    if values["id"]:
        got = named(server, worker.name, values)
    else:
        got = next_or_anew(server, worker.name, values, hours, ends_with)
    if not got:
        return 0
    claim, line = got
    return hand(server, claim, line, values)


def check_options(values):
    """Values that cannot be meant: Failure 64."""
    from agentpipe import errors
    from agentpipe.settings import checks
    checks.lost_policy(values["on_lost"])
    if values["clone"] and (not values["id"] or values["require_queue"]):
        raise errors.Failure("--clone goes with --id, and a copy is in no queue", errors.USAGE,
                             remedy="agent-pull --help")
    if values["owner"] is not None and values["owner"] < 1:
        raise errors.Failure("--owner wants the number of a process", errors.USAGE, remedy="agent-pull --help")


def told(values):
    """What gets a line for people: stdio.say() or None."""
    if values["quiet"] or not (values["verbose"] or os.isatty(2)):
        return None
    return lambda text: stdio.say(f"agent-pull: {text}")


def recovered(server, values):
    """What this node left behind is looked after; the exit code when that was all there is to do, else None."""
    from agentpipe.pull import recovery
    ran = values["id"] and status_of(server, values["id"]) == "in_progress"
    running = recovery.recover(server, values["owner"], values["id"], told(values), values["on_lost"])
    if running:
        return hand_running(server, running, values)
    if ran and (now := status_of(server, values["id"])) not in ("queued", "in_progress"):
        # it ran unwatched: it is not started a second time
        stdio.say(f"agent-pull: task {values['id']} has ended: {now}")
        return 0
    return None


def named(server, worker, values):
    """The task of --id, or a copy of it, as (claim, line); None when this node may not work."""
    from agentpipe.claim import ranks
    from agentpipe.pull import queues
    allowed = gate(values)
    if allowed and not allowed():
        return None
    task = queues.cloned(server, values["id"]) if values["clone"] else values["id"]
    if ranks.rank() and not values["require_queue"]:
        return queues.join(server, worker, task)
    return queues.take(server, worker, task, values["require_queue"])


def next_or_anew(server, worker, values, hours, ends_with):
    """next_one(); or this process begins anew as it was called, and so with recovery."""
    from agentpipe import errors
    from agentpipe.pull import waiting
    from agentpipe.signals import SIGNALS
    try:
        return next_one(server, worker, values, hours, ends_with)
    except waiting.BeginAnew as anew:
        os.environ[waiting.LOOK_BEHIND] = str(anew.again_s)
    try:
        SIGNALS.become_ourselves()
    except BaseException:  # told to stop meanwhile, or there is no such Python any more
        try:
            server.once().call("workers.unregister", {"worker": worker})
        except (errors.ApiError, errors.Failure):
            pass  # it vanishes by itself
        raise


def next_one(server, worker, values, hours, ends_with):
    """The next task of the queues, as (claim, line); None when there is none. A wait ends with that process."""
    from agentpipe.pull import queues
    wanted = queues.Queues(server, values["queue"], values["create_queue"], values["fair"], hours, worker)
    say = told(values)
    if say and values["wait"]:
        say(f"worker {worker} waits for a task in {', '.join(values['queue'] or ['the default queue'])}")
    return queues.next_task(server, worker, wanted, values["wait"], gate(values), ends_with,
                            values["services"], not values["no_recover"])


def gate(values):
    """What has to hold before this node takes a task, as a function; None when nothing has to."""
    from agentpipe import hooks
    from agentpipe.pull import room, waiting
    # a supervisor has said it when it started, and so has the one that begins anew
    if values["owner"] is None and not values["quiet"] and waiting.LOOK_BEHIND not in os.environ:
        from agentpipe import hook_files
        for each in hook_files.urgent():
            stdio.say(f"agent-pull: warning: {each}")
    return room.gate(values["need_disk"], may_work if hooks.find("pre-pull") else None,
                     lambda text: stdio.say(f"agent-pull: {text}"))


def status_of(server, task):
    """A task's status; None of one that is not there."""
    found = server.call("tasks.get_all", {"id": [task], "only_fields": ["status"], "search_hidden": True})["tasks"]
    return found[0]["status"] if found else None


def may_work():
    """Whether the operator's pre-pull hooks let this node take work now; one that fails is said."""
    from agentpipe import errors, failures, hooks
    from agentpipe.signals import SIGNALS
    try:
        with SIGNALS.open():
            hooks.run("pre-pull", {"manifest": 1, "task": {}})
        return True
    except errors.Failure as failure:
        failures.tell("agent-pull", errors.Failure(failure.reason), line=False)
        return False


def hand(server, claim, line, values):
    """Hooks, then the line goes out and the claim with it."""
    from agentpipe import cells, errors, failures, held, manifest, stages
    from agentpipe.signals import SIGNALS
    if values["services"]:
        claim.worker += f":service:{line['task']['id']}"
        line = {**line, "pull": {**line["pull"], "worker": claim.worker}}
    line = readable(line)
    task = held.Held(line, "pull", values, server, claim)
    queue = line["pull"]["queue_name"] or line["pull"]["queue"] or "no queue"
    task.job.say(f"task {task.id} pulled from {cells.plain(queue)} by worker {cells.plain(claim.worker)}")
    try:
        with SIGNALS.open():
            if "failed" not in line:
                stages.hook(task, "post-pull")
    except errors.Interrupted:
        task.give_back("told to stop")
        raise
    except errors.Failure as failure:
        task.use(manifest.failure(failure, "pull", line))
        failures.tell("agent-pull", failure, line=False)
    task.hand_on(values["owner"])
    return task.manifest["failed"]["exit"] if "failed" in task.manifest else 0


def readable(line):
    """The line; of a task that is no manifest (a server may hold anything) one that fails, with nothing but its id."""
    from agentpipe import errors, manifest
    try:
        manifest.read(manifest.write(line))
        return line
    except (errors.Failure, RecursionError) as error:
        why = error.reason if isinstance(error, errors.Failure) else "nested too deeply"
    stdio.say(f"agent-pull: task {line['task']['id']}: {why}")
    failure = errors.Failure(f"the task as its server has it is {why}", errors.BAD_DATA,
                             remedy="make it anew: agent-task enqueue")
    return manifest.failure(failure, "pull", {**line, "task": {"id": line["task"]["id"]}})


def hand_running(server, claim, values):
    """A script of ours runs unwatched: print its stored manifest, so that agent-run watches it again."""
    from agentpipe import errors, held
    from agentpipe.claim import attempt, ranks
    line = attempt.read_manifest(claim.directory)
    if line is None:
        raise errors.Failure(f"{claim.directory}/manifest.json cannot be read, but its script runs", errors.BAD_DATA)
    claim.held_by("pull")
    held.Held(ranks.handed_on(line), "pull", values, server, claim).hand_on(values["owner"])
    return 0


def main():
    """The entry point."""
    import sys

    def work():
        from agentpipe import options as parser
        return pull(parser.read("agent-pull", options(), sys.argv[1:], __doc__, EXAMPLES))

    command.source("agent-pull", work)


if __name__ == "__main__":
    main()
