"""How a waiting pull asks a server: few requests, each at its time."""

import time

import pytest
from api_server import ApiServer

from agentpipe import find
from agentpipe.claim import intents
from agentpipe.pull import queues
from agentpipe.transport import api, http_api


@pytest.fixture(params=["ours", "clearml"])
def server(request, tmp_path, monkeypatch):
    with ApiServer(str(tmp_path / "server.db"), ours=request.param == "ours") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def polling(monkeypatch, seconds="0.05"):
    """A client that polls, and two queues."""
    monkeypatch.setenv("CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", seconds)
    client = api.connect()
    return client, queues.Queues(client, ["first", "second"], create=True)


def asked(server, work):
    """The endpoints that `work()` asks."""
    before = len(server.asked())
    work()
    return server.asked()[before:]


def put_in(client, wanted, name):
    task = client.call("tasks.create", {"name": "one", "type": "training", "script": {"entry_point": "a.py"}})["id"]
    client.call("tasks.enqueue", {"task": task, "queue": next(id for id in wanted.ids if wanted.names[id] == name)})
    return task


def pull(client, wanted):
    got = queues._ask(client, "box:0", wanted, intents.Intent())
    return got and got[1]["task"]["id"]


def test_a_round_that_finds_nothing_is_one_request_whatever_the_number_of_queues(server, monkeypatch):
    client, wanted = polling(monkeypatch)
    pull(client, wanted)  # the first knows nothing of the entries yet
    assert asked(server, lambda: pull(client, wanted)) == ["queues.get_all"]
    task = put_in(client, wanted, "second")
    found = []
    assert asked(server, lambda: found.append(pull(client, wanted)))[:2] == ["queues.get_all", "queues.get_next_task"]
    assert found == [task]


def test_a_closed_queue_gives_nothing_and_its_entries_are_not_carried_about(server, monkeypatch):
    client, wanted = polling(monkeypatch)
    pull(client, wanted)
    put_in(client, wanted, "first")
    client.call("queues.update", {"queue": wanted.ids[0], "tags": [find.QUEUE_CLOSED]})
    assert pull(client, wanted) is None
    assert pull(client, wanted) is None
    seen = [body for _, path, _, body in server.requests if path.endswith("queues.get_all") and "id" in body]
    assert "entries" not in seen[-1]["only_fields"]
    client.call("queues.update", {"queue": wanted.ids[0], "tags": []})
    assert pull(client, wanted)


def test_who_gives_a_rhythm_gets_it_from_any_server(server, monkeypatch):
    client, _ = polling(monkeypatch, "0.2")
    begun = time.monotonic()
    mark = client.changed(None)
    while client.changed(mark) == mark:
        time.sleep(client.look_s / 50)
    assert 0.2 <= time.monotonic() - begun < 4  # its own rhythm is 5 s
    assert "queues.wait" not in server.asked()


def test_without_one_agent_server_answers_when_there_is_news_and_another_is_asked_each_2_seconds(server):
    client = api.connect()
    assert client.long_polls == server.ours
    mark = client.changed(None)
    if server.ours:
        assert asked(server, lambda: client.changed(mark - 1)) == ["queues.wait"]
    else:
        assert client.changed(mark - http_api.POLL_S) != mark
        assert http_api.POLL_S <= 60 / 30
