"""events.*: one picture or plot after the other, and the vectors of a series (server.md §8)."""

from __future__ import annotations

import sqlite3

from agentpipe.server import event_series, scrolls
from agentpipe.server.common import loads
from agentpipe.server.endpoints import READ, Request, endpoint
from agentpipe.server.event_series import IMAGE, OF_SERIES, PLOT, SHOWN, VECTOR
from agentpipe.server.owners import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # metric, variant and iteration
    Place = tuple[str, str, int]

ONE: dict[str, type] = {"task": str, "metric": str, "variant": str}
MORE: dict[str, type] = {"iteration": int, "scroll_id": str, "refresh": bool, "navigate_current_metric": bool,
                         "model_events": bool}
NEXT: dict[str, type] = {"task": str, "scroll_id": str}
NEXT_MORE: dict[str, type] = {"navigate_earlier": bool, "next_iteration": bool, "model_events": bool}


@endpoint("events.get_debug_image_sample", READ, ONE, **MORE)
def get_debug_image_sample(request: Request) -> dict[str, Any]:
    """A picture, at that iteration or the last one before: {event, min_iteration, max_iteration, scroll_id}."""
    return _sample(request, IMAGE)


@endpoint("events.get_plot_sample", READ, ONE, **MORE)
def get_plot_sample(request: Request) -> dict[str, Any]:
    """The plots of a metric and variant likewise: {events, …}."""
    return _sample(request, PLOT)


@endpoint("events.next_debug_image_sample", READ, NEXT, **NEXT_MORE)
def next_debug_image_sample(request: Request) -> dict[str, Any]:
    """The picture after the one that the scroll is at; `next_iteration` stays with its metric and variant."""
    return _next(request, IMAGE)


@endpoint("events.next_plot_sample", READ, NEXT, **NEXT_MORE)
def next_plot_sample(request: Request) -> dict[str, Any]:
    """The plot after the one that the scroll is at."""
    return _next(request, PLOT)


def _sample(request: Request, kind: str) -> dict[str, Any]:
    body = request.body
    load(request, body["task"])
    id = request.get("scroll_id")
    if id:
        scrolls.recall(request, kind, id)
    name, last = (body["metric"], body["variant"]), request.get("iteration")
    found = _nearest(request, kind, name, True, None if last is None else last + 1)
    return _answer(request, kind, None if found is None else (*name, found),
                   body["metric"] if request.get("navigate_current_metric", True) else None, id)


def _next(request: Request, kind: str) -> dict[str, Any]:
    id = request.body["scroll_id"]
    at, metric = scrolls.recall(request, kind, id)
    load(request, request.body["task"])
    earlier = request.get("navigate_earlier", True)
    if at is None:
        found = None
    elif request.get("next_iteration"):
        following = _nearest(request, kind, at[:2], earlier, at[2])
        found = None if following is None else (*at[:2], following)
    else:
        found = _following(request, kind, at, metric, earlier)
    return _answer(request, kind, found, metric, id, at)


def _answer(request: Request, kind: str, place: Place | None, metric: str | None, id: str | None,
            at: Place | None = None) -> dict[str, Any]:
    """What is there, with the iterations between which its like is found, and the scroll that is now at it."""
    found: dict[str, Any] = {}
    if place is not None:
        name = place[:2]
        found = {"min_iteration": _nearest(request, kind, name, False), "max_iteration": _nearest(request, kind, name)}
        docs = request.db.execute(f"SELECT doc FROM shapes WHERE {SHOWN} AND iter=? ORDER BY key",
                                  (request.body["task"], kind, *place)).fetchall()
        events = [loads(doc) for (doc,) in docs]
        found |= {"event": events[0]} if kind == IMAGE else {"events": events}
        at = place
    return {**found, "scroll_id": scrolls.keep(request, kind, (at, metric), id)}


def _nearest(request: Request, kind: str, name: tuple[str, str], earlier: bool = True,
             at: int | None = None) -> int | None:
    """The iteration of a series that comes before `at`, or the other way; without it the last, or the first."""
    bound, values = ("", []) if at is None else (f"AND iter{'<' if earlier else '>'}?", [at])
    return request.db.execute(f"SELECT {'max' if earlier else 'min'}(iter) FROM shapes WHERE {SHOWN} {bound}",
                              (request.body["task"], kind, *name, *values)).fetchone()[0]


def _following(request: Request, kind: str, at: Place, metric: str | None, earlier: bool) -> Place | None:
    """The next place: metric and variant ascend within an iteration, iterations go down; or all the other way."""
    task = request.body["task"]
    name, iteration = at[:2], at[2]
    found = _within(request.db, task, kind, metric, iteration, earlier, name)
    if found:
        return *found, iteration
    if metric is None:
        side, order = ("<", "DESC") if earlier else (">", "ASC")
        row = request.db.execute(f"SELECT iter FROM shapes WHERE task=? AND type=? AND NOT hidden AND iter{side}? "
                                 f"ORDER BY iter {order} LIMIT 1", (task, kind, iteration)).fetchone()
        following = row and row[0]
    else:
        near = [_nearest(request, kind, each, earlier, iteration)
                for each in event_series.names(request.db, task, kind, {metric: []})]
        following = (max if earlier else min)((each for each in near if each is not None), default=None)
    if following is None:
        return None
    found = _within(request.db, task, kind, metric, following, earlier)
    return (*found, following) if found else None


def _within(db: sqlite3.Connection, task: str, kind: str, metric: str | None, iteration: int, forward: bool,
            name: tuple[str, str] | None = None) -> tuple[str, str] | None:
    """The first (or last) metric and variant of an iteration, or the one that follows (or precedes) `name`."""
    side, order = (">", "ASC") if forward else ("<", "DESC")
    bound, values = (f"AND (metric, variant) {side} (?, ?)", [*name]) if name else ("", [])
    if metric is not None:
        bound, values = f"{bound} AND metric=?", [*values, metric]
    return db.execute(f"SELECT metric, variant FROM shapes WHERE task=? AND type=? AND iter=? AND NOT hidden {bound} "
                      f"ORDER BY metric {order}, variant {order} LIMIT 1", (task, kind, iteration, *values)).fetchone()


@endpoint("events.get_vector_metrics_and_variants", READ, {"task": str})
def get_vector_metrics_and_variants(request: Request) -> dict[str, Any]:
    """Of what a task reported vectors: {metrics: [{metric, variants}]}."""
    load(request, request.body["task"])
    found = event_series.by_metric(request.db, request.body["task"], VECTOR)
    return {"metrics": [{"metric": metric, "variants": variants} for metric, variants in found.items()]}


@endpoint("events.vector_metrics_iter_histogram", READ, ONE)
def vector_metrics_iter_histogram(request: Request) -> dict[str, Any]:
    """The vectors of one metric and variant by iteration: {metric, variant, vectors, iterations}."""
    body = request.body
    load(request, body["task"])
    rows = request.db.execute(f"SELECT doc FROM shapes WHERE {OF_SERIES} ORDER BY iter, key",
                              (body["task"], VECTOR, body["metric"], body["variant"]))
    events = [loads(doc) for (doc,) in rows]
    return {"metric": body["metric"], "variant": body["variant"], "vectors": [each.get("value") for each in events],
            "iterations": [each.get("iter", 0) for each in events]}
