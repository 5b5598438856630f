"""One task on several nodes: rank 0 leads, the others follow (as ClearML Agent with RANK or SLURM_PROCID above 0).

A follower runs the same task under a claim of its own, which stands on this node only. It reports its log and its use
of the machine; that the task has started, its requirements and how it ends are the leader's to tell.
"""

from __future__ import annotations

import os

from agentpipe import errors
from agentpipe.claim import attempt, claims, intents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Got = tuple[claims.Claim, dict[str, Any]]


def rank() -> int:
    """Our rank, by RANK or SLURM_PROCID; 0 without."""
    for name in ("RANK", "SLURM_PROCID"):
        text = os.environ.get(name, "").strip()
        if text.isdigit():
            return int(text)
    return 0


def noted() -> dict[str, int]:
    """What a line says of the rank that pulled it; nothing of rank 0."""
    return {"rank": rank()} if rank() else {}


def handed_on(line: dict[str, Any]) -> dict[str, Any]:
    """The line of a script that ran unwatched, as of a task that our rank has pulled: else we would follow it."""
    if is_follower(line) or "pull" not in line:
        return line
    return {**line, "pull": {**{key: value for key, value in line["pull"].items() if key != "rank"}, **noted()}}


def is_follower(line: dict[str, Any] | None) -> bool:
    """Whether the task of this line is led by another node."""
    return bool(((line or {}).get("pull") or {}).get("follows"))


def is_to_follow(line: dict[str, Any]) -> bool:
    """Whether whoever pulled this line has another rank than we, which are not the leader."""
    pull = line.get("pull") or {"follows": True}
    return not pull.get("follows") and rank() > 0 and rank() != pull.get("rank", 0)


def follow(api: Any, line: dict[str, Any]) -> Got:
    """Our own claim, on this node, on the task of somebody else's line; and the line that goes on with it.

    NotOurs (75) when the task has ended; Failure 65 for a line that was prepared on another node.
    """
    from agentpipe import manifest, secrets
    from agentpipe.claim import adopt
    task, pull = line["task"]["id"], line["pull"]
    there = [key for key in adopt.HERE if key in line]
    if there and not attempt.numbers(task):
        raise errors.Failure(f"task {task} was prepared under another AGENT_HOME ({', '.join(there)})",
                             errors.BAD_DATA, remedy="run agent-prepare and agent-run under the same one")
    intent = intents.Intent()
    try:
        claim = claims.begin(api, intent, task, pull.get("worker") or "")
    finally:
        if not intent.used:
            intent.drop()
    found = {**line, "pull": {**pull, "claim": claim.token, "rank": rank(), "follows": True}}
    try:
        # at once: recovery has to know that there is nothing to give back
        attempt.store_manifest(claim.directory, manifest.write(found))
        claims.checked_with_server(api, found, "follow")
        secrets.put_away(api.call("tasks.get_by_id", {"task": task})["task"], claim.directory)
    except (errors.Failure, errors.ApiError):
        claim.undo()
        raise
    return claim, found


def prefix(pull: dict[str, Any]) -> str:
    """What a follower's lines begin with where all report to one task (CLEARML_MULTI_NODE_SINGLE_TASK above 0)."""
    said = os.environ.get("CLEARML_MULTI_NODE_SINGLE_TASK", "").strip()
    return f"RANK {pull['rank']}: " if pull.get("follows") and said.isdigit() and int(said) > 0 else ""
