"""How long attempts stay on this node: what is over and is older than AGENT_KEEP_DAYS is removed, once an hour."""

from __future__ import annotations

import os
import time

from agentpipe import errors, paths, trees
from agentpipe.claim import attempt, claims
from agentpipe.settings import config

KEEP_DAYS = 14.0
EVERY = 3600.0
GONE = ".gone"  # behind the name of what is being removed: half of an attempt tells nobody that it has ended


def prune() -> int:
    """Remove the directories of attempts that came to their end long ago; how many. Nothing else is touched.

    AGENT_KEEP_DAYS=0 keeps all. An attempt without an end, or with a claim, is left alone whatever its age; but for a
    task by hand that was prepared and never run, of which nobody says that it is over. It may be broken off anywhere:
    the next one goes on.
    """
    days = config.variable("AGENT_KEEP_DAYS", KEEP_DAYS)
    if days <= 0 or not _is_time():
        return 0
    removed, oldest, home = 0, time.time() - days * 86400, paths.state("tasks")
    os.makedirs(home, 0o700, exist_ok=True)
    claimed = {os.path.basename(os.path.realpath(entry.path)) for entry in os.scandir(claims.active())}
    for entry in list(os.scandir(home)):
        path = entry.path
        if path.endswith(GONE):  # whoever removed it was broken off
            _remove(path)
            continue
        over = attempt.outcome(path) or attempt.was_returned(path) or _is_unused(path)
        if over and entry.name not in claimed and _is_older(path, oldest):
            _remove(path)
            removed += 1
    return removed


def _remove(path: str) -> None:
    gone = path.removesuffix(GONE) + GONE
    try:
        os.rename(path, gone)
        trees.remove(gone)
    except OSError:
        pass  # another pull is at it too, or it holds what is not ours


def _is_unused(path: str) -> bool:
    """Whether it is a task by hand whose script was never started, and that no stage works on now."""
    if not os.path.basename(path).startswith("local-") or attempt.pid_record(path):
        return False
    try:
        fd = claims.lock(path, 0)
    except (OSError, errors.Failure):  # another pull is at it too, or it cannot be locked
        return False
    if fd is None:
        return False
    os.close(fd)
    return True


def _is_older(path: str, than: float) -> bool:
    try:
        return os.lstat(path).st_mtime < than
    except FileNotFoundError:  # another pull is at it too
        return False


def _is_time() -> bool:
    """Whether nobody has done it for an hour; then it is noted as done."""
    mark = paths.state("pruned")
    try:
        if 0 <= time.time() - os.stat(mark).st_mtime < EVERY:
            return False
    except FileNotFoundError:
        pass
    try:
        with open(mark, "w", encoding="ascii"):
            os.utime(mark)
    except OSError:
        pass  # a full disk, for which it is time all the more
    return True
