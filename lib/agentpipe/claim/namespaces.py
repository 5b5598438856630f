"""Containers of one machine that share a home: in each a pid means another process, though all have one boot.

So nobody judges pids and pipes of another pid namespace. Who lives there says a kernel lock, which all of them see:
each process that has a claim, or waits for a line, holds a shared one on a file named as its namespace.
"""

from __future__ import annotations

import fcntl
import os

from agentpipe import files, paths, processes

_held: dict[str, int] = {}  # paths of locks, and our descriptors; closed by our end


def hold() -> None:
    """From now on, and until this process ends, somebody lives in our namespace (unless the disk takes no file)."""
    name = processes.namespace()
    path = _path(name)
    if not name or path in _held:
        return
    try:
        _held[path] = _shared(path)
    except OSError:
        pass


def _shared(path: str) -> int:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    if not os.path.exists(path):
        _remove_old(os.path.dirname(path))
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)  # removed just before it was locked


def lives(name: str) -> bool:
    """Whether any process in that namespace has a claim, or waits for a line."""
    fd = _alone(_path(name))
    if fd is None:
        return os.path.exists(_path(name))
    os.close(fd)
    return False


def _remove_old(folder: str) -> None:
    for name in os.listdir(folder):
        fd = _alone(os.path.join(folder, name))
        if fd is not None:
            os.unlink(os.path.join(folder, name))
            os.close(fd)


def _alone(path: str) -> int | None:
    """The file, locked for us alone; None when it is not there, or somebody holds it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if files.try_lock(fd):
        return fd
    os.close(fd)
    return None


def _path(name: str) -> str:
    return paths.state("namespaces", name)
