"""The last lines of a log are those of the whole, and a long log is not read for them."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer

from agentpipe.server import events
from agentpipe.task import harmless, log_output, logs, look
from agentpipe.transport import api

ALL = {"stream": None, "errors": False, "since": None, "follow": False, "json": False, "lines": None}


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
    asked = {**ALL, "task": id, "stream": stream}
    look.log(asked)
    whole = capfd.readouterr().out.splitlines()
    assert len(whole) == (1 if stream == "setup" else 3 * events + (stream is None))
    look.log({**asked, "lines": lines})
    assert capfd.readouterr().out.splitlines() == whole[-lines:]


EVIL = ("\x1b]0;owned\x07a\x1b]52;c;ZXZpbA==\x1b\\b\x1bP1$r0m\x1b\\c\x1b[2J\x1b[H\x1b[?1049hd\x1bce\x9b2Jf\x07"
        "\x1b[6n\x1b[999Ag\x1b]0;no end\nh\x1b[201~i\x1b")
SEEN = "\x1b[1;31mred\x1b[0m 50%|#  |\r\x1b[2K\x1b[K\x1b[A\x1b[1Aü\tx\b\r\n"


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
def test_a_terminal_obeys_colours_and_progress_bars_of_a_log_and_nothing_else(pieces: int) -> None:
    whole = (SEEN + EVIL + SEEN).encode()
    shown = harmless.Harmless()
    told = b"".join(shown.feed(whole[at:at + pieces]) for at in range(0, len(whole), pieces)).decode()
    assert told == SEEN + "abcde2Jfg\nhi" + SEEN
    assert "31m" not in harmless.Harmless(colours=False).feed(whole).decode()


def test_a_log_on_a_terminal_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    id = store.call("tasks.create", {"name": "evil", "type": "training"})["id"]
    store.call("events.add_batch", [{"type": "log", "task": id, "msg": "\x1b]0;owned\x07a\x1b[31mb\n"}])
    master, slave = os.openpty()
    kept = os.dup(1)
    os.dup2(slave, 1)
    try:
        look.log({**ALL, "task": id})
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    os.close(slave)
    assert os.read(master, 1000) == b"a\x1b[31mb\r\n"
    os.close(master)


def test_a_log_of_long_lines_comes_in_parts_that_are_not_too_large(
        store: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 10_000)
    id = store.call("tasks.create", {"name": "wide", "type": "training"})["id"]
    store.call("events.add_batch", [{"type": "log", "task": id, "timestamp": 1000 + number, "msg": f"{number} " * 1000}
                                    for number in range(20)])
    asked = {**ALL, "task": id}
    look.log(asked)
    whole = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in whole] == [str(number) for number in range(20)]
    for lines in (1, 3, 15):
        look.log({**asked, "lines": lines})
        assert capfd.readouterr().out.splitlines() == whole[-lines:]


def test_few_lines_of_a_long_log_are_one_small_answer(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    id = logged(store.call, 700)
    sizes: list[int] = []
    call = store.call
    monkeypatch.setattr(store, "call", lambda name, body: sizes.append(body["batch_size"]) or call(name, body))
    reader = logs.Reader(store, id)
    assert reader.newest(lambda events: log_output.lines(events, log_output.Choice()) > 10) is not None
    assert sizes == [logs.FIRST_PAGE]
    assert list(reader.events()) == [] and len(sizes) == 2
    call("events.add_batch", [{"type": "log", "task": id, "timestamp": 9000, "msg": "new\n", "stream": "log"}])
    assert [event["msg"] for event in reader.events()] == ["new\n"]


def test_the_last_lines_of_a_log_that_is_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    monkeypatch.setattr(events, "MOST_BYTES", 100_000)
    monkeypatch.setattr(logs, "PAGE_BYTES", 100_000)
    store = api.connect()
    id = store.call("tasks.create", {"name": "wide", "type": "training"})["id"]
    for number in range(200):
        store.call("events.add_batch", [{"type": "log", "task": id, "timestamp": 1000 + number,
                                         "msg": f"{number} error {'x' * 30_000}\n"}])
    for more in ({}, {"errors": True}, {"json": True}):
        tracemalloc.start()
        look.log({**ALL, "task": id, "lines": 190, **more})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        shown = capfd.readouterr().out.splitlines()
        if "json" in more:
            shown = [json.loads(line)["line"] for line in shown]
        assert [line.split()[0] for line in shown] == [str(number) for number in range(10, 200)]
        assert peak < 2 << 20  # of 6 MB


def test_a_line_in_several_events_is_one_line(store: Any, capfd: pytest.CaptureFixture[str]) -> None:
    id = store.call("tasks.create", {"name": "wide", "type": "training"})["id"]
    pieces = ["first\n", "sec", "ond", " line\nthi", "rd"]
    store.call("events.add_batch", [{"type": "log", "task": id, "timestamp": 1000 + number, "msg": piece,
                                     "stream": "log", "claim": "c", "offset": number, "end": number + 1}
                                    for number, piece in enumerate(pieces)])
    for lines, shown in ((1, "third"), (2, "second line\nthird"), (3, "first\nsecond line\nthird"), (9, None)):
        look.log({**ALL, "task": id, "lines": lines})
        assert capfd.readouterr().out == (shown or "".join(pieces))


def test_followed_from_its_last_lines_on(store: Any, monkeypatch: pytest.MonkeyPatch,
                                         capfd: pytest.CaptureFixture[str]) -> None:
    id = logged(store.call, 700)

    def state(api: Any, task: str) -> tuple[str, None]:
        late = {"type": "log", "task": task, "timestamp": 9000, "msg": "late\n", "stream": "log"}
        api.call("events.add_batch", [late])
        return "completed", None
    monkeypatch.setattr(logs, "state", state)
    look.log({**ALL, "task": id, "lines": 2, "follow": True})
    assert capfd.readouterr().out == "line 2098\nline 2099\nlate\n"
