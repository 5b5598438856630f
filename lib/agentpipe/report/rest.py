"""The rest of an attempt's log, which nobody ships any more: whose task it is, and how it goes on."""

from __future__ import annotations

import os

from agentpipe import secrets
from agentpipe.claim import attempt, claims, on_server, ranks
from agentpipe.report.shipping import Shipper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NotOurs(Exception):
    """The server shows the task gone, or with another's claim: nothing of it is ours to write."""


def known(directory: str) -> dict[str, Any] | None:
    """The attempt's manifest with `pull`, as far as it can be known; None when the task is one by hand."""
    manifest = attempt.read_manifest(directory)
    if manifest is not None:
        pull = manifest.get("pull") or manifest.get("origin")
        return {**manifest, "pull": pull} if pull else None
    claim = claims.read(directory)
    if claim is None:
        return None
    # its file is gone or damaged: what the directory's name and the claim say is enough for an end
    task = os.path.basename(os.path.normpath(directory)).rpartition(".")[0]
    return {"task": {"id": task}, "pull": {"server": claim.get("server"), "claim": claim["token"], "queue": None,
                                           "worker": claim.get("worker")}}


def ours(api: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    """The task's status and runtime, when it still carries our claim; else NotOurs. A follower's claim stands on
    its node alone: its task is one that has ended, and was not reset since."""
    tasks = api.call("tasks.get_all", {"id": [manifest["task"]["id"]], "search_hidden": True,
                                       "only_fields": ["status", "runtime", "enqueue_status"]})["tasks"]
    if not tasks:
        raise NotOurs
    keys = tasks[0].get("runtime") or {}
    if ranks.is_follower(manifest):
        if tasks[0].get("status") in on_server.RUNNABLE:
            raise NotOurs
        return {**tasks[0], "runtime": keys}
    token = keys.get(on_server.RUNTIME_KEY)
    # the SDK writes the whole runtime back: without any token a running task is still ours
    if token != manifest["pull"]["claim"] and (token or tasks[0].get("status") != "in_progress"):
        raise NotOurs
    return {**tasks[0], "runtime": keys}


def shipper_of(api: Any, manifest: dict[str, Any], directory: str) -> Shipper:
    """What ships the log of an attempt that nobody reports any more; `manifest` as known() gives it."""
    task, pull = manifest["task"], manifest["pull"]
    return Shipper(api, task["id"], pull["claim"], directory, pull.get("worker") or "",
                   secrets.carried(task, directory), ranks.prefix(pull))


def ship(api: Any, directory: str) -> None:
    """Ship the log of an attempt whose end is not ours to tell (yet); nothing of a task that is not ours any more."""
    manifest = known(directory)
    if manifest is None:
        return
    try:
        ours(api, manifest)
    except NotOurs:
        return
    shipper = shipper_of(api, manifest, directory)
    try:
        shipper.ship(final=attempt.exit_status(directory) is not None)
    finally:
        shipper.close()
