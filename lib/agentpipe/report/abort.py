"""When a task has to end because of what the server says about it."""

from __future__ import annotations

from agentpipe.claim import on_server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# not `completed`: a script that closes its own task early is left to its end, as the peer does
ENDED = ("stopped", "failed", "closed", "publishing", "published")
RESETS = 5  # a reset counts when seen so often: a clone or an edit may pass through it


# of a callback that the script has registered, in the task's runtime; the keys are the `clearml` package's
TIMEOUT, POLL, COMPLETED = "_abort_callback_timeout", "_abort_poll_freq", "_abort_callback_completed"


class Abort:
    """Why a task has to end now.

    `kind` is "stopping" (a user asked: end it, then report it aborted); or "taken" (another claim), "changed"
    (another status) or "deleted": end it and leave its status alone. `callback_timeout_s` is how long the
    script's abort callback wants (None: there is none).
    """

    __slots__ = ("callback_timeout_s", "kind", "reason")

    def __init__(self, kind: str, reason: str, callback_timeout_s: float | None = None) -> None:
        self.kind, self.reason, self.callback_timeout_s = kind, reason, callback_timeout_s

    @property
    def leaves_status(self) -> bool:
        """Whether the task's status is somebody else's now."""
        return self.kind != "stopping"


class Judge:
    """Reads each answer about one task; `claim` is our token, None where another node leads."""

    def __init__(self, claim: str | None) -> None:
        self.resets = 0  # how many answers in a row said `created`
        self._claim = claim
        self._ran = False

    def verdict(self, task: dict[str, Any] | None) -> Abort | None:
        """What {status, status_message, runtime} of the task (None: it is gone) means for it."""
        if task is None:
            return Abort("deleted", "the task was deleted")
        runtime = task.get("runtime") or {}
        status, wanted = task.get("status", ""), seconds_wanted(runtime)
        self.resets = self.resets + 1 if status == "created" else 0
        # no token at all: the SDK writes the whole runtime back, and a reset empties it
        if self._claim and runtime.get(on_server.RUNTIME_KEY, self._claim) != self._claim:
            return Abort("taken", "another agent has claimed the task")
        if status == "in_progress":
            self._ran = True
            if task.get("status_message") == "stopping":
                return Abort("stopping", "task was stopped by tasks.stop", wanted)
        elif status in ENDED or (status == "queued" and self._ran):
            return Abort("changed", f"the task's status was changed to {status}", wanted)
        elif self.resets >= RESETS:
            return Abort("changed", "the task was reset", wanted)
        return None


def seconds_wanted(runtime: Mapping[str, Any]) -> float | None:
    """How long a callback that is registered and has not run may take; None when there is none."""
    if runtime.get(COMPLETED):
        return None
    try:
        seconds, poll = float(runtime[TIMEOUT]), float(runtime.get(POLL) or 0)
    except (KeyError, TypeError, ValueError):
        return None
    return seconds + max(poll, 0.0) if seconds > 0 else None
