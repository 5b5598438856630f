"""The line of a task's own code that a traceback came through, and how to open it and run the task again."""

from __future__ import annotations

import os
import posixpath
import re
import shlex

from agentpipe import errors, untrusted
from agentpipe.task import whereabouts
from agentpipe.task.remedies import anew, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

FRAME = re.compile(r'\s*(?:\| *)?File "(.+)", line (\d+)')
PEERS = re.compile(r"/task_repository/[^/]+\.git/(.+)$")  # below clearml-agent's agent.venvs_dir
IN_IPYTHON = re.compile(r"<ipython-input-|.*/ipykernel_|Cell In")


class Line:
    """A line of the file `name` of the checkout: its `number`, and its `text` where the traceback shows it.

    In a notebook `number` is that in `cell`; both are 0 where they are not known.
    """

    __slots__ = ("cell", "name", "number", "text")

    def __init__(self, name: str, number: int, text: str = "", cell: int = 0) -> None:
        self.name, self.number, self.text, self.cell = name, number, text, cell

    def __str__(self) -> str:
        if not self.name.endswith(".ipynb"):
            return f"{self.name}:{self.number}" if self.number else self.name
        line = f", line {self.number}" if self.number else ""
        return self.name + (f", cell {self.cell}{line}" if self.cell else "") + (f" ({self.text})" if self.text else "")


def last(task: dict[str, Any], evidence: str) -> Line | None:
    """The last line of the task's own code in the traceback; None where there is none."""
    found, text = None, _Notebook(task)
    lines = evidence.splitlines()
    for at, line in enumerate(lines):
        frame = FRAME.match(line)
        below_it = lines[at + 1] if at + 1 < len(lines) else ""
        shown = below_it.strip() if below_it[:4].isspace() else ""
        name = below(task, frame[1]) if frame else ""
        if frame and name:
            found = text.line(name, int(frame[2]), shown) or found
        elif frame and found and found.cell and not found.number and IN_IPYTHON.match(frame[1]):
            found = Line(found.name, int(frame[2]), shown, found.cell)
    return found


def crashed_at(task: dict[str, Any], evidence: str) -> Line | None:
    """The line of the task's own code that ran when Python crashed, as its faulthandler told; None when it did not."""
    _, told, stack = evidence.partition("(most recent call first):\n")
    text = _Notebook(task)
    for frame in map(FRAME.match, stack.splitlines() if told else ()):
        if frame and (name := below(task, frame[1])) and (line := text.line(name, int(frame[2]), "")):
            return line
    return None


def at(task: dict[str, Any], name: str, number: int, text: str) -> Line | None:
    """A line of the file `name` of its checkout; None of one that only stands there to run a notebook."""
    return _Notebook(task).line(name, number, text)


def below(task: dict[str, Any], path: str) -> str:
    """A path relative to the checkout of that task's run, by us or by clearml-agent; "" of another file."""
    peers = PEERS.search(path)
    if peers:
        return peers[1]
    _, ours, rest = path.partition(f"/{task['id']}.")
    _, code, name = rest.partition("/code/")
    return name if ours and code and ".." not in name.split("/") else ""


def named(task: dict[str, Any], path: str) -> str:
    """A path as the script has it, absolute or from where it runs, relative to the checkout; "" of one outside."""
    folder = (task.get("script") or {}).get("working_dir") or "."
    name = below(task, path) if posixpath.isabs(path) else posixpath.normpath(posixpath.join(folder, path))
    return "" if name.split("/")[0] == ".." else name


def mended(task: dict[str, Any], line: Line) -> Known:
    """How to open a line of its code, and to run it again with what was changed there."""
    from agentpipe.code import bundle
    all_of_it = f"all that it printed: agent-task log {task['id']}"
    top = whereabouts.checkout(task)
    path = os.path.join(top, line.name)
    if top and os.path.isfile(path):
        if line.name.endswith(".ipynb"):
            return {"advice": f"mend {line} in {top} and save it, then: {anew(task, top)}"}
        at = f"+{line.number} " if line.number else ""
        return {"remedy": f"${{EDITOR:-vi}} {at}{shlex.quote(path)} && {anew(task, top)}", "advice": all_of_it}
    then = "enqueue the script anew, with --bundle" if bundle.of(task) else f"there: {anew(task)}"
    branch = (task.get("script") or {}).get("branch")
    where = f" on branch {branch}" if branch and not bundle.of(task) else ""
    return {"advice": f"mend {line} in your checkout{where}, and {then}; {all_of_it}"}


class _Notebook:
    """The notebook that the task runs, if it does: which of its cells a line of the script is, that it became."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.name = ""
        self.texts: dict[str, list[str]] = {}
        given = words(task)
        if given and given[0].endswith(".ipynb"):
            folder = (task.get("script") or {}).get("working_dir") or "."
            self.name = posixpath.normpath(posixpath.join(folder, given[0]))

    def line(self, name: str, number: int, shown: str) -> Line | None:
        """A line of the file `name` of the checkout; None of what converting it has added."""
        stem = self.name.removesuffix(".ipynb")
        if not self.name or name not in (f"{stem}.py", f"{stem}_notebook.py"):
            return Line(name, number, shown)
        from agentpipe.code import notebook
        texts = self._texts(name)
        for text in texts:
            lines = text.split("\n")
            same = number <= len(lines) and (not shown or lines[number - 1].strip() == shown)
            if same:
                at = notebook.cell_at(text, number, posixpath.basename(self.name))
                return Line(self.name, at[1], "" if shown.startswith("__cell__(") else shown, at[0]) if at else None
        return Line(self.name, 0, shown)

    def _texts(self, name: str) -> list[str]:
        """The script as the last run on this machine had it, and as the checkout's notebook becomes one now."""
        from agentpipe.code import notebook
        if name not in self.texts:
            found = self.texts[name] = []
            code, top = whereabouts.of_last_run(self.task), whereabouts.checkout(self.task)
            try:
                if code:
                    found.append(untrusted.read(code, name, untrusted.LARGE).decode("utf-8", "replace"))
            except OSError:
                pass
            try:
                if top:
                    found.append(notebook.script(os.path.join(top, self.name))[0])
            except (OSError, errors.Failure):
                pass
        return self.texts[name]
