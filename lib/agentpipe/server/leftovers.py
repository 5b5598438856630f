"""What goes with a task that is reset or deleted: its draft models, and the addresses of its files."""

from __future__ import annotations

from agentpipe.server.common import loads
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def urls(request: Request, task: Task) -> dict[str, Any]:
    """Where a task's files lie, for the caller to remove: {model_urls, event_urls, artifact_urls}."""
    models = [loads(doc) for (doc,) in request.db.execute("SELECT doc FROM models WHERE task=?", (task.id,))]
    artifacts = (task.get("execution") or {}).get("artifacts") or []
    events = (loads(doc) for (doc,) in request.db.execute("SELECT doc FROM shapes WHERE task=?", (task.id,)))
    return {"model_urls": sorted({model["uri"] for model in models if model.get("uri") and not model["ready"]}),
            "event_urls": sorted({event["url"] for event in events if event.get("url")}),
            "artifact_urls": sorted({item["uri"] for item in artifacts
                                     if item.get("uri") and item.get("mode", "output") == "output"})}


def remove_models(request: Request, task: Task, deleted: str = "") -> tuple[int, int]:
    """Remove the draft models that a task made and nobody uses; how many, and how many others lost it.

    `deleted` is what stands in the place of the task in the models that stay.
    """
    from agentpipe.server import models
    removed = updated = 0
    wanted = request.get("delete_output_models", True)
    for (doc,) in request.db.execute("SELECT doc FROM models WHERE task=?", (task.id,)).fetchall():
        model = loads(doc)
        if wanted and not model["ready"] and not models.inputs_of(request, model["id"]):
            request.db.execute("DELETE FROM models WHERE id=?", (model["id"],))
            removed += 1
        elif deleted:
            model["task"] = deleted
            models.save(request, model, update=False)
            updated += 1
    return removed, updated


def published_models(request: Request, task: str) -> bool:
    """Whether a task made a model that is ready."""
    rows = request.db.execute("SELECT doc FROM models WHERE task=?", (task,))
    return any(loads(doc)["ready"] for (doc,) in rows)
