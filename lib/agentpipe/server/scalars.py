"""events.*: scalars, what a task remembers of them, and the other metrics, each overwritten by its like."""

from __future__ import annotations

import sqlite3

from agentpipe.server import event_series
from agentpipe.server.common import dumps, error, loads, stamp
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import READ, Request, endpoint
from agentpipe.server.event_series import SCALAR
from agentpipe.server.owners import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Logger.report_single_value: no point of a curve
SINGLE_VALUE = -(1 << 31)
MOST_METRICS = 2000
# the points of a curve; single values and what is no number are none
POINTS = "task=? AND metric=? AND variant=? AND iter<>? AND value IS NOT NULL"
OWN = ("task", "type", "metric", "variant", "iter", "timestamp", "value", "key")


def store(request: Request, task: Task, events: list[dict[str, Any]]) -> None:
    """Write one task's metrics; task, metric, variant and iteration together are an event's identity."""
    scalars = [event for event in events if event["type"] == SCALAR]
    request.db.executemany(
        "INSERT INTO scalars (task, metric, variant, iter, timestamp, value, doc) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (task, metric, variant, iter) DO UPDATE "
        "SET timestamp=excluded.timestamp, value=excluded.value, doc=excluded.doc", map(_scalar_row, scalars))
    others = [event for event in events if event["type"] != SCALAR]
    if others:
        from agentpipe.server import shape_rows
        shape_rows.insert(request.db, others)
    if scalars:
        _remember(task, scalars)


def _scalar_row(event: dict[str, Any]) -> tuple[Any, ...]:
    rest = {key: value for key, value in event.items() if key not in OWN}
    return (event["task"], event["metric"], event["variant"], event.get("iter", 0), event["timestamp"],
            _value(event), dumps(rest))


def _value(event: dict[str, Any]) -> float | None:
    """The number of a scalar; None when there is none (also NaN, and what is too large for one)."""
    try:
        found = float(event["value"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return found if found == found else None


def hashed(name: str) -> str:
    """The key under which a metric's or variant's name stands in last_metrics."""
    from hashlib import md5
    return md5(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _remember(task: Task, events: list[dict[str, Any]]) -> None:
    """Bring the task's last_metrics and unique_metrics up to date with a batch."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in events:
        if _value(event) is not None:
            series.setdefault((event["metric"], event["variant"]), []).append(event)
    if not series:
        return
    stored: dict[str, Any] = task.get("last_metrics") or {}
    last = {metric: dict(variants) for metric, variants in stored.items()}
    known = sum(map(len, last.values()))
    names = set(task.get("unique_metrics") or [])
    for (metric, variant), points in series.items():
        variants = last.get(hashed(metric), {})
        if hashed(variant) not in variants:
            if known >= MOST_METRICS:
                continue
            known += 1
        last.setdefault(hashed(metric), {})[hashed(variant)] = _summary(
            variants.get(hashed(variant)) or {}, metric, variant, points)
        names.add(f"{metric}/{variant}")
    task.set("last_metrics", last)
    task.set("unique_metrics", sorted(names))


def _summary(old: dict[str, Any], metric: str, variant: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """last_metrics of one series after a batch.

    Extremes are compared with the stored ones, the value is the batch's newest.
    """
    numbers = [(_value(event) or 0.0, event.get("iter", 0)) for event in points]
    newest = max(points, key=lambda event: (event.get("iter", 0), event["timestamp"]))
    first = min(points, key=lambda event: (event.get("iter", 0), event["timestamp"]))
    low = min(numbers, key=lambda pair: pair[0])
    high = max(numbers, key=lambda pair: pair[0])
    found = {**old, "metric": metric, "variant": variant, "value": _value(newest)}
    if "min_value" not in old or low[0] < old["min_value"]:
        found["min_value"], found["min_value_iteration"] = low
    if "max_value" not in old or high[0] > old["max_value"]:
        found["max_value"], found["max_value_iteration"] = high
    if "first_value" not in old:
        found["first_value"], found["first_value_iteration"] = _value(first), first.get("iter", 0)
    count = old.get("count", 0)
    total = old.get("mean_value", 0.0) * count + sum(number for number, _ in numbers)
    found["count"] = count + len(numbers)
    found["mean_value"] = round(total / found["count"], 2)
    if newest.get("x_axis_label") is not None:
        found["x_axis_label"] = newest["x_axis_label"]
    return found


@endpoint("events.get_scalar_metrics_and_variants", READ, {"task": str}, model_events=bool)
def get_scalar_metrics_and_variants(request: Request) -> dict[str, Any]:
    """The names of a task's curves: {metrics: {metric: [variants]}}."""
    load(request, request.body["task"])
    return {"metrics": event_series.by_metric(request.db, request.body["task"], SCALAR)}


@endpoint("events.scalar_metrics_iter_histogram", READ, {"task": str}, key=str, samples=int, metrics=list,
          model_events=bool)
def scalar_metrics_iter_histogram(request: Request) -> dict[str, Any]:
    """A task's curves, averaged over buckets when they have more points than `samples`.

    {metric: {variant: {name, x, y}}}.
    """
    task, samples, key = request.body["task"], request.get("samples", 2000), request.get("key", "iter")
    load(request, task)
    if not 1 <= samples <= 6000 or key not in ("iter", "timestamp", "iso_time"):
        raise error(12, "samples are 1 to 6000, key is iter, timestamp or iso_time", samples=samples, key=key)
    found: dict[str, dict[str, Any]] = {}
    for name in event_series.names(request.db, task, SCALAR, event_series.wanted(request.get("metrics"))):
        curve = _curve(request.db, task, name, key, samples)
        if curve:
            found.setdefault(name[0], {})[name[1]] = curve
    return found


def _curve(db: sqlite3.Connection, task: str, name: tuple[str, str], key: str, samples: int) -> dict[str, Any]:
    """All points of a series, or the means over `samples` buckets of equal width, whose x is the bucket's start."""
    x, of = "iter" if key == "iter" else "timestamp", (task, *name, SINGLE_VALUE)
    count, first, last = db.execute(f"SELECT count(*), min({x}), max({x}) FROM scalars WHERE {POINTS}", of).fetchone()
    if not count:
        return {}
    if count < samples:
        rows = db.execute(f"SELECT {x}, value FROM scalars WHERE {POINTS} ORDER BY {x}", of).fetchall()
    else:
        # % takes the sign of what is divided
        rows = db.execute(f"SELECT {x} - ({x} % ?1 + ?1) % ?1 AS start, avg(value) FROM scalars WHERE {POINTS} "
                          "GROUP BY start ORDER BY start", (max(1, -(-(last - first) // samples)), *of)).fetchall()
    times = [stamp(row[0]) for row in rows] if key == "iso_time" else [row[0] for row in rows]
    found: dict[str, Any] = {"name": name[1], "x": times, "y": [row[1] for row in rows]}
    [doc] = db.execute(f"SELECT doc FROM scalars WHERE {POINTS} ORDER BY iter LIMIT 1", of).fetchone()
    label = loads(doc).get("x_axis_label")
    return found if label is None else {**found, "x_axis_label": label}
