"""What a container's root may put into its task's directory in the place of our files."""

from __future__ import annotations

import os
import tempfile
import time

import pytest

from agentpipe import errors, job, paths, place, secrets, tools, untrusted
from agentpipe.claim import attempt, claims, holders
from agentpipe.environment import given
from agentpipe.place import entrypoint, inside, memory, setup_script
from agentpipe.redact import Redactor
from agentpipe.report import finish, logs, own_end, shipping
from agentpipe.run import cgroups, monitor, script, shim

SECRET = "OUTSIDE=secret\0"


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "outside"
    path.write_text(SECRET)
    return path


@pytest.fixture(params=["symlink", "fifo", "directory"])
def planted(request, directory, outside):
    """A function that puts something else in the place of a file of ours."""
    def plant(name):
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if request.param == "symlink":
            os.symlink(outside, path)
        elif request.param == "fifo":
            os.mkfifo(path)
        else:
            os.mkdir(path)
        return path
    yield plant
    assert outside.read_text() == SECRET


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                                   os.O_WRONLY | os.O_CREAT | os.O_TRUNC])
def test_only_a_regular_file_is_opened(directory, planted, flags):
    planted("x")
    with pytest.raises(untrusted.NotRegular, match="no regular file"):
        untrusted.opened(directory, "x", flags)


def test_neither_too_much_is_read_nor_a_folder_followed(directory, tmp_path):
    with open(os.path.join(directory, "x"), "w") as file:
        file.write("12345")
    assert untrusted.read(directory, "x", 5) == b"12345"
    with pytest.raises(untrusted.NotRegular, match="more than 4 bytes"):
        untrusted.read(directory, "x", 4)
    with pytest.raises(FileNotFoundError):
        untrusted.read(directory, "y")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "before").write_text(SECRET)
    os.symlink(tmp_path / "folder", os.path.join(directory, "setup"))
    with pytest.raises(NotADirectoryError):
        untrusted.read(directory, "setup/before")


def test_what_a_setup_script_left_is_no_file_of_this_machine(directory, planted):
    planted("setup/environment")
    assert setup_script.environment(directory) == {}


def test_an_entrypoint_tells_nothing_of_this_machine(directory, planted):
    planted("entered")
    with pytest.raises(untrusted.NotRegular):
        entrypoint.expected(directory)
    assert not entrypoint.passed(directory, lambda: {"Running": False})
    assert entrypoint.variables(directory, []) == []


def test_the_setup_log_is_written_nowhere_else(directory, planted, capfd):
    planted("setup.log")
    found = job.Job({"task": {"id": "t1"}}, directory)
    found.say("hello")
    assert found.run(["echo", "x"], loud=True) == "x\n"
    found.close()
    assert capfd.readouterr().err.count("setup.log is not written: it is no regular file\n") == 1
    shipping.say(directory, "hello")
    assert shim._opened(directory, "setup.log") < 0


def test_no_log_is_read_elsewhere(directory, planted):
    planted("log")
    planted("setup.log")
    stream = logs.Stream("log", os.path.join(directory, "log"), Redactor(()))
    assert stream.take(time.monotonic(), final=True) is None
    monitor.Follower(directory, True).copy()
    assert finish._last_lines(directory) == ""


def test_records_that_are_no_files_cannot_be_read(directory, planted):
    for name in ("claim", "manifest.json", "place.json", "reported", "oom_kills", "running", secrets.FILE):
        planted(name)
    assert claims.read(directory) is None
    assert not holders.is_held(directory)
    assert attempt.read_manifest(directory) is None
    assert place.journalled(directory) == {}
    assert shipping.read_reported(directory) == {}
    assert memory.evidence_of_kill(directory) == ""
    assert not attempt.shim_lives(directory)
    assert secrets.whole({"script": {"repository": "r"}}, directory) == {"script": {"repository": "r"}}
    with pytest.raises(errors.Failure, match="running cannot be used"):
        script.start(directory, ["true"], "/", os.environ)


def test_records_that_are_nested_too_deeply_cannot_be_read(directory):
    for name in ("claim", "manifest.json", "place.json", secrets.FILE):
        with open(os.path.join(directory, name), "w") as file:
            file.write("[" * 100_000 + "]" * 100_000)
    assert claims.read(directory) is None
    assert attempt.read_manifest(directory) is None
    assert place.journalled(directory) == {}
    assert secrets.whole({"script": {"repository": "r"}}, directory) == {"script": {"repository": "r"}}


def test_what_was_told_in_confidence_is_removed_behind_no_link(directory, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "before").touch()
    os.makedirs(os.path.join(directory, "box"))
    os.symlink(theirs, os.path.join(directory, "box", "setup"))
    secrets.forget_script(directory)
    assert (theirs / "before").exists()


def test_a_full_disk_is_not_looked_for_elsewhere(directory, planted):
    planted(f"room.{os.getpid()}")
    own_end.look(directory)
    assert own_end.reason(directory, 1) == "exit 1"


def test_the_answer_of_a_build_is_a_file(directory, planted):
    planted("custom-build.json")
    found = job.Job({"task": {"id": "t1"}}, directory)
    assert given._built(found, "build.sh", os.path.join(directory, "custom-build.json")) is None
    found.close()


@pytest.mark.parametrize("target", ["x", "1 2", "one 2 boot", "0 0 0", "-1 2 boot", "99999999 1 boot", "² 1 boot"])
def test_a_record_of_a_process_that_nobody_wrote_is_of_none(directory, target):
    os.symlink(target, os.path.join(directory, "pid"))
    assert attempt.pid_record(directory) == "0 0 unknown"
    assert not attempt.was_returned(directory)
    assert not script.lives(directory)


@pytest.mark.parametrize("name", ["exit.256", "exit.-1", "exit.²", "exit.007", "exit.", "exit.1.2"])
def test_no_other_status_than_a_program_can_have(directory, name):
    open(os.path.join(directory, name), "w").close()
    assert attempt.exit_status(directory) is None
    open(os.path.join(directory, "exit.255"), "w").close()
    assert attempt.exit_status(directory) == 255


@pytest.mark.parametrize("name", ["agentpipe-t2.1.7", "agentpipe-t1.1.x", "agentpipe-t1.1",
                                  "../outside/agentpipe-t1.1.7", "link/agentpipe-t1.1.7"])
def test_a_control_group_is_one_of_this_attempt(directory, tmp_path, monkeypatch, name):
    mount = tmp_path / "mount"
    for folder in (mount, tmp_path / "outside"):
        folder.mkdir()
    os.symlink(tmp_path / "outside", mount / "link")
    monkeypatch.setattr(cgroups, "MOUNTS", (str(mount),))
    path = os.path.join(mount, name)
    os.mkdir(path)
    for file in ("cgroup.procs", "cgroup.kill"):
        with open(os.path.join(path, file), "w") as handle:
            handle.write("77\n")
    os.symlink(path, os.path.join(directory, "cgroup"))
    cgroups.kill(directory)
    cgroups.remove(directory)
    assert cgroups.pids(directory) == [] and cgroups.enter(directory, [1]) == 0
    for file in ("cgroup.procs", "cgroup.kill"):
        with open(os.path.join(path, file)) as handle:
            assert handle.read() == "77\n"


def test_in_a_place_no_control_group_is_believed(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "MOUNTS", (str(tmp_path),))
    group = tmp_path / "agentpipe-t1.1.7"
    group.mkdir()
    (group / "cgroup.kill").write_text("")
    os.symlink(group, os.path.join(directory, "cgroup"))
    open(os.path.join(directory, "exit.0"), "w").close()
    found = script.taken_over(directory, place.Place({"kind": "own", "prefix": ["false"]}, directory))
    found.kill()
    found.sweep()
    assert (group / "cgroup.kill").read_text() == ""
    cgroups.kill(directory)
    assert (group / "cgroup.kill").read_text() == "1"


@pytest.mark.parametrize("record", ["0", "0 0 unknown", "1 2 boot", "given-back", ""])
def test_no_session_that_is_none_of_a_script_is_signalled(directory, record):
    asked = os.path.join(directory, "asked")  # the prefix enters nothing: it only leaves a trace
    where = place.Place({"kind": "own", "prefix": ["touch", asked, "--"]}, directory)
    assert where.signal(record, 9) == 0
    assert not os.path.exists(asked)


@pytest.mark.parametrize("status", [0, 1])
def test_the_file_with_what_git_needs_does_not_outlive_the_installer(directory, status):
    # an engine's client in small: it enters nothing, and what it is told to run starts behind `sh`
    client = ["sh", "-c", 'until [ "$1" = sh ]; do shift; done; exec "$@"', "client"]
    found = job.Job({"task": {"id": "t1"}, "place": {"kind": "docker", "prefix": client, "container": "c"}}, directory)
    assert inside.isolated(found)
    env = {**os.environ, "AGENT_GIT_PASSWORD_0": "s3cret"}
    look = ["sh", "-c", f'cat inside.env; exit {status}']
    if status:
        with pytest.raises(tools.ToolFailed):
            inside.run(found, look, env, outside="/")
    else:
        assert "AGENT_GIT_PASSWORD_0=s3cret" in inside.run(found, look, env, outside="/")
    assert not os.path.lexists(f"{directory}/inside.env")
    found.close()


@pytest.fixture
def closed(monkeypatch):
    """The directory of an attempt whose box is closed to this user, as the root of a container can make it."""
    own = os.geteuid()
    with tempfile.TemporaryDirectory() as home:
        monkeypatch.setenv("AGENT_HOME", home)
        found = attempt.create("t1")
        os.mkdir(os.path.join(found, paths.BOX), 0o700)
        os.symlink(f"{os.getpid()} 1 boot", os.path.join(paths.box(found), "pid"))
        for name in ("running", "log", "exit.0"):
            open(os.path.join(paths.box(found), name), "w").close()
        for folder in (home, os.path.dirname(os.path.dirname(found)), os.path.dirname(found), found):
            os.chmod(folder, 0o755)
        os.chmod(paths.box(found), 0)
        if own == 0:
            os.seteuid(65534)
        yield found
        if own == 0:
            os.seteuid(0)
        os.chmod(paths.box(found), 0o700)


def test_what_a_container_has_closed_to_us_says_nothing(closed):
    with pytest.raises(PermissionError):
        os.listdir(paths.box(closed))
    assert attempt.exit_status(closed) is attempt.ended_at(closed) is attempt.began_at(closed) is None
    assert not attempt.shim_lives(closed) and not attempt.never_began(closed)
    assert attempt.pid_record(closed) == "0 0 unknown"  # neither "not started yet", nor one that runs
    assert not script.lives(closed)


def test_a_script_whose_box_is_closed_to_us_is_over_and_lost(closed):
    taken = script.Script(closed)
    assert taken.wait(5) and taken.status is None


def test_a_log_that_is_closed_to_us_is_none(closed):
    monitor.Follower(closed, True).copy()
    assert monitor._size(closed) == 0
    assert logs.Stream("log", os.path.join(paths.box(closed), "log"), Redactor(())).take(1.0) is None
