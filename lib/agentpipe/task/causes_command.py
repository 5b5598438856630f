"""Causes in a task's command line: what argparse or click (and typer) said of it."""

from __future__ import annotations

import difflib
import re
import shlex

from agentpipe.task import code_lines
from agentpipe.task.remedies import edit, retyped, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
USAGE = re.compile(r"^usage: (?:.*\n)+?(?=\S.*: error: )", re.MULTILINE)  # argparse's
COMMANDS = re.compile(r" \.\.\.(?!\])")  # behind the name of a sub-command, and not of several values
YES, NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")
# argparse: `argument -o/--opt: invalid choice: 'adma' (choose from 'adam', 'sgd')`; later ones without the inner quotes
CHOICE = re.compile(r"error: argument (\S+): invalid choice: '([^']*)'(?:, maybe you meant '[^']*'\?)? "
                    r"\(choose from (.*)\)")
# click: `Invalid value for '--opt' / '-o': 'adma' is not one of 'adam', 'sgd'.`
CLICK_VALUE = r"^Error: Invalid value for '([^']+(?:' / '[^']+)*)': "
CLICK_CHOICE = re.compile(CLICK_VALUE + r"'?(.+?)'? is not one of (.+?)\.?$", re.MULTILINE)
CLICK_COMMAND = re.compile(
    r"^Error: No such command '([^']+)'\.?(?: \(?Did you mean (?:one of: )?(.+?)\?\)?)?$", re.MULTILINE)
CLICK_VALUELESS = re.compile(r"^Error: Option '([^']+(?:' / '[^']+)*)' requires an argument", re.MULTILINE)


def argument(task: dict[str, Any], evidence: str) -> Known | None:
    """What is wrong with the command line, and the spelling that was meant, where one is near."""
    for told in (_unknown, _choice, _command, _missing, _number, _flag, _value, _other):
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
        return _surplus(task, unknown[0])
    reason, given = f"the script has no option {unknown[0]}", words(task)
    known = set(OPTION.findall(evidence)) - set(unknown)
    # of a sub-command the usage shows none; else it shows all, and the code has those of other scripts too
    usage = USAGE.findall(evidence)
    of_code = set() if usage and not COMMANDS.search(usage[-1]) else code_lines.options(task) - set(unknown)
    meant = [near for word in unknown if word.startswith("-")
             and (near := respelled(given, word, known) or respelled(given, word, of_code))]
    if not meant:
        return {"reason": reason, "advice": rewritten(task)}
    return {"reason": f"{reason}; {', '.join(meant)} may be meant", "remedy": retyped(task, given)}


def _surplus(task: dict[str, Any], word: str) -> Known:
    """An argument too many: `--cuda true` of an option without a value."""
    given, reason = words(task), f"the script takes no argument {word}"
    at = given.index(word) if given.count(word) == 1 else 0
    if at > 1 and given[at - 1].startswith("--") and "=" not in given[at - 1] and word.lower() in (*YES[:2], *NO[:2]):
        del given[at - (word.lower() in NO):at + 1]
        return {"reason": f"{reason}, and its option before it no value", "remedy": retyped(task, given)}
    return {"reason": reason, "advice": rewritten(task)}


def _choice(task: dict[str, Any], evidence: str) -> Known | None:
    said = CHOICE.findall(evidence)
    names, wrong, choices = said[-1] if said else ([*CLICK_CHOICE.findall(evidence)] or [("", "", "")])[-1]
    if not names:
        return None
    option = "/".join(_names(names))
    known = [word.strip(" '\"") for word in choices.split(",")]
    reason, near = f"{option} takes no {wrong}, but {', '.join(known)}", difflib.get_close_matches(wrong, known, 1, 0.6)
    given, at = words(task), _value_at(words(task), option, wrong)
    if not near or not at:
        return {"reason": reason, "advice": rewritten(task)}
    given[at] = given[at].removesuffix(wrong) + near[0]
    return {"reason": f"{reason}; {near[0]} may be meant", "remedy": retyped(task, given)}


def _command(task: dict[str, Any], evidence: str) -> Known | None:
    """A sub-command of click's that is not there, of which later ones say what is near."""
    said = CLICK_COMMAND.findall(evidence)
    return unknown_command(task, said[-1][0], _names(said[-1][1])) if said else None


def unknown_command(task: dict[str, Any], wrong: str, known: list[str]) -> Known:
    """A sub-command that is not there, beside those of the same program that are."""
    reason, given = f"the script has no command {wrong}", words(task)
    near = difflib.get_close_matches(wrong, known, 1, 0.6)
    if not near or given[1:].count(wrong) != 1:
        there = f", but {', '.join(known)}" if known else ""
        return {"reason": reason + there, "advice": rewritten(task)}
    given[given.index(wrong, 1)] = near[0]
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


def _names(said: str) -> list[str]:
    """What click lists: `'--data' / '-d'`, `'fit', 'test'`; and argparse: `-d/--data`."""
    return [name for each in re.split(r"/|, ", said) if (name := each.strip(" '"))]


def _missing(task: dict[str, Any], evidence: str) -> Known | None:
    """What has to be given and is not: beside all that is given, or where what was meant to be it stands."""
    said = re.findall(r"error: the following arguments are required: (.*)", evidence)
    said += re.findall(r"\bMissing (?:option|argument) '([^']+(?:' / '[^']+)*)'", evidence)
    if not said:
        return None
    wanted = [_names(one) for one in said[-1].split(", ")]
    reason, given, lacking = f"the script wants {', '.join(map('/'.join, wanted))}", words(task), []
    for names in wanted:
        wrong = _instead(given, names, evidence)
        near = respelled(given, wrong, set(names)) if wrong else ""
        if near:
            reason += f"; {wrong} is no option of it, and {near} may be meant"
        else:
            lacking.append(names)
    if not lacking:
        return {"reason": reason, "remedy": retyped(task, given)}
    end = given.index("--") if "--" in given else len(given)
    more = " ".join(f"{shlex.quote(max(names, key=len))} …" if names[0].startswith("-") else "…" for names in lacking)
    return {"reason": reason, "advice": filled(task, given, end, more)}


def filled(task: dict[str, Any], given: list[str], at: int, more: str) -> str:
    """The command that puts `more`, which has a … for whoever types it, among the words."""
    text = " ".join(filter(None, (shlex.join(given[:at]), more, shlex.join(given[at:]))))
    return edit(task, "--entry-point", text)


def _instead(given: list[str], names: list[str], evidence: str) -> str:
    """An option among the words that is near to one of `names`, and none of those that argparse's usage names."""
    usage = USAGE.findall(evidence)
    known = OPTION.findall(usage[-1]) if usage else []
    if not set(known) & set(names):  # a usage in words of the script's own
        return ""
    # argparse takes the beginning of an option for it
    strange = [option for option in (word.partition("=")[0] for word in given[1:])
               if option.startswith("--") and not any(each.startswith(option) for each in known)]
    return next((option for option in strange if difflib.get_close_matches(option, names, 1, 0.6)), "")


def _number(task: dict[str, Any], evidence: str) -> Known | None:
    """Too few values of an option: none, or fewer than the number that it wants."""
    said = re.findall(r"error: argument (\S+): (expected (?:(one|at least one|\d+) arguments?))", evidence)
    said += [(names, "it requires an argument", "one") for names in CLICK_VALUELESS.findall(evidence)]
    if not said:
        return None
    names, wrong, number = said[-1]
    reason, given = f"the script does not take that {'/'.join(_names(names))}: {wrong}", words(task)
    at = [index for index, word in enumerate(given) if index and word in _names(names)][-1:]
    if not at:
        return {"reason": reason, "advice": rewritten(task)}
    end = begin = at[0] + 1
    while end < len(given) and not given[end].startswith("-"):
        end += 1
    wants = int(number) if number.isdigit() else 1
    split = re.split(r"[\s,]+", given[begin]) if end - begin == 1 else []
    following = given[begin] if begin < len(given) else ""
    if wants == 1 and following.startswith("-") and following not in OPTION.findall(evidence):
        # it begins as an option does, so that argparse takes it for one
        joined = retyped(task, [*given[:at[0]], f"{given[at[0]]}={following}", *given[begin + 1:]])
        return {"reason": reason, **({"remedy": joined} if _is_number(following) else {
            "advice": f"where {following} is its value: {joined}"})}
    if wants > 1 and len(split) == wants:
        given[begin:end] = split
        return {"reason": reason, "remedy": retyped(task, given)}
    return {"reason": reason, "advice": filled(task, given, end, " ".join(["…"] * max(wants - (end - begin), 1)))}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _flag(task: dict[str, Any], evidence: str) -> Known | None:
    """A value for an option that has none: `--cuda=true`."""
    said = re.findall(r"error: argument (\S+): ignored explicit argument '([^']*)'", evidence)
    said += re.findall(r"^Error: Option '([^']+)' does not take a value\.()", evidence, re.MULTILINE)
    if not said:
        return None
    names, given = _names(said[-1][0]), words(task)
    reason = f"the option {'/'.join(names)} takes no value"
    at = [index for index, word in enumerate(given)
          if word.startswith("--") and "=" in word and word.partition("=")[0] in names]
    value = given[at[0]].partition("=")[2].lower() if len(at) == 1 else ""
    if value not in (*YES, *NO):
        return {"reason": reason, "advice": rewritten(task)}
    given[at[0]:at[0] + 1] = [given[at[0]].partition("=")[0]] if value in YES else []
    return {"reason": reason, "remedy": retyped(task, given)}


def _value(task: dict[str, Any], evidence: str) -> Known | None:
    """A value of the wrong kind: `argument -e/--epochs: invalid int value: 'three'`."""
    said = re.findall(r"error: argument (\S+): (.+)", evidence)
    said += re.findall(CLICK_VALUE + "(.+)", evidence, re.MULTILINE)
    if not said:
        return None
    names, wrong = "/".join(_names(said[-1][0])), said[-1][1]
    reason = f"the script does not take that {names}: {wrong}"
    long = next((name for name in names.split("/") if name.startswith("--")), "")
    stored = (task.get("hyperparams") or {}).get("Args") or {}
    if long not in (word.partition("=")[0] for word in words(task)) and long[2:] not in stored:
        return {"reason": reason, "advice": rewritten(task)}
    return {"reason": reason, "advice": edit(task, "--set", f"Args/{long[2:]}=VALUE")}


def _other(task: dict[str, Any], evidence: str) -> Known | None:
    """What a script's own parser.error() says, or click's: its usage, then PROGRAM: error: WORDS, or Error: WORDS."""
    said = re.findall(r"^usage: (?:.*\n)+?\S.*: error: (.+)", evidence, re.MULTILINE)
    said += re.findall(r"^Usage: (?:.*\n)+?Error: (.+)", evidence, re.MULTILINE)
    return {"reason": said[-1], "advice": rewritten(task)} if said else None


def respelled(given: list[str], wrong: str, known: set[str]) -> str:
    """The one of `known` that is near to an option, which it is then among the words `given`; "" where none is."""
    near = difflib.get_close_matches(wrong, sorted(known), 1, 0.6)
    at = [index for index, word in enumerate(given) if word.partition("=")[0] == wrong]
    if not near or not at:
        return ""
    for index in at:
        given[index] = near[0] + given[index].removeprefix(wrong)
    return near[0]


def rewritten(task: dict[str, Any]) -> str:
    """Words: the command line as it is, to be changed by hand."""
    return f"change the arguments in: {retyped(task, words(task))}"
