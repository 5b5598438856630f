"""projects.*: changing and removing projects, and what stands in them (server.md §9)."""

from __future__ import annotations

from agentpipe.server import projects
from agentpipe.server.common import COMPANY, dumps, error, loads, strings
from agentpipe.server.endpoints import READ, WRITE, Request, Texts, endpoint
from agentpipe.server.projects import below, cleaned, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROJECT = {"project": str}


def load(request: Request, id: str) -> dict[str, Any]:
    """A project's document; unknown 400/401."""
    row = request.db.execute("SELECT doc FROM projects WHERE id=?", (id,)).fetchone()
    if row is None:
        raise error(401, id=id, company=COMPANY)
    return loads(row[0])


def _save(request: Request, project: dict[str, Any]) -> None:
    request.db.execute("UPDATE projects SET name=?, parent=?, last_update=?, doc=? WHERE id=?",
                       (project["name"], project.get("parent"), request.now, dumps(project), project["id"]))


@endpoint("projects.update", WRITE, PROJECT, name=str, description=str, default_output_destination=str)
def update(request: Request) -> dict[str, Any]:
    """Change a project; its name only within the same parent, and names below go along: {updated, fields}.

    Null clears the default output destination.
    """
    body, project = request.body, load(request, request.body["project"])
    fields: dict[str, Any] = {}
    for field in ("description", "default_output_destination"):
        if field in body and (body[field] is not None or field == "default_output_destination"):
            fields[field] = body[field]
    for field in ("tags", "system_tags"):
        if body.get(field) is not None:
            fields[field] = strings(body, field)
    if request.get("name") is not None and cleaned(body["name"]) != project["name"]:
        fields["name"] = cleaned(body["name"])
        _rename(request, project, fields["name"])
    if not fields:
        return {"updated": 0, "fields": {}}
    project.update(fields)
    _save(request, {key: value for key, value in project.items() if value is not None})
    return {"updated": 1, "fields": {**fields, "last_update": request.now}}


def _rename(request: Request, project: dict[str, Any], name: str) -> None:
    old = project["name"]
    if name.rpartition("/")[0] != old.rpartition("/")[0]:
        raise error(408, project=project["id"], name=name)
    if find(request.db, name):
        raise error(801, name=name, company=COMPANY)
    # first itself: names are unique, and those below must not wait for it
    project.update(name=name, basename=name.rpartition("/")[2])
    _save(request, project)
    for id in below(request.db, [project["id"]]):
        if id != project["id"]:
            child = load(request, id)
            child["name"] = name + child["name"][len(old):]
            _save(request, child)


@endpoint("projects.validate_delete", READ, PROJECT)
def validate_delete(request: Request) -> dict[str, Any]:
    """What a delete would meet: counts of tasks and models in the project and below."""
    load(request, request.body["project"])
    ids = below(request.db, [request.body["project"]])
    tasks, models = _contents(request, ids, "tasks"), _contents(request, ids, "models")
    live = [item for item in tasks if "archived" not in item["system_tags"]]
    kinds = {kind: [item for item in live if kind in item["system_tags"]] for kind in ("pipeline", "dataset")}
    return {"tasks": len(tasks), "non_archived_tasks": len(live), "models": len(models),
            "non_archived_models": sum("archived" not in item["system_tags"] for item in models),
            "pipelines": len(kinds["pipeline"]), "datasets": len(kinds["dataset"]), "reports": 0}


def _contents(request: Request, ids: list[str], table: str) -> list[dict[str, Any]]:
    found = []
    for id in ids:
        found += [loads(doc) for (doc,) in request.db.execute(f"SELECT doc FROM {table} WHERE project=?", (id,))]
    return found


@endpoint("projects.delete", WRITE, PROJECT, force=bool, delete_contents=bool, delete_external_artifacts=bool)
def delete(request: Request) -> dict[str, Any]:
    """Remove a project and all below; tasks and models go with `delete_contents`, else they lose their project.

    {deleted, deleted_tasks …, urls}: where the files of what goes lie; those of the files server go as those of a task.
    Without `force` what is not archived in it is refused: pipelines 400/413, data sets 406, tasks 402, models 405.
    """
    from agentpipe.server import documents, leftovers, many, models, tasks_edit
    counts = validate_delete(request)
    if not request.get("force"):
        for kind, code in (("pipelines", 413), ("datasets", 406), ("non_archived_tasks", 402),
                           ("non_archived_models", 405)):
            if counts[kind]:
                raise error(code, project=request.body["project"])
    ids = below(request.db, [request.body["project"]])
    contents = request.get("delete_contents", False)
    urls: dict[str, set[str]] = {kind: set() for kind in ("model_urls", "event_urls", "artifact_urls")}
    gone = {"deleted_tasks": 0, "deleted_models": 0, "disassociated_tasks": 0}
    for item in _contents(request, ids, "tasks"):
        if contents:
            answer = many.again(request, tasks_edit.delete, task=item["id"], force=True, return_file_urls=True)
            for kind, found in urls.items():
                found.update(answer["urls"][kind])
            gone["deleted_tasks"] += 1
        else:
            task = documents.load(request.db, item["id"])
            task.drop("project")
            task.save()
            gone["disassociated_tasks"] += 1
    for model in _contents(request, ids, "models"):
        if contents:
            urls["model_urls"].update(filter(None, [models.remove(request, model, force=True)]))
            if request.get("delete_external_artifacts", True):
                leftovers.remove_file(request, model)
            gone["deleted_models"] += 1
        else:
            model.pop("project", None)
            models.save(request, model)
    for id in ids:
        request.db.execute("DELETE FROM projects WHERE id=?", (id,))
    return {"deleted": len(ids), **gone, "urls": {kind: sorted(found) for kind, found in urls.items()}}


@endpoint("projects.get_task_tags", READ, {}, projects=Texts, include_system=bool)
def get_task_tags(request: Request) -> dict[str, Any]:
    """The tags of tasks: {tags, system_tags}."""
    return tags_of(request, "tasks")


@endpoint("projects.get_model_tags", READ, {}, projects=Texts, include_system=bool)
def get_model_tags(request: Request) -> dict[str, Any]:
    """The tags of models: {tags, system_tags}."""
    return tags_of(request, "models")


def tags_of(request: Request, table: str) -> dict[str, Any]:
    """The tags of a table's objects ("tasks", "models") in the request's `projects`: {tags, system_tags}."""
    wanted = set(request.get("projects", []))
    tags: set[str] = set()
    system: set[str] = set()
    for project, doc in request.db.execute(f"SELECT project, doc FROM {table}"):
        if not wanted or project in wanted:
            found = loads(doc)
            tags.update(found["tags"])
            system.update(found["system_tags"])
    return {"tags": sorted(tags), **({"system_tags": sorted(system)} if request.get("include_system") else {})}


@endpoint("projects.move", WRITE, PROJECT, new_location=str)
def move(request: Request) -> dict[str, Any]:
    """Put a project below another one, by its path; "" is the top: {moved}."""
    project = load(request, request.body["project"])
    place = request.get("new_location", "")
    if place == project["name"] or place.startswith(project["name"] + "/"):
        raise error(408, "a project cannot be moved into itself", project=project["id"])
    parent = projects.by_name(request, place) if place else None
    if parent == project.get("parent"):
        raise error(410, project=project["id"])
    name = cleaned(f"{place}/{project['basename']}")
    if find(request.db, name):
        raise error(801, name=name, company=COMPANY)
    old, ids = project["name"], below(request.db, [project["id"]])
    above = [*load(request, parent)["path"], parent] if parent else []
    cut = len(project["path"])
    if len(above) + 1 + max(len(load(request, id)["path"]) - cut for id in ids) > projects.DEPTH:
        raise error(409, max_depth=projects.DEPTH, name=name)
    for id in ids:
        each = load(request, id)
        each["name"] = name + each["name"][len(old):]
        each["path"] = above + each["path"][cut:]
        if id == project["id"]:
            each.pop("parent", None)
            each.update({"parent": parent} if parent else {})
        _save(request, each)
    return {"moved": len(ids)}
