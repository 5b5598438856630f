"""What a server does by itself: stops tasks that fell silent, looks at queues, removes files whose tasks are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentpipe import stdio
from agentpipe.server import documents, queue_metrics, status, worker_stats
from agentpipe.server.common import stamp
from agentpipe.server.endpoints import Request
from agentpipe.server.files import Files
from agentpipe.server.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from typing import Any

    # how a change is made: one after the other, as all of a server's are
    Submit = Callable[[Callable[[], Any], bool], Any]

# a task without a sign of life for so long is stopped (s); 0: never. As ClearML's server
SILENT_SECONDS = 7200
# how often silent tasks are looked for, at most (s), and how long before the first time: others were away too
WATCH_SECONDS = 900
QUEUES_SECONDS = 30
FORGET_SECONDS = 3600
# who deletes a task (the clearml package) may want to remove its files itself, and must find them (s)
SPARED_SECONDS = 300
BY_ITSELF = "__apiserver__"
REASON = "Forced stop (non-responsive)"
AT_ONCE = 1000


class Schedule:
    """Which of several jobs are due, each of them every so many seconds; the first time after that many."""

    def __init__(self, every: list[float], monotonic: float, clock: float) -> None:
        self._every = every
        self._start(monotonic, clock)

    def _start(self, monotonic: float, clock: float) -> None:
        self._due = [monotonic + every for every in self._every]
        self._offset = clock - monotonic

    def next(self) -> float:
        """When something will be due."""
        return min(self._due)

    def due(self, monotonic: float, clock: float) -> list[int]:
        """What is to be done now.

        After the machine slept, or its clock was set, everybody's last sign of life looks old: all begins anew.
        """
        if abs(clock - monotonic - self._offset) > QUEUES_SECONDS:
            self._start(monotonic, clock)
            return []
        found = [number for number, at in enumerate(self._due) if at <= monotonic]
        for number in found:
            self._due[number] = monotonic + self._every[number]
        return found


class Housekeeper:
    """A thread that does all of it, until `close`."""

    def __init__(self, store: Store, files: Files, submit: Submit, silent: float = SILENT_SECONDS,
                 spared: float = SPARED_SECONDS) -> None:
        self.store, self.files, self._submit = store, files, submit
        self._silent, self._spared = silent, spared
        watch = min(WATCH_SECONDS, max(0.1, silent / 4))
        self._jobs: list[tuple[float, Callable[[], object]]] = [
            (QUEUES_SECONDS, self._look_at_queues), (min(QUEUES_SECONDS, max(0.1, spared)), self._remove_files),
            (FORGET_SECONDS, self._forget)]
        if silent:
            self._jobs.append((watch, self._stop_silent))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what is being done is finished."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        schedule = Schedule([every for every, _ in self._jobs], time.monotonic(), time.time())
        while not self._over.wait(max(0.0, schedule.next() - time.monotonic())):
            for number in schedule.due(time.monotonic(), time.time()):
                self._do(self._jobs[number][1])
        self.store.close()

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as problem:
            # the next time may be better: a full disk, say
            stdio.say(f"agent-server: housekeeping: {problem}")

    def _change(self, work: Callable[[sqlite3.Connection], Any], durable: bool = False) -> Any:
        return self._submit(lambda: self.store.transaction(work, durable), durable).result()

    def _look_at_queues(self) -> None:
        self._change(queue_metrics.sample)

    def _forget(self) -> None:
        self._change(worker_stats.forget_old)
        self._change(queue_metrics.forget_old)

    def _stop_silent(self) -> None:
        stopped = self._change(lambda db: stop_silent(self.store, db, self._silent), True)
        for id in stopped:
            stdio.say(f"agent-server: task {id} gave no sign of life for {self._silent:g} s: stopped")

    def _remove_files(self) -> None:
        limit = int((time.time() - self._spared) * 1000)
        while not self._over.is_set():
            rows = self.store.read(lambda db: db.execute("SELECT path, at FROM doomed WHERE at<=? LIMIT ?",
                                                         (limit, AT_ONCE)).fetchall())
            if not rows:
                return
            for path, at in rows:
                self.files.discard(path, at / 1000)
            self._change(lambda db, rows=rows: _done(db, rows))  # type: ignore[misc]


def _done(db: sqlite3.Connection, rows: Iterable[tuple[str, int]]) -> None:
    db.executemany("DELETE FROM doomed WHERE path=? AND at=?", rows)


def stop_silent(store: Store, db: sqlite3.Connection, seconds: float) -> list[str]:
    """Stop the running tasks without a sign of life for so long; which they were."""
    limit = stamp(int((time.time() - seconds) * 1000))
    rows = db.execute("SELECT id FROM tasks WHERE status='in_progress' AND last_update<?", (limit,)).fetchall()
    request = Request(store, {"user": BY_ITSELF}, {})
    request.db = db
    for (id,) in rows:
        status.change(request, documents.load(db, id), "stopped", reason=REASON, message=REASON)
    return [id for (id,) in rows]
