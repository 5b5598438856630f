"""The lines of a log on their way into the store: scripts print them by the thousand, each an event of its own."""

from __future__ import annotations

import sqlite3
from itertools import chain

from agentpipe.server.common import dumps, error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = tuple[Any, ...]

# a log event's own columns (`offset` and `end` are bytes of what was read, `stream` its name: ours)
COLUMNS = ("task", "timestamp", "claim", "stream", "offset", "end", "msg")
# in these a line differs from the one before, and mostly in no other
VARYING = frozenset(("timestamp", "offset", "end", "msg"))
INSERT = ("INSERT OR IGNORE INTO logs (task, timestamp, claim, stream, offset, end, msg, doc) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
# rows of one statement. While SQLite works Python's lock is free, and whoever took it has to be waited for: row by
# row that took longer than the work as soon as another thread had something to do
SIZES = (64, 8, 1)
WHOLE = 1 << 63


class Alike:
    """A line that was accepted, and those after it that differ from it in time, place and text only.

    `rows` are theirs, `last` is the latest time.
    """

    __slots__ = ("_rest", "last", "rows")

    def __init__(self, event: dict[str, Any], complete: dict[str, Any]) -> None:
        """An event as it was sent (and found good), and with its defaults."""
        self._rest = {key: value for key, value in event.items() if key not in VARYING}
        message = complete.get("msg", "")
        rest = {key: value for key, value in complete.items() if key not in COLUMNS}
        self.last = complete["timestamp"]
        self.rows: list[Row] = [(
            complete["task"], self.last, complete.get("claim"), complete.get("stream"), complete.get("offset"),
            complete.get("end"), _encoded(message if isinstance(message, str) else dumps(message)), dumps(rest))]

    def takes(self, event: Any) -> bool:
        """Add an event as it was sent, when it is such a line; else it has to be looked at field by field."""
        if type(event) is not dict:
            return False
        at, text, offset, end = event.get("timestamp"), event.get("msg"), event.get("offset"), event.get("end")
        if type(text) is not str or not _whole(at):
            return False
        if not (offset is None or _whole(offset)) or not (end is None or _whole(end)):
            return False
        if {key: value for key, value in event.items() if key not in VARYING} != self._rest:
            return False
        task, _, claim, stream, _, _, _, doc = self.rows[0]
        self.rows.append((task, at, claim, stream, offset, end, _encoded(text), doc))
        if at > self.last:
            self.last = at
        return True


def _whole(value: Any) -> bool:
    return type(value) is int and -WHOLE <= value < WHOLE


def _encoded(text: str) -> bytes:
    """A line's bytes; lone surrogates of a JSON text are kept."""
    return text.encode("utf-8", "surrogatepass")


def insert(db: sqlite3.Connection, rows: list[Row]) -> None:
    """Write rows; of a claim's stream what is stored already is left out, whoever sent it.

    What begins within it and goes on behind it is cut elsewhere than what is there: 400/139, nothing is written. Two
    have read the same position then, and who is refused asks for it again (events.get_log_position).
    """
    known: dict[tuple[Any, ...], int | None] = {}
    rows = [row for row in rows if _is_new(db, row, known)]
    at = 0
    for size in SIZES:
        many = INSERT + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (size - 1)
        while len(rows) - at >= size:
            db.execute(many, list(chain.from_iterable(rows[at:at + size])))
            at += size


def position(db: sqlite3.Connection, task: str, claim: str, stream: str) -> int | None:
    """Up to where a stream of a claim is stored, in bytes of what was read; None when nothing of it is."""
    row = db.execute("SELECT end FROM logs WHERE task=? AND claim=? AND stream=? AND end IS NOT NULL "
                     "ORDER BY offset DESC LIMIT 1", (task, claim, stream)).fetchone()
    return row[0] if row else None


def positions(db: sqlite3.Connection, task: str, claim: str) -> dict[str, int]:
    """The position of each stream of a claim."""
    streams = db.execute("SELECT DISTINCT stream FROM logs WHERE task=? AND claim=? AND stream IS NOT NULL",
                         (task, claim)).fetchall()
    found = {stream: position(db, task, claim, stream) for (stream,) in streams}
    return {stream: end for stream, end in found.items() if end is not None}


def _is_new(db: sqlite3.Connection, row: Row, known: dict[tuple[Any, ...], int | None]) -> bool:
    task, _, claim, stream, offset, end, _, _ = row
    if type(claim) is not str or type(stream) is not str or not (_whole(offset) and _whole(end)):
        return True
    key = task, claim, stream
    if key not in known:
        known[key] = position(db, *key)
    stored = known[key]
    if stored is not None and offset < stored:
        if end > stored:
            raise error(139, claim=claim, stream=stream, position=stored)
        return False
    known[key] = end
    return True
