"""events.*: plots and pictures, the newest of each series, or iteration by iteration (server.md §8)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from agentpipe.server import event_series, scrolls
from agentpipe.server.common import error, loads
from agentpipe.server.endpoints import LAZY, READ, Request, Texts, endpoint
from agentpipe.server.event_series import IMAGE, MOST, MOST_BYTES, PLOT
from agentpipe.server.events import add_batch
from agentpipe.server.owners import load
from agentpipe.server.series import MOST_TASKS, name_of_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.event_series import Event, Wanted

    # metric, variant and iteration
    Place = tuple[str, str, int]

# about the bytes of an answer that nobody goes on from: the clearml package asks for all plots at once
MOST_BYTES_AT_ONCE = 128 << 20


@endpoint("events.add", LAZY)
def add(request: Request) -> dict[str, Any]:
    """One event."""
    return add_batch(request)


@endpoint("events.get_task_plots", READ, {"task": str}, iters=int, scroll_id=str, metrics=list, no_scroll=bool,
          model_events=bool)
def get_task_plots(request: Request) -> dict[str, Any]:
    """The plots of the last `iters` iterations of each metric and variant: {plots, returned, total, scroll_id}."""
    load(request, request.body["task"])
    found, more = _newest_plots(request, [request.body["task"]])
    return {"plots": [event for _, event in found], **more}


@endpoint("events.get_multi_task_plots", READ, {"tasks": Texts}, iters=int, metrics=list, scroll_id=str, no_scroll=bool,
          model_events=bool)
def get_multi_task_plots(request: Request) -> dict[str, Any]:
    """The last plots of several tasks side by side: {plots: {metric: {variant: {task: {iter: {name, plots}}}}}, …}."""
    tasks = request.body["tasks"]
    if len(tasks) > MOST_TASKS:
        raise error(12, f"up to {MOST_TASKS} tasks", tasks=len(tasks))
    for task in tasks:
        load(request, task)
    events, more = _newest_plots(request, tasks)
    found: dict[str, Any] = {}
    for task, event in events:
        below = found.setdefault(event["metric"], {}).setdefault(event["variant"], {}).setdefault(task, {})
        one = below.setdefault(str(event.get("iter", 0)), {"name": name_of_owner(request, task), "plots": []})
        one["plots"].append(event)
    return {"plots": found, **more}


def _newest_plots(request: Request, tasks: list[str]) -> tuple[list[tuple[str, Event]], dict[str, Any]]:
    """The plots with their tasks, as many as fit into an answer, and {returned, total, scroll_id}."""
    id, most = request.get("scroll_id"), max(1, min(request.get("iters", 1), MOST))
    fits = MOST_BYTES_AT_ONCE if request.get("no_scroll") else MOST_BYTES
    asked = event_series.wanted(request.get("metrics"))
    if id:
        total, left, at = scrolls.recall(request, "plots", id)
    else:
        total, left, at = sum(_count(request.db, task, most, asked) for task in tasks), tasks, None
    found: list[tuple[str, Event]] = []
    held = 0
    while left and held <= fits:
        for place, docs in _newest(request.db, left[0], most, asked, at):
            found += [(left[0], loads(doc)) for doc in docs]
            held, at = held + sum(map(len, docs)), place
            if held > fits:
                break
        else:
            left, at = left[1:], None
    return found, {"returned": len(found), "total": total,
                   "scroll_id": scrolls.keep(request, "plots", (total, left, at), id)}


def _last_iterations(db: sqlite3.Connection, task: str, name: tuple[str, str], most: int) -> list[int]:
    rows = db.execute(f"SELECT DISTINCT iter FROM shapes WHERE {event_series.SHOWN} ORDER BY iter DESC LIMIT ?",
                      (task, PLOT, *name, most))
    return [iteration for (iteration,) in rows]


def _count(db: sqlite3.Connection, task: str, most: int, asked: Wanted) -> int:
    """How many plots the last iterations of each series have."""
    found = 0
    for name in event_series.names(db, task, PLOT, asked):
        oldest = _last_iterations(db, task, name, most)[-1]
        found += db.execute(f"SELECT count(*) FROM shapes WHERE {event_series.SHOWN} AND iter>=?",
                            (task, PLOT, *name, oldest)).fetchone()[0]
    return found


def _newest(db: sqlite3.Connection, task: str, most: int, asked: Wanted,
            at: Place | None) -> Iterator[tuple[Place, list[str]]]:
    """The plots of each series' last iterations, newest first, that stand behind `at`."""
    for name in event_series.names(db, task, PLOT, asked):
        if at is not None and name < at[:2]:
            continue
        for iteration in _last_iterations(db, task, name, most):
            if at is not None and name == at[:2] and iteration >= at[2]:
                continue
            rows = db.execute(f"SELECT doc FROM shapes WHERE {event_series.SHOWN} AND iter=? "
                              "ORDER BY timestamp DESC, seq DESC", (task, PLOT, *name, iteration))
            yield (*name, iteration), [doc for (doc,) in rows]


@endpoint("events.debug_images", READ, {"metrics": list}, iters=int, navigate_earlier=bool, refresh=bool,
          scroll_id=str, model_events=bool)
def debug_images(request: Request) -> dict[str, Any]:
    """Pictures of the `iters` newest iterations that have any, then of earlier ones by the scroll."""
    return _iterations(request, IMAGE)


@endpoint("events.plots", READ, {"metrics": list}, iters=int, navigate_earlier=bool, refresh=bool, scroll_id=str,
          model_events=bool)
def plots(request: Request) -> dict[str, Any]:
    """Plots likewise: {metrics: [{task, iterations: [{iter, events}]}], scroll_id}."""
    return _iterations(request, PLOT)


def _iterations(request: Request, kind: str) -> dict[str, Any]:
    """A scroll knows for each task between which iterations it is: what is above goes later, below earlier."""
    id, scroll = request.get("scroll_id"), f"{kind} by iteration"
    places: dict[str, tuple[int, int]] = scrolls.recall(request, scroll, id) if id else {}
    if request.get("refresh"):
        places = {}
    by_task: dict[str, list[Any]] = {}
    for item in request.body["metrics"]:
        if not isinstance(item, dict) or not item.get("task") or not isinstance(item["task"], str):
            raise error(12, "metrics are {task, metric, variants}")
        by_task.setdefault(item["task"], []).extend([item] if item.get("metric") else [])
    answer = []
    held = [0]
    for task, metrics in by_task.items():
        load(request, task)
        groups, place = _beside(request, task, kind, event_series.wanted(metrics), places.get(task), held)
        places = {**places, task: place} if place else places
        answer.append({"task": task, "iterations": groups})
    return {"metrics": answer, "scroll_id": scrolls.keep(request, scroll, places, id)}


def _beside(request: Request, task: str, kind: str, asked: Wanted, place: tuple[int, int] | None,
            held: list[int]) -> tuple[list[dict[str, Any]], tuple[int, int] | None]:
    """The next iterations of a task, newest first, and where the scroll is then; `held` is about the answer's bytes."""
    most, earlier = max(1, min(request.get("iters", 1), MOST)), request.get("navigate_earlier", True)
    found: list[dict[str, Any]] = []
    for iteration in _numbers(request.db, task, kind, asked, place, most, earlier):
        if found and held[0] > MOST_BYTES:
            break
        docs = _of_iteration(request.db, task, kind, asked, iteration)
        held[0] += sum(map(len, docs))
        found.append({"iter": iteration, "events": list(map(loads, docs))})
    if not found:
        # past the end: from there the other way leads back to what was shown last
        return [], place and ((place[1] - 1, place[1]) if earlier else (place[0], place[0] + 1))
    if not earlier:
        found.reverse()
    return found, (found[0]["iter"], found[-1]["iter"])


def _numbers(db: sqlite3.Connection, task: str, kind: str, asked: Wanted, place: tuple[int, int] | None, most: int,
             earlier: bool) -> list[int]:
    """Up to `most` iterations that have something to show, going away from where the scroll is."""
    side, order = ("<", "DESC") if earlier else (">", "ASC")
    bound, values = (f"AND iter {side} ?", [place[1] if earlier else place[0]]) if place else ("", [])
    rest = f"AND NOT hidden {bound} ORDER BY iter {order} LIMIT ?"
    if asked is None:
        rows = db.execute(f"SELECT DISTINCT iter FROM shapes WHERE task=? AND type=? {rest}",
                          (task, kind, *values, most)).fetchall()
        return [iteration for (iteration,) in rows]
    found: set[int] = set()
    for name in event_series.names(db, task, kind, asked):
        found.update(row[0] for row in db.execute(
            f"SELECT DISTINCT iter FROM shapes WHERE {event_series.OF_SERIES} {rest}",
            (task, kind, *name, *values, most)))
    return sorted(found, reverse=earlier)[:most]


def _of_iteration(db: sqlite3.Connection, task: str, kind: str, asked: Wanted, iteration: int) -> list[str]:
    rows = db.execute("SELECT metric, variant, seq FROM shapes WHERE task=? AND type=? AND iter=? AND NOT hidden "
                      "ORDER BY metric, variant, key", (task, kind, iteration)).fetchall()
    return [db.execute("SELECT doc FROM shapes WHERE seq=?", (seq,)).fetchone()[0]
            for metric, variant, seq in rows if event_series.fits(asked, metric, variant)]
