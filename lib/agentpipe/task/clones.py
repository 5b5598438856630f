"""A new task like another, with changes: everything is looked at before anything is made."""

from __future__ import annotations

import shlex

from agentpipe.task import edits, entry_words, queueing, typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def clone(api: Any, task: dict[str, Any], wanted: Mapping[str, Any], say: Callable[[str], None]) -> str:
    """The new draft's id."""
    typed.fields(wanted)
    name = typed.name(wanted["name"]) if wanted.get("name") else f"Clone of {task.get('name')}"
    entry = _with_arguments(task, wanted) if wanted["args"] else None
    at = {**task, "script": {**(task.get("script") or {}), "entry_point": entry}} if entry else task
    fields = edits.fields(at, {**wanted, "entry_point": entry or wanted.get("entry_point")}, say)
    queueing.only_text({"name": name, **fields})
    body: dict[str, Any] = {"task": task["id"], "new_task_name": name}
    if wanted.get("project"):
        body["new_project_name"] = wanted["project"]
    id = api.call("tasks.clone", body)["id"]
    if fields:
        try:
            api.call("tasks.edit", {"task": id, **fields})
        except BaseException:  # Ctrl-C too: it would be as the other, and not as it was asked for
            api.call("tasks.delete", {"task": id, "force": True})
            raise
    return id


def _with_arguments(task: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The entry point with the arguments behind "--" in the place of its own."""
    script = task.get("script") or {}
    entry = wanted.get("entry_point") or script.get("entry_point")
    words = entry_words.needed({**task, "script": {"entry_point": entry}})
    return shlex.join([*words[:2 if words[0] == "-m" else 1], *wanted["args"]])
