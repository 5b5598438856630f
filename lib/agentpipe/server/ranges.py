"""Conditions on numbers and dates."""

from __future__ import annotations

from collections.abc import Callable

from agentpipe.server.common import error
from agentpipe.server.fieldpaths import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPERATORS: tuple[tuple[str, Callable[[str, str], bool]], ...] = (
    (">=", lambda value, limit: value >= limit), ("<=", lambda value, limit: value <= limit),
    (">", lambda value, limit: value > limit), ("<", lambda value, limit: value < limit))


def moment(text: Any) -> str | None:
    """A date of a request as stored dates are written.

    None when it cannot be read. Without a zone it is UTC.
    """
    from datetime import datetime, timezone
    if isinstance(text, int | float) and not isinstance(text, bool):
        try:
            found = datetime.fromtimestamp(text, timezone.utc)
        except (ValueError, OverflowError, OSError):
            return None
    else:
        try:
            found = datetime.fromisoformat(_padded(str(text).strip()))
        except ValueError:
            return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    return found.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _padded(text: str) -> str:
    """What Python 3.10 cannot read: "Z", and fractions of other than three or six digits."""
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[:digits][:6]:0<6}{tail[digits:]}"


def between(field: str, asked: Any) -> Callable[[dict[str, Any]], bool]:
    """[min, max], inclusive; one of them may be null, and a null min fits a missing value too.

    A text is a date, else 400/12.
    """
    if not isinstance(asked, list) or len(asked) != 2 or asked == [None, None]:
        raise error(12, "expected a range [min, max]", field=field)
    low, high = (_date(field, side) if isinstance(side, str) else side for side in asked)

    def holds(document: dict[str, Any]) -> bool:
        found = values(document, field)
        if not found:
            return low is None
        try:
            return any((low is None or value >= low) and (high is None or value <= high) for value in found)
        except TypeError:
            return False
    return holds


def dates(field: str, asked: Any) -> Callable[[dict[str, Any]], bool]:
    """One or more of ">=T", ">T", "<=T", "<T", "T", all of which must hold; two bare dates are a range.

    A date that cannot be read is 400/12: without that condition all would fit, whatever is done to them then.
    """
    items = asked if isinstance(asked, list) else [asked]
    if len(items) == 2 and all(moment(item) for item in items if item is not None):
        return between(field, items)
    limits = [_limit(field, item) for item in items if item is not None]

    def holds(document: dict[str, Any]) -> bool:
        found = values(document, field)
        if not limits:
            return True
        return any(all(fits(value, limit) for fits, limit in limits)
                   for value in found if isinstance(value, str))
    return holds


def _limit(field: str, text: Any) -> tuple[Callable[[str, str], bool], str]:
    for operator, fits in _OPERATORS:
        if isinstance(text, str) and text.startswith(operator):
            return fits, _date(field, text[len(operator):])
    return lambda value, limit: value == limit, _date(field, text)


def _date(field: str, asked: Any) -> str:
    found = moment(asked)
    if found is None:
        raise error(12, f"expected a date {asked!r}"[:200], field=field)
    return found
