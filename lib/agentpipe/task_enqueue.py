"""Putting tasks into queues: new ones out of what was captured, and existing ones for a new run."""

from collections.abc import Callable
from typing import Any

from agentpipe import capture, errors, task_find

Say = Callable[[str], None]


def body(found: capture.Captured, name: str, project: str | None, tags: list[str] | None = None) -> dict[str, Any]:
    """What tasks.create is told about a captured script; `project` is an id."""
    name = (name or found.name).strip()
    # ClearML takes no shorter names
    name = name if len(name) >= 3 else name + " task"
    asked: dict[str, Any] = {"name": name, "type": "training", "script": found.script}
    if project:
        asked["project"] = project
    if found.container:
        asked["container"] = found.container
    if tags:
        asked["tags"] = tags
    return asked


def project(api: Any, name: str) -> str | None:
    """The id of the project of that name, which is made when it is missing; None for ""."""
    import re
    name = "/".join(part.strip() for part in name.split("/") if part.strip())
    if not name:
        return None
    found = api.call("projects.get_all", {"name": f"^{re.escape(name)}$", "only_fields": ["id"], "search_hidden": True})
    if found["projects"]:
        return found["projects"][0]["id"]
    try:
        return api.call("projects.create", {"name": name, "description": ""})["id"]
    except errors.ApiError as error:
        if error.subcode == 800 or error.subcode == 12:
            raise errors.Failure(f"project `{name}`: {error.msg}", errors.USAGE) from None
        raise


def draft(api: Any, found: capture.Captured, name: str, project_name: str | None,
          tags: list[str] | None = None, say: Say = lambda _: None) -> str:
    """Create the task; its id. Without `project_name` the repository's name is the project."""
    if project_name is None:
        project_name = found.project if len(found.project) >= 3 else ""
    id = api.call("tasks.create", body(found, name, project(api, project_name), tags))["id"]
    if found.bundle:
        from agentpipe import capture_bundle
        try:
            capture_bundle.attach(api, id, found.bundle, say)
        except BaseException:
            # without what it needs it would only fail
            api.call("tasks.delete", {"task": id, "force": True})
            raise
    return id


def new(api: Any, found: capture.Captured, name: str, project_name: str | None, queue: dict[str, Any],
        tags: list[str] | None = None, say: Say = lambda _: None) -> str:
    """Create the task and queue it; its id."""
    id = draft(api, found, name, project_name, tags, say)
    api.call("tasks.enqueue", {"task": id, "queue": queue["id"]})
    return id


def again(api: Any, task: dict[str, Any], queue: dict[str, Any] | None, say: Say) -> dict[str, Any]:
    """Queue an existing task for a new run: an ended one is reset first. The queue that it stands in now.

    Without `queue` it is the one that it had before, else the default one.
    """
    id, status = task["id"], task["status"]
    if status == "in_progress":
        raise errors.Failure(f"task {id} is running", errors.TRY_AGAIN, remedy=f"agent-task stop {id}")
    before = (task.get("execution") or {}).get("queue")
    queue = queue or {"id": before, "name": task_find.queue_name(api, before)}
    if not queue["id"] or queue["id"] == queue["name"]:
        queue = task_find.queue(api, "")
    if status == "queued" and before == queue["id"]:
        say(f"it waits in {queue['name']} already")
        return queue
    if status in task_find.ENDED:
        reset(api, task, say)
    api.call("tasks.enqueue", {"task": id, "queue": queue["id"]})
    return queue


def reset(api: Any, task: dict[str, Any], say: Say) -> None:
    """Make an ended task a draft again: what it was told stays, log and results of its former run go."""
    if task["status"] == "published":
        raise errors.Failure(f"task {task['id']} is published and stays as it is", errors.NO_PERMISSION)
    from agentpipe import attempt
    kept = attempt.latest(task["id"])
    say("reset: the log of its former run is gone from the server" + (f", its files stay in {kept}" if kept else ""))
    api.call("tasks.reset", {"task": task["id"]})


def next_step(api: Any, queue: dict[str, Any]) -> str:
    """What happens next to a task in this queue, or what its owner can do about it."""
    from agentpipe import task_watch
    workers, _ = task_watch.serving(api, queue["id"])
    if workers:
        return f"served by {task_watch.names(workers)}"
    return f"nobody serves {queue['name']} now: {task_find.serve(queue['name'])}"
