"""The parts of what uv says, and the lines of a task's list that it speaks of."""

from __future__ import annotations

import re

from agentpipe.environment.requirements import NAME, normalised
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.environment.requirements import Requirements

# what a build prints stands among uv's words, and may be made to keep whoever reads them: of all that repeats here
# there is one way to read it, or an end
PACKAGE = r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]{0,200}\])?"
WISH = PACKAGE + r"((?:[<>=!~]{1,3}[^\s,<>=!~]+(?:,\s?)?)*)"
LONGEST = 500  # letters of a word
ENDS = 1 << 15  # of the begin and of the end of what was printed


def readable(output: str) -> str:
    """What uv has printed, but for its midst, and for the rest of words that are too long to be anybody's."""
    kept = output if len(output) <= 2 * ENDS else f"{output[:ENDS]}\n…\n{output[-ENDS:]}"
    return re.sub(rf"(\S{{{LONGEST}}})\S+", r"\1…", kept)


def plain(output: str) -> str:
    """uv's words on one line, without the drawing that it puts around causes."""
    return re.sub(r"\s+", " ", re.sub(r"[│├╰─▶×]|\x1b\[[0-9;]*m", " ", readable(output)))


def cause(said: str) -> str:
    """What uv gives as the reason."""
    causes = re.findall(r"(?:cause:|Because) (.*?)(?= cause:| hint:| And because|$)", said)
    text = causes[-1] if causes and "cause:" not in said else (causes[0] if causes else last_words(said))
    return text.strip().removeprefix("Because ").rstrip(".,")[:300]


def last_words(said: str) -> str:
    """What stands behind its last `error:`."""
    return said.strip().rpartition("error: ")[2][:300]


def url_in(said: str) -> str:
    """The address that it could not get something from, without its login; "" when it names none."""
    found = re.search(r"(?:Failed to (?:fetch|download)[^`]{0,500}|for url \(|access ')`?"
                      r"((?:https?|file)://[^\s`)']+)", said)
    return without_credentials(found[1]) if found else ""


def first_name(said: str) -> str:
    """The package that it was getting or building; "" when it names none."""
    found = re.search(rf"Failed to (?:download|build|fetch)[^`]{{0,500}}`{PACKAGE}", said)
    return found[1] if found else ""


def named(group: str) -> str:
    """The pattern of a package as uv names it, with extras and a version, as a group of that name."""
    return rf"(?P<{group}>[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]{{0,200}}\])?(?:[<>=!~]=?=?[^\s,]+)?)"


def line_of(name: str, requirements: Requirements) -> str:
    """The task's own line about this package; its name when another package brought it."""
    return next(iter(lines_of(name, requirements)), name)


def lines_of(name: str, requirements: Requirements) -> list[str]:
    """All of the task's own lines about this package."""
    return [without_credentials(line) for line in requirements.packages if is_about(name, line)]


def is_about(name: str, line: str) -> bool:
    """Whether a line asks for this package."""
    match = re.match(NAME, line)
    return bool(match and normalised(match[1]) == normalised(name))


def replacing(line: str, better: str) -> tuple[str, ...]:
    """The options of agent-task edit that put `better` in the place of a requirement, or take it out ("")."""
    same = better and normalised(re.split(r"[^A-Za-z0-9._-]", better)[0]) == normalised(
        re.split(r"[^A-Za-z0-9._-]", line)[0])
    return (*(() if same else ("--drop-package", line)), *(("--package", better) if better else ()))


def without_pin(line: str) -> tuple[str, ...]:
    """The options of agent-task edit that let the index choose the version of a package that was pinned."""
    match = re.match(NAME + r"===?[^@]*$", line)
    return replacing(line, match[1] + (f"[{match[2]}]" if match[2] else "")) if match else ()


def any_version(line: str) -> tuple[str, ...]:
    """The options that let the index choose the version of a package; none where the line lets it already."""
    match = re.match(NAME + r"[^@;]*[<>=!~]", line)
    return replacing(line, match[1] + (f"[{match[2]}]" if match[2] else "")) if match else ()
