"""Parts of a log that were never written (`truncate` made it longer): NUL bytes by the terabyte that no disk has.

What a script does write is looked at as bytes, NULs too: only where there are many the file system is asked.
"""

import os

LEAST = 4096  # bytes, a block of most file systems: a line that says of fewer would be as long as they are


def first(fd: int, data: bytes, at: int, size: int) -> tuple[int, int] | None:
    """(where it begins, where it ends) of the first hole that `data` shows, which stands in a file at position `at`.

    It ends at the file's `size` at the latest. None where there is none, or only smaller ones than LEAST, or where the
    file system knows nothing of holes.
    """
    end, place = at + len(data), at + data.find(b"\0")
    if place < at:
        return None
    try:
        while (begin := max(at, os.lseek(fd, place, os.SEEK_HOLE))) < end:
            place = min(size, _data(fd, begin, size))
            if place - begin >= LEAST and not data[begin - at:place - at].strip(b"\0"):
                return begin, place
            if place <= begin:
                break
    except OSError:  # it was truncated meanwhile
        pass
    return None


def told(begin: int, end: int) -> str:
    """The line that stands in the log for a hole."""
    return f"[agentpipe: {end - begin} bytes that were never written are left out here]\n"


def _data(fd: int, position: int, size: int) -> int:
    """Where something is written again; `size` when nothing is."""
    import errno
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size
