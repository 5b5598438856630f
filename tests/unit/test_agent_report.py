"""agent-report over several tasks."""

import os

import pytest

from agentpipe import errors, manifest
from agentpipe.claim import attempt
from agentpipe.cmds import agent_report
from agentpipe.pull import queues
from agentpipe.transport import api


def test_an_answer_that_refuses_one_task_keeps_no_other_from_being_reported(monkeypatch, capfd):
    def one(directory, _timeout):
        if directory == "first":
            raise errors.ApiError(400, 100, "no such thing")
        return {"directory": directory, "task": "t", "end": None, "acknowledged": True}

    monkeypatch.setattr(agent_report, "one", one)
    assert agent_report.each(["first", "second"], {"timeout": 1, "json": True}) == errors.SEVERAL_FAILED
    shown = capfd.readouterr()
    assert '"directory": "second"' in shown.out
    assert "the server refused: no such thing" in shown.err


def test_a_receipt_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "receipt").symlink_to("receipt")
    with pytest.raises(errors.Failure, match="receipt: Too many levels") as caught:
        agent_report.text_of(str(tmp_path / "receipt"))
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
