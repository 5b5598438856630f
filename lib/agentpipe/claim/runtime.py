"""A task's `runtime`: keys of ours are merged into it, others' are never replaced."""

from __future__ import annotations

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OF_THE_SDK = "CLEARML VERSION"  # a key that Task.init writes, and with it what machine it runs on


def merge(api: Any, task: str, claim: str, values: dict[str, Any]) -> None:
    """Set these keys. ApiError 110 when the task has ended; on agent-server 121 when the claim is another's."""
    try:
        api.call("tasks.edit_runtime", {"task": task, "claim": claim, "add_or_update": values})
    except errors.ApiError as error:
        if error.code != 404:  # older servers have no such call
            raise
        api.call("tasks.edit", {"task": task, "claim": claim, "force": True, "runtime": {**read(api, task), **values}})


def read(api: Any, task: str) -> dict[str, Any]:
    """All keys; {} of a task that is gone."""
    found = api.call("tasks.get_all", {"id": [task], "only_fields": ["runtime"], "search_hidden": True})["tasks"]
    return (found[0].get("runtime") or {}) if found else {}
