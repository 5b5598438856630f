"""Causes in what stands where: a file that is not there, stands elsewhere, is called otherwise, or may not be used."""

from __future__ import annotations

import json
import os
import posixpath
import re
import shlex

from agentpipe import trees, units
from agentpipe.capture import secret_files
from agentpipe.task import own_lines, unknown_to_git, whereabouts
from agentpipe.task.remedies import again, anew, edit, fresh, in_container, moved, retyped, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

SMALL = 1 << 20  # bytes of a file that may stand in a task's diff
# in a line of a traceback: what makes a file or a folder
WRITES = re.compile(r"""\bopen\(.*,\s*(?:mode\s*=\s*)?["'][rbt+]*[wax]"""
                    r"""|\b(?:mkdir|makedirs|touch|write_(?:text|bytes))\("""
                    r"""|\.(?:save\w*|imwrite|to_(?:csv|parquet|json|pickle|excel|hdf|feather))\(|\.dump\(""")
# an argument that is to be a file, as argparse and click check it
OF_AN_ARGUMENT = re.compile(r"error: argument \S+: can't open '([^']+)': \[Errno 2\]"
                            r"|^Error: Invalid value for .*: (?:(?:Path|File|Directory) '([^']+)' does not exist"
                            r"|'([^']+)': No such file or directory)", re.MULTILINE)
NO_FOLDER = re.compile(r"^(?:OSError: Cannot save file into a non-existent directory: '([^']+)'"
                       r"|RuntimeError: Parent directory (.+) does not exist\.)", re.MULTILINE)


def missing_file(task: dict[str, Any], evidence: str) -> Known | None:
    """A file that is not there: where in the checkout it is, or that git did not bring it."""
    said = re.findall(r"^FileNotFoundError: .*?: '([^']+)'", evidence, re.MULTILINE)
    said += re.findall(r"^(?:cat|bash|sh|ls|cp|python[0-9.]*): (?:.*?: )?'?([^':]+)'?: No such file or directory",
                       evidence, re.MULTILINE)
    said += [next(filter(None, each)) for each in OF_AN_ARGUMENT.findall(evidence)]
    if not said:
        return None
    path = said[-1]
    if known := _dangling(task, path):
        return known
    if f"/{task['id']}." in path:
        return None  # in the task's own directory: the script's business
    if WRITES.search(evidence.rpartition("Traceback (most recent call last):")[2]):
        return _no_folder(task, posixpath.dirname(path), path, evidence)
    if os.path.isabs(path):
        return _absent(task, path)
    return _in_repository(task, path) or _left_behind(task, path) or _misspelt(task, path, evidence) or {
        "reason": f"there is no {path} where the script runs", "advice": f"{_brought(task, path)}; {_elsewhere()}"}


def _dangling(task: dict[str, Any], path: str) -> Known | None:
    """A path that goes through a link of the repository whose target is not there."""
    code, parts = whereabouts.of_last_run(task), own_lines.named(task, path).split("/")
    for count in range(1, len(parts) + 1) if code and parts[0] else ():
        name = "/".join(parts[:count])
        link = os.path.join(code, name)
        if not os.path.islink(link) or os.path.exists(link):
            continue
        target = os.readlink(link)
        reason = f"{name} is a link of the repository to {target}, which is not there"
        if os.path.isabs(target):
            return _lacking(task, target, f"{reason},", f"put it there, or name another place; then {again(task)}")
        return {"reason": reason, "advice": f"let it lead to what git knows, in your checkout, and there: {anew(task)}"}
    return None


def missing_entry(task: dict[str, Any], reason: str) -> Known | None:
    """The script itself, that git did not bring: what was said so in `reason`, and it is in the checkout here."""
    given = words(task)
    if not given or given[0].startswith("-"):
        return None
    folder = posixpath.normpath((task.get("script") or {}).get("working_dir") or ".")
    name = posixpath.normpath(posixpath.join(folder, given[0]))
    if not reason.startswith(f"there is no {name} in the checkout"):
        return None
    known = _left_behind(task, given[0])
    if not known or not known.get("remedy"):
        return known and {"remedy": None, **known}
    return {**known, "advice": f"commit and push it, and in your checkout: {anew(task)}"}


def missing_folder(task: dict[str, Any], evidence: str) -> Known | None:
    """A folder that is not there to write into, as pandas and PyTorch say it."""
    said = NO_FOLDER.findall(evidence)
    return _no_folder(task, said[-1][0] or said[-1][1], "", evidence) if said else None


def _in_repository(task: dict[str, Any], path: str) -> Known | None:
    """The same path from a folder further up than where the script runs."""
    code = whereabouts.of_last_run(task)
    folder = posixpath.normpath((task.get("script") or {}).get("working_dir") or ".")
    while code and folder not in ("", "."):
        folder = posixpath.dirname(folder) or "."
        if os.path.exists(os.path.join(code, folder, path)):
            where = "the top of the repository" if folder == "." else folder
            return {"reason": f"{path} is in {where}, and the script runs elsewhere",
                    "remedy": edit(task, *moved(task, folder))}
    return None


def _left_behind(task: dict[str, Any], path: str) -> Known | None:
    left = whereabouts.left_behind(task, path, os.path.exists)
    if not left:
        return None
    bytes = _size(left)
    if os.path.isdir(left) and not bytes:
        return {"reason": f"{path} is an empty folder in your checkout, and git keeps none", "advice":
                f"let the script make it (os.makedirs({json.dumps(path)}, exist_ok=True)), and in your checkout: "
                f"{anew(task)}"}
    mend = unknown_to_git.along(task, left, bytes > SMALL)
    more = "" if secret_files.looks_secret(path) else _elsewhere()
    told = f" ({units.size(bytes)})" if bytes > SMALL else ""
    return {"reason": f"{path}{told} is in your checkout, and git does not know it", **mend,
            "advice": "; ".join(filter(None, (mend.get("advice"), more)))}


def _size(path: str) -> int:
    """The bytes of a file, or of all files of a folder."""
    files = [path] if os.path.isfile(path) else (os.path.join(here, name) for here, _, names in trees.walk(path)
                                                 for name in names)
    return sum(os.lstat(file).st_size for file in files)


def _misspelt(task: dict[str, Any], path: str, evidence: str) -> Known | None:
    """A path of the repository that is nearly so called, where the command line or the code names it."""
    from agentpipe.code import entry
    code = whereabouts.of_last_run(task)
    folder = posixpath.normpath((task.get("script") or {}).get("working_dir") or ".")
    name = posixpath.normpath(posixpath.join(folder, path))
    close = entry.closest(code, name, False) or entry.closest(code, name, True) if code else []
    if not close:
        return None
    near = posixpath.relpath(close[0], folder)
    known: Known = {"reason": f"there is no {path} where the script runs; {near} may be meant"}
    given = [near if word == path else f"{word.partition('=')[0]}={near}" if word.endswith(f"={path}") else word
             for word in words(task)]
    if given != words(task):
        return {**known, "remedy": retyped(task, given), "advice": _brought(task, path)}
    line = own_lines.last(task, evidence)
    mend = own_lines.mended(task, line) if line else {
        "advice": f"write {near} in your checkout, and there: {anew(task)}"}
    told = [] if mend.get("remedy") else [mend["advice"]]
    return {**known, **mend, "advice": "; ".join([*told, _brought(task, path)])}


def _no_folder(task: dict[str, Any], folder: str, path: str, evidence: str) -> Known | None:
    """A folder that the script wants to write into, or to make `path` in."""
    line = own_lines.last(task, evidence)
    reason = f"there is no folder {folder} to write {posixpath.basename(path) or 'into'}"
    reason += f" into, at {line}" if path and line else " into" if path else f", at {line}" if line else ""
    if not folder:
        return None
    if os.path.isabs(folder):
        mend = f"name another place; then {again(task)}"
        if "in makedirs" in evidence:
            reason = f"no folder can be made at {path}" + (f", at {line}" if line else "")
        else:
            mend = f"make it there, or {mend}"
        return _lacking(task, folder, reason + ",", mend)
    first = f"os.makedirs({json.dumps(folder)}, exist_ok=True)"
    if not line:
        return {"reason": reason, "advice": f"let the script make it ({first}), and in your checkout: {anew(task)}"}
    known = own_lines.mended(task, line)
    if known.get("remedy"):
        return {"reason": reason, **known, "advice": f"before that line: {first}"}
    return {"reason": reason, "advice": f"before that line {first}: {known['advice']}"}


def _absent(task: dict[str, Any], path: str) -> Known:
    """A file by its absolute path: the worker has it, or has not."""
    return _lacking(task, os.path.dirname(path), f"there is no {path}",
                    f"put it there, or name another place; then {again(task)}")


def _lacking(task: dict[str, Any], folder: str, reason: str, mend: str) -> Known:
    """What stands in a folder by its absolute path, or does not: in the container, or on the worker."""
    inside = (task.get("container") or {}).get("image")
    if inside:
        mount = shlex.join(["-v", f"{folder}:{folder}"])
        mend = f"name another place, or mount it: {in_container(task, mount)}"
    return {"reason": f"{reason} {'in its container' if inside else 'on ' + _worker(task)}", "advice":
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


def _brought(task: dict[str, Any], path: str) -> str:
    if secret_files.looks_secret(path):
        return f"it looks like a secret: {unknown_to_git.NO_SECRET}"
    return f"where your checkout has {path}, there: {fresh(task, '--bundle', '--include', path)}"


def _elsewhere() -> str:
    return "data that is not to be in the task needs an absolute path that the worker has"


def _worker(task: dict[str, Any]) -> str:
    return task.get("last_worker") or "the worker"
