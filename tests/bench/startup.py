"""How long a stage takes when there is no work, and with one manifest, as a whole process, against `python -c pass`."""

import tasks
from measure import interleaved, median, seconds

STAGES = ("prepare", "fetch", "patch", "env", "run")
THREE = "agent-pull default | agent-prepare | agent-run"
FIVE = "agent-pull default | agent-fetch | agent-patch | agent-env | agent-run"


def rows(bench):
    """Rows of start-up."""
    empty(bench)
    if bench.wants("one manifest"):
        filled(bench)


def empty(bench):
    """No input, no work."""
    tasks.queue()
    cases = [(f"agent-{stage} </dev/null", [f"agent-{stage}"], 1.5) for stage in STAGES]
    cases += [("agent-pull on an empty queue", ["agent-pull", "default"], None),
              ("the empty pipeline of three (dash)", ["dash", "-c", THREE], 12),
              ("the empty pipeline of five (dash)", ["dash", "-c", FIVE], 15)]
    for name, argv, target in cases:
        if bench.wants(name):
            base, found = interleaved(bench.times(40, 10), lambda: passed(bench), lambda argv=argv: seconds(argv))
            report(bench, name, base, found, target)


def filled(bench):
    """One pulled task with a git repository and a ready environment through each stage."""
    task = tasks.Repository(bench)
    line = tasks.piped(["agent-pull", "default"]) if task.enqueue() else b""
    for stage in ("prepare", "fetch", "patch", "env"):
        name = f"agent-{stage}, one manifest"
        made = tasks.piped([f"agent-{stage}"], line)
        if bench.wants(name):
            base, found = interleaved(bench.times(30, 8), lambda: passed(bench),
                                      lambda line=line, stage=stage: through(stage, line))
            report(bench, name, base, found, 8)
        if stage != "prepare":
            line = made
    name = "agent-run, one manifest, less the script's own time"
    tasks.piped(["agent-run"], line)
    if bench.wants(name):
        python = task.python
        base, bare, found = interleaved(bench.times(20, 5), lambda: passed(bench),
                                        lambda: seconds([python, task.script]), lambda: run_once(task))
        report(bench, name, base, [each - median(bare) for each in found], 8)


def through(stage, line):
    """This stage as a process of its own with one line on stdin."""
    return seconds([f"agent-{stage}"], stdin=None, input=line)


def run_once(task):
    """agent-run of a task that is ready."""
    task.enqueue()
    line = tasks.piped(["dash", "-c", "agent-pull default | agent-prepare"])
    return through("run", line)


def passed(bench):
    """The baseline."""
    return seconds([bench.python, "-c", "pass"])


def report(bench, name, base, found, target):
    """A row against the baseline."""
    bench.row(name, median(found), "s", median(base), median(found) / median(base), target)


