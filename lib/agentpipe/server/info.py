"""server.*: what this server knows, and what only a server's own administrator may see (server.md §9)."""

from __future__ import annotations

from agentpipe.errors import ApiError
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


@endpoint("server.config", READ)
def config(request: Request) -> dict[str, Any]:
    """Refused (403/20), as ClearML's server refuses everybody with the role of a user."""
    raise ApiError(403, 20, "forbidden (not allowed for role): role=user, allowed=(root, system)")


@endpoint("server.get_stats", READ)
def get_stats(request: Request) -> dict[str, Any]:
    """Refused likewise."""
    return config(request)
