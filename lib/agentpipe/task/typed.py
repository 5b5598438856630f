"""What a task's owner types, checked before anything is changed: a Failure 64 says what is wrong with it."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from agentpipe import errors

SHORTEST_NAME = 3  # ClearML takes no shorter ones
# what git-check-ref-format(1) refuses
NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|\.lock$")
VERSION = re.compile(r"\d+(\.\d+){0,2}$")


def name(text: str) -> str:
    """A task's name as a server takes it."""
    text = text.strip()
    if len(text) < SHORTEST_NAME:
        raise errors.Failure(f"the name `{text}` is too short", errors.USAGE,
                             remedy=f"a task's name has {SHORTEST_NAME} characters or more")
    return text


def binary(python: str, program: str | None) -> str | None:
    """`script.binary` out of --python and --binary; None when neither was given."""
    if python:
        if not VERSION.match(python):
            raise errors.Failure(f"`{python}` is no version of Python", errors.USAGE, remedy="such as --python 3.11")
        if program:
            raise errors.Failure("--python and --binary say the same", errors.USAGE, remedy="give one of them")
        return f"python{python}"
    if program:
        _words("--binary", program)
    return program


def fields(wanted: Mapping[str, Any]) -> None:
    """The options of `agent-task edit`."""
    for line in wanted.get("package") or []:
        requirement(line)
    if wanted.get("repo"):
        repository(wanted["repo"])
    if wanted.get("checkout"):
        other = [name for name in ("repo", "branch", "commit", "drop_diff") if wanted.get(name)]
        if other:
            raise errors.Failure(f"--checkout or --{other[0].replace('_', '-')}?", errors.USAGE,
                                 remedy="the checkout says what the code is")
    for option in ("branch", "commit"):
        ref(f"--{option}", wanted.get(option) or "")
    if wanted.get("entry_point") is not None and not _words("--entry-point", wanted["entry_point"]):
        raise errors.Failure("--entry-point is empty: nothing to run", errors.USAGE)
    working_dir(wanted.get("working_dir") or ".")


def requirement(line: str) -> None:
    """One requirement: a name with extras, versions and a marker, or a name (or nothing) and an address (PEP 508)."""
    from agentpipe.environment.requirement_syntax import REQUIREMENT
    from agentpipe.environment.requirements import NAME
    body, _, marker = line.partition(";")
    direct = re.match(NAME + r"@\s*[A-Za-z][A-Za-z0-9+.-]*:\S+\s*$", body.strip())
    plain = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://\S+$", body.strip())
    if not (direct or plain or re.fullmatch(REQUIREMENT, body.strip())) or (";" in line and not marker.strip()):
        raise errors.Failure(f"`{line}` is no requirement", errors.USAGE, remedy="--package 'NAME==VERSION'")


def repository(address: str) -> None:
    """An address that git could clone."""
    from agentpipe.code import git
    try:
        git.check_url(address, "--repo")
    except errors.Failure as failure:
        raise errors.Failure(failure.reason, errors.USAGE, remedy=failure.remedy) from None


def working_dir(folder: str) -> None:
    """A directory inside the repository."""
    import posixpath
    if folder.startswith(("/", "-")) or posixpath.normpath(folder).split("/")[0] == "..":
        raise errors.Failure(f"--working-dir {folder}: it is relative to the repository's top", errors.USAGE)


def ref(option: str, text: str) -> None:
    """A branch, a tag or a commit, by a name that git can give one."""
    if NO_REF.search(text):
        raise errors.Failure(f"{option} {text!r} is no name of a {option.lstrip('-')}", errors.USAGE,
                             remedy="as `git log --decorate` shows it")


def _words(option: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise errors.Failure(f"{option} cannot be split into words: {error}", errors.USAGE,
                             remedy="quote it as for a shell") from None
