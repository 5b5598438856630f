"""agentpipe.health: whether the store takes changes, as far as its disk tells without a write. Ours."""

from __future__ import annotations

from agentpipe.server import unwritable
from agentpipe.server.endpoints import READ, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@endpoint("agentpipe.health", READ)
def health(request: Request) -> dict[str, Any]:
    """{trouble}: why the store cannot be written, in words; "" when nothing is known against it."""
    return {"trouble": unwritable.trouble(request.store.path)}
