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
            _lock(fd)
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
    """This home is in use: what clears /var/tmp of old files, as systemd-tmpfiles does, does not forget it.

    Its note is made anew where it is gone. No error: then a name may be given twice, as without any note.
    """
    try:
        folder, state = paths.of_this_machine("homes"), paths.state()
        link = os.path.join(folder, _name(state))
        try:
            os.utime(link, follow_symlinks=False)
        except FileNotFoundError:
            os.symlink(state, link)
    except (OSError, errors.Failure):
        pass


def _lock(fd: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while not files.try_lock(fd) and time.monotonic() < until:
        time.sleep(0.01)


def _name(state: str) -> str:
    found = os.stat(state)
    return f"{found.st_dev:x}-{found.st_ino:x}"


def _note(folder: str) -> None:
    state = paths.state()
    link = os.path.join(folder, _name(state))
    if not os.path.islink(link) or os.readlink(link) != state:
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
