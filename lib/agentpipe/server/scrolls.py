"""Scrolling: `size` with `scroll_id`, whose position the server keeps for a while (server.md §4)."""

from __future__ import annotations

import time

from agentpipe.server.common import error, new_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Handler, Request

LIVES_SECONDS = 600
MOST = 10_000


def paged(request: Request, get_all: Handler, field: str) -> dict[str, Any]:
    """A page of get_all's answer where the scroll is at, with the scroll_id that goes on from there."""
    body, id = request.body, request.get("scroll_id")
    size = body.get("size")
    if not isinstance(size, int) or size < 1:
        raise error(12, "size must be at least 1", size=size)
    page = recall(request, field, id) if id else 0
    if request.get("refresh_scroll"):
        page = 0
    request.body = {**body, "page": page, "page_size": size}
    try:
        answer = get_all(request)
    finally:
        request.body = body
    return {**answer, "scroll_id": keep(request, field, page + (1 if answer[field] else 0), id)}


def keep(request: Request, kind: str, position: Any, id: str | None = None) -> str:
    """Remember a position of one kind of scroll, under a new id or the old one."""
    kept = request.store.kept.setdefault("scrolls", {})
    at = time.monotonic()
    if len(kept) > MOST:
        for old in [key for key, (until, _) in list(kept.items()) if until < at]:
            kept.pop(old, None)
        while len(kept) > MOST:  # all of them young: the oldest goes
            kept.pop(next(iter(kept)), None)
    id = id or new_id()
    kept.pop((kind, id), None)  # one that is used is young again
    kept[kind, id] = (at + LIVES_SECONDS, position)
    return id


def forget(request: Request, id: str) -> None:
    """No longer remember a scroll, whatever it goes through."""
    kept = request.store.kept.get("scrolls", {})
    for key in [key for key in list(kept) if key[1] == id]:
        kept.pop(key, None)


def recall(request: Request, kind: str, id: str) -> Any:
    """The position of a scroll; an unknown or old one is 400/1104."""
    until, position = request.store.kept.get("scrolls", {}).get((kind, id), (0.0, None))
    if until < time.monotonic():
        raise error(1104, scroll_id=id)
    return position
