"""The words of a task's entry point: its script, and the arguments."""

from __future__ import annotations

import shlex

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def known(script: Mapping[str, Any]) -> list[str]:
    """They, as far as they can be told apart: none of a text with a quote that nothing closes."""
    try:
        return shlex.split(script.get("entry_point") or "")
    except ValueError:
        return []


def needed(task: Mapping[str, Any]) -> list[str]:
    """Those of a task, one or more; Failure 65 where there are none."""
    mend = f"agent-task edit {task.get('id') or 'TASK'} --entry-point 'SCRIPT ARGUMENTS'"
    try:
        found = shlex.split((task.get("script") or {}).get("entry_point") or "")
    except ValueError as error:
        raise errors.Failure(f"the task's entry point cannot be split into words: {error}", errors.BAD_DATA,
                             remedy=mend) from None
    if not found:
        raise errors.Failure("the task has no entry point: nothing to run", errors.BAD_DATA, remedy=mend)
    return found
