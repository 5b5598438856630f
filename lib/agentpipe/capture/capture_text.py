"""A diff as text: a task is JSON, so files that are not UTF-8 have to go in git's binary form."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from agentpipe import errors

# where git shows a submodule's changes with a diff of its own, which heeds neither --binary nor our attributes
NOT_SHOWN = re.compile(rb"^Binary files .* differ$", re.MULTILINE)


def as_text(git: Callable[..., bytes], diff: list[str], since: list[str]) -> str:
    """`git diff SINCE` as text (`since`: a commit, and paths); `git(*arguments)` is what git says there."""
    text = _decoded(git(*diff, *since))
    return _with_binary(git, diff, since) if text is None else text


def is_whole(data: bytes) -> bool:
    """Whether a diff is text, and nothing in it is only said to differ."""
    return _is_text(data) and not NOT_SHOWN.search(data)


def _with_binary(git: Callable[..., bytes], diff: list[str], since: list[str]) -> str:
    """The same, with every file whose diff is not UTF-8 marked as binary."""
    import tempfile
    listed = git("diff", "--name-only", "--no-renames", "--ignore-submodules=untracked", "-z", *since)
    names = [name for name in listed.split(b"\0") if name]
    marked = [name for name in names
              if not _is_text(git(*diff, "--no-renames", since[0], "--", f":(top,literal){os.fsdecode(name)}"))]
    with tempfile.NamedTemporaryFile("wb", prefix="agent-task-") as attributes:
        attributes.write(b"".join(b"%s -diff\n" % _pattern(name) for name in marked))
        attributes.flush()
        options = ["-c", f"core.attributesFile={attributes.name}"]
        text = _decoded(git(*options, *diff, "--no-renames", *since))
        if text is not None:
            return text
        # a repository's own attributes count more (`*.tex diff=tex`): then its driver is told
        shown = _attributes(git, marked) if marked else {}
        options += [word for driver in sorted(set(shown.values()))
                    for word in ("-c", f"diff.{os.fsdecode(driver)}.binary=true")]
        text = _decoded(git(*options, *diff, "--no-renames", *since))
    if text is None:
        forced = [os.fsdecode(name) for name in marked if shown.get(name) == b"set"]
        raise errors.Failure(f"{', '.join(forced[:3]) or 'a file'}: not UTF-8, and .gitattributes has git show it as "
                             "text (diff): its changes cannot go along", errors.BAD_DATA,
                             remedy="commit it, or take that attribute from it")
    return text


def _attributes(git: Callable[..., bytes], names: list[bytes]) -> dict[bytes, bytes]:
    """The attribute `diff` of each of these files."""
    found = git("check-attr", "-z", "diff", "--", *map(os.fsdecode, names)).split(b"\0")
    return dict(zip(found[::3], found[2::3], strict=False))


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_text(data: bytes) -> bool:
    return _decoded(data) is not None


def _pattern(name: bytes) -> bytes:
    """A path as a pattern of gitattributes(5) that fits only it."""
    escaped = b"/" + re.sub(rb"([\\*?\[\]])", rb"\\\1", name)
    if re.search(rb'[\s"]', escaped):
        return b'"' + re.sub(rb'(["\\])', rb"\\\1", escaped).replace(b"\n", rb"\n") + b'"'
    return escaped
