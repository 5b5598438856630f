"""What `why` says of the parts of a pipeline of the `clearml` package: a step fails in code that its controller made, a
controller for the step that failed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIPELINE = "pipeline"  # system tag of a controller


def mended(api: Any, task: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What is known of an end ({reason, remedy, advice, …}), where to mend it put right."""
    if PIPELINE in (task.get("system_tags") or []):
        return _by_its_step(api, task, known)
    said = f"{known.get('remedy')} {known.get('advice')}"
    if task.get("parent") and "--checkout" in said and _is_generated(task) and _is_pipeline(api, task["parent"]):
        # what stands in no checkout can be taken anew from none
        name = (task["script"].get("entry_point") or "").partition(" ")[0]
        return {**known, "remedy": None, "advice": f"mend it in the code of pipeline {task['parent']}, which made "
                                                   f"{name} of a function, and run that pipeline again"}
    return known


def _by_its_step(api: Any, task: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The step that failed first is the one to ask about."""
    if known.get("class") != "script_failed":
        return known
    steps = api.call("tasks.get_all", {"parent": [task["id"]], "status": ["failed"], "search_hidden": True,
                                       "order_by": ["completed"], "only_fields": ["id", "name"]})["tasks"]
    if not steps:
        return known
    return {**known, "reason": f"{known['reason']}; its step {steps[0]['name']} has failed",
            "remedy": f"agent-task why {steps[0]['id']}", "advice": None}


def _is_generated(task: dict[str, Any]) -> bool:
    """Whether the script itself stands in the task, and not what a commit lacks of it."""
    diff = ((task.get("script") or {}).get("diff") or "").lstrip()
    return bool(diff) and not diff.startswith(("diff --git ", "--- "))


def _is_pipeline(api: Any, id: str) -> bool:
    found = api.call("tasks.get_all", {"id": [id], "search_hidden": True, "only_fields": ["system_tags"]})["tasks"]
    return bool(found) and PIPELINE in (found[0].get("system_tags") or [])
