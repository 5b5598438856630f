"""What a task's set-up log says of a server that is away or refuses its agent: written by one who cannot tell the
server, read on the same machine by `agent-task why`."""

from __future__ import annotations

import re

from agentpipe import errors, untrusted
from agentpipe.report.shipping import say

AWAY, REFUSED, BACK = "the server is away", "the server refuses this agent", "the server is back"
_BEGUN = re.compile(rf"(?:{AWAY}|{REFUSED}) \((.*)\): what is printed meanwhile waits here$")
_LOOKED_AT = 64 << 10  # bytes of the log's end


def is_refusal(error: Exception) -> bool:
    """Whether the server answers, but does not accept who we are."""
    return isinstance(error, errors.Failure) and error.exit == errors.NO_PERMISSION


def begin(directory: str, error: Exception) -> None:
    """Note an outage in the task's log."""
    say(directory, f"{REFUSED if is_refusal(error) else AWAY} ({error}): what is printed meanwhile waits here")


def end(directory: str, seconds: float) -> None:
    """Note that it is over, after so many seconds."""
    say(directory, f"{BACK} after {seconds:.0f} s")


def present(directory: str) -> tuple[str, bool]:
    """(the reason of the outage that lasts, whether it is a refusal); ("", False) when there is none."""
    try:
        lines = untrusted.tail(directory, "setup.log", _LOOKED_AT).decode("utf-8", "replace").splitlines()
    except OSError:
        return "", False
    for line in reversed(lines):
        if line.startswith(BACK):
            break
        if found := _BEGUN.match(line):
            return found[1], line.startswith(REFUSED)
    return "", False
