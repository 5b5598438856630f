"""events.*: curves of several tasks, single values, and which metrics there are (server.md §8)."""

from __future__ import annotations

from agentpipe.server import documents, event_series, scalars, scrolls
from agentpipe.server.common import error
from agentpipe.server.endpoints import READ, Request, Texts, endpoint
from agentpipe.server.event_series import SCALAR, SHAPES, named
from agentpipe.server.owners import load
from agentpipe.server.scalars import SINGLE_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_TASKS = 100
# the points of a curve
POINTS = "task=? AND metric=? AND variant=? AND iter<>?"


@endpoint("events.get_task_single_value_metrics", READ, {"tasks": Texts}, metrics=list, model_events=bool)
def get_task_single_value_metrics(request: Request) -> dict[str, Any]:
    """What Logger.report_single_value wrote: {tasks: [{task, task_name, values}]}, only those with any."""
    wanted = set(named(request.get("metrics", [])))
    found = []
    for id in request.body["tasks"]:
        load(request, id)
        rows = request.db.execute("SELECT metric, variant, value, timestamp FROM scalars WHERE task=? AND iter=? "
                                  "ORDER BY metric, variant", (id, SINGLE_VALUE))
        values = [{"metric": metric, "variant": variant, "value": value, "timestamp": timestamp}
                  for metric, variant, value, timestamp in rows if not wanted or metric in wanted]
        if values:
            found.append({"task": id, "task_name": name_of_owner(request, id), "values": values})
    return {"tasks": found}


def name_of_owner(request: Request, id: str) -> str:
    """The name of the task, or model, that events belong to."""
    table = "models" if request.get("model_events") else "tasks"
    row = request.db.execute(f"SELECT name FROM {table} WHERE id=?", (id,)).fetchone()
    return row[0] if row else ""


@endpoint("events.multi_task_scalar_metrics_iter_histogram", READ, {"tasks": Texts}, key=str, samples=int,
          metrics=list, model_events=bool)
def multi_task_scalar_metrics_iter_histogram(request: Request) -> dict[str, Any]:
    """The same curves of several tasks side by side: {metrics: {metric: {variant: {task: {name, x, y}}}}}."""
    from agentpipe.server import many
    tasks = request.body["tasks"]
    if len(tasks) > MOST_TASKS:
        raise error(12, f"up to {MOST_TASKS} tasks", tasks=len(tasks))
    found: dict[str, Any] = {}
    for id in tasks:
        curves = many.again(request, scalars.scalar_metrics_iter_histogram, task=id)
        for metric, variants in curves.items():
            for variant, curve in variants.items():
                below = found.setdefault(metric, {}).setdefault(variant, {})
                below[id] = {**curve, "name": name_of_owner(request, id)}
    return {"metrics": {metric: dict(sorted(found[metric].items())) for metric in sorted(found)}}


@endpoint("events.get_task_metrics", READ, {"tasks": Texts}, event_type=str, model_events=bool)
def get_task_metrics(request: Request) -> dict[str, Any]:
    """The names of what tasks reported: {metrics: [{task, metrics}]}."""
    kind = request.get("event_type", "all")
    found = []
    for id in request.body["tasks"]:
        load(request, id)
        names = {name[0] for each in _kinds(kind) for name in event_series.names(request.db, id, each)
                 if each != SCALAR or _is_curve(request, id, name)}
        found.append({"task": id, "metrics": sorted(names)})
    return {"metrics": found}


def _kinds(kind: str) -> tuple[str, ...]:
    return (SCALAR, *SHAPES) if kind == "all" else (kind,)


def _is_curve(request: Request, task: str, name: tuple[str, str]) -> bool:
    """Whether a series has any point beside a single value."""
    return request.db.execute(f"SELECT 1 FROM scalars WHERE {POINTS} LIMIT 1",
                              (task, *name, SINGLE_VALUE)).fetchone() is not None


@endpoint("events.get_multi_task_metrics", READ, {"tasks": Texts}, event_type=str, model_events=bool)
def get_multi_task_metrics(request: Request) -> dict[str, Any]:
    """What several tasks reported, together: {metrics: [{metric, variants}]}."""
    found: dict[str, set[str]] = {}
    for task in request.body["tasks"]:
        load(request, task)
        for kind in _kinds(request.get("event_type", "all")):
            for metric, variant in event_series.names(request.db, task, kind):
                found.setdefault(metric, set()).add(variant)
    return {"metrics": [{"metric": metric, "variants": sorted(found[metric])} for metric in sorted(found)]}


@endpoint("events.scalar_metrics_iter_raw", READ, {"task": str, "metric": dict}, batch_size=int, scroll_id=str,
          count_total=bool, key=str, model_events=bool)
def scalar_metrics_iter_raw(request: Request) -> dict[str, Any]:
    """All points of one metric, page by page: {variants: {variant: {iter, y}}, returned, total, scroll_id}."""
    id, task = request.get("scroll_id"), request.body["task"]
    total, at = scrolls.recall(request, "raw", id) if id else (None, None)
    load(request, task)
    names = list(event_series.names(request.db, task, SCALAR, named(request.body["metric"])))
    if not id and request.get("count_total", True):
        total = sum(request.db.execute(f"SELECT count(*) FROM scalars WHERE {POINTS}",
                                       (task, *name, SINGLE_VALUE)).fetchone()[0] for name in names)
    left = size = max(1, min(request.get("batch_size", 10_000), 200_000))
    found: dict[str, Any] = {}
    for name in names:
        if at is not None and name[1] < at[0]:
            continue
        bound, values = ("AND iter>?", [at[1]]) if at is not None and name[1] == at[0] else ("", [])
        rows = request.db.execute(f"SELECT iter, value FROM scalars WHERE {POINTS} {bound} ORDER BY iter LIMIT ?",
                                  (task, *name, SINGLE_VALUE, *values, left)).fetchall()
        if rows:
            found[name[1]] = {"name": name[1], "iter": [row[0] for row in rows], "y": [row[1] for row in rows]}
            left, at = left - len(rows), (name[1], rows[-1][0])
        if not left:
            break
    return {"variants": found, "returned": size - left, **({} if total is None else {"total": total}),
            "scroll_id": scrolls.keep(request, "raw", (total, at), id)}


@endpoint("events.get_task_latest_scalar_values", READ, {"task": str})
def get_task_latest_scalar_values(request: Request) -> dict[str, Any]:
    """Where a task's curves stand: {metrics: [{name, variants: [{name, last_value}]}], last_iter, name, status}."""
    task = documents.load(request.db, request.body["task"])
    metrics: dict[str, list[Any]] = {}
    for variants in (task.get("last_metrics") or {}).values():
        for item in variants.values():
            metrics.setdefault(item["metric"], []).append({"name": item["variant"], "last_value": item["value"]})
    shown = [{"name": name, "variants": sorted(metrics[name], key=lambda item: str(item["name"]))}
             for name in sorted(metrics)]
    return {"metrics": shown, "last_iter": task.get("last_iteration") or 0, "name": task.get("name"),
            "status": task.get("status")}
