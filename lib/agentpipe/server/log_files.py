"""events.*: a task's log as a file, and removing events (server.md §8)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from agentpipe.server import documents, owners
from agentpipe.server.common import dumps, error, stamp
from agentpipe.server.endpoints import OWN, WRITE, Attachment, Request, endpoint
from agentpipe.server.events import behind, bounded, log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

LINE = "{asctime} {worker} {level} {msg}"
FIELD = re.compile(r"\{(\w+)\}")
# about the bytes of the events that are read at once: a log may be larger than the memory
AT_ONCE = 1 << 20


@endpoint("events.download_task_log", OWN, {"task": str}, line_type=str, line_format=str)
def download_task_log(request: Request) -> dict[str, Any]:
    """A task's log, oldest first, as the file task_ID.log: lines of text, or of JSON."""
    task, kind = request.body["task"], request.get("line_type", "text")
    if kind not in ("text", "json"):
        raise error(12, "line_type is text or json", line_type=kind)
    request.store.read(lambda db: documents.load(db, task))
    return Attachment(_lines(request, kind, request.get("line_format", LINE)), f"task_{task}.log", "text/plain")


def _lines(request: Request, kind: str, line: str) -> Iterator[bytes]:
    """The file, piece by piece, each from a look of its own at the store."""
    at = None
    while True:
        def page(db: sqlite3.Connection, at: tuple[int, int] | None = at) -> list[Any]:
            return bounded(behind(db, request.body["task"], at), AT_ONCE)[0]
        rows = request.store.read(page)
        if not rows:
            return
        at = rows[-1][1], rows[-1][0]
        yield "".join(_line(log_event(row), kind, line) + "\n" for row in rows).encode("utf-8", "replace")


def _line(event: dict[str, Any], kind: str, line: str) -> str:
    shown = {"asctime": stamp(event["timestamp"]),
             **{key: event.get(key, "") for key in ("timestamp", "worker", "level")}, "msg": event["msg"].rstrip("\n")}
    if kind == "json":
        return dumps(shown)
    # not str.format: the format is the caller's, and format reaches into objects
    return FIELD.sub(lambda field: str(shown.get(field[1], field[0])), line)


@endpoint("events.clear_task_log", WRITE, {"task": str}, threshold_sec=int, allow_locked=bool)
def clear_task_log(request: Request) -> dict[str, Any]:
    """Remove a task's log, or what of it is older than `threshold_sec`: {deleted}."""
    _unlocked(request)
    threshold = request.get("threshold_sec")
    limit = 1 << 62 if threshold is None else int((time.time() - threshold) * 1000)
    task = request.body["task"]
    # of each stream of an agent its last event stays, without its text: it says from where the agent is to go on
    last = "SELECT max(seq) FROM logs WHERE task=? AND claim IS NOT NULL GROUP BY claim, stream"
    gone = request.db.execute(f"DELETE FROM logs WHERE task=? AND timestamp<? AND seq NOT IN ({last})",
                              (task, limit, task)).rowcount
    gone += request.db.execute("UPDATE logs SET msg=x'' WHERE task=? AND timestamp<? AND length(msg) "
                               f"AND seq IN ({last})", (task, limit, task)).rowcount
    return {"deleted": gone}


@endpoint("events.delete_for_task", WRITE, {"task": str}, allow_locked=bool)
def delete_for_task(request: Request) -> dict[str, Any]:
    """Remove all events of a task: {deleted}."""
    _unlocked(request)
    owners.forget_events(request.db, request.body["task"])
    return {"deleted": True}


@endpoint("events.delete_for_model", WRITE, {"model": str}, allow_locked=bool)
def delete_for_model(request: Request) -> dict[str, Any]:
    """Remove all that a model reported: {deleted}; one that is ready is refused (400/203), unless `allow_locked`."""
    from agentpipe.server import models
    model = models.load(request.db, request.body["model"])
    if model["ready"] and not request.get("allow_locked"):
        raise error(203, model=model["id"])
    owners.forget_events(request.db, model["id"])
    return {"deleted": True}


def _unlocked(request: Request) -> None:
    """Refuse a published task, unless `allow_locked`."""
    task = documents.load(request.db, request.body["task"])
    if task.get("status") in ("publishing", "published") and not request.get("allow_locked"):
        raise error(110, "the task is published", task=task.id)
