"""Lines that are no task of a queue: events, names of tasks, receipts. A stage's own input is lines.Input."""

from __future__ import annotations

import os
import select
from collections import deque

from agentpipe import errors

CHUNK = 1 << 16
LONGEST = 256 << 20  # bytes of a line; a plot may have some 50 MB


class Lines:
    """Those of a file of the command line that are not blank; `-` is standard input. `holds` says what one of them is.

    Failure 66 for a file that cannot be opened, 65 for what is no text, or for a line that memory may not hold.
    """

    def __init__(self, holds: str, file: str = "-") -> None:
        self.number = 0  # of the line that was given last, blank ones counted
        self._holds, self._source = holds, "standard input" if file == "-" else file
        self._lines: deque[bytes] = deque()
        self._parts: list[bytes] = []  # of the line that is not whole yet, never joined for nothing
        self._size, self._ended = 0, False
        self._fd = 0 if file == "-" else self._opened(file)

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes:
        """The next one, without its newline."""
        while True:
            while self._lines:
                self.number += 1
                line = self._lines.popleft()
                if line.strip():
                    return line
            if self._ended:
                raise StopIteration
            self._read()

    def is_awaited(self) -> bool:
        """Whether the next line is still on its way."""
        return not self._lines and not self._ended and not self._is_ready(0)

    def close(self) -> None:
        """Let the file go; standard input stays."""
        if self._fd:
            os.close(self._fd)

    def _read(self) -> None:
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:  # whoever shares it has made it one that does not wait
            self._is_ready(None)
            return
        except OSError as error:
            raise errors.Failure(f"{self._source}: {error.strerror}", errors.BAD_DATA) from None
        self._ended = not chunk
        whole, newline, rest = chunk.rpartition(b"\n")
        self._size = len(rest) + (0 if newline else self._size)
        if not newline and b"\0" in chunk:
            raise errors.Failure(f"{self._source} holds no text: {self._holds}", errors.BAD_DATA)
        if self._size > LONGEST:
            raise errors.Failure(f"{self._source} has a line of more than {LONGEST >> 20} MiB: {self._holds}",
                                 errors.BAD_DATA)
        if newline:
            self._lines += b"".join([*self._parts, whole]).split(b"\n")
            self._parts = []
        self._parts += [rest] if rest else []
        if self._ended and self._parts:  # the last one may have no newline
            self._lines.append(b"".join(self._parts))

    def _is_ready(self, milliseconds: int | None) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(milliseconds))

    @staticmethod
    def _opened(file: str) -> int:
        try:
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise errors.Failure(f"{file}: {error.strerror}", errors.NOT_FOUND) from None
