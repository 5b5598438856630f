"""tasks.*: reading tasks: one whole, or those of a query, of which columns narrow down what they can (server.md §4)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentpipe.server import documents
from agentpipe.server.common import COMPANY, error, loads
from agentpipe.server.endpoints import READ, Request, endpoint
from agentpipe.server.tasks import TASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.query import Query


@endpoint("tasks.get_by_id", READ, TASK)
def get_by_id(request: Request) -> dict[str, Any]:
    """One task, whole; unknown 400/101."""
    task = documents.find(request.db, request.body["task"])
    if task is None:
        raise error(101, ids=[request.body["task"]], company=COMPANY)
    return {"task": task.whole()}


@endpoint("tasks.get_all")
def get_all(request: Request) -> dict[str, Any]:
    """Tasks by the query language (server.md §4); a poll of one task's status reads one small row."""
    body = request.body
    if "scroll_id" in body:
        from agentpipe.server import scrolls
        return scrolls.paged(request, _all, "tasks")
    return _all(request)


def _all(request: Request) -> dict[str, Any]:
    from agentpipe.server import query
    body = query.with_subprojects(request)
    wanted = query.parse(body, query.TASKS)
    if not (request.get("search_hidden") or request.get("id")):
        # of its own: the clearml package finds the cached step of a pipeline so, in a project that is hidden
        wanted.add(lambda task: "hidden" not in task["system_tags"])
    order = _sql_order(wanted)
    rows = _rows(request, *_narrowed(body), order)
    read = tuple(part for part in documents.PARTS if part in wanted.used)
    if wanted.order and not order:
        ids = [slim["id"] for slim in wanted.arrange(_read(request, rows, read))]
        found = [documents.load(request.db, id).head for id in ids]
        read = ()
    else:
        found = wanted.select(_read(request, rows, read))
    return {"tasks": [wanted.show(_with_parts(request, wanted, document, read)) for document in found]}


def _with_parts(request: Request, wanted: Query, document: dict[str, Any],
                read: tuple[str, ...]) -> dict[str, Any]:
    """A document with the large pieces that its answer shows, as far as they are not read yet."""
    more = tuple(part for part in documents.PARTS if part not in read and wanted.shows(part))
    if more:
        document.update(documents.parts(request.db, document["id"], more))
    return document


def _read(request: Request, rows: Any, read: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for id, doc in rows:
        document = loads(doc)
        if read:
            document.update(documents.parts(request.db, id, read))
        yield document


def _rows(request: Request, where: str, values: list[str], order: str) -> Iterator[tuple[str, str]]:
    """Id and document of the candidates; in an order of columns each is read when it is asked for.

    Sorting whole documents for the first page of them took longer than all else.
    """
    if not order:
        yield from request.db.execute(f"SELECT id, doc FROM tasks{where} ORDER BY seq", values)
        return
    for (seq,) in request.db.execute(f"SELECT seq FROM tasks{where} ORDER BY {order}", values):
        yield request.db.execute("SELECT id, doc FROM tasks WHERE seq=?", (seq,)).fetchone()


def _narrowed(body: dict[str, Any]) -> tuple[str, list[str]]:
    """A condition for the candidates, and its values: what columns can decide.

    The conditions themselves are applied to each.
    """
    from agentpipe.server import listquery
    where, values = [], []
    filters = body.get("filters") or {}
    for field in ("id", "status", "project", "parent"):
        items = listquery.plain(body[field]) if body.get(field) and field not in filters else None
        # beyond this SQLite may refuse so many parameters
        if items and len(items) <= 500:
            where.append(f"{field} IN ({','.join('?' * len(items))})")
            values += items
    prefix, name = _id_prefix(body.get("_any_")), _whole_name(body.get("name"))
    if prefix:
        where.append("id>=? AND id<?")
        values += [prefix, prefix + "g"]
    if name:
        where.append("name=?")
        values.append(name)
    latest = _latest(body.get("created"))
    if latest:
        where.append("created<=?")
        values.append(latest)
    claim = body.get("runtime." + documents.CLAIM)
    if isinstance(claim, str):
        where.append("claim=?")
        values.append(claim)
    return " WHERE " + " AND ".join(where) if where else "", values


def _latest(asked: Any) -> str:
    """The end of a range of times, as times are stored; "" where none is asked for."""
    from agentpipe.server import ranges
    last = asked[1] if isinstance(asked, list) and len(asked) == 2 else None
    return (ranges.moment(last) or "") if isinstance(last, str) else ""


def _id_prefix(asked: Any) -> str:
    """The digits with which ids are to begin, when that is all that `_any_` asks for; "" otherwise."""
    if not isinstance(asked, dict) or asked.get("fields") != ["id"]:
        return ""
    found = re.fullmatch(r"\^([0-9a-f]+)", str(asked.get("pattern")))
    return found[1] if found else ""


def _whole_name(pattern: Any) -> str:
    """The only name that fits a pattern, when it is one of re.escape() between ^ and $; "" otherwise."""
    if not isinstance(pattern, str) or not (pattern.startswith("^") and pattern.endswith("$")):
        return ""
    text = re.sub(r"\\(\W)", r"\1", pattern[1:-1])
    return text if re.escape(text) == pattern[1:-1] else ""


def _sql_order(wanted: Query) -> str:
    """ORDER BY of a request, when columns have all of it."""
    columns = {"status", "name", "created", "last_update", "id"}
    if not wanted.order or not all(path in columns for path, _ in wanted.order):
        return ""
    return ", ".join([path + (" DESC" if descending else "") for path, descending in wanted.order] + ["id"])
