"""A pull that waits: over every transport it sees work soon, outlives an outage, and ends with its owner."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from agentpipe import errors, paths, signals
from agentpipe.claim import claims, intents
from agentpipe.pull import queues, waiting
from agentpipe.report.reporter import Reporter
from agentpipe.server import endpoints
from agentpipe.transport import api, http_api


@pytest.fixture
def client(transport, monkeypatch):
    monkeypatch.setattr(http_api, "POLL_S", 0.2)
    monkeypatch.setattr(http_api, "LOOK_S", 0.05)
    monkeypatch.setattr(waiting, "OUTAGE", (0.05, 0.2))
    found = api.connect("tester:0")
    found.patience = 0
    return found


def enqueue(client, name="late"):
    task = client.call("tasks.create", {"name": name, "type": "training"})["id"]
    client.call("tasks.enqueue", {"task": task})
    return task


@pytest.fixture
def soon(monkeypatch):
    """soon(function, *arguments) runs it in a thread once the pull of this test waits."""
    waits, look = threading.Event(), waiting.Waiting.look

    def looks(self, allowed):
        waits.set()
        return look(self, allowed)

    def later(function, *arguments):
        thread = threading.Thread(target=lambda: waits.wait(30) and function(*arguments))
        thread.start()
        return thread

    monkeypatch.setattr(waiting.Waiting, "look", looks)
    return later


def wait(client, **more):
    return queues.next_task(client, "tester:0", queues.Queues(client, []), wait=True, **more)


def test_a_task_that_comes_later_is_taken_soon(client, soon):
    # a server of another process, as far as the client can see
    other, came = api.connect("other"), []
    soon(lambda: came.append((enqueue(other), time.monotonic())))
    claim, line = wait(client)
    (task, at), = came
    assert line["task"]["id"] == task
    assert time.monotonic() - at < 2
    claim.end()


def test_it_is_registered_while_it_waits(client, soon):
    other = api.connect("other")

    def look():
        until = time.monotonic() + 10
        while not seen and time.monotonic() < until:
            seen.extend(worker["id"] for worker in other.call("workers.get_all")["workers"])
        enqueue(other)
    seen = []
    soon(look)
    wait(client)[0].end()
    assert seen == ["tester:0"]


def test_one_that_gets_a_task_at_once_is_known_to_serve_its_queue_by_its_reports(client):
    enqueue(client)
    claim, line = wait(client)
    assert client.call("workers.get_all")["workers"] == []  # no request more than the task needs
    reporter = Reporter(client, line["pull"]["worker"], line["pull"]["queues"], registers=False)
    reporter.start()
    reporter.watch(line["task"]["id"], claim.directory, claim.token, print, queue=line["pull"]["queue"])
    until, known = time.monotonic() + 20, []
    while not known and time.monotonic() < until:
        known = [(worker["id"], [queue["id"] for queue in worker["queues"]])
                 for worker in client.call("workers.get_all")["workers"]]
    reporter.stop()
    assert known == [("tester:0", [line["pull"]["queue"]])]
    claim.end()


def test_one_whose_tasks_get_workers_of_their_own_says_itself_which_queues_it_serves(client):
    enqueue(client)
    claim, line = wait(client, side_by_side=True)
    worker, = client.call("workers.get_all")["workers"]
    assert (worker["id"], [queue["id"] for queue in worker["queues"]]) == ("tester:0", [line["pull"]["queue"]])
    assert "queues" not in line["pull"]
    claim.end()


def test_a_queue_that_is_closed_by_its_tag_gives_out_nothing(client):
    queue = client.call("queues.get_default")["id"]
    client.call("queues.update", {"queue": queue, "tags": ["force_workers:off"]})
    task = enqueue(client)
    assert queues.next_task(client, "tester:0", queues.Queues(client, []), wait=False) is None
    client.call("queues.update", {"queue": queue, "tags": []})
    assert queues.next_task(client, "tester:0", queues.Queues(client, []), wait=False)[1]["task"]["id"] == task


def test_one_whose_owner_is_gone_takes_nothing(client, soon):
    owner = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    ended = soon(lambda: (owner.kill(), owner.wait()))
    assert wait(client, owner=owner.pid) is None
    ended.join()
    assert os.listdir(claims.active()) == []
    owner.stdin.close()


def test_a_signal_ends_it_and_leaves_nothing(client, soon):
    before = signal.getsignal(signal.SIGTERM)
    signals.SIGNALS.install()
    try:
        soon(os.kill, os.getpid(), signal.SIGTERM)
        with pytest.raises(errors.Interrupted):
            wait(client)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.listdir(claims.active()) == []


OVER_A_NETWORK = pytest.mark.parametrize("transport", ["agent-server", "clearml"], indirect=True)


@OVER_A_NETWORK
@pytest.mark.parametrize("meanwhile", [False, True])
def test_an_outage_is_waited_out_and_said_once_with_its_end(client, transport, soon, monkeypatch, meanwhile):
    said = []
    monkeypatch.setattr(waiting, "TOLD_S", 0.0)
    monkeypatch.setattr(waiting.stdio, "say", said.append)
    other = api.connect("other")
    inside = types.SimpleNamespace(call=functools.partial(endpoints.call, transport.store, {"user": "ann"}))

    def outage():
        transport.failing = [503] * 5 + ["drop"] * 5
        if meanwhile:  # the server comes back with a task
            enqueue(inside)
            return
        until = time.monotonic() + 20
        while len(said) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        enqueue(other)
    soon(outage)
    claim, _ = wait(client)
    claim.end()
    away, back = said
    assert away.startswith("agent-pull: ") and away.endswith("; waiting for the server")
    assert back.startswith("agent-pull: the server answers again, after ")


@OVER_A_NETWORK
def test_a_task_whose_answer_was_lost_in_an_outage_is_not(client, transport, monkeypatch):
    monkeypatch.setattr(intents, "STRAY_S", 0.0)
    monkeypatch.setattr(intents, "YOUNG_S", 0.0)
    monkeypatch.setattr(waiting, "LEFT_OPEN", 0.1)
    task = enqueue(client)
    answer = transport.answer

    def lost(endpoint, headers, body):
        found = answer(endpoint, headers, body)
        if endpoint == "queues.get_next_task" and found:
            transport.answer = answer
            raise errors.ApiError(502, 0, "the way back is cut")
        return found
    transport.answer = lost
    claim, line = wait(client)
    assert line["task"]["id"] == task
    claim.end()
    assert os.listdir(claims.active()) == []


@pytest.mark.parametrize("transport", ["agent-server"], indirect=True)
def test_agent_server_is_asked_seldom_and_answers_at_once(client, transport, monkeypatch):
    monkeypatch.setattr(http_api, "LONG_POLL_S", 1.0)
    other = api.connect("other")
    thread = threading.Timer(2.5, enqueue, [other])
    thread.start()
    wait(client)[0].end()
    polls = [path for path in transport.asked() if path == "queues.wait"]
    assert 3 <= len(polls) <= 6
    assert transport.asked().count("queues.get_next_task") == 2


@pytest.mark.parametrize("transport", ["agent-server"], indirect=True)
def test_one_that_answers_without_waiting_is_polled(client, transport, monkeypatch, soon):
    monkeypatch.setattr(transport, "wait", lambda endpoint, body: None)
    soon(enqueue, api.connect("other"))
    wait(client)[0].end()
    assert transport.asked().count("queues.wait") == 2


@pytest.mark.parametrize("transport", ["store"], indirect=True)
@pytest.mark.parametrize("replaced", [False, True])
def test_one_whose_store_is_removed_says_so_and_waits_no_longer(client, soon, replaced):
    def remove():
        os.rename(paths.state(), f"{paths.state()}.gone")  # at once: who waits may be writing a file there
        if replaced:
            enqueue(api.connect("other"))

    remover = soon(remove)
    with subprocess.Popen(["sleep", "10"]) as owner:  # with which it would end
        with pytest.raises(errors.Failure, match="was removed") as caught:
            wait(client, owner=owner.pid)
        owner.kill()
    remover.join()
    assert caught.value.exit == errors.UNAVAILABLE
    if replaced:
        assert wait(api.connect("tester:0"))
