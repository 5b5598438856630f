"""Tasks and queues by what a person types: an id or its beginning, or a name."""

from __future__ import annotations

import re

from agentpipe import cells, errors, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# ids of ClearML: 32 hex digits; fewer than four would fit too much
DIGITS = 4
PREFIX = re.compile(rf"[0-9a-f]{{{DIGITS},32}}$")
# what may be asked for as an id: in a list of ids "-x" means "all but x", and "__$" begins an operator
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*$")
SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are not UTF-8
SHOWN = 4
LONGEST = 2000  # characters of a name that is looked for; servers refuse long patterns
SHOWN_QUEUES = 20
SHORTEST_NAME = 3  # of a queue; name_of() of a server's
THERE_ALREADY = 801  # a server's subcode: that name is taken
QUEUE_CLOSED, QUEUE_OPEN = "force_workers:off", "force_workers:on"  # tags: it gives out nothing; it does, at any hour
ENDED = ("completed", "failed", "stopped", "closed", "published")


def task(api: Any, word: str, fields: tuple[str, ...] = ()) -> dict[str, Any]:
    """The one task of that id, beginning of an id, or name (of several equal names each counts only by its id).

    `fields` as the API's only_fields; without them the whole task. What stands in it has the types of task_fields.
    Failure 66 when there is none, 65 when several fit.
    """
    from agentpipe import task_fields
    found = _found(api, word)
    if len(found) > 1:
        raise _several(word, found)
    if found and not fields:
        return task_fields.sound(api.call("tasks.get_by_id", {"task": found[0]["id"]})["task"])
    if found:  # it may be deleted meanwhile
        wanted = {"id": [found[0]["id"]], "only_fields": ["id", *fields], "search_hidden": True}
        found = api.call("tasks.get_all", wanted)["tasks"]
    if not found:
        short = re.fullmatch(r"[0-9a-f]+", word) and len(word) < DIGITS
        why = f"a task is its name, or the beginning of its id ({DIGITS} digits or more); " if short else ""
        raise errors.Failure(f"no task `{cells.cut(word, 100)}`", errors.NOT_FOUND, remedy=f"{why}agent-task list")
    return task_fields.sound(found[0])


def whole_id(api: Any, word: str) -> str:
    """The id that begins so; the word itself when it is whole, or none does. Failure 65 when several do."""
    found = _begun(api, word) if PREFIX.match(word) and len(word) < 32 else []
    if not found or any(each["id"] == word for each in found):
        return word
    if len(found) > 1:
        raise _several(word, found)
    return found[0]["id"]


def _several(word: str, found: list[dict[str, Any]]) -> errors.Failure:
    shown = ", ".join(f"{each['id'][:12]} ({each['status']}, {units.ago(each.get('created'))})"
                      for each in found[:SHOWN])
    more = ", …" if len(found) > SHOWN else ""
    return errors.Failure(f"`{word}` fits {len(found)} tasks, the newest first: {shown}{more}", errors.BAD_DATA,
                          "\n".join(each["id"] for each in found),
                          f"give the beginning of an id, {DIGITS} digits or more")


def _found(api: Any, word: str) -> list[dict[str, Any]]:
    """The tasks that a word means, the newest first. Nothing that a person types goes into a query as it is."""
    if len(word) > LONGEST or SURROGATE.search(word):
        return []
    found = _query(api, {"id": [word]}) if ID.match(word) else []
    if found or not word:
        return found
    # a name of digits, a date say, may be the beginning of another task's id: neither is preferred in silence
    named, begun = _query(api, {"name": exactly(word)}), _begun(api, word) if PREFIX.match(word) else []
    both = {each["id"]: each for each in (*named, *begun)}
    return sorted(both.values(), key=lambda each: each.get("created") or "", reverse=True)


def _begun(api: Any, word: str) -> list[dict[str, Any]]:
    return _query(api, {"_any_": {"fields": ["id"], "pattern": f"^{word}"}})


def exactly(text: str) -> str:
    """A pattern that fits only this text."""
    return rf"^{re.escape(text)}$"


def _query(api: Any, condition: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {**condition, "only_fields": ["id", "status", "created"], "order_by": ["-created"], "search_hidden": True}
    return api.call("tasks.get_all", wanted)["tasks"]


def queue(api: Any, name: str, create: bool | None = None, fields: tuple[str, ...] = ()) -> dict[str, Any]:
    """{id, name} of a queue by name or id, "" for the server's default one; Failure 66 names those that there are.

    `create` makes a missing one; None where that is no question. `fields` are more of one that is asked for by name.
    """
    if not name:
        try:
            return api.call("queues.get_default")
        except errors.ApiError:
            name = "default"
    conditions: list[dict[str, Any]] = [{"name": exactly(name)}, *([{"id": [name]}] if ID.match(name) else [])]
    for condition in conditions:
        # never queues.get_by_id: its answer has every entry of the queue
        wanted = {**condition, "only_fields": ["id", "name", *fields], "search_hidden": True}
        found = api.call("queues.get_all", wanted)["queues"]
        if found:
            return found[0]
    if create:
        return new_queue(api, name) or queue(api, name, None, fields)
    raise no_queue(api, name, "" if create is None else "the same with --create-queue")


def new_queue(api: Any, name: str) -> dict[str, Any] | None:
    """{id, name} of a queue made under that name; None where somebody has made it meanwhile."""
    check_new_name(name)
    try:
        return {"id": api.call("queues.create", {"name": name})["id"], "name": name}
    except errors.ApiError as error:
        if error.subcode != THERE_ALREADY:
            raise
        return None


def check_new_name(name: str) -> None:
    """Failure 64 for a name of a queue to be made that is too short for a server."""
    if len(name.strip()) < SHORTEST_NAME:
        raise errors.Failure(f"no queue can be called `{cells.plain(name)}`: a name has {SHORTEST_NAME} characters "
                             "or more", errors.USAGE)


def no_queue(api: Any, name: str, remedy: str) -> errors.Failure:
    """The Failure 66 that names the queues that there are, the nearest first, in one line whatever they are called."""
    import difflib
    known = [each["name"] for each in api.call("queues.get_all", {"only_fields": ["name"]})["queues"]]
    if len(known) > SHOWN_QUEUES:
        known.sort(key=lambda each: -difflib.SequenceMatcher(None, name.lower(), each.lower()).ratio())
    more = len(known) - SHOWN_QUEUES
    there = ", ".join(map(cells.plain, known[:SHOWN_QUEUES])) + (f", and {more} more" if more > 0 else "")
    return errors.Failure(f"no queue `{cells.plain(name)}`; there are: {there}", errors.NOT_FOUND,
                          remedy=remedy if len(name.strip()) >= SHORTEST_NAME else "agent-status --once")


def project(api: Any, name: str) -> str:
    """The id of the project of that name or id; Failure 66 when there is none."""
    found = project_called(api, name) or (_project(api, {"id": [name]}) if ID.match(name) else None)
    if found:
        return found
    raise errors.Failure(f"no project `{name}`", errors.NOT_FOUND, remedy="agent-task list --columns id,project")


def project_called(api: Any, name: str) -> str | None:
    """The id of the project of exactly that name; None when there is none."""
    return _project(api, {"name": exactly(name)})


def _project(api: Any, condition: dict[str, Any]) -> str | None:
    found = api.call("projects.get_all", {**condition, "only_fields": ["id"], "search_hidden": True})["projects"]
    return found[0]["id"] if found else None


def queue_name(api: Any, id: str | None) -> str:
    """A queue's name for people; its id when it is gone."""
    if not id:
        return ""
    found = api.call("queues.get_all", {"id": [id], "only_fields": ["name"], "search_hidden": True})["queues"]
    return found[0]["name"] if found else id


def project_name(api: Any, id: str) -> str:
    """A project's name; its id when it is gone."""
    found = api.call("projects.get_all", {"id": [id], "only_fields": ["name"], "search_hidden": True})["projects"]
    return found[0]["name"] if found else id


def serve(queue: str) -> str:
    """The command that serves a queue for one task."""
    import shlex
    return f"agent-pull {shlex.quote(queue)} | agent-prepare | agent-run"


def place_in_queue(api: Any, queue: str, task: str) -> int | None:
    """The place of a waiting task, 1 is next; None when it does not stand there."""
    for number, entry in enumerate(api.call("queues.get_by_id", {"queue": queue})["queue"].get("entries") or [], 1):
        if entry["task"] == task:
            return number
    return None


AGO = r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d|w|days?|hours?|weeks?)$"  # compiled for who asks: a pull does not
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def moment(text: str | None, option: str) -> float | None:
    """Seconds since the epoch of what a person calls a time: "2h" (ago), "today", a date, an ISO time (of here)."""
    if not text:
        return None
    import time
    from datetime import datetime, timedelta
    if text.strip() in ("today", "yesterday"):
        midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - timedelta(days=text.strip() == "yesterday")).timestamp()
    ago = re.match(AGO, text.strip())
    if ago:  # longer ago than there are years to name is the beginning of time
        return max(0.0, time.time() - float(ago[1]) * SECONDS[ago[2][0]])
    try:
        return datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        raise errors.Failure(f"{option} {text}: no time", errors.USAGE,
                             remedy=f"such as {option} 2h, 3d or 2026-11-25T14:00") from None
