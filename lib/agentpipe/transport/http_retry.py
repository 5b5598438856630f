"""Which calls are made again when a server is away, how often, and after which pauses."""

from __future__ import annotations

import time
from collections.abc import Callable

from agentpipe import errors
from agentpipe.settings import config
from agentpipe.signals import SIGNALS
from agentpipe.transport.http_transport import MAINTENANCE, Away

STAGE_PATIENCE_S = 300.0  # of a stage that has a task in hand
FIRST_PAUSE_S, LONGEST_S = 0.25, 30.0
FIRST_TRIES = 4  # an address at which nothing has answered yet is most often a wrong one
FAULT_TRIES = 2  # after an error of the server's own, which may be gone at once, or stay
# besides all get_…: what may be done twice
REPEATABLE = {"auth.login", "auth.validate_token", "debug.ping", "tasks.ping", "tasks.edit", "tasks.edit_runtime",
              "tasks.set_requirements", "tasks.started", "workers.register", "workers.unregister",
              "workers.status_report", "queues.wait", "tasks.wait"}


class Tries:
    """The further tries of one call: until `patience` (s) is over, and no more than the configuration allows.

    `pause` is the next one in seconds; answered(): whether this server has ever answered this process.
    """

    def __init__(self, endpoint: str, patience: float, answered: Callable[[], bool]) -> None:
        self.pause = config.number("api.http.retries.backoff_factor", FIRST_PAUSE_S)
        self._endpoint, self._patience, self._answered = endpoint, patience, answered
        self._until, self._made = time.monotonic() + patience, 0

    def again(self, host: str, error: Away | errors.ApiError) -> Away:
        """What there is to wait for; the error itself is raised when there is to be no further try."""
        self._made += 1
        if isinstance(error, errors.ApiError):
            if error.code < 500 or not is_repeatable(self._endpoint) or self._made > FAULT_TRIES or not self._patience:
                raise error
            return Away(host, error.msg)
        if error.unsure and not is_repeatable(self._endpoint):
            raise error
        late = time.monotonic() + self.pause > self._until and not self._without_end(error)
        if late or self._made > self._most(error):
            raise error
        return error

    def _most(self, away: Away) -> float:
        """How often a call may be tried again: as api.http.retries says; nothing: as long as our patience lasts."""
        kind = "connect" if away.refused else "status" if away.status else "read"
        most = min(config.number(f"api.http.retries.{each}", float("inf")) for each in ("total", kind))
        return min(most, first_tries(self._patience)) if away.refused and not self._answered() else most

    def _without_end(self, away: Away) -> bool:
        """A server under maintenance comes back, and a task's work is worth waiting for it."""
        return (away.status == MAINTENANCE and self._patience >= STAGE_PATIENCE_S
                and config.flag("api.http.wait_on_maintenance_forever", True))


def first_tries(patience: float) -> float:
    """How often an address that never answered is tried again (the peer's variable: a number, true, false)."""
    if patience >= STAGE_PATIENCE_S:
        return float("inf")
    variable = "CLEARML_AGENT_INITIAL_CONNECT_RETRY_OVERRIDE"
    said = (config.get("", None, variable) or "true").lower()
    if said in ("true", "yes", "on", "1"):
        return FIRST_TRIES
    return float("inf") if said in ("false", "no", "off") else config.number("", FIRST_TRIES, variable)


def is_repeatable(endpoint: str) -> bool:
    """Whether a call that may have been done can be made again without harm."""
    action = endpoint.partition(".")[2]
    return endpoint in REPEATABLE or (action.startswith("get_") and action != "get_next_task")


def back_off(pause: float, away: Away) -> float:
    """Wait about `pause` seconds (with jitter, or as long as the server asked for); the next pause.

    Away again as soon as this process is told to stop, where signals wait.
    """
    import random
    until = time.monotonic() + max(pause * random.uniform(0.5, 1.5), min(away.wait, 60.0))
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
        if SIGNALS.waiting:
            raise away
    return min(2 * pause, config.number("api.http.retries.backoff_max", LONGEST_S))
