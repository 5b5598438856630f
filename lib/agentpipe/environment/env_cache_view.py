"""agent-env --list, --prune and --verify: the cache of environments for those who look after it."""

from __future__ import annotations

import os

from agentpipe import errors, stdio, units
from agentpipe.environment import bytecode, env_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def work(values: Mapping[str, Any]) -> int:
    """One of the three; the exit code."""
    if values.get("keep") is not None and (not values.get("prune") or values["keep"] < 0):
        raise errors.Failure("--keep N goes with --prune, and is 0 or more", errors.USAGE, remedy="agent-env --help")
    asked = [name for name in ("list", "prune", "verify") if values.get(name)]
    if len(asked) > 1 or values.get("file"):
        raise errors.Failure(f"--{asked[0]} stands alone: it reads no manifests", errors.USAGE,
                             remedy="agent-env --help")
    if values.get("list"):
        show(env_cache.entries())
        return 0
    return prune(values) if values.get("prune") else verify()


def show(entries: list[env_cache.Entry]) -> None:
    """The environments, the one used last first."""
    if not os.isatty(1):
        import json
        stdio.put("".join(json.dumps(entry) + "\n" for entry in entries).encode())
        return
    print(f"{'USED':>8}  {'SIZE':>10}  {'PACKAGES':>8}  {'TASKS':>5}  KEY")
    for entry in entries:
        print(f"{units.age(entry['used']):>8}  {units.told(entry['size']):>10}  {len(entry['packages']):>8}  "
              f"{len(entry['tasks']):>5}  {entry['key']}")
    total = sum(entry["size"] for entry in entries)
    print(f"{len(entries)} environments, {units.told(total) or '0 B'} in {env_cache.home()}")


def prune(values: Mapping[str, Any]) -> int:
    """Down to the limits, or to the N that were used last; --dry-run only says so."""
    if not os.path.isdir(env_cache.home()):
        stdio.say("agent-env: the cache is empty")
        return 0
    limits = env_cache.limits()
    if values.get("keep") is not None:
        limits.entries = values["keep"]
    dry = bool(values.get("dry_run"))
    left = 0 if dry else env_cache.sweep(env_cache.home(), env_cache.LEFT_BEHIND)
    gone = env_cache.evict(limits, dry=dry)
    for entry in gone:
        stdio.say(f"agent-env: {'would remove' if dry else 'removed'} {entry['key']}, "
                  f"used {units.age(entry['used'])} ago")
    size = units.told(sum(entry["size"] for entry in gone), ", ")
    kept = len(env_cache.entries())
    if dry:
        stdio.say(f"agent-env: {_counted(gone)} would be removed{size}; {kept - len(gone)} would be left")
    else:
        stdio.say(f"agent-env: {_counted(gone)} removed{size}" + (f"; {left} unfinished ones" if left else "")
                  + f"; {kept} are left")
    return 0


def verify() -> int:
    """0 when all is as it was installed, else 65."""
    found = env_cache.verify()
    damaged = [(entry, files) for entry, files in found if files]
    for entry, files in damaged:
        after = "taken out of the cache" + (f"; {', '.join(entry['tasks'])} still has it" if entry["tasks"] else "")
        some = ", ".join(files[:3])
        stdio.say(f"agent-env: {entry['key']}: {len(files)} files are not as installed ({some}); {after}")
    # what a container has built is not loaded outside of it
    for entry in (entry for entry, _ in found if entry["path"] == entry["about"]):
        removed = bytecode.unloadable(entry["path"])
        if removed:
            stdio.say(f"agent-env: {entry['key']}: {len(removed)} files of byte-code could not be loaded "
                      f"({', '.join(removed[:3])}); removed, the next import writes them again")
    stdio.say(f"agent-env: {_counted(found)} looked over, {len(damaged)} damaged")
    return errors.BAD_DATA if damaged else 0


def _counted(environments: list[Any]) -> str:
    return f"{len(environments)} environment{'s' * (len(environments) != 1)}"
