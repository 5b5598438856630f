"""pipelines.*: a new run of a pipeline, and removing runs; a pipeline is a task that makes tasks (server.md §9)."""

from __future__ import annotations

import re

from agentpipe.server import documents, many, tasks, tasks_edit, tasks_many
from agentpipe.server.common import error
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import WRITE, Objects, Request, Texts, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIPELINE = "pipeline"
SECTION = "Args"
NUMBERED = re.compile(r"^(?P<name>.*?)(?: #(?P<number>\d+))?$", re.DOTALL)


@endpoint("pipelines.start_pipeline", WRITE, {"task": str}, queue=str, args=Objects, verify_watched_queue=bool)
def start_pipeline(request: Request) -> dict[str, Any]:
    """Clone a pipeline's controller with these arguments, name it "PIPELINE #N", enqueue it: {pipeline, enqueued}."""
    task = _controller(request, request.body["task"])
    sections = {name: dict(items) for name, items in (task.get("hyperparams") or {}).items()}
    arguments = sections.setdefault(SECTION, {})
    for item in request.get("args", []):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"].strip():
            raise error(12, "args are {name, value}")
        name = item["name"].strip()
        value = item.get("value")
        arguments[name] = {**arguments.get(name, {"section": SECTION, "name": name}),
                           "value": value if isinstance(value, str) else "" if value is None else str(value)}
    clone = many.with_body(request, tasks_edit.clone, {
        "task": task.id, "new_task_name": _next_name(request, task), "new_task_hyperparams": sections})["id"]
    answer = {"pipeline": clone, "enqueued": False}
    queued = many.with_body(request, tasks.enqueue, {
        "task": clone, "queue": request.get("queue"), "verify_watched_queue": request.get("verify_watched_queue")})
    answer["enqueued"] = True
    if "queue_watched" in queued:
        answer["queue_watched"] = queued["queue_watched"]
    return answer


def _controller(request: Request, id: str) -> Task:
    task = documents.load(request.db, id)
    if PIPELINE not in task.get("system_tags", []):
        raise error(102, "not a pipeline", task=id)
    return task


def _next_name(request: Request, task: Task) -> str:
    """The name of the task with the number after the last one that its project has."""
    base = _split(task.get("name"))[0]
    rows = request.db.execute("SELECT name FROM tasks WHERE project IS ?", (task.get("project"),))
    numbers = [number for name, number in (_split(name) for (name,) in rows) if name == base]
    return f"{base} #{max(numbers, default=0) + 1}"


def _split(name: str) -> tuple[str, int]:
    found = NUMBERED.match(name)
    assert found is not None
    return found["name"], int(found["number"] or 0)


@endpoint("pipelines.delete_runs", WRITE, {"ids": Texts, "project": str})
def delete_runs(request: Request) -> dict[str, Any]:
    """Remove runs of a project's pipeline with their steps: {succeeded, failed}.

    The pipeline itself stays: when all of its runs are named, the last one is only archived.
    """
    rows = request.db.execute("SELECT id FROM tasks WHERE project=? ORDER BY seq", (request.body["project"],))
    runs = [id for (id,) in rows.fetchall() if PIPELINE in documents.load(request.db, id).get("system_tags", [])]
    named = set(map(str, request.body["ids"]))
    spared = runs[-1] if runs and named.issuperset(runs) else ""

    def one(id: str) -> dict[str, Any]:
        task = _controller(request, id)
        if task.get("project") != request.body["project"]:
            raise error(102, "not a pipeline of this project", task=id)
        if id == spared:
            return {"deleted": False, "archived": tasks_many.put_away(request, task)}
        for (step,) in request.db.execute("SELECT id FROM tasks WHERE parent=?", (id,)).fetchall():
            many.with_body(request, tasks_edit.delete, {"task": step, "force": True})
        return many.with_body(request, tasks_edit.delete, {"task": id, "force": True})
    return many.each(request, one)
