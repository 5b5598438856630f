"""Variables of a container that is to be made, in the body by which the Engine API creates it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def has(config: dict[str, Any], name: str) -> bool:
    """Whether the arguments, or we, have said it."""
    return any(each.partition("=")[0] == name for each in config["Env"])


def set_default(config: dict[str, Any], name: str, value: str) -> None:
    """A variable of the container, unless its arguments say it."""
    if not has(config, name):
        config["Env"].append(f"{name}={value}")


def override(config: dict[str, Any], name: str, value: str) -> None:
    """A variable of the container, whatever its arguments say."""
    config["Env"] = [each for each in config["Env"] if each.partition("=")[0] != name] + [f"{name}={value}"]
