"""What has ended long ago goes; nothing else does."""

import os

import pytest

from agentpipe import attempt, claims, errors, paths, retention

LONG_AGO = 1_000_000


def made(task, **links):
    directory = attempt.create(task)
    for name, target in links.items():
        os.symlink(target, os.path.join(directory, name))
    os.utime(directory, (LONG_AGO, LONG_AGO))
    return directory


def left():
    return sorted(os.listdir(paths.state("tasks")))


def test_only_what_has_ended_long_ago_is_removed():
    claims.active()
    made("ended", outcome="completed")
    made("returned", pid=attempt.GIVEN_BACK)
    made("running", pid="1 1 boot")
    os.utime(made("young", outcome="completed"))
    os.symlink(made("unreported", outcome="completed"), claims.active("0" * 32))
    assert retention.prune() == 2
    assert left() == ["running.1", "unreported.1", "young.1"]


def test_it_is_done_once_an_hour():
    claims.active()
    made("first", outcome="completed")
    assert retention.prune() == 1
    made("second", outcome="completed")
    assert retention.prune() == 0
    os.utime(paths.state("pruned"), (LONG_AGO, LONG_AGO))
    assert retention.prune() == 1


def test_nothing_goes_where_all_is_kept(monkeypatch):
    monkeypatch.setenv("AGENT_KEEP_DAYS", "0")
    claims.active()
    made("ended", outcome="completed")
    assert retention.prune() == 0
    assert left() == ["ended.1"]


def test_an_age_that_is_no_number_removes_nothing(monkeypatch):
    made("ended", outcome="completed")
    monkeypatch.setenv("AGENT_KEEP_DAYS", "2w")
    with pytest.raises(errors.Failure, match="AGENT_KEEP_DAYS is no number: 2w"):
        retention.prune()
    assert left() == ["ended.1"]
