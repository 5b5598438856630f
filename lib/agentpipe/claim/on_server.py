"""A claim as the server has it: the token in a task's runtime, and giving the task back there."""

from __future__ import annotations

from agentpipe import errors
from agentpipe.crash import crash_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME_KEY = "_agentpipe_claim"
RUNNABLE = ("created", "queued", "in_progress")  # the statuses of a task that has not ended
RETURNED = "back:"  # before the token of whoever gave the task back, on a server that does not look at claims


def enqueue_again(api: Any, task: str, queue: str | None, token: str, why: str) -> None:
    """Put a task of ours back to the front of its queue; somebody else's (another token, ended) is left alone."""
    body = {"task": task, "queue": queue, "force": True, "claim": token, "front": True, "status_reason": why}
    if not api.ours and not _marked_returned(api, task, token):
        return
    crash_point("give-back:marked")
    try:
        api.call("tasks.enqueue", {key: value for key, value in body.items() if value is not None})
        if not api.ours and queue:
            api.call("queues.move_task_to_front", {"queue": queue, "task": task})
    except errors.ApiError as error:
        # no longer ours, deleted, already there; or taken already (then it need not be the first)
        if error.subcode not in (121, 101, 706, 703):
            raise


def by_token(api: Any, token: str, fields: list[str]) -> list[dict[str, Any]]:
    """The tasks whose runtime carries this token, with these fields and `runtime`."""
    asked = {"search_hidden": True, "only_fields": [*fields, "runtime"], "page": 0, "page_size": 10}
    # in paths ClearML writes a leading underscore as %_; a filter that a server does not know finds all tasks
    for key in (RUNTIME_KEY,) if api.ours else ("%" + RUNTIME_KEY, RUNTIME_KEY):
        for value in (token,) if api.ours else (token, RETURNED + token):
            found = api.call("tasks.get_all", {**asked, f"runtime.{key}": value})["tasks"]
            mine = [task for task in found if (task.get("runtime") or {}).get(RUNTIME_KEY) == value]
            if mine:
                return mine
    return []


def waits(api: Any, tasks: list[str]) -> set[str]:
    """Which of these tasks stand in a queue."""
    queues = api.call("queues.get_all", {"only_fields": ["id", "entries"], "search_hidden": True})["queues"]
    standing = {entry["task"] for queue in queues for entry in queue.get("entries") or ()}
    return standing & set(tasks)


def _marked_returned(api: Any, task: str, token: str) -> bool:
    """On a server that does not look at claims: mark the task as given back; False when it is not ours to give.

    The mark comes first: who takes the task next writes its own token over it, which must not be overwritten.
    """
    found = api.call("tasks.get_all", {"id": [task], "only_fields": ["status", "runtime"],
                                       "search_hidden": True})["tasks"]
    runtime = (found[0].get("runtime") or {}) if found else {}
    if not found or found[0].get("status") not in ("queued", "in_progress") \
            or runtime.get(RUNTIME_KEY, token) not in (token, RETURNED + token) or waits(api, [task]):
        return False
    api.call("tasks.edit", {"task": task, "force": True, "runtime": {**runtime, RUNTIME_KEY: RETURNED + token}})
    return True
