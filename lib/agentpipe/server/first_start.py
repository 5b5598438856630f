"""What a ClearML Server's installation makes and the `clearml` package counts on: the queue of pipeline controllers."""

from __future__ import annotations

import sqlite3

from agentpipe.errors import Failure
from agentpipe.server import common, queues
from agentpipe.server.store import Store

SERVICES = "services"
_DONE = "services_made"


def make_queues(store: Store) -> None:
    """Once in a store's life: a queue that its users have removed stays away. A full disk does without."""
    try:
        if not store.read(lambda db: _value(db, _DONE)):
            store.transaction(_make)
    except Failure:
        pass  # nor can tasks be enqueued then


def _make(db: sqlite3.Connection) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (_DONE,))
    if not db.execute("SELECT 1 FROM queues WHERE name=?", (SERVICES,)).fetchone():
        queues.insert(db, SERVICES, common.now())


def _value(db: sqlite3.Connection, key: str) -> str:
    row = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
    return row[0] if row else ""
