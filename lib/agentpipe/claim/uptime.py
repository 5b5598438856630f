"""For how long this machine had run when an agent last came to an end of something: `state/up`.

A boot that brings one task looks at old attempts (retention.py) seconds after its beginning, and never again.
"""

from __future__ import annotations

import time

from agentpipe import errors, files, paths, processes


def note() -> None:
    """This boot has lasted until now, by no clock that somebody could set."""
    try:
        files.publish(paths.state("up"), f"{time.clock_gettime(time.CLOCK_BOOTTIME)} {processes.boot_id()}\n".encode())
    except errors.Failure:
        pass  # a full disk: then this boot counts for less


def since(boot: str, before: float) -> float:
    """How many seconds after `before` boot `boot` was noted last; 0 when it was not."""
    try:
        with open(paths.state("up"), encoding="ascii") as file:
            up, _, noted = file.read().strip().partition(" ")
        return max(0.0, float(up) - before) if noted == boot else 0.0
    except (OSError, ValueError):  # there was none, or a power failure has left it empty
        return 0.0
