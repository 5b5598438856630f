"""Causes in how Python imports: a file of the repository in a module's place, a script that is run outside its package,
a package that another one needs only for some of what it does."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import sys

from agentpipe.task import error_lines, own_lines, packages_there, whereabouts
from agentpipe.task.remedies import anew, edit, short, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

# `json` is taken by json.py of the repository: it has no such name, or is imported by what it imports
SHADOWED = re.compile(r"^(?:AttributeError: (?:partially initialized )?module '([\w.]+)' has no attribute '\w+'.*"
                      r"|ImportError: cannot import name '\w+' from (?:partially initialized module )?'([\w.]+)'.*"
                      r"|ModuleNotFoundError: No module named '[\w.]+'; '([\w.]+)' is not a package)$", re.MULTILINE)
IMPORTED = re.compile(r"\((?:consider renaming ')?(/[^()']+)(?:' since .*)?\)$")  # the file that was found
RELATIVE = "ImportError: attempted relative import with no known parent package"
# of pandas; of whoever has written that
ENGINES = re.compile(r"^ImportError: Unable to find a usable engine; tried using: '([\w.-]+)'", re.MULTILINE)
TO_INSTALL = re.compile(r"\bpip3? install (?:-U |--upgrade )?([`'\"]?)([A-Za-z](?:[\w.-]*\w)?(?:\[[\w,-]+\])?)"
                        r"(?![\w+:/@-])((?:[<>=!~]=|[<>])[\w.*,<>=!~]*\w)?( +\w)?")
WANTED = re.compile(r"(?i)\b(?:requires?d?|needs?|needed|missing|not (?:found|installed|available)|please|must|cannot)"
                    r"\b")


def shadowed(task: dict[str, Any], evidence: str) -> Known | None:
    """A module of Python, or of a package, in whose place one of the repository was imported."""
    from agentpipe.environment import package_names
    for said in [*SHADOWED.finditer(evidence)][-1:]:
        module = next(filter(None, said.groups())).split(".")[0]
        file, path, package = _file_of(task, module), IMPORTED.search(said[0]), package_names.of_module(module)
        # one that everybody knows: any other may be this repository's own, which its list names as well
        there = module in sys.stdlib_module_names or (package and not _is_own(task, module, package) and (
            packages_there.is_asked(task, package) or module in packages_there.modules(task)
            or "is not a package" in said[0]))
        if not file or not there or (path and not own_lines.below(task, path[1])):
            return None
        new = posixpath.join(posixpath.dirname(file), f"own_{posixpath.basename(file)}")
        top = whereabouts.checkout(task)
        where = shlex.join(["git", "-C", top, "mv", file, new]) if top else shlex.join(["git", "mv", file, new])
        return {"reason": f"{file} of the repository stands in the place of the module {module}", "advice":
                f"give it another name{'' if top else ' in your checkout'}, and where it is imported: {where}; then "
                f"{anew(task, top or '.')}"}
    return None


def _is_own(task: dict[str, Any], *names: str) -> bool:
    """Whether the task's repository is called so: where the module, or its package, is made."""
    path = (task.get("script") or {}).get("repository") or ""
    name = posixpath.basename(path.rstrip("/")).removesuffix(".git")
    return name.lower().replace("-", "_") in (each.lower().replace("-", "_") for each in names)


def _file_of(task: dict[str, Any], module: str) -> str:
    """The file or package of the checkout that Python finds as that module, relative to its top; "" where none is."""
    top = whereabouts.code_of(task)
    for folder in sorted(whereabouts.looked_into(task)) if top else ():
        for name in (f"{module}.py", module):
            path = posixpath.normpath(posixpath.join(folder, name))
            if os.path.isfile(os.path.join(top, path if path.endswith(".py") else f"{path}/__init__.py")):
                return path
    return ""


def relative(task: dict[str, Any], evidence: str) -> Known | None:
    """A script of a package that was started by its path, so that `from .x import` means nothing: `-m` does."""
    if RELATIVE not in evidence or not (line := own_lines.last(task, evidence)):
        return None
    given = words(task)
    dots = re.match(r"from (\.+)", line.text)
    reason = f"{line.name} is run by its path, and {short(line.text) or 'its import'} wants a package around it"
    if not given or own_lines.named(task, given[0]) != line.name or not dots:
        return None
    parts = line.name.removesuffix(".py").split("/")
    before = posixpath.normpath((task.get("script") or {}).get("working_dir") or ".")
    shared = list(filter(None, posixpath.commonpath([line.name, before]).split("/")))
    depth = min(len(shared), len(parts) - 1 - len(dots[1]))  # as many folders as there are dots are to be packages
    if depth < 0 or not all(map(str.isidentifier, parts[depth:])):
        known = own_lines.mended(task, line)
        alone = re.sub(r"^from (\.+ )?\.*", lambda match: "" if match[1] else "from ", line.text)
        told = f"it stands in no folder that could be its package: {short(alone)}"
        return {"reason": reason, **known, "advice": told if known.get("remedy") else f"{told}; {known['advice']}"}
    folder = "/".join(parts[:depth]) or "."
    moved = () if folder == before else ("--working-dir", folder)
    entry = shlex.join(["-m", ".".join(parts[depth:]), *given[1:]])
    return {"reason": reason, "remedy": edit(task, *moved, "--entry-point", entry)}


def optional(task: dict[str, Any], evidence: str) -> Known | None:
    """A package that another one, or the script itself, says it wants."""
    from agentpipe.environment import package_names
    last = error_lines.last(evidence)
    if not last.startswith(("ImportError", "ModuleNotFoundError")):
        last = last.partition("\n")[0]  # behind it stand words of others
        if not error_lines.RAISED.match(last) and not WANTED.search(last):
            return None
    said = [(name, "") for name in ENGINES.findall(last)]
    # before more words a name that nobody knows may be one of them
    said += [(name, version) for quote, name, version, more in TO_INSTALL.findall(last)
             if name != "pip" and (quote or not more or package_names.is_known(name))]
    if not said or (packages_there.is_asked(task, said[0][0]) and not said[0][1]):
        return None
    name, reason = "".join(said[0]), short(last.partition("\n")[0])
    if package_names.is_known(said[0][0]):
        return {"reason": reason, "remedy": edit(task, "--package", name)}
    return {"reason": reason, "advice": f"look up first that {said[0][0]} is the package that is meant: "
                                        f"{edit(task, '--package', name)}"}
