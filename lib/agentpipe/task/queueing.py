"""Putting tasks into queues: new ones out of what was captured, and existing ones for a new run."""

import shlex
from collections.abc import Callable
from typing import Any

from agentpipe import errors, find
from agentpipe.capture import capture

Say = Callable[[str], None]


def body(found: capture.Captured, name: str, project: str | None, tags: list[str] | None = None) -> dict[str, Any]:
    """What tasks.create is told about a captured script; `project` is an id."""
    asked: dict[str, Any] = {"name": name.strip() or found.name.strip(), "type": "training", "script": found.script}
    if project:
        asked["project"] = project
    if found.container:
        asked["container"] = found.container
    if tags:
        asked["tags"] = tags
    only_text(asked)
    return asked


def only_text(told: Any, field: str = "") -> None:
    """Failure 65 that names the field and its words, where bytes of a file name or an argument are no UTF-8.

    Python keeps such bytes as lone surrogates, which a server cannot take.
    """
    if isinstance(told, dict | list):
        for key, each in told.items() if isinstance(told, dict) else enumerate(told):
            only_text(each, field if isinstance(told, list) else f"{field}.{key}".strip("."))
    elif isinstance(told, str):
        try:
            told.encode()
        except UnicodeEncodeError as error:
            line = told[told.rfind("\n", 0, error.start) + 1:].partition("\n")[0]
            shown = ascii(line.encode("utf-8", "surrogateescape").decode("latin-1"))
            raise errors.Failure(f"{field} is not UTF-8: {shown}", errors.BAD_DATA,
                                 remedy="rename the file, or write the argument in UTF-8") from None


def project(api: Any, name: str) -> str | None:
    """The id of the project of that name, which is made when it is missing; None for ""."""
    name = "/".join(part.strip() for part in name.split("/") if part.strip())
    if not name:
        return None
    only_text(name, "project")
    found = find.project_called(api, name)
    if found:
        return found
    try:
        return api.call("projects.create", {"name": name, "description": ""})["id"]
    except errors.ApiError as error:
        if error.subcode in (800, 12):
            raise errors.Failure(f"project `{name}`: {error.msg}", errors.USAGE) from None
        if error.subcode != find.THERE_ALREADY:
            raise
    return find.project(api, name)  # somebody has made it meanwhile


def draft(api: Any, found: capture.Captured, name: str, project_name: str | None,
          tags: list[str] | None = None, say: Say = lambda _: None) -> str:
    """Create the task; its id. Without `project_name` the repository's name is the project."""
    if project_name is None:
        project_name = found.project if len(found.project) >= 3 else ""
    id = api.call("tasks.create", body(found, name, project(api, project_name), tags))["id"]
    if found.bundle:
        from agentpipe.capture import capture_bundle
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
    enqueue_new(api, id, queue)
    return id


def enqueue_new(api: Any, id: str, queue: dict[str, Any]) -> None:
    """Queue a task that was made just now; where that fails, the Failure names it: nothing else has."""
    try:
        api.call("tasks.enqueue", {"task": id, "queue": queue["id"]})
    except (errors.Failure, errors.ApiError) as error:
        failure = error if isinstance(error, errors.Failure) else errors.refused(error)
        failure.remedy = f"its task is there: agent-task enqueue --queue {shlex.quote(queue['name'])} {id}"
        raise failure from None


def again(api: Any, task: dict[str, Any], queue: dict[str, Any] | None, say: Say) -> dict[str, Any]:
    """Queue an existing task for a new run: an ended one is reset first. The queue that it stands in now.

    Without `queue` it is the one that it had before, else the default one.
    """
    id, status = task["id"], task["status"]
    if status == "in_progress":
        raise errors.Failure(f"task {id} is running", errors.TRY_AGAIN, remedy=f"agent-task stop {id}")
    before = (task.get("execution") or {}).get("queue")
    queue = queue or {"id": before, "name": find.queue_name(api, before)}
    if not queue["id"] or queue["id"] == queue["name"]:
        queue = find.queue(api, "")
    if status == "queued" and before == queue["id"]:
        say(f"it waits in {queue['name']} already")
        return queue
    if status in find.ENDED:
        reset(api, task, say)
    if "archived" in (task.get("system_tags") or []):
        say(f"it is archived, so that list leaves it out (agent-task unarchive {id})")
    api.call("tasks.enqueue", {"task": id, "queue": queue["id"]})
    return queue


def reset(api: Any, task: dict[str, Any], say: Say) -> None:
    """Make an ended task a draft again: what it was told stays, log and results of its former run go.

    Failure 75 when somebody has queued it meanwhile: a server resets one that runs as well.
    """
    if task["status"] == "published":
        raise errors.Failure(f"task {task['id']} is published and stays as it is", errors.NO_PERMISSION)
    from agentpipe.claim import attempt
    now = find.task(api, task["id"], ("status",))["status"]  # a look at a checkout, or --check, may have taken long
    if now not in find.ENDED:
        raise errors.Failure(f"task {task['id']} is {now} meanwhile", errors.TRY_AGAIN,
                             remedy=f"agent-task show {task['id']}")
    api.call("tasks.reset", {"task": task["id"]})
    kept = attempt.latest(task["id"])
    if task.get("started") or kept:  # not one that was stopped while it waited
        files = f", its files stay in {kept}" if kept else ""
        say(f"reset: the log of its former run is gone from the server{files}")
    queue = (task.get("execution") or {}).get("queue")
    if queue:  # a reset forgets it, and a later enqueue is to find it
        api.call("tasks.edit", {"task": task["id"], "execution": {"queue": queue}})


def next_step(api: Any, queue: dict[str, Any]) -> str:
    """What happens next to a task in this queue, or what its owner can do about it."""
    from agentpipe.task import at_work
    workers, _ = at_work.serving(api, queue["id"])
    if workers:
        return f"served by {at_work.names(workers)}"
    return f"nobody serves {queue['name']} now: {find.serve(queue['name'])}"
