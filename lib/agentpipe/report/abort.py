"""When a task has to end because of what the server says about it."""

from __future__ import annotations

from agentpipe.claim import on_server
from agentpipe.run import callbacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# not `completed`: a script that closes its own task early is left to its end, as the peer does
ENDED = ("stopped", "failed", "closed", "publishing", "published")
RESETS = 5  # a reset counts when seen so often: a clone or an edit may pass through it


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
        status, wanted = task.get("status", ""), callbacks.seconds_wanted(runtime)
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

