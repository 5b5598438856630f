"""A line of a task's own code that is looked for by what stands in it."""

from __future__ import annotations

import re

from agentpipe import untrusted
from agentpipe.task import own_lines, whereabouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from agentpipe.task.own_lines import Line

SOURCES = (".py", ".sh", ".bash")
OPTION = re.compile(r"""["'](--[A-Za-z][\w-]*)["']""")
# as long as a message may be: where most quotes are escaped each of them would be looked for to the end
TEXT = re.compile(r"""(["'])(.{1,500}?)(?<!\\)\1""")
LONGEST = 1000  # characters of a line that somebody wrote


def texts(line: str) -> list[str]:
    """What stands in quotes in a line of code, or of an error."""
    return [text for _, text in TEXT.findall(line)]


def only(task: dict[str, Any], wanted: Callable[[str], object]) -> Line | None:
    """The one line of the code that is wanted; None where there is none, or more."""
    found = [(name, number, text) for name, number, text in _code(task) if wanted(text)]
    return own_lines.at(task, *found[0]) if len(found) == 1 else None


def options(task: dict[str, Any]) -> set[str]:
    """The options (`--lr`) that stand as texts in the code."""
    return {option for _, _, text in _code(task) for option in OPTION.findall(text)}


def _code(task: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """(file, line's number, line) of the code of its last run on this machine, or of its checkout."""
    top = whereabouts.code_of(task)
    for name in whereabouts.files(top):
        if not name.endswith(SOURCES):
            continue
        try:
            text = untrusted.read(top, name).decode("utf-8", "replace")
        except OSError:
            continue
        yield from ((name, number, line.strip()) for number, line in enumerate(text.split("\n"), 1)
                    if len(line) < LONGEST)
