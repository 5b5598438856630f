"""Names of workers, each locked by whoever serves as it: a given one, or HOST:N with the first N that nobody has.

The lock's file tells who has it (FIELDS, a line each), also to other homes on this machine.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Iterable

from agentpipe import errors, files, paths
from agentpipe.claim import claims
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# a supervisor's process and, of a slot of --jobs, the one that starts it again, as processes.identity() has them; its
# name; what it was started with; the servers that it may serve, as known_as() has them. Others tell name and servers
FIELDS = ("process", "parent", "worker", "serves", "servers")


class Worker:
    """A worker's name, held by a lock of this process unless it was given (then its giver holds it)."""

    def __init__(self, api: Any, given: str | None = None) -> None:
        self._lock: int | None = None
        self.name = given or given_name() or ""
        try:
            self.name.encode()
        except UnicodeEncodeError:
            raise errors.Failure(f"the worker's name is not UTF-8: {self.name!r}", errors.BAD_CONFIG,
                                 remedy="correct --worker, or CLEARML_WORKER_ID") from None
        if not self.name:
            self.name, self._lock = first_free(numbered(host()), known_as(api))


def given_name() -> str | None:
    """The name that the operator has chosen, if any."""
    return config.get("agent.worker_id", None, "CLEARML_WORKER_ID")


def host() -> str:
    """What names of workers on this machine begin with."""
    return config.get("agent.worker_name", None, "CLEARML_WORKER_NAME") or os.uname().nodename


def numbered(base: str, start: int = 0) -> Iterable[str]:
    """BASE:0, BASE:1 and so on."""
    return (f"{base}:{number}" for number in itertools.count(start))


def known_as(api: Any) -> set[str]:
    """What a server is called in notes on this machine: its id, and its address."""
    found = {getattr(api, "host", "")} - {""}
    try:
        return found | {api.server_id}
    except (errors.ApiError, errors.Failure):
        if not found:
            raise
        return found  # it is away, and nobody has logged in before


def first_free(names: Iterable[str], servers: set[str]) -> tuple[str, int]:
    """The first of the names that neither a process nor an active task has, here or in another home of this user that
    serves the same server, and the descriptor of its lock.

    A script whose supervisor is gone keeps the name that it was pulled under.
    """
    from agentpipe.claim import homes
    with homes.choosing(servers) as (served, at_work):
        taken = _of_active_tasks() | served | at_work
        for name in names:
            if name not in taken:
                fd = lock(name)
                if fd is not None:
                    tell(fd, worker=name, servers=" ".join(sorted(servers)))
                    return name, fd
    raise errors.Failure("no name is free for this worker", errors.TRY_AGAIN)


def named(name: str, servers: set[str]) -> int | None:
    """The descriptor of the lock of that very name; None when another process serves as it, here or in another home."""
    from agentpipe.claim import homes
    with homes.choosing(servers) as (served, _):
        fd = None if name in served else lock(name)
        if fd is not None:
            tell(fd, worker=name, servers=" ".join(sorted(servers)))
        return fd


def tell(fd: int, **fields: str | None) -> None:
    """Write FIELDS into a lock's file. Failure 73 when the disk takes nothing."""
    text = os.fsencode("".join(f"{fields.get(field) or ''}\n" for field in FIELDS))
    try:
        os.ftruncate(fd, os.pwrite(fd, text, 0))
    except OSError as error:
        raise files.unwritable("write the lock of a worker's name", error) from None


def told(path: str) -> dict[str, str]:
    """FIELDS, as the lock's file tells them; what it does not is absent."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return dict(zip(FIELDS, file.read().splitlines(), strict=False))
    except OSError:
        return {}


def lock_paths(state: str) -> list[str]:
    """The locks of the names of a home, by its state directory."""
    folder = os.path.join(state, "workers")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.endswith(".lock")]


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
