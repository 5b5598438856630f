"""poetry.lock as requirement lines: what `poetry install` would install, without poetry.

Locks of poetry 2 name each package's groups and markers; for older ones the dependencies are followed from those of
pyproject.toml.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.environment.pins import load_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Package = dict[str, Any]

NEVER, ALWAYS = 'python_version < "0"', 'python_version >= "0"'
# a package that is reached on more ways than this is taken without a marker
MANY = 8


class Wish:
    """Which part of a lock is meant: the words of `poetry install`."""

    def __init__(self, words: list[str], groups: dict[str, bool], extras: set[str]) -> None:
        """`groups`: every group, and whether it is optional; `extras`: those that there are."""
        from agentpipe.environment.requirements import normalised
        self.extras: set[str] = set()
        self.all_extras = self.no_root = False
        self.notes: list[str] = []
        with_, without, only = set(), set(), set()  # type: ignore[var-annotated]
        rest = iter(words)
        for word in rest:
            name, equals, value = word.partition("=")
            if name in ("--with", "--without", "--only", "--extras", "-E"):
                names = set(filter(None, re.split(r"[,\s]+", value if equals else next(rest, ""))))
                target = {"--with": with_, "--without": without, "--only": only}.get(name, self.extras)
                target |= names
            elif word == "--all-extras":
                self.all_extras = True
            elif word in ("--no-root", "--only-root"):
                self.no_root = word == "--no-root"
            elif word == "--no-dev":
                without.add("dev")
            elif word not in ("--sync", "--no-interaction", "-n", "--quiet", "-q", "--no-ansi", "--compile"):
                self.notes.append(f"agent.package_manager.poetry_install_extra_args: {word} is passed over")
        self.extras = {normalised(each) for each in self.extras}
        for kind, asked, there in (("extra", self.extras, extras), ("group", with_ | only, set(groups))):
            if missing := sorted(asked - there):
                raise errors.Failure(f"pyproject.toml has no {kind} {missing[0]}", errors.NOT_FOUND,
                                     remedy="correct agent.package_manager.poetry_install_extra_args")
        usual = {group for group, optional in groups.items() if not optional or group in with_}
        self.groups = only or usual - without
        self.no_root = self.no_root or bool(only and "main" not in only)


def lines(folder: str, words: list[str]) -> tuple[list[str], list[str]]:
    """(lines, notes) for the project in `folder`; `words` are more arguments for `poetry install`. Failure 65 for what
    is no lock."""
    try:
        return _lines(folder, words)
    except (AttributeError, LookupError, TypeError):  # something else than what poetry writes stands there
        raise _no_lock() from None


def _no_lock() -> errors.Failure:
    return errors.Failure("poetry.lock is not a lock of poetry", errors.BAD_DATA,
                          remedy="run `poetry lock` in the project, and commit poetry.lock", change=errors.CODE_ANEW)


def _lines(folder: str, words: list[str]) -> tuple[list[str], list[str]]:
    project = load_toml(os.path.join(folder, "pyproject.toml"))
    lock = load_toml(os.path.join(folder, "poetry.lock"))
    packages = lock.get("package")
    if not isinstance(packages, list):
        raise _no_lock()
    roots = _roots(project)
    wish = Wish(words, {"main": False, **{name: optional for name, (optional, _) in roots.items()}},
                _extras(project, lock))
    if not _fits(project, lock):
        wish.notes.append("poetry.lock does not fit pyproject.toml any more: what the lock says is installed (run "
                          "`poetry lock` in the project, and commit poetry.lock)")
    if packages and all("groups" in package for package in packages):
        wanted = {id(package): _marker(package, wish) for package in packages if wish.groups & set(package["groups"])}
    else:
        wanted = _followed(packages, roots, wish, _of_extras(project, wish))
    chosen = [(package, wanted[id(package)]) for package in packages if wanted.get(id(package)) is not None]
    found = sorted({package["source"]["url"] for package, _ in chosen
                    if (package.get("source") or {}).get("type") == "legacy"})
    found = [f"--extra-index-url {url}" for url in found]
    found += [_line(package, marker or "", lock) for package, marker in chosen]
    poetry = project.get("tool", {}).get("poetry", {})
    if "build-system" in project and poetry.get("package-mode", True) and not wish.no_root:
        found.append("-e .")
    return found, wish.notes


def _fits(project: Package, lock: Package) -> bool:
    """Whether a lock was made for what pyproject.toml asks for, by the hash that poetry compares; True where it has
    none. Before poetry 2.3 [dependency-groups] were no part of it."""
    import hashlib
    import json
    told = lock.get("metadata", {}).get("content-hash")
    if told is None:
        return True
    own, poetry = project.get("project", {}), project.get("tool", {}).get("poetry", {})
    own = {key: own[key] for key in ("requires-python", "dependencies", "optional-dependencies") if key in own}
    each: tuple[Package, Package] = {}, project.get("dependency-groups", {})
    for groups in each:
        old = () if own or groups else ("dependencies", "source", "extras", "dev-dependencies")
        kept = {key: poetry.get(key) for key in ("dependencies", "source", "extras", "dev-dependencies", "group")
                if key in poetry or key in old}
        parts = {**({"project": own} if own else {}), **({"dependency-groups": groups} if groups else {})}
        text = json.dumps({**parts, "tool": {"poetry": kept}} if parts else kept, sort_keys=True, default=str)
        if hashlib.sha256(text.encode()).hexdigest() == told:
            return True
    return False


def _extras(project: Package, lock: Package) -> set[str]:
    """The normalised names of all extras that there are."""
    from agentpipe.environment.requirements import normalised
    poetry, own = project.get("tool", {}).get("poetry", {}), project.get("project", {})
    return {normalised(name) for extras in (poetry.get("extras"), own.get("optional-dependencies"), lock.get("extras"))
            for name in extras or ()}


def _line(package: Package, marker: str, lock: Package) -> str:
    name, source = package["name"], package.get("source") or {}
    kind, url = source.get("type"), source.get("url")
    tail = f" ; {marker}" if marker else ""
    if kind == "git":
        inside = f"#subdirectory={source['subdirectory']}" if source.get("subdirectory") else ""
        return f"{name} @ git+{url}@{source['resolved_reference']}{inside}{tail}"
    if kind == "directory":
        return f"{'-e ' if package.get('develop') else ''}./{url}{tail}"
    if kind == "file":
        return f"./{url}{tail}"
    hashes = package.get("files") or (lock.get("metadata", {}).get("files") or {}).get(name) or []
    known = "".join(f" --hash={each['hash']}" for each in hashes if str(each.get("hash")).startswith("sha256:"))
    return (f"{name} @ {url}" if kind == "url" else f"{name}=={package['version']}") + tail + known


def _marker(package: Package, wish: Wish) -> str | None:
    """The marker under which a package of a lock of poetry 2 is installed; None: not at all."""
    from agentpipe.environment.requirements import normalised
    told = package.get("markers") or ""
    if isinstance(told, dict):
        each = [told.get(group, "") for group in package["groups"] if group in wish.groups]
        told = "" if "" in each else " or ".join(f"({marker})" for marker in each)
    told = re.sub(r"""extra\s*==\s*["']([^"']+)["']""",
                  lambda match: ALWAYS if wish.all_extras or normalised(match[1]) in wish.extras else NEVER,
                  told)
    return None if told == NEVER else told


def _roots(project: Package) -> dict[str, tuple[bool, Package]]:
    """{group: (whether it is optional, its dependencies by name)} as pyproject.toml has them."""
    poetry = project.get("tool", {}).get("poetry", {})
    found = {"main": (False, {**_named(project.get("project", {}).get("dependencies") or []),
                              **poetry.get("dependencies", {})})}
    for name, group in (poetry.get("group") or {}).items():
        found[name] = (bool(group.get("optional")), group.get("dependencies") or {})
    if poetry.get("dev-dependencies"):
        found["dev"] = (False, {**found.get("dev", (False, {}))[1], **poetry["dev-dependencies"]})
    for name, listed in (project.get("dependency-groups") or {}).items():
        found[name] = (found.get(name, (False, {}))[0], _named([each for each in listed if isinstance(each, str)]))
    for _, dependencies in found.values():
        dependencies.pop("python", None)
    return found


def _named(listed: list[str]) -> Package:
    """PEP 508 lines as {name: {extras, markers}}."""
    from agentpipe.environment.requirements import NAME
    matches = ((re.match(NAME, line), line) for line in listed)
    return {match[1]: {"extras": [each.strip() for each in (match[2] or "").split(",") if each.strip()],
                       "markers": line.partition(";")[2].strip()} for match, line in matches if match}


def _of_extras(project: Package, wish: Wish) -> set[str]:
    """The normalised names of the optional dependencies that the wanted extras bring."""
    from agentpipe.environment.requirements import normalised
    told = project.get("tool", {}).get("poetry", {}).get("extras") or {}
    return {normalised(name) for extra, names in told.items() if wish.all_extras or normalised(extra) in wish.extras
            for name in names}


def _followed(packages: list[Package], roots: dict[str, tuple[bool, Package]], wish: Wish,
              brought: set[str]) -> dict[int, str | None]:
    """{id(package): its marker} of all that the groups need, in a lock that does not say so itself."""
    from agentpipe.environment.requirements import normalised
    named: dict[str, list[Package]] = {}
    for package in packages:
        named.setdefault(normalised(package["name"]), []).append(package)
    waiting = []
    for group in wish.groups:
        for name, told in roots.get(group, (False, {}))[1].items():
            for each in told if isinstance(told, list) else [told]:
                if not (isinstance(each, dict) and each.get("optional")) or normalised(name) in brought:
                    waiting.append((name, each, ""))
    seen: dict[int, set[str]] = {}
    while waiting:
        name, told, above = waiting.pop()
        told = told if isinstance(told, dict) else {}
        marker = _both(above, str(told.get("markers") or ""))
        for package in named.get(normalised(name), []):
            known = seen.setdefault(id(package), set())
            if "" in known or marker in known:
                continue
            known.add("" if len(known) >= MANY else marker)
            waiting += _below(package, set(told.get("extras") or ()), "" if "" in known else marker)
    return {each: "" if "" in markers else " or ".join(f"({marker})" for marker in sorted(markers))
            for each, markers in seen.items()}


def _below(package: Package, extras: set[str], marker: str) -> list[tuple[str, Any, str]]:
    from agentpipe.environment.requirements import NAME, normalised
    brought = set()
    for extra, listed in (package.get("extras") or {}).items():
        if extra in extras:
            brought |= {normalised(match[1]) for match in (re.match(NAME, line) for line in listed) if match}
    found = []
    for name, told in (package.get("dependencies") or {}).items():
        for each in told if isinstance(told, list) else [told]:
            if not (isinstance(each, dict) and each.get("optional")) or normalised(name) in brought:
                each = {**each, "markers": _without_extra(each)} if isinstance(each, dict) else each
                found.append((name, each, marker))
    return found


def _without_extra(told: Package) -> str:
    """A dependency that an extra brings has it in its marker, too."""
    return re.sub(r"""extra\s*==\s*["'][^"']+["']""", ALWAYS, str(told.get("markers") or ""))


def _both(one: str, other: str) -> str:
    return f"({one}) and ({other})" if one and other else one or other
