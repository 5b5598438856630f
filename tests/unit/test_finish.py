"""However a task ends, the server knows why, with the right status and the whole log."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from reporting import WORKER, Foreign, Running, Unreliable

from agentpipe import errors, signals
from agentpipe.claim import claims
from agentpipe.pull import recovery
from agentpipe.report import rest
from agentpipe.report.finish import finish


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    return Running(tmp_path)


@pytest.mark.parametrize(("end", "exit", "status", "reason"), [
    ("completed", 0, "completed", "worker execution done"),
    ("script_failed", 3, "failed", "worker execution exit code 3"),
    ("out_of_memory", 137, "failed", "the kernel or the container's limit killed it"),
    ("time_limit", 124, "failed", "it ran longer than allowed"),
    ("lost", 125, "failed", "the process is gone and left no status: power, reboot, or killed from outside"),
    ("aborted", 130, "stopped", "a user stopped it"),
])
def test_each_end_has_its_status(task: Running, end: str, exit: int, status: str, reason: str) -> None:
    task.prints(b"last words")
    task.ends(end, exit)
    finish(task.api, str(task.directory))
    found = task.task
    assert (found["status"], found["status_reason"]) == (status, reason)
    assert found["status_message"] == f"Changed by agentpipe {WORKER}"
    assert task.log() == "last words"


@pytest.mark.parametrize("end", ["drained", "preempted"])
def test_what_the_operator_stopped_waits_at_the_front_again(task: Running, end: str) -> None:
    other = task.call("tasks.create", name="other", type="training")["id"]
    task.call("tasks.enqueue", task=other, queue=task.queue)
    task.ends(end, 75)
    finish(task.api, str(task.directory))
    assert task.task["status"] == "queued"
    assert task.call("queues.get_next_task", queue=task.queue)["entry"]["task"] == task.id


def test_the_record_says_why(task: Running) -> None:
    failed = {"stage": "env", "class": "setup_failed", "exit": 66, "reason": "no such package: nope==1",
              "evidence": "x" * 20_000, "remedy": "fix the requirement"}
    task.ends("setup_failed", failed=failed)
    finish(task.api, str(task.directory))
    record = task.task["runtime"]["_agentpipe_end"]
    assert len(record.pop("evidence")) == 8192
    record.pop("stages", None)
    assert record == {"claim": task.claim, "class": "setup_failed", "exit": 66, "stage": "env",
                      "reason": "no such package: nope==1", "remedy": None, "advice": "fix the requirement"}
    assert task.task["status_reason"] == "no such package: nope==1"


@pytest.mark.parametrize("end", ["time_limit", "drained"])
@pytest.mark.parametrize(("prefix", "named"), [([], "$AGENT_LAST_ATTEMPT"), (["docker", "exec", "1"], "--docker-args")])
def test_where_a_script_has_saved_is_named_by_what_it_finds_there(task: Running, end: str, prefix: list[str],
                                                                  named: str) -> None:
    """In a container AGENT_LAST_ATTEMPT is not set."""
    task.ends(end, 124, place={"kind": "x", "prefix": prefix})
    finish(task.api, str(task.directory))
    advice = task.task["runtime"]["_agentpipe_end"]["advice"]
    assert named in advice and ("$AGENT_LAST_ATTEMPT" in advice) is (not prefix)


def test_a_failed_script_is_explained_by_its_last_lines(task: Running) -> None:
    task.prints(b"\r 10%\r 20%\nTraceback\nValueError: 7\n")
    task.ends("script_failed", 1)
    finish(task.api, str(task.directory))
    record = task.task["runtime"]["_agentpipe_end"]
    assert record["evidence"] == " 20%\nTraceback\nValueError: 7"
    assert record["remedy"] == f"agent-task log {task.id}"


def test_secrets_are_not_in_the_evidence(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    task.prints(b"401 for hf_very_secret\n")
    task.ends("script_failed", 1)
    finish(task.api, str(task.directory))
    assert task.task["runtime"]["_agentpipe_end"]["evidence"] == "401 for [REDACTED]"


def test_nor_in_what_else_is_told_of_a_failed_set_up(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_TOKEN", "supersecretvalue")
    task.ends("setup_failed", failed={"stage": "fetch", "class": "setup_failed", "exit": 77,
                                      "reason": "refused: supersecretvalue", "remedy": "login with supersecretvalue"})
    finish(task.api, str(task.directory))
    record = task.task["runtime"]["_agentpipe_end"]
    assert (record["reason"], record["advice"]) == ("refused: [REDACTED]", "login with [REDACTED]")
    assert task.task["status_reason"] == "refused: [REDACTED]"


def test_other_keys_of_runtime_stay(task: Running) -> None:
    task.call("tasks.edit_runtime", task=task.id, add_or_update={"gpu_type": "H100"})
    task.ends("completed")
    finish(task.api, str(task.directory))
    assert task.task["runtime"]["gpu_type"] == "H100"


def test_a_server_without_claims_is_told_as_well(task: Running) -> None:
    api = Foreign(task.api)
    task.call("tasks.edit_runtime", task=task.id, add_or_update={"gpu_type": "H100"})
    task.prints(b"one\n")
    task.ends("script_failed", 2)
    finish(api, str(task.directory))
    assert task.task["status"] == "failed"
    assert task.task["runtime"]["_agentpipe_end"]["exit"] == 2
    assert task.task["runtime"]["gpu_type"] == "H100"
    assert task.log() == "one\n"


def claimed_by_another(task: Running) -> None:
    task.call("tasks.edit_runtime", task=task.id, add_or_update={"_agentpipe_claim": "another"})


def deleted(task: Running) -> None:
    with task.api.store.connection() as db:
        db.execute("DELETE FROM tasks WHERE id=?", (task.id,))


def reset(task: Running) -> None:
    task.call("tasks.reset", task=task.id, force=True)


@pytest.mark.parametrize("change", [claimed_by_another, deleted, reset])
def test_what_is_not_ours_any_more_is_left_alone(task: Running, change: Any) -> None:
    change(task)
    before = task.call("tasks.get_all", id=[task.id])["tasks"]
    task.prints(b"zombie\n")
    task.ends("completed")
    finish(task.api, str(task.directory))
    assert task.call("tasks.get_all", id=[task.id])["tasks"] == before


@pytest.mark.parametrize("status", ["stopped", "failed", "completed"])
def test_a_status_that_somebody_else_gave_stays_and_the_log_is_whole(task: Running, status: str) -> None:
    task.call(f"tasks.{status}", task=task.id, status_reason="by hand")
    task.prints(b"last words\n")
    task.ends("script_failed", 1)
    finish(task.api, str(task.directory))
    assert (task.task["status"], task.task["status_reason"]) == (status, "by hand")
    assert task.log() == "last words\n"


def test_one_that_was_enqueued_again_after_our_crash_is_not_failed_a_second_time(task: Running) -> None:
    task.ends("script_failed", 1)
    finish(task.api, str(task.directory))
    (task.directory / "reported").unlink()
    task.call("tasks.enqueue", task=task.id, queue=task.queue)
    finish(task.api, str(task.directory))
    assert task.task["status"] == "queued"


def test_a_task_that_never_started_can_be_lost(task: Running) -> None:
    task.call("tasks.enqueue", task=task.id, queue=task.queue, force=True, claim=task.claim)
    task.call("queues.get_next_task", queue=task.queue, claim=task.claim)
    task.ends("lost", 125)
    finish(task.api, str(task.directory))
    assert task.task["status"] == "failed"


def test_an_outage_is_waited_out(task: Running) -> None:
    api = Unreliable(task.api)
    api.away = 3
    task.prints(b"line\n")
    task.ends("completed")
    finish(api, str(task.directory))
    assert task.task["status"] == "completed"


def test_an_outage_beyond_the_deadline_leaves_the_rest_for_recovery(task: Running) -> None:
    api = Unreliable(task.api)
    api.away = 1_000_000
    task.ends("completed")
    with pytest.raises(errors.Failure, match="connection refused"):
        finish(api, str(task.directory), deadline_s=0.5)
    assert task.task["status"] == "in_progress"
    finish(task.api, str(task.directory))
    assert task.task["status"] == "completed"


class Slow(Unreliable):
    """It takes the log, and `then()` happens at every batch."""

    then: Any = staticmethod(lambda: None)

    def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
        if endpoint == "events.add_batch":
            self.then()
        return super().call(endpoint, body)


LONG = b"a line of a long log\n" * 2_000_000


def test_a_server_that_is_away_now_and_then_while_a_long_log_is_sent_is_waited_for_each_time(task: Running) -> None:
    """The patience is for one outage, and not for how long the log is."""
    task.prints(LONG)
    task.ends("completed")
    api, calls = Slow(task.api), []

    def then() -> None:
        calls.append(time.monotonic())
        if len(calls) % 4 == 0:
            raise errors.ApiError(503, 0, "away for a moment")
        time.sleep(0.2)

    api.then = then
    began = time.monotonic()
    finish(api, str(task.directory), deadline_s=0.5)
    assert time.monotonic() - began > 1.5, "or this shows nothing"
    assert (task.log().encode() == LONG, task.task["status"]) == (True, "completed")


@pytest.mark.parametrize("by", ["us", "somebody else"])  # who tells its end
def test_recovery_heeds_a_signal_within_a_long_log_and_the_next_one_sends_the_rest(
        task: Running, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    task.prints(LONG)
    if by == "us":
        task.ends("completed")
    else:
        (task.directory / "exit.0").touch()
        task.call("tasks.failed", task=task.id)
    before_it = task.task["status"]
    (task.directory / "claim").write_text(json.dumps({"token": task.claim, "state": "held", "worker": WORKER,
                                                      "server": task.api.server_id}))
    os.symlink(task.directory, claims.active(task.claim))
    api = Slow(task.api)
    api.then = lambda: os.kill(os.getpid(), signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, signals.SIGNALS._arrived)
    try:
        with pytest.raises(errors.Interrupted):
            recovery.recover(api)
    finally:
        signal.signal(signal.SIGTERM, before)
        signals.SIGNALS.forget()
    assert len(task.log()) < len(LONG)
    assert task.task["status"] == before_it
    assert recovery.recover(task.api) is None
    assert (task.log().encode() == LONG, task.task["status"]) == (True, "completed" if by == "us" else "failed")
    assert os.listdir(claims.active()) == []


@pytest.mark.parametrize(("ending", "sent"), [("tasks.failed", "last words"), ("tasks.reset", "")])
def test_a_followers_last_words_are_sent_when_its_task_has_ended_and_not_to_a_task_that_was_reset(
        task: Running, ending: str, sent: str) -> None:
    task.prints(b"last words")
    (task.directory / "exit.1").touch()
    task.store_manifest(pull={"server": task.api.server_id, "claim": os.urandom(16).hex(), "follows": True, "rank": 1})
    task.call(ending, task=task.id, force=True)
    rest.ship(task.api, str(task.directory))
    assert task.log() == sent


def test_evidence_is_what_was_written(task: Running) -> None:
    task.prints(b"cloning\n", "setup.log")
    task.prints(b"")
    os.truncate(task.directory / "log", 1 << 30)
    task.ends("script_failed", 3)
    finish(task.api, str(task.directory))
    assert task.task["runtime"]["_agentpipe_end"]["evidence"] == "cloning"


def test_a_task_that_runs_cannot_be_finished(task: Running) -> None:
    with pytest.raises(errors.Failure, match="has not ended"):
        finish(task.api, str(task.directory))


def test_a_task_by_hand_has_nobody_to_be_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"manifest": 1, "task": {"id": "local-1"}}\n')
    os.symlink("completed", tmp_path / "outcome")
    finish(None, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "outcome"]


def test_a_lost_manifest_does_not_leave_the_task_running_for_ever(task: Running) -> None:
    task.ends("lost", 125)
    (task.directory / "manifest.json").unlink()
    (task.directory / "claim").write_text(f'{{"token": "{task.claim}", "state": "held"}}')
    finish(task.api, str(task.directory))
    assert task.task["status"] == "failed"


@pytest.mark.parametrize("point", ["report:shipped", "report:recorded", "report:status"])
def test_a_kill_at_any_point_and_once_more_is_right(task: Running, point: str, tmp_path: Path) -> None:
    task.prints(b"cloning\n", "setup.log")
    task.prints(b"epoch 1\nepoch 2\nno end")
    task.ends("script_failed", 4)
    code = ("import sys; from agentpipe.report import finish; from agentpipe.transport import api; "
            "finish.finish(api.connect('host:0'), sys.argv[1])")
    killed = subprocess.run([sys.executable, "-c", code, str(task.directory)],
                            env={**os.environ, "AGENT_CRASH_AT": point})
    assert killed.returncode == -signal.SIGKILL
    finish(task.api, str(task.directory))
    assert task.log().encode() == (task.directory / "log").read_bytes()
    assert task.log("setup") == "cloning\n"
    assert (task.task["status"], task.task["runtime"]["_agentpipe_end"]["exit"]) == ("failed", 4)


def test_what_writes_to_the_log_for_ever_does_not_keep_the_end_from_being_told(task: Running) -> None:
    class Grows(Unreliable):
        def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
            if endpoint == "events.add_batch":
                task.prints("mehr ✓".encode()[:-1])  # of what comes behind the end no character is cut in two
                assert self.calls.count(endpoint) < 20
            return super().call(endpoint, body)

    task.prints(b"one\ntwo\n")
    task.ends("completed")
    finish(Grows(task.api), str(task.directory))
    assert (task.task["status"], task.log()) == ("completed", "one\ntwo\n")


def test_hooks_at_the_end_run_once_though_the_server_goes_away_behind_them(task: Running, tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    hook = tmp_path / "hooks" / "on-end"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\necho ran >>{tmp_path}/ran\necho said >&2\n")
    hook.chmod(0o755)
    monkeypatch.setenv("AGENT_HOOKS", str(hook.parent))

    class Leaves(Unreliable):
        def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
            answer = super().call(endpoint, body)
            if endpoint == "tasks.completed":
                self.away = 2
            return answer

    task.ends("completed")
    finish(Leaves(task.api), str(task.directory))
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert task.log("setup").count("said") == 1
