"""Dotted paths into documents, with ClearML's escapes, through maps and lists."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_ESCAPES = (("%%", "%"), ("%2E", "."), ("%24", "$"), ("%_", "_"))


def split(path: str) -> list[str]:
    """The keys of a path.

    Keys that hold a dot, a dollar or a double underscore are escaped in it (server.md §6).
    """
    parts = path.split(".")
    return [_unescape(part) for part in parts] if "%" in path else parts


def escape(key: str) -> str:
    """A key as it stands in a path."""
    key = key.replace("%", "%%").replace(".", "%2E").replace("$", "%24").replace("__", "%_%_")
    return "%" + key if key.startswith("_") else key


def _unescape(part: str) -> str:
    found, at = [], 0
    while at < len(part):
        for escaped, plain in _ESCAPES:
            if part.startswith(escaped, at):
                found.append(plain)
                at += len(escaped)
                break
        else:
            found.append(part[at])
            at += 1
    return "".join(found)


def values(document: Any, path: str) -> list[Any]:
    """All values at a path: none when it is absent or null, several where it leads through or to a list."""
    found = [document]
    for key in split(path):
        below = []
        for item in found:
            if isinstance(item, dict) and item.get(key) is not None:
                below.append(item[key])
        found = [item for value in below for item in (value if isinstance(value, list) else [value])]
        if not found:
            break
    return found


def add_path(tree: dict[str, Any], path: str) -> None:
    """Note a path in a tree of wanted keys, where None is "all below"; a parent swallows its children."""
    keys = split(path)
    for key in keys[:-1]:
        if key in tree and tree[key] is None:
            return
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = None


def pick(value: Any, tree: dict[str, Any] | None) -> Any:
    """What of a value the tree wants; a parent whose child is absent is {}."""
    if tree is None:
        return value
    if isinstance(value, list):
        return [pick(item, tree) for item in value]
    if isinstance(value, dict):
        return {key: pick(value[key], below) for key, below in tree.items() if key in value}
    return value


def leave_out(value: Any, path: str) -> Any:
    """A copy of a value without that path."""
    return _without(value, split(path))


def _without(value: Any, keys: list[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, keys) for item in value]
    if not isinstance(value, dict) or keys[0] not in value:
        return value
    copy = dict(value)
    if len(keys) == 1:
        del copy[keys[0]]
    else:
        copy[keys[0]] = _without(copy[keys[0]], keys[1:])
    return copy
