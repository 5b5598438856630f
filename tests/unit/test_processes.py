"""Who a process is and who holds a file, also where the kernel shows and allows less."""

import builtins
import errno
import os
import signal
import subprocess

import pytest

from agentpipe import processes

NOBODY = 65534


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def as_somebody_else(work):
    """work()'s answer (true or not), asked by a process that may not signal root's."""
    pid = os.fork()
    if pid == 0:
        if os.getuid() == 0:
            os.setuid(NOBODY)
        os._exit(0 if work() else 1)
    return os.waitpid(pid, 0)[1] == 0


def test_what_is_not_ours_to_signal_is_no_error():
    record = processes.identity(1)
    assert as_somebody_else(lambda: processes.send(record, 0) is False)


def test_where_proc_hides_other_users_they_are_nobody(monkeypatch):
    def hidden(path, *more, **named):
        raise PermissionError(errno.EPERM, "hidepid", path)

    monkeypatch.setattr(builtins, "open", hidden)
    assert processes.start_time(1) is None
    assert processes.parent(1) == 0


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_pidfds_the_right_process_is_signalled_all_the_same(monkeypatch, sleeper, number):
    def refused(pid):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refused)
    record = processes.identity(sleeper.pid)
    pid, start, boot = record.split(" ")
    assert not processes.send(f"{pid} {int(start) + 1} {boot}", signal.SIGKILL)
    assert processes.send(record, signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM
    assert not processes.send(record, signal.SIGTERM)


def test_a_file_closed_while_we_look_does_not_hide_its_process(monkeypatch, tmp_path):
    path = tmp_path / "held"
    reader, writer = os.pipe()
    with open(path, "w") as held:
        holder = subprocess.Popen(["sleep", "60"], stdout=held, pass_fds=[writer])
    inode = os.fstat(reader).st_ino
    os.close(reader)
    os.close(writer)
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: ["9999", *real(path)] if path.endswith("/fd") else real(path))
    try:
        with open(path) as read, subprocess.Popen(["sleep", "60"], stdin=read) as reader:
            assert sorted(processes.holding_open(str(path))) == sorted([holder.pid, reader.pid])
            assert processes.holding_open(str(path), to_write=True) == [holder.pid]
            reader.kill()
        assert processes.pipe_is_held(inode)
    finally:
        holder.kill()
        holder.wait()
    assert processes.holding_open(str(path)) == []
    assert not processes.pipe_is_held(inode)


def test_a_pipe_with_a_name_is_held_also_when_its_name_is_gone(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    inode = os.stat(path).st_ino
    holder = subprocess.Popen(["sh", "-c", 'exec sleep 60 <>"$0"', path])
    try:
        while not processes.pipe_is_held(inode, path):
            assert holder.poll() is None
        os.unlink(path)
        assert processes.pipe_is_held(inode, path)
        assert not processes.pipe_is_held(inode + 1, path)  # one that stood there before
    finally:
        holder.kill()
        holder.wait()
    assert not processes.pipe_is_held(inode, path)
