"""How older versions of the API differ, where a caller can see it (server.md §2).

The endpoints speak the newest one; requests are translated on their way in and answers on their way out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NEWEST = (2, 34)
# whose answers are tasks as they are stored
OF_TASKS = ("tasks.get_by_id", "tasks.get_all", "tasks.get_by_id_ex", "tasks.get_all_ex")
# where older clients find a task's parameters, and where newer ones
DEFAULT_SECTION = "Args"
SECTIONS = ("TF_DEFINE",)


def number(version: str) -> tuple[int, int]:
    """The version "2.5" as a pair; nothing is the newest."""
    major, _, minor = version.partition(".")
    return (int(major), int(minor or 0)) if version else NEWEST


def has(name: str, version: tuple[int, int]) -> bool:
    """Whether an endpoint is still in that version."""
    return name not in ("models.update_for_task", "models.get_by_task_id") or version <= (2, 13)


def incoming(name: str, version: tuple[int, int], body: Any) -> Any:
    """A request of that version as one of the newest."""
    if version >= (2, 13) or not isinstance(body, dict) or name not in ("tasks.create", "tasks.edit", "tasks.clone"):
        return body
    field = "execution_overrides" if name == "tasks.clone" else "execution"
    execution, output = body.get(field), body.get("output")
    body = dict(body)
    if isinstance(execution, dict):
        execution = body[field] = dict(execution)
        container = "new_task_container" if name == "tasks.clone" else "container"
        _command_in(body, execution.pop("docker_cmd", None), container)
        if name != "tasks.clone":
            _model_in(body, "input", execution.pop("model", None))
        if version < (2, 9):
            _parameters_in(body, execution)
    if isinstance(output, dict):
        output = body["output"] = dict(output)
        _model_in(body, "output", output.pop("model", None))
    return body


def outgoing(name: str, version: tuple[int, int], answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as that version had it."""
    if version > (2, 16):
        return answer
    service = name.partition(".")[0]
    for found in _objects(answer):
        if service in ("models", "queues") and "metadata" in found:
            found["metadata"] = []
        if name in OF_TASKS and version < (2, 13):
            _mirror(found, version)
        if version < (2, 3) and "system_tags" in found:
            found["tags"] = sorted({*found.get("tags", []), *found["system_tags"]})
    return answer


def _objects(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that an answer is about: of get_by_id, or of get_all."""
    found = [item for value in answer.values() for item in (value if isinstance(value, list) else [value])]
    return [item for item in found if isinstance(item, dict)]


def _mirror(task: dict[str, Any], version: tuple[int, int]) -> None:
    container, models = task.get("container") or {}, task.get("models") or {}
    more: dict[str, Any] = {}
    if container.get("image"):
        more["docker_cmd"] = " ".join(filter(None, [container["image"], container.get("arguments")]))
    if models.get("input"):
        more["model"] = models["input"][0].get("model")
    if version < (2, 9):
        legacy = [item for names in (task.get("hyperparams") or {}).values() for item in names.values()
                  if item.get("type") == "legacy"]
        if legacy:
            more["parameters"] = {_old_name(item): item.get("value") for item in legacy}
        designs = {key: item.get("value") for key, item in (task.get("configuration") or {}).items()
                   if item.get("type") == "legacy"}
        if designs:
            more["model_desc"] = designs
    if more:
        task["execution"] = {**(task.get("execution") or {}), **more}
    if models.get("output"):
        task["output"] = {**(task.get("output") or {}), "model": models["output"][-1].get("model")}


def _old_name(item: dict[str, Any]) -> str:
    section, name = item.get("section", DEFAULT_SECTION), item.get("name", "")
    return name if section == DEFAULT_SECTION else f"{section}/{name}"


def _command_in(body: dict[str, Any], command: Any, field: str) -> None:
    if isinstance(command, str) and not body.get(field):
        image, _, arguments = command.strip().partition(" ")
        body[field] = {"image": image, "arguments": arguments.strip()}


def _model_in(body: dict[str, Any], kind: str, model: Any) -> None:
    models = body.get("models") or {}
    if isinstance(model, str) and isinstance(models, dict):
        models = dict(models)
        models.setdefault(kind, [{"name": kind, "model": model}] if model else [])
        body["models"] = models


def _parameters_in(body: dict[str, Any], execution: dict[str, Any]) -> None:
    parameters, designs = execution.pop("parameters", None), execution.pop("model_desc", None)
    if isinstance(parameters, dict) and parameters and not body.get("hyperparams"):
        sections: dict[str, Any] = {}
        for full, value in parameters.items():
            section, slash, name = full.partition("/")
            if not slash or section not in SECTIONS:
                section, name = DEFAULT_SECTION, full
            sections.setdefault(section, {})[name] = {
                "section": section, "name": name, "value": str(value), "type": "legacy"}
        body["hyperparams"] = sections
    if isinstance(designs, dict) and designs and not body.get("configuration"):
        body["configuration"] = {name: {"name": name, "value": str(value), "type": "legacy"}
                                 for name, value in designs.items()}
