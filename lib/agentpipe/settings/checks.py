"""Settings of this machine that are refused before a task is taken, and that whoever has one in hand looks at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from agentpipe import errors
from agentpipe.settings import config

# read when a request is made, or made again
OF_REQUESTS = ("http.max_req_size", "auth.token_expiration_threshold_sec", "auth.request_token_expiration_sec",
               *(f"http.retries.{name}" for name in ("total", "connect", "read", "redirect", "status",
                                                     "backoff_factor", "backoff_max")))
OF_CACHE = (("max_entries", 0.0), ("free_space_threshold_gb", config.NO_LEAST), ("lock_timeout", config.NO_LEAST))
OF_STAGES = ("AGENT_CLAIM_GRACE", "AGENT_HOOK_TIMEOUT", "AGENT_KEEP_DAYS", "AGENT_ENVS_MAX_GB", "AGENT_ENVS_MAX_DAYS")


def check_numbers() -> None:
    """Failure 78 for a wrong one among those that are read when a task is in hand; for whoever is about to take it."""
    for wrong in wrong_numbers():
        raise wrong


def wrong_numbers() -> Iterator[errors.Failure]:
    """That Failure for each of them."""
    reports = (config.STATUS_REPORT, config.TASK_PING, config.ABORT_CALLBACK)
    looks = (*(partial(config.number, *each) for each in reports),
             *(partial(config.number, "api." + name, 0) for name in OF_REQUESTS),
             *(partial(config.number, "agent.venvs_cache." + name, 0, least=least) for name, least in OF_CACHE),
             *(partial(config.variable, name, 0) for name in OF_STAGES))
    for look in looks:
        try:
            look()
        except errors.Failure as failure:
            yield failure


def lost_policy(option: str | None) -> str:
    """What becomes of a lost task, `fail` or `requeue`: --on-lost (Failure 64 for another word), AGENT_ON_LOST (78)."""
    told = option if option is not None else os.environ.get("AGENT_ON_LOST") or "fail"
    if told.lower() in ("fail", "requeue"):
        return told.lower()
    if option is not None:
        raise errors.Failure(f"--on-lost is fail or requeue, not {told!r}", errors.USAGE)
    raise errors.Failure(f"AGENT_ON_LOST is fail or requeue, not {told!r}", errors.BAD_CONFIG, remedy="correct it")


def check_user(ahead: bool = False) -> None:
    """Failure 78 where CLEARML_AGENT_EXEC_USER names another user than the one that we are: agent-run is not to.

    `ahead`: for whoever is about to take a task, which another command may run (AGENT_STAGE_RUN).
    """
    from agentpipe import paths
    user = os.environ.get("CLEARML_AGENT_EXEC_USER")
    if user and user != paths.user() and not (ahead and os.environ.get("AGENT_STAGE_RUN")):
        raise errors.Failure(f"CLEARML_AGENT_EXEC_USER: a task runs as whoever starts agent-run, not as {user}",
                             errors.BAD_CONFIG, remedy=f"start the pipeline as {user}, or unset it")
