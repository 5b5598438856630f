"""Long polls: clients that wait until something in the store may be worth a look (ours: queues.wait, tasks.wait)."""

from __future__ import annotations

import asyncio
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    Marks = Callable[[set[str]], Awaitable[dict[str, Any]]]

LOOK = 0.05  # how often the file that every waking change touches is looked at (s); any process may touch it
LOOK_AT_TASKS = 0.2  # how often the store is asked for the tasks that agents watch (s)
MOST = 60.0  # no poll lasts longer (s)


class Waiting:
    """All polls of one kind: `marks(keys)` is how what is waited on stands now, looked at each `every` seconds.

    `stop()` ends them, so that none delays the server's own end.
    """

    def __init__(self, marks: Marks, every: float) -> None:
        self._marks, self._every, self._stopped = marks, every, False
        # what each poll waits on, and the mark that it knows
        self._polls: dict[asyncio.Future[None], tuple[str, Any]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def until_changed(self, body: Any, key: str = "") -> None:
        """Until the mark of `key` is another than body's `mark`, or `seconds` are over."""
        if not isinstance(body, dict) or body.get("mark") is None or self._stopped:
            return
        seconds = body.get("seconds")
        limit = min(float(seconds) if isinstance(seconds, int | float) else 0.0, MOST)
        if not limit > 0 or (await self._marks({key})).get(key) != body["mark"]:
            return
        poll = asyncio.get_running_loop().create_future()
        self._polls[poll] = key, body["mark"]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait([poll], timeout=limit)
        finally:
            del self._polls[poll]

    async def _look(self) -> None:
        """Look for all of them, as long as there are any; when that fails, the calls themselves say why."""
        while self._polls:
            await asyncio.sleep(self._every)
            try:
                found = await self._marks({key for key, _ in self._polls.values()})
            except Exception:
                found = {}
            for poll, (key, known) in self._polls.items():
                if known != found.get(key) and not poll.done():
                    poll.set_result(None)

    def stop(self) -> None:
        """Answer all of them now, and at once from now on."""
        self._stopped = True
        for poll in self._polls:
            if not poll.done():
                poll.set_result(None)


def mark(path: str) -> int:
    """A number that differs after every change that a waiting pull should see."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
