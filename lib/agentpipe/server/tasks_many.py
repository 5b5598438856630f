"""tasks.*: labels, archive, moving, and the calls for many tasks at once (server.md §5, §6)."""

from __future__ import annotations

from agentpipe.server import documents, entries, many, status, tasks, tasks_edit
from agentpipe.server.common import error, exists, name_of, strings
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import READ, WRITE, Request, Texts, check, endpoint, find
from agentpipe.server.tasks import CHANGE, TASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IDS = {"ids": Texts}
ARCHIVED = "archived"


@endpoint("tasks.update", WRITE, TASK, name=str, comment=str, project=str, status_message=str)
def update(request: Request) -> dict[str, Any]:
    """Change labels of a task in any status; everything else of the body is dropped: {updated, fields}."""
    task = documents.load(request.db, request.body["task"])
    fields: dict[str, Any] = {field: request.body[field] for field in ("comment", "project", "status_message")
                              if request.get(field) is not None}
    if request.get("name") is not None:
        fields["name"] = name_of(request.body)
    for field in ("tags", "system_tags"):
        if request.get(field) is not None:
            fields[field] = strings(request.body, field)
    if not fields:
        return {"updated": 0, "fields": {}}
    if fields.get("project") and not exists(request.db, "projects", fields["project"]):
        raise error(16, "project does not exist", project=fields["project"])
    for field, value in fields.items():
        task.set(field, value)
    fields.update(status.touch(request, task, update=False))
    task.save()
    return {"updated": 1, "fields": fields}


@endpoint("tasks.update_batch", WRITE)
def update_batch(request: Request) -> dict[str, Any]:
    """Several updates, one object a line: {updated}."""
    batch = request.body if isinstance(request.body, list) else [request.body]
    if not batch or not all(isinstance(item, dict) and item.get("task") for item in batch):
        raise error(17)
    done = 0
    for item in batch:
        check(find("tasks.update"), item)
        request.body = item
        done += update(request)["updated"]
    return {"updated": done}


@endpoint("tasks.archive_many", WRITE, IDS, status_reason=str, status_message=str)
def archive_many(request: Request) -> dict[str, Any]:
    """Take tasks out of their queues, stop those that run, and give them the tag `archived`."""
    return many.each(request, lambda id: {"archived": put_away(request, documents.load(request.db, id))})


@endpoint("tasks.archive", WRITE, {"tasks": Texts}, status_reason=str, status_message=str)
def archive(request: Request) -> dict[str, Any]:
    """The same, all or none: {archived}."""
    return {"archived": sum(put_away(request, documents.load(request.db, id)) for id in request.body["tasks"])}


def put_away(request: Request, task: Task) -> int:
    """Archive one task; 1. Whoever has pulled it, and has not begun, is refused from now on."""
    entries.remove_everywhere(request.db, task.id, request.now)
    given = {"reason": request.get("status_reason", ""), "message": request.get("status_message", "")}
    if task.get("status") == "queued":
        task.set_claim(None)
        status.change(request, task, task.get("enqueue_status") or "created", force=True,
                      sets={"enqueue_status": None}, **given)
    elif task.get("status") == "in_progress":
        status.change(request, task, "stopped", force=True, **given)
    _tag(request, task, {*task.get("system_tags", []), ARCHIVED})
    return 1


@endpoint("tasks.unarchive_many", WRITE, IDS)
def unarchive_many(request: Request) -> dict[str, Any]:
    """Take the tag `archived` away."""
    def one(id: str) -> dict[str, Any]:
        task = documents.load(request.db, id)
        _tag(request, task, set(task.get("system_tags", [])) - {ARCHIVED})
        return {"unarchived": 1}
    return many.each(request, one)


def _tag(request: Request, task: Task, tags: set[str]) -> None:
    task.set("system_tags", sorted(tags))
    status.touch(request, task, update=False)
    task.save()
    request.wakes = True


@endpoint("tasks.update_tags", WRITE, IDS, add_tags=list, remove_tags=list)
def update_tags(request: Request) -> dict[str, Any]:
    """Add and remove tags of several tasks: {updated}; neither given is 400/12."""
    add, remove = strings(request.body, "add_tags"), strings(request.body, "remove_tags")
    if not add and not remove:
        raise error(12, "add_tags or remove_tags")
    for id in request.body["ids"]:
        task = documents.load(request.db, id)
        task.set("tags", sorted({*task.get("tags", []), *add} - set(remove)))
        status.touch(request, task, update=False)
        task.save()
    return {"updated": len(request.body["ids"])}


@endpoint("tasks.move", WRITE, IDS, project=str, project_name=str)
def move(request: Request) -> dict[str, Any]:
    """Put tasks into another project, which is made when it is only named: {project_id}."""
    from agentpipe.server import projects
    project = projects.target(request)
    for id in request.body["ids"]:
        task = documents.load(request.db, id)
        task.set("project", project)
        status.touch(request, task, update=False)
        task.save()
    return {"project_id": project} if project else {}


@endpoint("tasks.get_types", READ, {}, projects=Texts)
def get_types(request: Request) -> dict[str, Any]:
    """The types that tasks have: {types}."""
    wanted = request.get("projects")
    rows = request.db.execute("SELECT DISTINCT json_extract(doc, '$.type'), project FROM tasks").fetchall()
    return {"types": sorted({kind for kind, project in rows if kind and (not wanted or project in wanted)})}


@endpoint("tasks.stop_many", WRITE, IDS, include_pipeline_steps=bool, **CHANGE)
def stop_many(request: Request) -> dict[str, Any]:
    """tasks.stop for each."""
    return many.each(request, lambda id: many.again(request, tasks.stop, task=id))


@endpoint("tasks.enqueue_many", WRITE, IDS, queue=str, queue_name=str, validate_tasks=bool,
          verify_watched_queue=bool, **CHANGE)
def enqueue_many(request: Request) -> dict[str, Any]:
    """tasks.enqueue for each."""
    return many.each(request, lambda id: {**many.again(request, tasks.enqueue, task=id), "queued": True})


@endpoint("tasks.dequeue_many", WRITE, IDS, new_status=str, remove_from_all_queues=bool, **CHANGE)
def dequeue_many(request: Request) -> dict[str, Any]:
    """tasks.dequeue for each."""
    return many.each(request, lambda id: {**many.again(request, tasks.dequeue, task=id), "dequeued": True})


@endpoint("tasks.reset_many", WRITE, IDS, clear_all=bool, **CHANGE)
def reset_many(request: Request) -> dict[str, Any]:
    """tasks.reset for each."""
    return many.each(request, lambda id: many.again(request, tasks_edit.reset, task=id))


@endpoint("tasks.delete_many", WRITE, IDS, force=bool)
def delete_many(request: Request) -> dict[str, Any]:
    """tasks.delete for each."""
    return many.each(request, lambda id: many.again(request, tasks_edit.delete, task=id))


@endpoint("tasks.publish_many", WRITE, IDS, publish_model=bool, **CHANGE)
def publish_many(request: Request) -> dict[str, Any]:
    """tasks.publish for each."""
    from agentpipe.server import artifacts
    return many.each(request, lambda id: many.again(request, artifacts.publish, task=id))
