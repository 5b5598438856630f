"""The images of places without a daemon: made once, and removed when nobody has asked for them for long."""

import os
import time

import filelock
import pytest

from agentpipe import errors, paths, place
from agentpipe.claim import attempt
from agentpipe.place import charliecloud, image_root, images

DAY = 86400


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_KEEP_DAYS", "14")


def asked_for(key):
    """The path of an image, which is made when it is missing."""
    return images.cached(None, "kind", key, os.mkdir)


def asked_long_ago(key):
    then = time.time() - 15 * DAY
    os.utime(paths.cache("images", "kind", key + images.ASKED), (then, then))


def test_it_is_made_once():
    path = asked_for("a")
    assert images.cached(None, "kind", "a", pytest.fail) == path


def test_what_nobody_asks_for_goes_with_the_next_one():
    old, kept = asked_for("old"), asked_for("kept")
    asked_long_ago("old")
    asked_for("new")
    assert not os.path.exists(old)
    assert os.path.isdir(kept)


@pytest.mark.parametrize("days", ["14", "0"])
def test_one_that_was_pulled_for_a_single_task_goes_an_hour_later_unless_that_runs_still(monkeypatch, days):
    monkeypatch.setenv("AGENT_KEEP_DAYS", days)
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOCKER_FORCE_PULL", "1")
    keys = [images.key_of("python:3") for _ in range(3)]
    paths_of = [asked_for(key) for key in keys]
    place.journal(attempt.create("t1"), {"kind": "charliecloud", "image_id": keys[1]})
    for key in keys[:2]:
        then = time.time() - 2 * 3600
        os.utime(paths.cache("images", "kind", key + images.ASKED), (then, then))
    asked_for("new")
    assert [os.path.exists(path) for path in paths_of] == [False, True, True]


def test_one_that_is_asked_for_again_stays():
    path = asked_for("a")
    asked_long_ago("a")
    asked_for("a")
    asked_for("new")
    assert os.path.isdir(path)


def test_one_whose_removal_was_killed_half_way_is_made_anew(monkeypatch):
    old, made = asked_for("old"), []
    for name in ("bin", "etc"):
        os.mkdir(os.path.join(old, name))
    asked_long_ago("old")

    def killed(path):
        if os.path.isdir(path):
            os.rmdir(os.path.join(path, "bin"))
            raise KeyboardInterrupt
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(images.trees, "discard", killed)
        images._sweep(paths.cache("images", "kind"))
    images.cached(None, "kind", "old", lambda fresh: made.append(os.mkdir(fresh)))
    assert made


def test_what_a_killed_process_had_half_made_goes_too():
    asked_for("old")
    os.rename(paths.cache("images", "kind", "old"), paths.cache("images", "kind", "old.new"))
    asked_long_ago("old")
    asked_for("new")
    assert sorted(os.listdir(paths.cache("images", "kind"))) == ["new", "new.asked", "new.lock", "old.lock"]


@pytest.mark.parametrize("target", ["/etc/passwd/x", "/" + "a" * 300, "/etc/passwd/x/y"])
def test_a_mount_for_which_an_image_has_no_room_is_said(tmp_path, target):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("")
    with pytest.raises(errors.Failure, match="no room for a mount") as caught:
        image_root.prepare(str(tmp_path), [("/tmp", target, "")])
    assert caught.value.exit == errors.BAD_DATA


def test_an_image_whose_etc_is_a_file_is_said(tmp_path):
    (tmp_path / "etc").write_text("")
    with pytest.raises(errors.Failure, match="/etc/hosts"):
        charliecloud._complete(str(tmp_path))


def test_what_could_not_be_made_leaves_nothing():
    def full(fresh):
        os.makedirs(os.path.join(fresh, "shut"))
        os.chmod(os.path.join(fresh, "shut"), 0o500)
        raise OSError
    with pytest.raises(OSError):
        images.cached(None, "kind", "a", full)
    assert sorted(os.listdir(paths.cache("images", "kind"))) == ["a.asked", "a.lock"]


def test_of_two_tasks_the_second_waits_for_the_first_and_says_so():
    path = paths.cache("images", "kind", "a")
    os.makedirs(os.path.dirname(path))
    said: list[str] = []
    lock = filelock.FileLock(path + ".lock", thread_local=False)
    lock.acquire()

    class Told:
        def say(self, line):
            said.append(line)
            lock.release()
    assert images.cached(Told(), "kind", "a", os.mkdir) == path
    assert said == ["another task makes the same image: waiting for it"]


def test_one_that_is_being_made_or_looked_at_is_left_alone():
    path = asked_for("a")
    asked_long_ago("a")
    with filelock.FileLock(path + ".lock"):
        asked_for("new")
    assert os.path.isdir(path)


def test_former_states_of_an_image_that_has_changed_under_its_path_go_an_hour_later_unless_a_task_runs_in_one():
    def state(key, source="/images/a"):
        return images.cached(None, "kind", key, os.mkdir, source)
    former, used, other = state("1"), state("2"), state("3", "/images/b")
    place.journal(attempt.create("t1"), {"kind": "charliecloud", "image_id": "2"})
    young = state("4")
    for key in "123":
        then = time.time() - 2 * 3600
        os.utime(paths.cache("images", "kind", key + images.ASKED), (then, then))
    newest = state("5")
    assert [os.path.exists(each) for each in (former, used, other, young, newest)] == [False, True, True, True, True]
