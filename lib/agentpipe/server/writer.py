"""Changes of many clients in few commits: what waits while the disk writes goes together into the next commit.

A commit that is safe from a power cut costs the disk's time, not ours; so the more clients, the fewer per change.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from agentpipe.errors import ApiError, Failure
from agentpipe.server.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Change = Callable[[], Any]
    Waiting = tuple[Change, bool, Future[Any]]

MOST_TOGETHER = 64
# of changes that take long, as a batch of a thousand lines does, so many go into one commit with the others, which
# would wait for all of them
LONG_TOGETHER = 1
# about how many pages of the store a change writes
SHORT_PAGES, LONG_PAGES = 5, 40
# after so many the log of changes is brought into the store by another thread, since that takes the disk's time; the
# writer does it itself only when that one cannot keep up
TIDY_PAGES, MOST_PAGES = 800, 8192


class SharedStore(Store):
    """A store that can make several changes as one, each of which stands or falls alone."""

    def _open(self) -> sqlite3.Connection:
        db = super()._open()
        db.execute(f"PRAGMA wal_autocheckpoint={MOST_PAGES}")
        return db

    def tidy(self) -> None:
        """Bring what changes wrote into the store itself; nobody waits for it."""
        with contextlib.suppress(sqlite3.Error, Failure):
            self.connection().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def together(self, changes: list[Change], durable: bool) -> list[Any]:
        """What each of `changes` (endpoint calls) gives: its value, or the ApiError that undid it alone.

        Any other error undoes all of them and is raised.
        """
        def work(_: sqlite3.Connection) -> list[Any]:
            self._local.grouped = True
            try:
                return [_outcome(change) for change in changes]
            finally:
                self._local.grouped = False
        self._local.woken = False
        found = self.transaction(work, durable)
        if self._local.woken:
            super().wake()
        return found

    def wake(self) -> None:
        """As Store.wake, once the change can be seen."""
        if getattr(self._local, "grouped", False):
            self._local.woken = True
        else:
            super().wake()

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], Any]) -> Any:
        if not getattr(self._local, "grouped", False):
            return super()._run(begin, work)
        db = self.connection()
        if begin == "BEGIN":
            return work(db)
        db.execute("SAVEPOINT change")
        try:
            result = work(db)
        except BaseException:
            # after some errors (a full disk) SQLite has undone everything itself
            if db.in_transaction:
                db.execute("ROLLBACK TO change")
                db.execute("RELEASE change")
            raise
        db.execute("RELEASE change")
        return result


def _outcome(change: Change) -> Any:
    try:
        return change()
    except ApiError as error:
        return error


class Writer:
    """The one thread that changes a store; a change's Future is done when it is on the disk."""

    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self._waiting: queue.SimpleQueue[tuple[Change, bool, bool, Future[Any]] | None] = queue.SimpleQueue()
        self._short: deque[Waiting] = deque()
        self._long: deque[Waiting] = deque()
        self._pages = 0
        self._untidy, self._over = threading.Event(), False
        self._threads = [threading.Thread(target=self._work, name="writer", daemon=True),
                         threading.Thread(target=self._tidy, name="tidier", daemon=True)]
        for each in self._threads:
            each.start()

    def submit(self, change: Change, durable: bool, long: bool = False) -> Future[Any]:
        """Do `change` after all of its kind that were submitted before it; a `long` one lets others overtake.

        A Future that is cancelled before its turn came takes its change with it.
        """
        future: Future[Any] = Future()
        self._waiting.put((change, durable, long, future))
        return future

    def close(self) -> None:
        """Finish what was submitted."""
        self._waiting.put(None)
        self._threads[0].join()
        self._over = True
        self._untidy.set()
        self._threads[1].join()

    def _work(self) -> None:
        going = True
        while going or self._short or self._long:
            while going and not (self._waiting.empty() and (self._short or self._long)):
                going = self._sorted(self._waiting.get())
            group = [self._short.popleft() for _ in range(min(len(self._short), MOST_TOGETHER))]
            self._pages += SHORT_PAGES * len(group)
            long = [self._long.popleft() for _ in range(min(len(self._long), LONG_TOGETHER))]
            self._pages += LONG_PAGES * len(long)
            group = [each for each in group + long if each[2].set_running_or_notify_cancel()]
            if len(group) > 1:
                self._together(group)
            else:
                self._singly(group)
            if self._pages >= TIDY_PAGES:
                self._pages = 0
                self._untidy.set()
        self.store.close()

    def _tidy(self) -> None:
        while self._untidy.wait() and not self._over:
            self._untidy.clear()
            self.store.tidy()
        self.store.close()

    def _sorted(self, waiting: tuple[Change, bool, bool, Future[Any]] | None) -> bool:
        """Put a change behind its like; whether more will come."""
        if waiting is None:
            return False
        change, durable, long, future = waiting
        (self._long if long else self._short).append((change, durable, future))
        return True

    def _together(self, group: list[Waiting]) -> None:
        try:
            found = self.store.together([change for change, _, _ in group], any(durable for _, durable, _ in group))
        except Exception:
            # one of them cannot be done: only it shall fail
            self._singly(group)
            return
        for (_, _, future), value in zip(group, found, strict=True):
            if isinstance(value, ApiError):
                future.set_exception(value)
            else:
                future.set_result(value)

    def _singly(self, group: list[Waiting]) -> None:
        for change, _, future in group:
            try:
                future.set_result(change())
            except Exception as error:
                future.set_exception(error)
