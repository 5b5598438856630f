"""Causes in a task's own code, and in packages that do not go together: what its traceback tells."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe.task.remedies import anew, checkout, edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

# the last line of a traceback, or of a syntax error
RAISED = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Iteration|Group|Warning|Fault|Timeout))(?:: (.*))?$")
NUMPY_1 = re.compile(r"removed in the NumPy 2\.0|compiled using NumPy 1\.x|numpy\.dtype size changed"
                     r"|_ARRAY_API not found|numpy\.core\.multiarray failed to import")
FRAME = re.compile(r'\s*(?:\| *)?File "(.+)", line (\d+)')
INSTALLED = re.compile(r"/(?:site|dist)-packages/(\w+)")
LONGEST = 200


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
    frames = [match[1] for match in map(FRAME.match, evidence.splitlines()) if match]
    said = re.findall(r"^ImportError: cannot import name .*", evidence, re.MULTILINE)
    module = INSTALLED.search(frames[-1]) if said and frames else None
    if not module:
        return None
    name = edits.package_of(package_names.of_module(module[1]) or module[1])
    pin = next((line.strip() for line in edits.recorded(task).splitlines()
                if edits.package_of(line) == name and "==" in line), "")
    if not pin or not name:
        return None
    return {"reason": f"{pin} does not go with this Python, or with the other packages: {said[-1][:LONGEST]}",
            "remedy": edit(task, "--package", name), "advice": "another version of it, as its release notes tell"}


def raised(task: dict[str, Any], evidence: str) -> Known | None:
    """An exception that nothing caught: what it says, and the line of the task's own code that it came through."""
    where, told, seen = "", "", False
    for line in evidence.splitlines():
        frame = FRAME.match(line)
        if frame:
            seen, told, where = True, "", _own(task, frame) or where
        elif seen and RAISED.match(line):
            told = line[:LONGEST]
    if not told:
        return None
    if not where:
        return {"reason": told, "advice": f"all that it printed: agent-task log {task['id']}"}
    return {"reason": f"{told}, at {where}", **_mended(task, where)}


def _mended(task: dict[str, Any], where: str) -> Known:
    """How to open a line of its code, and to run it again with what was changed there."""
    from agentpipe.code import bundle
    name, _, line = where.rpartition(":")
    all_of_it = f"all that it printed: agent-task log {task['id']}"
    top = checkout(task)
    if top and os.path.isfile(os.path.join(top, name)):
        opened = f"${{EDITOR:-vi}} +{line} {shlex.quote(os.path.join(top, name))}"
        return {"remedy": f"{opened} && {anew(task, top)}", "advice": all_of_it}
    then = "enqueue the script anew, with --bundle" if bundle.of(task) else f"there: {anew(task)}"
    return {"advice": f"mend {where} in your checkout, and {then}; {all_of_it}"}


def crashed_at(task: dict[str, Any], evidence: str) -> str:
    """FILE:LINE of the task's own code that ran when Python crashed, as its faulthandler told; "" when it did not."""
    _, told, stack = evidence.partition("(most recent call first):\n")
    frames = map(FRAME.match, stack.splitlines() if told else ())
    return next((where for frame in frames if frame and (where := _own(task, frame))), "")


def _own(task: dict[str, Any], frame: re.Match[str]) -> str:
    """FILE:LINE below the checkout of that task; "" of another file."""
    _, ours, below = frame[1].partition(f"/{task['id']}.")
    _, code, below = below.partition("/code/")
    return f"{below}:{frame[2]}" if ours and code else ""
