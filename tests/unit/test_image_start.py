"""What runs in an image that agent-prepare has made: the program, told to the task's server, and its exit status."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer

from agentpipe.prepare import image_start


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(str(tmp_path / "agent.db")) as server:
        yield server


def call(server: ApiServer, endpoint: str, **body: Any) -> dict[str, Any]:
    from agentpipe.server.endpoints import call
    return call(server.store, {"user": "ann", "worker": "box:0"}, endpoint, body)


def task_of(server: ApiServer) -> str:
    return call(server, "tasks.create", name="train", type="training")["id"]


def started(server: ApiServer, task: str, script: str, mode: str = "reuse_task",
            **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, image_start.__file__, mode, task, sys.executable, "-c", script],
                            env={**os.environ, **server.environment}, stderr=subprocess.PIPE,
                            **{"stdout": subprocess.PIPE, **more})


def status(server: ApiServer, task: str) -> str:
    return call(server, "tasks.get_by_id", task=task)["task"]["status"]


def log(server: ApiServer, task: str) -> str:
    found, after, more = "", 0, True
    while more:
        page = call(server, "events.get_task_log", task=task, after=after, batch_size=10_000)
        found += "".join(event["msg"] for event in page["events"])
        more, after = page["returned"] > 0, page["last"]
    return found


@pytest.mark.parametrize(("code", "end"), [(0, "completed"), (3, "failed")])
def test_it_exits_as_the_program_did_and_its_server_has_log_and_end(server: ApiServer, code: int, end: str) -> None:
    task = task_of(server)
    process = started(server, task, f"print('grün'); print('no end', end='', flush=True); raise SystemExit({code})")
    assert process.communicate(timeout=60)[0] == "grün\nno end".encode()
    assert (process.returncode, status(server, task), log(server, task)) == (code, end, "grün\nno end")


@pytest.mark.parametrize(("trap", "signum", "code"), [("", signal.SIGTERM, 143), ("", signal.SIGINT, 130),
                                                      ("signal.signal(15, lambda *_: sys.exit(0));", 15, 0)])
def test_a_container_that_is_stopped_has_no_failed_task(server: ApiServer, trap: str, signum: int, code: int) -> None:
    """As `docker stop` ends it, and Ctrl-C."""
    task = task_of(server)
    process = started(server, task, f"import signal, sys, time; signal.signal(2, signal.SIG_DFL); {trap}"
                                    "print('begun', flush=True); time.sleep(60)")
    assert process.stdout and process.stdout.readline() == b"begun\n"
    process.send_signal(signum)
    assert process.wait(30) == code
    found = call(server, "tasks.get_by_id", task=task)["task"]
    assert found["status"] == "stopped"
    assert found["status_reason"] == f"stopped from outside by {signal.Signals(signum).name}, exit code {code}"


def test_a_task_that_waits_in_a_queue_leaves_it(server: ApiServer) -> None:
    """Else it would run once more where the queue is pulled."""
    task = task_of(server)
    queue = call(server, "queues.create", name="images")["id"]
    call(server, "tasks.enqueue", task=task, queue=queue)
    assert started(server, task, "").wait(60) == 0
    assert call(server, "queues.get_by_id", queue=queue)["queue"]["entries"] == []
    assert status(server, task) == "completed"


@pytest.mark.parametrize("folder", [True, False])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      folder: bool) -> None:
    """A folder is what docker makes where a file that is to be mounted is missing."""
    path = tmp_path / "clearml.conf"
    path.mkdir() if folder else path.write_bytes(b"\xff")
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))
    assert f"{path} cannot be read" in image_start.find_server()[1]


def test_its_server_hears_of_a_program_that_prints_nothing(server: ApiServer, tmp_path: Path) -> None:
    """Else it would take the task for one that nobody runs."""
    text = Path(image_start.__file__).read_text()
    quick = tmp_path / "image_start.py"
    quick.write_text(text.replace("EVERY_S = 2.0", "EVERY_S = 0.1").replace("PING_S = 60.0", "PING_S = 0.2"))
    assert quick.read_text().count("_S = 0.") == 2
    task = task_of(server)
    process = subprocess.Popen([sys.executable, str(quick), "reuse_task", task, sys.executable, "-c",
                                "import sys; sys.stdin.read(); import time; time.sleep(2.5)"],
                               env={**os.environ, **server.environment}, stderr=subprocess.PIPE)
    seen = set()
    while process.poll() is None:
        seen.add(call(server, "tasks.get_by_id", task=task)["task"].get("last_update"))
        time.sleep(0.1)
    assert len(seen) > 3


def _cut(handler: Any) -> str:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True
    return "answered"


def _null(handler: Any) -> str:
    handler._plain(200, b'{"meta": {"result_code": 200}, "data": null}', "application/json")
    return "answered"


@pytest.mark.parametrize("odd", [_cut, _null])
def test_an_odd_answer_costs_the_program_nothing(server: ApiServer, odd: Any) -> None:
    """It is PID 1 of a container: the program would end with it."""
    task = task_of(server)
    server.failing = [200, 200, 200, odd, odd]  # a login, out of the queues, started
    process = started(server, task, "import time; time.sleep(3); print('done')")
    assert process.communicate(timeout=60)[0] == b"done\n"
    assert (process.returncode, server.failing, status(server, task)) == (0, [], "completed")


def test_a_program_that_closes_its_output_is_looked_at_in_rounds(server: ApiServer) -> None:
    task = task_of(server)
    process = started(server, task, "import os, time; os.closerange(0, 3); time.sleep(3)", stdout=subprocess.DEVNULL)
    assert process.wait(60) == 0
    assert server.asked().count("tasks.get_all") <= 3


def test_a_program_that_is_not_there_is_told_as_any_end(server: ApiServer) -> None:
    """Else its task would run on for its server."""
    task = task_of(server)
    process = subprocess.run([sys.executable, image_start.__file__, "reuse_task", task, "/nonexistent/program"],
                             env={**os.environ, **server.environment}, capture_output=True, text=True, timeout=60)
    assert (process.returncode, status(server, task)) == (127, "failed")
    assert process.stderr == "/nonexistent/program cannot be started: No such file or directory\n"


def test_a_clone_is_another_task(server: ApiServer) -> None:
    task = task_of(server)
    process = started(server, task, "import os; print(os.environ['CLEARML_TASK_ID'])", "clone_task")
    out, _ = process.communicate(timeout=60)
    clone = out.decode().strip()
    assert (status(server, task), status(server, clone)) == ("created", "completed") and clone != task


def test_an_end_that_somebody_else_has_told_leaves_the_exit_status(server: ApiServer) -> None:
    task = task_of(server)
    script = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\nraise SystemExit(4)"
    process = started(server, task, script, cwd=os.path.dirname(server.store.path))
    until = time.monotonic() + 20
    while status(server, task) != "in_progress":
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    call(server, "tasks.delete", task=task, force=True)
    Path(os.path.dirname(server.store.path), "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4 and f"the end of task {task} could not be told" in err.decode()
    assert "Traceback" not in err.decode()


def test_much_output_is_sent_in_parts_that_a_server_takes(server: ApiServer) -> None:
    task = task_of(server)
    process = started(server, task, "for number in range(4): print(f'{number:>1000000}')")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and log(server, task) == out.decode() and len(out) > 4_000_000
    sizes = [len(body[0]["msg"]) for _, path, _, body in server.requests if path.endswith("events.add_batch")]
    assert len(sizes) > 7 and max(sizes) <= image_start.PIECE * image_start.AT_ONCE


def test_a_program_whose_output_nobody_reads_goes_on(server: ApiServer) -> None:
    task = task_of(server)
    reader, writer = os.pipe()
    os.close(reader)
    process = started(server, task, "for _ in range(100_000): print('a line')", stdout=writer)
    os.close(writer)
    assert process.wait(timeout=60) == 0
    assert (status(server, task), log(server, task)) == ("completed", "a line\n" * 100_000)


def test_a_task_that_is_not_there_is_one_line(server: ApiServer) -> None:
    process = started(server, "0" * 32, "print('never')")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (69, b"") and err.startswith(b"task 0000") and err.count(b"\n") == 1


def test_a_users_stop_ends_the_program(server: ApiServer) -> None:
    task = task_of(server)
    process = started(server, task, "import time; print('on', flush=True); time.sleep(600)")
    assert process.stdout is not None and process.stdout.readline() == b"on\n"
    call(server, "tasks.stop", task=task)
    process.communicate(timeout=60)
    assert (process.returncode, status(server, task)) == (128 + signal.SIGTERM, "stopped")
