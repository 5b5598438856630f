"""Conditions on fields of the kind "list": alternatives, operators, and the newer `filters`."""

from __future__ import annotations

from collections.abc import Callable

from agentpipe.server.common import error
from agentpipe.server.fieldpaths import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "__$"
# operator -> the group that the values after it go to, and whether that holds for more than one value
_OPERATORS = {"not": ("none", False), "nop": ("any", False), "all": ("all", True), "and": ("all", True),
              "any": ("any", True), "or": ("any", True)}


def terms(asked: list[Any]) -> tuple[dict[str, list[Any]], bool]:
    """The values by group ("any", "all", "none"), and whether one group is enough (else all must hold)."""
    groups: dict[str, list[Any]] = {"any": [], "all": [], "none": []}
    group, sticky, waiting, first = "any", False, "", ""
    for value in asked:
        if isinstance(value, str) and value.startswith(PREFIX):
            operator = value[len(PREFIX):]
            if operator not in _OPERATORS:
                raise error(16, "unsupported operator", operator=value)
            first = first or operator
            waiting = "" if operator == "nop" else operator
            group, sticky = _OPERATORS[operator]
        elif isinstance(value, str) and value.startswith("-") and group == "any" and not sticky:
            groups["none"].append(value[1:])
        else:
            groups["any" if value is None else group].append(value)
            waiting = ""
            if not sticky:
                group = "any"
    if waiting:
        raise error(16, "operator without a value", operator=PREFIX + waiting)
    return groups, first in ("any", "or")


def condition(field: str, asked: Any) -> Callable[[dict[str, Any]], bool]:
    """Whether a document's field fits a list of terms; a single one counts as a list."""
    groups, either = terms(asked if isinstance(asked, list) else [asked])
    some, every, none = groups["any"], groups["all"], groups["none"]

    def holds(document: dict[str, Any]) -> bool:
        found = values(document, field)
        results = []
        if some:
            results.append(any(value in some for value in found) or (None in some and not found))
        if every:
            results.append(all(value in found for value in every))
        if none:
            results.append(not any(value in none for value in found))
        return any(results) if either else all(results)
    return holds


def plain(asked: Any) -> list[str] | None:
    """The values when they are mere alternatives (no operator, exclusion or null), else None."""
    items = asked if isinstance(asked, list) else [asked]
    mere = all(isinstance(item, str) and not item.startswith((PREFIX, "-")) for item in items)
    return items if items and mere else None


def filtered(field: str, asked: Any) -> Callable[[dict[str, Any]], bool]:
    """A condition of `filters`: {any: {include, exclude}, all: {include, exclude}, op}."""
    some, every = (_listed(_object(asked).get(join)) for join in ("any", "all"))

    def holds(document: dict[str, Any]) -> bool:
        found = values(document, field)
        results = []
        if some["include"]:
            results.append(any(_has(found, value) for value in some["include"]))
        if some["exclude"]:
            results.append(any(not _has(found, value) for value in some["exclude"]))
        if every["include"]:
            results.append(all(_has(found, value) for value in every["include"]))
        if every["exclude"]:
            results.append(not any(_has(found, value) for value in every["exclude"]))
        return any(results) if results and asked.get("op") == "or" else all(results)
    return holds


def _listed(asked: Any) -> dict[str, list[Any]]:
    """The values of `include` and `exclude`; a single one counts as a list."""
    given = {side: _object(asked).get(side) for side in ("include", "exclude")}
    for value in given.values():
        if value is not None and not isinstance(value, list | str):
            raise error(12, f'value is wrong, expected type "list" {value!r}'[:200])
    return {side: value if isinstance(value, list) else [value] if value else [] for side, value in given.items()}


def _object(asked: Any) -> dict[str, Any]:
    if asked is not None and not isinstance(asked, dict):
        raise error(12, f'value is wrong, expected type "object" {asked!r}'[:200])
    return asked or {}


def _has(found: list[Any], value: Any) -> bool:
    return not found if value is None else value in found
