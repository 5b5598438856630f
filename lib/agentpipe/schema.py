"""JSON Schema, as much of it as manifest.schema.json uses.

A validator from a package costs 20 ms to import and compile, a quarter of what a stage may take to start; this costs
none. A test holds it against the reference implementation, another that the schema uses nothing else.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES: dict[str, type] = {"object": dict, "array": list, "string": str, "null": type(None)}


def problem(schema: dict[str, Any], value: Any, root: dict[str, Any], where: str = "") -> str | None:
    """What is wrong with `value`, in one phrase that begins with the field ("task.id must be a string"); or None."""
    if "$ref" in schema:
        return problem(root["definitions"][schema["$ref"].rpartition("/")[2]], value, root, where)
    name = where or "it"
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return f"{name} must be {schema['const']}"
    if "type" in schema:
        allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is(value, kind) for kind in allowed):
            return f"{name} must be {' or '.join(allowed)}"
    if isinstance(value, str) and "pattern" in schema and not re.search(_whole(schema["pattern"]), value):
        return f"{name} must match {schema['pattern']}"
    if _is(value, "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{name} must be from {schema.get('minimum', '…')} to {schema.get('maximum', '…')}"
    return _inside(schema, value, root, where) or _alternatives(schema, value, root, where)


def _inside(schema: dict[str, Any], value: Any, root: dict[str, Any], where: str) -> str | None:
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                return f"{where + '.' if where else ''}{name} is missing"
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name, each in value.items():
            found = problem(known.get(name, others), each, root, f"{where}.{name}" if where else name)
            if found:
                return found
    if isinstance(value, list):
        for at, each in enumerate(value):
            found = problem(schema.get("items", {}), each, root, f"{where}[{at}]")
            if found:
                return found
    return None


def _alternatives(schema: dict[str, Any], value: Any, root: dict[str, Any], where: str) -> str | None:
    found = [problem(each, value, root, where) for each in schema.get("anyOf", ())]
    return found[0] if found and all(found) else None


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        if isinstance(value, bool):
            return False
        return isinstance(value, int) or (isinstance(value, float) and (kind == "number" or value.is_integer()))
    if kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def _whole(pattern: str) -> str:
    # in JSON Schema `$` is the end of the text, for Python also the place before a last newline
    return pattern.replace("$", r"\Z")
