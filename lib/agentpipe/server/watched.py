"""tasks.wait (ours): how a task stands for whoever runs it, so that an agent hears of a user's stop at once."""

from __future__ import annotations

import sqlite3

from agentpipe.server.endpoints import READ, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GONE = "gone"
AT_ONCE = 500  # variables of one statement


@endpoint("tasks.wait", READ, {"task": str}, mark=str, seconds=float)
def wait(request: Request) -> dict[str, Any]:
    """{mark}: another one after each change of the task's status, message or runtime (its claim is there).

    With `mark` agent-server answers when it has changed, or `seconds` later (http.py); in process it answers at once.
    A task that is not there has a mark too: its deletion is what an agent waits for.
    """
    task = request.body["task"]
    return {"mark": marks(request.db, {task})[task]}


def marks(db: sqlite3.Connection, tasks: set[str]) -> dict[str, str]:
    """The mark of each of `tasks`."""
    from zlib import crc32
    found = dict.fromkeys(tasks, GONE)
    wanted = sorted(tasks)
    for begin in range(0, len(wanted), AT_ONCE):
        some = wanted[begin:begin + AT_ONCE]
        for id, status, message, runtime in db.execute(
                "SELECT id, status, json_extract(doc, '$.status_message'), json_extract(doc, '$.runtime') FROM tasks "
                f"WHERE id IN ({','.join('?' * len(some))})", some):
            found[id] = f"{status}.{crc32(f'{message}{runtime}'.encode()):08x}"
    return found
