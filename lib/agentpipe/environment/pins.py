"""What was installed, exactly: for a receipt, and back from one into lines that bring the very same files.

A pin is {"name", "version", "source", "sha256"}: `source` is the file's address ("git+URL@COMMIT" for a repository,
which has no hash: the commit is one), passwords taken out. What lies on the machine stands among the pins as the
line that it is: a package's file with its hash ("./tea.whl --hash=sha256:…"), a folder of the task's ("-e ."), which
its commit pins.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Pin = dict[str, Any]


# of pyproject.toml, what we look into
TABLES = ("project", "project.optional-dependencies", "build-system", "dependency-groups", "tool", "tool.uv",
          "tool.uv.sources", "tool.uv.workspace", "tool.poetry", "tool.poetry.dependencies",
          "tool.poetry.dev-dependencies", "tool.poetry.extras", "tool.poetry.group")


def of_lock(path: str) -> list[Pin]:
    """The pins of a pylock.toml (PEP 751) that was resolved for one environment: one file a package."""
    return of_packages(read_lock(path))


def of_packages(packages: list[dict[str, Any]]) -> list[Pin]:
    """The same for packages as read_lock() gives them."""
    return [_of_package(package) for package in packages]


def read_lock(path: str) -> list[dict[str, Any]]:
    """The packages of a pylock.toml, as they stand there."""
    import os

    from agentpipe import untrusted
    text = untrusted.read(*os.path.split(path), untrusted.LARGE).decode("utf-8", "replace")  # by uv in a container
    found: list[dict[str, Any]] = toml().loads(text).get("packages") or []
    return found


def lines(pins: list[Pin | str]) -> list[str]:
    """Requirement lines that only these files satisfy."""
    return [pin if isinstance(pin, str) else _line(pin) for pin in pins]


def is_pin(value: Any) -> bool:
    """Whether a value of a receipt's `pins.packages` is one of ours, or a line."""
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("name"), str)
                                      and isinstance(value.get("version"), str)
                                      and (not value.get("conda") or isinstance(value.get("build"), str)))


def has_hash(pin: Pin) -> bool:
    """Whether what it has for a SHA-256 is one; a repository's pin has none."""
    import re
    return pin.get("sha256") is None or bool(re.fullmatch(r"[0-9a-fA-F]{64}", str(pin["sha256"])))


def is_direct(pin: Pin) -> bool:
    """Whether it is brought by its own address, a repository's too, not by an index."""
    return bool(pin.get("source") and (pin.get("direct") or "+" in str(pin["source"]).split("://")[0]))


def matching(pins: list[Pin], packages: list[str]) -> list[Pin | str]:
    """The pins of exactly these packages (as installed.packages() gives them); those without a pin stay lines."""
    from agentpipe.environment.requirements import normalised
    known = {normalised(pin["name"]): pin for pin in pins}
    found: list[Pin | str] = []
    for package in packages:
        name, _, version = package.partition("==")
        pin = known.get(normalised(name.partition(" @ ")[0]))
        same = pin is not None and (not version or pin["version"] == version)
        found.append(pin if same and pin is not None else package)
    return found


def _of_package(package: dict[str, Any]) -> Pin:
    from agentpipe.urls import without_credentials
    pin = {"name": package["name"], "version": str(package.get("version") or "")}
    vcs, archive = package.get("vcs"), package.get("archive") or package.get("directory")
    if vcs:
        inside = f"#subdirectory={vcs['subdirectory']}" if vcs.get("subdirectory") else ""
        source = f"{vcs.get('type', 'git')}+{vcs.get('url') or vcs.get('path')}@{vcs.get('commit-id')}{inside}"
        return {**pin, "source": without_credentials(source)}
    file = archive or (package.get("wheels") or [package.get("sdist") or {}])[0]
    inside = f"#subdirectory={file['subdirectory']}" if archive and file.get("subdirectory") else ""
    pin["source"] = without_credentials(str(file.get("url") or file.get("path") or "")) + inside
    if archive:
        pin["direct"] = True
    sha = (file.get("hashes") or {}).get("sha256")
    return {**pin, "sha256": sha} if sha else pin


def _line(pin: Pin) -> str:
    source, sha = str(pin.get("source") or ""), pin.get("sha256")
    line = f"{pin['name']} @ {source}" if is_direct(pin) else f"{pin['name']}=={pin['version']}"
    return f"{line} --hash=sha256:{sha}" if sha else line


def toml() -> Any:
    """The module that reads TOML, of this Python or its forerunner."""
    import importlib
    import sys
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def load_toml(path: str) -> dict[str, Any]:
    """A TOML file; {} when it is none, or not there."""
    from agentpipe import errors
    try:
        return read_toml(path)
    except (errors.Failure, OSError):
        return {}


def read_toml(path: str) -> dict[str, Any]:
    """A TOML file; Failure 65 says where it is none."""
    import os

    from agentpipe import errors, files
    text = files.list_of_task(path).decode("utf-8-sig", "replace")
    try:
        found: dict[str, Any] = toml().loads(text)
    except (ValueError, RecursionError) as error:
        name = os.path.basename(path)
        words = "it is nested too deeply" if isinstance(error, RecursionError) else error
        remedy = f"correct {name}" if name != "uv.lock" else "run `uv lock` in the project, and commit uv.lock"
        raise errors.Failure(f"{name} is not TOML: {words}", errors.BAD_DATA, remedy=remedy,
                             change=errors.CODE_ANEW) from None
    if os.path.basename(path) == "pyproject.toml" and (wrong := _no_table(found)):
        raise errors.Failure(f"pyproject.toml: {wrong} is no table", errors.BAD_DATA, remedy="correct pyproject.toml",
                             change=errors.CODE_ANEW)
    return found


def _no_table(project: dict[str, Any]) -> str:
    """The first of a project's tables that something else stands for; "" when there is none."""
    for name in TABLES:
        if not isinstance(_at(project, name, {}), dict):
            return name
    groups = [f"tool.poetry.group.{name}" for name in _at(project, "tool.poetry.group", {})]
    each = (*groups, *(f"{group}.dependencies" for group in groups))
    return next((name for name in each if not isinstance(_at(project, name, {}), dict)), "")


def _at(found: Any, name: str, nothing: Any) -> Any:
    """What stands under a dotted name; `nothing` where it is not there, also below what is no table."""
    for part in name.split("."):
        found = found.get(part, nothing) if isinstance(found, dict) else nothing
    return found
