"""Why a script ended badly, out of its last lines: causes that have a name, each with what mends it.

A cause is a function (task, evidence) → {reason, remedy or advice} or None; the first that knows the answer counts.
`remedy` is a command that can be typed as it is, `advice` is in words.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Known = dict[str, Any]
    Cause = Callable[[dict[str, Any], str], Known | None]

BATCH = re.compile(r"--?((?:[a-z]+[-_])*batch[-_]?size|bs)$")


def of_script(task: dict[str, Any], found: dict[str, Any]) -> Known:
    """What its evidence tells of a script that failed by itself, or for want of memory; {} when it tells nothing."""
    if found.get("class") not in ("script_failed", "out_of_memory"):
        return {}
    evidence = found.get("evidence") or ""
    if found["class"] == "out_of_memory":
        return _smaller(task, found.get("reason") or "") or {}
    for cause in CAUSES:
        known = cause(task, evidence)
        if known:
            known["reason"] += f" ({found['reason']})"
            return {"remedy": None, "advice": None, **known}
    return {}


def _edit(task: dict[str, Any], *change: str) -> str:
    return f"agent-task edit {task['id']} {shlex.join(change)} && agent-task enqueue {task['id']}"


def missing_module(task: dict[str, Any], evidence: str) -> Known | None:
    """A module that is not installed: the package that brings it, or the file that did not come along."""
    from agentpipe import package_names, task_edit
    said = re.findall(r"^ModuleNotFoundError: No module named '([^']+)'", evidence, re.MULTILINE)
    if not said:
        return None
    module = said[-1]
    reason = f"the module {module} is not installed"
    here = _in_checkout(task, module.split(".")[0])
    if here is not None and here not in _looked_into(task):
        return {"reason": f"the module {module} is in the repository, below {here}, where Python does not look",
                "remedy": _edit(task, *_moved(task, here))}
    # later ones do without it
    package = "setuptools<81" if module == "pkg_resources" else package_names.of_module(module)
    asked = {task_edit.package_of(line) for line in task_edit.recorded(task).splitlines()}
    if package and task_edit.package_of(package) not in asked:
        return {"reason": reason, "remedy": _edit(task, "--package", package)}
    edit = _edit(task, "--package", package or module.split(".")[0])
    return {"reason": reason, "advice":
            f"is {module} a file of yours, take it along (git add -N) and enqueue the script anew; "
            f"is it a package: {edit}"}


def _code(task: dict[str, Any]) -> str:
    """The checkout of the task's last run, when it is on this machine; "" otherwise."""
    from agentpipe import attempt
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
    words = shlex.split(script.get("entry_point") or "")
    before = script.get("working_dir") or "."
    if words and not words[0].startswith("-"):
        words[0] = posixpath.relpath(posixpath.normpath(posixpath.join(before, words[0])), folder)
    return ("--working-dir", folder, "--entry-point", shlex.join(words))


def missing_file(task: dict[str, Any], evidence: str) -> Known | None:
    """A file that is not there: where in the checkout it is, or that git did not bring it."""
    said = re.findall(r"^(?:FileNotFoundError|IsADirectoryError): .*?: '([^']+)'", evidence, re.MULTILINE)
    said += re.findall(r"^(?:cat|bash|sh|ls|cp|python[0-9.]*): (?:.*?: )?'?([^':]+)'?: No such file or directory",
                       evidence, re.MULTILINE)
    if not said or os.path.isabs(said[-1]):
        return None
    path, code = said[-1], _code(task)
    folder = posixpath.normpath((task.get("script") or {}).get("working_dir") or ".")
    while code and folder not in ("", "."):
        folder = posixpath.dirname(folder) or "."
        if os.path.exists(os.path.join(code, folder, path)):
            where = "the top of the repository" if folder == "." else folder
            return {"reason": f"{path} is in {where}, and the script runs elsewhere",
                    "remedy": _edit(task, *_moved(task, folder))}
    return {"reason": f"there is no {path} where the script runs",
            "advice": f"if it stands in your checkout and git does not know it: git add -N -- {shlex.quote(path)}, and "
                      "enqueue the script anew; data that is not in git needs an absolute path that the worker has"}


def argument(task: dict[str, Any], evidence: str) -> Known | None:
    """What argparse or click said of the command line: the spelling that was meant, where one is near."""
    said = re.findall(r"(?:error: unrecognized arguments: |[Nn]o such option:? )(\S+)", evidence)
    if said:
        wrong, _, value = said[-1].partition("=")
        known = [word for word in re.findall(r"--?[A-Za-z][\w-]*", evidence) if word != wrong]
        return _respelled(task, wrong.rstrip("."), known, f"the script has no option {wrong}",
                          "=" + value if value else "")
    said_choice = re.findall(r"error: argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", evidence)
    if said_choice:
        option, wrong, choices = said_choice[-1]
        known = [word.strip(" '\"") for word in choices.split(",")]
        return _respelled(task, wrong, known, f"{option} takes no {wrong}, but {', '.join(known)}", "")
    missing = re.findall(r"error: the following arguments are required: (.*)", evidence)
    if missing:
        return {"reason": f"the script wants {missing[-1]}", "advice":
                f"agent-task clone {task['id']} --queue QUEUE -- {missing[-1].split(',')[0]} …"}
    return None


def _respelled(task: dict[str, Any], wrong: str, known: list[str], reason: str, value: str) -> Known:
    import difflib
    words = shlex.split((task.get("script") or {}).get("entry_point") or "")
    near = difflib.get_close_matches(wrong, known, 1, 0.6)
    at = [index for index, word in enumerate(words) if word in (wrong, wrong + value)]
    if not near or not at:
        return {"reason": reason, "advice": f"agent-task edit {task['id']} --entry-point 'SCRIPT ARGUMENTS', "
                                            f"then agent-task enqueue {task['id']}"}
    words[at[-1]] = near[0] + value
    return {"reason": f"{reason}; {near[0]} may be meant", "remedy": _edit(task, "--entry-point", shlex.join(words))}


def memory(task: dict[str, Any], evidence: str) -> Known | None:
    """Memory of the machine or of a GPU ran out, and the script said so itself."""
    if re.search(r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory", evidence):
        return _smaller(task, "the GPU's memory ran out") or {
            "reason": "the GPU's memory ran out", "advice": "less at a time, or a GPU with more memory"}
    if re.search(r"^(MemoryError|numpy.*ArrayMemoryError|std::bad_alloc)", evidence, re.MULTILINE):
        return _smaller(task, "memory ran out") or {
            "reason": "memory ran out", "advice": "less at a time, or a machine with more memory"}
    return None


def _smaller(task: dict[str, Any], reason: str) -> Known | None:
    """The same with half the batch, when the task names its batch size."""
    script = task.get("script") or {}
    words = shlex.split(script.get("entry_point") or "")
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        named = BATCH.match(option)
        value = value if equals else (words[index + 1] if index + 1 < len(words) else "")
        if named and value.isdigit() and int(value) > 1:
            return {"reason": reason, "advice": None,
                    "remedy": _edit(task, "--set", f"Args/{named[1]}={int(value) // 2}")}
    for section, items in (task.get("hyperparams") or {}).items():
        for name, item in items.items():
            value = str((item or {}).get("value") or "")
            if BATCH.match("--" + name.rpartition("/")[2]) and value.isdigit() and int(value) > 1:
                return {"reason": reason, "advice": None,
                        "remedy": _edit(task, "--set", f"{section}/{name}={int(value) // 2}")}
    return None


def library(task: dict[str, Any], evidence: str) -> Known | None:
    """A library or program of the system that the machine lacks."""
    said = re.findall(r"(?:ImportError|OSError): (\S+\.so[\w.]*): cannot open shared object file", evidence)
    if said:
        return {"reason": f"this machine lacks the library {said[-1]}", "advice":
                f"install the system package with {said[-1]} on the worker, or run it in an image that has it: "
                f"agent-task edit {task['id']} --docker IMAGE"}
    said = re.findall(r"(?:line \d+: |sh: \d+: |: )([\w.+-]+): (?:command )?not found$", evidence, re.MULTILINE)
    if said:
        return {"reason": f"there is no program {said[-1]} on the worker", "advice":
                f"install {said[-1]} there, or run it in an image that has it: "
                f"agent-task edit {task['id']} --docker IMAGE"}
    return None


def numpy_2(task: dict[str, Any], evidence: str) -> Known | None:
    """Code or a package that was written for NumPy 1."""
    if re.search(r"removed in the NumPy 2\.0|compiled using NumPy 1\.x|numpy\.dtype size changed", evidence):
        return {"reason": "it was written for NumPy 1, and NumPy 2 is installed",
                "remedy": _edit(task, "--package", "numpy<2")}
    return None


CAUSES: tuple[Cause, ...] = (missing_module, missing_file, argument, memory, numpy_2, library)
