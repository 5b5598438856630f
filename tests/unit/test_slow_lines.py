"""A server that sends nothing any more is given up with a word, and asked again; one that is slow is waited for."""

import mmap
import os
import subprocess
import sys
import time
import types
import zipfile

import pytest
from git_servers import Daemon, SmartServer
from repositories import commit, repository
from slow_line import SlowLine

from agentpipe import errors, processes, streamed, tools
from agentpipe.cmds import agent_fetch
from agentpipe.code import git, git_failures, git_transfer
from agentpipe.job import Job


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A repository of some kilobytes, and a git that is not patient."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_HTTP_LOW_SPEED_TIME", "2")
    monkeypatch.setattr(git_transfer, "SILENCE", 2.0)
    monkeypatch.setattr(git_transfer, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(git_transfer, "MOMENT", 0.0)  # what takes longer than that is not asked again for other reasons
    where = repository(tmp_path / "git" / "r.git")
    (where / "more.bin").write_bytes(os.urandom(3000))
    commit(where, {})
    return where


@pytest.fixture
def patient(monkeypatch):
    """What is not silent comes in time, also on a machine that has much else to do."""
    monkeypatch.setenv("GIT_HTTP_LOW_SPEED_TIME", "5")
    monkeypatch.setattr(git_transfer, "SILENCE", 5.0)


def fetch(tmp_path, url):
    (tmp_path / "job").mkdir()
    return agent_fetch.work(Job({"task": {"script": {"repository": url}}}, str(tmp_path / "job")))


def said(tmp_path):
    return (tmp_path / "job" / "setup.log").read_text()


def server_of(scheme, folder):
    return SmartServer(folder) if scheme == "http" else Daemon(folder)


def port_of(server):
    return int(server.url.rpartition(":")[2])


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_a_repository_whose_server_falls_silent_is_asked_again(tmp_path, source, patient, scheme):
    with server_of(scheme, source.parent) as server, SlowLine(port_of(server), most=1500, stalls=1) as line:
        found = fetch(tmp_path, f"{scheme}://{line.host}/r.git")
    assert os.path.getsize(os.path.join(found["code"], "more.bin")) == 3000
    assert line.silent == 1 and said(tmp_path).count("asking again in") == 1


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_a_repository_whose_server_stays_silent_is_given_up_in_clear_words(tmp_path, source, scheme):
    with server_of(scheme, source.parent) as server, SlowLine(port_of(server), stalls=99) as line, \
            pytest.raises(errors.Failure, match="the server has stopped sending") as refused:
        fetch(tmp_path, f"{scheme}://{line.host}/r.git")
    assert refused.value.exit == errors.UNAVAILABLE and f"git ls-remote {scheme}://{line.host}" in refused.value.remedy
    assert line.silent == 3 and said(tmp_path).count("asking again in") == 2


@pytest.mark.parametrize("scheme", ["http", "git"])
def test_a_repository_that_comes_slowly_is_waited_for(tmp_path, source, patient, scheme):
    began = time.monotonic()
    with server_of(scheme, source.parent) as server, SlowLine(port_of(server), size=100, pause=0.25) as line:
        fetch(tmp_path, f"{scheme}://{line.host}/r.git")
    assert time.monotonic() - began > 7 and "asking again" not in said(tmp_path)


def test_an_ssh_that_has_given_up_a_dead_connection_is_as_a_server_that_falls_silent():
    failed = tools.ToolFailed(["git", "fetch"], 128, "Timeout, server h not responding.\nfatal: early EOF\n")
    failure = git_failures.explained(failed, git.Source("ssh://git@h/r.git"))
    assert git_failures.stalled(failed) and "the server has stopped sending" in failure.reason


CUT = "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF\n"
UNREADABLE = "fatal: fetch-pack: invalid index-pack output\n"


@pytest.mark.parametrize(("words", "reason", "exit"), [
    (f"Connection to h closed by remote host.\n{CUT}{UNREADABLE}", "broke off before all had come", errors.UNAVAILABLE),
    (f"error: RPC failed; curl 18 transfer closed\n{CUT}{UNREADABLE}", "broke off before all had come",
     errors.UNAVAILABLE),
    (f"error: index-pack died of signal 9\n{UNREADABLE}", "processes was killed", errors.TRY_AGAIN),
    (UNREADABLE, "processes was killed", errors.TRY_AGAIN),
])
def test_a_connection_that_broke_off_is_no_git_that_was_killed(words, reason, exit):
    failure = git_failures.explained(tools.ToolFailed(["git"], 128, words), git.Source("ssh://git@h/r.git"))
    assert reason in failure.reason and failure.exit == exit


END = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\n"


@pytest.mark.parametrize(("words", "reason", "exit"), [
    (f"/u/.ssh/config: line 1: Bad configuration option: bogus\n{END}", "its own configuration", errors.BAD_CONFIG),
    (f"Bad owner or permissions on /u/.ssh/config\n{END}", "its own configuration", errors.BAD_CONFIG),
    ("error: cannot run /opt/ssh: No such file or directory\nfatal: unable to fork\n", "cannot start its ssh",
     errors.BAD_CONFIG),
    (f"remote: \nremote: =====\nremote: ERROR: You may not view it.\n{END}", "(ERROR: You may not view it.)",
     errors.NOT_FOUND),
    (f"sh: 1: git-upload-pack: not found\n{END}", "(sh: 1: git-upload-pack: not found)", errors.NOT_FOUND),
])
def test_an_ssh_that_is_set_up_wrongly_is_no_repository_that_is_not_there(words, reason, exit):
    failure = git_failures.explained(tools.ToolFailed(["git"], 128, words), git.Source("ssh://git@h/r.git"))
    assert reason in failure.reason and failure.exit == exit


def test_a_program_that_computes_in_silence_is_waited_for():
    busy = "import time; until = time.monotonic() + 1.5\nwhile time.monotonic() < until: pass\nprint('done')"
    assert tools.run(["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", busy], print, silence=0.4) == "done\n"


def test_the_time_in_which_we_were_stopped_ourselves_is_no_silence(monkeypatch):
    """SIGSTOP, a container that stands still: the program has stood still too, and is given its time anew."""
    clock = [0.0]
    monkeypatch.setattr(streamed, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    with subprocess.Popen(["sleep", "600"]) as program:
        try:
            still = streamed.Still(program.pid, 60.0)
            clock[0] = 3600.0
            for _ in range(100):
                assert not still()
                clock[0] += 0.5
            while not still():
                clock[0] += 0.5
            assert clock[0] < 3665
        finally:
            program.kill()


def test_a_mapped_file_that_is_read_from_a_disk_counts(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 22))
    with open(path, "r+b") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = processes.transferred(os.getpid())[0]
        with mmap.mmap(file.fileno(), 0) as mapped:
            sum(mapped[::4096])
    if subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True).stdout.strip() != "tmpfs":
        assert processes.transferred(os.getpid())[0] - before >= 1 << 22


def test_a_program_that_prints_without_end_is_kept_in_bounds():
    """Of a hundred megabytes the begin and the end."""
    said = tools.run(["sh", "-c", "echo begin; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end"],
                     lambda text: None)
    assert said.startswith("begin\n") and said.endswith("x\nend\n") and "\n[…]\n" in said and len(said) < 20 << 20


@pytest.fixture
def index(machine, monkeypatch):
    """An index over HTTP with a wheel of 400 kB; uv is not patient."""
    import package_index
    import wheelhouse
    wheelhouse.wheel(machine.index, "big", "1.0")
    with zipfile.ZipFile(os.path.join(machine.index, "big-1.0-py3-none-any.whl"), "a") as wheel:
        wheel.writestr("big_data", os.urandom(400_000))
    server, address = package_index.serve(machine.index)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
    yield int(address.rpartition(":")[2])
    server.shutdown()


def test_an_index_that_falls_silent_is_asked_again(machine, index, monkeypatch):
    with SlowLine(index, most=200_000, stalls=1) as line:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{line.host}/simple")
        assert machine.task("big==1.0")["packages"] == ["big==1.0"]
    assert line.silent == 1


def test_an_index_that_stays_silent_is_given_up_in_clear_words(machine, index, monkeypatch):
    with SlowLine(index, most=200_000, stalls=99) as line:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{line.host}/simple")
        with pytest.raises(errors.Failure, match="big did not come: the server has stopped sending") as refused:
            machine.task("big==1.0")
    assert refused.value.exit == errors.UNAVAILABLE and line.silent > 1


def test_an_index_that_never_answers_is_asked_three_times_and_told_in_one_line(machine, index, monkeypatch):
    with SlowLine(index, stalls=99) as line:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{line.host}/simple")
        words = rf"cannot reach http://{line.host}/simple/big/: 3 requests got no answer in \d+ s \("
        with pytest.raises(errors.Failure, match=words) as refused:
            machine.task("big==1.0")
    assert (refused.value.exit, line.silent) == (errors.UNAVAILABLE, 3) and "UV_HTTP_TIMEOUT" in refused.value.remedy


def test_an_index_that_is_slow_is_waited_for(machine, index, monkeypatch):
    began = time.monotonic()
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "3")
    with SlowLine(index, size=20_000, pause=0.2) as line:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{line.host}/simple")
        machine.task("big==1.0")
    assert time.monotonic() - began > 4
