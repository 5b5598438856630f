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

    async def until_changed(self, body: Any) -> None:
        """Until the mark is another than body's `mark`, or `seconds` are over."""
        if not isinstance(body, dict) or not isinstance(body.get("mark"), int):
            return
        seconds = body.get("seconds")
        loop = asyncio.get_running_loop()
        end = loop.time() + min(float(seconds) if isinstance(seconds, int | float) else 0.0, MOST)
        while not self._stopped and mark(self._path) == body["mark"] and loop.time() < end:
            await asyncio.sleep(LOOK)

    def stop(self) -> None:
        """Answer all of them now, and at once from now on."""
        self._stopped = True


def mark(path: str) -> int:
    """A number that differs after every change that a waiting pull should see."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
