"""agent-status asks once for everything, says what is true, and fits any terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer

from agentpipe import api, overview, status_view


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


def test_one_request_a_look_of_ours_and_four_at_most_of_another(server: ApiServer) -> None:
    connected = api.connect()
    running = busy(connected.call)
    looker = overview.Looker(connected)
    for _ in running:
        server.requests.clear()
        seen = looker.look()
        asked = server.asked()
        if server.ours:
            assert asked == ["agentpipe.overview"]
        else:
            assert sorted(asked) == ["events.get_task_log", "queues.get_all", "tasks.get_all", "workers.get_all"]
    assert [task["id"] for task in seen["running"]] == running
    assert [task["last_line"] for task in seen["running"]] == [f"epoch 2 of {id[:4]}" for id in running]
    gpu = next(queue for queue in seen["queues"] if queue["name"] == "gpu")
    assert gpu["waiting"] == 5 and gpu["oldest"]
    assert seen["workers"][0]["queues"] == ["gpu"] and seen["workers"][0]["alive"]


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


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [0, 8, 12, 40])
def test_it_fits_any_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    busy(store.call, 20)
    seen = overview.Looker(store).look()
    seen["gpus"] = [{"index": 0, "utilization": 88.0, "temperature": 61.0, "used": 1 << 34, "free": 1 << 33,
                     "total": 1 << 35}]
    lines = status_view.lines(seen, width, height)
    assert max(map(len, lines)) <= width
    assert not height or len(lines) <= height
    if height == 12:
        assert any(line.startswith("RUNNING (1") and line.rstrip().endswith(("more)", "…")) for line in lines)
    away = status_view.lines({**seen, "trouble": "cannot reach http://127.0.0.1:9 " * 9}, width, height)
    assert away[1].startswith("cannot reach") and max(map(len, away)) <= width and (not height or len(away) <= height)
    coloured = status_view.lines(seen, width, height, True)
    assert [status_view.COLOUR.sub("", line) for line in coloured] == lines


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
