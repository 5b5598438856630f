"""Tasks as a person looks at them: one whole, or many in a table."""

import re
import time
from datetime import datetime
from typing import Any

from agentpipe import ends, errors, task_find

END_KEY = "_agentpipe_end"
CHANGED_BY_US = "Changed by agentpipe"  # the status_message of an end that an agent reported
SHORTEST_NAME = 8  # of a name in the table, however narrow the terminal
LISTED = ("id", "name", "status", "status_message", "type", "created", "started", "completed", "status_changed",
          "execution.queue", "last_worker", "runtime", "project", "script.entry_point")
STATUSES = ("created", "queued", "in_progress", "stopped", "completed", "failed", "closed", "publishing", "published",
            "unknown")
PAGE = 500


def table(api: Any, statuses: list[str], queue: str, name: str, limit: int) -> list[dict[str, Any]]:
    """The newest tasks that fit: {id, name, status, end, queue, worker, created, started, completed}.

    `statuses` are ClearML's, or classes of ends (agent-ends(7)) as the table shows them.
    """
    _check(statuses, name)
    body: dict[str, Any] = {"only_fields": list(LISTED), "order_by": ["-created"]}
    if statuses:
        body["status"] = sorted({status for word in statuses for status in _statuses(word)})
    if name:
        body["name"] = name
    if queue:
        body["execution.queue"] = [task_find.queue(api, queue)["id"]]
    names = {each["id"]: each["name"] for each in api.call("queues.get_all", {
        "only_fields": ["id", "name"], "search_hidden": True})["queues"]}
    narrow = any(word not in STATUSES for word in statuses)
    size, page, rows = PAGE if narrow else limit, 0, []
    while True:
        tasks = api.call("tasks.get_all", body | {"page": page, "page_size": size})["tasks"]
        rows += [row for row in (_row(task, names) for task in tasks)
                 if not narrow or row["status"] in statuses or shown_status(row) in statuses]
        if len(rows) >= limit or len(tasks) < size or not narrow:
            return rows[:limit]
        page += 1


def _check(statuses: list[str], name: str) -> None:
    known = (*STATUSES, *(each for each in ends.ENDS if each not in STATUSES))
    for word in statuses:
        if word not in known:
            raise errors.Failure(f"no status `{word}`", errors.USAGE, remedy="one of " + ", ".join(known))
    try:
        re.compile(name)
    except re.error as error:
        raise errors.Failure(f"--name {name}: no regular expression: {error}", errors.USAGE) from None


def _statuses(word: str) -> set[str]:
    """The statuses of ClearML that tasks of that status, or of that end, can have."""
    if word in STATUSES:
        return {word}
    # the operator may say that what is drained is stopped
    return {"stopped"} if ends.ENDS[word].status == "queued" else {ends.ENDS[word].status}


def _row(task: dict[str, Any], queues: dict[str, str]) -> dict[str, Any]:
    queue = (task.get("execution") or {}).get("queue")
    return {"id": task["id"], "name": task.get("name"), "status": task["status"], "end": end_of(task).get("class"),
            "queue": queues.get(queue or "", queue), "worker": task.get("last_worker"), "created": task.get("created"),
            "started": task.get("started"), "completed": task.get("completed")}


def end_of(task: dict[str, Any]) -> dict[str, Any]:
    """How a task ended, as the agent recorded it: {class, exit, stage, reason, evidence, remedy, advice}.

    {} when nothing is recorded, or when what is recorded is over: a task that was queued again runs, or was stopped
    by somebody while it waited.
    """
    found = (task.get("runtime") or {}).get(END_KEY) or {}
    again = found and ends.ENDS[found["class"]].status == "queued"
    if task["status"] == "in_progress" or (again and task["status"] in task_find.ENDED
                                           and not (task.get("status_message") or "").startswith(CHANGED_BY_US)):
        return {}
    return found


def shown_status(row: dict[str, Any]) -> str:
    """The word for how a task stands or ended."""
    return row["end"] if row["status"] in task_find.ENDED and row["end"] else row["status"]


def table_text(rows: list[dict[str, Any]], width: int | None = None) -> str:
    """The table for a screen; `width` characters wide at most, for which names are cut."""
    if not rows:
        return ""
    cells = [("ID", "STATUS", "NAME", "QUEUE", "WORKER", "CREATED")]
    for row in rows:
        worker = row["worker"] if row["status"] != "queued" else ""
        cells.append((row["id"][:8], shown_status(row), plain(row["name"] or ""), plain(row["queue"] or ""),
                      plain(worker or ""), ago(row["created"])))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    if width:
        others = sum(widths) - widths[2] + 2 * (len(widths) - 1)
        widths[2] = max(min(widths[2], width - others), SHORTEST_NAME)
    lines = ["  ".join(_cut(cell, wide).ljust(wide) for cell, wide in zip(line, widths, strict=True)).rstrip()
             for line in cells]
    return "".join((_cut(line, width) if width else line) + "\n" for line in lines)


def plain(text: str) -> str:
    """One line without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
                   for char in text)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[:width - 1] + "…"


def page(api: Any, task: dict[str, Any]) -> str:
    """All that matters of one task, a fact a line."""
    from agentpipe import attempt
    script, end = task.get("script") or {}, end_of(task)
    where = script.get("repository") or "none: the script goes with the task"
    status = [task["status"], task.get("status_message"), ago(task.get("status_changed"))]
    facts = [
        ("task", task["id"]), ("name", task.get("name")), ("project", _project(api, task.get("project"))),
        ("status", ", ".join(filter(None, status))),
        ("end", f"{end['class']}, exit {end.get('exit')}: {end.get('reason')}" if end else None),
        ("queue", task_find.queue_name(api, (task.get("execution") or {}).get("queue"))),
        ("worker", task.get("last_worker")), ("created", task.get("created")), ("started", task.get("started")),
        ("ended", task.get("completed")), ("repository", where), ("branch", script.get("branch")),
        ("commit", script.get("version_num")), ("directory", script.get("working_dir")),
        ("entry point", script.get("entry_point")), ("binary", script.get("binary")),
        ("changes", _size(script.get("diff"))), ("requirements", _packages(task)),
        ("files", attempt.latest(task["id"])),
        ("next", f"agent-task why {task['id'][:8]}" if task["status"] == "failed" else None),
    ]
    return "".join(f"{name:<13} {plain(str(value))}\n" for name, value in facts if value)


def _project(api: Any, id: Any) -> str | None:
    if not isinstance(id, str):
        return (id or {}).get("name")
    found = api.call("projects.get_all", {"id": [id], "only_fields": ["name"], "search_hidden": True})["projects"]
    return found[0]["name"] if found else id


def _size(diff: str | None) -> str | None:
    if not diff:
        return None
    if not diff.startswith(("diff ", "Submodule ")):
        return None
    lines = [line for line in diff.splitlines() if not line.startswith(("+++", "---"))]
    more, less = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    return f"+{more} -{less} lines not committed"


def _packages(task: dict[str, Any]) -> str | None:
    from agentpipe import task_edit
    lines = [line for line in task_edit.recorded(task).splitlines() if line.strip() and not line.startswith("#")]
    return ", ".join(lines[:8]) + (f" and {len(lines) - 8} more" if len(lines) > 8 else "")


def seconds_since(moment: str | None) -> float | None:
    """Seconds since an ISO 8601 time of the API; None when there is none."""
    if not moment:
        return None
    try:
        return time.time() - datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def ago(moment: str | None) -> str:
    """ "3 min ago"; "" when there is no such time."""
    seconds = seconds_since(moment)
    return "" if seconds is None else duration(max(0.0, seconds)) + " ago"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: "4 s", "12 min", "3 h", "2 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
