"""Causes in a list of packages that a task has from its repository: where there the line stands that is wrong."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe import untrusted
from agentpipe.task import whereabouts
from agentpipe.task.remedies import edit
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

NAMED = re.compile(r"line \d+ of the task's requirements")
LINE = re.compile(r"--drop-package ((?:'[^']*'|\"[^\"]*\"|[^\s'\";])+)")
LIST = "requirements.txt"


def index(task: dict[str, Any], reason: str, advice: str) -> Known | None:
    """An index that nobody reaches, and that a line of the list names."""
    said, dropped = NAMED.search(reason), LINE.search(advice)
    top = whereabouts.code_of(task)
    if not said or not dropped or not top:
        return None
    names = [name for name in whereabouts.files(top) if re.fullmatch(r"(?:.*/)?\w*requirements\b.*\.txt", name)]
    places = [(name, number) for name in names for number in _places(top, name, shlex.split(dropped[1])[0])]
    # of several lists the task has all lines as one
    if len(places) != 1 or [name for name in names if os.path.basename(name) == LIST] != [LIST]:
        return None
    (name, number), here = places[0], whereabouts.checkout(task)
    known: Known = {"reason": reason.replace(said[0], f"{name}:{number}"), "advice": advice}
    if here and os.path.isfile(os.path.join(here, name)):
        taken = edit(task, "--requirements", os.path.join(here, LIST))
        return {**known, "remedy": f"${{EDITOR:-vi}} +{number} {shlex.quote(os.path.join(here, name))} && {taken}"}
    return {**known, "remedy": None, "advice": f"{advice}; or mend {name}:{number} in your checkout, and there: "
                                               f"{edit(task, '--requirements', LIST)}"}


def _places(top: str, name: str, line: str) -> list[int]:
    """The numbers of the lines of a list that are this option, which may be spelt otherwise there."""
    value = line.split()[-1]
    try:
        text = untrusted.read(top, name).decode("utf-8", "replace")
    except OSError:
        return []
    return [number for number, each in enumerate(text.splitlines(), 1)
            if each.lstrip().startswith("-") and value in re.split(r"[\s=]+", without_credentials(each.strip()))]
