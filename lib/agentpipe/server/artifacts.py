"""tasks.*: what a run leaves: artefacts and models, and its publishing (server.md §5, §6)."""

from __future__ import annotations

from agentpipe import task_fields
from agentpipe.server import documents, nested, status
from agentpipe.server.common import error
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import WRITE, Objects, Request, endpoint
from agentpipe.server.tasks import CHANGE, RUNNABLE, TASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@endpoint("tasks.add_or_update_artifacts", WRITE, {**TASK, "artifacts": Objects}, force=bool)
def add_or_update_artifacts(request: Request) -> dict[str, Any]:
    """Set artefacts by (key, mode), in a draft, queued or running task: {updated}."""
    task = _editable(request)
    execution = dict(task.get("execution") or {})
    found = {_identity(item): item for item in execution.get("artifacts", [])}
    for item in request.body["artifacts"]:
        if not item.get("key") or not item.get("type"):
            raise error(12, "an artifact has key and type")
        nested.check("artifacts", item, task_fields.ARTIFACT)
        found[_identity(item)] = nested.with_mode({key: value for key, value in item.items() if value is not None})
    return _save(request, task, execution, found, "updated")


@endpoint("tasks.delete_artifacts", WRITE, {**TASK, "artifacts": Objects}, force=bool)
def delete_artifacts(request: Request) -> dict[str, Any]:
    """Remove artefacts by (key, mode): {deleted}. Their files stay: whoever calls removes them."""
    task = _editable(request)
    execution = dict(task.get("execution") or {})
    gone = {_identity(item) for item in request.body["artifacts"]}
    found = {_identity(item): item for item in execution.get("artifacts", []) if _identity(item) not in gone}
    return _save(request, task, execution, found, "deleted")


def _identity(item: dict[str, Any]) -> tuple[str, str]:
    return str(item.get("key")), str(nested.with_mode(item)["mode"])


def _save(request: Request, task: Task, execution: dict[str, Any], found: dict[Any, Any], word: str) -> dict[str, Any]:
    execution["artifacts"] = sorted(found.values(), key=lambda item: str(item.get("key")))
    task.set("execution", execution)
    status.touch(request, task)
    task.save()
    return {word: 1}


@endpoint("tasks.add_or_update_model", WRITE, {**TASK, "name": str, "model": str, "type": str}, iteration=int)
def add_or_update_model(request: Request) -> dict[str, Any]:
    """Set the task's input or output model of that name: {updated}."""
    task, body = _editable(request), request.body
    kind = _kind(body["type"])
    models = dict(task.get("models") or {})
    entry = {"name": body["name"], "model": body["model"], "updated": request.now}
    kept = list(models.get(kind, []))
    names = [item.get("name") for item in kept]
    if body["name"] in names:
        kept[names.index(body["name"])] = entry
    else:
        kept.append(entry)
    task.set("models", {**models, kind: kept})
    if request.get("iteration") is not None:
        task.set("last_iteration", max(task.get("last_iteration") or 0, body["iteration"]))
    status.touch(request, task)
    task.save()
    return {"updated": 1}


@endpoint("tasks.delete_models", WRITE, {**TASK, "models": Objects})
def delete_models(request: Request) -> dict[str, Any]:
    """Take models [{name, type}] out of a task: {updated}."""
    task = _editable(request)
    models = dict(task.get("models") or {})
    for item in request.body["models"]:
        kind = _kind(item.get("type"))
        models[kind] = [entry for entry in models.get(kind, []) if entry.get("name") != item.get("name")]
    task.set("models", models)
    status.touch(request, task)
    task.save()
    return {"updated": 1}


def _kind(kind: Any) -> str:
    if kind not in ("input", "output"):
        raise error(12, "type is input or output", type=kind)
    return kind


def _editable(request: Request) -> Task:
    task = documents.load(request.db, request.body["task"])
    if task.get("status") not in RUNNABLE:
        raise error(110, expected=RUNNABLE, status=task.get("status"))
    return task


@endpoint("tasks.publish", WRITE, TASK, publish_model=bool, **CHANGE)
def publish(request: Request) -> dict[str, Any]:
    """→ published, and the last output model ready: {updated, fields}."""
    task = documents.load(request.db, request.body["task"])
    documents.check_claim(task, request.get("claim"))
    force = request.get("force", False)
    if task.get("status") not in ("stopped", "completed", "closed", "failed") and not force:
        status.check(task.get("status"), "publishing")
    if request.get("publish_model", True):
        outputs = (task.get("models") or {}).get("output") or []
        if outputs:
            from agentpipe.server import models
            models.make_ready(request, outputs[-1].get("model"))
    fields = status.change(request, task, "published", force=True, reason=request.get("status_reason", ""),
                           message=request.get("status_message", ""), sets={"published": request.now})
    return {"updated": 1, "fields": fields, "committed_versions_results": []}


@endpoint("tasks.close", WRITE, TASK, **CHANGE)
def close(request: Request) -> dict[str, Any]:
    """→ closed (what old clients ask for)."""
    task = documents.load(request.db, request.body["task"])
    documents.check_claim(task, request.get("claim"))
    fields = status.change(request, task, "closed", reason=request.get("status_reason", ""),
                           message=request.get("status_message", ""), force=request.get("force", False))
    return {"updated": 1, "fields": fields}
