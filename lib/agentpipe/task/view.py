"""Tasks as a person looks at them: one whole, or many in a table."""

import re
from typing import Any

from agentpipe import cells, ends, find, secrets, units

END_KEY = "_agentpipe_end"
MOST, LONGEST = 8, 100  # what is shown of many, and of each (characters)
CHANGED_BY_US = "Changed by agentpipe"  # the status_message of an end that an agent reported


def end_of(task: dict[str, Any]) -> dict[str, Any]:
    """How a task ended, as the agent recorded it: {class, exit, stage, reason, evidence, remedy, advice}.

    {} when nothing is recorded, or when what is recorded is over: a task that was queued again runs, or was stopped
    by somebody while it waited.
    """
    found = (task.get("runtime") or {}).get(END_KEY) or {}
    if found.get("class") not in ends.ENDS:
        return {}
    if task["status"] in ("stopped", "failed", "completed") and ends.ENDS[found["class"]].status not in (
            "queued", task["status"]):
        return {}  # of an earlier run: it was continued, and has ended otherwise
    again = found and ends.ENDS[found["class"]].status == "queued"
    if task["status"] == "in_progress" or (again and task["status"] in find.ENDED
                                           and not (task.get("status_message") or "").startswith(CHANGED_BY_US)):
        return {}
    return found


def page(api: Any, task: dict[str, Any]) -> str:
    """All that matters of one task, a fact a line."""
    from agentpipe.claim import attempt
    from agentpipe.task import container_options, params
    task = secrets.shown(task)
    script, container, end = task.get("script") or {}, task.get("container") or {}, end_of(task)
    where = script.get("repository") or ("none: the script goes with the task" if script.get("diff") else "none")
    status = [task["status"], task.get("status_message"), units.ago(task.get("status_changed"))]
    facts = [
        ("task", task["id"]), ("name", task.get("name")), ("project", _project(api, task.get("project"))),
        ("status", ", ".join(filter(None, status))),
        ("end", _end(end)),
        ("queue", find.queue_name(api, (task.get("execution") or {}).get("queue"))),
        ("worker", task.get("last_worker")), ("created", units.clock(task.get("created"))),
        ("started", units.clock(task.get("started"))), ("ended", units.clock(task.get("completed"))),
        ("repository", where), ("branch", script.get("branch")),
        ("commit", script.get("version_num")), ("directory", script.get("working_dir")),
        ("entry point", script.get("entry_point")), ("binary", _binary(script.get("binary") or "", end)),
        ("changes", _size(script.get("diff"))), ("requirements", _first(_packages(task))),
        ("image", container.get("image")), ("docker args", container_options.shown(container)),
        ("set-up script", _lines(container.get("setup_shell_script"))),
        ("parameters", _first(params.each(task))), ("tags", ", ".join(task.get("tags") or [])),
        ("parent", task.get("parent")),
        ("files", attempt.latest(task["id"])),
        ("next", f"agent-task why {task['id'][:8]}" if task["status"] == "failed" else None),
    ]
    return "".join(f"{name:<13} {cells.plain(str(value))}\n" for name, value in facts if value)


def _end(end: dict[str, Any]) -> str | None:
    if not end:
        return None
    left, reason = f"exit {end.get('exit')}", end.get("reason") or ""
    return f"{end['class']}, {left}" + (f": {reason}" if reason not in ("", left) else "")


def _binary(asked: str, end: dict[str, Any]) -> str:
    """The program that was asked for, and the Python that it ran with where that is another version."""
    version, ran = re.match(r"python(\d+\.\d+)", asked), str((end.get("pins") or {}).get("python") or "")
    other = version and ran and not f"{ran}.".startswith(f"{version[1]}.")
    return f"{asked}, ran with Python {ran}" if other else asked


def _project(api: Any, id: Any) -> str | None:
    return find.project_name(api, id) if isinstance(id, str) else (id or {}).get("name")


def _size(diff: str | None) -> str | None:
    if not diff:
        return None
    if not diff.startswith(("diff ", "Submodule ")):
        return None
    lines = [line for line in diff.splitlines() if not line.startswith(("+++", "---"))]
    more, less = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    return f"+{more} -{less} lines not committed"


def _packages(task: dict[str, Any]) -> list[str]:
    from agentpipe.task import edits
    return [line for line in edits.recorded(task).splitlines() if line.strip() and not line.startswith("#")]


def _lines(text: str | None) -> str | None:
    """The first line of a script, without the values of secret variables, and how many more it has."""
    from agentpipe.task import container_options
    lines = container_options.shown_script((text or "").strip()).splitlines()
    return cells.cut(lines[0], LONGEST) + _more(len(lines) - 1, " line") if lines else None


def _first(items: list[str]) -> str:
    """The first of many, each cut."""
    return ", ".join(cells.cut(item, LONGEST) for item in items[:MOST]) + _more(len(items) - MOST)


def _more(count: int, what: str = "") -> str:
    return f" and {count} more{what}{'s' * (bool(what) and count > 1)}" if count > 0 else ""


def shown_status(task: dict[str, Any]) -> str:
    """The word for how a task (its `status`, and `end` the class of its end) stands or ended."""
    return task["end"] if task["status"] in find.ENDED and task.get("end") else task["status"]
