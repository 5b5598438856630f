"""Names of workers, each locked by whoever serves as it: a given one, or HOST:N with the first N that nobody has."""

import fcntl
import itertools
import os
import time
from collections.abc import Iterable

from agentpipe import errors, files, paths
from agentpipe.claim import claims
from agentpipe.settings import config


class Worker:
    """A worker's name, held by a lock of this process unless it was given (then its giver holds it)."""

    def __init__(self, given: str | None = None) -> None:
        self._lock: int | None = None
        self.name = given or given_name() or ""
        try:
            self.name.encode()
        except UnicodeEncodeError:
            raise errors.Failure(f"the worker's name is not UTF-8: {self.name!r}", errors.BAD_CONFIG,
                                 remedy="correct --worker, or CLEARML_WORKER_ID") from None
        if not self.name:
            self.name, self._lock = first_free(numbered(host()))


def given_name() -> str | None:
    """The name that the operator has chosen, if any."""
    return config.get("agent.worker_id", None, "CLEARML_WORKER_ID")


def host() -> str:
    """What names of workers on this machine begin with."""
    return config.get("agent.worker_name", None, "CLEARML_WORKER_NAME") or os.uname().nodename


def numbered(base: str, start: int = 0) -> Iterable[str]:
    """BASE:0, BASE:1 and so on."""
    return (f"{base}:{number}" for number in itertools.count(start))


def first_free(names: Iterable[str]) -> tuple[str, int]:
    """The first of the names that neither a process nor an active task has, and the descriptor of its lock.

    A script whose supervisor is gone keeps the name that it was pulled under.
    """
    taken = _of_active_tasks()
    for name in names:
        if name not in taken:
            fd = lock(name)
            if fd is not None:
                return name, fd
    raise errors.Failure("no name is free for this worker", errors.TRY_AGAIN)


def lock(name: str) -> int | None:
    """The descriptor of the lock of that name, which is ours as long as it is open; None when another process has it.

    Failure 73 when it cannot be written. What the file says of a former holder is gone.
    """
    path = lock_path(name)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise errors.Failure(f"cannot write in {os.path.dirname(path)}: {error.strerror}", errors.CANNOT_CREATE,
                             remedy="agent-config check") from None
    while not files.try_lock(fd):
        if not files.try_lock(fd, shared=True):
            os.close(fd)
            return None
        # shared by somebody who only looks (locked()), for an instant
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(0.001)
    os.ftruncate(fd, 0)
    return fd


def locked(path: str) -> bool | None:
    """Whether a process holds the lock at `path`; None when nobody ever did."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return not files.try_lock(fd, shared=True)
    finally:
        os.close(fd)


def lives(name: str) -> bool | None:
    """Whether somebody on this machine works under that name; None for one that was given (no lock tells)."""
    held = locked(lock_path(name))
    return held if held is not False else name in _of_active_tasks()


def lock_path(name: str) -> str:
    """The file that is locked for a worker's name."""
    return paths.state("workers", name.replace("/", "_") + ".lock")


def _of_active_tasks() -> set[str]:
    names: set[str] = set()
    for token in os.listdir(claims.active()):
        found = claims.read(claims.active(token))
        if found:
            names.add(found.get("worker", ""))
    return names
