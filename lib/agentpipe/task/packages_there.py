"""The packages that a task asks for, and those that its last run on this machine had."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_asked(task: dict[str, Any], package: str) -> bool:
    """Whether the task asks for that package."""
    from agentpipe.task import edits
    return edits.package_of(package) in _asked(task)


def modules(task: dict[str, Any]) -> list[str]:
    """The modules of all of them, as far as it is known how these are called."""
    from agentpipe.environment import package_names
    return [package_names.module_of(name) for name in sorted(_asked(task) | _names(_environment(task) or []))]


def lacks(task: dict[str, Any], package: str | None) -> bool:
    """Whether the environment of its last run on this machine is known to have been without a package."""
    found = _environment(task)
    return found is not None and package not in _names(found)


def _asked(task: dict[str, Any]) -> set[str]:
    from agentpipe.task import edits
    return _names(edits.recorded(task).splitlines())


def _names(lines: list[Any]) -> set[str]:
    from agentpipe.task import edits
    return set(filter(None, map(edits.package_of, map(str, lines))))


def _environment(task: dict[str, Any]) -> list[Any] | None:
    """What its last run on this machine had installed; None where that is not known."""
    from agentpipe.claim import attempt
    directory = attempt.latest(task["id"])
    packages = ((attempt.read_manifest(directory) or {}).get("env") or {}).get("packages") if directory else None
    return packages if isinstance(packages, list) else None
