"""The reporting thread of the process that works on a task: worker status, ping, log, metrics, abort.

    reporter = Reporter(api, worker, queues)
    reporter.start()                                    # the worker is registered, idle
    reporter.watch(task, directory, claim, on_abort)    # … and at work on this task
    reporter.flush(5.0); reporter.unwatch(); reporter.stop()
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from agentpipe import attempt, config, errors
from agentpipe.abort import Abort, Judge
from agentpipe.shipping import Shipper, is_outage, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_REPORT_S = 3.0
STATUS_POLL_S = 3.0  # a stop is seen at the latest after so long
STORE_POLL_S = 0.5  # of the embedded store's change mark, which costs nothing
METRICS_S = 30.0
SHIP_SOON_S, SHIP_LATE_S = 0.2, 0.4
SHIP_AT_ONCE = 8 << 20  # bytes, before the other duties get their turn
BACK_OFF_S = (1.0, 30.0)
REFUSED_S = 30.0


class Duty:
    """Something that the thread does again and again: every `every` seconds, next at `at` (monotonic)."""

    __slots__ = ("at", "every", "work")

    def __init__(self, work: Callable[[], None], every: float, after: float = 0.0) -> None:
        self.work, self.every, self.at = work, every, time.monotonic() + after

    def later(self, seconds: float) -> None:
        """Not before that many seconds from now."""
        self.at = max(self.at, time.monotonic() + seconds)


class Watched:
    """The task that is being reported, and how far that is."""

    def __init__(self, task: str, directory: str, judge: Judge, on_abort: Callable[[Abort], None],
                 queue: str | None, pids: Callable[[], Iterable[int]] | None, shipper: Shipper) -> None:
        self.task, self.directory, self.judge, self.on_abort = task, directory, judge, on_abort
        self.queue, self.pids, self.shipper = queue, pids, shipper
        self.duties: list[Duty] = []
        self.mark: Any = None
        self.told_away = self.described = False
        self.told: set[str] = set()
        self.since = _begin(directory)


class Reporter:
    """One thread that keeps a worker registered and reports the task that it works on, if any.

    Nothing that the server does or does not do ends it or is raised here: what fails is done again later.
    """

    def __init__(self, api: Any, worker: str, queues: Sequence[str],
                 secrets: Iterable[str | bytes] = ()) -> None:
        self.worker, self.queues = worker, list(queues)
        self._api, self._secrets = api.once(), tuple(secrets)  # it tries again by itself
        self._embedded = bool(getattr(api, "embedded", False))
        self._ours = bool(getattr(api, "ours", False))
        self._wakened = threading.Condition()
        self._working = threading.Lock()  # held by the thread while it does something
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._changed = False  # the worker has got or left a task: say so at once
        self._watched: Watched | None = None
        self._sampler: Any = None
        self._flushes = self._flushed = 0
        self._away: float | None = None  # since when the server does not answer
        self._retry_at = 0.0
        self._pause = BACK_OFF_S[0]
        every = _seconds("agent.worker_status_report_sec", 30, "CLEARML_AGENT_STATUS_REPORT_FREQ_SEC")
        self._duties = [Duty(self._register, float("inf")), Duty(self._report, every, FIRST_REPORT_S)]

    def start(self) -> None:
        """Register the worker and begin to report; returns at once."""
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        self._thread.start()

    def watch(self, task: str, directory: str, claim: str, on_abort: Callable[[Abort], None],
              pids: Callable[[], Iterable[int]] | None = None, queue: str | None = None, follows: bool = False,
              prefix: str = "") -> None:
        """From now on report this task: its log files, its metrics; on_abort(Abort) is called in the thread.

        `pids` gives the processes of the script, for its share of memory and CPU; `queue` is where it came
        from (default: the worker's only queue). With `follows` the task carries another's claim; `prefix` begins
        each line of its log.
        """
        shipper = Shipper(self._api, task, claim, directory, self.worker, self._secrets, prefix)
        queue = queue or (self.queues[0] if len(self.queues) == 1 else None)
        watched = Watched(task, directory, Judge(None if follows else claim), on_abort, queue, pids, shipper)
        ship = Duty(lambda: self._ship(watched, ship), SHIP_SOON_S)
        poll_s = STORE_POLL_S if self._embedded else STATUS_POLL_S
        watched.duties = [ship, Duty(lambda: self._poll(watched), poll_s),
                          Duty(lambda: self._metrics(watched), METRICS_S, FIRST_REPORT_S)]
        ping = _seconds("agent.task_ping_interval_sec", 60)
        if ping > 0:
            watched.duties.append(Duty(lambda: self._ping(watched), ping))
        self._watched = watched
        self._task_changed()

    def unwatch(self) -> None:
        """The task is no longer ours to report, the worker is idle. Waits up to 10 s for a call under way.

        What was not acknowledged is for finish() or the next stage. Until this returns on_abort may still be
        called.
        """
        watched, self._watched = self._watched, None
        self._settle(watched)
        self._task_changed()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all whole lines that stand in the logs now are acknowledged; False when time is up."""
        until = time.monotonic() + timeout_s
        with self._wakened:
            self._flushes += 1
            wanted = self._flushes
            self._wakened.notify_all()
            while self._flushed < wanted:
                left = until - time.monotonic()
                if left <= 0 or self._stopping or self._thread is None:
                    return False
                self._wakened.wait(left)
        return True

    def stop(self, unregister: bool = False) -> None:
        """End the thread (waits up to 10 s for a call under way); `unregister`: no successor follows."""
        with self._wakened:
            self._stopping = True
            self._wakened.notify_all()
        watched, self._watched = self._watched, None
        self._settle(watched)
        if unregister:
            try:
                self._api.call("workers.unregister", {"worker": self.worker})
            except (errors.ApiError, errors.Failure):
                pass  # it vanishes by itself after its time-out

    def _settle(self, watched: Watched | None) -> None:
        """Wait until the thread has let go of `watched`."""
        if threading.current_thread() is self._thread:
            return
        if self._working.acquire(timeout=10):
            if watched:
                watched.shipper.close()
            self._working.release()

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._wakened:
                if not (self._changed or self._flushes > self._flushed or self._stopping):
                    self._wakened.wait(self._next_in())
                if self._stopping:
                    return
                changed, self._changed = self._changed, False
                flushes = self._flushes
            with self._working:
                watched = self._watched
                if changed:
                    self._attempt(lambda: self._report(stats=False))
                if flushes > self._flushed:
                    self._flush(watched, flushes)
                if time.monotonic() >= self._retry_at:
                    self._do([*self._duties, *(watched.duties if watched else ())])

    def _next_in(self) -> float:
        """Seconds until something is to be done."""
        watched = self._watched
        due = min(duty.at for duty in [*self._duties, *(watched.duties if watched else ())])
        return min(max(max(due, self._retry_at) - time.monotonic(), 0.0), threading.TIMEOUT_MAX)

    def _do(self, duties: list[Duty]) -> None:
        for duty in duties:
            now = time.monotonic()
            if duty.at > now or self._stopping:
                continue
            duty.at = now + duty.every
            if not self._attempt(duty.work, duty):
                break

    def _attempt(self, work: Callable[[], None], duty: Duty | None = None) -> bool:
        """Do it; False when the server is away (again at _retry_at)."""
        try:
            work()
        except (errors.ApiError, errors.Failure) as error:
            if is_outage(error):
                self._is_away(error)
                if duty:
                    duty.at = self._retry_at
                return False
            if duty:
                duty.later(REFUSED_S)  # refused for good: asking again at once would change nothing
        except Exception as error:
            # a bug of ours must not leave a task unreported
            print(f"agent-report: {type(error).__name__}: {error}", file=sys.stderr)
            if duty:
                duty.later(REFUSED_S)
        self._is_back()
        return True

    def _is_away(self, error: Exception) -> None:
        now = time.monotonic()
        watched = self._watched
        if self._away is None:
            self._away = now  # one call that fails is no outage yet
        elif watched and not watched.told_away:
            watched.told_away = True
            say(watched.directory, f"the server is away ({error}): what is printed meanwhile waits here")
        self._retry_at = now + self._pause * (0.5 + now * 1e3 % 1.0)  # jitter, without the cost of `random`
        self._pause = min(2 * self._pause, BACK_OFF_S[1])

    def _is_back(self) -> None:
        self._pause, self._retry_at = BACK_OFF_S[0], 0.0
        watched = self._watched
        if self._away is not None and watched and watched.told_away:
            watched.told_away = False
            say(watched.directory, f"the server is back after {time.monotonic() - self._away:.0f} s")
        self._away = None

    def _task_changed(self) -> None:
        with self._wakened:
            self._changed = True
            self._wakened.notify_all()

    # --- its duties

    def _register(self) -> None:
        self._api.call("workers.register", {"worker": self.worker, "queues": self.queues})

    def _report(self, stats: bool = True) -> None:
        watched = self._watched
        body: dict[str, Any] = {"worker": self.worker, "timestamp": time.time_ns() // 1_000_000,
                                "is_daemon": True, "queues": self.queues, "tags": None,
                                "machine_stats": self._sample()[0] if stats else None}
        if watched:
            tags = os.environ.get("CLEARML_WORKER_TAGS", "").replace(",", " ").split()
            body |= {"task": watched.task, "queue": watched.queue, "tags": tags or None}
        self._api.call("workers.status_report", body)

    def _sample(self) -> tuple[dict[str, Any], Any]:
        if self._sampler is None:
            from agentpipe import metrics
            self._sampler = metrics.Sampler(config.get("agent.resource_monitoring.disk_use_path"))
        return self._sampler.sample(), self._sampler

    def _ping(self, watched: Watched) -> None:
        self._api.call("tasks.ping", {"task": watched.task})

    def _ship(self, watched: Watched, duty: Duty) -> None:
        """Send what has grown; look again soon while it grows, later when it rests."""
        sent = watched.shipper.ship(SHIP_AT_ONCE)
        duty.every = SHIP_SOON_S if sent else min(duty.every * 1.5, SHIP_LATE_S)
        duty.at = time.monotonic() + (0 if sent >= SHIP_AT_ONCE else duty.every)

    def _flush(self, watched: Watched | None, wanted: int) -> None:
        def everything() -> None:
            while watched and watched.shipper.ship(SHIP_AT_ONCE) >= SHIP_AT_ONCE:
                pass
            with self._wakened:
                self._flushed = wanted
                self._wakened.notify_all()
        if not self._attempt(everything):
            with self._wakened:
                if not self._stopping:
                    self._wakened.wait(0.25)

    def _metrics(self, watched: Watched) -> None:
        from agentpipe import metrics
        if not watched.described and self._ours and attempt.pid_record(watched.directory):
            self._describe(watched)
        stats, sampler = self._sample()
        values = metrics.scalars(stats, sampler.gpus())
        if watched.pids:
            values += sampler.processes(watched.pids())
        now = time.time_ns() // 1_000_000
        iteration = max(0, int(time.time() - watched.since))
        self._api.call("events.add_batch", [
            {"type": "training_stats_scalar", "task": watched.task, "worker": self.worker, "metric": metric,
             "variant": variant, "value": value, "iter": iteration, "timestamp": now}
            for metric, variant, value in values])

    def _describe(self, watched: Watched) -> None:
        """What machine it runs on, unless the script tells that itself; for others' servers at the end (finish.py)."""
        from agentpipe import metrics, runtime
        watched.described = True
        if runtime.OF_THE_SDK not in runtime.read(self._api, watched.task):
            values = metrics.machine(attempt.read_manifest(watched.directory) or {})
            self._api.call("tasks.edit_runtime", {"task": watched.task, "add_or_update": values})

    def _poll(self, watched: Watched) -> None:
        """Look whether the task is still ours to run."""
        mark = None
        if self._embedded:
            mark = self._api.changed(watched.mark)
            if mark == watched.mark and not watched.judge.resets:
                return
        tasks = self._api.call("tasks.get_all", {
            "id": [watched.task], "search_hidden": True,
            "only_fields": ["status", "status_message", "runtime"]})["tasks"]
        watched.mark = mark
        abort = watched.judge.verdict(tasks[0] if tasks else None)
        if abort and abort.kind not in watched.told and watched is self._watched:
            watched.told.add(abort.kind)
            watched.on_abort(abort)


def _begin(directory: str) -> float:
    """When the attempt began: its lock is made first and never written."""
    try:
        return os.stat(os.path.join(directory, "lock")).st_mtime
    except OSError:
        return time.time()


def _seconds(key: str, default: float, *variables: str) -> float:
    try:
        return float(config.get(key, str(default), *variables) or default)
    except ValueError:
        return default
