"""projects.*: a tree of names (server.md §9)."""

from __future__ import annotations

import sqlite3

from agentpipe.server.common import COMPANY, dumps, error, exists, loads, new_id, strings
from agentpipe.server.endpoints import READ, WRITE, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.query import Query

DEPTH = 10


@endpoint("projects.create", WRITE, {"name": str}, description=str, default_output_destination=str)
def create(request: Request) -> dict[str, Any]:
    """A new project and its missing parents: {id}; a name that exists is 400/801.

    One that is only written otherwise ("a//b", "a ") is that project: the clearml package has looked for it as it is
    written, and a script would run once and never again.
    """
    body = request.body
    name = cleaned(body["name"])
    known = find(request.db, name)
    if known and name == body["name"]:
        raise error(801, name=name, company=COMPANY)
    return {"id": known or _insert(request, name, description=request.get("description", ""),
                                   tags=strings(body, "tags"), system_tags=strings(body, "system_tags"),
                                   default_output_destination=request.get("default_output_destination"))}


def cleaned(name: str) -> str:
    """A whole name "a/b/c" without empty parts and blanks; too short 400/800 or 12, too deep 400/409."""
    parts = [part.strip() for part in name.split("/") if part.strip()]
    whole = "/".join(parts)
    if len(whole) < 3:
        raise error(800, "name must be at least 3 characters long", name=whole)
    if len(parts[-1]) < 3:
        raise error(12, "name must be at least 3 characters long", name=parts[-1])
    if len(parts) > DEPTH:
        raise error(409, max_depth=DEPTH, name=whole)
    return whole


def find(db: sqlite3.Connection, name: str) -> str | None:
    """The id of the project of that whole name."""
    row = db.execute("SELECT id FROM projects WHERE name=?", (name,)).fetchone()
    return row[0] if row else None


def by_name(request: Request, name: str) -> str:
    """The id of the project of that name, made when it is missing."""
    name = cleaned(name)
    return find(request.db, name) or _insert(request, name)


def target(request: Request) -> str | None:
    """The project that a move names by `project_name`, made when it is missing, or `project` (unknown 400/401)."""
    id = request.get("project")
    if request.get("project_name"):
        return by_name(request, request.body["project_name"])
    if id and not exists(request.db, "projects", id):
        raise error(401, id=id, company=COMPANY)
    return id


def _insert(request: Request, name: str, **fields: Any) -> str:
    above, _, basename = name.rpartition("/")
    parent = (find(request.db, above) or _insert(request, above)) if above else None
    path = []
    if parent:
        row = request.db.execute("SELECT doc FROM projects WHERE id=?", (parent,)).fetchone()
        path = [*loads(row[0])["path"], parent]
    project = {"id": new_id(), "company": COMPANY, "user": request.user, "name": name, "basename": basename,
               "description": "", "created": request.now, "tags": [], "system_tags": [], "featured": 9999,
               "path": path,
               **({"parent": parent} if parent else {}),
               **{key: value for key, value in fields.items() if value is not None}}
    request.db.execute("INSERT INTO projects (id, name, parent, last_update, doc) VALUES (?, ?, ?, ?, ?)",
                       (project["id"], name, parent, request.now, dumps(project)))
    return project["id"]


def whole(doc: str, last_update: str) -> dict[str, Any]:
    """A project as it is answered."""
    return {**loads(doc), "last_update": last_update}


@endpoint("projects.get_by_id", READ, {"project": str})
def get_by_id(request: Request) -> dict[str, Any]:
    """One project; unknown 400/401."""
    id = request.body["project"]
    row = request.db.execute("SELECT doc, last_update FROM projects WHERE id=?", (id,)).fetchone()
    if row is None:
        raise error(401, id=id, company=COMPANY)
    return {"project": whole(*row)}


@endpoint("projects.get_all", READ, {}, shallow_search=bool)
def get_all(request: Request) -> dict[str, Any]:
    """Projects by the query language.

    `parent` is any ancestor, with shallow_search the direct one (default: none).
    """
    if "scroll_id" in request.body:
        from agentpipe.server import scrolls
        return scrolls.paged(request, _all, "projects")
    return _all(request)


def _all(request: Request) -> dict[str, Any]:
    from agentpipe.server import query
    body = dict(request.body)
    shallow = request.get("shallow_search", False)
    parents = body.pop("parent", None) if not shallow else body.get("parent")
    if shallow and not parents:
        body["parent"] = [None]
    wanted = query.parse(body, query.PROJECTS)
    if parents and not shallow:
        ancestors = set(query.texts(parents, "parent"))
        wanted.add(lambda project: not ancestors.isdisjoint(project["path"]))
    if not (request.get("search_hidden") or request.get("id")):
        _leave_out_hidden(request, wanted)
    rows = request.db.execute("SELECT doc, last_update FROM projects ORDER BY seq")
    return {"projects": wanted.answer(whole(doc, at) for doc, at in rows)}


def _leave_out_hidden(request: Request, wanted: Query) -> None:
    hidden = hidden_ids(request.db)
    wanted.add(lambda project: project["id"] not in hidden and hidden.isdisjoint(project["path"]))


def hidden_ids(db: sqlite3.Connection) -> set[str]:
    """The projects with system tag `hidden`."""
    rows = db.execute("SELECT id, doc FROM projects WHERE doc LIKE '%\"hidden\"%'")
    return {id for id, doc in rows if "hidden" in loads(doc)["system_tags"]}


def below(db: sqlite3.Connection, ids: list[str]) -> list[str]:
    """These projects and all below them; one that is unknown too, since a condition on no project at all fits all."""
    wanted = dict.fromkeys(ids)
    rows = db.execute("SELECT id, doc FROM projects").fetchall()
    found = [id for id, doc in rows if id not in wanted and not wanted.keys().isdisjoint(loads(doc)["path"])]
    return [*wanted, *found]
