"""Files in an attempt's directory, in which the root of a container may put anything under any name.

What is opened here is a regular file that stands there itself: no link is followed out of the directory, no fifo is
waited for, no device is touched, and no more is read than was meant to be there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SMALL = 1 << 20  # bytes; of a file that only we write
LARGE = 256 << 20  # of one that holds what a task brings: its manifest
LISTS = 32 << 20  # of a list of packages, a lock, a table: read as a whole, and worth many times that in memory

_folders: list[str] = []  # of kept_within(); none: anywhere


class NotRegular(OSError):
    """Something else than a file of its own (a link, a fifo, a folder), or one that is too large."""

    def __init__(self, path: str, why: str = "it is no regular file") -> None:
        super().__init__(errno.EINVAL, why, path)


@contextmanager
def kept_within(*folders: str) -> Iterator[None]:
    """While this lasts, of_task() opens nothing that is elsewhere: whoever can read the log of a task, or of its
    installers, does not get at more files through us than the task can itself."""
    before = _folders[:]
    _folders[:] = [os.path.realpath(folder).rstrip("/") + "/" for folder in folders]
    try:
        yield
    finally:
        _folders[:] = before


def of_task(path: str, within: str = "", limit: float = LARGE) -> int:
    """A descriptor to read a file that a task brings, or has made, behind links too; NotRegular for one that leads out
    of the folder `within`, or out of those of kept_within() (without either it may be anywhere), or is no regular file,
    or has more than `limit` bytes. What is missing raises its own OSError."""
    folders = [within.rstrip("/") + "/"] if within else _folders
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)  # which does nothing to a fifo or a device
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")
        if folders and not real.startswith(tuple(folders)):
            raise NotRegular(path, "it leads out of the task's own folder")
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise NotRegular(path)
        if found.st_size > limit:
            raise NotRegular(path, f"it has more than {limit} bytes")
        # some of /proc and /sys call themselves regular, and wait for more
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(fd)


@contextmanager
def _within(directory: str, folders: str) -> Iterator[int]:
    """A descriptor of the folder FOLDERS ("", `setup`) in a directory of a task, behind no link."""
    above = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders.split("/") if folders else ():
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            os.close(above)
            above = below
        yield above
    finally:
        os.close(above)


def unlink(directory: str, name: str) -> None:
    """Remove the file, or the link, NAME (`setup/before` too) in a directory of a task. Raises OSError."""
    folders, _, last = name.rpartition("/")
    with _within(directory, folders) as above:
        os.unlink(last, dir_fd=above)


def opened(directory: str, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of the regular file NAME (`setup/before` too) in a directory of a task; else NotRegular.

    What is missing, or in the way of a new name, raises its own OSError.
    """
    folders, _, last = name.rpartition("/")
    with _within(directory, folders) as above:
        try:
            fd = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=above)
        except OSError as error:
            # a link; a socket, or a fifo that nobody reads; a folder
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise NotRegular(os.path.join(directory, name)) from None
            raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegular(os.path.join(directory, name))
    return fd


def read(directory: str, name: str, limit: int = SMALL) -> bytes:
    """All of that file; NotRegular also for one of more than `limit` bytes. Raises OSError."""
    with os.fdopen(opened(directory, name), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise NotRegular(os.path.join(directory, name), f"it has more than {limit} bytes")
    return data


def tail(directory: str, name: str, most: int) -> bytes:
    """The last bytes of that file, `most` at most. Raises OSError."""
    with os.fdopen(opened(directory, name), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read()


def value(directory: str, name: str, limit: int = SMALL) -> Any:
    """The JSON in that file; ValueError for what is none, or is nested so deeply that nobody can have meant it. Raises
    OSError."""
    import json
    try:
        return json.loads(read(directory, name, limit))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
