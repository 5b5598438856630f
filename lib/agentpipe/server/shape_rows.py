"""Plots, pictures and vectors as rows of `shapes`: how they are written, and which pictures are gone.

A script that keeps the last hundred pictures of a series writes over the files of the older ones: these events are
`hidden`, as is a picture without an address.
"""

from __future__ import annotations

import sqlite3

from agentpipe.server.common import dumps, loads, storable
from agentpipe.server.event_series import IMAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, Any]

INSERT = ("INSERT OR REPLACE INTO shapes (task, type, metric, variant, iter, key, timestamp, doc, url, hidden) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")


def insert(db: sqlite3.Connection, events: list[Event]) -> None:
    """Write events; task, type, metric, variant, iteration and key together are an event's identity."""
    db.executemany(INSERT, map(_row, events))
    for task, url in {(event["task"], url) for event in events if (url := _url(event))}:
        hide_older(db, task, url)


def hide_older(db: sqlite3.Connection, task: str, url: bytes | None) -> None:
    """Of the pictures at one address only the newest is shown."""
    rows = db.execute("SELECT seq FROM shapes WHERE task=? AND url=? AND url IS NOT NULL AND NOT hidden "
                      "ORDER BY iter DESC, metric, variant, key", (task, url)).fetchall()
    db.executemany("UPDATE shapes SET hidden=1 WHERE seq=?", rows[1:])


def note_pictures(db: sqlite3.Connection) -> None:
    """Fill these columns of a store that is older than they are."""
    rows = db.execute("SELECT seq, task FROM shapes WHERE type=?", (IMAGE,)).fetchall()
    addresses = set()
    for seq, task in rows:
        [doc] = db.execute("SELECT doc FROM shapes WHERE seq=?", (seq,)).fetchone()
        url = _url(loads(doc))
        db.execute("UPDATE shapes SET url=?, hidden=? WHERE seq=?", (url, int(not url), seq))
        addresses.add((task, url))
    for task, url in addresses:
        hide_older(db, task, url)


def _row(event: Event) -> tuple[Any, ...]:
    url = _url(event)
    return (event["task"], event["type"], event["metric"], event["variant"], event.get("iter", 0),
            storable(str(event.get("key", ""))), event["timestamp"], dumps(event), url,
            int(event["type"] == IMAGE and not url))


def _url(event: Event) -> bytes | None:
    """The address of a picture; lone surrogates of a JSON text are kept."""
    url = event.get("url") if event["type"] == IMAGE else None
    return str(url).encode("utf-8", "surrogatepass") if url else None
