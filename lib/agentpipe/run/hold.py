"""agent-run --hold-on-failure: the place of a script that failed stays for a while, to be looked at from inside."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from agentpipe import errors, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.held import Held

ENDS = ("script_failed", "out_of_memory", "time_limit", "stalled")
KEPT = "kept"  # in the attempt's directory: its place is there to be walked into
LOOK_S = 1.0


def seconds(text: str) -> float:
    """`2h`, `30m`, `45s`, `1d` or seconds; Failure 64 for anything else."""
    try:
        return units.read_seconds(text)
    except ValueError as error:
        raise errors.Failure(f"--hold-on-failure {text}: {error}", errors.USAGE,
                             remedy="such as 2h, 30m or 45s") from None


def wanted(held: Held, end: str, values: Mapping[str, Any]) -> bool:
    """Whether what came to this end is to be kept. On the host there is nothing that would go."""
    return bool(values.get("hold_on_failure")) and end in ENDS and held.place.goes


def is_kept(task: str) -> bool:
    """Whether the place of a task's last attempt, on this machine, is kept for whoever wants to look."""
    from agentpipe import place
    from agentpipe.claim import attempt
    directory = attempt.latest(task)
    return directory is not None and all(os.path.lexists(os.path.join(directory, name))
                                         for name in (KEPT, place.JOURNAL))


def hold(held: Held, values: Mapping[str, Any]) -> None:
    """Keep the place until the time is over, somebody removes it, or a signal comes; then it goes.

    Whoever finds the task's lock free removes it for us.
    """
    import signal

    from agentpipe import place, stdio
    from agentpipe.signals import SIGNALS
    directory, text = held.claim.directory, values["hold_on_failure"]
    mark = os.path.join(directory, KEPT)

    def end_all() -> None:
        if held.script and held.script.record:
            held.place.signal(held.script.record, signal.SIGKILL)

    end_all()  # what the script left behind is not to be kept
    with suppress(OSError):  # a full disk: nobody is told, and it is kept all the same
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    held.job.say(f"agent-run: its container is kept for {text}: agent-task shell {held.id}")
    if not held.job.watched:
        stdio.say(f"agent-run: the container of task {held.id} is kept for {text}: agent-task shell {held.id}")
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds(text)
    try:
        with SIGNALS.open():
            while (left := until - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0 \
                    and os.path.exists(os.path.join(directory, place.JOURNAL)):
                time.sleep(min(left, LOOK_S))
    except (errors.Interrupted, errors.Aborted):
        pass
    with suppress(OSError):
        os.unlink(mark)
    if not held.place.isolated:
        end_all()  # who has walked in: a container takes them along by itself
    held.leave_place()
