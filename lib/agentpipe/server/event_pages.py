"""events.get_task_events: a task's events of any kind by iteration, page by page (server.md §8).

Each series, and the log, is read in the order of its own index from where the last page ended, and these are merged:
a page costs what it holds, and a look at the index for each series.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

from agentpipe.server import event_series, many, scrolls
from agentpipe.server.common import loads
from agentpipe.server.endpoints import READ, Request, endpoint
from agentpipe.server.event_series import MOST, MOST_BYTES, SCALAR, SHAPES
from agentpipe.server.events import behind, log_event, named
from agentpipe.server.owners import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, Any]
    # iteration, kind, metric, variant, and what orders events of a series that have one iteration
    Place = tuple[int, str, str, str, Any]
    # an event's place, and what reads it: the event and about its bytes
    Found = tuple[Place, Callable[[], tuple[Event, int]]]

# where the lines of a log stand, by their time, among events that have iterations
LOG = (0, "log", "", "")
COLUMNS = "metric, variant, iter, timestamp, value, doc"


@endpoint("events.get_task_events", READ, {"task": str}, event_type=str, order=str, batch_size=int, scroll_id=str,
          metrics=list, count_total=bool, model_events=bool)
def get_task_events(request: Request) -> dict[str, Any]:
    """A task's events by iteration: {events, returned, total, scroll_id}; past the end there are none.

    Lines of the log, which have no iteration, stand at 0 in the order of their time. A page ends early when its events
    are large. `total` is that of the first page.
    """
    id = request.get("scroll_id")
    asked, total, at = scrolls.recall(request, "events", id) if id else (_asked(request), None, None)
    load(request, asked["task"])
    if not id and request.get("count_total", True):
        total = _total(request.db, asked)
    page, held = [], 0
    for place, read in _merged(request.db, asked, at):
        event, size = read()
        at = place
        if event["type"] == "log" and not event_series.fits(asked["metrics"], event["metric"], event["variant"]):
            continue
        page.append(event)
        held += size
        if len(page) == asked["size"] or held > MOST_BYTES:
            break
    return {"events": page, "returned": len(page), **({} if total is None else {"total": total}),
            "scroll_id": scrolls.keep(request, "events", (asked, total, at), id)}


@endpoint("events.get_scalar_metric_data", READ, {"task": str, "metric": str}, batch_size=int, scroll_id=str,
          no_scroll=bool, model_events=bool)
def get_scalar_metric_data(request: Request) -> dict[str, Any]:
    """The scalars of one metric by iteration likewise."""
    return many.again(request, get_task_events, event_type=SCALAR, metrics=[request.body["metric"]])


@endpoint("events.clear_scroll", READ, {"scroll_id": str})
def clear_scroll(request: Request) -> dict[str, Any]:
    """Forget a scroll; an unknown one is no error."""
    scrolls.forget(request, request.body["scroll_id"])
    return {}


def _asked(request: Request) -> dict[str, Any]:
    """What a scroll keeps of its first request."""
    kind = request.get("event_type", "all")
    return {"task": request.body["task"], "metrics": event_series.wanted(request.get("metrics")),
            "kinds": ("log", SCALAR, *SHAPES) if kind == "all" else (kind,),
            "size": max(1, min(request.get("batch_size", 500), MOST)), "descending": request.get("order") == "desc"}


def _total(db: sqlite3.Connection, asked: dict[str, Any]) -> int:
    found = 0
    for kind in asked["kinds"]:
        if kind != "log":
            found += event_series.count(db, asked["task"], kind, asked["metrics"])
        else:
            condition, values = named(asked["metrics"])
            found += db.execute(f"SELECT count(*) FROM logs WHERE task=?{condition}",
                                (asked["task"], *values)).fetchone()[0]
    return found


def _merged(db: sqlite3.Connection, asked: dict[str, Any], at: Place | None) -> Iterator[Found]:
    """All events that are asked for and stand behind `at`, in order."""
    streams = []
    for kind in asked["kinds"]:
        if kind == "log":
            streams.append(_lines(db, asked, at))
            continue
        read = _scalars if kind == SCALAR else _shapes
        streams += [read(db, asked, (kind, *name), at)
                    for name in event_series.names(db, asked["task"], kind, asked["metrics"])]
    return heapq.merge(*streams, key=lambda found: found[0], reverse=asked["descending"])


def _side(asked: dict[str, Any]) -> tuple[str, str]:
    """How what stands behind a place compares with it, and its order."""
    return ("<", "DESC") if asked["descending"] else (">", "ASC")


def _is_behind(asked: dict[str, Any], series: tuple[str, ...], at: Place) -> bool:
    """Whether a series' events of the iteration of `at` stand behind that place, which is in another series."""
    return (series < at[1:4]) if asked["descending"] else (series > at[1:4])


def _lines(db: sqlite3.Connection, asked: dict[str, Any], at: Place | None) -> Iterator[Found]:
    if at is not None and at[:4] != LOG:
        if (at[:4] < LOG) == asked["descending"]:
            return  # all of them have been given
        at = None
    for row in behind(db, asked["task"], at and at[4], asked["descending"], asked["metrics"]):
        yield (*LOG, (row[1], row[0])), partial(_line, row)


def _line(row: tuple[Any, ...]) -> tuple[Event, int]:
    return {"type": "log", **log_event(row)}, len(row[7]) + len(row[8])


def _scalars(db: sqlite3.Connection, asked: dict[str, Any], series: tuple[str, str, str],
             at: Place | None) -> Iterator[Found]:
    side, order = _side(asked)
    bound, values = "", [asked["task"], *series[1:]]
    if at is not None:
        bound = f"AND iter {side}{'=' if _is_behind(asked, series, at) else ''} ?"
        values.append(at[0])
    for row in db.execute(f"SELECT {COLUMNS} FROM scalars WHERE task=? AND metric=? AND variant=? {bound} "
                          f"ORDER BY iter {order}", values):
        yield (row[2], *series, ""), partial(_scalar, asked["task"], row)


def _scalar(task: str, row: tuple[Any, ...]) -> tuple[Event, int]:
    metric, variant, iteration, timestamp, value, doc = row
    # null where it is no number: the clearml package looks at each value
    return {"type": SCALAR, "task": task, "metric": metric, "variant": variant, "iter": iteration,
            "timestamp": timestamp, "value": value, **loads(doc or "{}")}, len(doc or "")


def _shapes(db: sqlite3.Connection, asked: dict[str, Any], series: tuple[str, str, str],
            at: Place | None) -> Iterator[Found]:
    side, order = _side(asked)
    bound, values = "", [asked["task"], *series]
    if at is not None and at[1:4] == series:
        bound, values = f"AND (iter, key) {side} (?, ?)", [*values, at[0], at[4]]
    elif at is not None:
        bound = f"AND iter {side}{'=' if _is_behind(asked, series, at) else ''} ?"
        values.append(at[0])
    # of what is not given only the index is read: a plot has 100 KB and more
    for iteration, key, seq in db.execute(
            f"SELECT iter, key, seq FROM shapes WHERE {event_series.OF_SERIES} {bound} "
            f"ORDER BY iter {order}, key {order}", values):
        yield (iteration, *series, key), partial(_shape, db, seq)


def _shape(db: sqlite3.Connection, seq: int) -> tuple[Event, int]:
    [doc] = db.execute("SELECT doc FROM shapes WHERE seq=?", (seq,)).fetchone()
    return loads(doc), len(doc)
