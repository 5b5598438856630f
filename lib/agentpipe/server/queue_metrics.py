"""queues.get_queue_metrics: how long queues were, and how long what stood in them had waited (server.md §7)."""

from __future__ import annotations

import sqlite3
import time

from agentpipe.server import entries
from agentpipe.server.common import stamp
from agentpipe.server.endpoints import LAZY, Request, Texts, endpoint
from agentpipe.server.worker_stats import KEPT_SECONDS, SPAN, span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# a queue that does not change is looked at so often nevertheless (s)
EACH_SECONDS = 300
MILLISECONDS = 1000


def sample(db: sqlite3.Connection, everything: bool = False) -> int:
    """Note the lengths of queues that changed since they were noted last, or of all; how many those were."""
    at = time.time_ns() // 1_000_000
    rows = db.execute("SELECT id, last_update, (SELECT max(at) FROM lengths WHERE queue=id) FROM queues").fetchall()
    due = [id for id, changed, noted in rows
           if everything or (noted or 0) < at - EACH_SECONDS * MILLISECONDS or (changed or "") > stamp(noted)]
    for id in due:
        length, waited = db.execute(
            "SELECT count(*), coalesce(avg(julianday(?) - julianday(added)), 0) FROM entries WHERE queue=?",
            (stamp(at), id)).fetchone()
        db.execute("INSERT OR REPLACE INTO lengths VALUES (?, ?, ?, ?)", (id, at, length, max(0.0, waited * 86400)))
    return len(due)


def forget_old(db: sqlite3.Connection) -> None:
    """Drop what is older than two weeks, or of a queue that is gone."""
    db.execute("DELETE FROM lengths WHERE at<? OR queue NOT IN (SELECT id FROM queues)",
               (int((time.time() - KEPT_SECONDS) * MILLISECONDS),))


@endpoint("queues.get_queue_metrics", LAZY, SPAN, queue_ids=Texts, refresh=bool)
def get_queue_metrics(request: Request) -> dict[str, Any]:
    """Lengths and waiting times a bucket, of each queue or of all together ("total").

    {queues: [{queue, dates, avg_waiting_times (s), queue_lengths}]}. Between two looks a queue stays as it was.
    """
    begin, end, width = span(request, 1)
    asked = request.get("queue_ids")
    for id in asked or ():
        entries.queue(request.db, id)
    if request.get("refresh"):
        sample(request.db, True)
    ids = asked or [row[0] for row in request.db.execute("SELECT id FROM queues ORDER BY seq")]
    dates = list(range(begin, end, width))
    series = {id: _series(request.db, id, dates, width) for id in ids}
    if not asked:
        total = [(sum(each[at][0] for each in series.values()),
                  sum(each[at][0] * each[at][1] for each in series.values())) for at in range(len(dates))]
        series = {"total": [(length, waited / length if length else 0.0) for length, waited in total]}
    return {"queues": [{"queue": id, "dates": dates, "queue_lengths": [length for length, _ in found],
                        "avg_waiting_times": [waited for _, waited in found]} for id, found in series.items()]}


def _series(db: sqlite3.Connection, queue: str, dates: list[int], width: int) -> list[tuple[int, float]]:
    """(greatest length, mean waiting time) of one queue a bucket."""
    if not dates:
        return []
    last = db.execute("SELECT length, waited FROM lengths WHERE queue=? AND at<? ORDER BY at DESC LIMIT 1",
                      (queue, dates[0])).fetchone() or (0, 0.0)
    rows = db.execute("SELECT at, length, waited FROM lengths WHERE queue=? AND at>=? AND at<? ORDER BY at",
                      (queue, dates[0], dates[-1] + width)).fetchall()
    found, at = [], 0
    for date in dates:
        inside = []
        while at < len(rows) and rows[at][0] < date + width:
            inside.append(rows[at][1:])
            at += 1
        if inside:
            last = inside[-1]
            found.append((max(length for length, _ in inside), sum(waited for _, waited in inside) / len(inside)))
        else:
            found.append(last)
    return found
