"""What stands in the directories of hooks (agent-hooks(5)): which hooks there are, and what only looks like one.

A hook that nobody runs, since it is misspelt, say, has no veto, and nothing fails: so its operator is told.
"""

from __future__ import annotations

import os
import shlex
import stat

from agentpipe import access, paths

STAGES = ("pull", "prepare", "fetch", "patch", "env", "run")
NAMES = (*(f"{when}-{stage}" for stage in STAGES for when in ("pre", "post")), "on-end")
LIKE = 0.75  # difflib's: pre-fecth and pre-fetch.sh are meant for pre-fetch, README.md is not
SUFFIXES = ("bash", "pl", "py", "rb", "sh")  # of programs; another one (pre-fetch.off, pre-fetch~) puts a hook aside


class Odd:
    """What is no hook, or one that others can write: `text` says what and why, `meant` is the hook that it may be meant
    for, or is ("": who knows)."""

    def __init__(self, text: str, remedy: str, meant: str = "") -> None:
        self.text, self.remedy, self.meant = text, remedy, meant

    def __str__(self) -> str:
        return f"{self.text} ({self.remedy})"


def look() -> tuple[list[str], list[Odd]]:
    """(the hooks that are run, directory by directory; what is none, or open to others). What cannot be looked into is
    hooks.find()'s."""
    found: list[str] = []
    odd: list[Odd] = []
    for directory in paths.hook_directories():
        for name in _entries(directory):
            path = os.path.join(directory, name)
            hook = name.removesuffix(".d")
            if hook not in NAMES:
                odd += _stranger(path, hook)
            elif hook == name:
                _sort(path, found, odd)
            elif os.path.isdir(path):
                for each in _entries(path):
                    _sort(os.path.join(path, each), found, odd)
            else:
                odd.append(Odd(f"{path} is no folder, so it is no hook", _move(path, hook), hook))
    told: set[str] = set()
    for path in found:
        way = opened(path)
        if way not in told:
            odd += [Odd(f"{way}: others can write it, and so decide what runs as you", f"chmod go-w {shlex.quote(way)}",
                        os.path.basename(path))] if way else []
            told.add(way)
    return found, odd


def opened(path: str) -> str:
    """Where others can put something else in the place of this hook: itself or its folder; else "". Whose it is says
    nothing: root's are fine, and an operator may share them."""
    for each in (path, os.path.dirname(path)):
        try:
            if access.others_can(access.WRITE, each):
                return each
        except OSError:  # gone just now
            continue
    return ""


def urgent() -> list[Odd]:
    """What is meant for a hook by its name, and what others can write; of a machine without hooks this costs nothing to
    ask."""
    return [each for each in look()[1] if each.meant] if any(map(os.path.isdir, paths.hook_directories())) else []


def _sort(path: str, found: list[str], odd: list[Odd]) -> None:
    """Put a file that has the right name to the hooks, or to what is none."""
    try:
        kind = os.stat(path).st_mode
    except OSError as error:
        odd.append(Odd(f"{path} cannot be reached: {error.strerror}", f"ls -l {shlex.quote(path)}"))
        return
    if stat.S_ISDIR(kind):
        odd.append(Odd(f"{path} is a folder, so it is no hook", "a folder of hooks has .d at its name's end"))
    elif not stat.S_ISREG(kind):
        odd.append(Odd(f"{path} is no file, so it is no hook", f"ls -l {shlex.quote(path)}"))
    elif os.access(path, os.X_OK):
        found.append(path)
    else:
        odd.append(Odd(f"{path} is not executable, so it is no hook", f"chmod +x {shlex.quote(path)}"))


def _stranger(path: str, name: str) -> list[Odd]:
    """What has another name: nothing is said of what a hook or its operator may read, and of what was put aside."""
    import difflib
    is_folder = os.path.isdir(path)
    hook, _, suffix = name.partition(".")
    if not is_folder and (not os.access(path, os.X_OK) or (hook.rstrip("~") in NAMES and suffix not in SUFFIXES)):
        return []
    meant = next(iter(difflib.get_close_matches(name, NAMES, 1, LIKE)), "")
    if meant:
        target = meant + (".d" if is_folder else "")
        return [Odd(f"{path} is no hook by its name; {target} may be meant", _move(path, target), meant)]
    return [] if is_folder else [Odd(f"{path} is no hook by its name, so nobody runs it",
                                     "agent-hooks(5) has the names")]


def _move(path: str, name: str) -> str:
    return shlex.join(["mv", path, os.path.join(os.path.dirname(path), name)])


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
