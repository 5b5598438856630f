"""Processes of this host: who they are (pid, start, boot), whether they live, and how to signal the right one."""

import os
import signal
from collections.abc import Iterator

_boot: str | None = None
of_ours: set[int] = set()  # programs that this process runs for itself, also beside a script


class Seen:
    """A process when it was looked at: its `name` (pid, start), its parent's pid, its command line."""

    __slots__ = ("name", "parent", "words")

    def __init__(self, pid: int, start: int, parent: int, words: list[str]) -> None:
        self.name, self.parent, self.words = (pid, start), parent, words


def boot_id() -> str:
    """This boot of this host: no pid means anything in another."""
    global _boot
    if _boot is None:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot = file.read().strip()
    return _boot


def namespace() -> str:
    """The name of our pid namespace, never given twice; "" where the kernel does not tell. In a container of this
    machine, or on another, our pids are those of others."""
    try:
        return f"{boot_id()}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot (field 22 of /proc/PID/stat).

    None when it is gone, a zombie, or another user's where /proc hides those (hidepid).
    """
    fields = _stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def parent(pid: int) -> int:
    """The parent's pid; 0 when there is none, or none that we may see."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def worked(pid: int) -> float:
    """Seconds for which processors have worked for it and for what it has waited for; 0 when it is gone."""
    return sum(map(int, _stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on, its state; [] when it is gone, or hidden from us."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def transferred(pid: int) -> tuple[int, int]:
    """The bytes that it has read and written, from sockets and pipes too: proc_pid_io(5); 0 where that is not told.

    What it read from a disk counts as well: of a file that is mapped nothing else tells.
    """
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            told = dict(line.split(": ") for line in file)
        return int(told["rchar"]) + int(told["read_bytes"]), int(told["wchar"])
    except (OSError, KeyError, ValueError):
        return 0, 0


def words(pid: int) -> list[str]:
    """Its command line; [] of one that is gone, a zombie, or another user's that we may not see."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).split("\0")[:-1]
    except OSError:
        return []


def seen(pid: int) -> Seen | None:
    """A process of this host; None of one that is gone, a zombie, or another user's that we may not see."""
    start = start_time(pid)
    return None if start is None else Seen(pid, start, parent(pid), words(pid))


def identity(pid: int) -> str | None:
    """ "PID START BOOT", the only name of a process that is never given twice; None when it is gone."""
    start = start_time(pid)
    return None if start is None else f"{pid} {start} {boot_id()}"


def alive(record: str) -> bool:
    """Whether the process of a "PID START BOOT" record still runs on this host."""
    pid, start, boot = _parts(record)
    return boot == boot_id() and pid > 0 and start_time(pid) == start


def send(record: str, signum: int) -> bool:
    """Signal exactly that process; False when it is gone, or not ours to signal (what sudo started).

    Through a pidfd, which stays this process whatever becomes of its number; where there are none (old kernels, seccomp
    profiles of containers) by the number, right after a look at its start time.
    """
    pid, start, boot = _parts(record)
    if boot != boot_id():
        return False
    fd = pidfd(pid)
    try:
        if start_time(pid) != start:
            return False
        if fd is None:
            os.kill(pid, signum)
        else:
            signal.pidfd_send_signal(fd, signum)
        return True
    except OSError:
        return False
    finally:
        if fd is not None:
            os.close(fd)


def tell(name: tuple[int, int], signum: int) -> bool:
    """send() by the name that Seen has."""
    return send(f"{name[0]} {name[1]} {boot_id()}", signum)


def pidfd(pid: int) -> int | None:
    """A descriptor of the process, readable at its end; None when it is gone, or where the kernel gives none."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


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


def ended_children() -> list[int]:
    """Our own children that have ended and that nobody has waited for yet."""
    me = os.getpid()
    return [pid for pid in all_pids() if parent(pid) == me and start_time(pid) is None]


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


def holding_open(path: str, to_write: bool = False) -> list[int]:
    """The processes of this user that have the file open, or (`to_write`) can write it: no mere readers."""
    try:
        wanted = os.stat(path)
    except FileNotFoundError:
        return []
    me = os.getpid()
    return [pid for pid in all_pids() if pid != me
            and any(_is_file(fd, wanted.st_dev, wanted.st_ino) and not (to_write and _only_reads(fd))
                    for fd in _descriptors(pid))]


def pipe_is_held(inode: int, fifo: str = "") -> bool:
    """Whether any process of this user still has the pipe open, on either side (2 ms for a few hundred).

    `fifo` is its path, for one that has a name; it may have been removed meanwhile, and another stand there.
    """
    names = (fifo, f"{fifo} (deleted)") if fifo else (f"pipe:[{inode}]",)
    me = os.getpid()
    return any(_links_to(path, *names) and (not fifo or _inode(path) == inode)
               for pid in all_pids() if pid != me for path in _descriptors(pid))


def become_subreaper(adopt: bool = True) -> None:
    """Adopt orphaned descendants (prctl(2), PR_SET_CHILD_SUBREAPER), so that none escapes our wait; or no longer."""
    _prctl(36, int(adopt))


def signal_at_parents_end(signum: int) -> None:
    """Let the kernel signal this process when its parent ends (prctl(2), PR_SET_PDEATHSIG), also after an execve(2)."""
    _prctl(1, int(signum))


def _prctl(option: int, value: int) -> None:
    import ctypes
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descriptors(pid: int) -> list[str]:
    """/proc/PID/fd/N of each open file; none of a process that is another user's, or gone."""
    try:
        return [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


# one descriptor that was closed since it was listed says nothing of the others: each has a try of its own

def _links_to(path: str, *names: str) -> bool:
    try:
        return os.readlink(path) in names
    except OSError:
        return False


def _is_file(path: str, device: int, inode: int) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_ino == inode and found.st_dev == device


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _only_reads(path: str) -> bool:
    """Whether a descriptor (/proc/PID/fd/N) is open for reading alone; also one that was closed meanwhile."""
    try:
        with open(path.replace("/fd/", "/fdinfo/"), "rb") as file:
            flags = next(line for line in file if line.startswith(b"flags:"))
    except OSError:
        return True
    return int(flags.split()[1], 8) & os.O_ACCMODE == os.O_RDONLY


def _parts(record: str) -> tuple[int, int, str]:
    try:
        pid, start, boot = record.split(" ")
        return int(pid), int(start), boot
    except ValueError:
        return 0, 0, ""
