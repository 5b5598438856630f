"""What of a task's log is printed, and how: text as it was printed, or JSON."""

from __future__ import annotations

import io
import json
import os

from agentpipe import stdio
from agentpipe.task.logs import text_of
from agentpipe.task.output import coloured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from agentpipe.task.error_lines import Finder


class Choice:
    """All of a log or one stream of it ("setup", "log"); with `errors` only the lines that tell of some."""

    def __init__(self, stream: str | None = None, errors: bool = False) -> None:
        self.errors = errors
        self._stream = stream
        self._finders: dict[str, Finder] = {}

    def of(self, event: dict[str, Any]) -> bytes:
        """What of an event was chosen; of each event after the one before, since a traceback goes over several."""
        stream = event.get("stream", "log")
        if self._stream not in (None, stream):
            return b""
        text = text_of(event)
        if not self.errors:
            return text
        from agentpipe.task import error_lines
        finder = self._finders.setdefault(stream, error_lines.Finder())
        return b"".join(line for each in io.BytesIO(text) for line in finder.feed(each))


def lines(events: Iterable[dict[str, Any]], choice: Choice) -> int:
    """How many lines of these events were chosen, the last with an end or without."""
    count, open_end = 0, False
    for event in events:
        text = choice.of(event)
        if text:
            count, open_end = count + text.count(b"\n"), not text.endswith(b"\n")
    return count + open_end


class Output:
    """What was chosen, on stdout: as it was printed, or as JSON, an object for each event, or with `by_line` each line.

    The first `skip` lines are left out.
    """

    def __init__(self, choice: Choice, as_json: bool, by_line: bool) -> None:
        self.skip, self.errors = 0, choice.errors
        self._choice, self._json, self._by_line = choice, as_json, by_line
        self._harmless = None
        if os.isatty(1):
            from agentpipe.task import harmless
            self._harmless = harmless.Harmless(coloured())

    def put(self, event: dict[str, Any]) -> None:
        """Show an event."""
        text = self._rest(self._choice.of(event))
        if not text:
            return
        if self._json:
            text = b"".join(json.dumps(each).encode() + b"\n" for each in self._objects(event, text))
        stdio.put(self._harmless.feed(text) if self._harmless else text)

    def _rest(self, text: bytes) -> bytes:
        """The text without the lines that are to be left out."""
        ends = text.count(b"\n") if self.skip else 0
        if ends < self.skip:
            self.skip -= ends
            return b""
        at = 0
        for _ in range(self.skip):
            at = text.index(b"\n", at) + 1
        self.skip = 0
        return text[at:]

    def _objects(self, event: dict[str, Any], text: bytes) -> list[dict[str, Any]]:
        if not self._by_line:
            return [event]
        return [{"timestamp": event["timestamp"], "stream": event.get("stream", "log"),
                 "line": line.decode("utf-8", "replace").rstrip("\n")} for line in io.BytesIO(text)]
