"""Scrolling: `size` with `scroll_id`, whose position the server keeps for a while (server.md §4)."""

from __future__ import annotations

import time

from agentpipe.server.common import error, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Request

LIVES_SECONDS = 600
MOST = 10_000


def opened(request: Request) -> dict[str, Any]:
    """The body with the page that its scroll is at; also `start` with `size` is one. Others as they are."""
    body = request.body
    if "scroll_id" not in body or body.get("size") is None:
        return body
    if not isinstance(body["size"], int) or body["size"] < 1:
        raise error(12, "size must be at least 1", size=body["size"])
    id = body.get("scroll_id")
    at = recall(request, id) if id else 0
    return {**body, "page": at, "page_size": body["size"]}


def closed(request: Request, body: dict[str, Any], answer: dict[str, Any], field: str) -> dict[str, Any]:
    """The answer with the id of the scroll where it goes on."""
    if body is not request.body and "scroll_id" in request.body:
        more = bool(answer[field])
        answer["scroll_id"] = keep(request, body["page"] + (1 if more else 0), request.body.get("scroll_id"))
    return answer


def keep(request: Request, position: Any, id: str | None = None) -> str:
    """Remember a position under a new id, or the old one."""
    kept = request.store.kept.setdefault("scrolls", {})
    at = time.monotonic()
    if len(kept) > MOST:
        for old in [key for key, (until, _) in list(kept.items()) if until < at]:
            kept.pop(old, None)
    id = id or new_id()
    kept[id] = (at + LIVES_SECONDS, position)
    return id


def recall(request: Request, id: str) -> Any:
    """The position of a scroll; an unknown or old one is 400/1104."""
    until, position = request.store.kept.get("scrolls", {}).get(id, (0.0, None))
    if until < time.monotonic():
        raise error(1104, scroll_id=id)
    return position
