"""Where a process that does not end hangs: what /proc says of it and its children, then what Python says itself."""

import contextlib
import signal
import time
from pathlib import Path

import psutil

# until faulthandler has written all threads of a busy process (s)
PAUSE = 2


def tell(pid: int) -> str:
    """The threads, sockets and children of a process; those of in_sdk_python.py write their stacks to their stderr."""
    lines = []
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):
            lines += [f"hung: {process.pid}, child of {process.ppid()}: {' '.join(process.cmdline())}"]
            for thread in sorted(Path(f"/proc/{process.pid}/task").glob("*")):
                lines += [f"  thread {_read(thread / 'stat')}; waits in {_read(thread / 'wchan')}"]
            for socket in process.net_connections("all"):
                lines += [f"  socket {socket.laddr} -> {socket.raddr} {socket.status}"]
            if _catches(process.pid, signal.SIGUSR2):
                process.send_signal(signal.SIGUSR2)
    time.sleep(PAUSE)
    return "\n".join(lines)


def kill(pid: int) -> None:
    """End a process and what it started."""
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):
            process.kill()


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _catches(pid: int, signum: signal.Signals) -> bool:
    """Whether a process has a handler: without one, the signal would end it."""
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        name, _, value = line.partition(":")
        if name == "SigCgt":
            return bool(int(value, 16) >> signum - 1 & 1)
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return "?"
