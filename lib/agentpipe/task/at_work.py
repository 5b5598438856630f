"""Who works on a task, and who serves a queue, as far as this machine can see it: a server only knows reports."""

from __future__ import annotations

from agentpipe import place, units
from agentpipe.claim import attempt, claims, holders, on_server, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# a worker reports each 30 s
SILENT_S = 120


def claim_of(task: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """(directory, claim) of the task's present attempt, when that is on this machine."""
    directory = attempt.latest(task["id"])
    claim = claims.read(directory) if directory else None
    if not directory or not claim or claim.get("token") != (task.get("runtime") or {}).get(on_server.RUNTIME_KEY):
        return None
    return directory, claim


def unwatched(task: dict[str, Any]) -> str:
    """What is left here of a task that nobody works on: "script" when that still runs, "end" when only its server does
    not know of its end, else "claim"; "" when somebody works on it, or on another machine.
    """
    found = claim_of(task)
    if not found:
        return ""
    directory = found[0]
    lock = claims.lock(directory, 0)
    if lock is None:
        return ""
    import os
    os.close(lock)
    if holders.is_held(directory):
        return ""
    if attempt.outcome(directory):
        return "end"
    from agentpipe.run import script
    where = place.of(attempt.read_manifest(directory), directory)
    return "script" if attempt.shim_lives(directory) or script.lives(directory, where) else "claim"


def serving(api: Any, queue: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The workers that pull from the queue of that id, and those that did until they died (workers.get_all's)."""
    alive: list[dict[str, Any]] = []
    dead: list[dict[str, Any]] = []
    for worker in api.call("workers.get_all", {"last_seen": 600})["workers"]:
        if any(each.get("id") == queue for each in worker.get("queues") or []):
            (alive if is_alive(api, worker) else dead).append(worker)
    return alive, dead


def is_alive(api: Any, worker: dict[str, Any]) -> bool:
    """Whether a worker is there: of the store by its process on this machine, else by its last report."""
    here = workers.lives(worker["id"]) if api.embedded else None
    return silence(worker) <= SILENT_S if here is None else here


def silence(worker: dict[str, Any]) -> float:
    """Seconds since its last report."""
    return units.seconds_since(worker.get("last_report_time")) or 0.0


def names(found: list[dict[str, Any]]) -> str:
    """The first of them, for people."""
    return ", ".join(worker["id"] for worker in found[:3]) + (", …" if len(found) > 3 else "")
