"""The indexes that a pyproject.toml names for uv ([[tool.uv.index]]), and the logins that uv has for them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.requirements import Requirements


def lines(project: dict[str, Any], folder: str, built: bool) -> list[str]:
    """Those of a project as lines of a list; which package is to come from which (`explicit`) uv reads itself of one
    that is `built`."""
    found = []
    for each in _named(project):
        url = str(each.get("url") or "")
        if url and not (built and each.get("explicit")):
            option = ("--find-links" if each.get("format") == "flat" else
                      "--index-url" if each.get("default") else "--extra-index-url")
            found.append(f"{option} {url if '://' in url else os.path.normpath(os.path.join(folder, url))}")
    return found


def with_logins(found: Requirements, code: str, folder: str) -> Requirements:
    """A project's list with the logins that uv has for the indexes of its pyproject.toml (UV_INDEX_NAME_USERNAME,
    …_PASSWORD), by the names of these variables."""
    if not any(name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD")) for name in os.environ):
        return found
    known = {str(each.get("url", "")).rstrip("/"): (each, login) for each in _up_to(code, folder)
             if (login := _with_login(each))}
    there = {value.rstrip("/") for _, value in found.options}
    found.options = [(name, known.get(value.rstrip("/"), ({}, value))[1]) for name, value in found.options]
    for index, login in (pair for url, pair in known.items() if url not in there):
        option = ("--find-links" if index.get("format") == "flat" else "--extra-index-url", login)
        if index.get("explicit") and not found.has_hashes():
            # uv itself asks it, for nothing but the packages that name it: any other may have a namesake there
            found.explicit.append(option)
            found.variables |= {name: os.environ[name] for name in _variables(index) if os.environ.get(name)}
        else:
            found.options.append(option)
    return found


def _named(project: dict[str, Any]) -> list[dict[str, Any]]:
    told = project.get("tool", {}).get("uv", {}).get("index")
    return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []


def _up_to(code: str, folder: str) -> list[dict[str, Any]]:
    """Those of the projects from a folder up to the top of the checkout."""
    from agentpipe.environment.pins import load_toml
    found, place = [], os.path.normpath(folder)
    while True:
        found += _named(load_toml(os.path.join(place, "pyproject.toml")))
        if place in (code, "/"):
            return found
        place = os.path.dirname(place)


def _with_login(index: dict[str, Any]) -> str:
    """The URL of an index with the variables of its login; "" without one."""
    user, password = (f"${{{each}}}" if os.environ.get(each) else "" for each in _variables(index))
    scheme, mark, rest = str(index.get("url", "")).partition("://")
    login = user + (f":{password}" if password else "")
    return f"{scheme}://{login}@{rest}" if login and mark and "@" not in rest.partition("/")[0] else ""


def _variables(index: dict[str, Any]) -> tuple[str, str]:
    """The variables in which uv looks for the user and the password of an index."""
    import re
    name = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", str(index.get("name", "")).upper())
    return f"{name}_USERNAME", f"{name}_PASSWORD"
