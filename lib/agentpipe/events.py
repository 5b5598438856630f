"""Events that a user hands over: checked line by line, sent in batches."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = ("log", "training_stats_scalar", "training_stats_vector", "training_debug_image", "plot")
# what an event of a type is nothing without
NEEDED = {"log": ("msg",), "training_stats_scalar": ("metric", "value"), "training_debug_image": ("url",),
          "plot": ("plot_str",)}


def checked(line: bytes, number: int, task: str | None = None) -> dict[str, Any]:
    """The event in line `number`, its task `task` when it names none; Failure (65) says what is wrong with it."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(number, f"not JSON: {error}") from None
    if not isinstance(event, dict):
        raise _bad(number, "not an object")
    if event.get("type") not in TYPES:
        raise _bad(number, f"type must be one of {', '.join(TYPES)}")
    if task and not event.get("task"):
        event["task"] = task
    for field in ("task", *NEEDED.get(event["type"], ())):
        if event.get(field) is None:
            raise _bad(number, f"{field} is missing")
    if event["type"] == "training_stats_scalar" and not isinstance(event["value"], int | float):
        raise _bad(number, "value is no number")
    return event


def send(api: Any, batch: Sequence[dict[str, Any]], last: int) -> int:
    """Send events, the last of which stands in line `last`; how many. Refused by the server: Failure (65)."""
    if not batch:
        return 0
    try:
        answer = api.call("events.add_batch", list(batch))
    except errors.ApiError as error:
        if error.code != 400:
            raise
        raise errors.Failure(f"up to line {last}: {error.msg}", errors.BAD_DATA) from None
    if answer.get("errors"):
        raise errors.Failure(f"up to line {last}: {'; '.join(answer['errors_info'])}", errors.BAD_DATA)
    return int(answer["added"])


def _bad(number: int, what: str) -> errors.Failure:
    return errors.Failure(f"line {number}: {what}", errors.BAD_DATA)
