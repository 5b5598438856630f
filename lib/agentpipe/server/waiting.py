"""Long polls: clients that wait until something in the store may be worth a look (ours: queues.wait)."""

from __future__ import annotations

import asyncio
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOOK = 0.05  # how often the file that every waking change touches is looked at (s); any process may touch it
MOST = 60.0  # no poll lasts longer (s)


class Waiting:
    """All polls of one server. `stop()` ends them, so that none delays the server's own end."""

    def __init__(self, path: str) -> None:
        self._path, self._stopped = path, False
        # what each poll waits on, and the mark that it knows
        self._polls: dict[asyncio.Future[None], int] = {}
        self._looking: asyncio.Task[None] | None = None

    async def until_changed(self, body: Any) -> None:
        """Until the mark is another than body's `mark`, or `seconds` are over."""
        if not isinstance(body, dict) or not isinstance(body.get("mark"), int) or self._stopped:
            return
        seconds = body.get("seconds")
        limit = min(float(seconds) if isinstance(seconds, int | float) else 0.0, MOST)
        if mark(self._path) != body["mark"] or not limit > 0:
            return
        poll = asyncio.get_running_loop().create_future()
        self._polls[poll] = body["mark"]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait([poll], timeout=limit)
        finally:
            del self._polls[poll]

    async def _look(self) -> None:
        """Look at the file for all of them, as long as there are any."""
        while self._polls:
            await asyncio.sleep(LOOK)
            found = mark(self._path)
            for poll, known in self._polls.items():
                if known != found and not poll.done():
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
