"""What agent-task prints: lines for people on stderr, what was asked for on stdout; and what that can show."""

from __future__ import annotations

import os

from agentpipe import stdio


def say(line: str) -> None:
    """A line for people, on stderr."""
    stdio.say(f"agent-task: {line}")


def put(text: str) -> None:
    """Text on stdout."""
    stdio.put(text.encode("utf-8", "surrogateescape"))


def columns() -> int | None:
    """The width of the terminal that stdout is; None where it is none."""
    import shutil
    return shutil.get_terminal_size().columns if os.isatty(1) else None


def coloured() -> bool:
    """Whether stdout is a terminal that shows colours to somebody who wants them."""
    return os.isatty(1) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def beyond_ascii() -> bool:
    """Whether blocks and dots may be drawn."""
    import sys
    return "utf" in (sys.stdout.encoding or "").lower()
