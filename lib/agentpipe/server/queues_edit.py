"""queues.*: changing and removing queues, and moving what waits in them (server.md §7)."""

from __future__ import annotations

from agentpipe.server import documents, entries, status
from agentpipe.server.common import COMPANY, dumps, error, loads, name_of, strings
from agentpipe.server.endpoints import READ, WRITE, Objects, Request, Texts, endpoint
from agentpipe.server.queues import QUEUE_TASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

QUEUE = {"queue": str}


@endpoint("queues.update", WRITE, QUEUE, name=str, display_name=str)
def update(request: Request) -> dict[str, Any]:
    """Change a queue's name and tags: {updated, fields}."""
    id, found = request.body["queue"], _document(request)
    fields: dict[str, Any] = {}
    if request.get("name") is not None:
        fields["name"] = name_of(request.body)
        other = request.db.execute("SELECT id FROM queues WHERE name=?", (fields["name"],)).fetchone()
        if other and other[0] != id:
            raise error(801, name=fields["name"], company=COMPANY)
    if request.get("display_name") is not None:
        fields["display_name"] = request.body["display_name"]
    for field in ("tags", "system_tags"):
        if request.get(field) is not None:
            fields[field] = strings(request.body, field)
    if not fields:
        return {"updated": 0, "fields": {}}
    found.update(fields)
    request.db.execute("UPDATE queues SET name=?, last_update=?, doc=? WHERE id=?",
                       (found["name"], request.now, dumps(found), id))
    return {"updated": 1, "fields": fields}


@endpoint("queues.add_or_update_metadata", WRITE, {**QUEUE, "metadata": Objects}, replace_metadata=bool)
def add_or_update_metadata(request: Request) -> dict[str, Any]:
    """Set a queue's metadata by key: {updated}."""
    from agentpipe.server import models
    kept = {} if request.get("replace_metadata") else _document(request).get("metadata") or {}
    return _with_metadata(request, {**kept, **models.metadata(request.body["metadata"])})


@endpoint("queues.delete_metadata", WRITE, {**QUEUE, "keys": Texts})
def delete_metadata(request: Request) -> dict[str, Any]:
    """Remove metadata by key: {updated}."""
    kept = _document(request).get("metadata") or {}
    return _with_metadata(request, {key: item for key, item in kept.items() if key not in request.body["keys"]})


def _with_metadata(request: Request, metadata: dict[str, Any]) -> dict[str, Any]:
    request.db.execute("UPDATE queues SET last_update=?, doc=? WHERE id=?",
                       (request.now, dumps({**_document(request), "metadata": metadata}), request.body["queue"]))
    return {"updated": 1}


def _document(request: Request) -> dict[str, Any]:
    entries.queue(request.db, request.body["queue"])
    return loads(request.db.execute("SELECT doc FROM queues WHERE id=?", (request.body["queue"],)).fetchone()[0])


@endpoint("queues.delete", WRITE, QUEUE, force=bool)
def delete(request: Request) -> dict[str, Any]:
    """Remove a queue: {deleted}; one in which tasks wait needs `force` (400/702), and they are put back."""
    entries.queue(request.db, request.body["queue"])
    waiting = entries.count(request.db, request.body["queue"])
    if waiting and not request.get("force"):
        raise error(702, id=request.body["queue"])
    _clear(request)
    request.db.execute("DELETE FROM queues WHERE id=?", (request.body["queue"],))
    return {"deleted": 1}


@endpoint("queues.clear_queue", WRITE, QUEUE)
def clear_queue(request: Request) -> dict[str, Any]:
    """Take all tasks out of a queue, each back in the status that it had: {removed_tasks}."""
    entries.queue(request.db, request.body["queue"])
    return {"removed_tasks": _clear(request)}


def _clear(request: Request) -> list[str]:
    queue = request.body["queue"]
    found = [entry["task"] for entry in entries.listed(request.db, queue)]
    for id in found:
        entries.remove(request.db, queue, id, request.now)
        task = documents.find(request.db, id)
        if task is not None and task.get("status") == "queued":
            execution = {key: value for key, value in (task.get("execution") or {}).items() if key != "queue"}
            task.set("execution", execution)
            status.change(request, task, task.get("enqueue_status") or "created", force=True,
                          drops=("enqueue_status",))
    return found


@endpoint("queues.peek_task", READ, QUEUE)
def peek_task(request: Request) -> dict[str, Any]:
    """The next task, which stays: {task}."""
    entries.queue(request.db, request.body["queue"])
    found = entries.head(request.db, request.body["queue"])
    return {"task": found[1]} if found else {}


@endpoint("queues.move_task_forward", WRITE, QUEUE_TASK, count=int)
def move_task_forward(request: Request) -> dict[str, Any]:
    """Let a task overtake `count` others: {position}."""
    return _shift(request, -request.get("count", 1))


@endpoint("queues.move_task_backward", WRITE, QUEUE_TASK, count=int)
def move_task_backward(request: Request) -> dict[str, Any]:
    """Let `count` others overtake a task: {position}."""
    return _shift(request, request.get("count", 1))


def _shift(request: Request, count: int) -> dict[str, Any]:
    """Move an entry by so many places, within the queue's bounds."""
    queue, task = request.body["queue"], request.body["task"]
    entries.queue(request.db, queue)
    found = request.db.execute("SELECT position FROM entries WHERE task=? AND queue=?", (task, queue)).fetchone()
    if found is None:
        raise error(703, queue=queue, task=task)
    # it, then those that it passes: they get each other's positions
    side, order = ("<=", "DESC") if count < 0 else (">=", "ASC")
    rows = request.db.execute(f"SELECT position, task, added FROM entries WHERE queue=? AND position{side}? "
                              f"ORDER BY position {order} LIMIT ?",
                              (queue, found[0], min(abs(count), 1 << 32) + 1)).fetchall()
    positions = [row[0] for row in rows]
    request.db.executemany("DELETE FROM entries WHERE queue=? AND position=?", ((queue, each) for each in positions))
    request.db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", (
        (queue, position, row[1], row[2]) for position, row in zip(positions, [*rows[1:], rows[0]], strict=True)))
    entries.touch(request.db, queue, request.now)
    return {"position": request.db.execute("SELECT count(*) FROM entries WHERE queue=? AND position<?",
                                           (queue, positions[-1])).fetchone()[0]}
