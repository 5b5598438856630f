"""A diff as text: a task is JSON, so files that are not UTF-8 have to go in git's binary form."""

import os
import re
from collections.abc import Callable


def as_text(top: str, git: Callable[..., bytes], diff: list[str]) -> str:
    """`git diff HEAD` of the checkout as text; `git(*arguments)` runs git there and gives its output."""
    data = git(*diff, "HEAD")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _with_binary(top, git, diff)


def _with_binary(top: str, git: Callable[..., bytes], diff: list[str]) -> str:
    """The same, with every file whose diff is not UTF-8 marked as binary."""
    import tempfile
    names = [name for name in git("diff", "--name-only", "--no-renames", "-z", "HEAD").split(b"\0") if name]
    marked = [name for name in names if not _is_text(git(*diff, "--no-renames", "HEAD", "--", os.fsdecode(name)))]
    with tempfile.NamedTemporaryFile("wb", prefix="agent-task-") as attributes:
        attributes.write(b"".join(b"/%s -diff\n" % _pattern(name) for name in marked))
        attributes.flush()
        data = git("-c", f"core.attributesFile={attributes.name}", *diff, "--no-renames", "HEAD")
    return data.decode("utf-8", "replace")


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def _pattern(name: bytes) -> bytes:
    """A path as a pattern of gitattributes(5) that fits only it."""
    escaped = re.sub(rb"([\\*?\[\]])", rb"\\\1", name)
    if re.search(rb'[\s"]', escaped):
        return b'"' + re.sub(rb'(["\\])', rb"\\\1", escaped) + b'"'
    return escaped
