"""What is looked for on a server by its name, and is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentpipe import errors, find
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
