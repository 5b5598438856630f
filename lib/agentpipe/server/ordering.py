"""order_by.

Several fields, missing values last on the first of them, ids at the end so that pages are stable.
"""

from __future__ import annotations

from agentpipe.server.fieldpaths import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# text in these that looks like a number sorts as one
NUMBERS_IN_TEXT = ("hyperparams.", "last_metrics.", "metadata.")


def sort(documents: list[dict[str, Any]], order: list[tuple[str, bool]]) -> None:
    """Sort in place by (path, descending) pairs."""
    documents.sort(key=lambda document: document.get("id") or "")
    for path, descending in reversed(order):
        documents.sort(key=lambda document, path=path: _key(document, path), reverse=descending)  # type: ignore[misc]
    if order:
        first = order[0][0]
        documents.sort(key=lambda document: _key(document, first)[0] < 0)


def _key(document: dict[str, Any], path: str) -> tuple[int, Any]:
    found = values(document, path)
    value = found[0] if found else None
    if value is None or value == "" or value == {}:
        return -1, 0
    if isinstance(value, str) and path.startswith(NUMBERS_IN_TEXT):
        try:
            value = float(value)
        except ValueError:
            pass
    if isinstance(value, int | float):
        return 0, value
    return 1, str(value)
