"""models.*: many at once, metadata, and older ways to reach a task's model (server.md §9)."""

from __future__ import annotations

from agentpipe.server import many, models
from agentpipe.server.common import error, loads
from agentpipe.server.endpoints import READ, WRITE, Objects, Request, Texts, endpoint
from agentpipe.server.models import MODEL, load, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARCHIVED = "archived"


@endpoint("models.archive_many", WRITE, {"ids": Texts})
def archive_many(request: Request) -> dict[str, Any]:
    """Give models the tag `archived`."""
    return many.each(request, lambda id: {"archived": _tag(request, id, add=True)})


@endpoint("models.unarchive_many", WRITE, {"ids": Texts})
def unarchive_many(request: Request) -> dict[str, Any]:
    """Take the tag away again."""
    return many.each(request, lambda id: {"unarchived": _tag(request, id, add=False)})


def _tag(request: Request, id: str, add: bool) -> int:
    model = load(request.db, id)
    tags = {*model["system_tags"], ARCHIVED} if add else set(model["system_tags"]) - {ARCHIVED}
    model["system_tags"] = sorted(tags)
    save(request, model)
    return 1


@endpoint("models.delete_many", WRITE, {"ids": Texts}, force=bool)
def delete_many(request: Request) -> dict[str, Any]:
    """Remove several models."""
    def one(id: str) -> dict[str, Any]:
        return {"deleted": True, "url": models.remove(request, load(request.db, id), request.get("force", False))}
    return many.each(request, one)


@endpoint("models.publish_many", WRITE, {"ids": Texts}, publish_task=bool, publish_tasks=bool, force_publish_task=bool)
def publish_many(request: Request) -> dict[str, Any]:
    """Make several models ready, and publish their tasks, unless `publish_tasks` (the package's word) is false."""
    tasks = request.get("publish_tasks", request.get("publish_task", True))
    return many.each(request, lambda id: many.again(request, models.set_ready, model=id, publish_task=tasks))


@endpoint("models.add_or_update_metadata", WRITE, {**MODEL, "metadata": Objects}, replace_metadata=bool)
def add_or_update_metadata(request: Request) -> dict[str, Any]:
    """Set metadata by key: {updated}."""
    model = load(request.db, request.body["model"])
    kept = {} if request.get("replace_metadata") else model.get("metadata") or {}
    model["metadata"] = {**kept, **models.metadata(request.body["metadata"])}
    save(request, model)
    return {"updated": 1}


@endpoint("models.delete_metadata", WRITE, {**MODEL, "keys": Texts})
def delete_metadata(request: Request) -> dict[str, Any]:
    """Remove metadata by key: {updated}."""
    model = load(request.db, request.body["model"])
    model["metadata"] = {key: item for key, item in (model.get("metadata") or {}).items()
                         if key not in request.body["keys"]}
    save(request, model)
    return {"updated": 1}


@endpoint("models.move", WRITE, {"ids": Texts}, project=str, project_name=str)
def move(request: Request) -> dict[str, Any]:
    """Put models into another project, which is made when it is only named: {project_id}."""
    from agentpipe.server import projects
    project = projects.target(request)
    for id in request.body["ids"]:
        model = load(request.db, id)
        model.pop("project", None)
        save(request, {**model, **({"project": project} if project else {})})
    return {"project_id": project} if project else {}


@endpoint("models.update_for_task", WRITE, {"task": str}, uri=str, name=str, override_model_id=str, iteration=int)
def update_for_task(request: Request) -> dict[str, Any]:
    """Name a task's output model, or make one (clients of version 2.13 and before)."""
    from agentpipe.server import documents
    task = documents.load(request.db, request.body["task"])
    id = request.get("override_model_id")
    answer: dict[str, Any] = {"id": id, "created": False, "updated": 1}
    if id:
        load(request.db, id)
    else:
        given = {"name": request.get("name") or task.get("name"), "uri": request.get("uri", ""), "task": task.id,
                 "ready": False, "project": task.get("project"), "tags": request.get("tags")}
        answer = {**many.again(request, models.create, **given), "updated": 1}
    outputs = [item for item in (task.get("models") or {}).get("output", []) if item.get("name") != "output"]
    entry = {"name": "output", "model": answer["id"], "updated": request.now}
    task.set("models", {**(task.get("models") or {}), "output": [*outputs, entry]})
    task.save()
    return answer


@endpoint("models.get_by_task_id", READ, {"task": str})
def get_by_task_id(request: Request) -> dict[str, Any]:
    """The last output model of a task (clients of version 2.13 and before)."""
    from agentpipe.server import documents
    outputs = (documents.load(request.db, request.body["task"]).get("models") or {}).get("output") or []
    if not outputs:
        raise error(201, task=request.body["task"])
    return {"model": load(request.db, outputs[-1]["model"])}


@endpoint("models.get_frameworks", READ, {}, projects=Texts)
def get_frameworks(request: Request) -> dict[str, Any]:
    """The frameworks that models name."""
    wanted = request.get("projects")
    found = (loads(doc) for (doc,) in request.db.execute("SELECT doc FROM models"))
    return {"frameworks": sorted({model["framework"] for model in found if model.get("framework")
                                  and (not wanted or model.get("project") in wanted)})}
