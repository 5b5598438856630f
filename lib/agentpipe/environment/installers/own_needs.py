"""What the package of a folder of the checkout asks for and cannot have: mended in its file, not in the task's list.

Its name is never one for an index, which may have a stranger's package under it.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.environment import local_packages
from agentpipe.environment.installers.uv_words import PACKAGE, WISH
from agentpipe.environment.requirements import inside, normalised
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from agentpipe.environment.requirements import Requirements

NEED = re.compile(rf"{PACKAGE}(?:==\S+)? depends? on {WISH}")
# of setup.py, setup.cfg and pyproject.toml
NAMED = re.compile(r"""^[ \t]*name[ \t]*=[ \t]*["']?([A-Za-z0-9][A-Za-z0-9._-]*)|\(\s*name\s*=\s*["']([^"']+)""",
                   re.MULTILINE)


def failure(said: str, requirements: Requirements, newest: Callable[[str], str]) -> errors.Failure | None:
    """The Failure where uv, `said` on one line, blames what such a package needs; newest(NAME) is "NAME==VERSION"."""
    own = _names(requirements)
    needs = [(owner, name, limits.rstrip(", ")) for owner, name, limits in NEED.findall(said)
             if normalised(owner) in own]
    if not needs:
        return None
    owner, name, limits = needs[0]
    folder = own[normalised(owner)]
    place, wish = _place(folder, name, requirements.code), f"{name}{limits}"
    cause = re.split(r",? (?:and you require|we can conclude)", said.partition("Because ")[2])[0]
    if f"{name} was not found in the" in said:
        why = f"and no index has {name}"
    elif normalised(name) not in own and re.search(rf"only (?:the following versions of )?{re.escape(name)}\b", cause):
        best = newest(name)
        why = f"and there is no such version{f', the nearest is {best}' if best else ''}"
    elif asked := [line for line in requirements.packages
                   if normalised(re.split(r"[^\w.-]", line)[0]) == normalised(name)]:
        why = f"which does not go with '{without_credentials(asked[0])}' in the requirements"
    else:
        why = f"which does not go with the rest: {cause[:300]}"
    return errors.Failure(f"your package {owner} asks for {wish} in {place}, {why}", errors.NOT_FOUND,
                          remedy=f"mend {place}", change=errors.CODE_ANEW)


def _names(requirements: Requirements) -> dict[str, str]:
    """The folders of the packages of the list's folders, and of those that they may need, by the packages' names."""
    folders = dict.fromkeys(each.path for each in requirements.projects)
    for folder in [*folders]:
        folders |= dict.fromkeys(local_packages.needed(folder, requirements.code))
    return {normalised(name): folder for folder in reversed(folders) for name in [_name(folder)]}


def _name(folder: str) -> str:
    for file in local_packages.PROJECT:
        if found := NAMED.search(text(os.path.join(folder, file))):
            return found[1] or found[2]
    return os.path.basename(folder)


def _place(folder: str, name: str, code: str) -> str:
    """The file, with its line, in which a package's folder speaks of another package; else the folder."""
    word = re.compile(rf"(?i)(?<![\w.-]){re.sub('[-_.]+', '[-_.]+', name)}(?![\w-])")
    files = sorted(local_packages.files(folder), key=lambda path: os.path.basename(path) not in local_packages.PROJECT)
    for path in files:
        for number, line in enumerate(text(path).split("\n"), 1):
            if word.search(line):
                return f"{shown(path, code)}:{number}"
    return shown(folder, code)


def shown(path: str, code: str) -> str:
    """A path as it is found in the checkout `code`; one outside as it is."""
    path, code = os.path.realpath(path), os.path.realpath(code)
    return os.path.relpath(path, code) if inside(path, code) else path


def text(path: str) -> str:
    """A file of the task's; "" where it cannot be read."""
    from agentpipe.files import list_of_task
    try:
        return list_of_task(path).decode("utf-8", "replace")
    except (OSError, errors.Failure):
        return ""
