"""A task in a container: to its script's first line, against `docker run IMAGE python script`; what many cost at once.

Wants a Docker Engine and the image of tests/services/docker-base-image.sh; says so when they are not there.
"""

import os
import subprocess
import sys
import time

import footprint
import tasks
from measure import median

IMAGE = "agentpipe-test/python:bookworm"
WAIT = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"


def rows(bench):
    """Warm starts, then containers side by side."""
    if not bench.wants("container"):
        return
    if subprocess.run(["docker", "image", "inspect", IMAGE], stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL).returncode:
        print(f"container: not measured, no engine here has {IMAGE} (tests/services/docker-base-image.sh)",
              file=sys.stderr)
        return
    bench.fresh("container")
    warm(bench)
    many(bench)


def warm(bench):
    """Everything in the caches; the image has what the task requires."""
    script = os.path.join(bench.home, "script.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(tasks.SCRIPT)
    pipeline(task(tasks.SCRIPT))
    bare, found = [], []
    for _ in range(bench.times(20, 5)):
        start = time.monotonic()
        said = tasks.piped(["docker", "run", "--rm", "-v", f"{script}:/script.py:ro", IMAGE, "python3", "/script.py"])
        bare.append(int(said.split()[0]) / 1e9 - start)
        found.append(pipeline(task(tasks.SCRIPT)))
    over = median(found) - median(bare)
    bench.row("container: agent-prepare's start → first line, warm", median(found), "s", median(bare),
              median(found) / median(bare))
    bench.row("container: agent-prepare's start → first line: s over docker run", over, "s", target=1.5)


def many(bench):
    """Long-lived containers side by side: our memory for each, the client of its engine included."""
    number = bench.times(20, 5)
    started = []
    try:
        for each in range(number):
            with open(os.path.join(bench.home, f"line.{each}"), "w+b") as line:
                line.write(tasks.piped(["agent-prepare"], tasks.piped(["agent-pull", "--id", task(WAIT)])))
                line.seek(0)
                started.append(subprocess.Popen(["agent-run"], stdin=line, stdout=subprocess.DEVNULL,
                                                start_new_session=True))
        time.sleep(5)
        ours = {pid for process in started for pid in footprint.tree(process.pid)}
        total = sum(footprint.pss(pid) for pid in ours)
        bench.row(f"container: PSS of ours for each of {number} running tasks", total / 1e6 / number, "MB", target=30)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def task(text):
    """A task in the image, which has all that it requires; its id."""
    return tasks.add({"container": {"image": IMAGE}, "script": {
        "entry_point": "main.py", "diff": text, "requirements": {"pip": "wheel\n"}}})


def pipeline(id):
    """Seconds from agent-prepare's start to the first line of this task."""
    line = tasks.piped(["agent-pull", "--id", id])
    start = time.monotonic()
    done = subprocess.run(["dash", "-c", "agent-prepare | agent-run >/dev/null"], input=line)
    if done.returncode:
        raise SystemExit(f"bench: task {id} ended with {done.returncode}")
    return tasks.first_line(id) - start
