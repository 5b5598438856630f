"""Names of workers and their locks."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agentpipe import errors, paths, processes
from agentpipe.claim import claims, homes, supervisors, uptime, workers
from agentpipe.cmds import agent_supervisor
from agentpipe.pull import waiting
from agentpipe.transport import api


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def test_a_name_is_locked_once():
    mine = workers.lock("box")
    assert mine is not None
    assert workers.lock("box") is None
    assert workers.locked(workers.lock_path("box"))
    os.close(mine)
    assert workers.locked(workers.lock_path("box")) is False
    assert workers.locked(workers.lock_path("other")) is None


def test_a_name_that_could_stand_in_no_manifest_is_refused():
    with pytest.raises(errors.Failure, match="the worker's name is not UTF-8") as caught:
        workers.Worker(None, os.fsdecode(b"caf\xe9:0"))
    assert caught.value.exit == errors.BAD_CONFIG


def test_who_only_looks_whether_a_name_is_taken_does_not_take_it():
    os.close(workers.lock("box"))
    looking = os.open(workers.lock_path("box"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.1, os.close, [looking])
    timer.start()
    os.close(workers.lock("box"))


def test_a_supervisor_belongs_to_the_process_that_started_it_not_to_one_that_is_only_named(tmp_path):
    code = ("import time; from agentpipe.claim import supervisors; supervisors.serve('box', [], 'default', {'s'});"
            "print(flush=True); time.sleep(60)")
    for parent, expected in [(os.getpid(), processes.identity(os.getpid())), (os.getppid(), "")]:
        env = {**os.environ, supervisors.PARENT: str(parent)}
        with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            assert [one["parent"] for one in supervisors.running()] == [expected]
            child.kill()


def test_a_name_of_any_bytes_is_kept():
    name = os.fsdecode(b"b\xf6x")
    code = ("import sys, time; from agentpipe.claim import supervisors;"
            "supervisors.serve(sys.argv[1], [], 'default', {'s'});"
            "print(flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert [one["worker"] for one in supervisors.running()] == [name]
        child.kill()


def test_what_a_supervisor_took_over_is_told_though_it_runs_under_another_name(tmp_path):
    directory = tmp_path / "state" / "tasks" / "1f3c.1"
    directory.mkdir(parents=True)
    (directory / "claim").write_text('{"token": "t1", "worker": "box:0"}')
    os.symlink(directory, claims.active("t1"))
    pulled = Path(workers.lock_path("box:1").removesuffix(".lock") + ".pulled")
    pulled.parent.mkdir(parents=True, exist_ok=True)
    assert supervisors.taken_over("box:1") == ""
    pulled.write_text('{"pull": {"claim": "t1"}}\n')
    assert (supervisors.taken_over("box:1"), supervisors.taken_over("box:0")) == ("1f3c", "")
    assert supervisors.tasks_of("box:0") == supervisors.tasks_of("box:1") == ["1f3c"]
    os.unlink(claims.active("t1"))  # its end was told
    assert supervisors.tasks_of("box:1") == []
    pulled.unlink()
    os.mkfifo(pulled)  # as services have them: opening it would wait for ever
    assert supervisors.taken_over("box:1") == ""


def test_a_name_that_is_not_utf8_hides_no_supervisor():
    one = {"worker": "w\udcff", "serves": "default", "tasks": ["1f3c"]}
    assert agent_supervisor.shown(one, False) == b"w\xff\tdefault\truns 1f3c\n"


CHOOSE = ("import sys, time; from agentpipe.claim import workers;"
          "print(workers.first_free(workers.numbered('box'), set(sys.argv[1:]))[0], flush=True); time.sleep(60)")


def chosen(home, *servers):
    """A process of that home that has chosen a name, and the name."""
    process = subprocess.Popen([sys.executable, "-c", CHOOSE, *servers], env={**os.environ, "AGENT_HOME": str(home)},
                               stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


@pytest.fixture
def mine(tmp_path):
    """A server that no other test serves."""
    return str(tmp_path)


@pytest.fixture
def others(tmp_path, mine):
    """Homes beside ours that have chosen a name for that server, one after the other: (process, name)."""
    found = [chosen(tmp_path / name, mine, f"{mine}/{name}") for name in ("first", "second")]
    yield found
    for process, _ in found:
        process.kill()
        process.communicate()


def first_free(server):
    """The name that would be ours, which is free again."""
    name, fd = workers.first_free(workers.numbered("box"), {server})
    os.close(fd)
    return name


def can_have(name, server):
    """Whether that very name could be ours."""
    fd = workers.named(name, {server})
    if fd is not None:
        os.close(fd)
    return fd is not None


def notes():
    """The directory where homes note themselves."""
    return Path(os.environ["AGENT_MACHINE_DIR"], "homes")


def test_two_homes_that_serve_one_server_have_two_names(others, mine):
    assert [name for _, name in others] == ["box:0", "box:1"]
    assert first_free(mine) == "box:2"
    assert not can_have("box:1", f"{mine}/second")
    process, _ = others[0]
    process.kill()
    process.wait()
    assert can_have("box:0", mine)


def test_a_name_that_another_home_has_on_another_server_is_free(others):
    assert first_free(f"{os.environ['AGENT_MACHINE_DIR']}/other") == "box:0"
    assert len(list(notes().iterdir())) == 4  # three homes and the lock: nobody else's on this machine


def test_the_name_of_a_script_whose_supervisor_is_gone_is_not_given_to_another_home(tmp_path, mine):
    process, name = chosen(tmp_path / "first", mine)
    directory = tmp_path / "first" / "state" / "tasks" / "1f3c.1"
    directory.mkdir(parents=True)
    (directory / "claim").write_text(f'{{"token": "t1", "worker": "{name}", "server": "{mine}"}}')
    (tmp_path / "first" / "state" / "active").mkdir(exist_ok=True)
    os.symlink(directory, tmp_path / "first" / "state" / "active" / "t1")
    process.kill()
    process.communicate()
    assert first_free(mine) == "box:1"


def test_homes_that_choose_at_the_same_time_do_not_miss_each_other(tmp_path, mine):
    found = [subprocess.Popen([sys.executable, "-c", CHOOSE, mine], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "AGENT_HOME": str(tmp_path / str(number))}) for number in range(6)]
    names = sorted(process.stdout.readline().strip() for process in found)
    for process in found:
        process.kill()
        process.communicate()
    assert names == [f"box:{number}" for number in range(6)]


def test_what_cannot_be_read_or_written_hides_none_of_the_other_homes(others, mine, monkeypatch):
    (notes() / homes._name(paths.state())).mkdir()  # no note of ours can be made
    (notes() / "bad").touch()
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), key=lambda name: name != "bad"))
    assert first_free(mine) == "box:2"


def test_a_home_that_is_not_mounted_now_is_not_forgotten_at_once(others, mine, tmp_path):
    (tmp_path / "first").rename(tmp_path / "away")
    assert first_free(mine) == "box:0"
    (tmp_path / "away").rename(tmp_path / "first")
    assert first_free(mine) == "box:2"
    (tmp_path / "second").rename(tmp_path / "gone")
    [note] = [path for path in notes().iterdir() if path.is_symlink() and not path.exists()]
    os.utime(note, (0, 0), follow_symlinks=False)
    assert first_free(mine) == "box:1"
    assert not note.is_symlink()


def test_each_pull_keeps_the_note_of_its_home_fresh(tmp_path, monkeypatch):
    """What clears old files away would let another home take the name of a supervisor that serves for months."""
    monkeypatch.setenv("HOME", str(tmp_path))
    pull = [sys.executable, "-m", "agentpipe.cmds.agent_pull", "--worker", "box:0"]
    note = notes() / homes._name(paths.state())
    for _ in range(2):
        subprocess.run(pull, check=True)
        assert note.readlink() == Path(paths.state())
        assert time.time() - note.lstat().st_mtime < 60
        os.utime(note, (0, 0), follow_symlinks=False)


def test_a_pull_that_waits_keeps_it_too():
    store = api.connect()
    note = notes() / homes._name(paths.state())
    patience = waiting.Waiting(store, "box:0", [], 2 ** 30)  # whose owner is gone
    assert not patience.look(True)
    assert note.is_symlink()
    patience.stop(False)
    assert uptime.since(processes.boot_id(), 0) > 0
