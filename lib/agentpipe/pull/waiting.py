"""A pull that stays: how it waits for news, for the end of an outage, and for nobody once its owner is gone."""

from __future__ import annotations

import math
import os
import time

from agentpipe import errors, processes, stdio, units
from agentpipe.claim import claims, homes, uptime
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.pull.schedule import Schedule

# how often it looks at the embedded store's change counter (s); a server's transport says it of itself
LOOK = 0.05
LONGEST = 60.0  # after so long it asks its queues also when nothing seems to have changed
NOT_NOW = 5.0  # how long it pauses when this node may not work
OUTAGE = (1.0, 30.0)  # the pauses while the server is away
TOLD_S = 10.0  # away for so long, it is said: not of each restart
KEEP_S = 3600.0  # how often it says that this home is in use
LEFT_OPEN = 60.0  # how often it looks after what an outage left open
LEFT_BEHIND = (20.0, 600.0)  # and for what nobody on this node holds any more: at first, and while there is something
LOOK_BEHIND = "AGENT_PULL_LOOKS_BEHIND"  # the pause that one which begins anew hands on, in seconds


class BeginAnew(Exception):
    """An attempt on this node is held by nobody: a new pull looks after it before it waits.

    `again_s`: when that is to look again: what recovery cannot finish now it is not asked about all the time.
    """

    def __init__(self, again_s: float) -> None:
        super().__init__()
        self.again_s = again_s


def left_behind() -> set[str]:
    """The claims in `active/` that nobody on this node holds."""
    if not claims.any_active():
        return set()
    from agentpipe.claim import holders
    return holders.left_behind()


class Waiting:
    """It keeps the worker registered, and ends with process `owner`. Open to signals while it waits."""

    def __init__(self, api: Any, worker: str, queues: list[str], owner: int | None,
                 schedule: Schedule | None = None, recovers: bool = True) -> None:
        self._schedule = schedule  # whose changes end a wait too
        self._api, self._worker, self._queues = api, worker, queues
        self._owned = owner is not None
        self._keeper = processes.identity(owner) if owner else None
        self._reporter: Any = None
        self._mark: Any = None
        self._pause = OUTAGE[0]
        self._answered = time.monotonic()  # when the server last did
        self._told = False  # whether it was said that it is away
        self._keep_at = 0.0  # when to say again that this home is in use
        self._look_after: float | None = None  # when to look after what was left open
        self._behind_s = float(os.environ.pop(LOOK_BEHIND, LEFT_BEHIND[0])) if recovers else math.inf
        self._look_behind = time.monotonic() + self._behind_s

    def note(self) -> None:
        """Before the queues are asked: what changes from now on is news."""
        if self._mark is None:
            self._mark = self._api.changed(None)

    def look(self, allowed: bool) -> bool:
        """Wait until something may have changed (not `allowed`: a while); False when nobody needs it any more.

        BeginAnew when something was left behind here.
        """
        self._reporter = self._reporter or self._registered()
        if time.monotonic() >= self._keep_at:
            self._keep_at = time.monotonic() + KEEP_S
            homes.keep()
        if self._look_after is not None and time.monotonic() >= self._look_after:
            from agentpipe.claim import intents
            self._look_after = time.monotonic() + LEFT_OPEN if intents.recover_all(self._api) else None
        if time.monotonic() >= self._look_behind:
            if left_behind():
                raise BeginAnew(min(2 * self._behind_s, LEFT_BEHIND[1]))
            self._behind_s = LEFT_BEHIND[0]
            self._look_behind = time.monotonic() + self._behind_s
        if not allowed:
            return self._sleep(NOT_NOW)
        change = self._schedule.next_change() if self._schedule else None
        until = time.monotonic() + (LONGEST if change is None else min(change + 0.1, LONGEST))
        until = min(until, self._look_behind)
        with SIGNALS.open():
            while time.monotonic() < until:
                before, self._mark = self._mark, self._api.changed(self._mark)
                self._answered = time.monotonic()
                if self._mark != before:
                    break
                if not self._sleep(LOOK if self._api.embedded else self._api.look_s):
                    return False
        return self._sleep(0)

    def outage(self, error: errors.ApiError | errors.Failure) -> bool:
        """Let a while pass, longer each time. It is said once, and so is its end: a journal has nothing else of it."""
        import random
        self._mark = None
        if not self._told and time.monotonic() - self._answered >= TOLD_S:
            self._told = True
            reason = error.reason if isinstance(error, errors.Failure) else errors.refused(error).reason
            stdio.say(f"agent-pull: {reason}; waiting for the server")
        pause, self._pause = self._pause * random.uniform(0.5, 1.5), min(2 * self._pause, OUTAGE[1])
        return self._sleep(pause)

    def heard(self) -> None:
        """The server has answered: an outage is over."""
        self._pause, now = OUTAGE[0], time.monotonic()
        if self._told:
            stdio.say(f"agent-pull: the server answers again, after {units.duration(now - self._answered)}")
        self._answered, self._told = now, False

    def left_open(self) -> None:
        """A request may have been carried out though nobody answered: look after it as soon as the server is back."""
        self._look_after = time.monotonic()

    def serves(self) -> None:
        """A task came at once: say which queues the worker serves all the same; on a busy one it never waits."""
        if self._reporter is None:
            try:
                self._api.once().call("workers.register", {"worker": self._worker, "queues": self._queues})
            except (errors.ApiError, errors.Failure):
                pass  # the task counts

    def stop(self, unregister: bool) -> None:
        """No longer registered by us."""
        uptime.note()
        if self._reporter:
            self._reporter.stop(unregister=unregister)

    def _registered(self) -> Any:
        from agentpipe.report.reporter import Reporter
        reporter = Reporter(self._api, self._worker, self._queues)
        reporter.start()
        return reporter

    def _sleep(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        with SIGNALS.open():
            while True:
                if self._owned and not (self._keeper and processes.alive(self._keeper)):
                    return False
                left = until - time.monotonic()
                if left <= 0:
                    return True
                time.sleep(min(left, 1.0))
