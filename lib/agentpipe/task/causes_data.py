"""Causes in a file that a script reads: what is wrong in JSON, TOML, YAML or INI, or a pointer in the place of data.

Of a file that the error does not name, it is the one of the checkout that fails in just this way.
"""

from __future__ import annotations

import json
import os
import posixpath
import re

from agentpipe import untrusted
from agentpipe.task import code_lines, error_lines, own_lines, whereabouts
from agentpipe.task.remedies import again, short, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.task.remedies import Known

    Check = Callable[[str], int]  # the line of a text at which it fails in that way; 0 where it does not

JSON = re.compile(r"^json\.decoder\.JSONDecodeError: (.+: line \d+ column \d+ \(char \d+\))$", re.MULTILINE)
TOML = re.compile(r"^(?:tomllib|tomli|toml)(?:\.\w+)*\.(?:TOMLDecodeError|TomlDecodeError): (.+)$", re.MULTILINE)
YAML = re.compile(r"^(?:yaml|ruamel\.yaml)\.\w+\.\w+Error: ((?:.*\n)+? +in \".+\", line \d+, column \d+.*"
                  r"(?:\n\S.*\n +in \".+\", line \d+, column \d+.*)?)", re.MULTILINE)
YAML_PLACE = re.compile(r'^ +in "(.+)", line (\d+), column \d+', re.MULTILINE)
INI = re.compile(r"^configparser\.\w+Error: ((?:.*\n)?.*?'([^']+)',? *(?:\n\t)?(?:\[line|line:) +(\d+).*)",
                 re.MULTILINE)
# a pointer's first letter, as pickle and torch.load name it
KEY = re.compile(r"_?pickle\.UnpicklingError: (?:.*\n)*?.*(?:invalid load key, 'v'\.|Unsupported operand 118\b)")
# what a table has not, in which there is a pointer
OF_CONTENT = re.compile(r"(?:KeyError|IndexError|ValueError|[\w.]+\.(?:ParserError|EmptyDataError))\b")
READS = re.compile(r"\b(?:open|read_\w+|load\w*)\(")
# what no file's contents bring about
OF_CODE = re.compile(r"(?:NameError|UnboundLocalError|SyntaxError|IndentationError|ImportError|ModuleNotFoundError"
                     r"|AttributeError|AssertionError|NotImplementedError|RecursionError)\b")
NO_JSON = "line 1 column 1 (char 0)"  # so begins what is none at all, as the answer of a server
POINTER = b"version https://git-lfs.github.com/spec/"
MOST = 300  # files that are read


def broken(task: dict[str, Any], evidence: str) -> Known | None:
    """A file of the repository that is not what its name says: it, and the line."""
    for look in (_json, _toml, _yaml, _ini):
        found = look(task, evidence)
        if found:
            kind, line, said = found
            if _begins(whereabouts.code_of(task), line.name, POINTER):
                return _only_pointer(task, line.name)
            return {"reason": f"{line} cannot be read as {kind}: {said}", **own_lines.mended(task, line)}
    return None


def pointer(task: dict[str, Any], evidence: str) -> Known | None:
    """Git LFS' pointer in the place of a file that the script names; of pickles, whose first letter tells, any."""
    top, (spoken, other) = whereabouts.code_of(task), _files(task, evidence)
    said = error_lines.last(evidence)
    if OF_CODE.match(said):
        return None
    found = [name for name in (*spoken, *(other[:MOST] if KEY.match(said) else ())) if _begins(top, name, POINTER)]
    return _only_pointer(task, found[0]) if found else None


def read_above(task: dict[str, Any], evidence: str) -> Known | None:
    """A pointer that a line above the one which failed reads, and that has not the columns or the numbers wanted.

    What the exception says stays beside it: that line may not have run.
    """
    said = error_lines.last(evidence).partition("\n")[0]
    line = own_lines.last(task, evidence) if OF_CONTENT.match(said) else None
    top = whereabouts.code_of(task)
    if not line or not top or not line.name.endswith(".py"):
        return None
    try:
        above = untrusted.read(top, line.name).decode("utf-8", "replace").split("\n")[:max(line.number - 1, 0)]
    except OSError:
        return None
    names = [own_lines.named(task, text) for each in above if READS.search(each) for text in code_lines.texts(each)]
    found = [name for name in names if name and _begins(top, name, POINTER)]
    if not found:
        return None
    known = _only_pointer(task, found[-1])
    return {**known, "reason": f"{short(said)}, at {line}: {known['reason']}"}


def _only_pointer(task: dict[str, Any], name: str) -> Known:
    worker = task.get("last_worker") or "the worker"
    return {"reason": f"{name} is kept in Git LFS, and only its pointer came", "advice":
            f"on {worker}, as the user of the agent: git lfs install; then {again(task)}; where it never got to the "
            "server, first git lfs push --all origin"}


def _json(task: dict[str, Any], evidence: str) -> tuple[str, own_lines.Line, str] | None:
    said = _last(JSON, evidence)
    if not said:
        return None
    lines = _which(task, evidence, (".jsonl", ".ndjson"), lambda text: next(
        (number for number, line in enumerate(text.splitlines(), 1) if line.strip() and _of_json(line) == said[1]), 0))
    line = lines or _which(task, evidence, (".json",),
                           lambda text: _line_of(said[1]) if _of_json(text) == said[1] else 0,
                           said[1].endswith(NO_JSON))
    return ("JSON", line, said[1].partition(": line ")[0]) if line else None


def _toml(task: dict[str, Any], evidence: str) -> tuple[str, own_lines.Line, str] | None:
    said = _last(TOML, evidence)
    line = _which(task, evidence, (".toml",), lambda text: _of_toml(text, _line_of(said[1]))) if said else None
    return ("TOML", line, re.sub(r" \(at .*\)$", "", said[1])) if said and line else None


def _yaml(task: dict[str, Any], evidence: str) -> tuple[str, own_lines.Line, str] | None:
    said = _last(YAML, evidence)
    if not said:
        return None
    places = YAML_PLACE.findall(said[1])
    wrong = [line for line in said[1].splitlines() if not line.startswith(" ")]
    text = wrong[-1] + (f" ({wrong[0]}, line {places[0][1]})" if len(wrong) > 1 and len(places) > 1 else "")
    name = _inside(task, places[-1][0])
    if not name and places[-1][0].startswith("<"):  # of a text: its file only where one is spoken of
        spoken, _ = _files(task, evidence, (".yaml", ".yml"))
        name = spoken[0] if len(spoken) == 1 else ""
    return ("YAML", own_lines.Line(name, int(places[-1][1])), text) if name else None


def _ini(task: dict[str, Any], evidence: str) -> tuple[str, own_lines.Line, str] | None:
    said = _last(INI, evidence)
    name = _inside(task, said[2]) if said else ""
    return ("INI", own_lines.Line(name, int(said[3])), said[1].splitlines()[0]) if said and name else None


def _last(pattern: re.Pattern[str], evidence: str) -> re.Match[str] | None:
    """The last of its kind, when no other traceback follows."""
    found = [*pattern.finditer(evidence)][-1:]
    return found[0] if found and "Traceback (most recent call last):" not in evidence[found[0].end():] else None


def _line_of(said: str) -> int:
    """The line that an error names; 0 where it names the end."""
    found = re.search(r"\bline (\d+)", said)
    return int(found[1]) if found else 0


def _of_json(text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return str(error)
    except (ValueError, RecursionError):
        pass
    return ""


def _of_toml(text: str, line: int) -> int:
    from agentpipe.environment import pins
    toml = pins.toml()
    try:
        toml.loads(text)
    except toml.TOMLDecodeError as error:
        return (line or text.count("\n") + 1) if _line_of(str(error)) == line else 0
    except (ValueError, RecursionError):
        pass
    return 0


def _which(task: dict[str, Any], evidence: str, kinds: tuple[str, ...], check: Check,
           pointers: bool = False) -> own_lines.Line | None:
    """The one file with such an ending that fails in this way: of those that are spoken of, else of all.

    With `pointers` only those of Git LFS count of the others.
    """
    top = whereabouts.code_of(task)
    spoken, other = _files(task, evidence, kinds)
    other = [name for name in other if _begins(top, name, POINTER)] if pointers else other
    for names in (spoken, [*spoken, *other]):
        found = []
        for name in names[:MOST]:
            try:
                text = untrusted.read(top, name).decode("utf-8").replace("\r\n", "\n")
            except (OSError, UnicodeDecodeError):
                continue
            if number := check(text):
                found.append(own_lines.Line(name, number))
        if len(found) == 1:
            return found[0]
    return None


def _files(task: dict[str, Any], evidence: str, kinds: tuple[str, ...] = ("",)) -> tuple[list[str], list[str]]:
    """Files of the task's code with such an ending: those that are spoken of by their path or name, and the others.

    That is in an argument, or in a text of the error or of a line that its traceback shows.
    """
    top = whereabouts.code_of(task)
    shown = [line for line in evidence.splitlines() if line.startswith("    ")]
    texts = [word.rpartition("=")[2] for word in words(task)[1:]]
    texts += [text for line in (*shown, error_lines.last(evidence)) for text in code_lines.texts(line)]
    names = {*texts, *map(posixpath.normpath, texts), *(own_lines.named(task, text) for text in texts)}
    found: tuple[list[str], list[str]] = ([], [])
    for name in whereabouts.files(top) if top else ():
        if name.endswith(kinds):
            found[name not in names and posixpath.basename(name) not in names].append(name)
    return found


def _inside(task: dict[str, Any], path: str) -> str:
    """A path that the script has opened, relative to the top of the checkout; "" where it is no file of it."""
    top, name = whereabouts.code_of(task), own_lines.named(task, path)
    return name if top and name and os.path.isfile(os.path.join(top, name)) else ""


def _begins(top: str, name: str, text: bytes) -> bool:
    try:
        with os.fdopen(untrusted.opened(top, name), "rb") as file:
            return file.read(len(text)) == text
    except OSError:
        return False
