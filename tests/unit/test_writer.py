"""Changes of many clients in one commit: each stands or falls alone, and none is answered before it is on the disk."""

import os
import sqlite3
import threading
import time

import pytest

from agentpipe.errors import CANNOT_CREATE, ApiError, Failure
from agentpipe.server import writer as writer_module
from agentpipe.server.endpoints import call
from agentpipe.server.store import Store
from agentpipe.server.writer import SharedStore, Writer

ANN = {"user": "ann"}


@pytest.fixture
def store(tmp_path):
    return SharedStore(str(tmp_path / "agent.db"))


def create(store, name):
    return lambda: call(store, ANN, "tasks.create", {"name": name, "type": "training"})


def names(store):
    return [task["name"] for task in call(store, ANN, "tasks.get_all")["tasks"]]


def test_one_that_is_refused_undoes_only_itself(store):
    found = store.together([create(store, "one"), create(store, "x"), create(store, "two")], durable=True)
    assert isinstance(found[1], ApiError) and found[1].subcode == 800
    assert "id" in found[0] and "id" in found[2]
    assert names(store) == ["one", "two"]


def test_another_error_undoes_all_and_is_raised(store):
    def broken():
        raise sqlite3.OperationalError("disk I/O error")
    with pytest.raises(Exception, match="I/O"):
        store.together([create(store, "one"), broken], durable=True)
    assert names(store) == []


def busy(writer):
    """Keep the writer at work, until the event that comes back is set."""
    held, go = threading.Event(), threading.Event()

    def hold():
        held.set()
        go.wait(30)
    writer.submit(hold, True)
    held.wait(30)
    return go


def test_the_writer_then_does_them_one_by_one(store):
    writer = Writer(store)
    go = busy(writer)

    def broken():
        raise RuntimeError("a bug")
    futures = [writer.submit(change, True) for change in (create(store, "one"), broken, create(store, "two"))]
    go.set()
    assert "id" in futures[0].result(30) and "id" in futures[2].result(30)
    with pytest.raises(RuntimeError):
        futures[1].result(30)
    writer.close()
    assert names(store) == ["one", "two"]


def test_a_change_that_nobody_waits_for_any_more_is_left_out_and_the_writer_goes_on(store):
    writer = Writer(store)
    go = busy(writer)
    given_up = writer.submit(create(store, "given up"), True)
    assert given_up.cancel()
    go.set()
    assert "id" in writer.submit(create(store, "later"), True).result(30)
    writer.close()
    assert names(store) == ["later"]


def test_nobody_sees_a_change_of_a_group_before_the_commit_and_waiting_pulls_are_woken_after_it(store):
    task = call(store, ANN, "tasks.create", {"name": "task", "type": "training"})["id"]
    seen = []

    def look():
        reader = threading.Thread(target=lambda: seen.append((names(store), os.path.exists(store.wake_path))))
        reader.start()
        reader.join()
    def enqueue():
        call(store, ANN, "tasks.enqueue", {"task": task})
    store.together([create(store, "new"), enqueue, look], durable=True)
    assert seen == [(["task"], False)]
    assert names(store) == ["task", "new"] and os.path.exists(store.wake_path)


def test_many_threads_lose_nothing(store):
    writer = Writer(store)
    queue = call(store, ANN, "queues.get_default")["id"]
    for number in range(60):
        id = writer.submit(create(store, f"task {number}"), True).result(30)["id"]
        writer.submit(lambda id=id: call(store, ANN, "tasks.enqueue", {"task": id}), True)
    pulled = []

    def pull():
        while True:
            answer = writer.submit(lambda: call(store, ANN, "queues.get_next_task", {"queue": queue}), True).result(30)
            if not answer:
                return
            task = answer["entry"]["task"]
            writer.submit(lambda task=task: call(store, ANN, "tasks.started", {"task": task}), True).result(30)
            pulled.append(task)
    threads = [threading.Thread(target=pull) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    writer.close()
    assert len(set(pulled)) == len(pulled) == 60


def test_short_changes_overtake_long_ones_that_wait_and_all_are_done_at_the_end(store):
    writer, order, hold = Writer(store), [], threading.Event()
    futures = [writer.submit(lambda: hold.wait(30), False)]  # until all others wait
    for number in range(3):
        futures.append(writer.submit(lambda number=number: order.append(f"long {number}"), False, long=True))
        futures.append(writer.submit(lambda number=number: order.append(f"short {number}"), False))
    hold.set()
    writer.close()
    assert order == ["short 0", "short 1", "short 2", "long 0", "long 1", "long 2"]
    assert all(future.done() for future in futures)


def test_the_log_of_changes_is_brought_into_the_store_beside_the_writer(store):
    """The writer itself would do so only after many more: its clients would wait for the disk."""
    writer = Writer(store)
    for number in range(400):
        writer.submit(create(store, f"task {number}"), False).result(30)
    until = time.monotonic() + 20
    while os.path.getsize(store.path) < 100_000:
        assert time.monotonic() < until
        time.sleep(0.02)
    writer.close()
    assert len(names(store)) == 400


def test_a_store_that_cannot_be_opened_does_not_end_the_thread_that_does_that(store, monkeypatch):
    """As when the process has no file left to open for a moment."""
    tried, again = [], threading.Event()

    def connection(self):
        if threading.current_thread().name == "tidier":
            tried.append(1)
            if len(tried) == 1:
                raise Failure("unable to open database file", CANNOT_CREATE)
            again.set()
        return Store.connection(self)

    monkeypatch.setattr(writer_module, "TIDY_PAGES", 1)
    monkeypatch.setattr(SharedStore, "connection", connection)
    writer = Writer(store)
    until = time.monotonic() + 20
    while not again.is_set():
        assert time.monotonic() < until
        writer.submit(create(store, "train"), False).result(30)
    writer.close()
