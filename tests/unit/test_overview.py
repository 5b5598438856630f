"""agent-status asks once for everything, says what is true, and fits any terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer

from agentpipe import cells, units
from agentpipe.errors import ApiError
from agentpipe.status import overview, status_view
from agentpipe.task import artifacts, listing
from agentpipe.transport import api


@pytest.fixture(params=[True, False], ids=["ours", "clearml"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    with ApiServer(str(tmp_path / "agent.db"), request.param) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def busy(call: Any, tasks: int = 3) -> list[str]:
    """A queue of five with a worker, and tasks that run and print."""
    queue = call("queues.create", {"name": "gpu"})["id"]
    ids = [call("tasks.create", {"name": f"train {number} ünï", "type": "training"})["id"]
           for number in range(5 + tasks)]
    for id in ids:
        call("tasks.enqueue", {"task": id, "queue": queue})
    for id in ids[:tasks]:
        call("queues.get_next_task", {"queue": queue})
        call("tasks.started", {"task": id})
        call("events.add_batch", [{"type": "log", "task": id, "msg": f"epoch 1\nepoch 2 of {id[:4]}\n"}])
    call("workers.status_report", {"worker": "w:0", "timestamp": int(time.time()), "task": ids[0], "queues": [queue],
                                   "machine_stats": {"cpu_usage": [93.1], "memory_used": 2048.0, "gpu_usage": [88.0]}})
    return ids[:tasks]


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, "q"])
def test_it_says_that_a_server_does_not_answer_and_can_be_left(server: ApiServer, told: int | str) -> None:
    asked, answered, answer, looks = threading.Event(), threading.Event(), server.answer, []

    def held(endpoint: str, headers: Any, body: Any) -> dict[str, Any]:
        if endpoint in ("agentpipe.overview", "queues.get_all"):
            looks.append(endpoint)
            if len(looks) > 1:
                asked.set()
                answered.wait(60)
        return answer(endpoint, headers, body)

    server.answer = held  # type: ignore[method-assign]
    ours, its = os.openpty()
    watching = subprocess.Popen([sys.executable, "-m", "agentpipe.cmds.agent_status", "--interval", "0.2"],
                                stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    shown: list[bytes] = []
    threading.Thread(target=lambda: _read_all(ours, shown)).start()
    try:
        assert asked.wait(30), shown
        if isinstance(told, str):
            until = time.monotonic() + 30
            while b" has not answered for " not in b"".join(shown) and time.monotonic() < until:
                time.sleep(0.05)
            assert b" has not answered for " in b"".join(shown)
            os.write(ours, told.encode())
        else:  # at once
            watching.send_signal(told)
        assert watching.wait(15) == 0
    finally:
        answered.set()
        watching.kill()
        watching.wait()


def _read_all(terminal: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError), open(terminal, "rb", 0) as file:  # EIO: nobody has its other side any more
        while data := file.read(4096):
            shown.append(data)


def test_one_request_a_look_of_ours_and_four_at_most_of_another(server: ApiServer) -> None:
    connected = api.connect()
    running = busy(connected.call)
    looker = overview.Looker(connected)
    if not server.ours:
        looker.look()  # the first asks for what is asked for each half a minute, too
        assert server.asked()[-6:] == ["events.get_task_log", "tasks.get_all",
                                       *["organization.get_entities_count"] * 3, "workers.get_stats"]
    for _ in running:
        server.requests.clear()
        seen = looker.look()
        asked = server.asked()
        if server.ours:
            assert asked == ["agentpipe.overview"]
        else:
            assert sorted(asked) == ["events.get_task_log", "queues.get_all", "tasks.get_all", "workers.get_all"]
    assert [task["id"] for task in seen["running"]] == running[::-1]  # the newest first
    assert [task["last_line"] for task in seen["running"]] == [f"epoch 2 of {id[:4]}" for id in running[::-1]]
    gpu = next(queue for queue in seen["queues"] if queue["name"] == "gpu")
    assert gpu["waiting"] == 5 and gpu["oldest"]
    assert seen["workers"][0]["queues"] == ["gpu"] and seen["workers"][0]["alive"]


def test_any_server_tells_the_last_ends_and_the_load_of_its_workers(server: ApiServer) -> None:
    connected = api.connect()
    first, *_ = busy(connected.call)
    server.store.transaction(lambda db: db.execute("UPDATE reports SET at=at-60000"))  # no server tells the last minute
    looker = overview.Looker(connected)
    looker.look()
    connected.call("tasks.failed", {"task": first})
    seen = looker.look()
    assert [(task["id"], task["status"]) for task in seen["ended"]] == [(first, "failed")]
    stats = seen["workers"][0]["machine_stats"]
    assert (stats["cpu_usage"], stats["memory_used"], stats["gpu_usage"]) == ([93.1], 2048.0, [88.0])
    counts = seen["counts"]
    assert (counts["queued"], counts["in_progress"], counts["failed"], counts.get("completed", 0)) == (5, 2, 1, 0)
    text = "\n".join(status_view.lines(seen, 120))
    assert f"agent-task why {first[:8]}" in text and "cpu 93%" in text and "2 running, 1 failed" in text


def test_a_server_too_old_to_count_tells_what_waits_and_runs(server: ApiServer,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    looker = overview.Looker(api.connect())
    busy(looker.api.call)
    call = looker.api.call

    def older(endpoint: str, body: Any = None) -> Any:
        if endpoint in ("organization.get_entities_count", "agentpipe.overview"):
            raise ApiError(404, 0, f"Unable to find endpoint for name {endpoint}")
        return call(endpoint, body)
    monkeypatch.setattr(looker.api, "call", older)
    assert looker.look()["counts"] == {"queued": 5, "in_progress": 3}


def test_the_store_of_this_machine_tells_the_last_ends_and_how_many_of_each(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    first, second, _ = busy(store.call)
    store.call("tasks.edit_runtime", {"task": first, "add_or_update": {"_agentpipe_end": {"class": "out_of_memory"}}})
    store.call("tasks.failed", {"task": first})
    store.call("tasks.completed", {"task": second})
    seen = overview.Looker(store).look()
    assert seen["counts"] == {"queued": 5, "in_progress": 1, "failed": 1, "completed": 1}
    assert {(task["id"], task["end"]) for task in seen["ended"]} == {(first, "out_of_memory"), (second, None)}
    shown = "\n".join(status_view.lines(seen, 100))
    assert f"agent-task why {first[:8]}" in shown and "out_of_memory" in shown
    heads = [status_view.lines(seen, width)[0] for width in range(1, 120)]
    assert all(len(line) <= width for width, line in enumerate(heads, 1))
    assert heads[59].startswith("agentpipe  5 queued, 1 running, 1 failed, 1 completed")
    assert heads[44] == "5 queued, 1 running, 1 failed, 1 completed" and heads[8] == "5 queued…"


def test_a_task_stopped_while_it_waited_has_an_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    waits = store.call("tasks.create", {"name": "waits", "type": "training"})["id"]
    store.call("tasks.enqueue", {"task": waits, "queue_name": "default"})
    store.call("tasks.stop", {"task": waits})
    line = next(line for line in status_view.lines(overview.Looker(store).look(), 100) if waits[:8] in line)
    assert line.split("stopped")[1].strip().endswith(" s ago")


def test_a_low_terminal_shows_what_runs_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    first, *_, last = busy(store.call, 4)
    store.call("tasks.completed", {"task": first})
    seen = overview.Looker(store).look()
    for height in (4, 6, 8, 10):
        lines = status_view.lines(seen, 80, height)
        assert len(lines) <= height and any(line.startswith(f"  {last[:8]}") for line in lines)
        assert not any(line and not line.startswith(" ") and after[:1] != " "
                       for line, after in zip(lines[1:], [*lines[2:], ""], strict=True))


def test_a_worker_whose_last_task_has_ended_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    first, *_ = busy(store.call)
    store.call("tasks.completed", {"task": first})
    seen = overview.Looker(store).look()
    seen["workers"] = [{"id": "w:0", "alive": True, "queues": ["gpu"], "task": first, "machine_stats": {},
                        "last_report_time": seen["now"]}]
    assert next(line for line in status_view.lines(seen, 100) if line.startswith("  w:0")).split()[2] == "idle"


@pytest.mark.parametrize("stats", [
    {"cpu_usage": ["x"]}, {"cpu_usage": "x"}, {"memory_used": "1"}, {"gpu_usage": [None]}, {"cpu_usage": 3},
    {"gpu_memory_used": {"a": 1}}, {"cpu_usage": [True]}, {"memory_used": float("nan")}, {"memory_used": 1e300}, ["x"]])
def test_what_a_worker_says_of_itself_spoils_no_screen(stats: Any) -> None:
    evil = "w\x1b]0;owned\x07\x1b[2J"
    at = "2026-11-30T00:00:00+00:00"
    seen = {"now": at, "server": "s", "counts": {}, "running": [], "ended": [], "gpus": [],
            "queues": [{"id": "q", "name": "default", "waiting": 1, "oldest": None}],
            "workers": [{"id": evil, "queues": ["default"], "alive": True, "task": "\x1b[2J", "last_report_time": at,
                         "machine_stats": stats}]}
    shown = status_view.lines(seen, 200)
    assert not any("\x1b" in line for line in shown) and any("served by w" in line for line in shown)


def test_a_table_has_nothing_that_a_terminal_would_obey() -> None:
    task = {"id": "a" * 32, "status": "created", "parent": "\x1b[2J", "script": {"version_num": "\x1b[H"}}
    row = listing._row(task, {}, {})
    assert "\x1b" not in listing.text([row], ("id", "commit", "parent"))
    assert "\x1b" not in artifacts.table([{"name": "n", "kind": "artifact", "type": "\x1b]52;c;ZXZpbA==\x07", "size": 1,
                                           "uri": "u"}])


def test_names_of_wide_and_of_combining_characters_stand_in_their_columns(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    names = ["日本語の長い名前です" * 9, "e\u0301te\u0301" * 30, "plain"]
    for name in names:
        id = store.call("tasks.create", {"name": name, "type": "training"})["id"]
        store.call("tasks.started", {"task": id, "force": True})
    for width in (20, 41, 80, 200):
        lines = status_view.lines(overview.Looker(store).look(), width)
        assert max(map(cells.width, lines)) <= width
        rows = [line for line in lines if line.endswith(" s") or " s  " in line]
        assert width < 80 or len({cells.width(line[:line.index(" s")]) for line in rows}) == 1
    given = {"status": [], "queue": None, "project": None, "tag": [], "name": None, "text": None, "since": None,
             "archived": False, "columns": None, "limit": 20}
    shown = listing.text(list(listing.rows(store, given)), ("name", "status"), 40).splitlines()
    assert {cells.width(line.partition("in_progress")[0]) for line in shown[1:]} == {29}
    assert cells.cut("日本", 3) == "日…" and cells.cut("日本", 4) == "日本" and cells.padded("日本", 3) == "日…"
    assert cells.cut("ab…  c", 4) == "ab…"


LONG = {"a100": "team-vision-gpu-a100-of-the-eastern-data-centre", "default": "default"}


@pytest.mark.parametrize(("width", "waits"), [(40, "12 waiting  "), (60, "12 waiting  nobody serves it"),
                                              (80, "12 waiting, the first for 2 h  nobody serves it")])
def test_long_names_of_queues_leave_room_for_what_waits_and_who_serves(width: int, waits: str) -> None:
    now, ago = (units.iso(time.time() - seconds) for seconds in (0, 7300))
    seen = {"now": now, "server": "s", "counts": {}, "running": [], "ended": [], "gpus": [], "workers": [], "queues": [
        {"id": "1", "name": LONG["a100"], "waiting": 12, "oldest": ago},
        {"id": "2", "name": "default", "waiting": 0, "oldest": None}]}
    lines = status_view.lines(seen, width)
    assert max(map(cells.width, lines)) <= width
    assert lines[3].startswith("  team-vi") and waits in lines[3] and "  default  " in lines[4]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_list_cuts_its_longest_names_and_no_other_column(width: int) -> None:
    row = {"id": "1f3c" * 8, "status": "in_progress", "name": "resnet50 on imagenet, augmented", "queue": LONG["a100"],
           "worker": "node-of-the-eastern-data-centre:0", "created": units.iso(time.time() - 7300), "end": None}
    shown = listing.text([row, {**row, "name": "x", "queue": "default"}], width=width).splitlines()
    assert shown[0].split() == ["ID", "STATUS", "NAME", "QUEUE", "WORKER", "CREATED"]
    assert all(line.endswith("  2 h ago") for line in shown[1:])
    assert max(map(cells.width, shown)) <= width and "  team-vi" in shown[1] and "  default  " in shown[2]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [0, 8, 12, 40])
def test_it_fits_any_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    busy(store.call, 20)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # ages that do not grow between two looks
    seen = overview.Looker(store).look()
    seen["gpus"] = [{"index": 0, "utilization": 88.0, "temperature": 61.0, "used": 1 << 34, "free": 1 << 33,
                     "total": 1 << 35, "name": "NVIDIA H200", "uuid": "GPU-1", "power": None}]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # ages are compared below
    lines = status_view.lines(seen, width, height)
    assert max(map(len, lines)) <= width
    assert not height or len(lines) <= height
    if height == 12:
        assert any(line.startswith("RUNNING (1") and line.rstrip().endswith(("more)", "…")) for line in lines)
    away = status_view.lines({**seen, "trouble": "cannot reach http://127.0.0.1:9 " * 9}, width, height)
    assert away[1].startswith("cannot reach") and max(map(len, away)) <= width and (not height or len(away) <= height)
    coloured = status_view.lines(seen, width, height, True)
    assert [cells.COLOUR.sub("", line) for line in coloured] == lines


def test_a_server_that_goes_away_leaves_what_was_seen_and_says_so(server: ApiServer) -> None:
    from agentpipe.cmds import agent_status
    looker = overview.Looker(api.connect(patience=0.2))
    busy(looker.api.call)
    seen = agent_status.looked(looker, None)
    server.http.shutdown()
    server.http.server_close()
    looker.api.close()
    away = agent_status.looked(looker, seen)
    assert away["running"] == seen["running"] and "127.0.0.1" in away["trouble"]
    assert status_view.lines(away, 80)[1].startswith("http://127.0.0.1")


def test_pipelines_their_steps_and_data_sets_are_listed_counted_and_completed(server: ApiServer) -> None:
    from agentpipe import complete
    connected = api.connect()
    call = connected.call
    call("projects.create", {"name": "proj/pipes/.pipelines", "system_tags": ["hidden"]})
    project = call("projects.create", {"name": "proj/pipes/.pipelines/night", "system_tags": ["hidden", "pipeline"]})
    pipeline = call("tasks.create", {"name": "night", "type": "controller", "project": project["id"],
                                     "system_tags": ["pipeline"]})["id"]
    step = call("tasks.create", {"name": "step one", "type": "training", "project": project["id"], "parent": pipeline,
                                 "system_tags": ["hidden"]})["id"]
    every = {"status": [], "limit": 0, "archived": False, "columns": None,
             **dict.fromkeys(("name", "queue", "project", "tag", "text", "since"))}
    assert {row["id"] for row in listing.rows(connected, every)} == {pipeline, step}
    for option, wanted in (({"project": "proj/pipes"}, {step, pipeline}), ({"name": "step"}, {step}),
                           ({"text": "step"}, {step})):
        assert {row["id"] for row in listing.rows(connected, every | option)} == wanted, option
    assert {word for word, _ in complete.found("tasks")} == {pipeline, step}
    assert "proj/pipes/.pipelines/night" in [word for word, _ in complete.found("projects")]
    assert complete._of_beginning(connected, "step") == [("step one", f"created, {step[:8]}")]
    for task in (pipeline, step):
        call("tasks.started", {"task": task})
    assert {task["id"] for task in overview.Looker(connected).look()["running"]} == {pipeline, step}
    for task in (pipeline, step):
        call("tasks.completed", {"task": task})
    seen = overview.Looker(connected).look()
    assert {task["id"] for task in seen["ended"]} == {pipeline, step} and seen["counts"]["completed"] == 2
