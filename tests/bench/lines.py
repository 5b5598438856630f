"""A script that prints a million lines: under agent-run, and under `python -u` into a file."""

import os
import subprocess
import time

import tasks
from measure import median, seconds

PRINTS = "for number in range({count}):\n    print('line', number, 'of many, as a training loop prints them')\n"


def rows(bench):
    """The script's own time, and from its end until the store has everything."""
    count = bench.times(1_000_000, 200_000)
    if not bench.wants(f"{count:,} lines"):
        return
    bench.fresh("lines")
    repository = tasks.Repository(bench, PRINTS.format(count=count), requirements="")
    plain, ours, after = [], [], []
    for _ in range(bench.times(5, 3)):
        task = repository.enqueue()
        line = tasks.piped(["dash", "-c", "agent-pull default | agent-prepare"])
        with open(os.path.join(bench.home, "plain.log"), "wb") as file:
            plain.append(seconds([bench.python, "-u", repository.script], stdout=file))
        subprocess.run(["agent-run"], input=line, stdout=subprocess.DEVNULL, check=True)
        over = time.time()
        directory, started, ended = times(task)
        ours.append(ended - started)
        after.append(over - ended)
        check(task, directory)
    bench.row(f"{count:,} lines, script's start to its end", median(ours), "s", median(plain),
              median(ours) / median(plain), 0.7, note="against python -u into a file")
    bench.row("lines: the script's end → all acknowledged, agent-run over", median(after), "s", target=1.0)


def times(task):
    """(directory, when the script began, when its status was written), by the file system's clock."""
    home = os.path.join(os.environ["AGENT_HOME"], "state", "tasks")
    directory = next(os.path.join(home, name) for name in os.listdir(home) if name.startswith(task + "."))
    ended = next(os.stat(os.path.join(directory, name)).st_ctime
                 for name in os.listdir(directory) if name.startswith("exit."))
    return directory, os.lstat(os.path.join(directory, "pid")).st_mtime, ended


def check(task, directory):
    """What the store has must be what the script printed, in order."""
    with open(os.path.join(directory, "log"), encoding="utf-8") as file:
        wanted = file.read()
    found = "".join(tasks.printed(task))
    assert found == wanted, f"the store's log differs from the script's: {len(found)} and {len(wanted)} characters"
