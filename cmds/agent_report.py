"""agent-report: send what a server lacks of a task's log and end, or events, or keep a worker registered."""

import os
import sys

from agentpipe import command, stdio

EXAMPLES = """
  agent-report --all
  agent-report ~/.local/state/agentpipe/tasks/1f3c9a….1
  agent-pull gpu | agent-prepare | agent-run | tee receipt.json; agent-report receipt.json
  echo '{"type":"training_stats_scalar","metric":"loss","variant":"val","iter":7,"value":0.1}' |
    agent-report events --task 1f3c9a…
  agent-report worker host:9 --queue gpu
"""
BATCH, BATCH_BYTES = 1000, 8 << 20  # what is sent at a time: events, and bytes of them


def options():
    from agentpipe.options import Argument, Flag, Option
    return [
        Argument("WHAT", "Directories of tasks, or receipts (- is standard input); or the word events; or the "
                         "words worker NAME.", many=True),
        Flag("--all", "Every task that this node has claimed and that nobody works on."),
        Flag("--where", "Print the directory of this node's state, where its tasks stand, and exit."),
        Option("--task", "TASK", "With events: the task of those that name none. The beginning of its id will do."),
        Option("--queue", "QUEUE", "With worker: a queue that it serves. May stand several times.",
               many=True, filled=True),
        Flag("--gone", "With worker: say that it has left, and exit."),
        Option("--timeout", "SECONDS", "How long to wait for a server that is away.", float, 60.0),
        Flag("--json", "Print what was done, one JSON object a task."),
    ]


def report(values):
    """Do what the words ask; the exit code."""
    from agentpipe import errors
    words = values["what"]
    if not values["timeout"] >= 0:
        raise errors.Failure("--timeout wants 0 or more seconds", errors.USAGE, remedy="agent-report --help")
    if values["where"]:
        from agentpipe import paths
        stdio.put(os.fsencode(paths.state() + "\n"))
        return 0
    if values["all"]:
        if words:
            raise errors.Failure("--all goes without other words", errors.USAGE, remedy="agent-report --all")
        from agentpipe.transport import api
        api.connect(patience=values["timeout"])  # a store that cannot be read is told, whatever is claimed
        return each(claimed(), values, quiet=True)
    if not words:
        raise errors.Failure("what is to be reported?", errors.USAGE,
                             remedy="agent-report --all, or agent-report DIR")
    if words == ["events"]:
        return send_events(values)
    if words[0] == "worker":
        if len(words) != 2 or not words[1].strip():
            raise errors.Failure("a worker needs one name", errors.USAGE,
                                 remedy="agent-report worker NAME --queue QUEUE")
        return forget_worker(words[1]) if values["gone"] else keep_worker(words[1], values)
    return each([directory for word in words for directory in named(word)], values)


def each(directories, values, quiet=False):
    """One directory after the other, later ones also when one fails."""
    from agentpipe import errors, failures
    codes = []
    for directory in directories:
        try:
            done = one(directory, values["timeout"])
            codes.append(0)
        except Exception as error:
            failure = failures.as_failure("agent-report", error)
            if failure.exit == errors.BUG and os.environ.get("AGENT_DEBUG"):
                raise
            if quiet and failure.exit == errors.TRY_AGAIN:
                continue
            stdio.say(f"agent-report: {failure}")
            codes.append(failure.exit)
            done = {"directory": directory, "acknowledged": False, "reason": failure.reason}
        if values["json"]:
            import json
            stdio.put(json.dumps(done).encode() + b"\n")
        elif os.isatty(2) and done["acknowledged"]:
            state = f"its end ({done['end']}) is recorded" if done["end"] else "its log is sent as far as it goes"
            stdio.say(f"agent-report: task {done['task']}: {state}")
    return errors.combined(codes)


def one(directory, timeout):
    """Ship what is left of one attempt, and its end if it has one: {directory, task, end, acknowledged}."""
    import contextlib

    from agentpipe import errors, held
    from agentpipe.claim import attempt, claims, holders
    from agentpipe.report import rest
    if not os.path.isdir(directory):
        raise errors.Failure(f"no directory {directory}", errors.NOT_FOUND, remedy="agent-report --all")
    # a claim has a lock before anything else, and a script may delete all but its end
    if not any(os.path.lexists(os.path.join(directory, name)) for name in ("lock", "outcome")):
        raise errors.Failure(f"{directory} is no directory of a task", errors.NOT_FOUND, remedy="agent-report --all")
    found = rest.known(directory)
    if found is None:
        return {"directory": directory, "task": None, "end": attempt.outcome(directory), "acknowledged": True}
    task, pull = found["task"]["id"], found["pull"]
    busy = errors.Failure(f"task {task} is being worked on, and reported by whoever does", errors.TRY_AGAIN)
    lock = claims.lock(directory, 0)
    if lock is None:
        raise busy
    claim = claims.Claim(directory, pull["claim"], lock)
    try:
        # between two stages the lock is free: the next one must find it so
        if attempt.outcome(directory) is None and holders.is_held(directory):
            raise busy
        with contextlib.closing(held.connect(pull)) as api:
            end = attempt.outcome(directory)
            if end:
                record(api, directory, timeout, task)
                claim.end()
            else:
                rest.ship(api.once(timeout), directory)  # agent-pull decides what becomes of it
        return {"directory": directory, "task": task, "end": end, "acknowledged": True}
    finally:
        claim.release()


def record(api, directory, timeout, task):
    """The end of an attempt."""
    from agentpipe import errors, failures
    from agentpipe.report import finish
    try:
        finish.finish(api, directory, timeout)
    except (errors.Failure, errors.ApiError) as error:
        failure = failures.as_failure("agent-report", error)
        # 75 is for a task that somebody works on
        code = errors.UNAVAILABLE if failure.exit == errors.TRY_AGAIN else failure.exit
        raise errors.Failure(f"the end of task {task} is not recorded yet: {failure.reason}", code,
                             remedy=failure.remedy or "agent-report --all") from None


def claimed():
    """The directories of all claims of this node."""
    from agentpipe.claim import claims
    found = []
    for token in sorted(os.listdir(claims.active())):
        if os.path.islink(claims.active(token)):
            found.append(os.path.realpath(claims.active(token)))
    return [directory for directory in found if os.path.isdir(directory)]


def named(word):
    """The directories that a word of the command line means: itself, or those of the receipts in it."""
    from agentpipe import manifest
    if word != "-" and (os.path.isdir(word) or not os.path.lexists(word)):
        return [word]
    from agentpipe.plain_lines import Lines
    found = []
    lines = Lines("a receipt is one JSON object a line", word)
    try:
        for line in lines:
            found += of_receipt(manifest.read(line))
    finally:
        lines.close()
    return found


def of_receipt(receipt):
    """The directory of the attempt that a receipt tells of, in a list; [] where nobody is to be told."""
    from agentpipe import errors, paths
    from agentpipe.claim import attempt, claims
    pull = receipt.get("origin") or receipt.get("pull")
    if not pull or "id" not in receipt.get("task", {}):
        return []  # by hand, or no task at all
    task = receipt["task"]["id"]
    directories = [paths.state("tasks", f"{task}.{number}") for number in sorted(attempt.numbers(task))]
    ours = [path for path in directories if (claims.read(path) or {}).get("token") == pull["claim"]]
    if not ours:
        raise errors.Failure(f"this node has no directory of task {task} for that receipt", errors.NOT_FOUND)
    return ours[-1:]


def send_events(values):
    """Events from stdin, NDJSON, in batches as they come."""
    from agentpipe import errors, events, find
    from agentpipe.plain_lines import Lines
    from agentpipe.transport import api
    server = api.connect()
    task = find.whole_id(server, values["task"]) if values["task"] else None
    lines = Lines("an event is one JSON object a line")
    sent, batch, size, is_more = 0, [], 0, True
    while is_more:
        try:
            line = next(lines, None)
            is_more = line is not None
            if line is not None:
                batch.append(events.checked(line, lines.number, task))
                size += len(line)
        except errors.Failure:
            events.send(server, batch, lines.number - 1)
            raise
        if not is_more or len(batch) >= BATCH or size >= BATCH_BYTES or lines.is_awaited():
            sent += events.send(server, batch, lines.number)
            batch, size = [], 0
    if values["json"]:
        stdio.put(b'{"events": %d}\n' % sent)
    return 0


def keep_worker(name, values):
    """A worker that is registered until a signal comes."""
    import time

    from agentpipe import errors
    from agentpipe.pull import queues
    from agentpipe.report.reporter import Reporter
    from agentpipe.signals import SIGNALS
    from agentpipe.transport import api
    server = api.connect(name)
    reporter = Reporter(server, name, queues.Queues(server, values["queue"], create=None).ids)
    reporter.start()
    try:
        while True:
            time.sleep(1)  # signal.pause() would sleep through what comes just before it
    except errors.Interrupted:
        return 0
    finally:
        with SIGNALS.closed():
            reporter.stop(unregister=True)


def forget_worker(name):
    """A worker that nobody serves as any more; it would vanish by itself after ten minutes."""
    from agentpipe.transport import api
    api.connect(name, 5).call("workers.unregister", {"worker": name})
    return 0


def main():
    """The entry point."""
    def work():
        from agentpipe import options as parser
        return report(parser.read("agent-report", options(), sys.argv[1:], __doc__, EXAMPLES))

    command.plain("agent-report", work)


if __name__ == "__main__":
    main()
