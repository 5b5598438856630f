"""What all endpoints share: ids, time stamps, and ClearML's way to say what is wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from agentpipe.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

# the only company of an embedded server (ClearML's own default id)
COMPANY = "d1bd92a3b039400cbafc60a7a5b1e52b"
COMPANY_NAME = "clearml"

TEXTS = {
    10: "invalid object id", 11: "missing required fields", 12: "validation error",
    14: "fields not defined for object", 15: "conflicting fields", 16: "invalid value for fields",
    17: "batch request contains no items", 21: "malformed regular expression",
    75: "invalid access key",
    101: "invalid task id", 102: "task validation error", 110: "invalid task status",
    121: "failed changing task status. probably someone changed it before you",
    122: "task is missing expected fields", 123: "task cannot be deleted", 131: "events not added",
    139: "the log of this claim is stored up to another position",
    201: "invalid model id", 203: "model is ready", 205: "model is used by tasks",
    206: "task that created this model exists", 300: "invalid user", 301: "invalid user id",
    401: "invalid project id", 402: "project has associated tasks", 405: "project has associated models",
    406: "project has associated datasets", 407: "invalid project name",
    408: "cannot update project location", 409: "project depth exceeds the limit",
    410: "source and destination projects are the same", 413: "project has associated pipelines",
    701: "invalid queue id", 702: "queue is not empty", 703: "invalid queue id or task not in queue",
    706: "failed adding task to queue since task is already queued",
    707: "no queue is tagged as the default queue for this company",
    708: "more than one queue is tagged as the default queue for this company",
    800: "data validation error", 801: "value combination already exists",
    1001: "invalid worker id", 1005: "worker stats not found", 1104: "Invalid scroll id",
}

_encode = json.JSONEncoder(separators=(",", ":")).encode


def now() -> str:
    """The present as all stored dates are.

    ISO 8601, UTC, to the millisecond, so that text order is time order.
    """
    return stamp(time.time_ns() // 1_000_000)


def stamp(milliseconds: int) -> str:
    """A date from ms since the epoch."""
    seconds, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03d}000+00:00"


def seconds(date: str) -> float:
    """Seconds since the epoch of a stored date."""
    from datetime import datetime
    return datetime.fromisoformat(date).timestamp()


def new_id() -> str:
    """A uuid4 in hex (the uuid module costs 6 ms)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return raw.hex()


def dumps(value: Any) -> str:
    """JSON as it is stored: ASCII, so that any text of a JSON body fits, lone surrogates too."""
    return _encode(value)


loads = json.loads


def storable(text: str) -> str:
    """A text as a column takes it: a lone surrogate, of a file's name that is not UTF-8, becomes "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def error(subcode: int, extra: str = "", /, **values: Any) -> ApiError:
    """The ApiError 400/subcode, in ClearML's format "text (extra): k=v, k2=v2"."""
    text = TEXTS[subcode]
    if extra:
        text += f" ({extra})"
    if values:
        text += ": " + ", ".join(f"{key}={_shown(value)}" for key, value in values.items())
    return ApiError(400, subcode, text)


def _shown(value: Any) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, list | tuple) else str(value)


def exists(db: sqlite3.Connection, table: str, id: str) -> bool:
    """Whether a table ("projects", "tasks" …) has an object of that id."""
    return db.execute(f"SELECT 1 FROM {table} WHERE id=?", (id,)).fetchone() is not None


def name_of(body: Mapping[str, Any], least: int = 3) -> str:
    """The stripped `name` of a new object; 400/800 when it is too short."""
    name = str(body.get("name") or "").strip()
    if len(name) < least:
        raise error(800, f"name must be at least {least} characters long", name=name)
    return name


def strings(body: Mapping[str, Any], key: str) -> list[str]:
    """A list of tags, without repetitions and sorted, as it is given back."""
    found = body.get(key) or []
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise error(12, f'value is wrong, expected type "list of str" {found}')
    wrong = [item for item in found if item.startswith("__$")]
    if wrong:
        raise error(16, "unsupported tag prefix", **{key: wrong})
    return sorted(set(found))
