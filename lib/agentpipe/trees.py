"""Directory trees that are replaced and removed whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def beside(path: str) -> str:
    """A path next to `path` in which its replacement is built; what earlier, killed builds left there is removed."""
    parent, name = os.path.split(path)
    for entry in os.listdir(parent):
        if entry.startswith((f"{name}.new-", f"{name}.old-")):
            remove(os.path.join(parent, entry))
    return f"{path}.new-{os.getpid()}"


def replace(new: str, path: str) -> None:
    """Put the finished tree `new` in the place of `path`: nobody sees a half of either."""
    old = f"{path}.old-{os.getpid()}"
    try:
        os.rename(path, old)
    except FileNotFoundError:
        os.rename(new, path)
    else:
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
