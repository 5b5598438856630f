"""A thread that agent-server tells when a running task has changed, so that a user's stop is seen at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentpipe import errors
from agentpipe.transport.http_api import TASK_POLL_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MISSING = 404
REST_S = 30.0  # after a call that failed


class LongPoll:
    """Long polls of one task (tasks.wait); `news()` is called in the thread after each change.

    It begins at once, ends at the first call that fails and then calls `news` once more: who relied on it has to look
    by itself. `settled` once it knows the mark from which on nothing is missed.
    """

    def __init__(self, api: Any, task: str, news: Callable[[], None]) -> None:
        self.settled = False
        self._api, self._task, self._news = api, task, news
        self._left = self._unknown = False
        self._ended: float | None = None
        threading.Thread(target=self._run, name="long-poll", daemon=True).start()

    def is_over(self) -> bool:
        """Whether another one may do better: not so soon, nor with an agent-server that does not know this call."""
        return self._ended is not None and not self._unknown and time.monotonic() - self._ended > REST_S

    def leave(self) -> None:
        """No more news; a call that waits is left to its end."""
        self._left = True

    def _run(self) -> None:
        mark: str | None = None
        while not self._left:
            try:
                found = self._api.call("tasks.wait", {"task": self._task, "mark": mark, "seconds": TASK_POLL_S})["mark"]
            except (errors.ApiError, errors.Failure) as error:
                self._unknown = isinstance(error, errors.ApiError) and error.code == MISSING
                self._ended, self.settled = time.monotonic(), False
                self._news()
                return
            changed, mark, self.settled = found != mark, found, True
            if changed and not self._left:
                self._news()
