"""Tasks of services mode: each a worker of its own, and queued again by CLEARML_AGENT_SERVICES_DOCKER_RESTART.

As clearml-agent: POLICY[;path[=value]], a policy of Docker (no, always, unless-stopped, on-failure[:N]) for the tasks
that have a field at that path, or that value there. There the engine starts the container again; here the task goes
back into its queue with its log and results, so that any worker of that queue can take it, in a new container.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from agentpipe.held import Held

SETTING = "CLEARML_AGENT_SERVICES_DOCKER_RESTART"
POLICIES = ("no", "always", "unless-stopped", "on-failure")
# a user's word, or the operator's
TOLD_TO_END = ("aborted", "drained", "preempted")
LONGEST_S = 60.0
LONGEST_AFTER = 10  # runs: from there on the pause is LONGEST_S
ENDED = ("completed", "failed", "stopped")
AGAIN = "runs again"  # why the task is queued, as its next run finds it


def check_setting() -> None:
    """Failure 78 where CLEARML_AGENT_SERVICES_DOCKER_RESTART is no policy: nothing would run again, without a word."""
    import re

    from agentpipe import errors
    setting = os.environ.get(SETTING, "").strip()
    if setting and not re.fullmatch(rf"({'|'.join(POLICIES)}|on-failure:\d+)(;.*)?", setting):
        raise errors.Failure(f"{SETTING}={setting} is no policy", errors.BAD_CONFIG,
                             remedy="always, unless-stopped, on-failure[:N] or no, and ;FIELD=VALUE behind it")


def runs_again(task: Mapping[str, Any], end: str, runs: int, setting: str) -> bool:
    """Whether a task that ended so, after that many runs here, is to run again. An unknown policy is none."""
    policy, _, selector = setting.strip().partition(";")
    policy, _, most = policy.partition(":")
    if policy not in POLICIES or policy == "no" or end in TOLD_TO_END:
        return False
    if policy == "on-failure" and (end == "completed" or (most.isdigit() and runs > int(most))):
        return False
    return _fits(task, selector)


def again(held: Held) -> None:
    """The end of a service is told: queue it again where its policy says so, after ever longer pauses.

    Whoever has reset, published or enqueued it in the pause has decided otherwise. Nothing here is held meanwhile.
    """
    import time

    from agentpipe import errors, manifest, stdio
    from agentpipe.signals import SIGNALS
    setting = os.environ.get(SETTING, "")
    if not setting or not manifest.is_service(held.manifest):
        return
    line = held.manifest
    end = line["failed"].get("class", "setup_failed") if "failed" in line else line["run"]["end"]
    runs = _runs(held.id, _enough(setting))
    queue = line["pull"].get("queue")
    if not queue or not runs_again(line["task"], end, runs, setting):
        return
    try:
        with SIGNALS.open():
            time.sleep(min(LONGEST_S, 0.1 * 2 ** min(runs, LONGEST_AFTER)))
    except (errors.Interrupted, errors.Aborted):
        pass  # we leave; others may take it at once
    try:
        status = _ended(held.api, line)
        if not status:
            stdio.say(f"agent-run: task {held.id} has been changed since it ended, so it is not queued again")
            return
        # of these ends ClearML's table lacks one on the way into a queue
        held.api.call("tasks.enqueue", {"task": held.id, "queue": queue, "claim": line["pull"]["claim"],
                                        "force": status == "completed",
                                        "status_reason": f"{AGAIN} ({setting.partition(';')[0]})"})
    except (errors.ApiError, errors.Failure) as error:
        stdio.say(f"agent-run: task {held.id} could not be queued again: {error}")


def _enough(setting: str) -> int:
    """How many runs tell all: further ones change neither the pause nor what the policy says."""
    most = setting.partition(";")[0].partition(":")[2].strip()
    return max(LONGEST_AFTER, int(most) + 1 if most.isdigit() else 0)


def _runs(task: str, enough: int) -> int:
    """How many runs here there were since somebody else has queued it; no more than are `enough` are looked at, each of
    which may be one of thousands."""
    from agentpipe import paths
    from agentpipe.claim import attempt
    count = 0
    for number in sorted(attempt.numbers(task), reverse=True)[:enough]:
        count += 1
        line = attempt.read_manifest(paths.state("tasks", f"{task}.{number}")) or {}
        if not str((line.get("task") or {}).get("status_reason") or "").startswith(AGAIN):
            break
    return count


def _ended(api: Any, line: Mapping[str, Any]) -> str:
    """The status of a task while its end is the one that this claim has recorded; else ""."""
    from agentpipe.report import finish
    tasks = api.call("tasks.get_all", {"id": [line["task"]["id"]], "only_fields": ["status", "runtime"],
                                       "search_hidden": True})["tasks"]
    status = tasks[0].get("status", "") if tasks else ""
    record = (tasks[0].get("runtime") or {}).get(finish.RECORD_KEY) or {} if tasks else {}
    return status if status in ENDED and record.get("claim") == line["pull"]["claim"] else ""


def _fits(task: Mapping[str, Any], selector: str) -> bool:
    """Whether the task has that field, or that value in it, compared by the value's own type."""
    path, equals, wanted = selector.partition("=")
    if not path:
        return True
    from agentpipe.settings import config
    value = config.at(task, path.split("."))
    if value is None or not equals:
        return value is not None
    if isinstance(value, bool):
        return value == (wanted.strip().lower() in config.YES)
    if isinstance(value, int | float):
        try:
            return value == float(wanted)
        except ValueError:
            return False
    return str(value) == wanted
