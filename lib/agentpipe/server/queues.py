"""queues.*: what waits, and the atomic pull."""

from __future__ import annotations

import sqlite3

from agentpipe.server import documents, entries
from agentpipe.server.common import COMPANY, dumps, error, loads, name_of, new_id, strings
from agentpipe.server.endpoints import OWN, READ, WRITE, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

QUEUE_TASK = {"queue": str, "task": str}


@endpoint("queues.get_next_task", OWN, {"queue": str}, claim=str, host=str, task=str, get_task_info=bool)
def get_next_task(request: Request) -> dict[str, Any]:
    """Take the head of a queue. The task stays `queued` until somebody calls tasks.started.

    With `claim` and `host` (ours) the token and the machine are written to the task's runtime in the same transaction:
    {claimed: true}.
    """
    queue = request.body["queue"]
    # an idle poll takes no lock
    if entries.head(request.db, queue) is None:
        entries.queue(request.db, queue)
        return {}
    return request.change(_pop)


def _pop(request: Request) -> dict[str, Any]:
    db, body = request.db, request.body
    found = entries.head(db, body["queue"])
    if found is None:
        entries.queue(db, body["queue"])
        return {}
    position, task_id, added = found
    if request.get("task") not in (None, task_id):
        return {}
    db.execute("DELETE FROM entries WHERE queue=? AND position=?", (body["queue"], position))
    entries.touch(db, body["queue"], request.now)
    answer: dict[str, Any] = {"entry": {"task": task_id, "added": added}}
    task = documents.find(db, task_id)
    if task is not None:
        _take(request, task, answer)
    return answer


def _take(request: Request, task: documents.Task, answer: dict[str, Any]) -> None:
    if request.get("claim"):
        task.set_claim(request.body["claim"])
        if request.get("host"):
            task.set("runtime", {**(task.get("runtime") or {}), "_exec_agent_hostname": request.body["host"]})
        answer["claimed"] = True
    if task.get("status") == "stopped":
        from agentpipe.server import status
        status.change(request, task, "queued", force=True)
    task.save()
    if request.get("get_task_info"):
        answer["task_info"] = {"company": COMPANY, "user": task.get("user")}


@endpoint("queues.wait", READ, {}, mark=int, seconds=float)
def wait(request: Request) -> dict[str, Any]:
    """Ours: {mark}, another one after every change that a waiting pull should see.

    With `mark` agent-server answers when it has changed, or `seconds` later (http.py); in process it answers at once.
    """
    from agentpipe.server import waiting
    return {"mark": waiting.mark(request.store.wake_path)}


@endpoint("queues.create", WRITE, {"name": str})
def create(request: Request) -> dict[str, Any]:
    """A new queue: {id}."""
    body = request.body
    return {"id": insert(request.db, name_of(body), request.now, tags=strings(body, "tags"),
                         system_tags=strings(body, "system_tags"), display_name=request.get("display_name"))}


def insert(db: sqlite3.Connection, name: str, at: str, **fields: Any) -> str:
    """Write a new queue and give its id; a name that exists is 400/801."""
    if db.execute("SELECT 1 FROM queues WHERE name=?", (name,)).fetchone():
        raise error(801, name=name, company=COMPANY)
    queue = {"id": new_id(), "name": name, "company": COMPANY, "created": at, "tags": [], "system_tags": [],
             **{key: value for key, value in fields.items() if value is not None}}
    db.execute("INSERT INTO queues (id, name, last_update, doc) VALUES (?, ?, ?, ?)",
               (queue["id"], name, at, dumps(queue)))
    return queue["id"]


def by_name(request: Request, name: str) -> str:
    """The id of the queue of that name, which is created when it is missing."""
    name = name_of({"name": name})
    row = request.db.execute("SELECT id FROM queues WHERE name=?", (name,)).fetchone()
    return row[0] if row else insert(request.db, name, request.now)


def default(db: sqlite3.Connection) -> tuple[str, str]:
    """Id and name of the one queue with system tag `default`; none 400/707, several 400/708."""
    found = [(id, name) for id, name, doc in db.execute("SELECT id, name, doc FROM queues ORDER BY seq")
             if "default" in loads(doc)["system_tags"]]
    if len(found) != 1:
        raise error(708 if found else 707, company=COMPANY)
    return found[0]


@endpoint("queues.get_default")
def get_default(request: Request) -> dict[str, Any]:
    """The default queue: {id, name}."""
    id, name = default(request.db)
    return {"id": id, "name": name}


def whole(db: sqlite3.Connection, doc: str, last_update: str, with_entries: bool = True,
          most: int | None = None) -> dict[str, Any]:
    """A queue as it is answered, with `most` entries at most."""
    found = loads(doc)
    if with_entries:
        found["entries"] = entries.listed(db, found["id"], most)
    found["last_update"] = last_update
    found.setdefault("metadata", {})
    return found


@endpoint("queues.get_by_id", READ, {"queue": str}, max_task_entries=int)
def get_by_id(request: Request) -> dict[str, Any]:
    """One queue with its entries; unknown (a name, say) 400/701."""
    id = request.body["queue"]
    row = request.db.execute("SELECT doc, last_update FROM queues WHERE id=?", (id,)).fetchone()
    if row is None:
        raise error(701, id=id, company=COMPANY)
    doc, at = row
    return {"queue": whole(request.db, doc, at, most=request.get("max_task_entries"))}


@endpoint("queues.get_all", READ, {}, max_task_entries=int)
def get_all(request: Request) -> dict[str, Any]:
    """Queues by name, id and tags (server.md §4)."""
    if "scroll_id" in request.body:
        from agentpipe.server import scrolls
        return scrolls.paged(request, _all, "queues")
    return _all(request)


def _all(request: Request) -> dict[str, Any]:
    from agentpipe.server import query
    wanted = query.parse(request.body, query.QUEUES)
    with_entries = wanted.needs("entries")
    if not (request.get("search_hidden") or request.get("id") or request.get("name")):
        wanted.add(lambda queue: "k8s-glue" not in queue["system_tags"])
    rows = request.db.execute("SELECT doc, last_update FROM queues ORDER BY seq")
    most = request.get("max_task_entries")
    return {"queues": wanted.answer(whole(request.db, doc, at, with_entries, most) for doc, at in rows)}


@endpoint("queues.get_num_entries", READ, {"queue": str})
def get_num_entries(request: Request) -> dict[str, Any]:
    """How many tasks wait: {num}."""
    entries.queue(request.db, request.body["queue"])
    return {"num": entries.count(request.db, request.body["queue"])}


@endpoint("queues.add_task", WRITE, QUEUE_TASK)
def add_task(request: Request) -> dict[str, Any]:
    """Append a task without a change of its status; already there 400/706."""
    body = request.body
    entries.queue(request.db, body["queue"])
    documents.load(request.db, body["task"])
    entries.add(request.db, body["queue"], body["task"], request.now)
    request.wakes = True
    return {"added": 1}


@endpoint("queues.remove_task", WRITE, QUEUE_TASK, update_task_status=bool, claim=str, host=str)
def remove_task(request: Request) -> dict[str, Any]:
    """Take a task out of a queue; not there 400/703.

    `update_task_status` puts the status back that it had before. `claim` (ours) makes it a pull of that very
    task: the token is written with it, {claimed: true}.
    """
    body = request.body
    entries.queue(request.db, body["queue"])
    if not entries.remove(request.db, body["queue"], body["task"], request.now):
        raise error(703, queue=body["queue"], task=body["task"])
    task = documents.find(request.db, body["task"])
    if request.get("update_task_status") and task is not None:
        from agentpipe.server import status
        execution = dict(task.get("execution") or {})
        execution.pop("queue", None)
        task.set("execution", execution)
        before = task.get("enqueue_status") or "created"
        status.change(request, task, before, force=True, drops=("enqueue_status",))
    answer: dict[str, Any] = {"removed": 1}
    if request.get("claim") and task is not None:
        _take(request, task, answer)
    return answer


@endpoint("queues.move_task_to_front", WRITE, QUEUE_TASK)
def move_task_to_front(request: Request) -> dict[str, Any]:
    """Make a task the next one: {position: 0}."""
    return _move(request, front=True)


@endpoint("queues.move_task_to_back", WRITE, QUEUE_TASK)
def move_task_to_back(request: Request) -> dict[str, Any]:
    """Make a task the last one: {position}."""
    return _move(request, front=False)


def _move(request: Request, front: bool) -> dict[str, Any]:
    body = request.body
    entries.queue(request.db, body["queue"])
    return {"position": entries.move(request.db, body["queue"], body["task"], request.now, front)}
