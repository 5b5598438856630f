"""tasks.*: what a task is: create, edit, requirements, runtime, clone, reset, delete (server.md §5, §6)."""

from __future__ import annotations

from agentpipe import task_fields
from agentpipe.server import documents, entries, leftovers, nested, owners, status
from agentpipe.server.common import error, exists, name_of, strings
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import READ, WRITE, Objects, Request, Texts, endpoint
from agentpipe.server.tasks import CHANGE, RUNNABLE, TASK, new_document, nothing_to_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = {"training", "testing", "inference", "data_processing", "application", "monitor", "controller",
         "report", "optimizer", "service", "qc", "custom"}
# what create and edit take, and how edit treats it
MERGED = ("script", "execution", "output", "models")
REPLACED = ("hyperparams", "configuration", "container", "runtime")
LABELS = ("name", "comment", "project", "tags", "system_tags")
FIELDS: dict[str, type] = {
    "comment": str, "project": str, "parent": str, "output_dest": str,
    **dict.fromkeys((*MERGED, *REPLACED), dict)}


@endpoint("tasks.create", WRITE, {"name": str, "type": str}, **FIELDS)
def create(request: Request) -> dict[str, Any]:
    """A new draft: {id}. Project and parent must exist (400/16)."""
    kind = request.body["type"]
    document = new_document(request, name_of(request.body), _type(kind))
    for field, value in _given(request).items():
        if field in MERGED:
            document[field] = {**document[field], **value}
        else:
            document[field] = value
    if not document["script"].get("binary"):
        document["script"]["binary"] = "python"
    task = documents.insert(request.db, document)
    status.touch_project(request, task)
    return {"id": task.id}


@endpoint("tasks.validate", READ, {"name": str, "type": str}, **FIELDS)
def validate(request: Request) -> dict[str, Any]:
    """Whether tasks.create would take it: {}, or its refusal."""
    name_of(request.body)
    _type(request.body["type"])
    _given(request)
    return {}


@endpoint("tasks.edit", WRITE, TASK, force=bool, claim=str, was=dict, name=str, type=str, status=str, **FIELDS)
def edit(request: Request) -> dict[str, Any]:
    """Change fields of a draft, with `force` of any task.

    Maps of MERGED one level deep, all others as a whole. With `was` (ours: fields, of MERGED ones some of their keys)
    only if the task still has these values: refused (400/121) otherwise.
    """
    task = documents.load(request.db, request.body["task"])
    documents.check_claim(task, request.get("claim"))
    _check_unchanged(task, request.get("was", {}))
    if not request.get("force") and task.get("status") != "created":
        raise error(110, expected="created", status=task.get("status"))
    given = _given(request)
    if request.get("name") is not None:
        given["name"] = name_of(request.body)
    if request.get("type") is not None:
        given["type"] = _type(request.body["type"])
    if request.get("status") is not None:
        if request.body["status"] not in status.ALLOWED:
            raise error(12, "unknown status", status=request.body["status"])
        given["status"] = request.body["status"]
    fields: dict[str, Any] = {}
    for field, value in given.items():
        if field in MERGED:
            fields.update({f"{field}.{key}": item for key, item in value.items()})
            value = {**(task.get(field) or {}), **value}
        else:
            fields[field] = value
        task.set(field, value)
    if not given:
        return {"updated": 0, "fields": {}}
    fields.update(status.touch(request, task, update=any(field not in LABELS for field in given)))
    task.save()
    status.touch_project(request, task)
    return {"updated": 1, "fields": fields}


def _check_unchanged(task: documents.Task, was: dict[str, Any]) -> None:
    now = task_fields.sound({field: task.get(field) for field in was})  # as who asks has read it
    for field, value in was.items():
        there = now[field]
        if field in MERGED:
            there = {key: (there or {}).get(key) for key in value}
        if there != value:
            raise error(121, f"{field} has changed", task=task.id)


def _type(kind: str) -> str:
    if kind not in TYPES:
        raise error(12, "value is wrong, expected a task type", type=kind)
    return kind


def _given(request: Request) -> dict[str, Any]:
    """The fields of a create or edit that were given, checked and as they are stored.

    Name, type and status apart.
    """
    body = request.body
    found: dict[str, Any] = {}
    for field in (*MERGED, *REPLACED):
        if body.get(field) is not None:
            found[field] = nested.cleaned(field, body[field])
    if body.get("comment") is not None:
        found["comment"] = body["comment"]
    for field in ("tags", "system_tags"):
        if body.get(field) is not None:
            found[field] = strings(body, field)
    if body.get("output_dest") is not None:
        found["output"] = {**found.get("output", {}), "destination": body["output_dest"]}
    _check_references(request, found)
    return found


def _check_references(request: Request, found: dict[str, Any]) -> None:
    for field, table in (("project", "projects"), ("parent", "tasks")):
        value = request.body.get(field)
        if value:
            if not exists(request.db, table, value):
                raise error(16, f"{field} does not exist", **{field: value})
            found[field] = value


@endpoint("tasks.set_requirements", WRITE, {"task": str, "requirements": dict}, claim=str)
def set_requirements(request: Request) -> dict[str, Any]:
    """Replace script.requirements, in any status; a task without a script is 400/122."""
    task = documents.load(request.db, request.body["task"])
    documents.check_claim(task, request.get("claim"))
    if not task.get("script"):
        raise error(122, "task has no script field", task=task.id)
    task.set("script", {**task.get("script"), "requirements": request.body["requirements"]})
    status.touch(request, task)
    task.save()
    return {"updated": 1, "fields": {}}


@endpoint("tasks.edit_runtime", WRITE, TASK, add_or_update=dict, remove=Texts, force=bool, claim=str)
def edit_runtime(request: Request) -> dict[str, Any]:
    """Set and remove single keys of runtime, in status created, queued or in_progress."""
    task = documents.load(request.db, request.body["task"])
    documents.check_claim(task, request.get("claim"))
    if task.get("status") not in RUNNABLE:
        raise error(110, expected=RUNNABLE, status=task.get("status"))
    runtime = dict(task.get("runtime") or {})
    for key in request.get("remove", []):
        runtime.pop(key, None)
    runtime.update(nested.cleaned("runtime", request.get("add_or_update", {})))
    task.set("runtime", runtime)
    status.touch(request, task)
    task.save()
    return {"updated": 1}


@endpoint("tasks.clone", WRITE, TASK, new_task_name=str, new_task_comment=str, new_task_project=str,
          new_task_parent=str, new_task_tags=list, new_task_system_tags=list, new_task_hyperparams=dict,
          new_task_configuration=dict, new_task_container=dict, new_task_input_models=Objects,
          execution_overrides=dict, new_project_name=str)
def clone(request: Request) -> dict[str, Any]:
    """A new draft like another task: its code and settings, nothing of its run."""
    body, old = request.body, documents.load(request.db, request.body["task"]).whole()
    name = name_of({"name": request.get("new_task_name") or old["name"]})
    document = new_document(request, name, old["type"])
    for field in ("comment", "project", "tags", "script", "container", "hyperparams", "configuration"):
        if old.get(field) is not None:
            document[field] = old[field]
    inputs = body.get("new_task_input_models") or (old.get("models") or {}).get("input", [])
    document["models"]["input"] = nested.cleaned("models", {"input": inputs})["input"]
    if (old.get("output") or {}).get("destination"):
        document["output"]["destination"] = old["output"]["destination"]
    document["execution"] = _fresh_execution(old.get("execution") or {})
    document["execution"].update(nested.cleaned("execution", request.get("execution_overrides", {})))
    document["system_tags"] = [tag for tag in old["system_tags"] if tag not in ("development", "archived")]
    own = old.get("parent") or ""
    inherited = own if own and not own.startswith(leftovers.DELETED) else old["id"]
    document["parent"] = request.get("new_task_parent") or inherited
    for field in ("hyperparams", "configuration", "container"):
        if body.get("new_task_" + field):
            document[field] = nested.cleaned(field, body["new_task_" + field])
    if body.get("new_task_comment") is not None:
        document["comment"] = body["new_task_comment"]
    for field in ("tags", "system_tags"):
        if body.get("new_task_" + field) is not None:
            document[field] = strings(body, "new_task_" + field)
    return _insert_clone(request, document)


def _fresh_execution(execution: dict[str, Any]) -> dict[str, Any]:
    """An execution without what a run left in it."""
    found = {key: value for key, value in execution.items() if key != "queue"}
    found["artifacts"] = [item for item in found.get("artifacts", []) if item.get("mode") == "input"]
    return found


def _insert_clone(request: Request, document: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if request.get("new_task_project"):
        document["project"] = request.body["new_task_project"]
    elif request.get("new_project_name"):
        from agentpipe.server import projects
        name = request.body["new_project_name"]
        document["project"] = projects.by_name(request, name)
        answer["new_project"] = {"id": document["project"], "name": name}
    for field, table in (("project", "projects"), ("parent", "tasks")):
        given = request.get("new_task_" + field)
        if given and not exists(request.db, table, given):
            raise error(16, f"{field} does not exist", **{field: given})
    task = documents.insert(request.db, document)
    status.touch_project(request, task)
    return {"id": task.id, **answer}


@endpoint("tasks.reset", WRITE, TASK, clear_all=bool, delete_output_models=bool, return_file_urls=bool,
          delete_external_artifacts=bool, **{**CHANGE, "claim": str})
def reset(request: Request) -> dict[str, Any]:
    """Back to a draft: nothing stays of its run but the recorded requirements."""
    task = documents.load(request.db, request.body["task"])
    documents.check_claim(task, request.get("claim"))
    force = request.get("force", False)
    status.check(task.get("status"), "created", force)
    if not force and (_published_children(request, task.id) or leftovers.published_models(request, task.id)):
        raise error(123, "has published children or models", task=task.id)
    urls = {"urls": leftovers.urls(request, task)} if request.get("return_file_urls") else {}
    models, _ = leftovers.remove(request, task)
    removed = entries.remove_everywhere(request.db, task.id, request.now)
    _forget_run(request, task)
    if request.get("clear_all"):
        for field, value in nothing_to_run().items():
            task.set(field, value)
    fields = status.change(request, task, "created", reason="reset", message="reset", force=True, drops=(
        "started", "completed", "published", "active_duration", "last_worker", "last_worker_report",
        "enqueue_status", "unique_metrics"))
    request.wakes = True
    return {"updated": 1, "fields": fields, "dequeued": {"removed": removed} if removed else {},
            "deleted_models": models, **urls}


def _forget_run(request: Request, task: Task) -> None:
    task.set("execution", _fresh_execution(task.get("execution") or {}))
    task.set("output", {key: value for key, value in (task.get("output") or {}).items()
                        if key not in ("result", "error")})
    task.set("models", {**(task.get("models") or {}), "output": []})
    task.set("last_iteration", 0)
    for field in ("last_metrics", "metric_stats", "runtime"):
        task.set(field, {})
    owners.forget_events(request.db, task.id)


def _published_children(request: Request, task: str) -> bool:
    return request.db.execute("SELECT 1 FROM tasks WHERE parent=? AND status IN ('published', 'publishing')",
                              (task,)).fetchone() is not None


@endpoint("tasks.delete", WRITE, TASK, force=bool, delete_output_models=bool, return_file_urls=bool,
          delete_external_artifacts=bool)
def delete(request: Request) -> dict[str, Any]:
    """Remove a draft or an archived task, with `force` any; its children's parent becomes "__DELETED__ID"."""
    task = documents.load(request.db, request.body["task"])
    if not request.get("force"):
        if task.get("status") != "created" and "archived" not in task.get("system_tags", []):
            raise error(123, "not a draft and not archived", task=task.id, status=task.get("status"))
        if _published_children(request, task.id) or leftovers.published_models(request, task.id):
            raise error(123, "has published children or models", task=task.id)
    urls = {"urls": leftovers.urls(request, task, deleted=True)} if request.get("return_file_urls") else {}
    gone = leftovers.DELETED + task.id
    removed, updated = leftovers.remove(request, task, gone)
    entries.remove_everywhere(request.db, task.id, request.now)
    children = [row[0] for row in request.db.execute("SELECT id FROM tasks WHERE parent=?", (task.id,))]
    for child in children:
        orphan = documents.load(request.db, child)
        orphan.set("parent", gone)
        orphan.save()
    owners.forget_events(request.db, task.id)
    documents.delete(request.db, task.id)
    request.wakes = True
    return {"deleted": True, "updated_children": len(children), "updated_models": updated,
            "deleted_models": removed, **urls}
