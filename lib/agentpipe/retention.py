"""How long attempts stay on this node: what has ended and is older than AGENT_KEEP_DAYS is removed, once an hour."""

from __future__ import annotations

import os
import time

from agentpipe import attempt, claims, config, paths

KEEP_DAYS = 14.0
EVERY = 3600.0


def prune() -> int:
    """Remove the directories of attempts that came to their end long ago; how many. Nothing else is touched.

    AGENT_KEEP_DAYS=0 keeps all. An attempt without an end, or with a claim, is left alone whatever its age.
    """
    days = config.variable("AGENT_KEEP_DAYS", KEEP_DAYS)
    if days <= 0 or not _is_time():
        return 0
    import shutil
    removed, oldest, home = 0, time.time() - days * 86400, paths.state("tasks")
    os.makedirs(home, 0o700, exist_ok=True)
    claimed = {os.path.basename(os.path.realpath(entry.path)) for entry in os.scandir(claims.active())}
    for entry in os.scandir(home):
        path = entry.path
        over = attempt.outcome(path) or attempt.was_returned(path)
        if over and entry.name not in claimed and os.lstat(path).st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _is_time() -> bool:
    """Whether nobody has done it for an hour; then it is noted as done."""
    mark = paths.state("pruned")
    try:
        if time.time() - os.stat(mark).st_mtime < EVERY:
            return False
    except FileNotFoundError:
        pass
    with open(mark, "w", encoding="ascii"):
        os.utime(mark)
    return True
