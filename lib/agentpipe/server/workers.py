"""workers.*.

Who pulls from which queues, and what it does (server.md §7). Entries vanish when their reports stop.
"""

from __future__ import annotations

import sqlite3
import time

from agentpipe.server import documents, entries, namesakes, status, worker_stats
from agentpipe.server.common import COMPANY, COMPANY_NAME, dumps, loads, strings
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import LAZY, READ, Request, Texts, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# a worker without a report for so long is gone (s)
TIMEOUT = 600


@endpoint("workers.register", LAZY, {"worker": str}, queues=Texts, timeout=int, tags=list, system_tags=list)
def register(request: Request) -> dict[str, Any]:
    """Note a worker and its queues (unknown 400/701); registered again it is written over."""
    queues = request.get("queues", [])
    for queue in queues:
        entries.queue(request.db, queue)
    worker_stats.forget_old(request.db)
    before = _known(request) or {}
    worker = {**_new(request), "register_timeout": request.get("timeout", TIMEOUT),
              **{key: before[key] for key in namesakes.KEYS if key in before},
              **{field: strings(request.body, field) for field in ("tags", "system_tags")}}
    namesakes.note(worker, queues)
    _save(request, worker)
    return {}


@endpoint("workers.unregister", LAZY, {"worker": str})
def unregister(request: Request) -> dict[str, Any]:
    """Forget a worker; an unknown one is no error."""
    request.db.execute("DELETE FROM workers WHERE user=? AND id=?", (request.user, request.body["worker"]))
    return {}


@endpoint("workers.status_report", LAZY, {"worker": str, "timestamp": int}, task=str, queue=str, queues=Texts,
          tags=list, machine_stats=dict)
def status_report(request: Request) -> dict[str, Any]:
    """A worker's sign of life, and of the task that it runs (whose last_worker is set only here).

    Unknown task 400/101.
    """
    body = request.body
    worker = _known(request) or _new(request)
    for field in ("task", "queue"):
        worker.pop(field, None)
        if request.get(field):
            worker[field] = body[field]
    if request.get("queues"):
        namesakes.note(worker, body["queues"])
    if request.get("tags") is not None:
        worker["tags"] = strings(body, "tags")
    stats = worker_stats.checked(request.get("machine_stats", {}))
    if stats:
        worker["machine_stats"] = stats
    worker_stats.record(request, body["worker"], bool(request.get("task")), stats)
    worker["last_activity_time"] = worker["last_report_time"] = request.now
    worker["ip"] = _address(request)
    _save(request, worker)
    if request.get("task"):
        task = documents.load(request.db, body["task"])
        task.set("last_worker", body["worker"])
        task.set("last_worker_report", request.now)
        status.touch(request, task)
        task.save()
    return {}


def _known(request: Request) -> dict[str, Any] | None:
    row = request.db.execute("SELECT doc FROM workers WHERE user=? AND id=?",
                             (request.user, request.body["worker"])).fetchone()
    return loads(row[0]) if row else None


def _new(request: Request) -> dict[str, Any]:
    at = request.now
    return {"id": request.body["worker"], "ip": _address(request), "register_time": at, "register_timeout": TIMEOUT,
            "last_activity_time": at, "last_report_time": at, "queues": [], "tags": [], "system_tags": []}


def _address(request: Request) -> str:
    return request.caller.get("address") or "127.0.0.1"


def _save(request: Request, worker: dict[str, Any]) -> None:
    at = time.time()
    request.db.execute("DELETE FROM workers WHERE expires<?", (at,))
    request.db.execute("INSERT OR REPLACE INTO workers (user, id, expires, doc) VALUES (?, ?, ?, ?)",
                       (request.user, worker["id"], at + worker["register_timeout"], dumps(worker)))


@endpoint("workers.get_all", READ, {}, last_seen=int, worker_pattern=str)
def get_all(request: Request) -> dict[str, Any]:
    """The workers that reported within `last_seen` seconds (3600), with their task and queues."""
    from fnmatch import fnmatchcase

    from agentpipe.server import listquery
    tests = [listquery.condition(field, request.body[field]) for field in ("tags", "system_tags")
             if request.body.get(field)]
    pattern, now = request.get("worker_pattern"), time.time()
    found: list[dict[str, Any]] = []
    queues: dict[str, dict[str, Any]] = {}  # many workers serve one
    rows = request.db.execute("SELECT user, doc FROM workers WHERE expires>=? ORDER BY id, user", (now,))
    for user, doc in rows.fetchall():
        worker = loads(doc)
        if pattern and not fnmatchcase(worker["id"], pattern):
            continue
        if _age(worker, now) <= request.get("last_seen", 3600) and all(test(worker) for test in tests):
            found.append(_whole(request.db, user, worker, queues))
    return {"workers": found}


def _age(worker: dict[str, Any], now: float) -> float:
    from agentpipe.server.common import seconds
    return now - seconds(worker["last_report_time"])


def key_of(user: str, worker: str) -> str:
    """What pages know a worker of a user by."""
    return f"worker_{COMPANY}_{user}_{worker}"


def _whole(db: sqlite3.Connection, user: str, worker: dict[str, Any],
           queues: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A worker as it is answered: ids with their names; `queues` are those that are known by now."""
    for id in (*worker["queues"], *filter(None, [worker.get("queue")])):
        if id not in queues:
            queues[id] = _queue(db, id)
    found = {**worker, "key": key_of(user, worker["id"]),
             "company": {"id": COMPANY, "name": COMPANY_NAME},
             "user": {"id": user, "name": user}}
    for key in ("machine_stats", *namesakes.KEYS):
        found.pop(key, None)
    found["queues"] = [queues[id] for id in worker["queues"]]
    if worker.get("queue"):
        found["queue"] = queues[worker["queue"]]
    # it may have been deleted since the worker's last report
    task = documents.find(db, found.pop("task")) if worker.get("task") else None
    if task is not None:
        found["task"] = _running(task)
        row = db.execute("SELECT name FROM projects WHERE id=?", (task.get("project"),)).fetchone()
        if row:
            found["project"] = {"id": task.get("project"), "name": row[0]}
    return found


def _running(task: Task) -> dict[str, Any]:
    return {"id": task.id, "name": task.get("name"),
            "running_time": (task.get("active_duration") or 0) * 1000,
            "last_iteration": task.get("last_iteration") or 0}


def _queue(db: sqlite3.Connection, id: str) -> dict[str, Any]:
    found: dict[str, Any] = {"id": id}
    row = db.execute("SELECT name FROM queues WHERE id=?", (id,)).fetchone()
    if row:
        found.update(name=row[0], num_tasks=entries.count(db, id))
    head = entries.head(db, id)
    if head:
        task = documents.find(db, head[1])
        found["next_task"] = {"id": head[1], **({"name": task.get("name")} if task else {})}
    return found


def watched(db: sqlite3.Connection, queue: str) -> bool:
    """Whether a registered worker pulls from that queue."""
    return any(queue in loads(doc)["queues"]
               for (doc,) in db.execute("SELECT doc FROM workers WHERE expires>=?", (time.time(),)))
