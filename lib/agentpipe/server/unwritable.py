"""A store on a disk that takes nothing, because it is read-only or full: opened to be read all the same.

A reader of SQLite's write-ahead log shares an index with the writers, a file that somebody has to make. Where it cannot
be made nobody writes either, and the database can be read as it stands.
"""

from __future__ import annotations

import os
import sqlite3

INDEX = 64 << 10  # bytes: with less there is no room for that file


def opened(path: str, error: sqlite3.Error) -> sqlite3.Connection:
    """The store, for one look; where opening it as usual has failed for another reason, that `error` is raised."""
    if not _takes_nothing(path, error) or _has_log(path):
        raise error
    from urllib.parse import quote
    return sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1", uri=True, isolation_level=None,
                           check_same_thread=False)


def unread(path: str, error: sqlite3.Error) -> tuple[str, str]:
    """(why the store cannot even be read, how to read it all the same), where its last changes stand in a log beside
    it, which nobody reads without writing there; ("", "") elsewhere."""
    if not (_takes_nothing(path, error) and _has_log(path)):
        return "", ""
    import shlex
    quoted = shlex.quote(path)
    return (f"; its last changes stand in {path}-wal, which cannot be read without writing beside it",
            f"make room, or the disk writable; or read a copy: d=$(mktemp -d) && mkdir $d/state && "
            f"cp {quoted} {quoted}-wal $d/state && AGENT_HOME=$d agent-task list")


def trouble(path: str) -> str:
    """Why a store's disk takes nothing, as the system tells it without a write; "" when it does not."""
    try:
        disk = os.statvfs(path)
    except OSError as error:
        return f"cannot write the store {path}: {error.strerror}"
    if disk.f_flag & os.ST_RDONLY:
        return f"the disk is read-only: cannot write the store {path}"
    return f"the disk is full: cannot write the store {path}" if _is_full(disk) else ""


def is_as_it_was(path: str, before: os.stat_result) -> bool:
    """Whether nobody has written there since, who may have found room again."""
    now = os.stat(path)
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def _takes_nothing(path: str, error: sqlite3.Error) -> bool:
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return bool(disk.f_flag & os.ST_RDONLY) or "full" in str(error) or _is_full(disk)


def _is_full(disk: os.statvfs_result) -> bool:
    return disk.f_bavail * disk.f_frsize < INDEX or (disk.f_files > 0 and disk.f_favail == 0)


def _has_log(path: str) -> bool:
    """Whether there is more than the database itself says: what was written last, and cannot be read without index."""
    try:
        return os.stat(path + "-wal").st_size > 0
    except FileNotFoundError:
        return False
