"""What stands inside of a task's fields, as it is stored; what has a wrong type is refused (400/12)."""

from __future__ import annotations

from agentpipe import task_fields
from agentpipe.server.common import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LISTS = ("artifacts", "input", "output")


def cleaned(field: str, value: dict[str, Any]) -> dict[str, Any]:
    """The value of a task's field.

    Keys that may be any are kept but for outer blanks; an empty one is 400/12. A lone object where a list of them
    belongs is one of one; artefacts are sorted, and each has a mode.
    """
    if field in ("hyperparams", "configuration", "container", "runtime"):
        value = _stripped(field, value)
        if field == "hyperparams":
            value = {section: _stripped(field, names) if isinstance(names, dict) else names
                     for section, names in value.items()}
    elif field == "script":
        value = {key: item.strip() if isinstance(item, str) and key != "diff" else item
                 for key, item in value.items() if item is not None}
    elif field in ("execution", "models"):
        value = {key: _listed(item) if key in LISTS else item for key, item in value.items()}
    check(field, value, task_fields.KINDS[field])
    if field == "execution" and "artifacts" in value:
        value["artifacts"] = sorted(map(with_mode, value["artifacts"]), key=lambda item: str(item.get("key")))
    return value


def with_mode(artifact: dict[str, Any]) -> dict[str, Any]:
    """An artefact with the mode that it has where none is given; the clearml package looks for it."""
    return {**artifact, "mode": artifact.get("mode") or "output"}


def check(name: str, value: Any, kind: task_fields.Kind) -> None:
    """Refuse a value with a wrong type in it; the text names where."""
    found = task_fields.wrong(name, value, kind)
    if found:
        where, what, wanted = found
        expected = "object" if wanted is dict else wanted.__name__
        raise error(12, f"error for field '{where}'. value is wrong, expected type \"{expected}\" {what!r}"[:200])


def _stripped(field: str, mapping: dict[str, Any]) -> dict[str, Any]:
    if not all(key.strip() for key in mapping):
        raise error(12, "empty key", field=field)
    return {key.strip(): value for key, value in mapping.items()}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]
