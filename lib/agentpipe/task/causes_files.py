"""Causes in what stands where: a module or a file that is not there, stands elsewhere, or may not be used."""

from __future__ import annotations

import os
import posixpath
import re
import shlex

from agentpipe.task import entry_words
from agentpipe.task.remedies import again, anew, checkout, edit, fresh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

SMALL = 1 << 20  # bytes of a file that may stand in a task's diff


def missing_module(task: dict[str, Any], evidence: str) -> Known | None:
    """A module that is not installed: the package that brings it, or the file that did not come along."""
    from agentpipe.environment import package_names
    from agentpipe.task import edits
    said = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'", evidence, re.MULTILINE)
    if not said:
        return None
    module, top = said[-1], said[-1].split(".")[0]
    reason = f"the module {module} is not installed"
    here = _in_checkout(task, top)
    if here is not None and here not in _looked_into(task):
        return {"reason": f"the module {module} is in the repository, below {here}, where Python does not look",
                "remedy": edit(task, *_moved(task, here))}
    left = _left_behind(task, f"{top}.py") or _left_behind(task, f"{top}/__init__.py")
    if left:
        return {"reason": f"the module {module} is in your checkout, and git does not know it",
                "remedy": _taken_along(task, left.removesuffix("/__init__.py"))}
    # later ones do without it
    known = "setuptools<81" if module == "pkg_resources" else package_names.of_module(module)
    package = known or top
    mine = None if known else (f"where {module} is a file of yours: git add -N it in your checkout, and there: "
                               f"{anew(task)}")
    asked = {edits.package_of(line) for line in edits.recorded(task).splitlines()}
    if edits.package_of(package) in asked and _lacks(task, edits.package_of(package)):
        return {"reason": f"{reason}: its environment was made without {package}, which the task asks for", "advice":
                mine or f"where AGENT_STAGE_ENV or a Python of the machine stands for ours, mend that; "
                        f"then {again(task)}"}
    if edits.package_of(package) in asked:
        return {"reason": f"{reason}, though {package} is", "advice":
                mine or f"ask for another version of it: {edit(task, '--package', package + '==VERSION')}"}
    return {"reason": reason, "remedy": edit(task, "--package", package), "advice": mine}


def _lacks(task: dict[str, Any], package: str | None) -> bool:
    """Whether the environment of its last run on this machine is known to have been without a package."""
    from agentpipe.claim import attempt
    from agentpipe.task import edits
    directory = attempt.latest(task["id"])
    packages = ((attempt.read_manifest(directory) or {}).get("env") or {}).get("packages") if directory else None
    return isinstance(packages, list) and package not in {edits.package_of(str(line)) for line in packages}


def missing_file(task: dict[str, Any], evidence: str) -> Known | None:
    """A file that is not there: where in the checkout it is, or that git did not bring it."""
    said = re.findall(r"^(?:FileNotFoundError|IsADirectoryError): .*?: '([^']+)'", evidence, re.MULTILINE)
    said += re.findall(r"^(?:cat|bash|sh|ls|cp|python[0-9.]*): (?:.*?: )?'?([^':]+)'?: No such file or directory",
                       evidence, re.MULTILINE)
    if not said:
        return None
    path, code = said[-1], _code(task)
    if os.path.isabs(path):
        return _absent(task, path)
    folder = posixpath.normpath((task.get("script") or {}).get("working_dir") or ".")
    while code and folder not in ("", "."):
        folder = posixpath.dirname(folder) or "."
        if os.path.exists(os.path.join(code, folder, path)):
            where = "the top of the repository" if folder == "." else folder
            return {"reason": f"{path} is in {where}, and the script runs elsewhere",
                    "remedy": edit(task, *_moved(task, folder))}
    left = _left_behind(task, path)
    if left and os.path.getsize(left) <= SMALL:
        return {"reason": f"{path} is in your checkout, and git does not know it", "remedy": _taken_along(task, left),
                "advice": "data that is not to be in the task needs an absolute path that the worker has"}
    return {"reason": f"there is no {path} where the script runs", "advice":
            f"where your checkout has it, there: {fresh(task, '--bundle', '--include', path)}; data that is not to be "
            "in the task needs an absolute path that the worker has"}


def _absent(task: dict[str, Any], path: str) -> Known | None:
    """A file by its absolute path: the worker has it, or has not."""
    if f"/{task['id']}." in path:
        return None  # in the task's own directory: the script's business
    folder = os.path.dirname(path)
    inside = (task.get("container") or {}).get("image")
    mend = f"put it there, or name another place; then {again(task)}"
    if inside:
        mount = shlex.join(["-v", f"{folder}:{folder}"])
        mend = f"name another place, or mount it: {edit(task, '--docker-args', mount)}"
    return {"reason": f"there is no {path} {'in its container' if inside else 'on ' + _worker(task)}", "advice":
            f"{mend}; where other workers have it: agent-task enqueue --queue QUEUE {task['id']}"}


def forbidden(task: dict[str, Any], evidence: str) -> Known | None:
    """A file that the user of the worker may not read or write."""
    said = re.findall(r"^PermissionError: .*?: '([^']+)'", evidence, re.MULTILINE)
    said = said or re.findall(r"^\S+: .*?[ '](/[^':]+)'?: Permission denied$", evidence, re.MULTILINE)
    if not said:
        return None
    return {"reason": f"the user that it runs as may not use {said[-1]}", "advice":
            f"on {_worker(task)}: ls -ld {shlex.quote(said[-1])}; give that user the right, or name another "
            f"place; then {again(task)}"}


def _worker(task: dict[str, Any]) -> str:
    return task.get("last_worker") or "the worker"


def _left_behind(task: dict[str, Any], path: str) -> str:
    """A file in the task's checkout on this machine, where its script runs or stands; "" when it is not there."""
    top = checkout(task)
    places = (os.path.join(top, folder, path) for folder in sorted(_looked_into(task)) if top)
    return next((place for place in map(os.path.normpath, places) if os.path.isfile(place)), "")


def _taken_along(task: dict[str, Any], path: str) -> str:
    """The command that lets git know a file of the checkout, ignored or not, and takes the code anew."""
    top = checkout(task)
    return f"git -C {shlex.quote(top)} add -f -N -- {shlex.quote(path)} && {anew(task, top)}"


def _code(task: dict[str, Any]) -> str:
    """The checkout of the task's last run, when it is on this machine; "" otherwise."""
    from agentpipe.claim import attempt
    directory = attempt.latest(task["id"])
    code = os.path.join(directory, "code") if directory else ""
    return code if code and os.path.isdir(code) else ""


def _in_checkout(task: dict[str, Any], module: str) -> str | None:
    """The folder of the checkout in which a module stands, relative to its top; None when it is not there."""
    code = _code(task)
    for seen, (here, folders, names) in enumerate(os.walk(code) if code else ()):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if f"{module}.py" in names or (module in folders and os.path.exists(os.path.join(here, module, "__init__.py"))):
            return os.path.relpath(here, code)
        if seen > 2000:
            break
    return None


def _looked_into(task: dict[str, Any]) -> set[str]:
    """The folders of the checkout on PYTHONPATH: where the script runs, and where it stands."""
    script = task.get("script") or {}
    folder = posixpath.normpath(script.get("working_dir") or ".")
    entry = (script.get("entry_point") or "").split(" ")[0]
    return {folder, posixpath.normpath(posixpath.join(folder, posixpath.dirname(entry)))}


def _moved(task: dict[str, Any], folder: str) -> tuple[str, ...]:
    """The options of edit that run the same script in another folder of the checkout."""
    script = task.get("script") or {}
    words = entry_words.known(script)
    before = script.get("working_dir") or "."
    if words and not words[0].startswith("-"):
        words[0] = posixpath.relpath(posixpath.normpath(posixpath.join(before, words[0])), folder)
    return ("--working-dir", folder, "--entry-point", shlex.join(words))
