"""agent-run's vigil: until the script is over, look at limits, signals and what the server wants."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing

from agentpipe import errors, holes, paths, stdio, untrusted
from agentpipe.crash import crash_point
from agentpipe.run.script import Script, running_for
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SETTLED = 2.0  # after so many seconds a script is worth a control group of its own
BY_USER = "stopped by a user"
PATIENCE_S = 5.0  # at the end, for a terminal that shows nothing
TOGETHER_S = 0.5  # between a script's signal and ours, where somebody sends it to every process of a job


class Verdict:
    """Why a script ended: `end` None when by itself; `left` when it was left running (HUP); `ours` false when the
    server's status must be left alone; `requeue` false when a drained task is to stay stopped."""

    def __init__(self, end: str | None = None, reason: str = "", left: bool = False, ours: bool = True,
                 requeue: bool = True) -> None:
        self.end, self.reason, self.left, self.ours, self.requeue = end, reason, left, ours, requeue
        self.abort: Any = None  # the server's word that brought it about


class Follower:
    """Copies the script's log to stderr as it grows, for a person at a terminal.

    A terminal that stands still (Ctrl-S), or a pager, holds up neither limits nor a user's stop: what it does not take
    is shown later.
    """

    def __init__(self, directory: str, wanted: bool) -> None:
        self._path = os.path.join(paths.box(directory), "log") if wanted else None
        self._fd: int | None = None
        self._shown = 0  # bytes

    @property
    def interval(self) -> float:
        """How often to look, in seconds."""
        return 0.1 if self._path else 1.0

    def copy(self, patience: float = 0.0) -> None:
        """All that is new, as far as stderr takes it within `patience` seconds a piece."""
        if not self._path:
            return
        if self._fd is None:
            try:
                self._fd = untrusted.opened(*os.path.split(self._path))
            except OSError:  # not there, none of ours, or closed to us
                return
        size = os.fstat(self._fd).st_size  # what comes meanwhile is for the next time: it may never end
        if size < self._shown:  # the script has truncated it
            self._shown = 0
        while self._shown < size and stdio.takes(2, patience):
            data = os.pread(self._fd, stdio.PIECE, self._shown)
            if not data:  # truncated at this very moment
                return
            hole = holes.first(self._fd, data, self._shown, size)
            try:
                if hole and hole[0] == self._shown:
                    os.write(2, holes.told(*hole).encode())
                    self._shown = hole[1]
                else:
                    self._shown += os.write(2, data[:hole[0] - self._shown] if hole else data)
            except OSError:
                self._path = None
                return

    def close(self) -> None:
        """Let the log go."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def watch(held: Any, script: Script, values: Mapping[str, Any]) -> Verdict:
    """Wait for the script's end, or bring it about; its verdict. A second signal kills at once.

    Called closed to signals; open only while it waits.
    """
    with closing(Follower(script.directory, held.job.watched)) as follower:
        return _watched(held, script, values, follower)


def _watched(held: Any, script: Script, values: Mapping[str, Any], follower: Follower) -> Verdict:
    verdict = _vigil(script, values, follower)
    if verdict.left:
        return verdict
    verdict = verdict if verdict.end else _told_together(script, values)
    if verdict.end:
        try:
            _bring_about(held, script, verdict, values["grace"])
        except (errors.Interrupted, errors.Aborted):
            script.kill()
    crash_point("run:over")
    left = script.sweep()
    if left:
        held.job.say(f"agent-run: ended {left} processes that the script left behind")
    follower.copy(PATIENCE_S)
    SIGNALS.forget()
    return verdict


def _told_together(script: Script, values: Mapping[str, Any]) -> Verdict:
    """The verdict on a script that is over: the signal that ended it was meant for us too when we get it as well.

    A scheduler whose time is over, or a machine that goes down, tells all processes, and the script may die of it
    before we hear ours.
    """
    import signal
    ended_by = (script.status or 0) - 128
    if ended_by not in (signal.SIGTERM, signal.SIGINT):
        return Verdict()
    until = time.monotonic() + TOGETHER_S
    while not SIGNALS.told and time.monotonic() < until:
        time.sleep(0.01)
    if SIGNALS.told != ended_by:
        return Verdict()
    SIGNALS.drop(ended_by)
    return _of_signal(ended_by, values)


def _bring_about(held: Any, script: Script, verdict: Verdict, grace: float) -> None:
    """End the script: its abort callback first, then TERM, then KILL. A signal that comes meanwhile is raised.

    Where it has ended of the signal that we got too, what it has started has its time all the same.
    """
    if verdict.abort and verdict.abort.kind in ("stopping", "changed"):
        from agentpipe.run import callbacks
        callbacks.give_time(held, script, verdict.abort.callback_timeout_s)
    over = script.wait(0)
    how = "the script has ended" if over else f"ending the script, in {grace:g} s by force"
    held.job.say(f"agent-run: {verdict.reason}; {how}")
    if over and not script.signal_all(0):
        return
    with SIGNALS.open():
        script.stop(grace)


def _vigil(script: Script, values: Mapping[str, Any], follower: Follower) -> Verdict:
    try:
        with SIGNALS.open():
            return _until_over(script, values, follower)
    except errors.Interrupted as told:
        verdict = _of_signal(told.signum, values)
    except errors.Aborted as aborted:
        verdict = _of_abort(aborted.abort)
    # what had ended by itself when the word came was not ended by it
    return Verdict() if script.wait(0) else verdict


def _until_over(script: Script, values: Mapping[str, Any], follower: Follower) -> Verdict:
    limit, stall = values.get("time_limit"), values.get("stall_limit")
    grown, size = time.clock_gettime(time.CLOCK_BOOTTIME), -1
    gathered = False
    while not script.wait(follower.interval):
        follower.copy()
        script.bury()
        ran = running_for(script.directory)
        if ran is not None and ran > SETTLED and not gathered:
            gathered = True
            script.gather()
        if limit and ran is not None and ran > limit:
            return Verdict("time_limit", f"it ran longer than {limit:g} s")
        if stall:
            now, found = time.clock_gettime(time.CLOCK_BOOTTIME), _size(script.directory)
            if found != size:
                grown, size = now, found
            elif now - grown > stall:
                return Verdict("stalled", f"it printed nothing for {stall:g} s")
    return Verdict()


def _of_signal(signum: int, values: Mapping[str, Any]) -> Verdict:
    import signal
    if signum == signal.SIGHUP:
        return Verdict(left=True)
    if signum == signal.SIGINT:
        return Verdict("aborted", "stopped by hand")
    if values.get("on_drain") == "stop":
        return Verdict("drained", "this worker was stopped", requeue=False)
    return Verdict("drained", "this worker was stopped")


def _of_abort(abort: Any) -> Verdict:
    verdict = Verdict("aborted", abort.reason if abort.leaves_status else BY_USER, ours=not abort.leaves_status)
    verdict.abort = abort
    return verdict


def asked_meanwhile(held: Any, verdict: Verdict) -> Verdict:
    """The verdict on a script that ended by itself, and not well: it was a user's stop when the script saw that first.

    The `clearml` package looks for it too, runs its callback, and kills its process.
    """
    if verdict.end or not held.api:
        return verdict
    from agentpipe.report import abort
    try:
        found = held.api.once().call("tasks.get_all", {
            "id": [held.id], "only_fields": ["status", "status_message", "runtime"], "search_hidden": True})["tasks"]
    except (errors.ApiError, errors.Failure):
        return verdict
    if found and found[0].get("status") == "in_progress" and (
            found[0].get("status_message") == "stopping"
            or (found[0].get("runtime") or {}).get(abort.COMPLETED)):
        return Verdict("aborted", BY_USER)
    return verdict


def _size(directory: str) -> int:
    try:
        return os.lstat(os.path.join(paths.box(directory), "log")).st_size
    except OSError:
        return 0
