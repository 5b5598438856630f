"""Who has a line that was handed on: a pipe, a process, an engine, or nobody any more."""

from __future__ import annotations

import os
import stat
import time

from agentpipe import errors, processes
from agentpipe.claim import attempt, claims, namespaces
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GRACE_S = 10.0  # for whoever is about to read it


def came_by_pipe(directory: str) -> bool:
    """Whether the line was handed to the pipe that is our stdin: with us it ends."""
    return _by_pipe(claims.read(directory) or {})


def ends_with_us(line: dict[str, Any]) -> bool:
    """Whether nobody but us has this line, which nobody has taken yet: it came through our stdin's pipe, or was pulled
    for a process (agent-pull --owner, a supervisor) that has started us to work on it."""
    token = str((line.get("pull") or {}).get("claim") or "")
    if not token:
        return False
    found = claims.read(claims.active(token)) or {}
    # what a stage hands to the command in its place is the stage's, which waits for the answer
    return _by_pipe(found) or (found.get("stage") == "pull" and _is_above(_owner(found)))


def is_untaken(directory: str, owner: int | None) -> bool:
    """Whether it was pulled for process `owner`, which lives and asks for the next one, and no stage has taken it."""
    found = claims.read(directory) or {}
    return bool(owner) and found.get("state") == "handed" and _owner(found) == processes.identity(owner or 0)


def _by_pipe(claim: dict[str, Any]) -> bool:
    holder = claim.get("holder") or {}
    if "pipe" not in holder:
        return False
    found = os.fstat(0)  # of another file system a file may have the same number
    return stat.S_ISFIFO(found.st_mode) and holder["pipe"] == found.st_ino


def _owner(claim: dict[str, Any]) -> str | None:
    holder = claim.get("holder") or {}
    return holder.get("process") if holder.get("owner") else None


def _is_above(process: str | None) -> bool:
    """Whether this process, "PID START BOOT", is among our parents."""
    pid = os.getpid() if process else 0
    while pid > 1:
        pid = processes.parent(pid)
        if processes.identity(pid) == process:
            return True
    return False


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


def left_behind() -> set[str]:
    """The claims in `active/` of attempts that no process holds."""
    found = set()
    for token in os.listdir(claims.active()):
        try:
            directory = os.readlink(claims.active(token))
            fd = claims.lock(directory, 0)
        except (OSError, errors.Failure):  # an intent; one that recovery has to tell about
            continue
        if fd is None:
            continue
        try:
            if not is_held(directory):
                found.add(token)
        except (OSError, ValueError, KeyError, TypeError, errors.Failure):  # recovery tells about it
            pass
        finally:
            os.close(fd)
    return found


def is_held(directory: str, owner: int | None = None) -> bool:
    """Whether a claim whose lock is free still belongs to somebody: a living holder, or the grace of a handed line.

    What process `owner` (given explicitly) held before is free: it asks for the next task itself. What only pids of
    another container could tell is held as long as an agent lives there.
    """
    found = claims.read(directory)
    if found is None:
        return False
    elsewhere = found.get("namespace") not in (None, "", processes.namespace())
    if found["state"] != "handed":
        return elsewhere and _has_begun(directory) and namespaces.lives(found["namespace"])
    holder = found["holder"] or {}
    if "engine" in holder:
        return True
    if elsewhere:
        return _is_fresh(directory) or namespaces.lives(found["namespace"])
    if owner and holder.get("owner") and holder.get("process") == processes.identity(owner):
        return False
    if _is_fresh(directory):
        return True
    if "pipe" in holder:
        return holder.get("boot") == processes.boot_id() and \
            processes.pipe_is_held(holder["pipe"], holder.get("fifo", ""))
    return bool(holder.get("process")) and processes.alive(holder["process"])


def _is_fresh(directory: str) -> bool:
    """Whether the line was handed on just now."""
    try:
        age = time.time() - os.lstat(os.path.join(directory, "claim")).st_mtime
    except FileNotFoundError:
        return False
    return 0 <= age < config.variable("AGENT_CLAIM_GRACE", GRACE_S)


def _has_begun(directory: str) -> bool:
    """Whether a script was started here whose end nobody knows yet: it may live, also without its shim."""
    return bool(attempt.pid_record(directory)) and not attempt.was_returned(directory) \
        and attempt.exit_status(directory) is None and attempt.outcome(directory) is None
