"""Files in an attempt's directory, in which the root of a container may put anything under any name.

What is opened here is a regular file that stands there itself: no link is followed out of the directory, no fifo is
waited for, no device is touched, and no more is read than was meant to be there.
"""

import errno
import os
import stat

SMALL = 1 << 20  # bytes; of a file that only we write
LARGE = 256 << 20  # of one that holds what a task brings: its manifest


class NotRegular(OSError):
    """Something else than a file of its own (a link, a fifo, a folder), or one that is too large."""

    def __init__(self, path: str, why: str = "it is no regular file") -> None:
        super().__init__(errno.EINVAL, why, path)


def opened(directory: str, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of the regular file NAME (`setup/before` too) in a directory of a task; else NotRegular.

    What is missing, or in the way of a new name, raises its own OSError.
    """
    *folders, last = name.split("/")
    above = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            os.close(above)
            above = below
        try:
            fd = os.open(last, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=above)
        except OSError as error:
            # a link; a socket, or a fifo that nobody reads; a folder
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise NotRegular(os.path.join(directory, name)) from None
            raise
    finally:
        os.close(above)
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
