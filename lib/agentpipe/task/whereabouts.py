"""Where the code of a task stands on this machine: the checkout that it came from, and that of its last run."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re

from agentpipe import errors, trees
from agentpipe.task import entry_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MOST = 2000  # folders that are looked into
RELATIVE = re.compile(rb"^\s*from \.", re.MULTILINE)


def checkout(task: dict[str, Any]) -> str:
    """The checkout that it came from: a repository of this machine, or where we stand; "" when neither is.

    It counts while it stands on the task's branch, and where we stand when its remote is the task's repository.
    """
    from agentpipe.code import bundle
    script = task.get("script") or {}
    path = script.get("repository") or ""
    if not path or bundle.of(task):
        return ""
    from agentpipe.capture import capture_git
    try:
        if os.path.isabs(path) and os.path.exists(os.path.join(path, ".git")):
            return path if capture_git.is_on(path, script.get("branch") or "", script.get("version_num") or "") else ""
        top = capture_git.root(".")
        return top if top and capture_git.follows(top, path, script.get("branch") or "") else ""
    except (errors.Failure, OSError):  # one that git does not trust, a folder that is gone, a git that does not work
        return ""


def of_last_run(task: dict[str, Any]) -> str:
    """The checkout of the task's last run, when it is on this machine; "" otherwise."""
    from agentpipe.claim import attempt
    directory = attempt.latest(task["id"])
    code = os.path.join(directory, "code") if directory else ""
    return code if code and os.path.isdir(code) else ""


def code_of(task: dict[str, Any]) -> str:
    """Its code on this machine: that of its last run, else its checkout; "" when neither is here."""
    return of_last_run(task) or checkout(task)


def looked_into(task: dict[str, Any]) -> set[str]:
    """The folders of the checkout on PYTHONPATH: where the script runs, and where it stands."""
    script = task.get("script") or {}
    folder = posixpath.normpath(script.get("working_dir") or ".")
    entry = next(iter(entry_words.known(script)), "")
    return {folder, posixpath.normpath(posixpath.join(folder, posixpath.dirname(entry)))}


def file_of(task: dict[str, Any]) -> tuple[str, bool]:
    """The file of a module that `-m` starts, from where it runs, and whether it imports as one of a package does.

    ("", False) of any other entry point, and of a module that is not in the checkout of the last run.
    """
    given, code = entry_words.known(task.get("script") or {}), of_last_run(task)
    if given[:1] != ["-m"] or not given[1:] or not code:
        return "", False
    folder = os.path.join(code, (task.get("script") or {}).get("working_dir") or ".")
    module = given[1].replace(".", "/")
    for name in (f"{module}.py", f"{module}/__main__.py"):
        with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
            return name, bool(RELATIVE.search(file.read()))
    return "", False


def left_behind(task: dict[str, Any], path: str, is_it: Callable[[str], bool] = os.path.isfile) -> str:
    """A file in the task's checkout on this machine, where its script runs or stands; "" when it is not there.

    Or what else `is_it`, by its path.
    """
    top, code = checkout(task), of_last_run(task)
    for name in (os.path.normpath(os.path.join(start, path)) for start in sorted(looked_into(task)) if top):
        if is_it(os.path.join(top, name)) and not (code and os.path.exists(os.path.join(code, name))):
            return os.path.join(top, name)
    return ""


def is_package(path: str) -> bool:
    """Whether a path is a folder with modules."""
    return os.path.isdir(path) and any(name.endswith(".py") for name in os.listdir(path))


def folder_of(task: dict[str, Any], module: str) -> str | None:
    """The folder of the last run's checkout in which a module stands, relative to its top; None when there is none."""
    code = of_last_run(task)
    for here, folders, names in _folders(code):
        if f"{module}.py" in names or (module in folders and os.path.exists(os.path.join(here, module, "__init__.py"))):
            return os.path.relpath(here, code)
    return None


def modules(task: dict[str, Any]) -> list[str]:
    """The modules (`package.module`) that Python finds in the code of the task."""
    top = code_of(task)
    found: dict[str, None] = {}
    for start in sorted(looked_into(task)) if top else ():
        at = os.path.normpath(os.path.join(top, start))
        for here, _, names in _folders(at):
            inside = [] if here == at else os.path.relpath(here, at).split(os.sep)
            for name in sorted(names) if all(map(str.isidentifier, inside)) else ():
                stem = name.removesuffix(".py")
                if stem != name and stem.isidentifier():
                    parts = inside if stem.startswith("__") else [*inside, stem]
                    found |= dict.fromkeys(".".join(parts[:count]) for count in range(len(parts) + 1))
    found.pop("", None)
    return list(found)


def files(top: str) -> Iterator[str]:
    """The files of a checkout, relative to its top."""
    for here, _, names in _folders(top):
        yield from (os.path.relpath(os.path.join(here, name), top) for name in sorted(names))


def _folders(top: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """trees.walk() of a checkout, without what is hidden, and no further than MOST folders."""
    for seen, (here, folders, names) in enumerate(trees.walk(top) if top else ()):
        folders[:] = sorted(folder for folder in folders if not folder.startswith((".", "__")))
        yield here, folders, names
        if seen > MOST:
            break
