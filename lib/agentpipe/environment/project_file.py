"""A pyproject.toml without a lock as requirement lines; and the Pythons that a project is for."""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.environment import uv_indexes
from agentpipe.environment.lock_files import UV_WITH_VALUE
from agentpipe.environment.pins import read_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXTRAS = "optional-dependencies"  # of a [project]


def lines(folder: str, words: list[str]) -> tuple[list[str], list[str]] | None:
    """(lines, notes): the package itself where it can be built, else what it depends on; with the extras and groups
    that the `words` for `uv sync` name. None where the file only has settings of tools."""
    project = read_toml(os.path.join(folder, "pyproject.toml"))
    poetry = project.get("tool", {}).get("poetry", {})
    own = project.get("project", {})
    dynamic = own.get("dynamic")
    built = "build-system" in project or (isinstance(dynamic, list) and "dependencies" in dynamic)
    buildable = built and poetry.get("package-mode", True)
    extras, groups = _chosen(project, words) if words else ([], [])
    if buildable and (own or poetry):
        own_line = f"-e {folder}" + (f"[{','.join(extras)}]" if extras else "")
        groups, notes = _from_sources(groups, project)  # uv itself reads those of what it builds
        return [*uv_indexes.lines(project, folder, True), own_line, *groups], notes
    if "project" in project:
        needed = own.get("dependencies") or []
        if not isinstance(needed, list):
            raise errors.Failure("pyproject.toml: project.dependencies is not a list", errors.BAD_DATA,
                                 remedy='write dependencies = ["NAME", …]', change=errors.CODE_ANEW)
        optional = _lists(own.get(EXTRAS), EXTRAS) if extras else {}
        needed = [str(line) for line in [*needed, *(each for extra in extras for each in optional[extra])]]
        needed, notes = _from_sources(needed + groups, project)
        return uv_indexes.lines(project, folder, False) + needed, notes
    if poetry:
        raise errors.Failure("the project of poetry has no poetry.lock", errors.NOT_FOUND,
                             remedy="make it with `poetry lock`, and commit it", change=errors.CODE_ANEW)
    return None


def _from_sources(needed: list[str], project: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(the lines with the addresses that tool.uv.sources has for their packages, notes)."""
    from agentpipe.environment.requirements import NAME, normalised
    told = project.get("tool", {}).get("uv", {}).get("sources") or {}
    sources = {normalised(name): source for name, source in told.items()}
    found, notes = [], []
    for line in needed:
        match = re.match(NAME, line)
        source = sources.get(normalised(match[1])) if match else None
        if source and match and not line[match.end():].startswith("@"):
            marker = line.partition(";")[2].strip()
            other = _with_source(match[1], f"[{match[2]}]" if match[2] else "", source)
            if not other and not _of_indexes(source):
                notes.append(f"pyproject.toml: what tool.uv.sources says of {match[1]} needs a uv.lock, and is passed "
                             "over: it comes from the indexes")
            line = other + (f" ; {marker}" if marker else "") if other else line
        found.append(line)
    return found, notes


def _with_source(name: str, extras: str, source: Any) -> str:
    """A package's line with its source in place of versions; "" for a source that needs more than a line."""
    if not isinstance(source, dict) or source.keys() & {"marker", "extra", "group"}:
        return ""
    told = {key: value for key, value in source.items() if isinstance(value, str)}
    if "path" in told:
        path = told["path"] if os.path.isabs(told["path"]) else f"./{told['path']}"
        return ("-e " if source.get("editable") else "") + path + extras
    address = told.get("url", "")
    if "git" in told:
        ref = told.get("rev") or told.get("tag") or told.get("branch")
        address = f"git+{told['git']}" + (f"@{ref}" if ref else "")
    inside = f"#subdirectory={told['subdirectory']}" if told.get("subdirectory") else ""
    return f"{name}{extras} @ {address}{inside}" if address else ""


def _of_indexes(source: Any) -> bool:
    """Whether it only says which index is meant: all of a project's are asked."""
    each = source if isinstance(source, list) else [source]
    return all(isinstance(one, dict) and "index" in one for one in each)


def _chosen(project: dict[str, Any], words: list[str]) -> tuple[list[str], list[str]]:
    """(the extras, the lines of the groups) of a pyproject.toml that words for `uv sync` name, as uv would."""
    from agentpipe.environment.requirements import normalised
    optional = _lists(project.get("project", {}).get(EXTRAS), EXTRAS)
    groups = _lists(project.get("dependency-groups"), "dependency-groups")
    named: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        named.setdefault(word, []).extend([next(rest)] if word in UV_WITH_VALUE else [])
    named = {option: [normalised(name) for name in names] for option, names in named.items()}
    extras = [*(optional if "--all-extras" in named else ()), *named.get("--extra", ())]
    wanted = [*(groups if "--all-groups" in named else ()),
              *(["dev"] if "--dev" in named and "dev" in groups else ()), *named.get("--group", ())]
    for kind, asked, there in (("extra", extras, optional), ("group", wanted, groups)):
        missing = next((name for name in asked if name not in there), None)
        if missing is not None:
            raise errors.Failure(f"pyproject.toml has no {kind} {missing}", errors.NOT_FOUND,
                                 remedy="correct agent.package_manager.uv_sync_extra_args")
    known: set[str] = set()
    lines = [line for name in wanted if name not in named.get("--no-group", ())
             for line in _group(groups, name, known)]
    return [name for name in dict.fromkeys(extras) if name not in named.get("--no-extra", ())], lines


def _lists(table: dict[str, Any] | None, where: str) -> dict[str, Any]:
    """The lists of a table of pyproject.toml by their names, which may be spelled in several ways."""
    from agentpipe.environment.requirements import normalised
    found = {normalised(name): lines for name, lines in (table or {}).items()}
    wrong = next((name for name, lines in found.items() if not isinstance(lines, list)), "")
    if wrong:
        raise errors.Failure(f"pyproject.toml: {where}.{wrong} is no list", errors.BAD_DATA,
                             remedy=f"correct {where}.{wrong}", change=errors.CODE_ANEW)
    return found


def _group(groups: dict[str, Any], name: str, known: set[str]) -> list[str]:
    """The lines of a dependency group, and of those that it includes (PEP 735), but for the `known` ones."""
    from agentpipe.environment.requirements import normalised
    lines: list[str] = []
    ahead: list[Any] = [{"include-group": name}]
    while ahead:
        each = ahead.pop()
        if not isinstance(each, dict):
            lines.append(str(each))
            continue
        name = normalised(str(each.get("include-group")))
        if name not in groups:
            raise errors.Failure(f"pyproject.toml has no group {name}, which another one includes", errors.BAD_DATA,
                                 remedy=f"add the group {name}", change=errors.CODE_ANEW)
        if name not in known:
            known.add(name)
            ahead += reversed(groups[name])
    return lines


def python(project: dict[str, Any]) -> str:
    """The versions of Python that a project is for, as a range; "" where it says nothing that is one."""
    poetry = project.get("tool", {}).get("poetry", {}).get("dependencies", {})
    told = project.get("project", {}).get("requires-python") or (poetry or {}).get("python")
    limits = re.sub(r"([<>=!~^])\s+", r"\1", told).replace(",", " ").split() if isinstance(told, str) else []
    text = ",".join(_limit(each) for each in limits)
    return text if re.fullmatch(r"(?:,?(?:[<>]=?|[=!~]=)\d+(?:\.\d+)*(?:\.\*)?)+", text) else ""


def _limit(told: str) -> str:
    """What poetry writes as `^3.8`, `~3.10` or `3.10.*`, and many as `>=3.8.*`, as PEP 440 has it."""
    if told.startswith(("<", ">", "~=")):
        return told.removesuffix(".*")
    found = re.fullmatch(r"([~^]?)(\d{1,9})(\.\d+)?((?:\.\d+)*)(\.\*)?", told)
    if not found or (not found[1] and found[4]):
        return told
    sign, major, minor, rest, _ = found.groups(default="")
    if sign == "^":
        return f">={major}{minor}{rest},<{int(major) + 1}"
    return f"~={major}{minor}{rest}" if rest else f"=={major}{minor}.*"
