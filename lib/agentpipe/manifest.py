"""The manifest: read, validate and write it; the only place that knows its JSON (agent-manifest(5))."""

from __future__ import annotations

import json
import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs 6 ms at run time
    from collections.abc import Mapping
    from typing import Any, NoReturn

VERSION = 1
# the order in which stages add their keys: a stage that runs again drops those of later ones
KEYS = ("pull", "place", "fetch", "patch", "env", "run")
SHOW_SCHEMA = "agent-fetch --schema"
SCHEMA = os.path.join(os.path.dirname(__file__), "manifest.schema.json")
# stdlib json is at hand already, and reads as fast; orjson's import pays for itself where a megabyte is written
BIG = 1 << 20
DEEPEST = 200  # levels of objects and lists
_schema: dict[str, Any] | None = None  # parsed, once a process


class SeveralLines(errors.Failure):
    """JSON printed for people: no later line of it can be a manifest either."""

    def __init__(self) -> None:
        super().__init__("not a manifest: JSON over several lines; a manifest is one line", errors.BAD_DATA,
                         remedy="jq -c .")
        self.ends_input = True


def schema() -> str:
    """The JSON Schema (draft 7) as text."""
    with open(SCHEMA, encoding="utf-8") as file:
        return file.read()


def read(line: bytes) -> dict[str, Any]:
    """One line as a valid manifest; a Failure (65) names the field, or the byte where JSON or UTF-8 ends.

    A byte order mark, as some editors put before a text, is passed over.
    """
    try:
        text = line.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        _refuse(f"byte {error.start + 1} is not UTF-8")
    try:
        value = _without_lone_surrogates(json.loads(text, parse_constant=_no_constant, parse_float=_finite), text)
        _look_into(value, text)
    except RecursionError:
        _refuse("it is nested too deeply")
    except ValueError as error:
        if text.strip() in ("{", "["):
            raise SeveralLines from None
        _refuse(f"not JSON: {error}")
    check(value)
    return value


def check(value: Any) -> None:
    """Raise a Failure (65) that names the field when `value` is not a manifest."""
    from agentpipe.schema import problem
    found = problem(_parsed(), value, _parsed())
    if found:
        _refuse(found)
    if (value.get("task") or {}).get("id", "").endswith("."):
        _refuse("task.id must not end with a dot")


def write(manifest: dict[str, Any]) -> bytes:
    """The manifest as one line, newline included."""
    script = (manifest.get("task") or {}).get("script")
    diff = script.get("diff") if isinstance(script, dict) else None
    if isinstance(diff, str) and len(diff) > BIG:  # of a server's task nobody has looked at the types yet
        import orjson
        try:
            return orjson.dumps(manifest) + b"\n"
        except TypeError:  # a number of more than 64 bits
            pass
    return json.dumps(manifest, separators=(",", ":")).encode() + b"\n"


def later(key: str) -> tuple[str, ...]:
    """The keys of the stages that come after this one's."""
    return KEYS[KEYS.index(key) + 1:] if key in KEYS else ()


def with_key(manifest: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with this stage's key rewritten and the keys of later stages dropped."""
    kept = {name: old for name, old in manifest.items() if name not in later(key) and name != "failed"}
    kept.setdefault("manifest", VERSION)
    kept[key] = value
    return kept


# the class of a `failed` that is none: somebody else has decided about the task
LET_GO = "let_go"


def failure(failure: errors.Failure, stage: str, manifest: dict[str, Any] | None = None,
            end: str = "setup_failed") -> dict[str, Any]:
    """What a failed stage prints: the manifest (none when it was told to stop, or it was no manifest) with `failed`.

    Programs and hooks that it quotes may have printed a secret of ours: none stands in it.
    """
    from agentpipe.settings.own_secrets import hidden
    from agentpipe.urls import without_credentials
    change = [without_credentials(hidden(word)) for word in failure.change]
    failed = {"stage": stage, "class": end, "exit": failure.exit, "reason": hidden(failure.reason),
              "evidence": hidden(failure.evidence), "remedy": hidden(failure.remedy),
              **({"change": change} if change else {}), **failure.timed}
    return {"manifest": VERSION, **(manifest or {}), "failed": failed}


def pins(line: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run repeatable, out of what the stages found."""
    from agentpipe import pinned
    place, fetch, patch, env, run = (line.get(key) or {} for key in ("place", "fetch", "patch", "env", "run"))
    former = line.get("pins") or {}
    found = {"commit": fetch.get("commit"), "diff": patch.get("diff"), "python": env.get("version"),
             "packages": env.get("pins", env.get("packages")), "options": env.get("options") or None,
             "image": place.get("digest") or place.get("image_id"), "driver": run.get("driver")}
    if any(found.get(pin) is not None for pin in pinned.FIELDS.values()):
        found["asked"] = pinned.asked(line["task"], former)
    return {**former, **{key: value for key, value in found.items() if value is not None}}


def is_service(manifest: Mapping[str, Any]) -> bool:
    """Whether the task of this manifest is a worker of its own (agent-pull --services)."""
    worker = (manifest.get("pull") or {}).get("worker") or ""
    return worker.endswith(f":service:{(manifest.get('task') or {}).get('id')}")


def _parsed() -> dict[str, Any]:
    global _schema
    if _schema is None:
        _schema = json.loads(schema())
    return _schema


def _look_into(value: Any, text: str) -> None:
    # what can just be read is too deep to be written, where there are more frames on the stack
    if text.count("{") + text.count("[") <= DEEPEST:
        return
    level = [value]
    for _ in range(DEEPEST):
        level = [child for each in level if isinstance(each, (dict, list))
                 for child in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return
    raise RecursionError


def _without_lone_surrogates(value: Any, text: str) -> Any:
    # "\ud800" is legal JSON and no text: it could be written neither to a file nor to a server
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a lone surrogate (\\ud800 to \\udfff) is no character") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    # written again it were Infinity, which is none either
    value = float(digits)
    return value if abs(value) != float("inf") else _no_constant(digits)


def _refuse(why: str, remedy: str = SHOW_SCHEMA) -> NoReturn:
    raise errors.Failure(f"not a manifest: {why}", errors.BAD_DATA, remedy=remedy)
