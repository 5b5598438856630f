"""The series of a task: all events of one kind, metric and variant, which an index has in order of iteration.

What is asked of them costs a look at the index for each series, however many points these have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from agentpipe.server.common import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Wanted = dict[str, list[str]] | None
    Event = dict[str, Any]

PLOT, IMAGE, SCALAR, VECTOR = "plot", "training_debug_image", "training_stats_scalar", "training_stats_vector"
# those that stand in the table `shapes`
SHAPES = (PLOT, IMAGE, VECTOR)
# rows of `shapes` that belong to one series, of which something is shown
OF_SERIES = "task=? AND type=? AND metric=? AND variant=?"
SHOWN = f"{OF_SERIES} AND NOT hidden"
# about the bytes of an answer that goes on with its scroll, and of a list in it
MOST_BYTES, MOST = 16 << 20, 10_000


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


def wanted(metrics: Any) -> Wanted:
    """The same; None, which is all, when nothing is named."""
    return named(metrics) if metrics else None


def fits(asked: Wanted, metric: str, variant: str) -> bool:
    """Whether a metric's variant is among those that are asked for."""
    if asked is None:
        return True
    variants = asked.get(metric)
    return variants is not None and (not variants or variant in variants)


def by_metric(db: sqlite3.Connection, owner: str, kind: str) -> dict[str, list[str]]:
    """The variants of a kind's series by metric, in order."""
    found: dict[str, list[str]] = {}
    for metric, variant in names(db, owner, kind):
        found.setdefault(metric, []).append(variant)
    return found


def names(db: sqlite3.Connection, owner: str, kind: str, asked: Wanted = None) -> Iterator[tuple[str, str]]:
    """Metric and variant of each series of a kind, in order."""
    table, fixed, values = _rows(owner, kind)
    # not (metric, variant) > (?, ?): SQLite would go through all points of the series that it leaves behind
    find = f"SELECT metric, variant FROM {table} WHERE {fixed} AND "
    at = db.execute(find + "metric>='' ORDER BY metric, variant LIMIT 1", values).fetchone()
    while at is not None:
        if fits(asked, *at):
            yield at
        at = db.execute(find + "metric=? AND variant>? ORDER BY variant LIMIT 1", (*values, *at)).fetchone() or \
            db.execute(find + "metric>? ORDER BY metric, variant LIMIT 1", (*values, at[0])).fetchone()


def count(db: sqlite3.Connection, owner: str, kind: str, asked: Wanted) -> int:
    """How many events of a kind."""
    table, fixed, values = _rows(owner, kind)
    if asked is None:
        return db.execute(f"SELECT count(*) FROM {table} WHERE {fixed}", values).fetchone()[0]
    return sum(db.execute(f"SELECT count(*) FROM {table} WHERE {fixed} AND metric=? AND variant=?",
                          (*values, *name)).fetchone()[0] for name in names(db, owner, kind, asked))


def _rows(owner: str, kind: str) -> tuple[str, str, list[str]]:
    """Where a kind's events stand: the table, the condition for a task's rows, its values."""
    if kind == SCALAR:
        return "scalars", "task=?", [owner]
    return "shapes", "task=? AND type=?", [owner, kind]
