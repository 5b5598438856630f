"""get_all_ex and get_by_id_ex: references as objects with the fields that were asked for (server.md §4)."""

from __future__ import annotations

import sqlite3

from agentpipe.server.common import COMPANY, COMPANY_NAME, loads
from agentpipe.server.fieldpaths import pick
from agentpipe.server.query import texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Handler, Request

# field -> the kind of object that its id names
REFERENCES = {"project": "projects", "parent": "tasks", "task": "tasks", "user": "users", "company": "companies",
              "execution.queue": "queues"}
# in a project the parent is another one
OWN = {"projects": {"parent": "projects"}, "models": {"parent": "models"}}


def every(request: Request, kind: str, get_all: Handler) -> dict[str, Any]:
    """get_all's answer with references expanded; the id is always there."""
    body = dict(request.body)
    asked = body.get("only_fields") or body.get("projection") or []
    asked = texts(asked, "only_fields")
    references = {**REFERENCES, **OWN.get(kind, {})}
    below: dict[str, dict[str, Any]] = {}
    if asked:
        body.pop("projection", None)
        body["only_fields"] = ["id", *(_own_field(path, references, below) for path in asked)]
    before, request.body = request.body, body
    try:
        answer = get_all(request)
    finally:
        request.body = before
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for document in answer[kind]:
        for field, other in references.items():
            _expand(request.db, document, field, other, below.get(field, {}), seen)
    return answer


def one(request: Request, kind: str, get_all: Handler, id: str) -> dict[str, Any] | None:
    """One object likewise, or None."""
    before = request.body
    request.body = {"id": [id], **{key: value for key, value in before.items() if key in ("only_fields", "projection")}}
    try:
        found = every(request, kind, get_all)[kind]
    finally:
        request.body = before
    return found[0] if found else None


def _own_field(path: str, references: dict[str, str], below: dict[str, dict[str, Any]]) -> str:
    """The object's own field of a path; what is asked of the other object is noted in `below`."""
    from agentpipe.server.fieldpaths import add_path
    for field in references:
        if path.startswith(field + "."):
            add_path(below.setdefault(field, {}), path[len(field) + 1:])
            return field
    return path


def _expand(db: sqlite3.Connection, document: dict[str, Any], field: str, kind: str, wanted: dict[str, Any],
            seen: dict[tuple[str, str], dict[str, Any]]) -> None:
    holder: Any = document
    *above, last = field.split(".")
    for key in above:
        holder = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(holder, dict) or not isinstance(holder.get(last), str):
        return
    id = holder[last]
    if wanted and (kind, id) not in seen:
        seen[kind, id] = _other(db, kind, id)
    holder[last] = {**(pick(seen[kind, id], wanted) if wanted else {}), "id": id}


def _other(db: sqlite3.Connection, kind: str, id: str) -> dict[str, Any]:
    """What is known of another object."""
    if kind == "users":
        return {"id": id, "name": id}
    if kind == "companies":
        return {"id": id, "name": COMPANY_NAME if id == COMPANY else ""}
    row = db.execute(f"SELECT doc FROM {kind} WHERE id=?", (id,)).fetchone()
    found = loads(row[0]) if row else {}
    # a parent's project by its name
    if kind == "tasks" and isinstance(found.get("project"), str):
        found["project"] = {**_other(db, "projects", found["project"]), "id": found["project"]}
    return found
