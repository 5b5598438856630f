"""What a program prints while it runs: kept within bounds, and whether it still works when it prints nothing."""

from __future__ import annotations

import os
import time
from collections import deque

from agentpipe import processes

# the first and the last characters of all that it prints are kept: some builds print without end
HEAD, TAIL = 1 << 20, 8 << 20
# of the time, what a processor has worked for one that prints nothing and is not still
AT_WORK = 1 / 400
# seconds between two looks that count: a longer time we were stopped ourselves, or our container was
BETWEEN = 2.0
# whose own questions, whether the other side is there, are no work
KEEPERS = ("ssh",)


class Said:
    """What a program has printed: all of it, or its begin and its end."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._left, self._size, self._cut = HEAD, 0, False

    def add(self, text: str) -> None:
        """What it has printed now."""
        if self._left > 0:
            self._head.append(text)
            self._left -= len(text)
            return
        self._tail.append(text)
        self._size += len(text)
        while self._size - len(self._tail[0]) >= TAIL:
            self._size -= len(self._tail.popleft())
            self._cut = True

    def text(self) -> str:
        """What is kept."""
        return "".join([*self._head, *(["\n[…]\n"] if self._cut else []), *self._tail])


class Quiet:
    """For how long nothing has come, of the time in which somebody looked."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Something has come."""
        self._seconds, self._looked = 0.0, time.monotonic()

    def seconds(self) -> float:
        """Asked now and then."""
        now = time.monotonic()
        self._seconds += min(now - self._looked, BETWEEN)
        self._looked = now
        return self._seconds


class Still:
    """Whether a program, with what it has started, neither prints nor reads nor writes nor computes, for `seconds`."""

    def __init__(self, pid: int, seconds: float) -> None:
        self._pid, self._seconds = pid, seconds
        self._quiet = Quiet()
        self._before: tuple[float, int] | None = None
        self.over = False

    def printed(self) -> None:
        """It is not still."""
        self._quiet.begin()
        self._before = None

    def __call__(self) -> bool:
        """Asked now and then, while nothing comes."""
        quiet = self._quiet.seconds()
        if quiet < self._seconds / 2:
            return False
        if self._before is None:  # to look costs some milliseconds: not while it prints
            self._before = _done(self._pid)
        elif quiet >= self._seconds:
            worked, moved = _done(self._pid)
            self.over = worked - self._before[0] < self._seconds * AT_WORK and moved <= self._before[1]
            if not self.over:
                self.printed()
        return self.over


def _done(pid: int) -> tuple[float, int]:
    """(seconds of processors, bytes read and written) of a process and all that it has started."""
    pids = [each for each in (pid, *processes.descendants(pid))
            if os.path.basename("".join(processes.words(each)[:1])) not in KEEPERS]
    return sum(map(processes.worked, pids)), sum(sum(processes.transferred(each)) for each in pids)
