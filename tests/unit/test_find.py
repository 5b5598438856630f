"""What is looked for on a server by its name, and is not there."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from agentpipe import errors, find
from agentpipe.pull import queues
from agentpipe.transport import api


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def test_of_many_queues_the_nearest_are_named() -> None:
    store = api.connect()
    before = len(store.call("queues.get_all", {})["queues"])
    for number in range(60):
        store.call("queues.create", {"name": f"team-{number:03}"})
    store.call("queues.create", {"name": "gpu-large"})
    with pytest.raises(errors.Failure) as failed:
        find.queue(store, "gpu-lage")
    assert failed.value.reason.startswith("no queue `gpu-lage`; there are: gpu-large, ")
    assert failed.value.reason.endswith(f", and {before + 61 - find.SHOWN_QUEUES} more")
    assert failed.value.reason.count(",") == find.SHOWN_QUEUES


@pytest.mark.parametrize("word", ["-elsewhere", "__$not", "^", "."])
def test_a_queue_is_its_name_or_its_id_and_no_query(word: str) -> None:
    """In a list of ids "-x" is all but x: a pull would have taken tasks of the first other queue."""
    store = api.connect()
    with pytest.raises(errors.Failure, match="no queue") as failed:
        queues.Queues(store, [word])
    assert failed.value.exit == errors.NOT_FOUND
    queues.Queues(store, [word * 3], create=True)
    assert queues.Queues(store, [word * 3]).names.popitem()[1] == word * 3


def test_the_tags_of_a_queue_count_however_it_is_named() -> None:
    store = api.connect()
    default = store.call("queues.get_default")["id"]
    store.call("queues.update", {"queue": default, "tags": [find.QUEUE_CLOSED]})
    for names in ([], ["default"], [default]):
        asked = queues.Queues(store, names)
        assert (asked.ids, asked.in_order()) == ([default], [])


def test_without_a_default_queue_one_is_made_where_queues_are() -> None:
    def call(endpoint: str, body: object = None) -> dict[str, object]:
        if endpoint == "queues.get_default":
            raise errors.ApiError(400, 703, "no default queue")
        return {"id": "q1"} if endpoint == "queues.create" else {"queues": []}
    server = types.SimpleNamespace(call=call, embedded=False, ours=False)
    assert queues.Queues(server, [], create=True).names == {"q1": "default"}
    with pytest.raises(errors.Failure, match="no queue `default`") as failed:
        queues.Queues(server, [])
    assert failed.value.remedy == "the same with --create-queue"
