"""events.*: plots, pictures, and any events of a task, page by page (server.md §8)."""

from __future__ import annotations

from collections.abc import Iterator

from agentpipe.server import scrolls
from agentpipe.server.common import error, loads
from agentpipe.server.endpoints import LAZY, READ, Request, endpoint
from agentpipe.server.events import SELECTED, add_batch, log_event
from agentpipe.server.owners import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLOT, IMAGE, SCALAR = "plot", "training_debug_image", "training_stats_scalar"


@endpoint("events.add", LAZY)
def add(request: Request) -> dict[str, Any]:
    """One event."""
    return add_batch(request)


@endpoint("events.get_task_events", READ, {"task": str}, event_type=str, order=str, batch_size=int, scroll_id=str,
          metrics=list, count_total=bool, model_events=bool)
def get_task_events(request: Request) -> dict[str, Any]:
    """A task's events by iteration: {events, returned, total, scroll_id}; past the end there are none."""
    id = request.get("scroll_id")
    if id:
        asked, at = scrolls.recall(request, "events", id)
    else:
        asked, at = request.body, 0
    load(request, asked["task"])
    kind, size = asked.get("event_type") or "all", max(1, min(int(asked.get("batch_size") or 500), 10_000))
    found = list(_events(request, asked["task"], kind))
    found = of_metrics(found, asked.get("metrics"))
    found.sort(key=lambda event: (event.get("iter") or 0, event["timestamp"]), reverse=asked.get("order") == "desc")
    page = found[at:at + size]
    return {"events": page, "returned": len(page), "total": len(found),
            "scroll_id": scrolls.keep(request, "events", (asked, at + len(page)), id)}


def _events(request: Request, task: str, kind: str) -> Iterator[dict[str, Any]]:
    if kind in ("all", "log"):
        for row in request.db.execute(f"SELECT {SELECTED} FROM logs WHERE task=? ORDER BY timestamp, seq", (task,)):
            yield {"type": "log", **log_event(row)}
    if kind in ("all", SCALAR):
        rows = request.db.execute(
            "SELECT metric, variant, iter, timestamp, value, doc FROM scalars WHERE task=?", (task,))
        for metric, variant, iteration, timestamp, value, doc in rows:
            yield {"type": SCALAR, "task": task, "metric": metric, "variant": variant, "iter": iteration,
                   "timestamp": timestamp, **({} if value is None else {"value": value}), **loads(doc or "{}")}
    if kind not in ("log", SCALAR):
        condition, values = ("", [task]) if kind == "all" else (" AND type=?", [task, kind])
        for (doc,) in request.db.execute(f"SELECT doc FROM shapes WHERE task=?{condition}", values):
            yield loads(doc)


def named(metrics: Any) -> dict[str, list[str]]:
    """The variants (none: all of them) by metric, of a list of names or {metric, variants}; else 400/12."""
    found: dict[str, list[str]] = {}
    for item in metrics if isinstance(metrics, list) else [metrics]:
        each = item if isinstance(item, dict) else {"metric": item}
        metric, variants = each.get("metric"), each.get("variants") or []
        if not isinstance(metric, str) or not isinstance(variants, list):
            raise error(12, f"metrics are names, or {{metric, variants}}: {item!r}"[:200])
        found[metric] = variants
    return found


def of_metrics(events: list[dict[str, Any]], metrics: Any) -> list[dict[str, Any]]:
    """Those of the metrics that a request names: names, or {metric, variants}."""
    if not metrics:
        return events
    wanted = named(metrics)

    def fits(event: dict[str, Any]) -> bool:
        variants = wanted.get(event.get("metric", ""))
        return variants is not None and (not variants or event.get("variant") in variants)
    return list(filter(fits, events))


@endpoint("events.get_task_plots", READ, {"task": str}, iters=int, scroll_id=str, metrics=list, no_scroll=bool,
          model_events=bool)
def get_task_plots(request: Request) -> dict[str, Any]:
    """The plots of the last `iters` iterations of each metric and variant: {plots, returned, total, scroll_id}."""
    task = request.body["task"]
    load(request, task)
    if request.get("scroll_id"):
        return {"plots": [], "returned": 0, "total": 0, "scroll_id": request.body["scroll_id"]}
    found = of_metrics(newest_of(request, task, PLOT, request.get("iters", 1)), request.get("metrics"))
    return {"plots": found, "returned": len(found), "total": len(found),
            "scroll_id": scrolls.keep(request, "plots", None)}


def newest_of(request: Request, task: str, kind: str, iterations: int) -> list[dict[str, Any]]:
    """Events of the last iterations of each metric and variant, these ascending, newest first."""
    rows = request.db.execute(
        "SELECT metric, variant, iter, doc FROM shapes WHERE task=? AND type=? "
        "ORDER BY metric, variant, iter DESC, timestamp DESC", (task, kind))
    found: list[dict[str, Any]] = []
    seen: dict[tuple[str, str], set[int]] = {}
    for metric, variant, iteration, doc in rows:
        kept = seen.setdefault((metric, variant), set())
        if iteration in kept or len(kept) < iterations:
            kept.add(iteration)
            found.append(loads(doc))
    return found


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
    asked, count = request.body["metrics"], max(1, request.get("iters", 1))
    id = request.get("scroll_id")
    first, last = scrolls.recall(request, "iterations", id) if id else (0, 0)
    if request.get("refresh"):
        first, last = 0, 0
    start = last if request.get("navigate_earlier", True) else max(0, first - count)
    answer = []
    by_task: dict[str, list[Any]] = {}
    for item in asked:
        if not isinstance(item, dict) or not item.get("task") or not isinstance(item["task"], str):
            raise error(12, "metrics are {task, metric, variants}")
        by_task.setdefault(item["task"], []).extend([item] if item.get("metric") else [])
    shown = start
    for task, metrics in by_task.items():
        load(request, task)
        groups: dict[int, list[dict[str, Any]]] = {}
        for event in of_metrics(all_of(request, task, kind), metrics):
            groups.setdefault(event.get("iter") or 0, []).append(event)
        newest = sorted(groups, reverse=True)[start:start + count]
        shown = max(shown, start + len(newest))
        answer.append({"task": task, "iterations": [{"iter": each, "events": groups[each]} for each in newest]})
    return {"metrics": answer, "scroll_id": scrolls.keep(request, "iterations", (start, shown), id)}


def all_of(request: Request, task: str, kind: str) -> list[dict[str, Any]]:
    """All events of a kind; of pictures those with a url, of one that is used again only the newest."""
    rows = request.db.execute(
        "SELECT doc FROM shapes WHERE task=? AND type=? ORDER BY iter DESC, metric, variant, key", (task, kind))
    found = [loads(doc) for (doc,) in rows]
    if kind != IMAGE:
        return found
    seen: set[str] = set()
    kept = []
    for event in found:
        if event.get("url") and event["url"] not in seen:
            seen.add(event["url"])
            kept.append(event)
    return kept
