"""Which lines of the evidence a screen shows: the error that the reason is about, and where in the task's own code."""

from __future__ import annotations

import re

from agentpipe.task import error_lines, own_lines, tracebacks

MOST = 12
BEHIND = 2  # lines behind an exception that many more follow


def shown(id: str, reason: str, lines: list[str]) -> list[str]:
    """The last of these lines, or those of the traceback that what was printed as the script ended stands behind.

    With the last frame of the code of the task `id`, where many of a library's follow.
    """
    begin = max((at for at, line in enumerate(lines) if tracebacks.BEGIN in line), default=-1)
    raised = next((at for at in range(begin + 1, len(lines)) if error_lines.RAISED.match(lines[at])), -1)
    if begin < 0 or raised < 0:
        return lines[-MOST:]
    end = len(lines)
    if raised < end - MOST and _is_of(reason, lines[raised]):
        end = raised + 1 + BEHIND
    frame = max((at for at in range(begin, raised) if _is_own(id, lines[at])), default=end)
    if frame >= end - MOST:
        return lines[max(end - MOST, 0):end]
    return [*lines[frame:frame + 2], "  …", *lines[max(end - MOST + 3, frame + 2):end]]


def _is_of(reason: str, raised: str) -> bool:
    """Whether a reason is about an exception: it has its name, or what it speaks of."""
    name = raised.partition(":")[0].rpartition(".")[2]
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", reason)
               for word in (name, *re.findall(r"'([^']{3,})'", raised)))


def _is_own(id: str, line: str) -> bool:
    frame = own_lines.FRAME.match(line)
    return bool(frame and own_lines.below({"id": id}, frame[1]))
