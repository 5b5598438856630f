"""Processes of this host: who they are (pid, start, boot), whether they live, and how to signal the right one."""

import os
import signal
from collections.abc import Iterator

_boot: str | None = None


def boot_id() -> str:
    """This boot of this host: no pid means anything in another."""
    global _boot
    if _boot is None:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot = file.read().strip()
    return _boot


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot (field 22 of /proc/PID/stat); None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def parent(pid: int) -> int:
    """The parent's pid; 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def identity(pid: int) -> str | None:
    """ "PID START BOOT", the only name of a process that is never given twice; None when it is gone."""
    start = start_time(pid)
    return None if start is None else f"{pid} {start} {boot_id()}"


def alive(record: str) -> bool:
    """Whether the process of a "PID START BOOT" record still runs on this host."""
    pid, start, boot = _parts(record)
    return boot == boot_id() and pid > 0 and start_time(pid) == start


def send(record: str, signum: int) -> bool:
    """Signal exactly that process (through a pidfd whose start time was checked); False when it is gone."""
    pid, start, boot = _parts(record)
    if boot != boot_id():
        return False
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return False
    try:
        if start_time(pid) != start:
            return False
        signal.pidfd_send_signal(fd, signum)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def all_pids() -> Iterator[int]:
    """Every process of this pid namespace."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def descendants(*roots: int) -> list[int]:
    """The processes below `roots`, parents before children; without the roots."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        children.setdefault(parent(pid), []).append(pid)
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def having(variable: bytes) -> list[int]:
    """The processes of this user whose environment at start had `variable` (b"NAME=value")."""
    found = []
    for pid in all_pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if variable in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:  # another user's, or gone meanwhile
            continue
    return found


def holding_open(path: str) -> list[int]:
    """The processes of this user that have the file open."""
    try:
        wanted = os.stat(path)
    except FileNotFoundError:
        return []
    return [pid for pid in all_pids() if pid != os.getpid() and _has_open(pid, wanted.st_dev, wanted.st_ino)]


def pipe_is_held(inode: int) -> bool:
    """Whether any process of this user still has the pipe open, on either side (2 ms for a few hundred)."""
    name = f"pipe:[{inode}]"
    me = os.getpid()
    for pid in all_pids():
        if pid == me:
            continue
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == name:
                    return True
        except OSError:
            continue
    return False


def become_subreaper() -> None:
    """Adopt orphaned descendants (prctl(2), PR_SET_CHILD_SUBREAPER), so that none escapes our wait."""
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def _has_open(pid: int, device: int, inode: int) -> bool:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            found = os.stat(f"/proc/{pid}/fd/{fd}")
            if found.st_ino == inode and found.st_dev == device:
                return True
    except OSError:
        pass
    return False


def _parts(record: str) -> tuple[int, int, str]:
    try:
        pid, start, boot = record.split(" ")
        return int(pid), int(start), boot
    except ValueError:
        return 0, 0, ""
