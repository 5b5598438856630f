"""Directory trees that are replaced and removed whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AT_FDCWD, RENAME_EXCHANGE = -100, 2


def beside(path: str) -> str:
    """A path next to `path` in which its replacement is built; what earlier, killed builds left there is removed."""
    put_back(path)
    for left in _left_behind(path, "new") + _left_behind(path, "old"):
        remove(left)
    return f"{path}.new-{os.getpid()}"


def put_back(path: str) -> None:
    """Where a replace() was killed before anything stood at `path` again, what stood there before does."""
    if not os.path.lexists(path):
        for left in _left_behind(path, "old")[:1]:
            os.rename(left, path)


def _left_behind(path: str, kind: str) -> list[str]:
    parent, name = os.path.split(path)
    return [os.path.join(parent, entry) for entry in os.listdir(parent) if entry.startswith(f"{name}.{kind}-")]


def replace(new: str, path: str) -> None:
    """Put the finished tree `new` in the place of `path`: nobody sees a half of either, nor neither.

    Where the file system cannot exchange two there is a moment without: put_back() is for those who were killed then.
    """
    if not os.path.lexists(path):
        os.rename(new, path)
    elif _exchange(new, path):
        remove(new)
    else:
        old = f"{path}.old-{os.getpid()}"
        os.rename(path, old)
        os.rename(new, path)
        remove(old)


def remove(path: str) -> None:
    """Remove a tree (or a file, or a link), also one with read-only directories; nothing there is fine."""
    if os.path.islink(path) or not os.path.isdir(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        return
    import shutil
    shutil.rmtree(path, onerror=_writable_first)


def _exchange(one: str, other: str) -> bool:
    """Let two names change places in one step, renameat2(2); False where that cannot be done."""
    import ctypes
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except AttributeError:  # an old C library
        return False
    return renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def _writable_first(function: Callable[..., Any], path: str, error: Any) -> None:
    # some programs (Go's module cache) make their directories read-only
    if isinstance(error[1], FileNotFoundError):
        return
    parent = os.path.dirname(path)
    os.chmod(parent, os.stat(parent).st_mode | stat.S_IRWXU)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, os.stat(path).st_mode | stat.S_IRWXU)
        remove(path)
    else:
        os.unlink(path)
