"""Pulls per second, in process, every commit on disk, from long queues."""

import multiprocessing
import os
import time

import tasks


def rows(bench):
    """10 000 and 100 000 queued, one and four pullers, the endpoint alone and the whole pull."""
    if not bench.wants("pulls a second"):
        return
    for queued in (10_000, 100_000) if not bench.quick else (2_000, 20_000):
        bench.fresh(f"pulls{queued}")
        fill(queued)
        for pullers in (1, 4):
            for work, name in ((raw, "get_next_task"), (whole, "whole pull: intent, directory, claim")):
                count = bench.times(2000, 400) // (1 if work is raw else 4)
                rate, got = rate_of(work, pullers, count // pullers)
                assert len(set(got)) == len(got) == count // pullers * pullers, "a task was pulled twice, or none came"
                bench.row(f"pulls a second, {queued:,} queued, {pullers} at once: {name}", rate, "/s",
                          target=1000 if work is raw else None, at_least=True)


def fill(count):
    """Enqueue `count` tasks; this connection may lose them with the power, the pullers' own may not."""
    store = tasks.api()
    store.store.connection().execute("PRAGMA synchronous=OFF")
    for _ in range(count):
        tasks.add({"script": {"entry_point": "train.py", "binary": "python3"}})
    # what the filling left to be written is not the pullers' to pay
    store.store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()


def rate_of(work, pullers, count):
    """(pulls a second by `pullers` processes that pull `count` each, the tasks)."""
    fork = multiprocessing.get_context("spawn")
    ready, go = fork.Semaphore(0), fork.Event()
    answers = fork.Queue()
    started = [fork.Process(target=puller, args=(work, count, ready, go, answers)) for _ in range(pullers)]
    for each in started:
        each.start()
    for _ in started:
        ready.acquire()
    begin = time.perf_counter()
    go.set()
    found = [answers.get() for _ in started]
    took = max(end for end, _ in found) - begin
    for each in started:
        each.join()
    return pullers * count / took, [task for _, got in found for task in got]


def puller(work, count, ready, go, answers):
    """One puller's process."""
    store = tasks.api()
    from agentpipe.pull import queues
    queue = queues.Queues(store, ["default"])
    ready.release()
    go.wait()
    got = [work(store, queue) for _ in range(count)]
    answers.put((time.perf_counter(), got))


def raw(store, queue):
    """The endpoint alone, with a claim."""
    return store.call("queues.get_next_task", {"queue": queue.ids[0], "claim": os.urandom(16).hex()})["entry"]["task"]


def whole(store, queue):
    """As agent-pull does it; the task is let go at once."""
    from agentpipe.pull import queues
    claim, line = queues.next_task(store, "bench", queue, False)
    claim.end()
    claim.release()
    return line["task"]["id"]
