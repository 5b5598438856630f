"""The sections `environment` and `files` of clearml.conf: variables and files that tasks find on this machine."""

from __future__ import annotations

import os

from agentpipe import errors
from agentpipe.files import publish
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    File = tuple[str, str, bytes, int, bool]  # name of the entry, path, contents, mode, whether one there is replaced


def apply(tree: dict[str, Any]) -> None:
    """Set the variables and write the files, as clearml-agent does when it starts.

    Failure 78 for a wrong entry, before any file is written.
    """
    os.environ.update(_variables(tree))
    for file in _files(tree):
        _write(*file)


def check(tree: dict[str, Any]) -> None:
    """The same Failure 78, and nothing is changed."""
    before = dict(os.environ)
    try:
        os.environ.update(_variables(tree))  # paths may name them
        _files(tree)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _variables(tree: dict[str, Any]) -> dict[str, str]:
    if not config.flag("agent.apply_environment", True):
        return {}
    found = {name: config.as_text(value) for name, value in (tree.get("environment") or {}).items()}
    for name, text in found.items():
        if not name or "=" in name or "\0" in name + text:
            raise errors.Failure(f"environment: {name!r} can be no variable", errors.BAD_CONFIG,
                                 remedy="write NAME: value, one a line")
    return found


def _files(tree: dict[str, Any]) -> list[File]:
    if not config.flag("agent.apply_files", True):
        return []
    return [_file(name, entry if isinstance(entry, dict) else {}) for name, entry in (tree.get("files") or {}).items()]


def _file(name: str, entry: dict[str, Any]) -> File:
    if not isinstance(entry.get("path"), str):
        raise errors.Failure(f"files.{name}: no path", errors.BAD_CONFIG)
    path = os.path.abspath(os.path.expanduser(os.path.expandvars(entry["path"])))
    home = os.path.realpath(os.path.expanduser("~"))
    if not os.path.realpath(path).startswith(home + os.sep) and not config.flag("agent.files_outside_home"):
        raise errors.Failure(f"files.{name}: {path} is outside of your home", errors.BAD_CONFIG,
                             remedy="set agent.files_outside_home: true to allow that")
    return name, path, _contents(name, entry), _mode(name, entry.get("mode")), bool(entry.get("overwrite", True))


def _write(name: str, path: str, data: bytes, mode: int, overwrite: bool) -> None:
    try:
        with open(path, "rb") as file:
            found = file.read()
        if found == data or not overwrite:
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise errors.Failure(f"files.{name}: {path}: {error.strerror}", errors.BAD_CONFIG) from None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        publish(path, data)
        os.chmod(path, mode)
    except OSError as error:
        raise errors.Failure(f"files.{name}: {path}: {error.strerror}", errors.CANNOT_CREATE) from None
    except errors.Failure as failure:
        raise errors.Failure(f"files.{name}: {failure.reason}", errors.CANNOT_CREATE) from None


def _contents(name: str, entry: dict[str, Any]) -> bytes:
    value, target = entry.get("contents", ""), entry.get("target_format", "string")
    if entry.get("format") == "base64":
        import base64
        try:
            return base64.b64decode(value, validate=True)
        except (ValueError, TypeError):
            raise errors.Failure(f"files.{name}: contents are not base64", errors.BAD_CONFIG) from None
    if target in ("yaml", "yml"):
        if not isinstance(value, dict):
            raise errors.Failure(f"files.{name}: contents are no section, which yaml is made of", errors.BAD_CONFIG)
        from pyhocon import ConfigFactory, HOCONConverter
        return HOCONConverter.to_yaml(ConfigFactory.from_dict(value)).encode()
    if target == "json":
        import json
        return json.dumps(value, indent=2).encode()
    return config.as_text(value).encode()


def _mode(name: str, mode: Any) -> int:
    """Octal digits, as a number or a text; without them nobody else reads it."""
    try:
        found = int(str(mode), 8) if mode is not None else 0o600
    except ValueError:
        found = -1
    if not 0 <= found <= 0o7777:
        raise errors.Failure(f"files.{name}: mode is not octal: {mode}", errors.BAD_CONFIG, remedy="for example 0640")
    return found
