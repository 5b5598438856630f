"""agent-report over several tasks, and over what comes on its standard input."""

import gc
import json
import os
import tempfile
import threading

import psutil
import pytest
from api_server import KEY

from agentpipe import errors, manifest, paths, plain_lines, stages
from agentpipe.claim import attempt
from agentpipe.cmds import agent_report
from agentpipe.held import Held
from agentpipe.pull import queues
from agentpipe.report.reporter import Reporter
from agentpipe.run import ending
from agentpipe.transport import api, http_retry


@pytest.mark.parametrize(("error", "said"), [
    (errors.ApiError(400, 100, "no such thing"), "the server refused: no such thing"),
    (PermissionError(13, "Permission denied", "claim"), "Permission denied")])
def test_what_goes_wrong_with_one_task_keeps_no_other_from_being_reported(monkeypatch, capfd, error, said):
    def one(directory, _timeout):
        if directory == "first":
            raise error
        return {"directory": directory, "task": "t", "end": None, "acknowledged": True}

    monkeypatch.setattr(agent_report, "one", one)
    assert agent_report.each(["first", "second"], {"timeout": 1, "json": True}) == errors.SEVERAL_FAILED
    shown = capfd.readouterr()
    assert '"directory": "second"' in shown.out
    assert said in shown.err


def test_a_receipt_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "receipt").symlink_to("receipt")
    with pytest.raises(errors.Failure, match="receipt: Too many levels") as caught:
        agent_report.named(str(tmp_path / "receipt"))
    assert caught.value.exit == errors.NOT_FOUND


def test_a_folder_that_is_no_tasks_is_said(tmp_path):
    with pytest.raises(errors.Failure, match="is no directory of a task") as caught:
        agent_report.one(str(tmp_path), 1)
    assert caught.value.exit == errors.NOT_FOUND
    (tmp_path / "lock").touch()
    assert agent_report.one(str(tmp_path), 1)["acknowledged"]


def test_the_log_of_a_script_that_runs_unwatched_is_sent_without_the_secrets_of_its_task():
    store = api.connect("tester")
    asked = {"name": "a task", "type": "training", "script": {"entry_point": "a.sh"}, "hyperparams": {
        "Environment": {"API_TOKEN": {"section": "Environment", "name": "API_TOKEN", "value": "s3cr3t-of-the-task"}}}}
    task = store.call("tasks.create", asked)["id"]
    store.call("tasks.enqueue", {"task": task, "queue": store.call("queues.get_default")["id"]})
    claim, line = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    attempt.store_manifest(claim.directory, manifest.write(line))
    claim.release()
    with open(os.path.join(claim.directory, "log"), "w") as log:
        log.write("token s3cr3t-of-the-task\n")
    agent_report.one(claim.directory, 5)
    events = store.call("events.get_task_log", {"task": task})["events"]
    assert [event["msg"] for event in events if event["stream"] == "log"] == ["token [REDACTED]\n"]


@pytest.fixture
def task(transport):
    store = api.connect("tester")
    found = store.call("tasks.create", {"name": "a task", "type": "training", "script": {"entry_point": "a.sh"}})["id"]
    store.call("tasks.enqueue", {"task": found, "queue": store.call("queues.get_default")["id"]})
    return found


def connections():
    """How many this process has to its server (which these tests have in the same process), or to the store's file."""
    port = int(os.environ.get("CLEARML_API_HOST", ":0").rpartition(":")[2])
    files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if os.path.islink(f"/proc/self/fd/{fd}")]
    return len([one for one in psutil.Process().net_connections() if one.raddr and one.raddr.port == port]) \
        + len([file for file in files if file == paths.state("agent.db")])


def test_the_connection_of_one_task_is_no_more_when_the_next_one_has_its_turn(task):
    store = api.connect("tester")
    claim, line = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    attempt.store_manifest(claim.directory, manifest.write(line))
    claim.release()
    gc.disable()  # what nobody closes stays
    try:
        agent_report.one(claim.directory, 5)
        before = connections()
        for _ in range(3):
            agent_report.one(claim.directory, 5)
        assert connections() == before
    finally:
        gc.enable()


def test_the_connections_of_one_line_are_no_more_when_the_next_one_has_its_turn(task, capfd, monkeypatch):
    told, report = threading.Event(), Reporter._report
    monkeypatch.setattr(Reporter, "_report", lambda *words, **more: (report(*words, **more), told.set()))

    def steps(held):
        assert told.wait(10)  # its reporter has a connection too
        told.clear()

    store = api.connect("tester")
    claim, line = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    claim.hand("pull", None)
    claim.release()
    gc.disable()
    try:
        stages.each("fetch", steps, manifest.write(line), {})
        before = connections()
        for _ in range(3):
            stages.each("fetch", steps, capfd.readouterr().out.encode(), {})
        assert connections() == before
    finally:
        gc.enable()


@pytest.fixture
def standard_input(monkeypatch):
    """Gives standard input to read from what a test writes."""
    kept = os.dup(0)

    def give(data):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            os.dup2(file.fileno(), 0)
    yield give
    os.dup2(kept, 0)
    os.close(kept)


@pytest.mark.parametrize(("rest", "said"), [
    (b"x" * (200 << 10), "has a line of more than"), (b'{"type":' * 9000, "line 2: not JSON")])
def test_a_line_without_end_ends_it_and_those_before_it_are_sent(standard_input, monkeypatch, rest, said):
    monkeypatch.setattr(plain_lines, "LONGEST", 100 << 10)
    store = api.connect()
    task = store.call("tasks.create", {"name": "a task", "type": "training"})["id"]
    standard_input(json.dumps({"type": "log", "msg": "good"}).encode() + b"\n" + rest)
    with pytest.raises(errors.Failure, match=said) as caught:
        agent_report.send_events({"task": task[:8], "json": False})
    assert caught.value.exit == errors.BAD_DATA
    assert [event["msg"] for event in store.call("events.get_task_log", {"task": task})["events"]] == ["good"]


def test_what_holds_no_receipt_ends_it(standard_input, monkeypatch):
    monkeypatch.setattr(plain_lines, "LONGEST", 100 << 10)
    for data, said in ((b"\0" * 99, "standard input holds no text: a receipt is one JSON object a line"),
                       (b"x" * (200 << 10), "has a line of more than")):
        standard_input(data)
        with pytest.raises(errors.Failure, match=said):
            agent_report.named("-")


@pytest.mark.parametrize("transport", ["agent-server"], indirect=True)
def test_a_server_that_is_away_is_waited_for_as_long_as_was_said(task, transport, monkeypatch):
    store = api.connect("tester")
    claim, line = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    attempt.store_manifest(claim.directory, manifest.write(line))
    claim.release()
    pauses = []

    def back_off(pause, away):
        pauses.append(pause)
        assert sum(pauses) < 5, "it waits for longer than a second"
        return 2 * pause

    monkeypatch.setattr(http_retry, "back_off", back_off)
    transport.failing = [503] * 1000
    with pytest.raises(errors.Failure, match="maintained"):
        agent_report.one(claim.directory, 1.0)
    assert pauses


@pytest.mark.parametrize("transport", ["agent-server"], indirect=True)
def test_what_keeps_an_end_from_being_recorded_is_said(task, transport, capfd, monkeypatch):
    store = api.connect("tester")
    claim, line = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    attempt.store_manifest(claim.directory, manifest.write(line))
    attempt.decide(claim.directory, "completed")
    held = Held(line, "run", api=store, claim=claim)
    transport.tokens.clear()
    monkeypatch.setattr(transport, "login", refuse)
    monkeypatch.setattr(ending, "PATIENCE_S", 0.1)
    assert not ending._tell_server(held)
    said = f"does not accept the key {KEY}: revoked"
    assert f"{said}; the next agent-pull or agent-report sends the rest" in capfd.readouterr().err
    held.release()
    with pytest.raises(errors.Failure, match=f"the end of task {task} is not recorded yet: .*{said}") as caught:
        agent_report.one(claim.directory, 0.1)
    assert caught.value.exit == errors.NO_PERMISSION


def refuse(*_):
    raise errors.ApiError(401, 22, "revoked")


@pytest.mark.parametrize("words", [["worker"], ["worker", ""], ["worker", "a", "b"]])
def test_a_worker_has_one_name(words):
    with pytest.raises(errors.Failure, match="a worker needs one name") as caught:
        agent_report.report({"what": words, "where": False, "all": False, "gone": True, "timeout": 1.0})
    assert caught.value.exit == errors.USAGE
