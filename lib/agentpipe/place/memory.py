"""Whether the kernel killed something for lack of memory, and what it says about it (cgroups, /proc/vmstat)."""

from __future__ import annotations

import os

from agentpipe import untrusted
from agentpipe.files import publish
from agentpipe.place import own_cgroups

MARK = "oom_kills"
LIMITS = {1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes"), 2: ("memory.max", "memory.peak")}


def mark(directory: str) -> None:
    """Note in the attempt's directory how many processes have been killed for lack of memory so far."""
    from agentpipe import errors
    try:
        publish(os.path.join(directory, MARK), f"{kills()}\n".encode())
    except errors.Failure:
        pass  # a full disk: then a kill is told as a signal


def kills() -> int:
    """How many processes the kernel has killed for lack of memory: in our cgroup, else on this machine."""
    here = _events("memory.events", "memory.oom_control")
    if here is not None:
        return here
    return _counter("/proc/vmstat", "oom_kill") or 0


def evidence_of_kill(directory: str) -> str:
    """The limit and the peak, when the kernel has killed something since mark(); else empty."""
    try:
        before = int(untrusted.read(directory, MARK, 32))
    except (OSError, ValueError):
        return ""
    killed = kills() - before
    if killed <= 0:
        return ""
    import resource
    lines = [f"the kernel killed {killed} process(es) for lack of memory while the script ran"]
    limit, peak = _limit()
    if limit is not None:
        lines.append(f"limit {limit} bytes" + (f", peak {peak} bytes" if peak is not None else ""))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    if children:
        lines.append(f"largest process: {children} bytes resident")
    return "\n".join(lines)


def said(evidence: str) -> str:
    """The limit and the peak of such an evidence for a person, in brackets; empty where it has no limit."""
    import re

    from agentpipe import units
    found = re.search(r"\blimit (\d+) bytes(?:, peak (\d+) bytes)?", evidence)
    if not found:
        return ""
    peak = units.told(int(found[2] or 0), ", peak ")
    return f" (limit {units.size(int(found[1]))}{peak})"


def _limit() -> tuple[int | None, int | None]:
    """The smallest limit of our cgroup and of those above it, and the peak there: a job's stands above its steps."""
    found: list[tuple[int, int | None]] = []
    for version, mount, folder in own_cgroups.of("memory"):
        limited, peak = LIMITS[version]
        while folder.startswith(mount):
            limit = _number(f"{folder}/{limited}")
            if limit is not None:
                found.append((limit, _number(f"{folder}/{peak}")))
            folder = os.path.dirname(folder)
    return min(found, key=lambda each: each[0]) if found else (None, None)


def _events(v2: str, v1: str) -> int | None:
    for path in _files(v2, v1):
        found = _counter(path, "oom_kill")
        if found is not None:
            return found
    return None


def _files(v2: str, v1: str) -> list[str]:
    """These files of the cgroup that we are in: version 2, or the memory controller of version 1."""
    return [f"{folder}/{v2 if version == 2 else v1}" for version, _, folder in own_cgroups.of("memory")]


def _counter(path: str, name: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                if line.startswith(name + " "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    # "max", and v1's figure for no limit, are none
    return int(text) if text.isdigit() and int(text) < 1 << 62 else None
