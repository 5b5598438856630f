"""Causes in a shell script: what bash, dash and the programs it calls say, and the line of the script."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import shlex

from agentpipe import untrusted
from agentpipe.task import code_lines, own_lines, whereabouts
from agentpipe.task.remedies import anew, short, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

# SCRIPT: line 5: WORDS (bash), SCRIPT: 5: WORDS (dash)
SAID = re.compile(r"^(\S[^:\n]*): (?:line )?(\d+): (.+)$", re.MULTILINE)
# a carriage return as bash and env write it, or as it has sent the rest of the line over its beginning
RETURN = re.compile(r"\$'[^'\n]*\\r'|[‘'][^’'\n]*\\r[’']: No such file|^: \w", re.MULTILINE)
ENV = re.compile(r"env: [‘']([^’'\n]+)\\r[’']: No such file")
SYNTAX = re.compile(r"[Ss]yntax error\b")
PASSED = re.compile(r" *\d+ +(?:Killed|Terminated|Hangup)\b|warning: ")  # of a program, from outside; no error
NEAR = 3  # lines: a shell script may go on without what it has called
LAST = 3  # lines: of a syntax error bash prints more than one
DENIED = re.compile(r"^(?:\S[^:\n]*: (?:line )?\d+: |PermissionError: \[Errno 13\] Permission denied: ')([^':\n]+)"
                    r"(?:: Permission denied|')$", re.MULTILINE)
NO_SCRIPT = re.compile(r"^\S*python[\d.]*: (?:can't open file '([^']+)': \[Errno 2\] No such file or directory"
                       r"|No module named ([\w.]+))$", re.MULTILINE)


def returns(task: dict[str, Any], evidence: str) -> Known | None:
    """A script with the line ends of Windows, of which a shell makes a part of each line's last word."""
    found, top = _last(task, evidence), whereabouts.checkout(task)
    if RETURN.search(evidence):
        named = [*([found.name] if found else []), own_lines.named(task, next(iter(words(task)), "")),
                 *_started_by(task, evidence)]
    elif found and SYNTAX.match(found.text):  # of a word that the shell has not known at all
        named = [found.name]
    else:
        return None
    name = next(filter(lambda each: _has_returns(whereabouts.of_last_run(task) or top, each), named), "")
    if not name:
        return None
    reason, mend, path = f"{name} has the line ends of Windows (CRLF)", r"sed -i 's/\r$//' ", os.path.join(top, name)
    if top and os.path.isfile(path):
        return {"reason": reason, "remedy": f"{mend}{shlex.quote(path)} && {anew(task, top)}",
                "advice": "a line *.sh text eol=lf in its .gitattributes keeps it so"}
    return {"reason": reason, "advice": f"{mend}{shlex.quote(name)} in your checkout, and there: {anew(task)}"}


def _started_by(task: dict[str, Any], evidence: str) -> list[str]:
    """The one file whose first line names a program as env has not found it, with a carriage return behind it."""
    top, found = whereabouts.code_of(task), []
    for program in ENV.findall(evidence)[-1:]:
        first = re.compile(rb"#!.*\b" + re.escape(program.encode()) + rb"\r\n")
        for name in whereabouts.files(top):
            try:
                found += [name] if first.match(untrusted.read(top, name)) else []
            except OSError:
                continue
    return found if len(found) == 1 else []


def _has_returns(top: str, name: str) -> bool:
    try:
        return bool(top and name) and b"\r\n" in untrusted.read(top, name)
    except OSError:
        return False


def not_executable(task: dict[str, Any], evidence: str) -> Known | None:
    """A file of the repository that was called as a program, and that git does not know as one."""
    code = whereabouts.of_last_run(task)
    for word in DENIED.findall(evidence)[-1:]:
        name = own_lines.named(task, word)
        there = os.path.join(code, name)
        # root may read and write what it likes, and starts only what is executable
        if not code or not name or not os.path.isfile(there) or os.stat(there).st_mode & 0o111:
            return None
        top = whereabouts.checkout(task)
        path, reason = os.path.join(top, name), f"{name} is not executable in git"
        if top and os.path.isfile(path):
            return {"reason": reason, "remedy": f"chmod +x {shlex.quote(path)} && {anew(task, top)}"}
        return {"reason": reason, "advice": f"chmod +x {shlex.quote(name)} in your checkout, and there: {anew(task)}"}
    return None


def no_script(task: dict[str, Any], evidence: str) -> Known | None:
    """A Python script, or a module, that another script calls by a wrong name."""
    said = NO_SCRIPT.findall("\n".join(evidence.rstrip().splitlines()[-NEAR:]))
    code = whereabouts.of_last_run(task)
    path, module = said[-1] if said else ("", "")
    name = own_lines.named(task, path) if path else module
    known = whereabouts.modules(task) if module else [each for each in whereabouts.files(code) if each.endswith(".py")]
    if not code or not name or name in known:
        return None
    near = difflib.get_close_matches(name, known, 1, 0.7)
    if module and not near:  # of a package
        return None
    reason = f"there is no {name}" + (f"; {near[0]} may be meant" if near else "")
    call = code_lines.only(task, re.compile(rf"(?<![\w.-]){re.escape(posixpath.basename(name))}(?![\w.-])").search)
    if not call:
        return {"reason": reason, "advice": f"write {near[0] if near else 'the right one'} where it is called in your "
                                            f"checkout, and there: {anew(task)}"}
    return {"reason": f"{reason}, at {call}", **own_lines.mended(task, call)}


def line(task: dict[str, Any], evidence: str) -> Known | None:
    """What a shell said of a line of the task's own script, among the last words of all."""
    found = _last(task, "\n".join(evidence.rstrip().splitlines()[-LAST:]))
    if not found or PASSED.match(found.text):
        return None
    return {"reason": f"{short(found.text)}, at {found}", **own_lines.mended(task, found)}


def _last(task: dict[str, Any], evidence: str) -> own_lines.Line | None:
    """The last line of one of its own scripts that a shell spoke of, with what it said."""
    top = whereabouts.code_of(task)
    for name, number, said in reversed(SAID.findall(evidence)):
        path = own_lines.named(task, name)
        if os.path.isfile(os.path.join(top, path)) if top and path else path.endswith((".sh", ".bash")):
            return own_lines.Line(path, int(number), said)
    return None
