"""The homes of this user on this machine: no two of them serve one server under one worker's name.

Each that chooses a name notes itself in a directory that all of them know, and looks at the locks of the others. One
at a time chooses, so two that start together do not miss each other.
"""

from __future__ import annotations

import contextlib
import os
import time

from agentpipe import errors, files, paths
from agentpipe.claim import claims, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 5.0  # with another that chooses; a stopped process must hold up nobody
# a home that is not there may be one that is not mounted here (a container, an automount); its note is kept fresh where
# it is used
FORGOTTEN_S = 30 * 86400.0


@contextlib.contextmanager
def choosing(servers: set[str]) -> Iterator[tuple[set[str], set[str]]]:
    """While no other process of this user chooses a name: those that other homes serve these servers under, and those
    that only tasks of theirs have (a script whose supervisor is gone keeps its name).
    """
    with contextlib.ExitStack() as stack:
        served: set[str] = set()
        at_work: set[str] = set()
        with contextlib.suppress(OSError, errors.Failure):  # then each home is alone
            folder = paths.of_this_machine("homes")
            fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            files.lock_within(fd, PATIENCE_S)
            with contextlib.suppress(OSError):  # a full disk: the others can be looked at all the same
                _note(folder)
            for name in os.listdir(folder):
                with contextlib.suppress(OSError, errors.Failure):  # one that cannot be read hides none of the others
                    state = _other(folder, name)
                    if state:
                        served |= _served(state, servers)
                        at_work |= _at_work(state, servers)
        yield served, at_work


def keep() -> None:
    """This home is in use. No error: then a name may be given twice, as without any note."""
    with contextlib.suppress(OSError, errors.Failure):
        _note(paths.of_this_machine("homes"))


def _name(state: str) -> str:
    found = os.stat(state)
    return f"{found.st_dev:x}-{found.st_ino:x}"


def _note(folder: str) -> None:
    """Make the link to this home, or keep it fresh, for what clears /var/tmp of old files (systemd-tmpfiles)."""
    state = paths.state()
    link = os.path.join(folder, _name(state))
    if os.path.islink(link) and os.readlink(link) == state:
        os.utime(link, follow_symlinks=False)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(state, link)


def _other(folder: str, name: str) -> str | None:
    """The state directory of another home, by its note; None for what is none, and for one that is not there."""
    path = os.path.join(folder, name)
    if name in ("lock", _name(paths.state())):
        return None
    state = os.readlink(path)
    if os.path.isdir(state):
        return state
    if time.time() - os.lstat(path).st_mtime > FORGOTTEN_S:
        os.unlink(path)
    return None


def _served(state: str, servers: set[str]) -> set[str]:
    """Names that a process of that home has."""
    found = set()
    for path in workers.lock_paths(state):
        told = workers.told(path)
        if servers.intersection(told.get("servers", "").split()) and workers.locked(path):
            found.add(told["worker"])
    return found


def _at_work(state: str, servers: set[str]) -> set[str]:
    """Names of its active tasks."""
    active = os.path.join(state, "active")
    found = set()
    for token in os.listdir(active) if os.path.isdir(active) else ():
        claim = claims.read(os.path.join(active, token))
        if claim and claim.get("server") in servers:
            found.add(str(claim.get("worker") or ""))
    return found
