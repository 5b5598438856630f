"""What agent-task shows without logins, as somebody types it back: what was left out of it is put in again."""

from __future__ import annotations

import shlex

from agentpipe import secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def whole(task: Mapping[str, Any], wanted: Mapping[str, Any], say: Callable[[str], None]) -> Mapping[str, Any]:
    """The options of an edit, with the task's own words for those that are theirs as they are shown; it is said."""
    from agentpipe.task import container_options
    had = {"entry_point": ((task.get("script") or {}).get("entry_point"), secrets.shown),
           "docker_args": ((task.get("container") or {}).get("arguments"), container_options.shown_words)}
    return {**wanted, **{option: _whole(wanted[option], text, shown, say) for option, (text, shown) in had.items()
                         if text and wanted.get(option)}}


def _whole(typed: str, had: str, shown: Callable[[list[str]], list[str]], say: Callable[[str], None]) -> str:
    try:
        words, before = shlex.split(typed), shlex.split(had)
    except ValueError:
        return typed
    masked = {hidden: word for hidden, word in zip(shown(before), before, strict=True) if hidden != word}
    found = [masked.get(word, word) if word not in before else word for word in words]
    for word, now in zip(words, found, strict=True):
        if word != now:
            say(f"{word} stays as the task has it, with what is not shown of it")
    return shlex.join(found) if found != words else typed
