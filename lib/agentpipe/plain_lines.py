"""Lines that are no task of a queue: events, names of tasks, receipts. Read, and bounded, as the input of a stage."""

from __future__ import annotations

import select

from agentpipe import lines


class Lines(lines.Input):
    """Those of a file of the command line, of which `-` is standard input; `holds` says what one of them is."""

    def __init__(self, holds: str, file: str = "-") -> None:
        if file == "-":
            super().__init__()
        else:
            super().__init__(lines.opened(file), file)
        self.holds = holds

    def give_back(self) -> int:
        """Told to stop: nothing of it belongs to a queue."""
        return 0

    def is_awaited(self) -> bool:
        """Whether the next line is still on its way."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not self._lines and not poll.poll(0)
