"""agent-task says what went wrong in one line, also when nobody foresaw it."""

import pytest

from agentpipe import errors, task_commands, task_view, why
from agentpipe.cmds import agent_task


def test_a_bug_is_one_line_and_70(monkeypatch, capfd):
    monkeypatch.setattr(task_commands, "listing", lambda *_: {}["gone"])
    assert agent_task.GROUP.run(["list"]) == errors.BUG
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ("agent-task: a bug of ours: KeyError: 'gone' "
                           "(set AGENT_DEBUG=1, and report what it prints)\n")


def test_its_traceback_can_be_had(monkeypatch):
    monkeypatch.setenv("AGENT_DEBUG", "1")
    monkeypatch.setattr(task_commands, "listing", lambda *_: {}["gone"])
    with pytest.raises(KeyError):
        agent_task.GROUP.run(["list"])


def test_a_failed_set_up_without_a_remedy_leads_to_its_log_and_not_back_to_why():
    end = {"class": "setup_failed", "stage": "env", "exit": 70, "reason": "a bug of ours"}
    task = {"id": "1f3c", "status": "failed", "runtime": {task_view.END_KEY: end}}
    assert why.why(None, task)["remedy"] == "agent-task log 1f3c"
