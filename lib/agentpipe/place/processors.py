"""How many processors this process may keep busy."""

from __future__ import annotations

import os

from agentpipe.place import own_cgroups


def count() -> int:
    """Those that it may run on, no more than the quotas of its cgroups and of those above them: 0 below a whole one.

    A quota is for the whole group: who uses it up at the lowest priority stops the others too.
    """
    found = len(os.sched_getaffinity(0))
    for version, mount, folder in own_cgroups.of("cpu"):
        while folder.startswith(mount):
            quota = _quota(folder, version)
            if quota is not None:
                found = min(found, int(quota))
            folder = os.path.dirname(folder)
    return found


def _quota(folder: str, version: int) -> float | None:
    """Processors' worth of time that a cgroup gets; None without a limit (`max`, or -1)."""
    try:
        if version == 2:
            most, period = _text(f"{folder}/cpu.max").split()
        else:
            most, period = _text(f"{folder}/cpu.cfs_quota_us"), _text(f"{folder}/cpu.cfs_period_us")
        return int(most) / int(period) if most.isdigit() else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()
