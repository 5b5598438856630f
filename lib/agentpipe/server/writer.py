"""Changes of many clients in few commits: what waits while the disk writes goes together into the next commit.

A commit that is safe from a power cut costs the disk's time, not ours; so the more clients, the fewer per change.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from agentpipe.errors import ApiError
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


class SharedStore(Store):
    """A store that can make several changes as one, each of which stands or falls alone."""

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
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change, durable: bool, long: bool = False) -> Future[Any]:
        """Do `change` after all of its kind that were submitted before it; a `long` one lets others overtake."""
        future: Future[Any] = Future()
        self._waiting.put((change, durable, long, future))
        return future

    def close(self) -> None:
        """Finish what was submitted."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going or self._short or self._long:
            while going and not (self._waiting.empty() and (self._short or self._long)):
                going = self._sorted(self._waiting.get())
            group = [self._short.popleft() for _ in range(min(len(self._short), MOST_TOGETHER))]
            group += [self._long.popleft() for _ in range(min(len(self._long), LONG_TOGETHER))]
            if len(group) > 1:
                self._together(group)
            else:
                self._singly(group)
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
