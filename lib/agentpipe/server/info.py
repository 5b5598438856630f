"""server.endpoints: what this server knows (server.md §9)."""

from __future__ import annotations

from agentpipe.server import endpoints
from agentpipe.server.endpoints import READ, Request, endpoint
from agentpipe.server.tokens import API_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@endpoint("server.endpoints", READ)
def listed(request: Request) -> dict[str, Any]:
    """The names of all endpoints: {endpoints: [{name, min_version}]}."""
    return {"endpoints": [{"name": name, "min_version": API_VERSION} for name in endpoints.known()]}
