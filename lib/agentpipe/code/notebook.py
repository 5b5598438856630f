"""A Jupyter notebook as the Python script that agent-run starts, without nbconvert."""

from __future__ import annotations

import ast
import json
import os
import re

from agentpipe import errors, untrusted
from agentpipe.code import entry

HEADER = "# converted from {} by agent-patch\n"
CELL = "# cell {} of {}\n"
# magics that mean nothing outside a notebook
IDLE = ("matplotlib", "autoreload", "config", "autosave", "clear")
# x = !command, x = %magic; name?, name??
ASSIGNED = re.compile(r"[\w, .\[\]'\"]+=\s*[!%]\s*\w")
HELP = re.compile(r"[\w.]+\?\??\s*$")
# cells share the script's names, as they would share a notebook's; an error ends the script
IPYTHON = """
import sys

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

__shell__ = InteractiveShell.instance(user_module=sys.modules["__main__"], user_ns=globals(),
                                      config=Config({"HistoryManager": {"enabled": False}}))
__shell__.showtraceback = lambda *_, **__: None


def get_ipython():
    return __shell__


def __cell__(number, source):
    __shell__.run_cell(source).raise_error()

"""


def convert(path: str) -> tuple[str, bool]:
    """Write the notebook's code cells as a script beside it: (its path, whether it needs the package ipython).

    `!command` becomes a call of the shell, magics that only matter to a notebook a comment; a cell with any other
    magic is handed to IPython as it is. What is no notebook: Failure 65.
    """
    name = os.path.basename(path)
    text, magic = script(path)
    target = os.path.splitext(path)[0] + ".py"
    if os.path.lexists(target) and not _ours(target, name):
        target = os.path.splitext(path)[0] + "_notebook.py"
    entry.publish(target, text.encode("utf-8", "replace"))  # half a character may stand there as \\udXXX
    return target, magic


def script(path: str) -> tuple[str, bool]:
    """The text of that script: (it, whether it needs the package ipython). A line of a cell is a line of it."""
    name = os.path.basename(path)
    with open(path, encoding="utf-8-sig") as file:
        try:
            cells = json.load(file)["cells"]
            sources = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise errors.Failure(f"{name} is not a notebook (format 4)", errors.BAD_DATA,
                                 remedy="open it in Jupyter and save it again") from None
    texts, magic = [], False
    for number, (source, kind) in enumerate(sources, 1):
        if kind != "code" or not source.strip():
            continue
        lines = _plain(source)
        magic |= lines is None
        texts.append("\n" + CELL.format(number, name) + (
            f"__cell__({number}, {source!r})\n" if lines is None else lines))
    return HEADER.format(name) + (IPYTHON if magic else "") + "".join(texts), magic


def cell_at(text: str, number: int, name: str) -> tuple[int, int] | None:
    """(cell, line in it) of a line of the script that notebook `name` became; None of one that stands in no cell.

    Cells are counted from 1, those without code too. Line 0 is that of a cell that IPython has got as a whole.
    """
    lines = text.split("\n")[:number]
    for at in range(len(lines) - 1, -1, -1):
        found = re.fullmatch(CELL.format("(\\d+)", re.escape(name)).strip(), lines[at])
        if found:
            whole = at + 1 < len(lines) and lines[at + 1].startswith(f"__cell__({found[1]}, ")
            return int(found[1]), 0 if whole else number - at - 1
    return None


def _plain(source: str) -> str | None:
    """The cell as Python alone; None when it takes IPython."""
    if _is_python(source):
        return source.rstrip("\n") + "\n"
    lines: list[str] = []
    for line, height in _logical_lines(source):
        code = line.lstrip()
        plain: str | None = code
        if code.startswith("!"):
            plain = _shell(code[1:])
        elif code.startswith("%") and not code.startswith("%="):
            plain = _magic(code)
        elif code.startswith("?") or ASSIGNED.match(code) or HELP.match(code):
            plain = None
        if plain is None:
            return None
        lines.append(line[:len(line) - len(code)] + plain + "\n" * height)
    text = "".join(lines)
    # a notebook may await at its top; what nobody understands is for the task's own Python to refuse
    return None if not _is_python(text) and _is_python(text, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT) else text


def _logical_lines(source: str) -> list[tuple[str, int]]:
    """(line, how many lines of the cell it takes): a `!` or `%` that goes on behind a backslash as IPython joins it."""
    lines: list[tuple[str, int]] = []
    goes_on = False
    for line in source.splitlines():
        if goes_on:
            before, height = lines.pop()
            lines.append((before[:-1] + line, height + 1))
        else:
            lines.append((line, 1))
        goes_on = lines[-1][0].endswith("\\") and lines[-1][0].lstrip().startswith(("!", "%"))
    return lines


def _shell(command: str) -> str | None:
    """A `!` line; None where IPython would put values into it."""
    if command.startswith("!") or "{" in command or re.search(r"\$[A-Za-z_]", command):
        return None
    return f"__import__('subprocess').run({command!r}, shell=True)"


def _magic(code: str) -> str | None:
    words = code.lstrip("%").split()
    if code.startswith("%%"):
        return f"pass  # {code}" if code in ("%%time", "%%timeit") else None
    if words[:1] in (["pip"], ["conda"]):
        return _shell(code[1:].lstrip())
    idle = words and (words[0] in IDLE or words[:2] == ["load_ext", "autoreload"])
    return f"pass  # {code}" if idle else None


def _is_python(source: str, flags: int = 0) -> bool:
    import warnings
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "cell", "exec", flags, dont_inherit=True)
        return True
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):  # deeper than we can go: the task's own Python says what it thinks of it
        return True


def _ours(path: str, name: str) -> bool:
    """Whether it is the script that was made of this notebook before."""
    try:
        # a repository may have a link there, to what has no end
        with open(untrusted.opened(*os.path.split(path)), encoding="utf-8") as file:
            return file.readline(untrusted.SMALL) == HEADER.format(name)
    except (OSError, ValueError):
        return False
