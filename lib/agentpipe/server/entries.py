"""The entries of queues: in order, each task at most once in a queue, taken from the head."""

from __future__ import annotations

import sqlite3

from agentpipe.server.common import COMPANY, error, exists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def queue(db: sqlite3.Connection, id: str) -> None:
    """Refuse (400/701) an unknown queue."""
    if not exists(db, "queues", id):
        raise error(701, id=id, company=COMPANY)


def head(db: sqlite3.Connection, queue: str) -> tuple[int, str, str] | None:
    """Position, task and date of the first entry."""
    return db.execute("SELECT position, task, added FROM entries WHERE queue=? ORDER BY position LIMIT 1",
                      (queue,)).fetchone()


def add(db: sqlite3.Connection, queue: str, task: str, at: str, front: bool = False) -> None:
    """Put a task at the end (or the head) of a queue; it must not be there yet (400/706)."""
    if has(db, queue, task):
        raise error(706, task=task, queue=queue)
    db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (queue, _outside(db, queue, front), task, at))
    touch(db, queue, at)


def has(db: sqlite3.Connection, queue: str, task: str) -> bool:
    """Whether the task stands in that queue."""
    return db.execute("SELECT 1 FROM entries WHERE task=? AND queue=?", (task, queue)).fetchone() is not None


def remove(db: sqlite3.Connection, queue: str, task: str, at: str) -> int:
    """Take a task out of a queue; how many entries that were (0 or 1)."""
    gone = db.execute("DELETE FROM entries WHERE task=? AND queue=?", (task, queue)).rowcount
    if gone:
        touch(db, queue, at)
    return gone


def remove_everywhere(db: sqlite3.Connection, task: str, at: str, but: str = "") -> int:
    """Take a task out of all queues except `but`; how many that were."""
    rows = db.execute("SELECT queue FROM entries WHERE task=? AND queue<>?", (task, but)).fetchall()
    return sum(remove(db, queue, task, at) for (queue,) in rows)


def move(db: sqlite3.Connection, queue: str, task: str, at: str, front: bool) -> int:
    """Move an entry to the head or the end of its queue.

    Its new position, counted from 0. Not there: 400/703.
    """
    if not has(db, queue, task):
        raise error(703, queue=queue, task=task)
    db.execute("UPDATE entries SET position=? WHERE task=? AND queue=?",
               (_outside(db, queue, front), task, queue))
    touch(db, queue, at)
    return 0 if front else count(db, queue) - 1


def count(db: sqlite3.Connection, queue: str) -> int:
    """How many tasks wait in a queue."""
    return db.execute("SELECT count(*) FROM entries WHERE queue=?", (queue,)).fetchone()[0]


def listed(db: sqlite3.Connection, queue: str, most: int | None = None) -> list[dict[str, Any]]:
    """All entries in order, or the first so many of them."""
    rows = db.execute("SELECT task, added FROM entries WHERE queue=? ORDER BY position LIMIT ?",
                      (queue, -1 if most is None else max(0, most)))
    return [{"task": task, "added": added} for task, added in rows]


def touch(db: sqlite3.Connection, queue: str, at: str) -> None:
    """Note that a queue changed."""
    db.execute("UPDATE queues SET last_update=? WHERE id=?", (at, queue))


def _outside(db: sqlite3.Connection, queue: str, front: bool) -> int:
    """The position before the first or behind the last entry."""
    order, step = ("ASC", -1) if front else ("DESC", 1)
    row = db.execute(f"SELECT position FROM entries WHERE queue=? ORDER BY position {order} LIMIT 1",
                     (queue,)).fetchone()
    return row[0] + step if row else 0
