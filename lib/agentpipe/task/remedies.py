"""What mends a task: commands that can be typed as they are."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe.task import entry_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Known = dict[str, Any]  # {reason, remedy or advice}: what is known of an end

BATCH = re.compile(r"--?((?:[a-z]+[-_])*batch[-_]?size|bs)$")


def again(task: dict[str, Any]) -> str:
    """Queue it once more."""
    return f"agent-task enqueue {task['id']}"


def edit(task: dict[str, Any], *change: str) -> str:
    """Change it, and queue it once more."""
    return f"agent-task edit {task['id']} {shlex.join(change)} && {again(task)}"


def fresh(task: dict[str, Any], *options: str) -> str:
    """Enqueue its script as a new task, with these options; to be typed in its checkout."""
    given = words(task) or ["SCRIPT"]
    module, given = (["-m"], given[1:]) if given[0] == "-m" and given[1:] else ([], given)
    rest = ["--", *given[1:]] if given[1:] else []
    return shlex.join(["agent-task", "enqueue", *options, *module, given[0], *rest])


def anew(task: dict[str, Any], checkout: str = ".") -> str:
    """Take its code anew from a checkout, and queue it once more."""
    return edit(task, "--checkout", checkout)


def checkout(task: dict[str, Any]) -> str:
    """The checkout without a remote that it came from, when that is on this machine; "" otherwise."""
    from agentpipe.code import bundle
    path = (task.get("script") or {}).get("repository") or ""
    here = os.path.isabs(path) and os.path.exists(os.path.join(path, ".git")) and not bundle.of(task)
    return path if here else ""


def words(task: dict[str, Any]) -> list[str]:
    """Its entry point: the script and its arguments."""
    return entry_words.known(task.get("script") or {})


def smaller(task: dict[str, Any], reason: str) -> Known | None:
    """The same with half the batch, when the task names its batch size."""
    given = words(task)
    for index, word in enumerate(given):
        option, equals, value = word.partition("=")
        named = BATCH.match(option)
        value = value if equals else (given[index + 1] if index + 1 < len(given) else "")
        if named and value.isdigit() and int(value) > 1:
            return {"reason": reason, "advice": None,
                    "remedy": edit(task, "--set", f"Args/{named[1]}={int(value) // 2}")}
    for section, items in (task.get("hyperparams") or {}).items():
        for name, item in items.items():
            value = str((item or {}).get("value") or "")
            if BATCH.match("--" + name.rpartition("/")[2]) and value.isdigit() and int(value) > 1:
                return {"reason": reason, "advice": None,
                        "remedy": edit(task, "--set", f"{section}/{name}={int(value) // 2}")}
    return None
