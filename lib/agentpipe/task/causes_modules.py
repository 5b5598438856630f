"""Causes in a module that is not there: of the task's own code, of Python's, of a package, or mistyped.

A package is never asked for by a name that only the import gives: whoever has taken that name in an index would get to
run what he likes. Such a name stands in words, to be looked up first.
"""

from __future__ import annotations

import re
import shlex
import sys

from agentpipe.task import own_lines, packages_there, unknown_to_git, whereabouts
from agentpipe.task.remedies import again, anew, edit, fresh, moved, retyped, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

IMPORTED = re.compile(r"^ModuleNotFoundError: No module named '([^']+)'", re.MULTILINE)
STARTED = re.compile(r"^\S*python[\d.]*: (?:No module named ([\w.]+)(?:;.*)?"
                     r"|Error while finding module specification for '([\w.]+)' .*)$", re.MULTILINE)
MAIN = ".__main__"
SHOWN = 3  # modules of a package


def missing(task: dict[str, Any], evidence: str) -> Known | None:
    """A module that is not there: where it is, which one is meant, or the package that brings it."""
    imported, given = IMPORTED.findall(evidence), words(task)
    started = [] if imported or given[:1] != ["-m"] else [one or other for one, other in STARTED.findall(evidence)]
    # not of another Python that the script has started
    started = [name for name in started if name.removesuffix(MAIN) in given[1:2]]
    if not imported and not started:
        return None
    module = (imported or started)[-1]
    if started and module.endswith(MAIN):
        return _no_main(task, module.removesuffix(MAIN))
    return (_left_behind(task, module) or _asked_for(task, module) or _misspelt(task, module, evidence, not imported)
            or _of_a_package(task, module))


def _no_main(task: dict[str, Any], package: str) -> Known:
    """A package that has no __main__.py: one of its modules is meant, or the checkout has more."""
    inside = [name for name in whereabouts.modules(task) if name.startswith(f"{package}.")]
    left = whereabouts.left_behind(task, f"{package.replace('.', '/')}/__main__.py")
    if left:
        return {"reason": f"the __main__.py of {package} is in your checkout, and git does not know it",
                **unknown_to_git.along(task, left)}
    named = f", such as {', '.join(inside[:SHOWN])}" if inside else ""
    entry = " ".join(filter(None, [f"-m {package}.…", shlex.join(words(task)[2:])]))
    return {"reason": f"the package {package} cannot be started: it has no __main__.py", "advice":
            f"name a module of it{named}: {edit(task, '--entry-point', entry)}"}


def _left_behind(task: dict[str, Any], module: str) -> Known | None:
    """Of the task's own: elsewhere in the repository, or in a checkout that git does not know all of."""
    here = whereabouts.folder_of(task, module.split(".")[0])
    if here is not None and here not in whereabouts.looked_into(task):
        known = {"reason": f"the module {module} is in the repository, below {here}, where Python does not look"}
        if whereabouts.file_of(task)[1]:  # by its file it would be of no package
            return {**known, "advice": f"import it as its package has it in your checkout, and there: {anew(task)}"}
        return {**known, "remedy": edit(task, *moved(task, here))}
    if not re.fullmatch(r"[\w.]+", module):
        return None
    path = module.replace(".", "/")
    left = whereabouts.left_behind(task, f"{path}.py") or whereabouts.left_behind(task, path, whereabouts.is_package)
    if not left:
        return None
    return {"reason": f"the module {module} is in your checkout, and git does not know it",
            **unknown_to_git.along(task, left)}


def _asked_for(task: dict[str, Any], module: str) -> Known | None:
    """Of a package that the task asks for, and that its environment never got."""
    from agentpipe.task import edits
    package = _package(module) or module.split(".")[0]
    name = edits.package_of(package)
    if not packages_there.is_asked(task, package) or not packages_there.lacks(task, name):
        return None
    return {"reason": f"the module {module} is not installed: its environment was made without {package}, which the "
                      "task asks for",
            "advice": _mine(task, module) if not _package(module) else
            f"where AGENT_STAGE_ENV or a Python of the machine stands for ours, mend that; then {again(task)}"}


def _misspelt(task: dict[str, Any], module: str, evidence: str, started: bool) -> Known | None:
    """Of a name that is nearly that of a module which the task has, or could have."""
    import difflib

    from agentpipe.environment import package_names
    own = [*whereabouts.modules(task), *packages_there.modules(task)]
    near = "" if _package(module) else package_names.module_meant(module, own)
    if not (near or _package(module)):
        near = _short(task, module)
    if started and not near:
        near = next(iter(difflib.get_close_matches(module, own, 1, 0.7)), "")
    if not near:
        return None
    known: Known = {"reason": f"the module {module} is not installed; {near} may be meant"}
    right = f"{_mine(task, module)}; or of a package: look up which, and agent-task edit {task['id']} --package …"
    line = own_lines.last(task, evidence)
    if started:
        return {**known, "remedy": retyped(task, ["-m", near, *words(task)[2:]]), "advice": right}
    if not line:
        return {**known, "advice": f"write {near} in your checkout, and there: {anew(task)}; {right}"}
    mend = own_lines.mended(task, line)
    return {**known, **mend, "advice": right if mend.get("remedy") else f"{mend['advice']}; {right}"}


def _short(task: dict[str, Any], module: str) -> str:
    """The task's only module that has one letter more than a name of four, which is near to too much of others."""
    from agentpipe.environment import package_names
    if len(module) != 4 or module in sys.stdlib_module_names or module in package_names.PACKAGES:
        return ""
    near = [name for name in whereabouts.modules(task) if len(name) == 5 and name[0] == module[0]
            and module in (name[:at] + name[at + 1:] for at in range(5))]
    return near[0] if len(near) == 1 else ""


def _of_a_package(task: dict[str, Any], module: str) -> Known | None:
    """Of a package, as far as its name is certain; of Python itself; else in words what it may be."""
    top, _, below = module.partition(".")
    reason, package = f"the module {module} is not installed", _package(module)
    if not package and top in sys.stdlib_module_names:
        return {"reason": f"the module {module} is Python's own, and the Python that it ran with has none", "advice":
                f"another Python: agent-task edit {task['id']} --python VERSION; or install it for that Python on "
                f"{task.get('last_worker') or 'the worker'} (of tkinter: the system package python3-tk), then "
                f"{again(task)}"}
    if package and (below or packages_there.is_asked(task, package)):
        return {"reason": f"{reason}, though {package} is", "advice":
                f"ask for another version of it: {edit(task, '--package', package + '==VERSION')}"}
    if package:
        return {"reason": reason, "remedy": edit(task, "--package", package)}
    if below or packages_there.is_asked(task, top):
        return {"reason": f"{reason}, though {top} is", "advice": f"{_mine(task, module)}; where it is of a package: "
                f"another version of it, or the package that adds it: agent-task edit {task['id']} --package …"}
    return {"reason": reason, "advice": _named_by_import(task, module)}


def _package(module: str) -> str:
    """The package that brings a module, where that is certain; "" otherwise."""
    from agentpipe.environment import package_names
    # later ones do without it
    return "setuptools<81" if module == "pkg_resources" else package_names.of_module(module)


def _named_by_import(task: dict[str, Any], module: str) -> str:
    """Words on a module that nobody knows: a file of one's own, or a package that may be called so."""
    top = module.split(".")[0]
    return (f"{_mine(task, module)}; where a package brings it, look up first that it is called so (the name is that "
            f"of the import, and an index may have a stranger's under it): {edit(task, '--package', top)}")


def _mine(task: dict[str, Any], module: str) -> str:
    if not (task.get("script") or {}).get("repository"):
        name = module.split(".")[0]
        return (f"where {module} is yours, beside the script: "
                f"{fresh(task, '--bundle', '--include', name if '.' in module else f'{name}.py')}")
    return f"where {module} is a file of yours: git add -N it in your checkout, and there: {anew(task)}"
