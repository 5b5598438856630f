"""Many tasks in a table: which of them, in which columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from agentpipe import cells, ends, errors, find, secrets, task_fields, units
from agentpipe.task import view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = dict[str, Any]

STATUSES = ("created", "queued", "in_progress", "stopped", "completed", "failed", "closed", "publishing", "published",
            "unknown")
PAGE = 500
WIDEST = 80  # of a column in a pipe: what is longer is printed whole, and moves only its own row
NAMES = ("name", "queue", "worker", "project", "tags", "entry_point", "branch", "image", "user")  # may be cut
DEFAULT = ("id", "status", "name", "queue", "worker", "created")
ASKED = ("id", "name", "status", "status_message", "type", "tags", "created", "started", "completed", "status_changed",
         "execution.queue", "last_worker", "last_iteration", "runtime", "project", "parent", "user",
         "script.entry_point", "script.branch", "script.version_num", "container.image")
COLUMNS = ("id", "status", "name", "queue", "worker", "created", "project", "tags", "started", "ended", "changed",
           "duration", "iteration", "entry_point", "branch", "commit", "image", "type", "user", "parent")
SEARCHED = ["name", "id", "comment", "script.repository", "script.entry_point"]


def rows(api: Any, values: Mapping[str, Any]) -> Iterator[Row]:
    """The newest tasks that fit the options of `agent-task list`, as they come."""
    statuses, limit = values["status"], values["limit"] or 1 << 60
    narrow = any(word not in STATUSES for word in statuses)
    size = PAGE if narrow or limit > PAGE else limit
    _check(statuses, values)
    body = _asked(api, statuses, values)
    queues, projects, given = _names(api, "queues", {"search_hidden": True}), dict[str, str](), 0
    for tasks in _pages(api, body, size):
        _learn(api, projects, tasks)
        for task in tasks:
            row = _row(task, queues, projects)
            if narrow and row["status"] not in statuses and view.shown_status(row) not in statuses:
                continue
            yield row
            given += 1
            if given >= limit:
                return


def _pages(api: Any, body: Row, size: int) -> Iterator[list[Row]]:
    """The tasks that fit, some at a time, each once.

    Not by the number of a page: whoever reads the list may change what fits (`list … --json | archive -`), and then as
    many are passed over as do not fit any more. A page begins at the time of the last task of the one before.
    """
    seen: set[str] = set()  # of that time
    until, page = None, 0
    while True:
        begin: Row = {"created": [None, until]} if until else {}
        found = api.call("tasks.get_all", {**body, **begin, "page": page, "page_size": size})["tasks"]
        yield [task for task in found if task["id"] not in seen]
        if len(found) < size:
            return
        last = found[-1].get("created")
        if last is None or last == until:  # more of one time than are in a page
            page += 1
            continue
        until, page = last, 0
        seen = {task["id"] for task in found if task.get("created") == last}


def _asked(api: Any, statuses: list[str], values: Mapping[str, Any]) -> dict[str, Any]:
    # pipelines, their steps and data sets stand in hidden projects
    body: dict[str, Any] = {"only_fields": list(ASKED), "order_by": ["-created"], "search_hidden": True,
                            "system_tags": ["archived"] if values["archived"] else ["-archived"]}
    if statuses:
        body["status"] = sorted({status for word in statuses for status in _statuses(word)})
    if values["name"]:
        body["name"] = values["name"]
    if values["queue"]:
        body["execution.queue"] = [find.queue(api, values["queue"])["id"]]
    if values["project"]:
        body |= {"project": [find.project(api, values["project"])], "include_subprojects": True}
    if values["tag"]:
        body["tags"] = ["__$all", *values["tag"]]
    if values["text"]:
        body["_any_"] = {"fields": SEARCHED, "pattern": re.escape(values["text"])}
    since = find.moment(values["since"], "--since")
    if since is not None:
        body["status_changed"] = [">=" + units.iso(since)]
    return body


def _check(statuses: list[str], values: Mapping[str, Any]) -> None:
    known = (*STATUSES, *(each for each in ends.ENDS if each not in STATUSES))
    for word in statuses:
        if word not in known:
            raise errors.Failure(f"no status `{word}`", errors.USAGE, remedy="one of " + ", ".join(known))
    if values["limit"] < 0:
        raise errors.Failure("--limit wants a number above 0, or 0 for all", errors.USAGE)
    columns(values["columns"])
    try:
        re.compile(values["name"] or "")
    except re.error as error:
        raise errors.Failure(f"--name {values['name']}: no regular expression: {error}", errors.USAGE) from None


def columns(text: str | None) -> tuple[str, ...]:
    """The columns that --columns names."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip()) or DEFAULT
    for name in names:
        if name not in COLUMNS:
            raise errors.Failure(f"no column `{name}`", errors.USAGE, remedy="one of " + ", ".join(COLUMNS))
    return names


def _statuses(word: str) -> set[str]:
    """The statuses of ClearML that tasks of that status, or of that end, can have."""
    if word in STATUSES:
        return {word}
    # the operator may say that what is drained is stopped
    return {"stopped"} if ends.ENDS[word].status == "queued" else {ends.ENDS[word].status}


def _names(api: Any, kind: str, condition: dict[str, Any]) -> dict[str, str]:
    found = api.call(f"{kind}.get_all", {"only_fields": ["id", "name"], **condition})[kind]
    return {each["id"]: each["name"] for each in found}


def _learn(api: Any, known: dict[str, str], tasks: list[Row]) -> None:
    """The names of these tasks' projects, all at once."""
    missing = {task["project"] for task in tasks if isinstance(task.get("project"), str)} - set(known)
    if missing:
        known |= dict.fromkeys(missing, "")
        known |= _names(api, "projects", {"id": sorted(missing), "search_hidden": True})


def _row(task: Row, queues: dict[str, str], projects: dict[str, str]) -> Row:
    task = secrets.shown(task_fields.sound(task))  # an entry point may have an address among its arguments
    queue, script = (task.get("execution") or {}).get("queue"), task.get("script") or {}
    project = task.get("project")
    return {"id": task["id"], "name": task.get("name"), "status": task["status"],
            "end": view.end_of(task).get("class"), "queue": queues.get(queue or "", queue),
            "worker": task.get("last_worker"), "created": task.get("created"), "started": task.get("started"),
            "completed": task.get("completed"), "changed": task.get("status_changed"),
            "project": projects.get(project or "", project), "tags": task.get("tags") or [],
            "type": task.get("type"), "user": task.get("user"), "parent": task.get("parent"),
            "iteration": task.get("last_iteration"), "entry_point": script.get("entry_point"),
            "branch": script.get("branch"), "commit": script.get("version_num"),
            "image": (task.get("container") or {}).get("image"), "seconds": _seconds(task)}


def _seconds(task: Row) -> float | None:
    """From its start to its end, or until now."""
    begun = units.seconds_since(task.get("started"))
    ended = units.seconds_since(task.get("completed")) if task["status"] in find.ENDED else 0.0
    return None if begun is None or ended is None else round(begun - ended, 3)


def _cell(row: Row, column: str) -> str:
    if column == "status":
        return view.shown_status(row)
    if column in ("created", "started", "changed"):
        return units.ago(row[column])
    if column == "ended":
        return units.ago(row["completed"])
    if column == "duration":
        return "" if row["seconds"] is None else units.duration(row["seconds"])
    if column == "worker" and row["status"] == "queued":
        return ""
    value = row[column]
    if column in ("id", "parent", "commit"):
        return cells.plain((value or "")[:8])
    return cells.plain(", ".join(value) if isinstance(value, list) else str(value if value is not None else ""))


def text(found: list[Row], names: tuple[str, ...] = DEFAULT, width: int | None = None) -> str:
    """The table for a screen; `width` columns wide at most, for which NAMES are cut, the widest column first."""
    if not found:
        return ""
    table = [tuple(name.upper() for name in names), *(tuple(_cell(row, name) for name in names) for row in found)]
    wide = [[cells.width(line[column]) for line in table] for column in range(len(names))]
    widths = [max(each) if width else max(min(one, WIDEST) for one in each) for each in wide]
    if width:
        cut = [column for column, name in enumerate(names) if name in NAMES]
        widths = cells.narrowed(widths, width - 2 * (len(widths) - 1), cut)
    lines = ["  ".join(cells.padded(cell, columns) if width else cells.filled(cell, columns)
                       for cell, columns in zip(line, widths, strict=True)).rstrip() for line in table]
    return "".join((cells.cut(line, width) if width else line) + "\n" for line in lines)
