"""How a task's status may change, and what every change writes (server.md §5)."""

from __future__ import annotations

from agentpipe.server.common import error
from agentpipe.server.documents import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.server.endpoints import Request


ALLOWED = {
    "created": {"queued", "in_progress"},
    "queued": {"created", "in_progress", "stopped"},
    "in_progress": {"created", "stopped", "failed", "completed"},
    "stopped": {"created", "queued", "in_progress", "completed", "failed", "closed", "publishing",
                "published"},
    "completed": {"created", "in_progress", "published"},
    "failed": {"created", "queued", "stopped", "published"},
    "closed": {"created", "stopped", "failed", "publishing", "published"},
    "publishing": {"published"},
    "published": set(),
}


def check(old: str, new: str, force: bool = False) -> None:
    """Refuse (400/110) a change that the table does not have.

    No change is always allowed, with force every one is.
    """
    if not force and old != new and new not in ALLOWED.get(old, ()):
        raise error(110, "Invalid status change", current_status=old, new_status=new)


def change(request: Request, task: Task, new: str, *, reason: str = "", message: str = "",
           force: bool = False, sets: dict[str, Any] | None = None,
           drops: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give the task its new status and save it; the answer's `fields`.

    Reason and message that were not given become "". `sets` are more fields to write, `drops` some to remove.
    """
    check(task.get("status"), new, force)
    at = request.now
    fields: dict[str, Any] = {
        "status": new, "status_reason": reason, "status_message": message, "status_changed": at,
        "last_update": at, "last_change": at, "last_changed_by": request.user, **(sets or {})}
    for field, value in fields.items():
        task.set(field, value)
    task.drop(*drops)
    task.save()
    touch_project(request, task)
    return fields


def touch(request: Request, task: Task, update: bool = True) -> dict[str, Any]:
    """Note a change that is not one of status; the answer's `fields`. `update` is false for mere labels."""
    fields = {"last_change": request.now, "last_changed_by": request.user}
    if update:
        fields["last_update"] = request.now
    for field, value in fields.items():
        task.set(field, value)
    return fields


def touch_project(request: Request, task: Task) -> None:
    """The project of a task that changed has changed as well."""
    if task.get("project"):
        request.db.execute("UPDATE projects SET last_update=? WHERE id=?", (request.now, task.get("project")))


def note_activity(request: Request, task: Task) -> None:
    """A sign of life of a task.

    The time of its last update, and how long a running one has been at work (s).
    """
    from agentpipe.server.common import seconds
    touch(request, task)
    if task.get("status") == "in_progress" and task.get("started"):
        task.set("active_duration", max(0, int(seconds(request.now) - seconds(task.get("started")))))
