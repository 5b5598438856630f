"""tasks.*: the life of a task: queued, started, at work, ended (server.md §5, §7)."""

from __future__ import annotations

from agentpipe.server import documents, entries, status
from agentpipe.server.common import COMPANY, error, new_id, seconds
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import LAZY, WRITE, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TASK = {"task": str}
# what every status call takes beside the task; `claim` is ours: refused (400/121) when the task carries
# another
CHANGE: dict[str, type] = {"force": bool, "status_reason": str, "status_message": str, "claim": str}
# a task without a sign of life for so long is run by nobody (s)
SILENT_SECONDS = 600
# what is not ended, and may be begun
RUNNABLE = ("created", "queued", "in_progress")


def _task(request: Request, code: int = 101) -> Task:
    """The request's task, if it carries the claim that the request names."""
    task = documents.load(request.db, request.body["task"], code)
    documents.check_claim(task, request.get("claim"))
    return task


def _change(request: Request, task: Task, new: str, **more: Any) -> dict[str, Any]:
    given = {"reason": request.get("status_reason", ""), "message": request.get("status_message", ""),
             "force": request.get("force", False)}
    return status.change(request, task, new, **{**given, **more})


@endpoint("tasks.started", WRITE, TASK, **CHANGE)
def started(request: Request) -> dict[str, Any]:
    """→ in_progress.

    Accepted again and again; the time of the first start stays. Unknown: 400/10 (as ClearML). With a `claim` only of
    what a pull has got: a stop that came since then stands (400/110).
    """
    task = _task(request, 10)
    if request.get("claim") is not None and task.get("status") not in RUNNABLE:
        raise error(110, "it has ended since it was pulled", current_status=task.get("status"),
                    new_status="in_progress")
    again = task.get("status") == "in_progress" and task.get("started")
    fields = _change(request, task, "in_progress", sets={} if again else {"started": request.now},
                     drops=() if again else ("completed", "active_duration"))
    return {"started": 1, "updated": 1, "fields": fields}


@endpoint("tasks.ping", LAZY, TASK, claim=str)
def ping(request: Request) -> dict[str, Any]:
    """A sign of life; an unknown task is no error."""
    task = documents.find(request.db, request.body["task"])
    if task is not None:
        documents.check_claim(task, request.get("claim"))
        status.note_activity(request, task)
        task.save()
    return {}


@endpoint("tasks.stopped", WRITE, TASK, **CHANGE)
def stopped(request: Request) -> dict[str, Any]:
    """→ stopped, by whoever ran it."""
    return _ended(request, "stopped")


@endpoint("tasks.failed", WRITE, TASK, **CHANGE)
def failed(request: Request) -> dict[str, Any]:
    """→ failed."""
    return _ended(request, "failed")


@endpoint("tasks.completed", WRITE, TASK, publish=bool, **CHANGE)
def completed(request: Request) -> dict[str, Any]:
    """→ completed; with `publish` on to published."""
    answer = {**_ended(request, "completed"), "published": 0}
    if request.get("publish"):
        task = documents.load(request.db, request.body["task"])
        fields = _change(request, task, "published", force=True, sets={"published": request.now})
        answer["fields"].update(fields)
        answer["published"] = 1
    return answer


def _ended(request: Request, new: str) -> dict[str, Any]:
    fields = _change(request, _task(request), new, sets={"completed": request.now})
    return {"updated": 1, "fields": fields}


@endpoint("tasks.stop", WRITE, TASK, include_pipeline_steps=bool, **CHANGE)
def stop(request: Request) -> dict[str, Any]:
    """A user's wish: a task that a worker runs gets the message "stopping", any other is stopped at once.

    With `include_pipeline_steps` what a pipeline's controller has waiting or running is stopped before it.
    """
    task = _task(request)
    if request.get("include_pipeline_steps") and "pipeline" in task.get("system_tags", []):
        rows = request.db.execute("SELECT id FROM tasks WHERE parent=? AND status IN ('queued', 'in_progress')",
                                  (task.id,)).fetchall()
        for (step,) in rows:
            _stop(request, documents.load(request.db, step))
    return {"updated": 1, "fields": _stop(request, task)}


def _stop(request: Request, task: Task) -> dict[str, Any]:
    request.wakes = True
    if task.get("status") == "queued":
        entries.remove_everywhere(request.db, task.id, request.now)
    reason, force = request.get("status_reason", ""), request.get("force", False)
    if _is_run(request, task):
        return status.change(request, task, "in_progress", reason=reason, message="stopping")
    return status.change(request, task, "stopped", reason=reason, force=force, message=f"Stopped by {request.user}")


def _is_run(request: Request, task: Task) -> bool:
    """Whether somebody will see the wish: `last_worker` is set by workers.status_report only."""
    return (task.get("status") == "in_progress" and "development" not in task.get("system_tags", [])
            and bool(task.get("last_worker"))
            and seconds(request.now) - seconds(task.get("last_update")) <= SILENT_SECONDS)


@endpoint("tasks.enqueue", WRITE, TASK, queue=str, queue_name=str, verify_watched_queue=bool,
          update_execution_queue=bool, front=bool, **CHANGE)
def enqueue(request: Request) -> dict[str, Any]:
    """→ queued, at the end of a queue, out of all others.

    Ours: `claim` must be the task's; `front` puts it at the head. Whatever claim the task had is gone: who held it
    is refused from now on.
    """
    task = _task(request)
    queue = _queue_of(request, task)
    old = task.get("status")
    status.check(old, "queued", request.get("force", False))
    entries.add(request.db, queue, task.id, request.now, request.get("front", False))
    entries.remove_everywhere(request.db, task.id, request.now, but=queue)
    task.set_claim(None)
    task.set("system_tags", [tag for tag in task.get("system_tags", []) if tag != "development"])
    if request.get("update_execution_queue", True):
        task.set("execution", {**(task.get("execution") or {}), "queue": queue})
    # enqueued again while queued: what it was before the first time still counts
    # one that its agent gives back runs nowhere when it leaves its queue: ClearML would call it running for ever
    before = task.get("enqueue_status") if old == "queued" else "stopped" if old == "in_progress" else old
    fields = _change(request, task, "queued", sets={"enqueue_status": before})
    request.wakes = True
    answer = {"queued": 1, "updated": 1, "fields": {**fields, "execution.queue": queue}}
    if request.get("verify_watched_queue"):
        from agentpipe.server import workers
        answer["queue_watched"] = workers.watched(request.db, queue)
    return answer


def _queue_of(request: Request, task: Task) -> str:
    """The queue that an enqueue names, or the default one."""
    from agentpipe.server import queues
    queue, name = request.get("queue"), request.get("queue_name")
    if queue and name:
        raise error(12, "either queue or queue_name, not both")
    if not request.get("update_execution_queue", True):
        had = (task.get("execution") or {}).get("queue")
        if task.get("status") != "queued" or not had or request.get("verify_watched_queue"):
            raise error(12, "update_execution_queue=false needs a queued task that has a queue")
    if name:
        return queues.by_name(request, name)
    if not queue:
        return queues.default(request.db)[0]
    entries.queue(request.db, queue)
    return queue


@endpoint("tasks.dequeue", WRITE, TASK, new_status=str, remove_from_all_queues=bool, **CHANGE)
def dequeue(request: Request) -> dict[str, Any]:
    """Take a task out of its queue; a queued or running one goes back to what it was, or to `new_status`.

    Whoever has pulled it already, and has not begun, is refused from now on: its claim is gone.
    """
    body = request.body
    task = documents.find(request.db, body["task"])
    if task is None:
        entries.remove_everywhere(request.db, body["task"], request.now)
        return {"dequeued": 1, "updated": 0}
    documents.check_claim(task, request.get("claim"))
    if request.get("remove_from_all_queues"):
        entries.remove_everywhere(request.db, task.id, request.now)
    else:
        entries.remove(request.db, (task.get("execution") or {}).get("queue", ""), task.id, request.now)
    if task.get("status") not in ("queued", "in_progress"):
        return {"dequeued": 1, "updated": 0}
    if task.get("status") == "queued":
        task.set_claim(None)
    new = request.get("new_status") or task.get("enqueue_status") or "created"
    if new not in status.ALLOWED:
        raise error(12, "unknown status", new_status=new)
    fields = _change(request, task, new, force=True, sets={"enqueue_status": None})
    return {"dequeued": 1, "updated": 1, "fields": fields}


def new_document(request: Request, name: str, kind: str) -> dict[str, Any]:
    """A draft as tasks.create makes it, all maps and lists there."""
    at = request.now
    return {
        "id": new_id(), "company": COMPANY, "user": request.user, "name": name, "type": kind,
        "status": "created", "status_reason": "", "status_message": "", "status_changed": at, "created": at,
        "last_update": at, "last_change": at, "last_changed_by": request.user, "comment": "",
        "report_assets": [], "tags": [],
        "system_tags": [], "output": {}, "models": {"input": [], "output": []}, "last_iteration": 0,
        "last_metrics": {}, "metric_stats": {}, "hyperparams": {}, "configuration": {}, "container": {},
        "runtime": {}, **nothing_to_run()}


def nothing_to_run() -> dict[str, Any]:
    """The script and the execution of a task that has none yet."""
    return {"script": {"binary": "python", "repository": "", "entry_point": ""},
            "execution": {"test_split": 0, "parameters": {}, "model_desc": {}, "model_labels": {}, "artifacts": []}}
