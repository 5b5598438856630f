"""What its server shows of a task that recovery has found on this node: whether it is still ours, what is wanted."""

from __future__ import annotations

from agentpipe.claim import on_server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# of a task of ours: before its end; when its script may have marked it; when we may have told its end before we died
OPEN = on_server.RUNNABLE
MARKED = (*OPEN, "completed")
TOLD = (*MARKED, "failed", "stopped")


def message_if_ours(api: Any, task: str, token: str, worker: str, statuses: tuple[str, ...]) -> str | None:
    """The task's status_message ("stopping": a user wants it to end) while it is still ours, and has one of these
    `statuses`; else None.

    One that we were giving back when we died is ours while it stands in no queue and no other worker reports it.
    """
    fields = ["status", "status_message", "runtime", "last_worker"]
    tasks = api.call("tasks.get_all", {"id": [task], "only_fields": fields, "search_hidden": True})["tasks"]
    if not tasks or tasks[0].get("status") not in statuses:
        return None
    found = tasks[0]
    carried = (found.get("runtime") or {}).get(on_server.RUNTIME_KEY)
    if carried == on_server.RETURNED + token:
        ours = ("", worker, worker.partition(":service:")[0])
        if (found.get("last_worker") or "") not in ours or on_server.waits(api, [task]):
            return None
    # the SDK writes the whole runtime back: without any token a running task is still ours
    elif carried != token and (carried or found["status"] != "in_progress"):
        return None
    if found["status"] == "queued" and not api.ours and on_server.waits(api, [task]):
        return None  # somebody has enqueued it again
    return found.get("status_message") or ""


def knows(api: Any, task: str) -> bool:
    """Whether it is a task of this server: after a power failure nothing here may say of which."""
    return bool(api.call("tasks.get_all", {"id": [task], "only_fields": ["id"], "search_hidden": True})["tasks"])


def message_while_runnable(api: Any, task: str) -> str | None:
    """The status_message of a task that another node leads, until it has ended."""
    tasks = api.call("tasks.get_all", {"id": [task], "only_fields": ["status", "status_message"],
                                       "search_hidden": True})["tasks"]
    if not tasks or tasks[0].get("status") not in on_server.RUNNABLE:
        return None
    return tasks[0].get("status_message") or ""


def queue(api: Any, task: str) -> str | None:
    """The queue that it came from."""
    asked = {"id": [task], "only_fields": ["execution.queue"], "search_hidden": True}
    found = api.call("tasks.get_all", asked)["tasks"]
    return (found[0].get("execution") or {}).get("queue") if found else None
