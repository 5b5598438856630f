"""Packages of a list that lie on this machine: folders with a package of their own, and packages' files.

A file goes into the base. A folder is the task's own: it goes into the overlay, and what it depends on into the base,
but for further folders (uv's sources, poetry's paths, `lib @ file://…` of a setup.py). Which of those are needed the
installer finds out; the base remembers it, and each task gets its own of them.
"""

from __future__ import annotations

import os
import re

from agentpipe import trees
from agentpipe.environment.requirements import inside
from agentpipe.files import file_digest, list_of_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from agentpipe.environment.requirements import Requirements

# what may decide the dependencies of a folder's package, which are in the base
FILES = (".py", ".toml", ".cfg", ".txt", ".in")
PROJECT = ("pyproject.toml", "setup.py", "setup.cfg")
# a dependency on a folder whose path only the package's build knows
BY_BUILD = re.compile(rb"@\s*(?:file:|\{root)")


class Project:
    """A folder with a package of its own; `line` as the task wrote it, `digest` of what decides its dependencies.

    It counts where the interpreter meets its `marker` ("" for any). `code` is the checkout; None for one whose
    dependencies stand in a base already, which has no digest: nothing is looked up by it any more.
    """

    __slots__ = ("digest", "editable", "extras", "line", "marker", "path")

    def __init__(self, path: str, extras: str, editable: bool, line: str, marker: str = "",
                 code: str | None = "") -> None:
        self.path, self.extras, self.editable, self.line, self.marker = path, extras, editable, line, marker
        self.digest = "" if code is None else digest(path, code)


class Archive:
    """A package's file, the task's own or the operator's, with its SHA-256 as `digest`; its `line` is without hashes,
    the rest as of a Project."""

    __slots__ = ("digest", "extras", "line", "marker", "path")

    def __init__(self, path: str, extras: str, line: str, marker: str = "", a_tasks: bool = False) -> None:
        self.path, self.extras, self.line, self.marker = path, extras, line, marker
        self.digest = file_digest(path, a_tasks)

    def pin(self) -> str:
        """Its line with its hash: that no other file satisfies it."""
        return f"{self.line} --hash=sha256:{self.digest}"


def settle(asked: Requirements, interpreter: dict[str, Any]) -> None:
    """Leave what counts for this interpreter, by the markers of the lines."""
    asked.projects = [each for each in asked.projects if _applies(each.marker, interpreter)]
    asked.archives = [each for each in asked.archives if _applies(each.marker, interpreter)]


def _applies(marker: str, interpreter: dict[str, Any]) -> bool:
    if not marker:
        return True
    from packaging.markers import Marker
    version, implementation = str(interpreter["version"]), str(interpreter["implementation"])
    return Marker(marker).evaluate({
        "python_version": ".".join(version.split(".")[:2]), "python_full_version": version,
        "implementation_version": version, "implementation_name": implementation.lower(),
        "platform_python_implementation": implementation})


def found(asked: Requirements, folders: Iterable[tuple[str, bool]]) -> None:
    """Remember (path, editable) of folders that an installer was led to, those of the list itself left out."""
    own = {os.path.realpath(each.path) for each in asked.projects}
    for path, editable in folders:
        path = os.path.realpath(path)
        if path not in own and (path, editable) not in asked.found:
            asked.found.append((path, editable))


def taken_out(folder: str, asked: Requirements) -> list[str]:
    """The names of packages of folders that an installer has put into an environment, which are to go again."""
    if not asked.projects:
        return []
    from agentpipe.environment import installed
    names = installed.folders(folder)
    found(asked, names.values())
    return list(names)


def recorded(asked: Requirements) -> list[tuple[str, bool]]:
    """The same for the record of a base: paths in the checkout are relative to it."""
    code = os.path.realpath(asked.code)
    return [(os.path.relpath(path, code) if inside(path, code) else path, editable) for path, editable in asked.found]


def add(asked: Requirements, folders: Iterable[tuple[str, bool]], folder: str) -> None:
    """Make recorded folders projects of the list, named as they are found again from the working directory `folder`."""
    for path, editable in folders:
        place = os.path.normpath(os.path.join(asked.code, path))
        line = ("-e " if editable else "") + (named(place, folder) if inside(place, asked.code) else place)
        asked.projects.append(Project(place, "", editable, line, "", None))


def named(path: str, folder: str) -> str:
    """A path as it is found again from the task's working directory, in another checkout."""
    name = os.path.relpath(path, folder)
    return name if name.startswith(".") else f"./{name}"


def digest(folder: str, code: str) -> str:
    """A hash over the files that may decide what a folder's package depends on (not over its modules), those of the
    folders of the checkout `code` that it may need included, and where these are: a base remembers that."""
    import hashlib
    digest = hashlib.sha256()
    for path in files(folder):
        digest.update(f"{os.path.basename(path)}\0{file_digest(path, True)}\n".encode("utf-8", "surrogateescape"))
    for each in needed(folder, code):
        place = os.path.relpath(each, code) if inside(each, code) else each
        digest.update(f"{place}\n".encode("utf-8", "surrogateescape"))
        for path in files(each):
            about = f"{os.path.relpath(path, folder)}\0{file_digest(path, True)}\n"
            digest.update(about.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def files(folder: str) -> list[str]:
    """The files in a package's own folder that may decide what it depends on."""
    found = []
    for place in (folder, os.path.join(folder, "requirements")):
        names = sorted(os.listdir(place)) if os.path.isdir(place) else []
        found += [os.path.join(place, name) for name in names if name.endswith(FILES)]
    return [path for path in found if os.path.isfile(path)]


def needed(folder: str, code: str) -> list[str]:
    """The folders that a package's folder may need, and those that they may need."""
    found: set[str] = set()
    known = {os.path.realpath(folder)}  # by links there may be any number of ways to one
    ahead = [folder]
    every: list[str] = []  # the checkout is walked once, whichever of them ask for all that is in it

    def projects() -> list[str]:
        if not every:
            every.extend(_projects(code))
        return every
    while ahead:
        for each in sorted({os.path.normpath(each) for each in _named_in(ahead.pop(), code, projects)}):
            if os.path.isdir(each) and (real := os.path.realpath(each)) not in known:
                known.add(real)
                found.add(each)
                ahead.append(each)
    return sorted(found)


def _named_in(folder: str, code: str, projects: Callable[[], list[str]]) -> Iterator[str]:
    if code and any(BY_BUILD.search(_bytes(path)) for path in files(folder)):
        yield from projects()
    text = _bytes(os.path.join(folder, "pyproject.toml"))
    if b"path" not in text and b"workspace" not in text:
        return
    from agentpipe.environment.pins import load_toml
    tool = load_toml(os.path.join(folder, "pyproject.toml")).get("tool") or {}
    told = [each for listed in (tool.get("uv", {}).get("sources") or {}).values()
            for each in (listed if isinstance(listed, list) else [listed])]
    if code and any(isinstance(each, dict) and each.get("workspace") for each in told):
        yield from projects()
    poetry = tool.get("poetry") or {}
    groups = [poetry, *(poetry.get("group") or {}).values()]
    told += [each for group in groups for listed in (group.get("dependencies") or {}).values()
             for each in (listed if isinstance(listed, list) else [listed])]
    yield from (os.path.join(folder, each["path"]) for each in told
                if isinstance(each, dict) and isinstance(each.get("path"), str))


def _projects(code: str) -> Iterator[str]:
    """Every folder of the checkout that has a package."""
    for here, names, leaves in trees.walk(code):
        names[:] = [name for name in names if not name.startswith(".") and name != "node_modules"]
        if any(name in leaves for name in PROJECT):
            yield here


def _bytes(path: str) -> bytes:
    try:
        return list_of_task(path)
    except OSError:
        return b""
