"""projects.*: what stands in projects, for pages to choose from: parents, parameters, metrics, users (server.md §9)."""

from __future__ import annotations

from collections.abc import Iterator

from agentpipe.server import documents, many, projects, projects_edit
from agentpipe.server.common import error, loads
from agentpipe.server.endpoints import READ, WRITE, Request, Texts, endpoint
from agentpipe.server.patterns import compile_pattern
from agentpipe.server.scalars import hashed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGED: dict[str, type] = {"page": int, "page_size": int, "include_subprojects": bool}
SECTION_NAME: dict[str, type] = {"section": str, "name": str}


def _tasks(request: Request, wanted: list[str] | None, below: bool = True) -> Iterator[dict[str, Any]]:
    """The tasks (without their large pieces) in these projects and those below, or of all projects."""
    if wanted and below:
        wanted = projects.below(request.db, wanted)
    for project, doc in request.db.execute("SELECT project, doc FROM tasks ORDER BY seq").fetchall():
        if not wanted or project in wanted:
            yield loads(doc)


def _one(request: Request) -> list[str] | None:
    project = request.get("project")
    return [project] if project else None


def _page(request: Request, found: list[Any]) -> tuple[list[Any], int]:
    """A page of a list, and how many remain behind it."""
    page, size = request.get("page", 0), request.get("page_size", 500)
    if page < 0 or size < 1:
        raise error(12, "invalid paging", page=page, page_size=size)
    return found[page * size:(page + 1) * size], max(0, len(found) - (page + 1) * size)


@endpoint("projects.get_task_parents", READ, {}, projects=Texts, tasks_state=str, task_name=str,
          include_subprojects=bool)
def get_task_parents(request: Request) -> dict[str, Any]:
    """The tasks that others have as their parent: {parents: [{id, name, project}]}, by name."""
    state = request.get("tasks_state")
    pattern = compile_pattern(request.get("task_name", ""))
    ids = set()
    for task in _tasks(request, request.get("projects"), request.get("include_subprojects", True)):
        archived = "archived" in task["system_tags"]
        if task.get("parent") and (state is None or (state == "archived") == archived):
            ids.add(task["parent"])
    found = []
    for id in ids:
        parent = documents.find(request.db, id)
        if parent is not None and pattern.search(parent.get("name")):
            project = request.db.execute("SELECT id, name FROM projects WHERE id=?",
                                         (parent.get("project"),)).fetchone()
            found.append({"id": id, "name": parent.get("name"),
                          **({"project": {"id": project[0], "name": project[1]}} if project else {})})
    return {"parents": sorted(found, key=lambda each: (each["name"], each["id"]))}


def _parameters(request: Request, wanted: list[str] | None, below: bool) -> Iterator[tuple[str, str, Any]]:
    for task in _tasks(request, wanted, below):
        sections = documents.parts(request.db, task["id"], ("hyperparams",)).get("hyperparams", {})
        for section, names in sections.items():
            for name, item in names.items():
                yield section, name, item.get("value")


@endpoint("projects.get_hyper_parameters", READ, {}, project=str, **PAGED)
def get_hyper_parameters(request: Request) -> dict[str, Any]:
    """The parameters that tasks of a project have: {total, remaining, parameters: [{section, name}]}."""
    found = sorted({(section, name) for section, name, _ in
                    _parameters(request, _one(request), request.get("include_subprojects", True))})
    page, remaining = _page(request, found)
    return {"total": len(found), "remaining": remaining,
            "parameters": [{"section": section, "name": name} for section, name in page]}


@endpoint("projects.get_hyperparam_values", READ, SECTION_NAME, projects=Texts, pattern=str, **PAGED)
def get_hyperparam_values(request: Request) -> dict[str, Any]:
    """The values that a parameter has: {total, values}."""
    pattern = compile_pattern(request.get("pattern", ""))
    wanted = request.body["section"], request.body["name"]
    found = sorted({str(value) for section, name, value in
                    _parameters(request, request.get("projects"), request.get("include_subprojects", True))
                    if (section, name) == wanted and value is not None and pattern.search(str(value))})
    return {"total": len(found), "values": _page(request, found)[0]}


@endpoint("projects.get_unique_metric_variants", READ, {}, project=str, ids=Texts, model_metrics=bool,
          include_subprojects=bool)
def get_unique_metric_variants(request: Request) -> dict[str, Any]:
    """The curves that tasks (or models) of a project have.

    {metrics: [{metric, metric_hash, variant, variant_hash}]}.
    """
    below, ids = request.get("include_subprojects", True), request.get("ids")
    pairs: set[tuple[str, str]] = set()
    for summary in _summaries(request, _one(request), below, ids):
        for variants in summary.values():
            pairs.update((item["metric"], item["variant"]) for item in variants.values())
    return {"metrics": [{"metric": metric, "metric_hash": hashed(metric), "variant": variant,
                         "variant_hash": hashed(variant)} for metric, variant in sorted(pairs)]}


def _summaries(request: Request, wanted: list[str] | None, below: bool,
               ids: list[str] | None) -> Iterator[dict[str, Any]]:
    """The last_metrics of tasks or models."""
    if not request.get("model_metrics"):
        for task in _tasks(request, wanted, below):
            if not ids or task["id"] in ids:
                yield documents.parts(request.db, task["id"], ("last_metrics",)).get("last_metrics") or {}
        return
    for model in _models(request, wanted, below):
        if not ids or model["id"] in ids:
            yield model.get("last_metrics") or {}


def _models(request: Request, wanted: list[str] | None, below: bool) -> Iterator[dict[str, Any]]:
    """The models in these projects (`below`: and in those below them), or all."""
    if wanted and below:
        wanted = projects.below(request.db, wanted)
    for project, doc in request.db.execute("SELECT project, doc FROM models").fetchall():
        if not wanted or project in wanted:
            yield loads(doc)


@endpoint("projects.get_model_metadata_keys", READ, {"project": str}, **PAGED)
def get_model_metadata_keys(request: Request) -> dict[str, Any]:
    """The keys of the metadata of a project's models: {total, remaining, keys}."""
    found = sorted({key for key, _ in _metadata(request, [request.body["project"]])})
    page, remaining = _page(request, found)
    return {"total": len(found), "remaining": remaining, "keys": page}


@endpoint("projects.get_model_metadata_values", READ, {"key": str}, projects=Texts, **PAGED)
def get_model_metadata_values(request: Request) -> dict[str, Any]:
    """The values of a key of models' metadata: {total, values}."""
    found = sorted({value for key, value in _metadata(request, request.get("projects")) if key == request.body["key"]})
    return {"total": len(found), "values": _page(request, found)[0]}


def _metadata(request: Request, wanted: list[str] | None) -> Iterator[tuple[str, str]]:
    """Keys and values of the metadata of models in these projects and those below, or of all."""
    for model in _models(request, wanted, request.get("include_subprojects", True)):
        for key, item in (model.get("metadata") or {}).items():
            yield key, str(item.get("value"))


@endpoint("projects.get_project_tags", READ, {}, projects=Texts, include_system=bool)
def get_project_tags(request: Request) -> dict[str, Any]:
    """The tags of projects: {tags, system_tags}."""
    wanted = request.get("projects")
    docs = [loads(doc) for id, doc in request.db.execute("SELECT id, doc FROM projects") if not wanted or id in wanted]
    found = {field: sorted({tag for doc in docs for tag in doc[field]}) for field in ("tags", "system_tags")}
    return found if request.get("include_system") else {"tags": found["tags"]}


@endpoint("projects.get_user_names", READ, {}, projects=Texts, include_subprojects=bool)
def get_user_names(request: Request) -> dict[str, Any]:
    """Whose tasks stand in projects: {users: [{id, name}]}."""
    names = {task["user"] for task in _tasks(request, request.get("projects"),
                                             request.get("include_subprojects", True)) if task.get("user")}
    return {"users": [{"id": name, "name": name} for name in sorted(names)]}


@endpoint("projects.merge", WRITE, {"project": str}, destination_project=str)
def merge(request: Request) -> dict[str, Any]:
    """Put what stands in a project into another one (none given: the top), and remove it.

    {moved_entities, moved_projects}.
    """
    source = projects_edit.load(request, request.body["project"])
    target = request.get("destination_project")
    if target == source["id"]:
        raise error(410, project=source["id"])
    place = projects_edit.load(request, target)["name"] if target else ""
    if place.startswith(source["name"] + "/"):
        raise error(408, "a project cannot be merged into one below it", project=source["id"])
    children = [row[0] for row in request.db.execute("SELECT id FROM projects WHERE parent=?", (source["id"],))]
    for child in children:
        many.with_body(request, projects_edit.move, {"project": child, "new_location": place})
    moved = _reassign(request, source["id"], target)
    request.db.execute("DELETE FROM projects WHERE id=?", (source["id"],))
    return {"moved_entities": moved, "moved_projects": len(children)}


def _reassign(request: Request, source: str, target: str | None) -> int:
    """Give a project's tasks and models another one; how many that were."""
    from agentpipe.server import models
    ids = [row[0] for row in request.db.execute("SELECT id FROM tasks WHERE project=?", (source,))]
    for id in ids:
        task = documents.load(request.db, id)
        task.set("project", target)
        task.save()
    docs = [row[0] for row in request.db.execute("SELECT doc FROM models WHERE project=?", (source,))]
    for doc in docs:
        model = loads(doc)
        model.pop("project", None)
        models.save(request, {**model, **({"project": target} if target else {})}, update=False)
    return len(ids) + len(docs)
