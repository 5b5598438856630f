"""events.*: a task's log, and the door for everything that a task reports (server.md §8)."""

from __future__ import annotations

import time

from agentpipe.server import documents, status
from agentpipe.server.common import dumps, error, loads, storable
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import LAZY, READ, Request, endpoint
from agentpipe.server.log_lines import WHOLE, Alike, insert, positions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from typing import Any

TYPES = {"log", "training_stats_scalar", "training_stats_vector", "training_debug_image", "plot"}
# metrics that do not count for a task's last_iteration
MONITORS = (":monitor:machine", ":monitor:gpu")
# events of an answer, and about their bytes
MOST, MOST_BYTES = 10_000, 16 << 20
NUMBERS = ("timestamp", "ts", "iter", "offset", "end")


@endpoint("events.add_batch", LAZY)
def add_batch(request: Request) -> dict[str, Any]:
    """Store events: {added, errors, errors_info}. Part may fail; nothing added is 400/131, no events 400/17.

    A log event with `claim`, `stream`, `offset` and `end` (ours) is stored once; repeated, it counts as added. One that
    goes on behind what is stored, but does not begin there, is 400/139, and nothing of the batch is stored.
    Events are written in order with later changes: a status that is on the disk has its log before it.
    """
    batch = request.body if isinstance(request.body, list) else [request.body] if request.body else []
    if not batch:
        raise error(17)
    tasks: dict[str, Task | None] = {}
    problems: dict[str, int] = {}
    good: dict[str, Gathered] = {}
    line: Alike | None = None
    for event in batch:
        if line is not None and line.takes(event):
            continue
        problem = _problem(request, event, tasks)
        if problem:
            problems[problem] = problems.get(problem, 0) + 1
        else:
            line = good.setdefault(event["task"], Gathered()).add(event, _completed(request, event)) or line
    for id, events in good.items():
        _store(request, tasks[id], events)
    added = sum(events.count() for events in good.values())
    if not added:
        raise error(131, ", ".join(problems))
    return {"added": added, "errors": sum(problems.values()), "errors_info": problems}


class Gathered:
    """What a batch has of one task: the lines of its log, and its other events, complete."""

    __slots__ = ("lines", "others")

    def __init__(self) -> None:
        self.lines: list[tuple[dict[str, Any], Alike]] = []
        self.others: list[dict[str, Any]] = []

    def add(self, event: dict[str, Any], complete: dict[str, Any]) -> Alike | None:
        """One more event, as it was sent and with its defaults; a line of the log takes those that are like it."""
        if complete["type"] != "log":
            self.others.append(complete)
            return None
        line = Alike(event, complete)
        self.lines.append((complete, line))
        return line

    def count(self) -> int:
        """How many events."""
        return len(self.others) + sum(len(line.rows) for _, line in self.lines)

    def each(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The events, one of those that are alike, and the latest time of these."""
        yield from ((event, line.last) for event, line in self.lines)
        yield from ((event, event["timestamp"]) for event in self.others)


def _problem(request: Request, event: Any, tasks: dict[str, Task | None]) -> str:
    """Why an event is not accepted, in ClearML's words; "" when it is."""
    if not isinstance(event, dict) or not event.get("type"):
        return "Event must have a 'type' field"
    kind = str(event["type"]).replace(" ", "_")
    if kind not in TYPES:
        return f"Invalid event type {event['type']}"
    of_model = bool(event.get("model_event"))
    id = event.get("model") or event.get("task") if of_model else event.get("task")
    if not id or not isinstance(id, str):
        return "Event must have a 'task' field"
    if of_model and kind == "log":
        return "Task log events are not supported for models"
    event["task"] = id
    if id not in tasks:
        tasks[id] = _owner(request, id, of_model)
    task = tasks[id]
    locked = task is not None and task.get("status") in ("publishing", "published")
    if task is None or (locked and not event.get("allow_locked")):
        return f"Invalid {'model' if of_model else 'task'} id {id}"
    for field in NUMBERS:
        value = event.get(field)
        if value is not None and _number(value) is None:
            return f"Invalid {field} {value!r}"[:200]
    return ""


def _owner(request: Request, id: str, of_model: bool) -> Any:
    """The task or model that an event belongs to, or None."""
    if not of_model:
        return documents.find(request.db, id)
    from agentpipe.server import owners
    return owners.model(request, id)


def _number(value: Any) -> int | None:
    if type(value) is int and -WHOLE <= value < WHOLE:
        return value
    try:
        found = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if -WHOLE <= found < WHOLE else None


def _completed(request: Request, event: dict[str, Any]) -> dict[str, Any]:
    """An event with its defaults."""
    found = {key: value for key, value in event.items() if value is not None}
    found["type"] = str(found["type"]).replace(" ", "_")
    at = found.pop("ts", None)
    found["timestamp"] = int(found.get("timestamp", time.time_ns() // 1_000_000 if at is None else at))
    if "iter" in found:
        found["iter"] = int(found["iter"])
    if "values" in found:
        found["value"] = found.pop("values")
    for field in ("metric", "variant"):
        found[field] = storable(str(found.get(field, "")))
    found.setdefault("worker", request.worker)
    return found


def _store(request: Request, task: Task | None, events: Gathered) -> None:
    """Write one task's events and what they change in the task."""
    assert task is not None
    insert(request.db, [row for _, line in events.lines for row in line.rows])
    if events.others:
        from agentpipe.server import scalars
        scalars.store(request, task, events.others)
    counted = [event["iter"] for event, _ in events.each() if "iter" in event and event["metric"] not in MONITORS]
    if counted:
        task.set("last_iteration", max(task.get("last_iteration") or 0, *counted))
    task.set("metric_stats", _metric_stats(events))
    if isinstance(task, Task):
        status.note_activity(request, task)
    task.save()


def _metric_stats(events: Gathered) -> dict[str, Any]:
    """What metrics this batch had, by md5 of their names (of the last batch only, as ClearML does)."""
    from hashlib import md5
    last: dict[tuple[str, str], int] = {}
    for event, at in events.each():
        pair = event["metric"], event["type"]
        last[pair] = max(last.get(pair, 0), at)
    found: dict[str, Any] = {}
    for (metric, kind), at in last.items():
        key = md5(metric.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
        stats = found.setdefault(key, {"metric": metric, "event_stats_by_type": {}})
        stats["event_stats_by_type"][kind] = {"last_update": at}
    return found


@endpoint("events.get_task_log", READ, {"task": str}, batch_size=int, navigate_earlier=bool, order=str,
          from_timestamp=int, after=int)
def get_task_log(request: Request) -> dict[str, Any]:
    """Log events: {events, returned, total}, from the newest backwards, or the oldest on (navigate_earlier).

    from_timestamp is exclusive; events of one time are not split between two answers, as far as they fit into one.
    With `after` (ours): in order of arrival behind that position, uncounted. `last` (ours) is where to go on, so that
    a follower misses nothing. An answer that lacks events since they are too large together says so: `more` (ours).
    """
    task, size = request.body["task"], max(1, min(request.get("batch_size", 5000), MOST))
    documents.load(request.db, task)
    after = request.get("after")
    if after is not None:
        rows, more = bounded(request.db.execute(
            f"SELECT {SELECTED} FROM logs WHERE task=? AND seq>? ORDER BY seq LIMIT ?", (task, after, size)),
            MOST_BYTES)
        return {"events": list(map(log_event, rows)), "returned": len(rows), "last": rows[-1][0] if rows else after,
                **more}
    total, last = request.db.execute("SELECT count(*), max(seq) FROM logs WHERE task=?", (task,)).fetchone()
    earlier = request.get("navigate_earlier", True)
    rows, more = _page(request, task, size, earlier)
    if (request.get("order") or ("desc" if earlier else "asc")) == "asc":
        rows.sort(key=lambda row: (row[1], row[0]))
    else:
        rows.sort(key=lambda row: (-row[1], -row[0]))
    return {"events": list(map(log_event, rows)), "returned": len(rows), "total": total, "last": last or 0, **more}


# the columns of a log's rows that log_event() reads
SELECTED = "seq, timestamp, task, claim, stream, offset, end, msg, doc"


def bounded(rows: Iterable[Any], most: int) -> tuple[list[Any], dict[str, bool]]:
    """Rows of SELECTED, one or more, until they have so many bytes; {more} when that may not be all."""
    found, held = [], 0
    for row in rows:
        found.append(row)
        held += len(row[7]) + len(row[8])
        if held > most:
            return found, {"more": True}
    return found, {}


def named(metrics: Iterable[str] | None) -> tuple[str, list[str]]:
    """A condition for rows of these metrics (None: of all), and its values; it reads no text of a line."""
    if metrics is None:
        return "", []
    return " AND json_extract(doc, '$.metric') IN (SELECT value FROM json_each(?))", [dumps(list(metrics))]


def behind(db: sqlite3.Connection, task: str, at: tuple[int, int] | None, earlier: bool = False,
           metrics: Iterable[str] | None = None) -> Iterator[Any]:
    """Rows of SELECTED by their time, and those of one time as they came, behind the place (timestamp, seq)."""
    side, order = ("<", "DESC") if earlier else (">", "ASC")
    condition, named_values = named(metrics)
    bounds: list[tuple[str, tuple[int, ...]]] = [("", ())]
    if at is not None:
        # not (timestamp, seq) > (?, ?): SQLite would go through all of that time again
        bounds = [(f" AND timestamp=? AND seq{side}?", at), (f" AND timestamp{side}?", at[:1])]
    for bound, values in bounds:
        yield from db.execute(f"SELECT {SELECTED} FROM logs WHERE task=?{bound}{condition} "
                              f"ORDER BY timestamp {order}, seq {order}", (task, *values, *named_values))


def _page(request: Request, task: str, size: int, earlier: bool) -> tuple[list[Any], dict[str, bool]]:
    """A batch of rows, and all others of the last one's time."""
    side, order = ("<", "DESC") if earlier else (">", "ASC")
    start = request.get("from_timestamp")
    bound, values = (f" AND timestamp{side}?", [start]) if start else ("", [])
    rows, more = bounded(request.db.execute(
        f"SELECT {SELECTED} FROM logs WHERE task=?{bound} ORDER BY timestamp {order}, seq {order} LIMIT ?",
        (task, *values, size)), MOST_BYTES)
    if more or len(rows) == size:
        others, cut = bounded(request.db.execute(
            f"SELECT {SELECTED} FROM logs WHERE task=? AND timestamp=? AND seq{side}? ORDER BY seq {order}",
            (task, rows[-1][1], rows[-1][0])), MOST_BYTES)
        rows, more = rows + others, more | cut
    return rows, more


def log_event(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of SELECTED as an event."""
    _, timestamp, task, claim, stream, offset, end, message, doc = row
    text = message.decode("utf-8", "surrogatepass")
    found = {"timestamp": timestamp, "task": task, "msg": text, **loads(doc)}
    for key, value in (("claim", claim), ("stream", stream), ("offset", offset), ("end", end)):
        if value is not None:
            found[key] = value
    return found


@endpoint("events.get_log_position", READ, {"task": str, "claim": str})
def get_log_position(request: Request) -> dict[str, Any]:
    """How far the log of a claim is stored (ours): {positions: {stream: end in bytes}}."""
    return {"positions": positions(request.db, request.body["task"], request.body["claim"])}
