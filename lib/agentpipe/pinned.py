"""Which fields of a task the pins of its receipt pass over: whoever changes one there is told."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# {a field of the task: the pin that counts in its place}
FIELDS = {"script.version_num": "commit", "script.tag": "commit", "script.branch": "commit", "script.binary": "python",
          "script.requirements": "packages", "container.image": "image"}


def asked(task: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> dict[str, str]:
    """{field: a hash of its value}: what a receipt keeps of what was asked for.

    Of a field for which one of the `former` pins has counted it is what those have.
    """
    import hashlib
    import json
    pins, found = former or {}, {}
    known = pins["asked"] if isinstance(pins.get("asked"), dict) else {}
    for field, pin in FIELDS.items():
        section, name = field.split(".")
        value = json.dumps((task.get(section) or {}).get(name) or None, sort_keys=True)
        before = known.get(field) if pins.get(pin) is not None else None
        found[field] = before or hashlib.sha256(value.encode()).hexdigest()[:16]
    return found


def passed_over(manifest: Mapping[str, Any]) -> str:
    """A word about the fields that have been changed in a receipt whose pins count all the same; "" where none has."""
    pins = manifest.get("pins") or {}
    if not isinstance(pins.get("asked"), dict):
        return ""
    then, now = asked(manifest["task"], pins), asked(manifest["task"])
    changed = {field: pin for field, pin in FIELDS.items() if then[field] != now[field]}
    fields = ", ".join(f"task.{field}" for field in changed)
    drop = ", ".join(f".pins.{pin}" for pin in dict.fromkeys(changed.values()))
    return fields and f"{fields} changed in this receipt, but its pins count (jq -c 'del({drop})' drops these)"
