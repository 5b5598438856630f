"""A task that was pulled under another home, as when agent-pull runs on a login node and the rest in a Slurm job.

Whoever reads its line there cannot take a lock of that home. It takes the task over on the server instead, by writing
a token of its own over the one in the line; so the first home's recovery finds another's claim and lets go.
"""

from __future__ import annotations

from agentpipe import errors, paths
from agentpipe.claim import attempt, claims, intents, on_server
from agentpipe.crash import crash_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HERE = ("fetch", "patch", "env", "place")  # keys that name directories and containers of the home that wrote them


def is_from_elsewhere(api: Any, line: dict[str, Any]) -> bool:
    """Whether no attempt of this home ever had the claim in this line (the embedded store has but one home)."""
    task, token = line["task"].get("id", ""), line["pull"]["claim"]
    homes = [paths.state("tasks", f"{task}.{number}") for number in attempt.numbers(task)]
    return not api.embedded and not any((claims.read(home) or {}).get("token") == token for home in homes)


def adopt(api: Any, line: dict[str, Any], stage: str) -> tuple[claims.Claim, dict[str, Any]]:
    """Our claim on the task of a line from another home, and the line as it is from now on.

    NotOurs (75) when the server shows the task ended or claimed by somebody else; Failure 65 for a line that was
    prepared there.
    """
    there = [key for key in HERE if key in line]
    if there:
        raise errors.Failure(f"task {line['task']['id']} was prepared under another AGENT_HOME ({', '.join(there)})",
                             errors.BAD_DATA, remedy="run agent-prepare and agent-run under the same one")
    claims.checked_with_server(api, line, stage)
    task, pull = line["task"]["id"], line["pull"]
    intent = intents.Intent()
    try:
        intent.note(api, pull.get("queue") or "")
        _write_over(api, task, pull["claim"], intent.token)
        crash_point("adopt:written")
        found = api.call("tasks.get_by_id", {"task": task})["task"]  # first: as in pull/queues.py
        claim = claims.begin(api, intent, task, pull.get("worker") or "")
    finally:
        if not intent.used:
            intent.drop()
    claim.held_by(stage)
    from agentpipe import secrets
    secrets.put_away(found, claim.directory)
    return claim, {**line, "pull": {**pull, "claim": claim.token}}


def _write_over(api: Any, task: str, old: str, new: str) -> None:
    """Put our token in the place of the line's, where that still stands."""
    if api.ours:
        try:
            api.call("tasks.edit_runtime", {"task": task, "claim": old, "add_or_update": {on_server.RUNTIME_KEY: new}})
        except errors.ApiError as error:
            if error.subcode != 121:
                raise
            raise claims.NotOurs(task, "it has been given back meanwhile") from None
        return
    runtime = api.call("tasks.get_by_id", {"task": task})["task"].get("runtime") or {}
    if runtime.get(on_server.RUNTIME_KEY) != old:
        raise claims.NotOurs(task, "it has been given back meanwhile")
    api.call("tasks.edit", {"task": task, "force": True, "runtime": {**runtime, on_server.RUNTIME_KEY: new}})
