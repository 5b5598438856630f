"""The door to the embedded server: find an endpoint, check its body, run it in its transaction.

A service's module registers its endpoints with the decorator `endpoint`; modules are imported by the
service's name when one of its endpoints is called. HTTP (agent-server) stands in front of this same `call`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

from agentpipe.errors import ApiError, Failure
from agentpipe.server.common import error, now
from agentpipe.server.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Handler = Callable[["Request"], dict[str, Any]]

# where a service's endpoints stand: the modules are tried in this order, the first that has the endpoint is
# the last imported
MODULES = {
    "queues": ("queues", "queues_edit", "queue_metrics", "lists_ex"),
    "tasks": ("tasks", "tasks_read", "tasks_edit", "parameters", "artifacts", "tasks_many", "lists_ex", "watched"),
    "events": ("events", "scalars", "shapes", "series", "samples", "event_pages", "log_files"),
    "workers": ("workers", "worker_stats"),
    "projects": ("projects", "projects_edit", "projects_lists", "lists_ex"),
    "models": ("models", "models_edit", "lists_ex"),
    "organization": ("organization",), "pipelines": ("pipelines",),
    "auth": ("auth",), "login": ("auth",), "users": ("auth", "users", "lists_ex"), "server": ("auth", "info"),
    "debug": ("auth",), "serving": ("model_serving",), "agentpipe": ("overview", "health"),
}
# how an endpoint is run: READ from one state of the store, WRITE as one durable change, LAZY as a change that
# may be lost when the power fails, OWN opens its transaction itself
READ, WRITE, LAZY, OWN = "read", "write", "lazy", "own"

ENDPOINTS: dict[str, Endpoint] = {}


class Attachment(dict[str, "Any"]):
    """An answer that is a file: over HTTP its bytes come as they are, without the envelope of other answers."""

    def __init__(self, chunks: Iterable[bytes], name: str, kind: str) -> None:
        super().__init__()
        self.chunks, self.name, self.kind = chunks, name, kind


class Texts(list[str]):
    """The type of a field that is a list of texts."""


class Objects(list[dict[str, "Any"]]):
    """The type of a field that is a list of objects."""


ITEMS: dict[type, type] = {Texts: str, Objects: dict}


class Endpoint:
    """One endpoint.

    Its handler, the fields that its body must have, and the types of those that it may have.
    """

    __slots__ = ("function", "mode", "name", "optional", "required")

    def __init__(self, name: str, function: Handler, mode: str,
                 required: Mapping[str, type], optional: Mapping[str, type]) -> None:
        self.name, self.function, self.mode = name, function, mode
        self.required, self.optional = required, optional


class Request:
    """One call while it is answered: what was asked, by whom, when, and the connection of its transaction."""

    __slots__ = ("body", "caller", "db", "now", "store", "user", "wakes", "worker")

    def __init__(self, store: Store, caller: Mapping[str, str], body: Any) -> None:
        self.store = store
        self.caller = caller
        self.user = caller.get("user") or ""
        self.worker = caller.get("worker") or ""
        self.body = body
        self.now = now()
        self.wakes = False
        self.db: sqlite3.Connection = store.connection()

    def get(self, key: str, default: Any = None) -> Any:
        """A field of the body; null counts as not given."""
        value = self.body.get(key)
        return default if value is None else value

    def change(self, function: Handler, durable: bool = True) -> dict[str, Any]:
        """Run `function` as one change of the store."""
        def work(db: sqlite3.Connection) -> dict[str, Any]:
            self.db = db
            return function(self)
        return self.store.transaction(work, durable)


def endpoint(name: str, mode: str = READ, required: Mapping[str, type] | None = None, /,
             **optional: type) -> Callable[[Handler], Handler]:
    """Register the handler of the endpoint `name` ("queues.create"), with the types of its body's fields."""
    def register(function: Handler) -> Handler:
        ENDPOINTS[name] = Endpoint(name, function, mode, required or {}, optional)
        return function
    return register


def find(name: str, version: str = "2.34") -> Endpoint:
    """The endpoint of that name; an unknown one is 404/0."""
    found = ENDPOINTS.get(name)
    if found is None:
        for module in MODULES.get(name.partition(".")[0], ()):
            import_module("agentpipe.server." + module)
            found = ENDPOINTS.get(name)
            if found is not None:
                break
    if found is None:
        raise ApiError(404, 0, f"Unable to find endpoint for name {name} and version {version}")
    return found


def known() -> list[str]:
    """The names of all endpoints."""
    for modules in MODULES.values():
        for module in modules:
            import_module("agentpipe.server." + module)
    return sorted(ENDPOINTS)


def call(store: Store, caller: Mapping[str, str], name: str, body: Any = None) -> dict[str, Any]:
    """Answer one API call.

    Its `data`. Raises ApiError as ClearML would answer, Failure when the store is broken.
    """
    found = find(name)
    body = {} if body is None else body
    check(found, body)
    request = Request(store, caller, body)
    try:
        answer = _run(found, request)
    except sqlite3.Error as problem:
        raise store.failure(problem) from problem
    except Failure as problem:
        # a value where SQLite takes none of its kind, deep inside a body
        if isinstance(problem.__cause__, sqlite3.InterfaceError | sqlite3.ProgrammingError):
            raise error(12, str(problem.__cause__)) from problem
        raise
    except (UnicodeEncodeError, OverflowError) as problem:
        raise error(12, str(problem)) from problem
    except RecursionError as problem:
        raise error(12, "the body is nested too deeply") from problem
    if request.wakes:
        store.wake()
    return answer


# what takes application/json-lines: a list of objects
LINES = ("events.add_batch", "tasks.update_batch")


def check(found: Endpoint, body: Any) -> None:
    """Required fields and types; 400/12 names the field or the value."""
    if not isinstance(body, dict):
        if found.name in LINES and isinstance(body, list):
            return  # each is checked when its turn comes
        raise error(12, f'value is wrong, expected type "object" {body!r}'[:200])
    for field, kind in found.required.items():
        if body.get(field) is None:
            raise error(12, f"error for field '{field}'. field is required!")
        _check_type(field, body[field], kind)
    for field, kind in found.optional.items():
        if body.get(field) is not None:
            _check_type(field, body[field], kind)


def _check_type(field: str, value: Any, kind: type) -> None:
    if kind in ITEMS:
        wrong = value if not isinstance(value, list) else next(
            (item for item in value if not isinstance(item, ITEMS[kind])), None)
        if not isinstance(value, list) or wrong is not None or None in value:
            expected = f"list of {ITEMS[kind].__name__}"
            raise error(12, f"error for field '{field}'. value is wrong, expected type \"{expected}\" {wrong!r}"[:200])
        return
    fits = isinstance(value, kind) and (kind is bool or kind is int or not isinstance(value, bool))
    if kind is float:
        fits = isinstance(value, int | float)
    if not fits:
        wrong = f"error for field '{field}'. value is wrong, expected type \"{kind.__name__}\" {value!r}"
        raise error(12, wrong[:200])


def writes(found: Endpoint) -> bool:
    """Whether an endpoint may change the store."""
    return found.mode != READ


def durable(found: Endpoint) -> bool:
    """Whether what an endpoint changes must survive a power cut once it has answered."""
    return found.mode in (WRITE, OWN)


def _run(found: Endpoint, request: Request) -> dict[str, Any]:
    if found.mode == OWN:
        return found.function(request)
    if found.mode == READ:
        def work(db: sqlite3.Connection) -> dict[str, Any]:
            request.db = db
            return found.function(request)
        return request.store.read(work)
    return request.change(found.function, found.mode == WRITE)
