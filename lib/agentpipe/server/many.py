"""The `…_many` endpoints: one after the other, each with its own success or failure (server.md §2)."""

from __future__ import annotations

from collections.abc import Callable

from agentpipe.errors import ApiError
from agentpipe.server.common import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Handler, Request


def each(request: Request, one: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """{succeeded, failed} of one(id) for each of the body's `ids`; a failed one has changed nothing."""
    ids = request.body["ids"]
    if not ids or not all(isinstance(id, str) for id in ids):
        raise error(12, "ids must be a list of ids, not empty")
    succeeded: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for id in ids:
        request.db.execute("SAVEPOINT one")
        try:
            succeeded.append({"id": id, **one(id)})
        except ApiError as problem:
            request.db.execute("ROLLBACK TO one")
            failed.append({"id": id, "error": {"codes": [problem.code, problem.subcode], "msg": problem.msg,
                                               "data": {}}})
        finally:
            request.db.execute("RELEASE one")
    return {"succeeded": succeeded, "failed": failed}


def again(request: Request, function: Handler, **fields: Any) -> dict[str, Any]:
    """Another endpoint's answer inside this request's transaction, the body's other fields as they are."""
    rest = {key: value for key, value in request.body.items() if key != "ids"}
    return with_body(request, function, {**rest, **fields})


def with_body(request: Request, function: Handler, other: dict[str, Any]) -> dict[str, Any]:
    """Another endpoint's answer to another body, inside this request's transaction."""
    body = request.body
    request.body = other
    try:
        return function(request)
    finally:
        request.body = body
