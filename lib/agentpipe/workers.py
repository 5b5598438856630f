"""Names of workers: a given one, or HOST:N with the first N that no lock and no active task holds."""

import fcntl
import os

from agentpipe import claims, config, paths


class Worker:
    """A worker's name, held by a lock of this process unless it was given (then its giver holds it)."""

    def __init__(self, given: str | None = None) -> None:
        self._lock: int | None = None
        self.name = given or config.get("agent.worker_id", None, "CLEARML_WORKER_ID") or self._first_free()

    def _first_free(self) -> str:
        base = config.get("agent.worker_name", None, "CLEARML_WORKER_NAME") or os.uname().nodename
        os.makedirs(paths.state("workers"), 0o700, exist_ok=True)
        taken = _of_active_tasks()
        number = 0
        while True:
            name = f"{base}:{number}"
            if name not in taken and self._locked(_lock_path(name)):
                return name
            number += 1

    def _locked(self, path: str) -> bool:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock = fd
        return True


def lives(name: str) -> bool | None:
    """Whether somebody on this machine works under that name; None for one that was given (no lock tells)."""
    path = _lock_path(name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return name in _of_active_tasks()


def _lock_path(name: str) -> str:
    return paths.state("workers", name.replace("/", "_") + ".lock")


def _of_active_tasks() -> set[str]:
    names: set[str] = set()
    for token in os.listdir(claims.active()):
        found = claims.read(claims.active(token))
        if found:
            names.add(found.get("worker", ""))
    return names
