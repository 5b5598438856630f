"""The query language of get_all: which objects, in which order, which page, which fields (server.md §4).

All but with_subprojects() works on plain documents; what SQLite can narrow down first is up to the service's module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from agentpipe.server.common import error
from agentpipe.server.fieldpaths import values
from agentpipe.server.patterns import Pattern, compile_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Request

    Document = dict[str, Any]
    Condition = Callable[[Document], bool]

# default and maximum of page_size
PAGE = 500


class Everything(int):
    """A page_size without that maximum, for calls of our own: no JSON makes one."""


EVERYTHING = Everything(1 << 62)


def with_subprojects(request: Request) -> dict[str, Any]:
    """The body of a query; where it asks for sub-projects, its `project` names those below as well."""
    body = request.body
    if not (body.get("include_subprojects") and body.get("project")):
        return body
    from agentpipe.server import listquery, projects
    roots = listquery.plain(body["project"])
    return {**body, "project": projects.below(request.db, roots)} if roots else body


class Kind:
    """What may be asked of one kind of object: how each field's condition reads, and which fields there are.

    A name that ends in ".*" stands for every path below it. `text` has the weights of what search_text looks into.
    """

    def __init__(self, fields: str, unasked: str = "", text: str = "", **readings: str) -> None:
        pairs = [word.rpartition(":") for word in text.split()]
        self.text = {path: int(weight) for path, _, weight in pairs}
        self.readings = {reading: frozenset(names.split()) for reading, names in readings.items()}
        self.fields = frozenset(f"{fields} {unasked}".split()).union(
            name.partition(".")[0] for names in self.readings.values() for name in names)
        self.unasked = frozenset(unasked.split())

    def reading(self, field: str) -> str:
        """How a condition on `field` reads ("pattern", "list" …); "" when the field cannot be asked for."""
        top, dot, _ = field.partition(".")
        for reading, names in self.readings.items():
            if field in names or (dot and f"{top}.*" in names):
                return reading
        return ""


TASKS = Kind(
    "id name type user company status status_reason status_message status_changed comment report "
    "report_assets created started completed published active_duration parent project output execution "
    "container models script tags system_tags last_worker last_worker_report last_update last_change "
    "last_changed_by last_iteration last_metrics metric_stats hyperparams configuration runtime",
    unasked="unique_metrics company_origin enqueue_status",
    text="name:10 id:10 comment:10 report:10 models.input.model:2 models.output.model:2 script.repository:1 "
         "script.entry_point:1",
    pattern="name comment report",
    list="id user tags system_tags type status project parent hyperparams.* execution.queue "
         "models.input.model",
    range="created started active_duration last_iteration last_metrics.*",
    date="status_changed last_update last_change",
    equal="runtime.*")
PROJECTS = Kind(
    "id name basename description user company created last_update tags system_tags "
    "default_output_destination parent featured",
    unasked="path logo_blob", text="name:10 id:10 description:10",
    pattern="name basename description", list="id tags system_tags parent", range="last_update")
QUEUES = Kind(
    "id name display_name user company created last_update tags system_tags entries metadata",
    pattern="name", list="id tags system_tags metadata.*")
MODELS = Kind(
    "id name user company created task parent project comment tags system_tags framework design labels ready uri "
    "metadata last_update last_change last_iteration last_metrics",
    unasked="ui_cache unique_metrics", text="name:10 id:10 comment:10 parent:5 task:3 project:3",
    pattern="name comment",
    list="id user tags system_tags framework uri project task parent metadata.*",
    range="created last_iteration last_metrics.*", date="last_update last_change", equal="ready")


class Query:
    """A parsed request: `select` gives the objects of the page, `show` an object as it is answered."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.conditions: list[Condition] = []
        self.used: set[str] = set()
        self.order: list[tuple[str, bool]] = []
        self.first = 0
        self.size = PAGE
        self.shown: dict[str, Any] | None = None
        self.hidden: list[str] = []
        self.score: Callable[[Document], int] | None = None

    def add(self, condition: Condition, *fields: str) -> None:
        """One more condition, which reads these top-level fields."""
        self.conditions.append(condition)
        self.used.update(fields)

    def shows(self, field: str) -> bool:
        """Whether the answer has that top-level field."""
        if field in self.hidden:
            return False
        return field not in self.kind.unasked if self.shown is None else field in self.shown

    def needs(self, field: str) -> bool:
        """Whether that top-level field is read at all."""
        return field in self.used or self.shows(field)

    def matches(self, document: Document) -> bool:
        """Whether all conditions hold."""
        return all(condition(document) for condition in self.conditions)

    def select(self, documents: Iterable[Document]) -> list[Document]:
        """The page of those that match, out of documents that come in the order that was asked for."""
        found = []
        for document in documents:
            if self.matches(document):
                found.append(document)
                if len(found) >= self.first + self.size:
                    break
        return found[self.first:]

    def arrange(self, documents: Iterable[Document]) -> list[Document]:
        """The page of those that match, put into order: of each only its id and what it is ordered by."""
        from agentpipe.server.fieldpaths import add_path, pick
        from agentpipe.server.ordering import sort
        from agentpipe.server.textsearch import SCORE
        kept: dict[str, Any] = {"id": None}
        for path, _ in self.order:
            add_path(kept, path)
        found = []
        for document in documents:
            if self.matches(document):
                slim = pick(document, kept)
                if self.score is not None:
                    slim[SCORE] = self.score(document)
                found.append(slim)
        sort(found, self.order)
        return found[self.first:self.first + self.size]

    def show(self, document: Document) -> Document:
        """The fields that were asked for, no others."""
        from agentpipe.server.fieldpaths import leave_out, pick
        if self.shown is None:
            found = {key: value for key, value in document.items() if key not in self.kind.unasked}
        else:
            found = pick(document, self.shown)
        for path in self.hidden:
            found = leave_out(found, path)
        return found

    def answer(self, documents: Iterable[Document]) -> list[Document]:
        """The page, as it is answered."""
        if self.order:
            documents = {document["id"]: document for document in documents}
            return [self.show(documents[slim["id"]]) for slim in self.arrange(documents.values())]
        return [self.show(document) for document in self.select(documents)]


def parse(body: Document, kind: Kind) -> Query:
    """A request's conditions, order, page and fields; null and an empty list ask for nothing."""
    found = Query(kind)
    filters = body.get("filters") or {}
    if not isinstance(filters, dict):
        raise error(12, f'filters: value is wrong, expected type "object" {filters!r}'[:200])
    for field, value in body.items():
        if field in ("_any_", "_or_"):
            _several(found, value, any)
        elif field in ("_all_", "_and_"):
            _several(found, value, all)
        elif value is not None and field not in filters:
            _condition(found, field, value)
    if filters:
        from agentpipe.server import listquery
        for field, value in filters.items():
            if kind.reading(field) == "list":
                found.add(listquery.filtered(field, value), field.partition(".")[0])
    if body.get("search_text") and kind.text:
        _searching(found, body["search_text"])
    _paging(found, body)
    _ordering(found, body.get("order_by"))
    _projection(found, body.get("only_fields") or body.get("projection"))
    return found


def _condition(found: Query, field: str, value: Any) -> None:
    reading = found.kind.reading(field)
    if not reading or value == []:
        return
    if field.startswith("hyperparams.") and not 2 <= len(field.split(".")) <= 4:
        raise error(12, "hyperparams paths have two to four parts", field=field)
    top = field.partition(".")[0]
    if reading == "pattern":
        pattern = compile_pattern(value)
        found.add(lambda document: any(isinstance(text, str) and pattern.search(text)
                                       for text in values(document, field)), top)
    elif reading == "list":
        from agentpipe.server import listquery
        found.add(listquery.condition(field, value), top)
    elif reading == "equal":
        found.add(lambda document: value in values(document, field), top)
    else:
        from agentpipe.server import ranges
        make = ranges.between if reading == "range" else ranges.dates
        found.add(make(field, value), top)


def _searching(found: Query, asked: Any) -> None:
    from agentpipe.server import textsearch
    score = textsearch.score(asked, found.kind.text)
    found.score = score
    found.add(lambda document: score(document) > 0, *(path.partition(".")[0] for path in found.kind.text))


def _several(found: Query, asked: Any, join: Callable[[Iterable[bool]], bool]) -> None:
    """`_any_` and `_all_`: one condition on several paths."""
    if asked is None:
        return
    if not isinstance(asked, dict) or not asked.get("fields"):
        raise error(16, "expected fields and either pattern or datetime")
    fields, pattern, moment = texts(asked["fields"], "fields"), asked.get("pattern"), asked.get("datetime")
    if (pattern is None) == (moment is None):
        raise error(16, "expected either pattern or datetime", fields=fields)
    if pattern is not None:
        compiled = compile_pattern(pattern, re.IGNORECASE)
        parts = [_search(field, compiled) for field in fields]
    else:
        from agentpipe.server import ranges
        parts = [ranges.dates(field, moment) for field in fields]
    found.add(lambda document: join(part(document) for part in parts),
              *(field.partition(".")[0] for field in fields))


def _search(field: str, pattern: Pattern) -> Condition:
    return lambda document: any(pattern.search(str(value)) for value in values(document, field)
                                if isinstance(value, str | int | float))


def _paging(found: Query, body: Document) -> None:
    """`page` of `page_size`, or `size` from `start` on."""
    page, size, start = body.get("page"), body.get("page_size"), body.get("start")
    if start is not None and size is None:
        size = body.get("size")
    for value in (page, size, start):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise error(12, f'value is wrong, expected type "int" {value!r}'[:200])
    if min(page or 0, start or 0) < 0 or (size is not None and size < 1):
        raise error(12, "invalid paging", page=page, page_size=size, start=start)
    found.size = size if isinstance(size, Everything) else min(size or PAGE, PAGE)
    found.first = page * found.size if page else start or 0


def texts(value: Any, what: str) -> list[str]:
    """A list of texts, or a single one, as a list; else 400/12."""
    items = [value] if isinstance(value, str) else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise error(12, f'{what}: value is wrong, expected type "list of str"')
    return items


def _ordering(found: Query, asked: Any) -> None:
    for field in texts(asked, "order_by"):
        descending = field.startswith("-")
        path = field.lstrip("-+")
        top = path.partition(".")[0]
        if path == "@text_score" and found.score is not None:
            found.order.append((path, True))  # the best first, however it is asked for
        elif top in found.kind.fields:
            found.order.append((path, descending))
            found.used.add(top)
        elif not descending and path != "@text_score":
            raise error(14, field=path)


def _projection(found: Query, asked: Any) -> None:
    from agentpipe.server.fieldpaths import add_path
    for field in texts(asked, "only_fields"):
        leave, path = field.startswith("-"), field.lstrip("-")
        path = path.removesuffix(".*")
        if path.partition(".")[0] not in found.kind.fields:
            raise error(14, field=path)
        if leave:
            found.hidden.append(path)
        else:
            found.shown = found.shown or {}
            add_path(found.shown, path)
