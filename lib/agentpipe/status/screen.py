"""The terminal of a program that draws again and again: its own page, keys without Enter, and all as it was after."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALS = (*LEAVING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
SILENT_S = 2.0  # what a server may take before it is said that it has not answered


class Left(BaseException):
    """Whoever watched has had enough."""


class Screen:
    """Used with `with`, which Left ends. Signals arrive as bytes in a pipe: no frame is interrupted, a new size is seen
    at once."""

    def __init__(self) -> None:
        self._before: Any = None
        self._signals, write = os.pipe()
        self._write = write
        os.set_blocking(write, False)
        os.set_blocking(self._signals, False)

    def __enter__(self) -> Screen:
        signal.set_wakeup_fd(self._write)
        for signum in SIGNALS:
            signal.signal(signum, lambda *_: None)
        self._begin()
        return self

    def __exit__(self, kind: object, *_: object) -> bool:
        self._end()
        return kind is Left

    def draw(self, lines: list[str]) -> None:
        """Show these lines in the place of those before, without a flicker."""
        text = "\x1b[H" + "\n".join(line + "\x1b[K" for line in lines) + "\x1b[J"
        _put(text.encode("utf-8", "replace"))

    def wait(self, seconds: float) -> str:
        """Up to so many seconds: "" when they are over or the size has changed, "quit", or a key."""
        files = [self._signals, *([0] if self._before is not None else [])]
        ready, _, _ = select.select(files, [], [], max(0.0, seconds))
        if self._signals in ready:
            for signum in os.read(self._signals, 64):
                if signum in LEAVING:
                    return "quit"
                if signum == signal.SIGTSTP:
                    self._pause()
        if 0 in ready:
            key = os.read(0, 16)
            return "quit" if key in (b"q", b"Q", b"\x1b", b"") else key.decode("latin-1")
        return ""

    @contextlib.contextmanager
    def can_be_left(self, silent: Callable[[], None]) -> Iterator[None]:
        """While a server is asked, which may not answer for long: a signal to leave is Left at once.

        After SILENT_S each second silent() draws that it does not, and a key to leave counts.
        """
        def tick(*_: object) -> None:
            silent()
            if self.wait(0) == "quit":
                raise Left
        before = [(signum, signal.signal(signum, _leave)) for signum in LEAVING]
        before.append((signal.SIGALRM, signal.signal(signal.SIGALRM, tick)))
        signal.setitimer(signal.ITIMER_REAL, SILENT_S, 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for signum, handler in before:
                signal.signal(signum, handler)

    def _pause(self) -> None:
        self._end()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._begin()

    def _begin(self) -> None:
        if os.isatty(0):
            import termios
            import tty
            self._before = termios.tcgetattr(0)
            tty.setcbreak(0)
        _put(ENTER)

    def _end(self) -> None:
        _put(LEAVE)
        if self._before is not None:
            import termios
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)
            self._before = None


def _leave(*_: object) -> None:
    raise Left


def _put(data: bytes) -> None:
    sys.stdout.flush()
    while data:
        data = data[os.write(1, data):]
