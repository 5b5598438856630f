"""Causes in a task's command line: what argparse or click said of it."""

from __future__ import annotations

import re
import shlex

from agentpipe.task.remedies import edit, retyped, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def argument(task: dict[str, Any], evidence: str) -> Known | None:
    """What is wrong with the command line, and the spelling that was meant, where one is near."""
    for told in (_unknown, _choice, _missing, _value, _other):
        known = told(task, evidence)
        if known:
            return known
    return None


def _unknown(task: dict[str, Any], evidence: str) -> Known | None:
    said = re.findall(r"error: unrecognized arguments: (.+)", evidence)
    unknown = said[-1].split() if said else re.findall(r"[Nn]o such option:? '?(\S+)", evidence)[-1:]
    if not unknown:
        return None
    unknown = list(dict.fromkeys(word.partition("=")[0].rstrip(".'") for word in unknown))
    if not unknown[0].startswith("-"):
        return {"reason": f"the script takes no argument {unknown[0]}", "advice": _rewritten(task)}
    reason, given = f"the script has no option {unknown[0]}", words(task)
    known = set(OPTION.findall(evidence)) - set(unknown)
    meant = [near for word in unknown if word.startswith("-") and (near := _respelled(given, word, known))]
    if not meant:
        return {"reason": reason, "advice": _rewritten(task)}
    return {"reason": f"{reason}; {', '.join(meant)} may be meant", "remedy": retyped(task, given)}


def _choice(task: dict[str, Any], evidence: str) -> Known | None:
    import difflib
    said = re.findall(r"error: argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", evidence)
    if not said:
        return None
    option, wrong, choices = said[-1]
    known = [word.strip(" '\"") for word in choices.split(",")]
    reason, near = f"{option} takes no {wrong}, but {', '.join(known)}", difflib.get_close_matches(wrong, known, 1, 0.6)
    given, at = words(task), _value_at(words(task), option, wrong)
    if not near or not at:
        return {"reason": reason, "advice": _rewritten(task)}
    given[at] = given[at].removesuffix(wrong) + near[0]
    return {"reason": f"{reason}; {near[0]} may be meant", "remedy": retyped(task, given)}


def _value_at(given: list[str], argument: str, value: str) -> int:
    """Where among the words an argument (`-o/--optimizer`, or a name without a dash) has that value; 0: nowhere."""
    names, of = argument.split("/"), ""
    for at, word in enumerate(given):
        if word.startswith("-"):
            of = word
        if word in [f"{name}={value}" for name in names]:
            return at
        if at and word == value and (of in names or not argument.startswith("-")):
            return at
    return 0


def _missing(task: dict[str, Any], evidence: str) -> Known | None:
    """What has to be given and is not: beside all that is given, or where what was meant to be it stands."""
    said = re.findall(r"error: the following arguments are required: (.*)", evidence)
    said += re.findall(r"\bMissing (?:option|argument) '([^']+(?:' / '[^']+)*)'", evidence)
    if not said:
        return None
    # "-d/--data", or in click's words: '--data' / '-d'
    wanted = [[name.strip(" '") for name in one.split("/")] for one in said[-1].split(", ")]
    reason, given, lacking = f"the script wants {', '.join(map('/'.join, wanted))}", words(task), []
    for names in wanted:
        wrong = _instead(given, names, evidence)
        near = _respelled(given, wrong, set(names)) if wrong else ""
        if near:
            reason += f"; {wrong} is no option of it, and {near} may be meant"
        else:
            lacking.append(names)
    if not lacking:
        return {"reason": reason, "remedy": retyped(task, given)}
    end = given.index("--") if "--" in given else len(given)
    more = " ".join(f"{shlex.quote(max(names, key=len))} …" if names[0].startswith("-") else "…" for names in lacking)
    text = " ".join(filter(None, (shlex.join(given[:end]), more, shlex.join(given[end:]))))
    return {"reason": reason, "advice": edit(task, "--entry-point", text)}


def _instead(given: list[str], names: list[str], evidence: str) -> str:
    """An option among the words that is near to one of `names`, and none of those that argparse's usage names."""
    import difflib
    usage = re.findall(r"^usage: (?:.*\n)+?(?=\S.*: error: )", evidence, re.MULTILINE)
    known = OPTION.findall(usage[-1]) if usage else []
    if not set(known) & set(names):  # a usage in words of the script's own
        return ""
    # argparse takes the beginning of an option for it
    strange = [option for option in (word.partition("=")[0] for word in given[1:])
               if option.startswith("--") and not any(each.startswith(option) for each in known)]
    return next((option for option in strange if difflib.get_close_matches(option, names, 1, 0.6)), "")


def _value(task: dict[str, Any], evidence: str) -> Known | None:
    """A value of the wrong kind, or none: `argument -e/--epochs: invalid int value: 'three'`."""
    said = re.findall(r"error: argument (\S+): (.+)", evidence)
    said += re.findall(r"^Error: Invalid value for '(\S+?)': (.+)", evidence, re.MULTILINE)
    if not said:
        return None
    names, wrong = said[-1]
    reason = f"the script does not take that {names}: {wrong}"
    long = next((name for name in names.split("/") if name.startswith("--")), "")
    stored = (task.get("hyperparams") or {}).get("Args") or {}
    if long not in (word.partition("=")[0] for word in words(task)) and long[2:] not in stored:
        return {"reason": reason, "advice": _rewritten(task)}
    return {"reason": reason, "advice": edit(task, "--set", f"Args/{long[2:]}=VALUE")}


def _other(task: dict[str, Any], evidence: str) -> Known | None:
    """What a script's own parser.error() says: its usage, then PROGRAM: error: WORDS."""
    said = re.findall(r"^usage: (?:.*\n)+?\S.*: error: (.+)", evidence, re.MULTILINE)
    return {"reason": said[-1], "advice": _rewritten(task)} if said else None


def _respelled(given: list[str], wrong: str, known: set[str]) -> str:
    """The one of `known` that is near to an option, which it is then among the words `given`; "" where none is."""
    import difflib
    near = difflib.get_close_matches(wrong, sorted(known), 1, 0.6)
    at = [index for index, word in enumerate(given) if word.partition("=")[0] == wrong]
    if not near or not at:
        return ""
    for index in at:
        given[index] = near[0] + given[index].removeprefix(wrong)
    return near[0]


def _rewritten(task: dict[str, Any]) -> str:
    """Words: the command line as it is, to be changed by hand."""
    return f"change the arguments in: {retyped(task, words(task))}"
