"""agentpipe.overview: everything that agent-status shows, in one answer. Ours: no ClearML server has it."""

from __future__ import annotations

import sqlite3
import time

from agentpipe.server import documents
from agentpipe.server.common import loads
from agentpipe.server.endpoints import READ, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_RUNNING = 200
ENDED, LOOKED_AT = 5, 200  # the last ends among the newest tasks
TAIL = 2048  # bytes of a log's last event, of which the last line is shown
LONGEST_LINE = 200
HEAD = ("id", "name", "status", "status_message", "started", "last_update", "last_worker", "last_iteration",
        "completed", "status_changed", "runtime")


@endpoint("agentpipe.overview", READ)
def overview(request: Request) -> dict[str, Any]:
    """{now, counts, queues, workers, running, ended}; tasks as in tasks.get_all, `last_line` of a running one's log."""
    db = request.db
    counts = dict(db.execute("SELECT status, count(*) FROM tasks GROUP BY status").fetchall())
    return {"now": request.now, "counts": counts, "queues": _queues(db), "workers": _workers(db),
            "running": _running(db), "ended": _ended(db)}


def _queues(db: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = db.execute("SELECT q.id, q.name, count(e.task), min(e.added) FROM queues q "
                      "LEFT JOIN entries e ON e.queue=q.id GROUP BY q.id ORDER BY q.seq")
    return [{"id": id, "name": name, "waiting": waiting, "oldest": oldest} for id, name, waiting, oldest in rows]


def _workers(db: sqlite3.Connection) -> list[dict[str, Any]]:
    found = []
    for (doc,) in db.execute("SELECT doc FROM workers WHERE expires>=? ORDER BY id, user", (time.time(),)):
        worker = loads(doc)
        # a task that was deleted, or has ended, since the worker's last report is not its any more
        row = db.execute("SELECT id FROM tasks WHERE id=? AND status IN ('queued', 'in_progress')",
                         (worker.get("task"),)).fetchone()
        found.append({"id": worker["id"], "queues": worker["queues"], "task": row and row[0],
                      "last_report_time": worker["last_report_time"],
                      "machine_stats": worker.get("machine_stats") or {}})
    return found


def _running(db: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = db.execute("SELECT doc FROM tasks WHERE status='in_progress' ORDER BY seq DESC LIMIT ?", (MOST_RUNNING,))
    found = []
    for (doc,) in rows.fetchall():
        task = _head(loads(doc))
        execution = documents.parts(db, task["id"], ("execution",)).get("execution") or {}
        found.append({**task, "queue": execution.get("queue"), "last_line": _last_line(db, task["id"])})
    return found


def _ended(db: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = db.execute("SELECT doc FROM (SELECT * FROM tasks ORDER BY seq DESC LIMIT ?) "
                      "WHERE status IN ('completed', 'failed', 'stopped') ORDER BY last_update DESC LIMIT ?",
                      (LOOKED_AT, ENDED))
    return [_head(loads(doc)) for (doc,) in rows]


def _head(document: dict[str, Any]) -> dict[str, Any]:
    found = {field: document.get(field) for field in HEAD}
    end = (document.get("runtime") or {}).get("_agentpipe_end") or {}
    found["runtime"] = {"_agentpipe_end": {"class": end["class"]}} if end.get("class") else {}
    return found


def _last_line(db: sqlite3.Connection, task: str) -> str:
    row = db.execute("SELECT substr(msg, -?) FROM logs WHERE task=? AND coalesce(stream, 'log')='log' "
                     "ORDER BY timestamp DESC, seq DESC LIMIT 1", (TAIL, task)).fetchone()
    lines = bytes(row[0]).decode("utf-8", "replace").split("\n") if row else []
    return next((line[-LONGEST_LINE:] for line in reversed(lines) if line.strip()), "")
