"""Tasks and queues by what a person types: an id or its beginning, or a name."""

import re
from typing import Any

from agentpipe import errors

# ids of ClearML: 32 hex digits; fewer than four would fit too much
PREFIX = re.compile(r"[0-9a-f]{4,32}$")
ENDED = ("completed", "failed", "stopped", "closed", "published")


def task(api: Any, word: str, fields: tuple[str, ...] = ()) -> dict[str, Any]:
    """The one task of that id, beginning of an id, or name (of several equal names the newest counts only by its id).

    `fields` as the API's only_fields; without them the whole task. Failure 66 when there is none, 65 when several fit.
    """
    ids = _ids(api, word)
    if not ids:
        raise errors.Failure(f"no task `{word}`", errors.NOT_FOUND, remedy="agent-task list")
    if len(ids) > 1:
        shown = ", ".join(id[:12] for id in ids[:4])
        raise errors.Failure(f"`{word}` fits {len(ids)} tasks: {shown}", errors.BAD_DATA, "\n".join(ids),
                             "type more of the id" if PREFIX.match(word) else f"agent-task list --name '{word}'")
    if fields:
        wanted = {"id": ids, "only_fields": ["id", *fields], "search_hidden": True}
        return api.call("tasks.get_all", wanted)["tasks"][0]
    return api.call("tasks.get_by_id", {"task": ids[0]})["task"]


def _ids(api: Any, word: str) -> list[str]:
    found = _query(api, {"id": [word]})
    if not found and PREFIX.match(word):
        found = [id for id in _query(api, {}) if id.startswith(word)]
    return found or _query(api, {"name": f"^{re.escape(word)}$"})


def _query(api: Any, condition: dict[str, Any]) -> list[str]:
    answer = api.call("tasks.get_all", {**condition, "only_fields": ["id"], "search_hidden": True})
    return [each["id"] for each in answer["tasks"]]


def queue(api: Any, name: str, create: bool = False) -> dict[str, Any]:
    """{id, name} of a queue by name or id, "" for the server's default one; Failure 66 names those that there are."""
    if not name:
        try:
            return api.call("queues.get_default")
        except errors.ApiError:
            name = "default"
    for condition in ({"name": f"^{re.escape(name)}$"}, {"id": [name]}):
        wanted = {**condition, "only_fields": ["id", "name"], "search_hidden": True}
        found = api.call("queues.get_all", wanted)["queues"]
        if found:
            return found[0]
    if create:
        return {"id": api.call("queues.create", {"name": name})["id"], "name": name}
    known = ", ".join(each["name"] for each in api.call("queues.get_all", {"only_fields": ["name"]})["queues"])
    raise errors.Failure(f"no queue `{name}`; there are: {known}", errors.NOT_FOUND,
                         remedy="the same with --create-queue")


def queue_name(api: Any, id: str | None) -> str:
    """A queue's name for people; its id when it is gone."""
    if not id:
        return ""
    found = api.call("queues.get_all", {"id": [id], "only_fields": ["name"], "search_hidden": True})["queues"]
    return found[0]["name"] if found else id


def workers_of(api: Any, queue: str) -> list[dict[str, Any]]:
    """The workers that pull from the queue of that id, as workers.get_all gives them."""
    return [worker for worker in api.call("workers.get_all", {"last_seen": 600})["workers"]
            if any(each.get("id") == queue for each in worker.get("queues") or [])]


def place_in_queue(api: Any, queue: str, task: str) -> int | None:
    """The place of a waiting task, 1 is next; None when it does not stand there."""
    for number, entry in enumerate(api.call("queues.get_by_id", {"queue": queue})["queue"].get("entries") or [], 1):
        if entry["task"] == task:
            return number
    return None
