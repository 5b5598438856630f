"""Causes in a task's own code, and in packages that do not go together: what its traceback tells."""

from __future__ import annotations

import re

from agentpipe.task import own_lines
from agentpipe.task.remedies import edit, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:: .*|:?$)")
DRAWN = re.compile(r"^ *[|+] ", re.MULTILINE)  # around the exceptions of a group
NUMPY_1 = re.compile(r"removed in the NumPy 2\.0|compiled using NumPy 1\.x|numpy\.dtype size changed"
                     r"|_ARRAY_API not found|numpy\.core\.multiarray failed to import")
INSTALLED = re.compile(r"/(?:site|dist)-packages/(\w+)")
NOT_UTF_8 = re.compile(r"^SyntaxError: Non-UTF-8 code starting with '(.+?)' in file (.+) on line (\d+)", re.MULTILINE)


def numpy_2(task: dict[str, Any], evidence: str) -> Known | None:
    """Code or a package that was written for NumPy 1."""
    if NUMPY_1.search(evidence):
        return {"reason": "it was written for NumPy 1, and NumPy 2 is installed",
                "remedy": edit(task, "--package", "numpy<2")}
    return None


def unfit_package(task: dict[str, Any], evidence: str) -> Known | None:
    """An installed package that cannot be imported, of the one version that the task asks for."""
    from agentpipe.environment import package_names
    from agentpipe.task import edits
    frames = [match[1] for match in map(own_lines.FRAME.match, evidence.splitlines()) if match]
    said = re.findall(r"^ImportError: cannot import name .*", evidence, re.MULTILINE)
    module = INSTALLED.search(frames[-1]) if said and frames else None
    if not module:
        return None
    name = edits.package_of(package_names.of_module(module[1]) or module[1])
    pin = next((line.strip() for line in edits.recorded(task).splitlines()
                if edits.package_of(line) == name and "==" in line), "")
    if not pin or not name:
        return None
    return {"reason": f"{pin} does not go with this Python, or with the other packages: {short(said[-1])}",
            "remedy": edit(task, "--package", name), "advice": "another version of it, as its release notes tell"}


def encoding(task: dict[str, Any], evidence: str) -> Known | None:
    """A source that is in another encoding than UTF-8, and does not say so."""
    found = NOT_UTF_8.search(evidence)
    name = own_lines.below(task, found[2]) if found else ""
    if not found or not name:
        return None
    line = own_lines.Line(name, int(found[3]))
    mend = own_lines.mended(task, line)
    save = "save it as UTF-8, or declare its encoding (# coding: latin-1) at its top"
    return {"reason": f"{line} is not UTF-8 ({found[1]}), and the file declares no other encoding", **mend,
            "advice": save if mend.get("remedy") else f"{save}: {mend['advice']}"}


def raised(task: dict[str, Any], evidence: str) -> Known | None:
    """An exception that nothing caught: what it says, and the line of the task's own code that it came through."""
    told, inside = "", False
    for line in DRAWN.sub("", evidence).splitlines():
        if own_lines.FRAME.match(line):
            inside, told = True, ""
        elif inside and not line.startswith(" "):
            inside = False
            told = short(line.rstrip(": ")) if EXCEPTION.match(line) else ""
    if not told:
        return None
    where = own_lines.last(task, evidence)
    if not where:
        return {"reason": told, "advice": f"all that it printed: agent-task log {task['id']}"}
    return {"reason": f"{told}, at {where}", **own_lines.mended(task, where)}
