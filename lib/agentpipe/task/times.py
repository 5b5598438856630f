"""agent-task time: a task's waterfall, from its queue to its end, what was cold and what came from a cache."""

from __future__ import annotations

import json

from agentpipe import errors, find, units
from agentpipe.claim import attempt
from agentpipe.report import timing
from agentpipe.task import at_work, named, view
from agentpipe.task.output import beyond_ascii, columns, put, say
from agentpipe.transport import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Stage = dict[str, Any]

WIDTH = 80  # where no terminal says another
SMALLEST_GAP_S = 0.05


def times(words: list[str], as_json: bool) -> int:
    """Print the waterfall of each task."""
    server = api.connect()

    def one(word: str) -> None:
        found = of_task(find.task(server, word))
        put(json.dumps(found) + "\n" if as_json else text(found, columns() or WIDTH))
    return named.each(words, one, say)


def of_task(task: dict[str, Any]) -> dict[str, Any]:
    """{task, name, status, stages, setup, seconds}; Failure 66 when nobody has measured it.

    Of a finished task its record on the server tells, of one at work here its directory; of one that another agent
    runs or ran only its start and end are known.
    """
    stages = (((task.get("runtime") or {}).get(view.END_KEY) or {}).get("stages") or []
              if task["status"] in find.ENDED else [])
    stages = stages or _here(task) or _known_of(task)
    if not stages:
        ran = "its last run came to no end" if task.get("started") else "it has not run yet"
        raise errors.Failure(f"task {task['id']} is {task['status']}: {ran}", errors.NOT_FOUND,
                             remedy=f"agent-task why {task['id']}")
    whole = _with_gaps(stages)
    setup = [each for each in whole if each["stage"] not in ("queue", "run")]
    return {"task": task["id"], "name": task.get("name"), "status": task["status"], "stages": whole,
            "setup": round(sum(each["seconds"] for each in setup), 3),
            "cold": round(sum(each["seconds"] for each in setup if each.get("cached") is False), 3),
            "seconds": round(sum(each["seconds"] for each in whole if each["stage"] != "queue"), 3)}


def _here(task: dict[str, Any]) -> list[Stage]:
    """The stages of the last attempt on this machine, when that is the task's last one."""
    from agentpipe.claim import on_server
    directory = attempt.latest(task["id"])
    manifest = attempt.read_manifest(directory) if directory else None
    token = (task.get("runtime") or {}).get(on_server.RUNTIME_KEY)
    if not directory or not manifest or token != ((manifest.get("pull") or manifest.get("origin") or {}).get("claim")):
        return []
    found = timing.stages(manifest)
    if not found or found[-1]["stage"] == "run" or found[-1].get("failed"):
        return found
    record, began = attempt.pid_record(directory), attempt.began_at(directory)
    if began and record and record[:1].isdigit():
        return [*found, {"stage": "run", "began": units.iso(began), "seconds": None}]
    stage = _at_work(task)
    if stage:  # it has come after all that has ended; a manifest tells only of that
        ended = (units.moment(found[-1]["began"]) or 0.0) + (found[-1]["seconds"] or 0.0)
        found.append({"stage": stage, "began": units.iso(ended), "seconds": None})
    return found


def _at_work(task: dict[str, Any]) -> str:
    """The stage that has the task in hand on this machine; "" when none has."""
    found = at_work.claim_of(task)
    held = found is not None and found[1].get("state") == "held" and not at_work.unwatched(task)
    return str(found[1].get("stage") or "") if found and held else ""


def _known_of(task: dict[str, Any]) -> list[Stage]:
    """What the server alone knows: from `started` on, set-up and run together."""
    ended = units.moment(task.get("completed")) if task["status"] in find.ENDED else None
    if not task.get("started") or (ended is None and task["status"] != "in_progress"):  # given back, stopped in a queue
        return []
    began = units.moment(task["started"])
    seconds = None if ended is None or began is None else round(ended - began, 3)
    by_hand = {} if task.get("last_worker") else {"by_hand": True}
    return [{"stage": "run", "began": task["started"], "seconds": seconds, "whole": True, **by_hand}]


def _with_gaps(stages: list[Stage]) -> list[Stage]:
    """All of the time: what lies between two stages (starts of processes, hooks, waiting) is a row as well."""
    import time
    found: list[Stage] = []
    end = None
    for stage in stages:
        began = units.moment(stage["began"])
        if began is None:
            continue
        if end is not None and began - end > SMALLEST_GAP_S:
            found.append({"stage": "between", "began": units.iso(end), "seconds": round(began - end, 3)})
        seconds = stage["seconds"]
        if seconds is None:
            seconds = round(max(0.0, time.time() - began), 3)
            stage = {**stage, "open": True}
        found.append({**stage, "seconds": seconds})
        end = began + seconds
    return found


def text(found: dict[str, Any], width: int = WIDTH) -> str:
    """The waterfall: a row a stage, whose bar stands where it happened.

    The wait in the queue has no bar: it may have been days.
    """
    rows = found["stages"]
    shown = [row for row in rows if row["stage"] != "queue"]
    begins = [units.moment(row["began"]) or 0.0 for row in shown]
    first = min(begins, default=0.0)  # one that was pulled just now has only waited
    last = max((at + row["seconds"] for at, row in zip(begins, shown, strict=True)), default=0.0)
    room, span = max(10, min(width, 120) - 32), max(last - first, 1e-3)
    full, light = ("█", "░") if beyond_ascii() else ("#", ".")
    lines = [f"{found['task']}: {found['status']}, {units.measured(found['seconds'])}"]
    for row in rows:
        bar = ""
        if row["stage"] != "queue":
            at = int((units.moment(row["began"]) - first) / span * room)  # type: ignore[operator]
            mark = light if row["stage"] == "between" or row.get("cached") else full
            bar = " " * min(at, room - 1) + mark * max(1, round(row["seconds"] / span * room))
        lines.append(f"  {row['stage']:<8} {units.measured(row['seconds']):>9}  {_note(row):<7} {bar[:room]}".rstrip())
    lines.append("  " + _sum(found))
    return "\n".join(lines) + "\n"


def _note(row: Stage) -> str:
    if row.get("failed"):
        return "failed"
    if row.get("open"):
        return "so far"
    if row.get("whole"):
        return "all"
    return {None: "", True: "warm", False: "cold"}[row.get("cached")]


def _sum(found: dict[str, Any]) -> str:
    if any(row.get("by_hand") for row in found["stages"]):
        return "no agent ran it: it began and ended by hand"
    if any(row.get("whole") for row in found["stages"]):
        return "another agent ran it: the server knows only when it started and ended"
    run = sum(row["seconds"] for row in found["stages"] if row["stage"] == "run")
    cold = units.measured(found["cold"])
    cold = f", of which {cold} cold: the next run finds that in the cache" if found["cold"] else ""
    return f"set-up {units.measured(found['setup'])}{cold}; run {units.measured(run)}"
