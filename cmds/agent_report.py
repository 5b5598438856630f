"""agent-report: send what a server lacks of a task's log and end, or events, or keep a worker registered."""

import os
import sys

from agentpipe import command

EXAMPLES = """
  agent-report --all
  agent-report ~/.local/state/agentpipe/tasks/1f3c9a….1
  agent-pull gpu | agent-prepare | agent-run | tee receipt.json; agent-report receipt.json
  echo '{"type":"training_stats_scalar","metric":"loss","variant":"val","iter":7,"value":0.1}' |
    agent-report events --task 1f3c9a…
  agent-report worker host:9 --queue gpu
"""
BATCH = 1000  # events a request


def options():
    from agentpipe.options import Argument, Flag, Option
    return [
        Argument("WHAT", "Directories of tasks, or receipts (- is standard input); or the word events; or the "
                         "words worker NAME.", many=True),
        Flag("--all", "Every task that this node has claimed and that nobody works on."),
        Flag("--where", "Print the directory of this node's state, where its tasks stand, and exit."),
        Option("--task", "TASK", "With events: the task of those that name none."),
        Option("--queue", "QUEUE", "With worker: a queue that it serves. May stand several times.",
               many=True),
        Option("--timeout", "SECONDS", "How long to wait for a server that is away.", float, 60.0),
        Flag("--json", "Print what was done, one JSON object a task."),
    ]


def report(values):
    """Do what the words ask; the exit code."""
    from agentpipe import errors
    words = values["what"]
    if values["where"]:
        from agentpipe import paths
        command.put(os.fsencode(paths.state() + "\n"))
        return 0
    if values["all"]:
        if words:
            raise errors.Failure("--all goes without other words", errors.USAGE, remedy="agent-report --all")
        return each(claimed(), values, quiet=True)
    if not words:
        raise errors.Failure("what is to be reported?", errors.USAGE,
                             remedy="agent-report --all, or agent-report DIR")
    if words == ["events"]:
        return send_events(values)
    if words[0] == "worker":
        if len(words) != 2:
            raise errors.Failure("a worker needs one name", errors.USAGE,
                                 remedy="agent-report worker NAME --queue QUEUE")
        return keep_worker(words[1], values)
    return each([directory for word in words for directory in named(word)], values)


def told(values):
    """report(), its failure as one line on stderr only: no stage reads our stdout."""
    from agentpipe import errors
    try:
        return report(values)
    except errors.Failure as failure:
        return command.tell("agent-report", failure, line=False)


def each(directories, values, quiet=False):
    """One directory after the other, later ones also when one fails."""
    from agentpipe import errors
    codes = []
    for directory in directories:
        try:
            done = one(directory, values["timeout"])
            codes.append(0)
        except errors.Failure as failure:
            if quiet and failure.exit == errors.TRY_AGAIN:
                continue
            command.say(f"agent-report: {failure.reason}" + (f" ({failure.remedy})" if failure.remedy else ""))
            codes.append(failure.exit)
            done = {"directory": directory, "acknowledged": False, "reason": failure.reason}
        if values["json"]:
            import json
            command.put(json.dumps(done).encode() + b"\n")
        elif os.isatty(2) and done["acknowledged"]:
            state = f"its end ({done['end']}) is recorded" if done["end"] else "its log is sent as far as it goes"
            command.say(f"agent-report: task {done['task']}: {state}")
    return command.combined(codes)


def one(directory, timeout):
    """Ship what is left of one attempt, and its end if it has one: {directory, task, end, acknowledged}."""
    from agentpipe import attempt, claims, errors, finish, held
    if not os.path.isdir(directory):
        raise errors.Failure(f"no directory {directory}", errors.NOT_FOUND, remedy="agent-report --all")
    found = finish.known(directory)
    if found is None:
        return {"directory": directory, "task": None, "end": attempt.outcome(directory), "acknowledged": True}
    task, pull = found["task"]["id"], found["pull"]
    lock = claims.lock(directory, 0)
    if lock is None:
        raise errors.Failure(f"task {task} is being worked on, and reported by whoever does",
                             errors.TRY_AGAIN)
    claim = claims.Claim(directory, pull["claim"], lock)
    try:
        api = held.connect(pull)
        end = attempt.outcome(directory)
        if end:
            if not finish.finish(api, directory, timeout):
                raise errors.Failure(f"task {task}: the server is away, its end is not recorded yet",
                                     errors.UNAVAILABLE, remedy="agent-report --all")
            claim.end()
        else:
            ship(api, directory, found)
        return {"directory": directory, "task": task, "end": end, "acknowledged": True}
    finally:
        claim.release()


def ship(api, directory, found):
    """The log of an attempt that has not come to its end (agent-pull decides what becomes of it)."""
    from agentpipe import attempt, finish, shipping
    try:
        finish.ours(api, found)
    except finish.NotOurs:
        return
    shipper = shipping.Shipper(api, found["task"]["id"], found["pull"]["claim"], directory,
                               found["pull"].get("worker") or "")
    try:
        shipper.ship(final=attempt.exit_status(directory) is not None)
    finally:
        shipper.close()


def claimed():
    """The directories of all claims of this node."""
    from agentpipe import claims
    found = []
    for token in sorted(os.listdir(claims.active())):
        if os.path.islink(claims.active(token)):
            found.append(os.path.realpath(claims.active(token)))
    return [directory for directory in found if os.path.isdir(directory)]


def named(word):
    """The directories that a word of the command line means: itself, or those of the receipts in it."""
    from agentpipe import attempt, claims, errors, manifest, paths
    if word != "-" and not os.path.isfile(word):
        return [word]
    found = []
    for line in text_of(word).split(b"\n"):
        if not line.strip():
            continue
        receipt = manifest.read(line)
        pull = receipt.get("origin") or receipt.get("pull")
        if not pull or "id" not in receipt.get("task", {}):
            continue  # by hand, or no task at all: nobody is to be told
        task = receipt["task"]["id"]
        directories = [paths.state("tasks", f"{task}.{number}") for number in sorted(attempt.numbers(task))]
        ours = [path for path in directories if (claims.read(path) or {}).get("token") == pull["claim"]]
        if not ours:
            raise errors.Failure(f"this node has no directory of task {task} for that receipt",
                                 errors.NOT_FOUND)
        found += ours[-1:]
    return found


def text_of(word):
    """The bytes of a file; - is standard input."""
    if word == "-":
        return sys.stdin.buffer.read()
    with open(word, "rb") as file:
        return file.read()


def send_events(values):
    """Events from stdin, NDJSON, in batches as they come."""
    import select

    from agentpipe import api, errors, events
    server = api.connect()
    sent, batch, rest, number = 0, [], b"", 0
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while True:
        chunk = os.read(0, 1 << 16)
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop() if chunk else b""
        for line in lines:
            number += 1
            if line.strip():
                try:
                    batch.append(events.checked(line, number, values["task"]))
                except errors.Failure:
                    events.send(server, batch, number - 1)
                    raise
        if batch and (len(batch) >= BATCH or not chunk or not poll.poll(0)):
            sent += events.send(server, batch, number)
            batch = []
        if not chunk:
            break
    if values["json"]:
        command.put(b'{"events": %d}\n' % sent)
    return 0


def keep_worker(name, values):
    """A worker that is registered until a signal comes."""
    import signal

    from agentpipe import api, errors, queues
    from agentpipe.report import Reporter
    from agentpipe.signals import SIGNALS
    server = api.connect(name)
    reporter = Reporter(server, name, queues.Queues(server, values["queue"]).ids)
    reporter.start()
    try:
        while True:
            signal.pause()
    except errors.Interrupted:
        return 0
    finally:
        with SIGNALS.closed():
            reporter.stop(unregister=True)


def main():
    """The entry point."""
    def work():
        from agentpipe import options as parser
        from agentpipe.signals import SIGNALS
        values = parser.read("agent-report", options(), sys.argv[1:], __doc__, EXAMPLES)
        with SIGNALS.open():  # whatever it does can be broken off and done again
            return told(values)

    command.plain("agent-report", work)


if __name__ == "__main__":
    main()
