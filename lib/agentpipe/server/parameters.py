"""tasks.*: hyperparameters and configuration objects, one by one (server.md §6)."""

from __future__ import annotations

from agentpipe import task_fields
from agentpipe.server import documents, nested, status
from agentpipe.server.common import error
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import READ, WRITE, Objects, Request, Texts, endpoint
from agentpipe.server.tasks import RUNNABLE, TASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# this section may be changed at any time
PROPERTIES = "properties"
MANY = {"tasks": Texts}


@endpoint("tasks.get_hyper_params", READ, MANY)
def get_hyper_params(request: Request) -> dict[str, Any]:
    """The hyperparameters of several tasks, by section and name: {params: [{task, hyperparams}]}."""
    found = []
    for id in request.body["tasks"]:
        sections = documents.parts(request.db, documents.load(request.db, id).id, ("hyperparams",))
        items = [item for names in sections.get("hyperparams", {}).values() for item in names.values()]
        items.sort(key=lambda item: (str(item.get("section")), str(item.get("name"))))
        found.append({"task": id, "hyperparams": items})
    return {"params": found}


@endpoint("tasks.edit_hyper_params", WRITE, {**TASK, "hyperparams": Objects}, replace_hyperparams=str, force=bool)
def edit_hyper_params(request: Request) -> dict[str, Any]:
    """Set some hyperparameters; `replace_hyperparams` "section" or "all" removes the others: {updated}."""
    items = request.body["hyperparams"]
    for item in items:
        _clean(item, "section", "name")
        nested.check("hyperparams", item, task_fields.ITEM)
    task = _editable(request, items)
    sections = {} if request.get("replace_hyperparams") == "all" else dict(task.get("hyperparams") or {})
    if request.get("replace_hyperparams") == "section":
        for item in items:
            sections[item["section"]] = {}
    for item in items:
        kept = {key: value for key, value in item.items() if value is not None}
        sections[item["section"]] = {**sections.get(item["section"], {}), item["name"]: kept}
    return {"updated": _save(request, task, "hyperparams", sections, items)}


@endpoint("tasks.delete_hyper_params", WRITE, {**TASK, "hyperparams": Objects}, force=bool)
def delete_hyper_params(request: Request) -> dict[str, Any]:
    """Remove hyperparameters {section, name} or whole sections {section}: {deleted}."""
    items = request.body["hyperparams"]
    for item in items:
        _clean(item, "section")
    whole = {item["section"] for item in items if not item.get("name")}
    if any(item.get("name") and item["section"] in whole for item in items):
        raise error(15, "a section and names of it", sections=sorted(whole))
    task = _editable(request, items)
    sections = {name: dict(names) for name, names in (task.get("hyperparams") or {}).items() if name not in whole}
    for item in items:
        names = sections.get(item["section"], {})
        names.pop(str(item.get("name") or "").strip(), None)
        if not names:
            sections.pop(item["section"], None)
    return {"deleted": _save(request, task, "hyperparams", sections, items)}


@endpoint("tasks.get_configurations", READ, MANY, names=Texts)
def get_configurations(request: Request) -> dict[str, Any]:
    """Configuration objects of several tasks: {configurations: [{task, configuration}]}."""
    names, found = request.get("names"), []
    for id in request.body["tasks"]:
        items = _configuration(request, id)
        chosen = [items[name] for name in sorted(items) if not names or name in names]
        found.append({"task": id, "configuration": chosen})
    return {"configurations": found}


@endpoint("tasks.get_configuration_names", READ, MANY, skip_empty=bool)
def get_configuration_names(request: Request) -> dict[str, Any]:
    """The names of configuration objects: {configurations: [{task, names}]}."""
    skip, found = request.get("skip_empty", True), []
    for id in request.body["tasks"]:
        items = _configuration(request, id)
        found.append({"task": id, "names": sorted(name for name in items if items[name].get("value") or not skip)})
    return {"configurations": found}


def _configuration(request: Request, id: str) -> dict[str, Any]:
    task = documents.load(request.db, id)
    return documents.parts(request.db, task.id, ("configuration",)).get("configuration", {})


@endpoint("tasks.edit_configuration", WRITE, {**TASK, "configuration": Objects}, replace_configuration=bool, force=bool)
def edit_configuration(request: Request) -> dict[str, Any]:
    """Set some configuration objects, or all of them: {updated}."""
    items = request.body["configuration"]
    for item in items:
        _clean(item, "name")
        nested.check("configuration", item, task_fields.ITEM)
    task = _editable(request, [])
    found = {} if request.get("replace_configuration") else dict(task.get("configuration") or {})
    found.update({item["name"]: item for item in items})
    return {"updated": _save(request, task, "configuration", found, [])}


@endpoint("tasks.delete_configuration", WRITE, {**TASK, "configuration": Texts}, force=bool)
def delete_configuration(request: Request) -> dict[str, Any]:
    """Remove configuration objects by name: {deleted}."""
    task = _editable(request, [])
    found = dict(task.get("configuration") or {})
    for name in request.body["configuration"]:
        found.pop(name, None)
    return {"deleted": _save(request, task, "configuration", found, [])}


def _clean(item: dict[str, Any], *keys: str) -> None:
    """Keys without outer blanks, never empty (400/12); the section "properties" in small letters."""
    for key in keys:
        if not isinstance(item.get(key), str) or not item[key].strip():
            raise error(12, "empty key", field=key)
        item[key] = item[key].strip()
    if str(item.get("section", "")).lower() == PROPERTIES:
        item["section"] = PROPERTIES


def _only_properties(items: list[Any]) -> bool:
    return bool(items) and all(item["section"] == PROPERTIES for item in items)


def _editable(request: Request, items: list[Any]) -> Task:
    """The task, if its status allows the change (400/110): a draft, with `force` one that is queued or runs."""
    task = documents.load(request.db, request.body["task"])
    allowed = RUNNABLE if request.get("force") else ("created",)
    if task.get("status") not in allowed and not _only_properties(items):
        raise error(110, expected=allowed, status=task.get("status"))
    return task


def _save(request: Request, task: Task, field: str, value: Any, items: list[Any]) -> int:
    task.set(field, value)
    status.touch(request, task, update=not _only_properties(items))
    task.save()
    return 1
