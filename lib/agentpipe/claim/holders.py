"""Who has a line that was handed on: a pipe, a process, an engine, or nobody any more."""

from __future__ import annotations

import os
import stat
import time

from agentpipe import processes
from agentpipe.claim import claims
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GRACE_S = 10.0  # for whoever is about to read it


def came_by_pipe(directory: str) -> bool:
    """Whether the line was handed to the pipe that is our stdin: with us it ends."""
    holder = (claims.read(directory) or {}).get("holder") or {}
    return "pipe" in holder and holder["pipe"] == os.fstat(0).st_ino


def stdout_holder(owner: int | None = None) -> dict[str, Any]:
    """Who has the line that is about to be printed: a pipe lives by itself, anything else by a process.

    The process is `owner`, or else our parent (the shell or the supervisor that wrote it to a file or screen).
    """
    try:
        found = os.fstat(1)
    except OSError:  # closed
        found = None
    if found and stat.S_ISFIFO(found.st_mode) and owner is None:
        name = os.readlink("/proc/self/fd/1")
        return {"pipe": found.st_ino, "boot": processes.boot_id(), **({"fifo": name} if name.startswith("/") else {})}
    parent = os.getppid()
    # init adopts orphans and keeps nothing: a parent that is gone holds for the grace period only
    kept = owner or (parent if parent > 1 else None)
    return {"process": processes.identity(kept) if kept else None, "owner": owner is not None}


def is_held(directory: str, owner: int | None = None) -> bool:
    """Whether a claim whose lock is free still belongs to somebody: a living holder, or the grace of a handed line.

    What process `owner` (given explicitly) held before is free: it asks for the next task itself.
    """
    found = claims.read(directory)
    if found is None or found["state"] != "handed":
        return False
    holder = found["holder"] or {}
    if "engine" in holder:
        return True
    if owner and holder.get("owner") and holder.get("process") == processes.identity(owner):
        return False
    try:
        age = time.time() - os.stat(os.path.join(directory, "claim")).st_mtime
    except FileNotFoundError:
        return False
    if 0 <= age < config.variable("AGENT_CLAIM_GRACE", GRACE_S):
        return True
    if "pipe" in holder:
        return holder.get("boot") == processes.boot_id() and \
            processes.pipe_is_held(holder["pipe"], holder.get("fifo", ""))
    return bool(holder.get("process")) and processes.alive(holder["process"])
