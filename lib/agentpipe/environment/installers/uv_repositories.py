"""What uv says of git repositories in a list: those that it cannot get at, and what is not in them."""

from __future__ import annotations

import re

from agentpipe import errors
from agentpipe.environment.installers import uv_words
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements
    from agentpipe.tools import ToolFailed


def is_about(said: str) -> bool:
    """Whether it is git that has failed, whatever of the network its words name."""
    return "Git operation failed" in said


def away(said: str, error: ToolFailed, requirements: Requirements) -> errors.Failure | None:
    """A repository that cannot be reached, or refuses access: git itself says more than uv."""
    if not is_about(said):
        return None
    from agentpipe import tools
    from agentpipe.code import git, git_failures
    from agentpipe.environment import git_pins
    asked = re.search(r"`([^`]{0,500}\bgit\+[^`]{1,500})`", said)
    # of a line without a package's name uv shows only how it called git
    called = re.search(r"git fetch [^`]{0,500}?'?(\w+://[^\s'`]+)", said)
    lines = [_of(said, requirements)[1], asked[1] if asked else "", f"git+{called[1]}" if called else ""]
    match = next(filter(None, (git_pins.LINE.match(line.replace("****@", "")) for line in lines)), None)
    if not match:
        return None
    ref = match["ref"] or ""
    source = git.Source(match["url"], commit=ref) if git.is_hash(ref) else git.Source(match["url"], tag=ref)
    source.loose = True
    told = tools.ToolFailed(["git"], error.status, error.output.rpartition("--- stderr")[2])
    failure = git_failures.explained(told, source)
    if failure is None or failure.exit in (errors.BAD_DATA, errors.NOT_FOUND):
        return None
    failure.remedy = failure.remedy.replace(": agent-task edit --repo URL", f", in '{match[0]}'")
    return failure


def missing(said: str, requirements: Requirements) -> errors.Failure | None:
    """A repository or a commit that is not there."""
    if not is_about(said):
        return None
    name, line = _of(said, requirements)
    return errors.Failure(f"{name}: its repository or commit cannot be fetched", errors.NOT_FOUND,
                          remedy=f"correct the address or the commit in '{line}'")


def no_project(said: str, requirements: Requirements) -> errors.Failure | None:
    """A repository, of a line without a package's name, that has no package at its top."""
    line = _nameless(said, requirements)
    if not line or "does not appear to be a Python project" not in said:
        return None
    return errors.Failure(f"{line} has neither pyproject.toml nor setup.py", errors.BAD_DATA,
                          remedy="name the repository that has them, or its folder there (#subdirectory=FOLDER), in "
                                 f"'{line}'")


def _of(said: str, requirements: Requirements) -> tuple[str, str]:
    """(the package whose repository uv speaks of, the list's line about it)."""
    name = uv_words.first_name(said) or _nameless(said, requirements) or "a package"
    return name, uv_words.line_of(name, requirements)


def _nameless(said: str, requirements: Requirements) -> str:
    """The line of a repository without a package's name that uv speaks of, or the only one; "" where nobody knows."""
    lines = [without_credentials(line) for line in requirements.packages if line.startswith("git+")]
    told = [line for line in lines if re.sub(r"(@[^/@]*)?(#.*)?$", "", line.removeprefix("git+")) in said]
    return told[0] if told else lines[0] if len(lines) == 1 else ""
