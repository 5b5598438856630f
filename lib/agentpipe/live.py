"""What is said while something takes long: what is done, for how long, how much was written.

At a terminal a line that moves, and is gone when the work is over or something else is said; in the task's log a plain
line now and then.
"""

from __future__ import annotations

import os
import threading
import time

from agentpipe import stdio, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agentpipe.job import Job

FIRST, STEP = 0.5, 0.25  # seconds: what is over sooner needs no line; how often it moves
LOGGED = 30.0  # seconds between two lines of the log
SELDOM = 0.1  # and what takes an hour has one each few minutes: this part of what has passed


class Line:
    """`with live.Line(job, told):` shows told() while the block runs."""

    def __init__(self, job: Job, told: Callable[[], str]) -> None:
        self._job, self._told = job, told
        self._began = time.monotonic()
        self._echo = job.echo
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._drawn = self._watched = False
        self._at_start = True  # whether the cursor stands where a line begins
        self._before = 0
        self._thread = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> Line:
        self._watched = bool(self._echo and os.isatty(2) and os.environ.get("TERM", "") not in ("", "dumb"))
        self._job.echo = self._through
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._job.echo = self._echo
        self._clear()

    def _through(self, text: str) -> None:
        """What a stage says meanwhile comes in the line's place."""
        with self._lock:
            self._clear()
            if self._echo:
                self._echo(text)
            self._at_start = text.endswith("\n")

    def _move(self) -> None:
        self._before = _written()
        pause = FIRST if self._watched else LOGGED
        logged = self._began
        while not self._over.wait(pause):
            pause = STEP if self._watched else LOGGED
            with self._lock:
                if not self._at_start:
                    continue
                text = self._text()
                if self._watched:
                    self._drawn = _put(stdio.CLEAR + text[:_columns() - 1]) or self._drawn
                now = time.monotonic()
                if now - logged >= max(LOGGED, (now - self._began) * SELDOM):
                    logged = now
                    self._log(text + "\n")

    def _text(self) -> str:
        written = _written() - self._before
        size = units.told(written, ", ") + " written" if written >= units.MIB else ""
        return f"{self._told()}, {units.duration(time.monotonic() - self._began)}{size}"

    def _log(self, text: str) -> None:
        try:
            os.write(self._job.log, text.encode("utf-8", "surrogateescape"))
        except OSError:  # a full disk: what is said is lost, the task is not
            pass
        if self._echo and not self._watched:
            self._echo(text)

    def _clear(self) -> None:
        if self._drawn:
            _put(stdio.CLEAR)
            self._drawn = False


def _columns() -> int:
    try:
        return max(2, os.get_terminal_size(2).columns or 80)
    except OSError:
        return 80


def _put(text: str) -> bool:
    """To stderr, unless that would block (Ctrl-S)."""
    try:
        return stdio.takes(2, 0) and os.write(2, text.encode("utf-8", "replace")) > 0
    except OSError:
        return False


def _written() -> int:
    """Bytes that we and the programs that we run now have written."""
    from agentpipe import processes
    pids = [os.getpid()]
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                pids += map(int, file.read().split())
    except OSError:
        pass
    return sum(processes.transferred(pid)[1] for pid in pids)
