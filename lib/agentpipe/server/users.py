"""users.*: what a user prefers, kept for the pages that ask (server.md §9)."""

from __future__ import annotations

from agentpipe.server.common import dumps, error, loads
from agentpipe.server.endpoints import READ, WRITE, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 1 << 20


@endpoint("users.get_preferences", READ)
def get_preferences(request: Request) -> dict[str, Any]:
    """The caller's preferences: {preferences}."""
    return {"preferences": _load(request)}


@endpoint("users.set_preferences", WRITE, {"preferences": dict})
def set_preferences(request: Request) -> dict[str, Any]:
    """Change some of the caller's preferences; a dotted key goes into what is there: {updated, fields}."""
    found, given = _load(request), request.body["preferences"]
    for path, value in given.items():
        *above, last = path.split(".")
        inner = found
        for key in above:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        inner[last] = value
    text = dumps(found)
    if len(text) > MOST:
        raise error(12, f"preferences are larger than {MOST} bytes")
    request.db.execute("INSERT OR REPLACE INTO preferences VALUES (?, ?)", (request.user, text))
    return {"updated": 1, "fields": {"preferences": found}}


def _load(request: Request) -> dict[str, Any]:
    row = request.db.execute("SELECT doc FROM preferences WHERE user=?", (request.user,)).fetchone()
    return loads(row[0]) if row else {}
