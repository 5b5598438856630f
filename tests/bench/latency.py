"""From a task in the queue to its script's first line, against a bare clone and run in the same environment."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

import tasks
from measure import median, percentile

PIPELINE = "agent-pull default | agent-prepare | agent-run >/dev/null"


def rows(bench):
    """Cold, warm, and under the waiting supervisor."""
    if not bench.wants("first line"):
        return
    bench.fresh("latency")
    repository = tasks.Repository(bench)
    repository.enqueue()
    repository.pipeline()
    cold(bench, repository)
    warm(bench, repository)
    supervised(bench, repository)


def cold(bench, repository):
    """With caches that are empty but for uv's downloads."""
    cache = os.path.join(os.environ["AGENT_HOME"], "cache")
    bare, found = [], []
    for _ in range(bench.times(7, 3)):
        bare.append(bare_run(bench, repository))
        for folder in ("envs", "git"):
            shutil.rmtree(os.path.join(cache, folder), ignore_errors=True)
        found.append(pipeline_run(repository))
    report(bench, "enqueue → first line, cold", bare, found, None)


def warm(bench, repository):
    """With everything in the caches."""
    bare, found, started = [], [], []
    for _ in range(bench.times(60, 12)):
        bare.append(bare_run(bench, repository))
        before = time.monotonic()
        task = repository.enqueue()
        start = time.monotonic()
        subprocess.run(["dash", "-c", PIPELINE], check=True, stdin=subprocess.DEVNULL)
        first = tasks.first_line(task)
        found.append(first - before)
        started.append(first - start)
    report(bench, "pipeline's start → first line, warm", bare, started, 0.2)
    report(bench, "enqueue → first line, warm", bare, found, None)


def supervised(bench, repository):
    """The supervisor waits when the task is enqueued."""
    bare, found = [], []
    supervisor = subprocess.Popen(["agent-supervisor", "default"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  start_new_session=True)
    try:
        wait_until_idle()
        for _ in range(bench.times(40, 8)):
            bare.append(bare_run(bench, repository))
            start = time.monotonic()
            task = repository.enqueue()
            wait_for_end(task)
            found.append(tasks.first_line(task) - start)
            wait_until_idle()
    finally:
        os.killpg(supervisor.pid, signal.SIGTERM)
        supervisor.wait()
    report(bench, "enqueue → first line, under the waiting supervisor", bare, found, 0.5)


def bare_run(bench, repository):
    """Clone, check out, run: seconds to the script's first line."""
    into = tempfile.mkdtemp(dir=bench.home)
    start = time.monotonic()
    subprocess.run(["sh", "-c", repository.bare(into)], check=True)
    with open(os.path.join(into, "log"), "rb") as file:
        return int(file.readline()) / 1e9 - start


def pipeline_run(repository):
    """Enqueue, and run the pipeline: seconds to the script's first line."""
    start = time.monotonic()
    task = repository.enqueue()
    subprocess.run(["dash", "-c", PIPELINE], check=True, stdin=subprocess.DEVNULL)
    return tasks.first_line(task) - start


def wait_for_end(task):
    """Until the store shows the task's end; 60 s at most."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if tasks.api().call("tasks.get_by_id", {"task": task})["task"]["status"] in ("completed", "failed"):
            return
        time.sleep(0.02)
    raise SystemExit(f"bench: task {task} did not end")


def wait_until_idle():
    """Until a pull waits in the queue (its intent lies in active/), and has settled."""
    active = os.path.join(os.environ["AGENT_HOME"], "state", "active")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            names = os.listdir(active)
        except FileNotFoundError:
            names = []
        if names and not any(os.path.islink(os.path.join(active, name)) for name in names):
            time.sleep(0.3)
            return
        time.sleep(0.02)
    raise SystemExit("bench: no pull waits")


def report(bench, name, bare, found, target):
    """Rows of the median, and of p99; what counts is the time over the bare run's."""
    over = median(found) - median(bare)
    bench.row(f"{name}, p50", median(found), "s", median(bare), median(found) / median(bare))
    bench.row(f"{name}, p99", percentile(found, 99), "s", percentile(bare, 99),
              percentile(found, 99) / percentile(bare, 99))
    bench.row(f"{name}: s over the bare run", over, "s", target=target)
