"""The reporting thread of the process that works on a task: worker status, ping, log, metrics, abort.

    reporter = Reporter(api, worker, queues)
    reporter.start()                                    # the worker is registered, idle
    reporter.watch(task, directory, claim, on_abort)    # … and at work on this task
    reporter.stop()
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from agentpipe import errors, failures, stdio
from agentpipe.report import outages
from agentpipe.report.abort import Abort, Judge
from agentpipe.report.duties import Duty, Watched
from agentpipe.report.shipping import Shipper, is_outage
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_REPORT_S = 3.0
BACK_OFF_S = (1.0, 30.0)
SOONEST_REPORT_S = 0.1  # 0 would be without a pause
REFUSED_S = 30.0
SETTLES_S = 10.0  # how long a call that is under way is waited for


class Reporter:
    """One thread that keeps a worker registered and reports the task that it works on, if any.

    With `registers` false only as the status reports do it: for a worker with a task, which may serve further `queues`.

    Nothing that the server does or does not do ends it or is raised here: what fails is done again later.
    """

    def __init__(self, api: Any, worker: str, queues: Sequence[str],
                 secrets: Iterable[str | bytes] = (), registers: bool = True) -> None:
        self.worker, self.queues = worker, list(queues)
        self.api, self._secrets = api.once(), tuple(secrets)  # it tries again by itself
        self.embedded = bool(getattr(api, "embedded", False))
        self.ours = bool(getattr(api, "ours", False))
        self._wakened = threading.Condition()
        self._working = threading.Lock()  # held by the thread while it does something
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._changed = False  # the worker has got or left a task: say so at once
        self._watched: Watched | None = None
        self._sampler: Any = None
        self._away: float | None = None  # since when the server does not answer
        self._retry_at = 0.0
        self._pause = BACK_OFF_S[0]
        every = max(SOONEST_REPORT_S, config.number(*config.STATUS_REPORT))
        self._duties = [Duty(self._report, every, FIRST_REPORT_S)]
        if registers:
            self._duties.insert(0, Duty(self._register, float("inf")))

    def start(self) -> None:
        """Register the worker and begin to report; returns at once."""
        self._thread = threading.Thread(target=self._work, name="report", daemon=True)
        self._thread.start()

    def watch(self, task: str, directory: str, claim: str, on_abort: Callable[[Abort], None],
              pids: Callable[[], Iterable[int]] | None = None, queue: str | None = None, follows: bool = False,
              prefix: str = "") -> None:
        """From now on report this task: its log files, its metrics; on_abort(Abort) is called in the thread.

        `pids` gives the processes of the script, for its share of memory and CPU; `queue` is where it came from.
        With `follows` the task carries another's claim; `prefix` begins each line of its log.
        """
        shipper = Shipper(self.api, task, claim, directory, self.worker, self._secrets, prefix)
        self._watched = Watched(self, task, directory, Judge(None if follows else claim), on_abort, queue, pids,
                                shipper)
        self._task_changed()

    def wake(self) -> None:
        """Something is due."""
        with self._wakened:
            self._wakened.notify_all()

    def stop(self, unregister: bool = False) -> Shipper | None:
        """End the thread (waits for a call under way, up to SETTLES_S); `unregister`: no successor follows.

        What has shipped the task's log comes back, for whoever ships the rest, unless a call still uses it.
        """
        with self._wakened:
            self._stopping = True
            self._wakened.notify_all()
        watched, self._watched = self._watched, None
        at_rest = self._settle(watched)
        if at_rest and self._thread:  # it sees that at once
            self._thread.join(timeout=1)
        if unregister:
            try:
                self.api.call("workers.unregister", {"worker": self.worker})
            except (errors.ApiError, errors.Failure):
                pass  # it vanishes by itself after its time-out
        return watched.shipper if watched and at_rest else None

    def _settle(self, watched: Watched | None) -> bool:
        """Wait until the thread has let go of `watched`; whether it has."""
        if threading.current_thread() is self._thread:
            return False
        if watched:
            watched.leave()
        if not self._working.acquire(timeout=SETTLES_S):
            return False
        if watched:
            watched.shipper.close()
        self._working.release()
        return True

    # --- the thread

    def _work(self) -> None:
        try:
            self._until_stopped()
        finally:
            if self.embedded:  # this thread's connection, which nobody else can close
                self.api.close()

    def _until_stopped(self) -> None:
        while True:
            with self._wakened:
                if not (self._changed or self._stopping):
                    self._wakened.wait(self._next_in())
                if self._stopping:
                    return
                changed, self._changed = self._changed, False
            with self._working:
                watched = self._watched
                if changed:
                    self._attempt(lambda: self._report(stats=False))
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
            if isinstance(error, errors.OddAnswer):
                stdio.say(f"agent-report: {error}")
            if duty:
                duty.later(REFUSED_S)  # refused for good: asking again at once would change nothing
        except Exception as error:
            # a bug of ours must not leave a task unreported; nor must a stderr that is gone
            stdio.say(f"agent-report: {failures.as_failure('agent-report', error)}")
            if duty:
                duty.later(REFUSED_S)
        self._is_back()
        return True

    def _is_away(self, error: Exception) -> None:
        now = time.monotonic()
        watched, refused = self._watched, outages.is_refusal(error)
        if watched and not watched.told_away and (refused or self._away is not None):  # one call is no outage yet
            watched.told_away = True
            outages.begin(watched.directory, error)
        if watched and refused and not watched.told_refused:
            # waiting does not mend it, somebody has to: also where no terminal shows how it goes on
            watched.told_refused = True
            stdio.say(f"agent-report: task {watched.task} goes on, but {error}; new keys in clearml.conf are taken up "
                      "while it runs")
        if self._away is None:
            self._away = now
        self._retry_at = now + self._pause * (0.5 + now * 1e3 % 1.0)  # jitter, without the cost of `random`
        self._pause = min(2 * self._pause, BACK_OFF_S[1])

    def _is_back(self) -> None:
        self._pause, self._retry_at = BACK_OFF_S[0], 0.0
        watched = self._watched
        if self._away is not None and watched:
            watched.shipper.doubt()
        if self._away is not None and watched and watched.told_away:
            watched.told_away = False
            outages.end(watched.directory, time.monotonic() - self._away)
        if watched and watched.told_refused:
            watched.told_refused = False
            stdio.say(f"agent-report: task {watched.task}: the server accepts the keys again")
        self._away = None

    def _task_changed(self) -> None:
        self._changed = True
        self.wake()

    # --- its duties

    def _register(self) -> None:
        self.api.call("workers.register", {"worker": self.worker, "queues": self.queues})

    def _report(self, stats: bool = True) -> None:
        watched = self._watched
        body: dict[str, Any] = {"worker": self.worker, "timestamp": time.time_ns() // 1_000_000,
                                "is_daemon": True, "queues": self.queues or None, "tags": None,
                                "machine_stats": self.sample()[0] if stats else None}
        if watched:
            tags = os.environ.get("CLEARML_WORKER_TAGS", "").replace(",", " ").split()
            body |= {"task": watched.task, "queue": watched.queue, "tags": tags or None}
        self.api.call("workers.status_report", body)

    def sample(self) -> tuple[dict[str, Any], Any]:
        """What the machine does now, as a status report has it, and the sampler that keeps what was before."""
        if self._sampler is None:
            from agentpipe.report import metrics
            self._sampler = metrics.Sampler(config.get("agent.resource_monitoring.disk_use_path"))
        return self._sampler.sample(), self._sampler
