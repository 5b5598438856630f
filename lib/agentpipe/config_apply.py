"""The sections `environment` and `files` of clearml.conf: variables and files that tasks find on this machine."""

from __future__ import annotations

import os

from agentpipe import config, errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def apply(tree: dict[str, Any]) -> None:
    """Set the variables and write the files, as clearml-agent does when it starts; Failure 78 for a wrong entry."""
    if config.flag("agent.apply_environment", True):
        for name, value in (tree.get("environment") or {}).items():
            os.environ[name] = config.as_text(value)
    if config.flag("agent.apply_files", True):
        for name, entry in (tree.get("files") or {}).items():
            _write(name, entry if isinstance(entry, dict) else {})


def _write(name: str, entry: dict[str, Any]) -> None:
    if not isinstance(entry.get("path"), str):
        raise errors.Failure(f"files.{name}: no path", errors.BAD_CONFIG)
    path = os.path.abspath(os.path.expanduser(os.path.expandvars(entry["path"])))
    home = os.path.realpath(os.path.expanduser("~"))
    if not os.path.realpath(path).startswith(home + os.sep) and not config.flag("agent.files_outside_home"):
        raise errors.Failure(f"files.{name}: {path} is outside of your home", errors.BAD_CONFIG,
                             remedy="set agent.files_outside_home: true to allow that")
    data = _contents(name, entry)
    try:
        with open(path, "rb") as file:
            found = file.read()
        if found == data or not entry.get("overwrite", True):
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise errors.Failure(f"files.{name}: {path}: {error.strerror}", errors.BAD_CONFIG) from None
    from agentpipe import attempt
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        attempt.publish(path, data)
        os.chmod(path, _mode(name, entry.get("mode")))
    except OSError as error:
        raise errors.Failure(f"files.{name}: {path}: {error.strerror}", errors.CANNOT_CREATE) from None


def _contents(name: str, entry: dict[str, Any]) -> bytes:
    value, target = entry.get("contents", ""), entry.get("target_format", "string")
    if entry.get("format") == "base64":
        import base64
        try:
            return base64.b64decode(value, validate=True)
        except (ValueError, TypeError):
            raise errors.Failure(f"files.{name}: contents are not base64", errors.BAD_CONFIG) from None
    if target in ("yaml", "yml"):
        from pyhocon import ConfigFactory, HOCONConverter
        return HOCONConverter.to_yaml(ConfigFactory.from_dict(value)).encode()
    if target == "json":
        import json
        return json.dumps(value, indent=2).encode()
    return config.as_text(value).encode()


def _mode(name: str, mode: Any) -> int:
    """Octal digits, as a number or a text; without them nobody else reads it."""
    try:
        return int(str(mode), 8) if mode is not None else 0o600
    except ValueError:
        raise errors.Failure(f"files.{name}: mode is not octal", errors.BAD_CONFIG) from None
