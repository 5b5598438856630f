"""The last lines of a log are those of the whole, and a long log is not read for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer

from agentpipe.task import logs, look
from agentpipe.transport import api


@pytest.fixture(params=["store", "ours", "clearml"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    if request.param == "store":
        yield api.connect()
        return
    with ApiServer(str(tmp_path / "agent.db"), request.param == "ours") as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield api.connect()


def logged(call: Any, events: int) -> str:
    """A task whose script printed three lines an event, and whose agent one line at first."""
    id = call("tasks.create", {"name": "long", "type": "training"})["id"]
    call("events.add_batch", [{"type": "log", "task": id, "timestamp": 1000, "msg": "set up\n", "stream": "setup"}])
    call("events.add_batch", [{"type": "log", "task": id, "timestamp": 2000 + number, "stream": "log",
                               "msg": "".join(f"line {3 * number + line}\n" for line in range(3))}
                              for number in range(events)])
    return str(id)


@pytest.mark.parametrize(("events", "stream", "lines"), [
    (2, None, 5), (2, None, 100), (700, None, 1), (700, "log", 7), (700, None, 400), (700, "setup", 3),
    (700, "log", 1900)])
def test_the_last_lines_are_those_of_the_whole_log(store: Any, capfd: pytest.CaptureFixture[str], events: int,
                                                   stream: str | None, lines: int) -> None:
    id = logged(store.call, events)
    asked = {"task": id, "stream": stream, "errors": False, "since": None, "follow": False, "json": False}
    look.log({**asked, "lines": None})
    whole = capfd.readouterr().out.splitlines()
    assert len(whole) == (1 if stream == "setup" else 3 * events + (stream is None))
    look.log({**asked, "lines": lines})
    assert capfd.readouterr().out.splitlines() == whole[-lines:]


def test_few_lines_of_a_long_log_are_one_small_answer(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    id = logged(store.call, 700)
    sizes: list[int] = []
    call = store.call
    monkeypatch.setattr(store, "call", lambda name, body: sizes.append(body["batch_size"]) or call(name, body))
    assert logs.newest(store, id, logs.Shown(lines=10)) is not None
    assert sizes == [logs.FIRST_PAGE]
