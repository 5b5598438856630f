"""The thread: a worker is seen, a printed line arrives at once, a stop is noticed, and no outage ends it."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import api_server
import pytest
from api_server import ApiServer
from reporting import WORKER, Foreign, Running, Unreliable

from agentpipe import errors, files, paths
from agentpipe.claim import claims
from agentpipe.report import outages
from agentpipe.report.abort import RESETS, Abort, Judge
from agentpipe.report.finish import finish
from agentpipe.report.reporter import Reporter
from agentpipe.transport import api as apis


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    return Running(tmp_path)


class Watching:
    """A reporter at work, and the aborts that it has told."""

    def __init__(self, task: Running, api: Any = None) -> None:
        self.task = task
        self.aborts: queue.Queue[Abort] = queue.Queue()
        self.reporter = Reporter(api or task.api, WORKER, [task.queue])
        self.reporter.start()
        self.reporter.watch(task.id, str(task.directory), task.claim, self.aborts.put, queue=task.queue)

    def abort(self) -> Abort:
        return self.aborts.get(timeout=10)


@pytest.fixture
def watching(task: Running) -> Iterator[Watching]:
    watching = Watching(task)
    yield watching
    watching.reporter.stop()


def wait_for(seen: Callable[[], Any], seconds: float = 10) -> Any:
    until = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
    return found


def worker_of(task: Running) -> dict[str, Any] | None:
    return next(iter(task.call("workers.get_all")["workers"]), None)


def test_an_idle_worker_is_registered_with_its_queues(task: Running) -> None:
    reporter = Reporter(task.api, WORKER, [task.queue])
    reporter.start()
    worker = wait_for(lambda: worker_of(task))
    assert (worker["id"], [found["id"] for found in worker["queues"]]) == (WORKER, [task.queue])
    assert "task" not in worker
    reporter.stop(unregister=True)
    assert worker_of(task) is None


def test_a_worker_shows_its_task_at_once(task: Running, watching: Watching) -> None:
    worker = wait_for(lambda: (worker_of(task) or {}).get("task") and worker_of(task))
    assert (worker["task"]["id"], worker["queue"]["id"]) == (task.id, task.queue)
    assert task.task["last_worker"] == WORKER


def test_a_printed_line_does_not_wait_for_the_next_report(task: Running, watching: Watching) -> None:
    wait_for(lambda: worker_of(task))
    took = []
    for number in range(5):
        printed = time.monotonic()
        task.prints(b"line %d\n" % number)
        wait_for(lambda number=number: f"line {number}\n" in task.log())  # type: ignore[misc]
        took.append(time.monotonic() - printed)
    assert min(took) <= 0.5, took  # however busy the machine is, not each time


def test_many_lines_arrive_whole_and_in_their_order(task: Running, watching: Watching) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(100_000))
    task.prints(lines)
    wait_for(lambda: len(task.log()) >= len(lines))
    assert task.log().encode() == lines


@pytest.mark.parametrize("place", [".", "box"])
def test_that_the_script_has_started_is_on_the_disk_soon(task: Running, monkeypatch: pytest.MonkeyPatch,
                                                         place: str) -> None:
    (task.directory / place).mkdir(exist_ok=True)  # a container's word stands in its box
    synced: list[str] = []
    sync = files.sync_directory
    monkeypatch.setattr(files, "sync_directory", lambda path: (synced.append(path), sync(path)))
    watching = Watching(task)
    task.prints(b"set up\n", "setup.log")
    wait_for(lambda: task.log("setup"))
    assert not synced
    (task.directory / place / "pid").symlink_to("1 2 boot")
    expected = [str(task.directory), str(task.directory.parent), claims.active()]
    expected[:0] = [str(task.directory / place)] if place == "box" else []
    wait_for(lambda: len(synced) >= len(expected))
    task.prints(b"line\n", f"{place}/log")
    wait_for(task.log)
    watching.reporter.stop()
    assert synced == expected


def test_a_users_stop_is_told(task: Running, watching: Watching) -> None:
    wait_for(lambda: task.task.get("last_worker"))
    task.call("tasks.stop", task=task.id)
    abort = watching.abort()
    assert (abort.kind, abort.leaves_status, abort.callback_timeout_s) == ("stopping", False, None)


def test_the_callback_of_the_sdk_has_its_time(task: Running, watching: Watching) -> None:
    wait_for(lambda: task.task.get("last_worker"))
    task.call("tasks.edit_runtime", task=task.id, add_or_update={"_abort_callback_timeout": 42})
    task.call("tasks.stop", task=task.id)
    assert watching.abort().callback_timeout_s == 42


@pytest.mark.parametrize(("endpoint", "kind"), [
    ("tasks.stopped", "changed"), ("tasks.failed", "changed"), ("tasks.reset", "changed"),
])
def test_another_status_is_told(task: Running, watching: Watching, endpoint: str, kind: str) -> None:
    wait_for(lambda: task.task.get("last_worker"))
    task.call(endpoint, task=task.id, force=True)
    abort = watching.abort()
    assert (abort.kind, abort.leaves_status) == (kind, True)


def test_another_claim_is_told(task: Running, watching: Watching) -> None:
    task.call("tasks.edit_runtime", task=task.id, add_or_update={"_agentpipe_claim": "another"})
    assert watching.abort().kind == "taken"


def test_metrics_of_machine_and_script_are_scalars(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.duties.FIRST_METRICS_S", 0.0)
    reporter = Reporter(task.api, WORKER, [task.queue])
    reporter.start()
    reporter.watch(task.id, str(task.directory), task.claim, print, pids=lambda: [os.getpid()])
    found = wait_for(lambda: task.call("events.scalar_metrics_iter_histogram", task=task.id))
    reporter.stop()
    variants = found[":monitor:machine"]
    assert {"cpu_usage", "memory_used_gb", "disk_free_percent", "network_rx_mbs", "task_memory_gb"} <= set(variants)
    assert 0 < variants["task_memory_gb"]["y"][0] < 10
    assert task.task["last_iteration"] == 0


def test_a_script_that_reports_its_machine_itself_is_not_reported_twice(task: Running,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.duties.FIRST_METRICS_S", 0.0)
    monkeypatch.setattr("agentpipe.report.duties.METRICS_S", 0.05)
    task.call("tasks.edit_runtime", task=task.id, add_or_update={"CLEARML VERSION": "clearml-2.1.12"})
    (task.directory / "pid").symlink_to("1 2 boot")
    looked = []
    monkeypatch.setattr("agentpipe.claim.runtime.read", lambda api, id: looked.append(id) or task.task["runtime"])
    reporter = Reporter(task.api, WORKER, [task.queue])
    reporter.start()
    reporter.watch(task.id, str(task.directory), task.claim, print, pids=lambda: [os.getpid()])
    wait_for(lambda: looked)
    time.sleep(0.3)
    reporter.stop()
    assert looked == [task.id] and task.call("events.scalar_metrics_iter_histogram", task=task.id) == {}


def test_no_line_is_lost_in_an_outage_and_the_log_tells_of_it(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.reporter.BACK_OFF_S", (0.05, 0.1))
    api = Unreliable(task.api)
    api.away = 5
    watching = Watching(task, api)
    lines = ""
    for number in range(50):
        task.prints(b"line %d\n" % number)
        lines += f"line {number}\n"
        api.lost = number % 2
    wait_for(lambda: len(task.log()) >= len(lines) and "is back" in task.log("setup"))
    watching.reporter.stop()
    assert task.log() == lines
    outage = task.log("setup").splitlines()
    assert outage[0].startswith("the server is away (connection refused)")
    assert outage[1].startswith("the server is back after")


def test_a_bug_in_a_duty_does_not_end_the_reporting(task: Running, monkeypatch: pytest.MonkeyPatch,
                                                   capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("agentpipe.report.duties.Watched._poll", lambda *_: 1 / 0)
    watching = Watching(task)
    task.prints(b"line\n")
    wait_for(lambda: task.log() and "ZeroDivisionError" in capfd.readouterr().err)
    watching.reporter.stop()


def test_the_next_process_goes_on_where_this_one_stopped(task: Running) -> None:
    printed = ""
    for line in ("one\n", "two\n", "three\n"):
        task.prints(line.encode())
        printed += line
        watching = Watching(task)
        wait_for(lambda whole=printed: len(task.log()) >= len(whole))  # type: ignore[misc]
        watching.reporter.stop()
    assert task.log() == printed


def test_a_refused_registration_does_not_end_the_reporting(task: Running) -> None:
    reporter = Reporter(task.api, WORKER, ["no-such-queue"])
    reporter.start()
    reporter.watch(task.id, str(task.directory), task.claim, print)
    wait_for(lambda: task.task.get("last_worker"))
    reporter.stop()


def said(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "runtime": {"_agentpipe_claim": "ours"}, **more}


@pytest.mark.parametrize("answer", [
    said("in_progress"), said("queued"), said("completed"), said("unknown"),
    {"status": "in_progress", "runtime": {}}, said("stopped_soon"),
])
def test_what_leaves_a_task_running(answer: dict[str, Any]) -> None:
    assert Judge("ours").verdict(answer) is None


def test_a_running_task_that_is_queued_again_has_to_end() -> None:
    judge = Judge("ours")
    judge.verdict(said("in_progress"))
    assert judge.verdict(said("queued")).kind == "changed"  # type: ignore[union-attr]


def test_a_reset_counts_when_it_stays() -> None:
    judge = Judge("ours")
    answers = [judge.verdict({"status": "created", "runtime": {}}) for _ in range(RESETS)]
    assert [answer is not None for answer in answers] == [False] * (RESETS - 1) + [True]


def test_a_deleted_task_has_to_end() -> None:
    assert Judge("ours").verdict(None).kind == "deleted"  # type: ignore[union-attr]


def test_an_outage_of_another_kind_is_one_too() -> None:
    from agentpipe.report.shipping import is_outage
    assert is_outage(errors.ApiError(503, 0, "maintenance"))
    assert not is_outage(errors.ApiError(400, 131, "events not added"))


def test_a_worker_at_work_has_its_tags(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_WORKER_TAGS", "fast, a100")
    watching = Watching(task)
    wait_for(lambda: sorted((worker_of(task) or {}).get("tags") or []) == ["a100", "fast"])
    watching.reporter.stop()


def test_a_running_plain_script_has_its_machine_in_runtime_and_what_a_script_tells_stays(
        task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.duties.FIRST_METRICS_S", 0.0)
    (task.directory / "pid").symlink_to("1 2 boot")
    watching = Watching(task)
    wait_for(lambda: task.task["runtime"].get("hostname"))
    assert task.task["runtime"]["_agentpipe_claim"] == task.claim
    watching.reporter.stop()
    task.call("tasks.edit_runtime", task=task.id, add_or_update={
        "hostname": "its own", "CLEARML VERSION": "clearml-2.1.12"})
    watching = Watching(task)
    wait_for(lambda: task.call("events.scalar_metrics_iter_histogram", task=task.id))
    watching.reporter.stop()
    assert task.task["runtime"]["hostname"] == "its own"


@pytest.mark.parametrize(("ping", "pings"), [("0.2", True), ("0", False)])
def test_status_and_ping_keep_the_rhythm_that_is_asked_for(task: Running, monkeypatch: pytest.MonkeyPatch, ping: str,
                                                           pings: bool) -> None:
    monkeypatch.setattr("agentpipe.report.reporter.FIRST_REPORT_S", 0.0)
    monkeypatch.setenv("CLEARML_AGENT_STATUS_REPORT_FREQ_SEC", "0.2")
    monkeypatch.setenv("CLEARML_AGENT__AGENT__TASK_PING_INTERVAL_SEC", ping)
    api = Unreliable(task.api)
    watching = Watching(task, api)
    wait_for(lambda: api.calls.count("workers.status_report") >= 5)
    watching.reporter.stop()
    assert (api.calls.count("tasks.ping") >= 2) == pings


def test_a_status_every_0_s_is_no_loop_without_a_pause(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.reporter.FIRST_REPORT_S", 0.0)
    monkeypatch.setenv("CLEARML_AGENT_STATUS_REPORT_FREQ_SEC", "0")
    api, begun = Unreliable(task.api), time.monotonic()
    watching = Watching(task, api)
    wait_for(lambda: api.calls.count("workers.status_report") >= 5)
    assert time.monotonic() - begun > 0.3
    watching.reporter.stop()


@pytest.fixture
def afar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """agent-server as the task's reporter sees it: over HTTP."""
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    monkeypatch.setattr("agentpipe.report.duties.FIRST_POLL_S", 0.1)
    with ApiServer(paths.state("agent.db")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_agent_server_tells_a_users_stop_at_once_and_is_asked_seldom(tmp_path: Path, afar: ApiServer,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.duties.LOOKED_OUT_S", 3600.0)  # no poll tells it
    task = Running(tmp_path)
    watching = Watching(task, apis.connect(WORKER))
    poller = watching.reporter._watched._poller
    wait_for(lambda: "tasks.wait" in afar.asked() and poller.every == 3600 and poller.at > time.monotonic() + 60)
    with watching.reporter._working:  # the poll under way has asked
        polls = afar.asked().count("tasks.get_all")
    task.call("tasks.stop", task=task.id)
    assert watching.abort().kind == "stopping"
    assert afar.asked().count("tasks.get_all") == polls + 1  # what was changed
    watching.reporter.stop()


def test_a_server_that_cannot_wait_is_asked_again_and_again(tmp_path: Path, afar: ApiServer,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.duties.STATUS_POLL_S", 0.2)
    answer = afar.answer
    monkeypatch.setattr(afar, "answer", lambda endpoint, *rest: _unknown(endpoint, answer, *rest))
    task = Running(tmp_path)
    watching = Watching(task, apis.connect(WORKER))
    wait_for(lambda: afar.asked().count("tasks.get_all") > 3)
    assert afar.asked().count("tasks.wait") == 1
    task.call("tasks.stop", task=task.id)
    assert watching.abort().kind == "stopping"
    watching.reporter.stop()


def test_keys_that_are_refused_are_said_at_once_and_new_ones_go_on(
        tmp_path: Path, afar: ApiServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("agentpipe.report.reporter.BACK_OFF_S", (0.05, 0.1))
    task = Running(tmp_path)
    watching = Watching(task, apis.connect(WORKER))
    task.prints(b"one\n")
    wait_for(lambda: task.log() == "one\n")
    good = api_server.SECRET
    monkeypatch.setattr(api_server, "SECRET", "renewed")
    afar.tokens.clear()
    task.prints(b"two\n")
    wait_for(lambda: outages.present(str(task.directory))[1])
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"agent-report: task {task.id} goes on, but {afar.url} does not accept the key TESTKEY: ")
    monkeypatch.setattr(api_server, "SECRET", good)
    wait_for(lambda: task.log() == "one\ntwo\n" and "is back" in task.log("setup"))
    watching.reporter.stop()
    assert "accepts the keys again" in capfd.readouterr().err
    assert outages.present(str(task.directory)) == ("", False)


def _unknown(endpoint: str, answer: Any, *rest: Any) -> Any:
    if endpoint == "tasks.wait":
        raise errors.ApiError(404, 0, "Unable to find endpoint for name tasks.wait")
    return answer(endpoint, *rest)


def test_the_end_goes_on_where_the_reporter_stopped_without_asking_where(task: Running) -> None:
    network = Unreliable(task.api)
    task.prints(b"first\n")
    watching = Watching(task, network)
    wait_for(lambda: task.log() == "first\n")
    shipper = watching.reporter.stop()
    task.prints(b"last, without an end")
    task.ends("completed")
    finish(network, str(task.directory), shipper=shipper)
    assert task.log() == "first\nlast, without an end"
    assert network.calls.count("events.get_log_position") == 1


def test_a_server_that_knows_no_claims_is_not_asked_for_a_position(task: Running) -> None:
    network = Foreign(task.api)
    task.prints(b"all of it\n")
    task.ends("completed")
    finish(network, str(task.directory))
    assert task.log() == "all of it\n"
    assert "events.get_log_position" not in network.calls


def test_a_thread_that_a_slow_server_has_held_up_sends_nothing_beside_whoever_sends_the_rest(
        task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentpipe.report.reporter.SETTLES_S", 0.1)
    monkeypatch.setattr("agentpipe.report.shipping.BATCH", 200)
    monkeypatch.setattr("agentpipe.report.shipping.EVENT", 200)
    monkeypatch.setattr("agentpipe.report.shipping.READ_BACK_S", 0.0)
    slow, answers = threading.Event(), threading.Event()

    class Slow(Foreign):
        def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
            answer = super().call(endpoint, body)
            if endpoint == "events.add_batch" and threading.current_thread().name == "report" and not slow.is_set():
                slow.set()
                assert answers.wait(10)
            return answer

    network = Slow(task.api)
    lines = "".join(f"line {number} {'x' * 100}\n" for number in range(50))
    task.prints(lines.encode())
    watching = Watching(task, network)
    assert slow.wait(10)
    assert watching.reporter.stop() is None
    answers.set()
    watching.reporter._thread.join(10)  # type: ignore[union-attr]
    assert network.calls.count("events.add_batch") == 1
    task.ends("completed")
    finish(network, str(task.directory))
    assert task.log() == lines
