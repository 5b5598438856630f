"""events.*: one picture or plot after the other, and plots of several tasks side by side (server.md §8)."""

from __future__ import annotations

from agentpipe.server import scrolls, shapes
from agentpipe.server.common import error
from agentpipe.server.endpoints import READ, Request, Texts, endpoint
from agentpipe.server.owners import load
from agentpipe.server.series import MOST_TASKS, name_of_owner
from agentpipe.server.shapes import IMAGE, PLOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, Any]

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
    event = _at(_events(request, kind), body["metric"], body["variant"], request.get("iteration"))
    metric = body["metric"] if request.get("navigate_current_metric", True) else None
    id = request.get("scroll_id")
    if id:
        scrolls.recall(request, kind, id)
    return _answer(request, kind, event, metric, id)


def _next(request: Request, kind: str) -> dict[str, Any]:
    id, body = request.body["scroll_id"], request.body
    at, metric = scrolls.recall(request, kind, id)
    load(request, body["task"])
    events = [event for event in _events(request, kind) if metric in (None, event["metric"])]
    if request.get("next_iteration"):
        events = [event for event in events if at is None or _series(event) == at[1:]]
    events.sort(key=lambda event: (-event.get("iter", 0), *_series(event)))
    if not request.get("navigate_earlier", True):
        events.reverse()
    places = [_place(event) for event in events]
    following = places.index(at) + 1 if at in places else len(events)
    # several plots of one iteration are one place
    while following < len(events) and places[following] == at:
        following += 1
    return _answer(request, kind, events[following] if following < len(events) else None, metric, id, at)


def _answer(request: Request, kind: str, event: Event | None, metric: str | None, id: str | None,
            at: Any = None) -> dict[str, Any]:
    """The event with the iterations between which its like is found, and the scroll that is now at it."""
    found: dict[str, Any] = {}
    if event is not None:
        alike = [each for each in _events(request, kind) if _series(each) == _series(event)]
        iterations = [each.get("iter", 0) for each in alike]
        found = {"min_iteration": min(iterations), "max_iteration": max(iterations)}
        if kind == IMAGE:
            found["event"] = event
        else:
            found["events"] = [each for each in alike if _place(each) == _place(event)]
        at = _place(event)
    return {**found, "scroll_id": scrolls.keep(request, kind, (at, metric), id)}


def _events(request: Request, kind: str) -> list[Event]:
    return shapes.all_of(request, request.body["task"], kind)


def _series(event: Event) -> tuple[str, str]:
    return event["metric"], event["variant"]


def _place(event: Event) -> tuple[int, str, str]:
    return event.get("iter", 0), *_series(event)


def _at(events: list[Event], metric: str, variant: str, iteration: int | None) -> Event | None:
    fitting = [event for event in events if _series(event) == (metric, variant)
               and (iteration is None or event.get("iter", 0) <= iteration)]
    return max(fitting, key=lambda event: event.get("iter", 0), default=None)


@endpoint("events.get_multi_task_plots", READ, {"tasks": Texts}, iters=int, metrics=list, scroll_id=str, no_scroll=bool,
          model_events=bool)
def get_multi_task_plots(request: Request) -> dict[str, Any]:
    """The last plots of several tasks side by side: {plots: {metric: {variant: {task: {iter: {name, plots}}}}}, …}."""
    tasks = request.body["tasks"]
    if len(tasks) > MOST_TASKS:
        raise error(12, f"up to {MOST_TASKS} tasks", tasks=len(tasks))
    if request.get("scroll_id"):
        return {"plots": {}, "returned": 0, "total": 0, "scroll_id": request.body["scroll_id"]}
    found: dict[str, Any] = {}
    count = 0
    for task in tasks:
        load(request, task)
        events = shapes.newest_of(request, task, PLOT, request.get("iters", 1))
        for event in shapes.of_metrics(events, request.get("metrics")):
            below = found.setdefault(event["metric"], {}).setdefault(event["variant"], {}).setdefault(task, {})
            one = below.setdefault(str(event.get("iter", 0)), {"name": name_of_owner(request, task), "plots": []})
            one["plots"].append(event)
            count += 1
    return {"plots": found, "returned": count, "total": count, "scroll_id": scrolls.keep(request, "plots", None)}


@endpoint("events.get_multi_task_metrics", READ, {"tasks": Texts}, event_type=str, model_events=bool)
def get_multi_task_metrics(request: Request) -> dict[str, Any]:
    """What several tasks reported, together: {metrics: [{metric, variants}]}."""
    kind = request.get("event_type", "all")
    found: dict[str, set[str]] = {}
    for task in request.body["tasks"]:
        load(request, task)
        rows = []
        if kind in ("all", shapes.SCALAR):
            rows += request.db.execute("SELECT DISTINCT metric, variant FROM scalars WHERE task=?", (task,)).fetchall()
        if kind != shapes.SCALAR:
            condition, more = ("", []) if kind == "all" else (" AND type=?", [kind])
            rows += request.db.execute(f"SELECT DISTINCT metric, variant FROM shapes WHERE task=?{condition}",
                                       (task, *more)).fetchall()
        for metric, variant in rows:
            found.setdefault(metric, set()).add(variant)
    return {"metrics": [{"metric": metric, "variants": sorted(found[metric])} for metric in sorted(found)]}


@endpoint("events.vector_metrics_iter_histogram", READ, ONE)
def vector_metrics_iter_histogram(request: Request) -> dict[str, Any]:
    """The vectors of one metric and variant by iteration: {metric, variant, vectors, iterations}."""
    body = request.body
    load(request, body["task"])
    events = [event for event in shapes.all_of(request, body["task"], "training_stats_vector")
              if _series(event) == (body["metric"], body["variant"])]
    events.sort(key=lambda event: event.get("iter", 0))
    return {"metric": body["metric"], "variant": body["variant"], "vectors": [each.get("value") for each in events],
            "iterations": [each.get("iter", 0) for each in events]}
