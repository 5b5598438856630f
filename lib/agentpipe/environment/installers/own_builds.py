"""A package of a folder of the checkout whose pyproject.toml or setup.py is broken: uv names neither, we its line."""

from __future__ import annotations

import os
import re

from agentpipe import errors
from agentpipe.environment import local_packages
from agentpipe.environment.installers import own_needs, uv_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements

# uv's words for a pyproject.toml: the number of a line, the line itself, what is wrong with it
TOML = re.compile(r"TOML parse error at line (\d+), column \d+\n\s*\|\n\s*\1 \| ?(.*)\n[\s|^]*\n?(.*)")
# a frame of a setup.py, which setuptools executes as a text
FRAME = re.compile(r'^[ \t]*File "<string>", line (\d+)', re.MULTILINE)
RUN = re.compile(r"^[ \t]*File \"[^\"\n]*setuptools[^\"\n]*\", line \d+, in run_setup$", re.MULTILINE)
EXCEPTION = re.compile(r"^[ \t]*((?:\w+\.)*\w*(?:Error|Exception|Exit)(?:: .*)?)$", re.MULTILINE)


def failure(output: str, requirements: Requirements) -> errors.Failure | None:
    """The Failure where what uv printed is of one such folder; None where it may be of another, or of none."""
    # of what has no name uv says as little: a repository, an archive
    if requirements.archives or any("://" in line and " @ " not in line for line in requirements.packages):
        return None
    folders = dict.fromkeys(each.path for each in requirements.projects)
    for folder in [*folders]:
        folders |= dict.fromkeys(local_packages.needed(folder, requirements.code))
    output = uv_words.readable(output)
    number, why, files = _toml(output, list(folders)) or _setup(output, list(folders)) or (0, "", [])
    if len(files) != 1:
        return None
    place = f"{own_needs.shown(files[0], requirements.code)}:{number}"
    package = own_needs.shown(os.path.dirname(files[0]), requirements.code)
    lacks = re.match(r"ModuleNotFoundError: No module named '([^'.]+)", why)
    return errors.Failure(f"your package {package} cannot be built: {why[:300]}, at {place}", errors.BAD_DATA,
                          remedy=f"mend {place}" + (f", or name the package of {lacks[1]} among its build's own "
                                                    "([build-system] requires of its pyproject.toml)" if lacks else ""),
                          change=errors.CODE_ANEW)


def _toml(output: str, folders: list[str]) -> tuple[int, str, list[str]] | None:
    found = TOML.search(output)
    if not found:
        return None
    number, line = int(found[1]), found[2].strip()
    files = [path for path in _files(folders, "pyproject.toml")
             if [each.strip() for each in own_needs.text(path).split("\n")][number - 1:number] == [line]]
    return number, found[3].strip(), files


def _setup(output: str, folders: list[str]) -> tuple[int, str, list[str]] | None:
    run = [*RUN.finditer(output)][-1:]
    frames = FRAME.findall(output, run[0].end()) if run else []
    why = EXCEPTION.findall(output, run[0].end()) if run else []
    if not frames or not why:
        return None
    files = [path for path in _files(folders, "setup.py") if int(frames[-1]) <= own_needs.text(path).count("\n") + 1]
    return int(frames[-1]), why[-1], files


def _files(folders: list[str], name: str) -> list[str]:
    return [path for folder in folders for path in [os.path.join(folder, name)] if os.path.isfile(path)]
