"""What the answers of a server are made of, as far as commands read them.

It is looked at once, where an answer comes in: nobody behind it has to doubt a type, and what a server gets wrong is
told as its fault. The embedded store's answers are our own.
"""

from __future__ import annotations

from agentpipe import errors, task_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task_fields import Kind

# what every object has, unless others were asked for (only_fields)
ALWAYS = frozenset(("id", "name", "status"))
MUST = "!"  # at the end of a name: it is there, and not null
NAMED: dict[str, Kind] = {"id": str, "name": str}
QUEUE: Kind = {**NAMED, "tags": [str], "entries": [{"task": str, "added": str}]}
# what stands deeper in a task is for who runs or shows it (manifest.schema.json, task_fields.sound())
TASK: dict[str, Kind] = {
    **dict.fromkeys(("id", "name", "status", "status_message", "status_changed", "enqueue_status", "type", "comment",
                     "created", "started", "completed", "last_worker"), str),
    "tags": [str], "system_tags": [str], "last_iteration": int, "runtime": dict, "execution": {"queue": str},
    "last_metrics": {"*": {"*": {"metric": str, "variant": str, "value": float, "count": int}}}}
SHOWN: Kind = {**TASK, "runtime": {"_agentpipe_end": {"class": str}}, "queue": str, "last_line": str}
EVENT: Kind = {"timestamp!": float, "offset": int, "end": int, **dict.fromkeys(("msg", "stream", "claim"), str)}
MADE: Kind = {"id!": str}
ANSWERS: dict[str, Kind] = {
    "queues.get_all": {"queues!": [QUEUE]}, "queues.get_by_id": {"queue!": {"entries": [{"task!": str}]}},
    "queues.get_default": NAMED,
    "queues.get_next_task": {"entry": {"task!": str}}, "queues.get_num_entries": {"num!": int},
    "queues.wait": {"mark!": int}, "tasks.wait": {"mark!": str},
    "tasks.get_all": {"tasks!": [TASK]}, "tasks.get_by_id": {"task!": TASK},
    "tasks.stop": {"fields!": {"status": str}}, "tasks.dequeue": {"fields": {"status": str}},
    **{f"tasks.{verb}_many": {"failed": [{"error": {"msg": str}}]} for verb in ("archive", "unarchive")},
    **dict.fromkeys(("tasks.create", "tasks.clone", "queues.create", "projects.create"), MADE),
    "projects.get_all": {"projects!": [NAMED]},
    "models.get_all": {"models!": [{**NAMED, "uri": str, "framework": str}]},
    "workers.get_all": {"workers!": [{"id!": str, "queues": [{"id!": str}], "task": {"id": str},
                                      "last_report_time": str}]},
    "workers.get_runtime_properties": {"runtime_properties": [{"key": str}]},
    "workers.get_stats": {"workers": [{"worker!": str, "metrics!": [{"metric!": str, "stats": [{"values": list}]}]}]},
    "events.get_task_log": {"events!": [EVENT], "last": int},
    "events.get_log_position": {"positions!": {"*": int}},
    "events.scalar_metrics_iter_histogram": {"*": {"*": {"x!": [float], "y!": [float]}}},
    "organization.get_entities_count": {"tasks": int},
    "agentpipe.health": {"trouble!": str},
    "agentpipe.overview": {
        "now!": str, "counts!": {"*": int}, "queues!": [{"waiting!": int, "oldest": str, **NAMED}],
        "workers!": [{"id!": str, "queues!": [str], "task": str, "last_report_time": str, "machine_stats": dict}],
        "running!": [SHOWN], "ended!": [SHOWN]},
}
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
         dict: "an object"}


def check(host: str, endpoint: str, body: Any, answer: dict[str, Any]) -> None:
    """errors.OddAnswer where the answer to a call is not made so: it says where, and shows no value."""
    if endpoint not in ANSWERS:
        return
    asked = body.get("only_fields") if isinstance(body, dict) else None
    wrong = _wrong("", answer, ANSWERS[endpoint], ALWAYS.intersection(asked or ALWAYS))
    if wrong:
        raise errors.OddAnswer(f"{host} answers {endpoint} as no ClearML API does: {wrong}")


def _wrong(where: str, value: Any, kind: Kind, must: frozenset[str]) -> str:
    """The first that has another type, or is missing; "" without one. `must`: names that are there in each object."""
    if isinstance(kind, type):
        # a number that JSON has no word for (NaN) is null
        fits = task_fields.fits(value, kind) or (kind is float and value is None)
        return "" if fits else _told(where, value, kind)
    if isinstance(kind, list):
        if not isinstance(value, list):
            return _told(where, value, kind)
        found = (_wrong(f"{where}[{index}]", item, kind[0], must) for index, item in enumerate(value))
        return next(filter(None, found), "")
    if not isinstance(value, dict):
        return _told(where, value, kind)
    for name, inside in kind.items():
        for key in value if name == "*" else (name.rstrip(MUST),):
            item = value.get(key)
            if item is None and name != "*":
                if name.endswith(MUST) or name in must:
                    return _told(f"{where}.{key}" if where else key, item, inside)
                continue
            if found_inside := _wrong(f"{where}.{key}" if where else key, item, inside, must):
                return found_inside
    return ""


def _told(where: str, value: Any, kind: Kind) -> str:
    wanted = WORDS[kind if isinstance(kind, type) else type(kind)]
    return f"{where} is {'not there' if value is None else WORDS.get(type(value), 'odd')}, and should be {wanted}"
