"""How long attempts stay on this node: what has been over for AGENT_KEEP_DAYS is removed, once an hour.

By no clock that somebody could set: `state/pruned` keeps for how long this machine has run, as far as that was looked
at, and at what time of that each attempt was first seen to be over.
"""

from __future__ import annotations

import json
import os
import time

from agentpipe import errors, failures, files, paths, processes, stdio, trees
from agentpipe.claim import attempt, claims, uptime
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    try:
        return _pruned(days) if days > 0 else 0
    except Exception as error:  # whatever it is: it keeps no task from being taken
        failure = failures.as_failure("agent-pull", error)
        if failure.exit == errors.BUG and os.environ.get("AGENT_DEBUG"):
            raise
        stdio.say(f"agent-pull: what ended long ago cannot be removed: {failure}")
        return 0


def _pruned(days: float) -> int:
    (counted, boot, before), up = _noted(), time.clock_gettime(time.CLOCK_BOOTTIME)
    is_same = boot == processes.boot_id()
    passed = max(0.0, up - before) if is_same else up + uptime.since(boot, before)
    if is_same and passed < EVERY:
        return 0
    now = counted + passed
    home = paths.state("tasks")
    os.makedirs(home, 0o700, exist_ok=True)
    names = os.listdir(home)
    over = _over(home, [name for name in names if not name.endswith(GONE)], _known(), now)
    lines = [[now, processes.boot_id(), up], over]
    try:
        files.publish(paths.state("pruned"), "".join(json.dumps(line) + "\n" for line in lines).encode())
    except errors.Failure:
        pass  # a full disk, for which it is time all the more
    for name in names:
        if name.endswith(GONE):  # whoever removed it was broken off
            _remove(os.path.join(home, name))
    return sum(_remove(os.path.join(home, name)) for name, (since, _) in over.items() if now - since >= days * 86400)


def _over(home: str, names: list[str], known: dict[str, Any], now: float) -> dict[str, tuple[float, int]]:
    """{name of an attempt that is over, of these: (since when, when its directory was changed last)}.

    What has changed since is over since now: a task by hand goes on for as long as somebody works with it.
    """
    found: dict[str, tuple[float, int]] = {}
    claimed = {os.path.basename(os.path.realpath(entry.path)) for entry in os.scandir(claims.active())}
    for name in names:
        path = os.path.join(home, name)
        over = attempt.is_over(path) or _is_unused(path)
        if not over or name in claimed:
            continue
        try:
            changed = os.lstat(path).st_mtime_ns
        except FileNotFoundError:  # another pull is at it too
            continue
        since, before = known.get(name, (now, changed))
        found[name] = (since if before == changed and since <= now else now, changed)
    return found


def _remove(path: str) -> bool:
    """Remove it, unless somebody works on it now; whether it is gone."""
    gone = path.removesuffix(GONE) + GONE
    lock = None
    try:
        if path != gone and (lock := claims.lock(path, 0)) is None:
            return False
    except errors.Failure:  # what stands in the lock's place is none: nobody holds it
        pass
    except OSError:
        return False
    try:
        os.rename(path, gone)
        trees.remove(gone)
        return True
    except OSError:  # another pull is at it too, or it holds what is not ours
        return False
    finally:
        if lock is not None:
            os.close(lock)


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


def _noted() -> tuple[float, str, float]:
    """(seconds that this machine had run, in which boot, how far that was) when it was looked at last.

    The second line, which may be long, is for whoever looks again.
    """
    try:
        with open(paths.state("pruned"), "rb") as file:
            counted, boot, up = json.loads(file.readline())
        return float(counted), str(boot), float(up)
    except (OSError, ValueError, TypeError):  # there was none, or a power failure has left it empty
        return 0.0, "", 0.0


def _known() -> dict[str, Any]:
    """What _over() found then."""
    try:
        with open(paths.state("pruned"), "rb") as file:
            file.readline()
            found = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
