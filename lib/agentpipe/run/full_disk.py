"""A script that failed while the disk of its log was full: what it printed last is not there, and that is why.

Noted as the name of a link, which a full disk takes too: the end itself may be told only once there is room again.
"""

from __future__ import annotations

import errno
import os

MARK = "full"
SAID = "its log could not be written: the disk was full"
_ROOM = 4096  # bytes; with less no further line may find place


def look(directory: str) -> None:
    """Note it, if the disk of this attempt takes nothing at this moment: its script has just failed."""
    path = os.path.join(directory, f"room.{os.getpid()}")
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _note(directory)
    finally:
        if os.path.lexists(path):
            os.unlink(path)


def told(directory: str, reason: str) -> str:
    """Why a script failed, with that where it is noted."""
    if not os.path.islink(os.path.join(directory, MARK)):
        return reason
    return f"{reason.removesuffix(' (a full disk?)')}; {SAID}"


def _note(directory: str) -> None:
    try:
        os.symlink("disk", os.path.join(directory, MARK))
    except OSError:  # noted already, or no room for a name either
        pass
