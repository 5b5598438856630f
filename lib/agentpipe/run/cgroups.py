"""A control group of a script's own (cgroup v2, where ours is delegated to us): none of its processes can leave it.

The link `cgroup` in the attempt's directory names it, so that whoever takes the script over finds all of it too. It is
believed only where it names a group that make() can have made for this attempt. Where none can be made the walks of
/proc have to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from agentpipe import trees

LINK = "cgroup"
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # the latter where version 1 is still in use


def make(directory: str) -> bool:
    """Make the group of an attempt, and its link; whether there is one now."""
    if os.path.isdir(of(directory) or ""):
        return True
    above = home()
    if not above:
        return False
    path = os.path.join(above, f"agentpipe-{os.path.basename(directory)}.{os.getpid()}")
    try:
        if os.path.islink(os.path.join(directory, LINK)):  # a systemd that took it for one of its own has removed it
            os.unlink(os.path.join(directory, LINK))
        os.mkdir(path)
        os.symlink(path, os.path.join(directory, LINK))
    except OSError:
        _remove(path)
        return False
    return True


def of(directory: str) -> str | None:
    """The group's own directory, as the link names it; None without one, and for what is no group of this attempt."""
    try:
        path = os.readlink(os.path.join(directory, LINK))
    except OSError:
        return None
    name, _, number = os.path.basename(path).rpartition(".")
    if name != f"agentpipe-{os.path.basename(directory)}" or not number.isdecimal() or os.path.realpath(path) != path:
        return None
    return path if any(path.startswith(os.path.realpath(mount) + "/") for mount in MOUNTS) else None


def enter(directory: str, pids: Iterable[int]) -> int:
    """Move processes into it; how many went."""
    moved, group = 0, of(directory)
    if not group:
        return 0
    for pid in pids:
        try:
            with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(pid))
            moved += 1
        except OSError:
            continue  # gone, or not ours to move
    return moved


def pids(directory: str) -> list[int]:
    """The processes in it, and in groups that they made below."""
    found: list[int] = []
    for path, _, names in trees.walk(of(directory) or ""):
        if "cgroup.procs" in names:
            try:
                with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as file:
                    found += [int(line) for line in file]
            except (OSError, ValueError):
                continue
    return found


def kill(directory: str) -> None:
    """KILL all of it in one step (Linux 5.14); else the signals have to do."""
    group = of(directory)
    if not group:
        return
    try:
        with open(os.path.join(group, "cgroup.kill"), "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        pass


def remove(directory: str) -> None:
    """Nothing of the script is left: remove its group."""
    path = of(directory)
    if not path:
        return
    for here, _, _ in reversed(list(trees.walk(path))):
        _remove(here)
    os.unlink(os.path.join(directory, LINK))


def home() -> str | None:
    """Our own group's directory, when groups below it are ours to make; else None."""
    for mount in MOUNTS:
        if os.path.exists(os.path.join(mount, "cgroup.controllers")):
            return _delegated(mount)
    return None


def _delegated(mount: str) -> str | None:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            own = next(line.rstrip("\n")[3:] for line in file if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    path = os.path.join(mount, own.lstrip("/")).rstrip("/")
    if not os.access(path, os.W_OK) or not os.access(os.path.join(path, "cgroup.procs"), os.W_OK):
        return None
    # root may write everywhere; what systemd has not delegated is systemd's
    if os.geteuid() == 0 and os.path.isdir("/run/systemd/system") and not _is_marked(path, mount):
        return None
    return path


def _is_marked(path: str, mount: str) -> bool:
    while path.startswith(mount):
        for name in ("trusted.delegate", "user.delegate"):
            try:
                if os.getxattr(path, name) == b"1":
                    return True
            except OSError:
                continue
        path = os.path.dirname(path)
    return False


def _remove(path: str) -> None:
    import time
    for _ in range(20):  # the last process may still be on its way out
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
