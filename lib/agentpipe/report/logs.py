"""A file that somebody else still writes, read in pieces that may be sent: whole lines while it grows."""

import os

from agentpipe import holes, redact, terminal, untrusted

CHUNK = 256 << 10  # raw bytes a piece at most
LONGEST = 1 << 62  # bytes that are counted: a file may be made longer and truncated until no number holds them all
# a last line without an end is due after a second without growth; one that keeps growing, and what a progress
# bar shows meanwhile, each 3 s
QUIET_S = 1.0
LIVE_S = 3.0


class Stream:
    """One growing file. Positions count all bytes ever written: the file's first byte stands at `base`.

    `start` is the position after the last piece taken, `read` that up to which the fold has seen the file
    (between them: a progress bar that is not out yet).
    """

    def __init__(self, name: str, path: str, redactor: redact.Redactor, rows: bool = False) -> None:
        self.name = name
        self.chunk = CHUNK  # raw bytes a piece at most
        self._rows = rows  # what a carriage return ends is a line, as after a newline
        self.base = self.start = self.read = 0
        self.shrank = False  # the file became shorter than what was read: restart() before the next take()
        self._path, self._redactor = path, redactor
        self._fd: int | None = None
        self._fold = terminal.Fold()
        self._size = -1  # when last looked at
        self._grown = 0.0  # when it last grew
        self._since: float | None = None  # since when something waits to be sent
        self._over = False  # what waits is being written over
        self._drained = False
        self._stop: int | None = None  # the position up to which take() goes, whoever writes on

    def seek(self, position: int, cut: bool = False) -> None:
        """Go on from what is acknowledged; what was read behind it is read again.

        `cut`: the file may have lost its end, with its machine's power: then what is left of it has been sent.
        """
        if cut:
            self.base = max(self.base, position - (self._look(0.0) or 0))
        self.start = self.read = max(position, self.base)
        self._fold, self._since, self._drained = terminal.Fold(), None, False

    def follow(self, final: bool) -> None:
        """take() goes to the end of the file: to that of this very moment when it is `final`. What a script has left
        behind, and nobody can end, may write for ever."""
        self._stop = None
        if final:
            size = self._look(0.0)
            self._stop = self.read if size is None else (self.read if self.shrank else self.base) + size

    def take(self, now: float, final: bool = False) -> tuple[str, int, int] | None:
        """The next (text, offset, end) that is due at `now` (monotonic seconds), or None.

        It stands for at most CHUNK raw bytes more than what a progress bar has held back, or for a hole of any
        length (holes.py), of which a line tells. With `final` the file is over: all of it is due, as far as follow()
        goes.
        """
        size = self._look(now)
        if size is None or self.shrank:
            return None
        end = size if self._stop is None else min(size, self._stop - self.base)
        due = final or self._is_due(now)
        if self._drained and not due:
            return None
        while True:
            at = self.read - self.base
            data = os.pread(self._fd or 0, max(0, min(self.chunk, end - at)), at)
            hole = holes.first(self._fd or 0, data, at, end)
            if hole and hole[0] == at:
                return self._left_out(*hole)
            if hole:
                data = data[:hole[0] - at]
            at_end = at + len(data) >= end
            text, used = self._consume(data, due and at_end, hole is not None or (final and at_end and end == size))
            if due and (at_end or self._fold.live):
                text += self._fold.snapshot()
            if text or at_end or not used:
                break
        waits = used < len(data) or self._fold.live
        if text or due or not waits:
            self._since = None
        if waits:
            self._since = now if self._since is None else self._since
            self._over = self._fold.live or b"\r" in data[used:] or b"\b" in data[used:]
        self._drained = not text
        if not text:
            return None
        offset, self.start = self.start, self.read
        return text, offset, self.read

    def restart(self) -> tuple[int, int]:
        """Go on from the begin of a file that became shorter; how long it was, and is."""
        lost = self.read - self.base
        self.base = self.start = self.read
        self.shrank, self._drained = False, False
        self._fold, self._since = terminal.Fold(), None
        return lost, self._size

    def close(self) -> None:
        """Let the file go."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _look(self, now: float) -> int | None:
        if self._fd is None:
            try:
                # kept open: a file that is renamed or removed is read on
                self._fd = untrusted.opened(*os.path.split(self._path))
            except OSError:  # not there, none of ours, or closed to us by a container
                return None
        size = min(os.fstat(self._fd).st_size, LONGEST - self.base)
        if size != self._size:
            self._size, self._grown, self._drained = size, now, False
        self.shrank = self.base + size < self.read
        return size

    def _left_out(self, begin: int, end: int) -> tuple[str, int, int]:
        """A line for a hole between these places of the file, behind what a row on the screen still held back."""
        offset, self.start, self.read = self.start, self.base + end, self.base + end
        self._since, self._drained = None, False
        return self._fold.end() + holes.told(begin, end), offset, self.read

    def _is_due(self, now: float) -> bool:
        if self._since is None:
            return False
        return now - self._since >= LIVE_S or (not self._over and now - self._grown >= QUIET_S)

    def _consume(self, data: bytes, rest: bool, over: bool) -> tuple[str, int]:
        """Fold what may be read of `data`: whole lines, or the `rest` too; `over`: no byte will follow."""
        cut = len(data) if over else data.rfind(b"\n") + 1
        if self._rows and not over:  # one at the very end may be half of a \r\n
            cut = max(cut, data.rfind(b"\r", 0, len(data) - 1) + 1)
        if not over and (rest or (not cut and len(data) == self.chunk)):
            cut = terminal.whole_characters(data)
        clear, used = self._redactor.replace(data[:cut], over)
        self.read += used
        if self._rows:
            clear = clear.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self._fold.feed(clear), used
