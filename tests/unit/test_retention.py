"""What has ended long ago goes; nothing else does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from agentpipe import errors, files, paths, processes
from agentpipe.claim import attempt, claims, retention

DAYS = 86400.0


def made(task, **links):
    directory = attempt.create(task)
    for name, target in links.items():
        os.symlink(target, os.path.join(directory, name))
    return directory


def noted():
    with open(paths.state("pruned")) as file:
        return [json.loads(line) for line in file]


def note(*first):
    """Write over what is noted of the time."""
    lines = [list(first), *noted()[1:]]
    with open(paths.state("pruned"), "w") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def runs_on(seconds):
    """As if this machine had run so much longer when it is looked at again."""
    counted, boot, up = noted()[0]
    note(counted, boot, up - seconds)


def left():
    return sorted(os.listdir(paths.state("tasks")))


def test_only_what_has_ended_long_ago_is_removed():
    made("ended", outcome="completed")
    made("returned", pid=attempt.GIVEN_BACK)
    attempt.leave_to_others(made("elsewhere", pid="1 1 boot"))
    made("running", pid="1 1 boot")
    os.symlink(made("unreported", outcome="completed"), claims.active("0" * 32))
    assert retention.prune() == 0
    runs_on(10 * DAYS)
    made("young", outcome="completed")
    assert retention.prune() == 0
    runs_on(5 * DAYS)
    assert retention.prune() == 3
    assert left() == ["running.1", "unreported.1", "young.1"]
    runs_on(10 * DAYS)
    assert retention.prune() == 1


def test_a_clock_that_jumps_removes_nothing(monkeypatch):
    made("ended", outcome="completed")
    assert retention.prune() == 0
    for now in (4e9, 0.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        runs_on(2 * retention.EVERY)
        assert retention.prune() == 0
    assert left() == ["ended.1"]


def test_what_another_boot_had_counted_is_not_forgotten_and_a_note_that_is_lost_begins_anew():
    made("ended", outcome="completed")
    retention.prune()
    runs_on(13.9 * DAYS)
    retention.prune()
    note(noted()[0][0] + 0.2 * DAYS, "another boot", 0)
    made("later", outcome="completed")
    assert retention.prune() == 1
    open(paths.state("pruned"), "w").close()  # as a power failure may leave it
    assert retention.prune() == 0
    runs_on(13 * DAYS)
    assert retention.prune() == 0
    assert left() == ["later.1"]


def test_a_boot_for_one_task_counts_up_to_its_end(monkeypatch):
    made("ended", outcome="completed")
    retention.prune()
    runs_on(15 * DAYS)
    directory = made("next")
    claim = claims.Claim(directory, "0" * 32, claims.lock(directory))
    claim.end()
    claim.release()
    monkeypatch.setattr(processes, "boot_id", lambda: "another boot")
    assert retention.prune() == 1


def test_a_task_by_hand_that_was_never_run_has_its_time_too():
    made("local-run", pid="1 1 boot")
    prepared, busy = made("local-prepared"), made("local-busy")
    os.close(claims.lock(prepared))
    lock = claims.lock(busy)
    retention.prune()
    runs_on(13 * DAYS)
    os.mkdir(os.path.join(prepared, "code"))  # somebody goes on with it
    assert retention.prune() == 0
    runs_on(13 * DAYS)
    assert retention.prune() == 0
    runs_on(2 * DAYS)
    assert retention.prune() == 1
    assert left() == ["local-busy.1", "local-run.1"]
    os.close(lock)


def test_what_somebody_works_on_stays():
    directory = made("ended", outcome="completed")
    lock = claims.lock(directory)
    retention.prune()
    runs_on(15 * DAYS)
    assert retention.prune() == 0
    assert left() == ["ended.1"]
    os.close(lock)


def test_a_disk_that_takes_no_note_of_it_is_no_reason_to_remove_nothing(monkeypatch):
    made("ended", outcome="completed")
    retention.prune()
    runs_on(15 * DAYS)

    def full(path, data):
        raise errors.Failure("no room", errors.CANNOT_CREATE)

    monkeypatch.setattr(files, "publish", full)
    assert retention.prune() == 1


def test_one_that_is_killed_within_leaves_nothing_for_good():
    made("ended", outcome="completed")
    retention.prune()
    runs_on(15 * DAYS)
    code = ("import os; from agentpipe import trees; from agentpipe.claim import retention; "
            "trees.remove = lambda path: (os.unlink(path + '/outcome'), os.kill(os.getpid(), 9)); retention.prune()")
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    assert attempt.numbers("ended") == []
    runs_on(2 * retention.EVERY)
    retention.prune()
    assert left() == []


def test_it_is_done_once_an_hour():
    made("ended", outcome="completed")
    retention.prune()
    runs_on(15 * DAYS)
    assert retention.prune() == 1
    os.rename(made("killed"), paths.state("tasks", "killed.1" + retention.GONE))
    retention.prune()
    assert left() == ["killed.1.gone"]
    runs_on(retention.EVERY)
    retention.prune()
    assert left() == []


def test_nothing_goes_where_all_is_kept(monkeypatch):
    made("ended", outcome="completed")
    retention.prune()
    runs_on(15 * DAYS)
    monkeypatch.setenv("AGENT_KEEP_DAYS", "0")
    assert retention.prune() == 0
    assert left() == ["ended.1"]


def test_an_age_that_is_no_number_removes_nothing(monkeypatch):
    made("ended", outcome="completed")
    monkeypatch.setenv("AGENT_KEEP_DAYS", "2w")
    with pytest.raises(errors.Failure, match="AGENT_KEEP_DAYS is no number: 2w"):
        retention.prune()
    assert left() == ["ended.1"]


def test_another_pull_that_removes_the_same_is_no_error(monkeypatch):
    directory = made("ended", outcome="completed")
    retention.prune()
    runs_on(15 * DAYS)
    outcome = attempt.outcome

    def removed_meanwhile(path):
        found = outcome(path)
        shutil.rmtree(directory)
        return found

    monkeypatch.setattr(attempt, "outcome", removed_meanwhile)
    assert retention.prune() == 0


def deepened(directory):
    """As a script's `while mkdir d && cd d` leaves it: more folders in each other than Python calls itself."""
    here = os.open(directory, os.O_PATH)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_an_attempt_of_any_depth_goes_and_so_does_what_was_left_of_one():
    deepened(made("ended", outcome="completed"))
    retention.prune()
    deepened(made("killed"))
    os.rename(paths.state("tasks", "killed.1"), paths.state("tasks", "killed.1" + retention.GONE))
    runs_on(15 * DAYS)
    assert retention.prune() == 1
    assert left() == []


def test_what_goes_wrong_is_said_once_an_hour_and_keeps_no_task_from_being_taken(monkeypatch, capfd):
    os.rename(made("killed"), paths.state("tasks", "killed.1" + retention.GONE))

    def wrong(path):
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(retention.trees, "remove", wrong)
    monkeypatch.delenv("AGENT_DEBUG", raising=False)
    assert retention.prune() == 0
    assert "what ended long ago cannot be removed: " in capfd.readouterr().err
    assert retention.prune() == 0
    assert capfd.readouterr().err == ""
