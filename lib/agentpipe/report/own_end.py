"""Why a script failed by itself: what its exit status says, and whether the disk of its log was full.

The latter is noted as the name of a link, which a full disk takes too: the end itself may be told only once there is
room again.
"""

from __future__ import annotations

import errno
import os
import signal

from agentpipe import untrusted
from agentpipe.claim import attempt

FULL = "its log could not be written: the disk was full"
_MARK = "full"
_ROOM = 4096  # bytes; with less no further line may find place
_SILENT = (signal.SIGINT, signal.SIGPIPE)  # of which no shell says anything


def look(directory: str) -> None:
    """Note it, if the disk of this attempt takes nothing at this moment: its script has just failed."""
    name = f"room.{os.getpid()}"
    path = os.path.join(directory, name)
    try:
        with os.fdopen(untrusted.opened(directory, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb", 0) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _note(directory)
    finally:
        try:
            os.unlink(path)
        except OSError:  # it could not be made
            pass


def reason(directory: str, status: int, known: str = "") -> str:
    """Why the script of this attempt failed, which ended with that status; `known`: what its place says of that."""
    return "; ".join(filter(None, [_reason(directory, status), known]))


def _reason(directory: str, status: int) -> str:
    if not os.path.islink(os.path.join(directory, _MARK)):
        return _of_status(status, attempt.was_signalled(directory))
    if status == 120:
        return f"exit 120; {FULL}"
    return f"{_of_status(status, None)}; {FULL}"


def _of_status(status: int, signalled: bool | None) -> str:
    """`signalled`: whether a signal ended the script itself, where that is known."""
    if status in (126, 127):
        return f"the script, or a command in it, could not be started (exit {status})"
    if status == 120:  # https://docs.python.org/3/c-api/init.html: Py_FinalizeEx() failed to flush
        return "exit 120, as Python ends when its last output cannot be written (a full disk?)"
    if status > 128:
        try:
            found = signal.Signals(status - 128)
        except ValueError:
            return f"exit {status}"
        if signalled is False and found not in _SILENT:
            return f"exit {status}, as a shell ends when {found.name} has ended a program of it"
        return f"ended by {found.name}"
    return f"exit {status}"


def _note(directory: str) -> None:
    try:
        os.symlink("disk", os.path.join(directory, _MARK))
    except OSError:  # noted already, or no room for a name either
        pass
