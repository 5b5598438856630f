"""A diff as text: a task is JSON, so files that are not UTF-8 have to go in git's binary form."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

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
    names = [name for name in git("diff", "--name-only", "--no-renames", "-z", *since).split(b"\0") if name]
    marked = [name for name in names
              if not _is_text(git(*diff, "--no-renames", since[0], "--", f":(top,literal){os.fsdecode(name)}"))]
    with tempfile.NamedTemporaryFile("wb", prefix="agent-task-") as attributes:
        attributes.write(b"".join(b"/%s -diff\n" % _pattern(name) for name in marked))
        attributes.flush()
        data = git("-c", f"core.attributesFile={attributes.name}", *diff, "--no-renames", *since)
    return data.decode("utf-8", "replace")


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_text(data: bytes) -> bool:
    return _decoded(data) is not None


def _pattern(name: bytes) -> bytes:
    """A path as a pattern of gitattributes(5) that fits only it."""
    escaped = re.sub(rb"([\\*?\[\]])", rb"\\\1", name)
    if re.search(rb'[\s"]', escaped):
        return b'"' + re.sub(rb'(["\\])', rb"\\\1", escaped) + b'"'
    return escaped
