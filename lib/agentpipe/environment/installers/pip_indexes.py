"""uv's own settings of indexes (UV_*, uv.toml) as those of pip: what pip does comes from where uv would have had it."""

from __future__ import annotations

import os

from agentpipe.environment import pins
from agentpipe.settings import indexes


def variables() -> dict[str, str]:
    """PIP_* variables: as in uv's own order its variables beat pip's settings, and these its files."""
    pip, files = indexes.pip_settings(), _files()
    default = _told("UV_DEFAULT_INDEX") or _told("UV_INDEX_URL") or pip["index-url"] or files["default"]
    found = {"PIP_INDEX_URL": default[:1],
             "PIP_EXTRA_INDEX_URL": pip["extra-index-url"] + (_told("UV_INDEX") + _told("UV_EXTRA_INDEX_URL")
                                                              or files["extra"]),
             "PIP_FIND_LINKS": pip["find-links"] + (_told("UV_FIND_LINKS", ",") or files["links"]),
             "PIP_NO_INDEX": ["1"] if os.environ.get("UV_NO_INDEX", "").lower() in indexes.YES else []}
    return {name: " ".join(values) for name, values in found.items() if values}


def _told(variable: str, separator: str | None = None) -> list[str]:
    """The addresses of one of uv's variables, without the names that it may give them (NAME=URL)."""
    words = [word.strip() for word in os.environ.get(variable, "").split(separator)]
    return [word.partition("=")[2] if "/" not in word.partition("=")[0] and "=" in word else word
            for word in words if word]


def _files() -> dict[str, list[str]]:
    """What uv.toml names, that of the user in the place of the system's; an index for single packages is for none."""
    found: dict[str, list[str]] = {"default": [], "extra": [], "links": []}
    if os.environ.get("UV_NO_CONFIG", "").lower() in indexes.YES:
        return found
    for path in indexes.uv_files():
        told = pins.load_toml(path)
        named = [each for each in told.get("index", []) if isinstance(each, dict) and not each.get("explicit")]
        here = {"default": [each.get("url") for each in named if each.get("default")] + [told.get("index-url")],
                "extra": [each.get("url") for each in named if not each.get("default")]
                + told.get("extra-index-url", []),
                "links": told.get("find-links", [])}
        found |= {name: own for name, values in here.items() if (own := [str(each) for each in values if each])}
    return found
