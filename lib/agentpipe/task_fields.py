"""Which types the values inside of a task's fields have, as the clearml package reads them.

It is strict: one value of a wrong type, and the whole answer is lost to it, also that of a list of many tasks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # a type, a list [of what], or an object by its keys, "*" standing for each
    Kind = type | list["Kind"] | dict[str, "Kind"]

ITEM: Kind = dict.fromkeys(("section", "name", "value", "type", "description"), str)
ARTIFACT: Kind = {
    **dict.fromkeys(("key", "mode", "type", "uri", "hash"), str), "content_size": int, "timestamp": int,
    "type_data": dict.fromkeys(("preview", "content_type", "data_hash"), str), "display_data": [list]}
MODEL: Kind = {"name": str, "model": str}
END: Kind = {**dict.fromkeys(("class", "stage", "reason", "evidence", "remedy", "advice"), str), "exit": int}
# what is not named here may be anything
KINDS: dict[str, Kind] = {
    "script": {**dict.fromkeys(("repository", "branch", "tag", "version_num", "entry_point", "working_dir", "binary",
                                "diff"), str), "requirements": dict},
    "execution": {"queue": str, "framework": str, "test_split": int, "parameters": dict, "model_desc": dict,
                  "model_labels": dict, "dataviews": [dict], "artifacts": [ARTIFACT]},
    "output": {**dict.fromkeys(("destination", "model", "result", "error"), str), "view": dict},
    "models": {"input": [MODEL], "output": [MODEL]},
    "hyperparams": {"*": {"*": ITEM}}, "configuration": {"*": ITEM}, "container": {"*": str},
    "runtime": {"_agentpipe_end": END}}


def wrong(name: str, value: Any, kind: Kind) -> tuple[str, Any, type] | None:
    """The first that has another type: where it is, what is there, the type that it should have.

    Null may stand for a value, but for none of many objects.
    """
    if isinstance(kind, type):
        return None if fits(value, kind) else (name, value, kind)
    if not isinstance(value, list if isinstance(kind, list) else dict):
        return name, value, list if isinstance(kind, list) else dict
    for key, item, inside in _inside(value, kind):
        if (item is not None or _of_many(kind)) and (found := wrong(f"{name}.{key}", item, inside)):
            return found
    return None


def fits(value: Any, kind: type) -> bool:
    """Whether a value has a plain type; a whole number may be written as 5.0, and another one as 5."""
    return isinstance(value, kind) or (kind is int and isinstance(value, float) and value.is_integer()) \
        or (kind is float and isinstance(value, int))


def sound(task: dict[str, Any]) -> dict[str, Any]:
    """A task of any server in which all that is named here has its type.

    What should be a text is its JSON, anything else is left out.
    """
    return {field: _sound(value, KINDS[field]) if field in KINDS else value for field, value in task.items()}


def _sound(value: Any, kind: Kind) -> Any:
    if value is None or wrong("", value, kind) is None:  # the usual case
        return value
    if isinstance(kind, type):
        import json
        return json.dumps(value) if kind is str else None
    if isinstance(kind, list):
        items = value if isinstance(value, list) else []
        return [found for item in items if (found := _sound(item, kind[0])) is not None]
    if not isinstance(value, dict):
        return None
    each = {key: _sound(item, inside) for key, item, inside in _inside(value, kind)}
    return {key: item for key, item in {**value, **each}.items() if item is not None or not _of_many(kind)}


def _inside(value: Any, kind: Kind) -> list[tuple[Any, Any, Kind]]:
    """What stands in an object or a list, and has a type: (key or index, value, type)."""
    if isinstance(kind, list):
        return [(index, item, kind[0]) for index, item in enumerate(value)]
    assert isinstance(kind, dict)
    known = ((key, item, kind.get("*", kind.get(key))) for key, item in value.items())
    return [(key, item, inside) for key, item, inside in known if inside is not None]


def _of_many(kind: Kind) -> bool:
    """Whether what stands there are objects, or lists, that are all alike."""
    return isinstance(kind, list) or (isinstance(kind, dict) and isinstance(kind.get("*"), dict))
