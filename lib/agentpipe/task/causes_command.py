"""Causes in a task's command line: what argparse or click said of it."""

from __future__ import annotations

import re
import shlex

from agentpipe.task.remedies import again, edit, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known


def argument(task: dict[str, Any], evidence: str) -> Known | None:
    """What is wrong with the command line, and the spelling that was meant, where one is near."""
    for told in (_unknown, _choice, _missing, _value, _other):
        known = told(task, evidence)
        if known:
            return known
    return None


def _unknown(task: dict[str, Any], evidence: str) -> Known | None:
    said = re.findall(r"(?:error: unrecognized arguments: |[Nn]o such option:? )(\S+)", evidence)
    if not said:
        return None
    wrong, _, value = said[-1].partition("=")
    wrong = wrong.rstrip(".")
    if not wrong.startswith("-"):
        return {"reason": f"the script takes no argument {wrong}", "advice": _rewritten(task)}
    known = [word for word in re.findall(r"--?[A-Za-z][\w-]*", evidence) if word != wrong]
    return _respelled(task, wrong, known, f"the script has no option {wrong}", "=" + value if value else "")


def _choice(task: dict[str, Any], evidence: str) -> Known | None:
    said = re.findall(r"error: argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", evidence)
    if not said:
        return None
    option, wrong, choices = said[-1]
    known = [word.strip(" '\"") for word in choices.split(",")]
    return _respelled(task, wrong, known, f"{option} takes no {wrong}, but {', '.join(known)}", "")


def _missing(task: dict[str, Any], evidence: str) -> Known | None:
    said = re.findall(r"error: the following arguments are required: (.*)", evidence)
    said += re.findall(r"^Error: Missing (?:option|argument) '([^' ]+)", evidence, re.MULTILINE)
    if not said:
        return None
    return {"reason": f"the script wants {said[-1]}", "advice":
            f"agent-task clone {task['id']} --queue QUEUE -- {shlex.quote(said[-1].split(',')[0])} …"}


def _value(task: dict[str, Any], evidence: str) -> Known | None:
    """A value of the wrong kind, or none: `argument -e/--epochs: invalid int value: 'three'`."""
    said = re.findall(r"error: argument (\S+): (.+)", evidence)
    said += re.findall(r"^Error: Invalid value for '(\S+?)': (.+)", evidence, re.MULTILINE)
    if not said:
        return None
    names, wrong = said[-1]
    reason = f"the script does not take that {names}: {wrong}"
    long = next((name for name in names.split("/") if name.startswith("--")), "")
    if long not in (word.partition("=")[0] for word in words(task)):
        return {"reason": reason, "advice": _rewritten(task)}
    return {"reason": reason, "advice": edit(task, "--set", f"Args/{long[2:]}=VALUE")}


def _other(task: dict[str, Any], evidence: str) -> Known | None:
    """What a script's own parser.error() says: its usage, then PROGRAM: error: WORDS."""
    said = re.findall(r"^usage: (?:.*\n)+?\S.*: error: (.+)", evidence, re.MULTILINE)
    return {"reason": said[-1], "advice": _rewritten(task)} if said else None


def _respelled(task: dict[str, Any], wrong: str, known: list[str], reason: str, value: str) -> Known:
    import difflib
    given = words(task)
    near = difflib.get_close_matches(wrong, known, 1, 0.6)
    at = [index for index, word in enumerate(given) if word in (wrong, wrong + value)]
    if not near or not at:
        return {"reason": reason, "advice": _rewritten(task)}
    given[at[-1]] = near[0] + value
    return {"reason": f"{reason}; {near[0]} may be meant", "remedy": edit(task, "--entry-point", shlex.join(given))}


def _rewritten(task: dict[str, Any]) -> str:
    """Words: the command line as it is, to be changed by hand."""
    return (f"type it anew: agent-task edit {task['id']} --entry-point {shlex.quote(shlex.join(words(task)))}, "
            f"then {again(task)}")
