"""workers.*: what workers reported over time, for the pages that draw it (server.md §7)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator

from agentpipe.server.common import dumps, error, loads
from agentpipe.server.endpoints import READ, Objects, Request, Texts, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Buckets = dict[int, list[float]]  # by their number; most hold nothing

# reports come each 30 s; a shorter interval would have holes (s)
LEAST_INTERVAL = 40
MOST_BUCKETS = 10_000
KEPT_SECONDS = 14 * 86400
SPAN: dict[str, type] = {"from_date": float, "to_date": float, "interval": int}


def _mean(found: list[float]) -> float:
    return sum(found) / len(found)


AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {"avg": _mean, "min": min, "max": max}


def checked(stats: dict[str, Any]) -> dict[str, Any]:
    """A report, of numbers and lists of numbers as it has to be; a text that is in it is 400/12 to whoever sent it."""
    for name, value in stats.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None and (not isinstance(each, int | float) or isinstance(each, bool)):
                raise error(12, f"machine_stats.{name}: value is wrong, expected numbers {each!r}"[:200])
    return stats


def record(request: Request, worker: str, busy: bool, stats: dict[str, Any]) -> None:
    """Keep a report of a worker."""
    request.db.execute("INSERT INTO reports (at, user, worker, busy, stats) VALUES (?, ?, ?, ?, ?)",
                       (time.time_ns() // 1_000_000, request.user, worker, int(busy), dumps(stats)))


def forget_old(db: sqlite3.Connection) -> None:
    """Drop what is older than two weeks."""
    db.execute("DELETE FROM reports WHERE at<?", (int((time.time() - KEPT_SECONDS) * 1000),))


def span(request: Request, least: int = LEAST_INTERVAL) -> tuple[int, int, int]:
    """(begin, end, width) of the request's buckets in ms; its times are seconds. From after to is 400/16."""
    begin, end = request.body["from_date"], request.body["to_date"]
    if not 0 <= begin < end:
        raise error(16, "from_date must be before to_date", from_date=begin, to_date=end)
    width = max(request.body["interval"], least)
    begin = int(begin // width * width)
    end = int(min(end, time.time()) // width * width)
    if (end - begin) // width > MOST_BUCKETS:
        raise error(16, f"more than {MOST_BUCKETS} intervals", interval=width)
    return begin * 1000, end * 1000, width * 1000


def samples(stats: dict[str, Any], key: str) -> Iterator[tuple[str, float]]:
    """(variant, value) of one of a report's numbers: a list has "0", "1" …, a single one "total"."""
    found = stats.get(key)
    pairs = enumerate(found) if isinstance(found, list) else [("total", found)]
    for variant, value in pairs:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield str(variant), float(value)


@endpoint("workers.get_metric_keys", READ, {}, worker_ids=Texts)
def get_metric_keys(request: Request) -> dict[str, Any]:
    """What workers reported, by category: {categories: [{name, metric_keys}]}; nothing yet is 400/1005."""
    wanted = request.get("worker_ids")
    keys: set[str] = set()
    for worker, stats in request.db.execute("SELECT worker, stats FROM reports ORDER BY at DESC LIMIT 5000"):
        if not wanted or worker in wanted:
            keys.update(loads(stats))
    if not keys:
        raise error(1005)
    categories: dict[str, list[str]] = {}
    for key in sorted(keys):
        categories.setdefault(key.partition("_")[0], []).append(key)
    return {"categories": [{"name": name, "metric_keys": found} for name, found in categories.items()]}


@endpoint("workers.get_stats", READ, {**SPAN, "items": Objects}, worker_ids=Texts, split_by_resource=bool,
          split_by_variant=bool)
def get_stats(request: Request) -> dict[str, Any]:
    """Numbers of workers over time, an aggregate a bucket; a bucket without any is 0, one that is not over is left out.

    {workers: [{worker, metrics: [{metric, stats: [{aggregation, dates, values, resource_series}]}]}]}.
    """
    begin, end, width = span(request)
    asked = _items(request)
    wanted, split = request.get("worker_ids"), request.get("split_by_resource", request.get("split_by_variant", False))
    # (worker, key) -> variant ("" is all of them) -> the values of each bucket
    found: dict[tuple[str, str], dict[str, Buckets]] = {}
    rows = request.db.execute("SELECT at, worker, stats FROM reports WHERE at>=? AND at<? ORDER BY at", (begin, end))
    for at, worker, text in rows:
        if wanted and worker not in wanted:
            continue
        stats, bucket = loads(text), (at - begin) // width
        for key in asked:
            for variant, value in samples(stats, key):
                series = found.setdefault((worker, key), {})
                for name in ("", variant) if split else ("",):
                    series.setdefault(name, {}).setdefault(bucket, []).append(value)
    dates = list(range(begin, end, width))
    workers: dict[str, list[dict[str, Any]]] = {}
    for (worker, key), series in sorted(found.items()):
        workers.setdefault(worker, []).append({"metric": key, "stats": [
            _stat(how, dates, series, split) for how in asked[key]]})
    return {"workers": [{"worker": worker, "metrics": metrics} for worker, metrics in workers.items()]}


def _items(request: Request) -> dict[str, list[str]]:
    """The aggregations that are asked for, by key."""
    asked: dict[str, list[str]] = {}
    for item in request.body["items"]:
        key, how = (item.get("key"), item.get("aggregation") or "avg") if isinstance(item, dict) else (None, "")
        if not isinstance(key, str) or how not in AGGREGATIONS:
            raise error(12, "items are {key, aggregation: avg, min or max}")
        asked.setdefault(key, []).append(how)
    return asked


def _stat(how: str, dates: list[int], series: dict[str, Buckets], split: bool) -> dict[str, Any]:
    work = AGGREGATIONS[how]

    def values(buckets: Buckets) -> list[float]:
        return [work(buckets[number]) if number in buckets else 0 for number in range(len(dates))]
    found = {"aggregation": how, "dates": dates, "values": values(series[""])}
    if split:
        found["resource_series"] = [{"name": name, "values": values(series[name])} for name in sorted(series) if name]
    return found


@endpoint("workers.get_activity_report", READ, SPAN)
def get_activity_report(request: Request) -> dict[str, Any]:
    """How many workers reported, and how many of them ran a task: {total: {dates, counts}, active: {…}}."""
    begin, end, width = span(request)
    dates = list(range(begin, end, width))
    everybody: list[set[tuple[str, str]]] = [set() for _ in dates]
    active: list[set[tuple[str, str]]] = [set() for _ in dates]
    rows = request.db.execute("SELECT at, user, worker, busy FROM reports WHERE at>=? AND at<?", (begin, end))
    for at, user, worker, busy in rows:
        bucket = (at - begin) // width
        everybody[bucket].add((user, worker))
        if busy:
            active[bucket].add((user, worker))
    return {name: {"dates": dates, "counts": [len(each) for each in found]}
            for name, found in (("total", everybody), ("active", active))}


@endpoint("workers.get_count", READ, {}, last_seen=int)
def get_count(request: Request) -> dict[str, Any]:
    """How many workers there are: {count}."""
    from agentpipe.server import workers
    return {"count": len(workers.get_all(request)["workers"])}
