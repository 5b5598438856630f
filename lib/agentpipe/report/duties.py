"""The task that a reporter watches: its log, its metrics, its sign of life, and whether it is still ours to run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from agentpipe import files, paths
from agentpipe.claim import attempt
from agentpipe.report.abort import Abort, Judge
from agentpipe.report.long_poll import LongPoll
from agentpipe.report.shipping import Shipper
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.report.reporter import Reporter

STATUS_POLL_S = 3.0  # a stop is seen at the latest after so long
FIRST_POLL_S = 1.0  # of agent-server, which then tells by itself (long_poll.py): a shorter task does not ask it to
LOOKED_OUT_S = 60.0  # how often it is asked all the same
STORE_POLL_S = 0.5  # of the embedded store's change mark, which costs nothing
FIRST_METRICS_S, METRICS_S = 3.0, 30.0
SHIP_SOON_S, SHIP_LATE_S = 0.2, 0.4
SHIP_AT_ONCE = 8 << 20  # bytes, before the other duties get their turn


class Duty:
    """Something that the thread does again and again: every `every` seconds, next at `at` (monotonic)."""

    __slots__ = ("at", "every", "work")

    def __init__(self, work: Callable[[], None], every: float, after: float = 0.0) -> None:
        self.work, self.every, self.at = work, every, time.monotonic() + after

    def later(self, seconds: float) -> None:
        """Not before that many seconds from now."""
        self.at = max(self.at, time.monotonic() + seconds)


class Watched:
    """What reporter `by` has to do again and again for one task (`duties`), and how far that is.

    `queue` is where it came from; `pids` gives the processes of its script. on_abort(Abort) is called in the
    reporter's thread, once for each kind, until leave().
    """

    def __init__(self, by: Reporter, task: str, directory: str, judge: Judge, on_abort: Callable[[Abort], None],
                 queue: str | None, pids: Callable[[], Iterable[int]] | None, shipper: Shipper) -> None:
        self.task, self.directory, self.queue, self.shipper = task, directory, queue, shipper
        self.told_away = False  # whether its log says that the server is away
        self.told_refused = False  # whether standard error says that it does not accept us
        self._by, self._judge, self._on_abort, self._pids = by, judge, on_abort, pids
        self._mark: Any = None  # of the embedded store, when it was looked at
        self._described = self._of_the_sdk = self._left = self._kept = False
        self._long_poll: LongPoll | None = None
        self._told: set[str] = set()
        self._since = time.monotonic() - max(0.0, time.time() - _begun_at(directory))  # a clock may jump from now on
        self._shipping = Duty(self._ship, SHIP_SOON_S)
        if by.embedded:
            self._poller = Duty(self._poll, STORE_POLL_S)
        else:
            self._poller = Duty(self._poll_afar, STATUS_POLL_S, FIRST_POLL_S if by.ours else STATUS_POLL_S)
        self.duties = [self._shipping, self._poller, Duty(self._metrics, METRICS_S, FIRST_METRICS_S)]
        ping = config.number(*config.TASK_PING)
        if ping > 0:
            self.duties.append(Duty(self._ping, ping, ping))  # its start was a sign of life

    def leave(self) -> None:
        """It is no longer ours to report."""
        self._left = True
        self.shipper.leave()
        if self._long_poll:
            self._long_poll.leave()

    def _ping(self) -> None:
        self._by.api.call("tasks.ping", {"task": self.task})

    def _ship(self) -> None:
        """Send what has grown; look again soon while it grows, later when it rests."""
        sent = self.shipper.ship(SHIP_AT_ONCE)
        if not self._kept and attempt.pid_record(self.directory):
            self._keep()
        self._shipping.every = SHIP_SOON_S if sent else min(self._shipping.every * 1.5, SHIP_LATE_S)
        self._shipping.at = time.monotonic() + (0 if sent >= SHIP_AT_ONCE else self._shipping.every)

    def _keep(self) -> None:
        """That its script has started is on the disk from now on: after a power failure it is not run a second time."""
        from agentpipe.claim import claims
        self._kept = True
        # of a container the word stands in its box, which is the same directory elsewhere
        box = paths.box(self.directory)
        for path in dict.fromkeys((box, self.directory, os.path.dirname(self.directory), claims.active())):
            try:
                files.sync_directory(path)
            except OSError:  # deleted by its script
                pass

    def _metrics(self) -> None:
        """What the machine and the script do; of a script with the `clearml` package it reports the same by itself."""
        from agentpipe.claim import runtime
        from agentpipe.report import metrics
        if self._of_the_sdk:
            return
        started = attempt.pid_record(self.directory)
        if started and runtime.OF_THE_SDK in runtime.read(self._by.api, self.task):
            # by iterations: ours, by seconds, would make a zigzag of its curves
            self._of_the_sdk = True
            return
        stats, sampler = self._by.sample()
        if not self._described and self._by.ours and started:
            self._describe(sampler)
        values = metrics.scalars(stats, sampler.gpus())
        if self._pids:
            values += sampler.processes(self._pids())
        now = time.time_ns() // 1_000_000
        iteration = int(time.monotonic() - self._since)
        self._by.api.call("events.add_batch", [
            {"type": "training_stats_scalar", "task": self.task, "worker": self._by.worker, "metric": metric,
             "variant": variant, "value": value, "iter": iteration, "timestamp": now}
            for metric, variant, value in values])

    def _describe(self, sampler: Any) -> None:
        """What machine it runs on, unless the script tells that itself; for others' servers at the end (finish.py)."""
        self._described = True
        values = sampler.machine(attempt.read_manifest(self.directory) or {})
        self._by.api.call("tasks.edit_runtime", {"task": self.task, "add_or_update": values})

    def _poll_afar(self) -> None:
        """The same over HTTP; agent-server is asked to say when there is something to see."""
        def news() -> None:
            self._poller.at = 0.0
            self._by.wake()

        if self._by.ours and self._long_poll is None:
            self._long_poll = LongPoll(self._by.api, self.task, news)  # whose first word is that we should look
            return
        # before we look: what changes meanwhile makes it due again
        self._poller.every = LOOKED_OUT_S if self._long_poll and self._long_poll.settled else STATUS_POLL_S
        self._poller.at = time.monotonic() + self._poller.every
        self._poll()
        if self._judge.resets:  # a reset counts when it stays
            self._poller.at = min(self._poller.at, time.monotonic() + STATUS_POLL_S)
        if self._long_poll and self._long_poll.is_over():
            self._long_poll = LongPoll(self._by.api, self.task, news)

    def _poll(self) -> None:
        """Look whether the task is still ours to run."""
        mark = None
        if self._by.embedded:
            mark = self._by.api.changed(self._mark)
            if mark == self._mark and not self._judge.resets:
                return
        tasks = self._by.api.call("tasks.get_all", {
            "id": [self.task], "search_hidden": True,
            "only_fields": ["status", "status_message", "runtime"]})["tasks"]
        self._mark = mark
        abort = self._judge.verdict(tasks[0] if tasks else None)
        if abort and abort.kind not in self._told and not self._left:
            self._told.add(abort.kind)
            self._on_abort(abort)


def _begun_at(directory: str) -> float:
    """When the attempt began: its lock is made first and never written."""
    try:
        return os.stat(os.path.join(directory, "lock")).st_mtime
    except OSError:
        return time.time()
