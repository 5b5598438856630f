"""What has ended long ago goes; nothing else does."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from agentpipe import errors, paths
from agentpipe.claim import attempt, claims, retention

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


def test_a_task_by_hand_that_was_never_run_has_its_time_too():
    claims.active()
    made("local-run", pid="1 1 boot")
    prepared, busy = made("local-prepared"), made("local-busy")
    os.close(claims.lock(prepared))
    lock = claims.lock(busy)
    for directory in prepared, busy:
        os.utime(directory, (LONG_AGO, LONG_AGO))
    assert retention.prune() == 1
    assert left() == ["local-busy.1", "local-run.1"]
    os.close(lock)


def test_a_disk_that_takes_no_note_of_it_is_no_reason_to_remove_nothing():
    claims.active()
    made("ended", outcome="completed")
    os.symlink("/no/such/directory/pruned", paths.state("pruned"))
    assert retention.prune() == 1


def test_one_that_is_killed_within_leaves_nothing_for_good():
    claims.active()
    made("ended", outcome="completed")
    code = ("import os; from agentpipe import trees; from agentpipe.claim import retention; "
            "trees.remove = lambda path: (os.unlink(path + '/outcome'), os.kill(os.getpid(), 9)); retention.prune()")
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    assert attempt.numbers("ended") == []
    os.utime(paths.state("pruned"), (LONG_AGO, LONG_AGO))
    retention.prune()
    assert left() == []


def test_it_is_done_once_an_hour():
    claims.active()
    made("first", outcome="completed")
    assert retention.prune() == 1
    made("second", outcome="completed")
    assert retention.prune() == 0
    os.utime(paths.state("pruned"), (LONG_AGO, LONG_AGO))
    assert retention.prune() == 1
    made("third", outcome="completed")
    os.utime(paths.state("pruned"), (4_000_000_000, 4_000_000_000))  # a clock was wrong then
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


def test_another_pull_that_removes_the_same_is_no_error(monkeypatch):
    claims.active()
    directory = made("ended", outcome="completed")
    outcome = attempt.outcome

    def removed_meanwhile(path):
        found = outcome(path)
        shutil.rmtree(directory)
        return found

    monkeypatch.setattr(attempt, "outcome", removed_meanwhile)
    assert retention.prune() == 0
