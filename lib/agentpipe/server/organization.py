"""organization.*: all tags, counts of everything, and lists as a file for a spreadsheet (server.md §9)."""

from __future__ import annotations

from collections.abc import Iterator

from agentpipe.server import many, models, projects, projects_edit, scrolls, tasks_read
from agentpipe.server.common import error
from agentpipe.server.endpoints import OWN, READ, Attachment, Objects, Request, Texts, endpoint
from agentpipe.server.query import EVERYTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Handler

# what is counted -> whose get_all counts it, and with which further conditions
COUNTED: dict[str, tuple[str, dict[str, Any]]] = {
    "projects": ("projects", {}), "tasks": ("tasks", {}), "models": ("models", {}),
    "pipelines": ("projects", {"system_tags": ["pipeline"], "search_hidden": True}),
    "datasets": ("projects", {"system_tags": ["dataset"], "search_hidden": True}),
    "reports": ("tasks", {"type": ["report"], "search_hidden": True}),
}


def _get_all(kind: str) -> Handler:
    found: dict[str, Handler] = {"projects": projects.get_all, "tasks": tasks_read.get_all,
                                 "models": models.get_all}
    return found[kind]


@endpoint("organization.get_tags", READ, {}, include_system=bool, projects=Texts, filter=dict)
def get_tags(request: Request) -> dict[str, Any]:
    """The tags of tasks and models: {tags, system_tags}."""
    found = [projects_edit.tags_of(request, table) for table in ("tasks", "models")]
    return {field: sorted(set(found[0][field]) | set(found[1][field])) for field in found[0]}


@endpoint("organization.get_entities_count", READ, {}, search_hidden=bool, **dict.fromkeys(COUNTED, dict))
def get_entities_count(request: Request) -> dict[str, Any]:
    """How many objects fit each query that is given: {projects: n, tasks: n, …}."""
    answer = {}
    for name, (kind, more) in COUNTED.items():
        asked = request.get(name)
        if asked is not None:
            body = {"search_hidden": request.get("search_hidden", False), **asked, **more, "only_fields": ["id"]}
            answer[name] = len(_all(request, kind, body, _get_all(kind)))
    return answer


def _all(request: Request, kind: str, body: dict[str, Any], get_all: Handler) -> list[dict[str, Any]]:
    """All objects that fit a query."""
    return many.with_body(request, get_all, {**body, "page": 0, "page_size": EVERYTHING})[kind]


@endpoint("organization.prepare_download_for_get_all", READ, {"entity_type": str}, only_fields=list,
          field_mappings=Objects)
def prepare_download_for_get_all(request: Request) -> dict[str, Any]:
    """Remember a query of tasks or models, for download_for_get_all: {prepare_id}.

    `field_mappings` [{field, name, values: [{key, value}]}] are the columns; without any, `only_fields` are.
    """
    body = request.body
    if body["entity_type"] not in ("task", "model"):
        raise error(12, "entity_type is task or model", entity_type=body["entity_type"])
    columns = request.get("field_mappings") or [{"field": field} for field in request.get("only_fields", [])]
    if not columns or not all(isinstance(each, dict) and isinstance(each.get("field"), str) for each in columns):
        raise error(12, "field_mappings are {field, name}, or only_fields is given")
    return {"prepare_id": scrolls.keep(request, "table", (body, columns))}


@endpoint("organization.download_for_get_all", OWN, {"prepare_id": str})
def download_for_get_all(request: Request) -> dict[str, Any]:
    """What was prepared, as CSV."""
    body, columns = scrolls.recall(request, "table", request.body["prepare_id"])
    kind = body["entity_type"] + "s"
    return Attachment(_csv(request, kind, body, columns), f"{kind}.csv", "text/csv")


def _csv(request: Request, kind: str, body: dict[str, Any], columns: list[dict[str, Any]]) -> Iterator[bytes]:
    from agentpipe.server import lists_ex
    get_all = lists_ex.tasks_all if kind == "tasks" else lists_ex.models_all
    query = {key: value for key, value in body.items() if key not in ("field_mappings", "entity_type")}
    query["only_fields"] = [column["field"] for column in columns]
    yield _row([column.get("name") or column["field"] for column in columns])

    def read(db: Any) -> list[dict[str, Any]]:
        request.db = db
        return _all(request, kind, query, get_all)
    for document in request.store.read(read):
        yield _row([_cell(document, column) for column in columns])


def _cell(document: dict[str, Any], column: dict[str, Any]) -> str:
    from agentpipe.server.fieldpaths import values
    words = {each.get("key"): each.get("value") for each in column.get("values") or [] if isinstance(each, dict)}
    found = values(document, column["field"])
    return ", ".join(str(words.get(value, value) if isinstance(value, str) else value) for value in found)


def _row(cells: list[str]) -> bytes:
    import csv
    import io
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode("utf-8", "replace")
