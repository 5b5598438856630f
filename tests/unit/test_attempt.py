"""Attempts at a task on one node: how many in a row came to nothing."""

from __future__ import annotations

import os

import pytest

from agentpipe.claim import attempt


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def test_attempts_that_recovery_gave_back_count_until_one_ends() -> None:
    for expected in (1, 2, 3):
        directory = attempt.create("a-task")
        assert attempt.forbid_start(directory, attempt.GIVEN_BACK)
        assert attempt.failed_attempts("a-task") == expected
    assert attempt.decide(directory, "lost")
    assert attempt.failed_attempts("a-task") == 0
    assert attempt.forbid_start(attempt.create("a-task"), attempt.GIVEN_BACK)
    assert attempt.failed_attempts("a-task") == 1


def test_a_task_handed_back_on_purpose_counts_nothing() -> None:
    assert attempt.forbid_start(attempt.create("a-task"), attempt.GIVEN_BACK)
    assert attempt.forbid_start(attempt.create("a-task"), attempt.HANDED_BACK)
    assert attempt.failed_attempts("a-task") == 0
    assert os.path.basename(attempt.latest("a-task") or "") == "a-task.2"
