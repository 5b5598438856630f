"""What events belong to: a task, or (with `model_event`) a model."""

from __future__ import annotations

from agentpipe.server import documents
from agentpipe.server.endpoints import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any


def load(request: Request, id: str) -> None:
    """Refuse an unknown task (400/101), or model (400/201) when the request is about a model's events."""
    if request.get("model_events"):
        from agentpipe.server import models
        models.load(request.db, id)
    else:
        documents.load(request.db, id)


def forget_events(db: sqlite3.Connection, id: str) -> None:
    """Remove all that a task or a model reported."""
    for table in ("logs", "scalars", "shapes"):
        db.execute(f"DELETE FROM {table} WHERE task=?", (id,))


class Model:
    """A model, as far as storing events needs a task: get, set, drop, save."""

    def __init__(self, request: Request, document: dict[str, Any]) -> None:
        self._request, self._document = request, document
        self.id = document["id"]

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field."""
        return self._document.get(field, default)

    def set(self, field: str, value: Any) -> None:
        """Give a field a value."""
        if field != "metric_stats":
            self._document[field] = value

    def save(self) -> None:
        """Write it."""
        from agentpipe.server import models
        models.save(self._request, self._document)


def model(request: Request, id: str) -> Model | None:
    """The model, or None."""
    from agentpipe.server.common import loads
    row = request.db.execute("SELECT doc FROM models WHERE id=?", (id,)).fetchone()
    return Model(request, loads(row[0])) if row else None
