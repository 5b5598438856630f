"""models.*: what tasks learn, by uri and name (server.md §9)."""

from __future__ import annotations

import sqlite3

from agentpipe.server import owners
from agentpipe.server.common import COMPANY, dumps, error, exists, loads, new_id, strings
from agentpipe.server.endpoints import READ, WRITE, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODEL = {"model": str}
# what create and edit take as it is given
FIELDS: dict[str, type] = {"comment": str, "uri": str, "name": str, "framework": str, "design": dict, "labels": dict,
                           "ready": bool, "project": str, "parent": str, "task": str}
# fields that are columns as well, for look-ups
COLUMNS = ("name", "uri", "project", "task")


def load(db: sqlite3.Connection, id: str) -> dict[str, Any]:
    """A model's document; unknown 400/201."""
    row = db.execute("SELECT doc FROM models WHERE id=?", (id,)).fetchone()
    if row is None:
        raise error(201, id=id, company=COMPANY)
    return loads(row[0])


def save(request: Request, model: dict[str, Any], update: bool = True) -> None:
    """Write a model, new or changed."""
    model["last_change"] = request.now
    if update:
        model["last_update"] = request.now
    columns = [model.get(column) for column in COLUMNS]
    request.db.execute(
        "INSERT INTO models (id, name, uri, project, task, doc) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
        "SET name=excluded.name, uri=excluded.uri, project=excluded.project, task=excluded.task, doc=excluded.doc",
        (model["id"], *columns, dumps(model)))


@endpoint("models.create", WRITE, {"name": str, "uri": str}, **{
    key: kind for key, kind in FIELDS.items() if key not in ("name", "uri")})
def create(request: Request) -> dict[str, Any]:
    """A new model: {id, created}; it is ready unless `ready` is false."""
    model = {"id": new_id(), "company": COMPANY, "user": request.user, "created": request.now, "framework": "",
             "design": {}, "labels": {}, "ready": True, "comment": "", "tags": [], "system_tags": [], "metadata": {},
             "last_iteration": 0, "last_metrics": {}, **_given(request)}
    if not str(model["name"]).strip():
        raise error(800, "a model has a name", name=model["name"])
    save(request, model)
    return {"id": model["id"], "created": True}


def _given(request: Request) -> dict[str, Any]:
    """The fields of a body, checked and as they are stored."""
    body = request.body
    found = {field: body[field] for field in FIELDS if body.get(field) is not None}
    for field in ("tags", "system_tags"):
        if body.get(field) is not None:
            found[field] = strings(body, field)
    for field, table in (("project", "projects"), ("task", "tasks")):
        value = found.get(field)
        if value == "":
            del found[field]
        elif value and not exists(request.db, table, value):
            raise error(16, f"{field} does not exist", **{field: value})
    if body.get("metadata") is not None:
        found["metadata"] = metadata(body["metadata"])
    return found


def metadata(items: Any) -> dict[str, Any]:
    """Metadata as it is stored, out of a list or a map of {key, type, value}."""
    if isinstance(items, dict):
        items = [{**item, "key": key} if isinstance(item, dict) else item for key, item in items.items()]
    found = {}
    for item in items if isinstance(items, list) else [items]:
        if not isinstance(item, dict):
            raise error(12, f"error for field 'metadata'. value is wrong, expected type \"object\" {item!r}"[:200])
        key = str(item.get("key") or "").strip()
        if not key:
            raise error(12, "empty key", field="metadata")
        found[key] = {**item, "key": key}
    return found


@endpoint("models.get_by_id", READ, MODEL)
def get_by_id(request: Request) -> dict[str, Any]:
    """One model; unknown 400/201."""
    return {"model": load(request.db, request.body["model"])}


@endpoint("models.get_all", READ)
def get_all(request: Request) -> dict[str, Any]:
    """Models by the query language; what columns can decide is decided by SQLite."""
    if "scroll_id" in request.body:
        from agentpipe.server import scrolls
        return scrolls.paged(request, _all, "models")
    return _all(request)


def _all(request: Request) -> dict[str, Any]:
    from agentpipe.server import listquery, query
    body = query.with_subprojects(request)
    wanted = query.parse(body, query.MODELS)
    where, values = [], []
    for field in ("id", "project", "task", "uri"):
        items = listquery.plain(body[field]) if body.get(field) and field not in (body.get("filters") or {}) else None
        if items and len(items) <= 500:
            where.append(f"{field} IN ({','.join('?' * len(items))})")
            values += items
    condition = " WHERE " + " AND ".join(where) if where else ""
    rows = request.db.execute(f"SELECT doc FROM models{condition} ORDER BY seq", values)
    return {"models": wanted.answer(loads(doc) for (doc,) in rows)}


@endpoint("models.edit", WRITE, MODEL, iteration=int, **FIELDS)
def edit(request: Request) -> dict[str, Any]:
    """Change fields of a model, ready or not: {updated, fields}."""
    return _edited(request, _given(request))


@endpoint("models.update", WRITE, MODEL, iteration=int, **FIELDS)
def update(request: Request) -> dict[str, Any]:
    """The older form of edit."""
    return _edited(request, _given(request))


def _edited(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    model = load(request.db, request.body["model"])
    if request.get("iteration") is not None and model.get("task"):
        from agentpipe.server import documents
        task = documents.find(request.db, model["task"])
        if task is not None:
            task.set("last_iteration", max(task.get("last_iteration") or 0, request.body["iteration"]))
            task.save()
    if not given:
        return {"updated": 0, "fields": {}}
    model.update(given)
    save(request, model)
    return {"updated": 1, "fields": given}


def make_ready(request: Request, id: Any) -> bool:
    """Publish a model; whether it was a draft."""
    row = request.db.execute("SELECT doc FROM models WHERE id=?", (id,)).fetchone()
    model = loads(row[0]) if row else {"ready": True}
    if model["ready"]:
        return False
    model["ready"] = True
    save(request, model)
    return True


@endpoint("models.set_ready", WRITE, MODEL, publish_task=bool, force_publish_task=bool)
def set_ready(request: Request) -> dict[str, Any]:
    """Publish a model and, if asked, its task: {updated, published_task}; ready already 400/203."""
    model = load(request.db, request.body["model"])
    if not make_ready(request, model["id"]):
        raise error(203, model=model["id"])
    answer: dict[str, Any] = {"updated": 1}
    if model.get("task") and request.get("publish_task", True):
        from agentpipe.server import documents, status
        task = documents.find(request.db, model["task"])
        force = request.get("force_publish_task", False)
        if task is not None and (task.get("status") in ("stopped", "completed", "closed", "failed") or force):
            fields = status.change(request, task, "published", force=True, sets={"published": request.now})
            answer["published_task"] = {"id": task.id, "data": {"updated": 1, "fields": fields}}
    return answer


@endpoint("models.delete", WRITE, MODEL, force=bool)
def delete(request: Request) -> dict[str, Any]:
    """Remove a model: {deleted, url}. One that a task uses or that a published task made needs `force`."""
    model = load(request.db, request.body["model"])
    return {"deleted": True, "url": remove(request, model, request.get("force", False))}


def remove(request: Request, model: dict[str, Any], force: bool) -> str:
    """Remove a model's document and the references to it; its uri, whose file the caller removes."""
    from agentpipe.server import documents
    users = inputs_of(request, model["id"])
    if users and not force:
        raise error(205, model=model["id"], tasks=users[:5])
    maker = documents.find(request.db, model["task"]) if model.get("task") else None
    if maker is not None and maker.get("status") == "published" and not force:
        raise error(206, model=model["id"], task=maker.id)
    for id in users:
        task = documents.load(request.db, id)
        models = dict(task.get("models") or {})
        models["input"] = [{**item, "model": "__DELETED__" + model["id"]} if item.get("model") == model["id"] else item
                           for item in models.get("input", [])]
        task.set("models", models)
        task.save()
    if maker is not None:
        models = dict(maker.get("models") or {})
        models["output"] = [item for item in models.get("output", []) if item.get("model") != model["id"]]
        maker.set("models", models)
        maker.save()
    forget(request, model["id"])
    return model.get("uri") or ""


def forget(request: Request, id: str) -> None:
    """Remove a model's document and what it reported; who refers to it is the caller's."""
    owners.forget_events(request.db, id)
    request.db.execute("DELETE FROM models WHERE id=?", (id,))


def inputs_of(request: Request, id: str) -> list[str]:
    """The tasks that take a model as their input."""
    return [task for (task,) in request.db.execute("SELECT task FROM inputs WHERE model=? ORDER BY task", (id,))]
