"""Causes in a task's command line as Python Fire and Hydra have it: keys, groups and files of a configuration."""

from __future__ import annotations

import difflib
import posixpath
import re

from agentpipe import untrusted
from agentpipe.task import code_lines, own_lines, whereabouts
from agentpipe.task.causes_command import filled, respelled, rewritten, unknown_command
from agentpipe.task.remedies import retyped, short, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

FIRE = re.compile(r"^ERROR: (.+)\nUsage: ", re.MULTILINE)
FIRE_COMMANDS = re.compile(r"^ +available (?:commands|groups): +(.+(?:\n {10,}\S.*)*)", re.MULTILINE)
PARAMETERS = re.compile(r"\bdef \w+\(([^)]*)\)")
# https://hydra.cc/docs/advanced/override_grammar/basic: what comes before an override's key
HYDRA = re.compile(r"^(?:Could not override '(?P<key>[^']+)'\.|In '[^']+': Could not find '(?P<option>[^']+)'"
                   r"|Could not append to config\. An item is already at '(?P<there>[^']+)'\."
                   r"|Cannot find primary config '(?P<config>[^']+)'\.|Error (?:parsing|merging) override .+$"
                   r"|(?P<grammar>.+)\nSee https://hydra\.cc/docs/\S+/override_grammar/)", re.MULTILINE)
NO_KEY = re.compile(r"^Key '([^']+)' is not in struct\n +full_key: (\S+)$", re.MULTILINE)
OPTIONS = re.compile(r"^Available options in '([^']+)':\n((?:\t.+\n?)+)", re.MULTILINE)
KEY = re.compile(r"([A-Za-z_][\w-]*) *:")
YAML = (".yaml", ".yml")


def argument(task: dict[str, Any], evidence: str) -> Known | None:
    """What is wrong with the command line, and the spelling that was meant, where one is near."""
    return _fire(task, evidence) or _hydra(task, evidence)


def _fire(task: dict[str, Any], evidence: str) -> Known | None:
    said = FIRE.findall(evidence)
    if not said:
        return None
    what, _, name = said[-1].rpartition(": ")
    given = words(task)
    if what == "Cannot find key":
        listed = "|".join(FIRE_COMMANDS.findall(evidence))
        return unknown_command(task, name, [each.strip() for each in re.split(r"[|\n]", listed) if each.strip()])
    if what == "The function received no value for the required argument":
        return {"reason": f"the script wants --{name}", "advice": filled(task, given, len(given), f"--{name} …")}
    if what == "Could not consume arg" and name.startswith("-"):
        known = {f"--{each}" for each in _parameters(task)}
        name = name.partition("=")[0]
        near = "" if name in known else respelled(given, name, known)
        reason = f"the script has no option {name}"
        if near:
            return {"reason": f"{reason}; {near} may be meant", "remedy": retyped(task, given)}
        return {"reason": reason, "advice": rewritten(task)}
    return {"reason": said[-1], "advice": rewritten(task)}


def _parameters(task: dict[str, Any]) -> set[str]:
    """The names of the parameters of each function in the script."""
    name = own_lines.named(task, next(iter(words(task)), ""))
    text = _text(whereabouts.code_of(task), name)
    return {found[0] for each in PARAMETERS.findall(text) for parameter in each.split(",")
            if (found := re.match(r"\w+", parameter.strip()))}


def _hydra(task: dict[str, Any], evidence: str) -> Known | None:
    found = [*HYDRA.finditer(evidence)][-1:]
    if not found or "Traceback (most recent call last):" in evidence[found[0].end():]:
        return None
    said = found[0]
    if said["key"]:
        return _key(task, evidence, said["key"])
    if said["option"]:
        return _option(task, evidence, said["option"])
    if said["config"]:
        return _config(task, said["config"])
    given, key = words(task), said["there"]
    if key and len(at := [index for index, word in enumerate(given) if word.startswith(f"+{key}=")]) == 1:
        given[at[0]] = given[at[0]].lstrip("+")
        return {"reason": f"the configuration has {key} already, which + adds", "remedy": retyped(task, given)}
    reason = f"Hydra does not understand an override: {short(said['grammar'])}" if said["grammar"] else short(said[0])
    return {"reason": reason, "advice": rewritten(task)}


def _key(task: dict[str, Any], evidence: str, whole: str) -> Known:
    """An override of what the configuration does not have, beside the keys of its files."""
    no_key = NO_KEY.findall(evidence)
    wrong, path = no_key[-1] if no_key else (whole.rpartition(".")[2], whole)
    near = difflib.get_close_matches(wrong, sorted(_keys(task) - {wrong}), 1, 0.7)
    given = words(task)
    right = path.removesuffix(wrong) + near[0] if near else ""
    mended = [re.sub(rf"^(\+?|~){re.escape(path)}(?=[.=@]|$)", lambda match: match[1] + right, word) if near else word
              for word in given]
    reason = f"the configuration has no {path}"
    if mended == given:
        return {"reason": reason, "advice": f"{rewritten(task)}; where it is new: +{whole}=…"}
    return {"reason": f"{reason}; {right} may be meant", "remedy": retyped(task, mended)}


def _option(task: dict[str, Any], evidence: str, path: str) -> Known:
    """A choice of a group that has no such file."""
    group, _, wrong = path.rpartition("/")
    listed = [names.split() for name, names in OPTIONS.findall(evidence) if name == group]
    known = listed[-1] if listed else []
    near, given = difflib.get_close_matches(wrong, known, 1, 0.6), words(task)
    reason = f"{group} takes no {wrong}" + (f", but {', '.join(known)}" if known else "")
    at = [index for index, word in enumerate(given) if word.lstrip("+").partition("=")[::2] == (group, wrong)]
    if near and len(at) == 1:
        given[at[0]] = given[at[0]].removesuffix(wrong) + near[0]
        return {"reason": f"{reason}; {near[0]} may be meant", "remedy": retyped(task, given)}
    return {"reason": reason, "advice": rewritten(task)}


def _config(task: dict[str, Any], wrong: str) -> Known:
    """The primary configuration, named by the script or by --config-name."""
    top = whereabouts.code_of(task)
    known = [posixpath.splitext(posixpath.basename(name))[0] for name in whereabouts.files(top) if name.endswith(YAML)]
    near = next(iter(difflib.get_close_matches(wrong, known, 1, 0.6)), "")
    reason = f"there is no configuration {wrong}" + (f"; {near} may be meant" if near else "")
    given = words(task)
    mended = [near if word == wrong else f"{word.removesuffix(wrong)}{near}" if word.endswith(f"={wrong}") else word
              for word in given]
    if near and mended != given:
        return {"reason": reason, "remedy": retyped(task, mended)}
    line = code_lines.only(task, re.compile(rf"""["']{re.escape(wrong)}(?:\.ya?ml)?["']""").search)
    if line:
        return {"reason": f"{reason}, at {line}", **own_lines.mended(task, line)}
    return {"reason": reason, "advice": rewritten(task)}


def _keys(task: dict[str, Any]) -> set[str]:
    """The keys in the files of the configuration, and the folders that they stand in, which are groups."""
    top = whereabouts.code_of(task)
    found: set[str] = set()
    for name in whereabouts.files(top):
        if name.endswith(YAML):
            found |= {*KEY.findall(_text(top, name)), *name.split("/")[:-1]}
    return found


def _text(top: str, name: str) -> str:
    try:
        return untrusted.read(top, name).decode("utf-8", "replace") if top and name else ""
    except OSError:
        return ""
