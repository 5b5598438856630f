"""What a script said last, where only its exit status is known, and the line of its own code that said or ended it."""

from __future__ import annotations

import re

from agentpipe.task import code_lines, error_lines, own_lines, whereabouts
from agentpipe.task.remedies import anew, reproduced, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

EXIT = re.compile(r"exit (\d+)")
FILLED_IN = re.compile(r"\{[^}]*\}|%[-#0-9.]*[a-zA-Z]|\$\{?\w+\}?")  # by str.format, an f-string, %, or a shell
# of cp, mv and their like: `cp: cannot stat 'data.txt': No such file or directory`
PROGRAM = re.compile(r"([a-z][\w.-]*): [^'‘:]*['‘]([^'’]+)['’]")
FEW = 6  # characters that may stand in a message by chance


def of(task: dict[str, Any], evidence: str, own: str, reason: str) -> Known:
    """The reason, of an error if it told of one, and what to do; {} where more than "exit N" is known.

    `own` is what of the evidence the script has said itself, of its end.
    """
    status = EXIT.fullmatch(reason)
    if not status:
        return {}
    lines = [line.strip() for line in own.splitlines() if line.strip()]
    lines = [line for line in lines if error_lines.tells(line.encode("utf-8", "replace"))] or lines
    nothing = "it printed nothing of its own" if evidence.strip() else "it printed nothing"
    said = short(lines[-1]) if lines else nothing
    line = own_lines.last(task, own) or code_lines.only(task, _saying(lines[-1]) if lines else _ending(status[1]))
    called = PROGRAM.match(lines[-1]) if lines else None
    line = line or (code_lines.only(task, _calling(*called.groups())) if called else None)
    if line:
        known = own_lines.mended(task, line)
        return {"reason": f"{said}, at {line} ({reason})", **known,
                **({"advice": None} if known.get("remedy") and not lines else {})}
    watch = f"see it again: {reproduced(task)}"
    log = f"all that it printed: agent-task log {task['id']}; or " if lines else ""
    return {"reason": f"{said} ({reason})", "advice": f"{log}{watch}{_mended(task)}"}


def _mended(task: dict[str, Any]) -> str:
    """How to run it again once its code is mended, where it has a repository."""
    from agentpipe.code import bundle
    if not (task.get("script") or {}).get("repository") or bundle.of(task):
        return ""
    top = whereabouts.checkout(task)
    return f"; once it is mended{'' if top else ', in its checkout'}: {anew(task, top or '.')}"


def _calling(program: str, word: str) -> Any:
    """Whether a line calls a program with that argument."""
    call = re.compile(rf"(?<![\w./-]){re.escape(program)}(?![\w.-])")
    return lambda line: word in line and call.search(line.partition(word)[0])


def _ending(status: str) -> Any:
    """Whether a line ends its script with that status."""
    return re.compile(rf"\b(?:_?exit|SystemExit)(?:\(\s*{status}\s*\)|\s+{status}\b)").search


def _saying(said: str) -> Any:
    """Whether a line has a text that became what was said, whatever was filled in."""
    def told(line: str) -> bool:
        for text in code_lines.texts(line):
            parts = [part for part in FILLED_IN.split(text) if part]
            if all(part in said for part in parts) and sum(map(len, parts)) >= max(FEW, len(said) // 3):
                return True
        return False
    return told
