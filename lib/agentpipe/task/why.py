"""Why a task is as it is: the cause of its end and what to do, where it runs, or what it waits for."""

from __future__ import annotations

import re
import time

from agentpipe import cells, ends, find, secrets, units
from agentpipe.report import outages, timing
from agentpipe.run import hold
from agentpipe.task import at_work, causes, evidence_lines, logs, of_pipelines, remedies, typeable, view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LOOKED_AT = 100  # lines of the log of a task that another agent has run, for its cause
PEERS_WORDS = re.compile(r"worker execution (exit) code (\d+)$")  # clearml-agent's
NO_RECEIPT = ">/dev/null"  # kilobytes of JSON are nothing for a terminal
LONGEST = 1000  # characters of a line of it: some programs print a whole file as one
# git's progress, which shows no cause
NOISE = re.compile(r"remote: (Enumerating|Counting|Compressing|Total)|(Receiving objects|Resolving deltas):"
                   r"|From \S+$| \* \[new (branch|tag)\]")


def why(api: Any, task: dict[str, Any]) -> dict[str, Any]:
    """{task, status, class, stage, exit, reason, evidence, remedy, advice}; what is not known is left out.

    `remedy` (a command that can be typed as it is) and `advice` (what to do, in words) are always there, or None.
    """
    status = task["status"]
    found: dict[str, Any]
    if status == "queued":
        found = _waiting(api, task)
    elif status == "in_progress":
        found = _running(api, task)
    elif status == "created":
        found = {"reason": "a draft: it stands in no queue", "remedy": _enqueue(task)}
    else:
        found = _ended(api, task)
    # the evidence, of a log, has no secrets; an entry point is typed back as it is shown (typed_back.py)
    found |= secrets.shown({key: found.get(key) for key in ("reason", "remedy", "advice")})
    return {"task": task["id"], "status": status,
            **{key: value for key, value in found.items() if value not in (None, "")},
            "remedy": found.get("remedy") or None, "advice": found.get("advice") or None,
            **({"inside": f"agent-task shell {task['id']}"} if is_failure(found) and hold.is_kept(task["id"]) else {}),
            **({"reproduce": remedies.reproduced(task)} if is_failure(found) else {})}


def is_failure(found: Mapping[str, Any]) -> bool:
    """Whether a task has ended otherwise than it should."""
    return found.get("class") in ("script_failed", "out_of_memory", "time_limit", "stalled", "setup_failed", "lost")


def text(found: dict[str, Any]) -> str:
    """The answer for a screen: reason, the last lines of the evidence, and a command to try or words what to do."""
    head = found.get("class") or found["status"]
    if found.get("exit"):
        head += f", exit {found['exit']}"
    if found.get("stage") and found.get("class") != "completed":
        head += f", in agent-{found['stage']}"
    lines = [f"{found['task']}: {head}", f"  {found['reason']}"]
    evidence = [line.rstrip() for line in found.get("evidence", "").strip("\n").splitlines() if not NOISE.match(line)]
    if evidence and found.get("class") == "running":
        lines += ["", f"  the last that was printed, {units.ago(found['since'])}:"]
    if evidence:
        evidence = evidence_lines.shown(found["task"], found["reason"], evidence)
        lines += [*([] if found.get("class") == "running" else [""]),
                  *(f"  | {_shortened(line)}" for line in evidence)]
    remedy, advice = (_typeable(found, key) for key in ("remedy", "advice"))
    if remedy:
        lines += ["", f"  try: {remedy}"]
        lines += [f"  or: {advice}"] if _says_more(advice) else []
    elif advice:
        # of a stage whose task's code is to be mended first (finish._remedy)
        words, there, command = advice.partition("; then, in its checkout: ")
        lines += ["", f"  to do: {words}", *([f"  then, in its checkout: {command}"] if there else [])]
        if found.get("class") == "setup_failed" and "agent-task enqueue" not in advice:
            # what is enqueued anew with a bundle is another task
            pushed = ", once it is pushed" if "--bundle" in advice else ""
            lines += [f"  then{pushed}: agent-task enqueue {found['task']}"]
    if found.get("inside"):
        lines += [f"  its container is kept: {found['inside']}"]
    if found.get("reproduce"):
        lines += [f"  reproduce: {found['reproduce']}"]
    # what a script printed must not move the cursor over what we say
    return "\n".join(map(cells.printed, lines)) + "\n"


def _typeable(found: dict[str, Any], key: str) -> str:
    """Remedy or advice as it can be typed from the screen; else where it stands."""
    said = found[key] or ""
    whole = f"agent-task why --json {found['task']} | jq -r .{key}"
    typed = typeable.line(said)
    return (f'sh -c "$({whole})"' if key == "remedy" else whole) if typed is None else typed


def _shortened(line: str) -> str:
    """A line with its middle left out where it is long: what it is about stands at one of its ends."""
    if len(line) <= LONGEST:
        return line
    half = LONGEST // 2
    return f"{line[:half]} … {len(line) - LONGEST} characters … {line[-half:]}"


def _says_more(advice: str | None) -> bool:
    """Whether words say something else than the command beside them: of requirements they are the same change."""
    return bool(advice) and not re.match(r"replace |take '|.* instead of '", advice or "")


def _ended(api: Any, task: dict[str, Any]) -> dict[str, Any]:
    end = view.end_of(task)
    if end.get("class") == "completed":
        return {"class": "completed", "reason": _in_time(task), **{key: end.get(key) for key in ("stage", "exit")}}
    if end:
        found = {key: end.get(key) for key in ("class", "stage", "exit", "reason", "evidence", "remedy", "advice")}
        if not found["remedy"] and not found["advice"] and found["class"] in ends.ENDS:
            row = ends.ENDS[found["class"]]
            advice = row.advised(bool((task.get("container") or {}).get("image")))
            found |= {"remedy": row.remedy.format(id=task["id"]) or None, "advice": advice or None}
        return of_pipelines.mended(api, task, {**found, **_cause(api, task, found), **_longer(task, found)})
    kind = {"completed": "completed", "published": "completed", "closed": "completed", "stopped": "aborted"}.get(
        task["status"], "script_failed")
    reason = task.get("status_reason") or task.get("status_message")
    if reason:
        reason = PEERS_WORDS.sub(r"\1 \2", reason)
    elif task["status"] in ("published", "closed"):  # by somebody, perhaps while it ran
        reason = f"the task was {task['status']}"
    evidence = "" if kind == "completed" else "\n".join(logs.tail(api, task["id"], LOOKED_AT))
    found = {"class": kind, "reason": reason or ends.ENDS[kind].when, "evidence": evidence,
             "remedy": ends.ENDS[kind].remedy.format(id=task["id"]), "advice": ends.ENDS[kind].advice}
    return of_pipelines.mended(api, task, {**found, **_cause(api, task, found)})


def _cause(api: Any, task: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What is known of its cause, the queue and the project in it by their names."""
    cause = causes.of_setup if found.get("class") == "setup_failed" else causes.of_script
    known = cause(task, found)
    said = f"{known.get('remedy')} {known.get('advice')}"
    if any(id in said for id in (task.get("project"), _queue(task)) if id):
        # said once more: in a finished command an id may stand in a word of the script, or within quotes
        known = cause(_by_names(api, task), found)
    return known


def _by_names(api: Any, task: dict[str, Any]) -> dict[str, Any]:
    """The task with its project and its queue by their names, where these are known."""
    project, queue = task.get("project"), _queue(task)
    return {**task, **({"project": find.project_name(api, project) or project} if project else {}),
            **({"execution": {**task["execution"], "queue": find.queue_name(api, queue) or queue}} if queue else {})}


def _queue(task: dict[str, Any]) -> str | None:
    return (task.get("execution") or {}).get("queue")


def _in_time(task: dict[str, Any]) -> str:
    """What is to be said of a script that did well: when it ended, and how long it took, without its set-up where that
    is known."""
    began, ended = units.moment(task.get("started")), units.moment(task.get("completed"))
    took = ended - began if began and ended and ended >= began else None
    for stage in view.end_of(task).get("stages") or []:
        took = stage["seconds"] if stage["stage"] == "run" else took
    after = f", after {units.measured(took)}" if took is not None else ""
    return f"the script ended with 0{after}" + (f", {units.ago(task['completed'])}" if ended else "")


def _longer(task: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """{remedy} of what a limit of ours ended, a script or a set-up: the same with twice of it; {} otherwise."""
    option = {"time_limit": "--time-limit", "stalled": "--stall-limit"}.get(found.get("class") or "")
    limit = re.search(r"([0-9.]+) s\b", found.get("reason") or "")
    if not option or not limit:
        return {}
    twice = f"{2 * float(limit[1]):g}"
    prepare, run = "agent-prepare", f"agent-run {option} {twice}"
    if found.get("stage") not in (None, "run"):
        prepare, run = f"agent-prepare --setup-limit {twice}", "agent-run"
    # as a draft: from its queue an agent that serves it would take it first, with the old limit
    return {"remedy": f"agent-task reset {task['id']} && agent-pull --id {task['id']} | {prepare} | {run} "
                      f"{NO_RECEIPT}"}


def _enqueue(task: dict[str, Any]) -> str:
    return f"agent-task enqueue {task['id']}"


def _running(api: Any, task: dict[str, Any]) -> dict[str, Any]:
    worker = task.get("last_worker") or "a worker"
    silent = units.seconds_since(task.get("last_update"))
    started, advice = task.get("started"), ""
    reason = f"on {worker} since {units.clock(started)} ({units.ago(started)})"
    if task.get("status_message") == "stopping":
        reason += "; asked to stop"
    left = at_work.unwatched(task)
    if left == "end":
        return {"class": "running", "reason": f"{reason}; it has ended, which could not be told to its server yet",
                "remedy": f"agent-pull --id {task['id']}"}
    if left:
        reason += "; its script runs, but nobody watches it" if left == "script" else "; nobody works on it any more"
        # whatever queue it is: the first thing that agent-pull does is to look after what was left behind
        prepare = "" if left == "script" else "agent-prepare | "
        return {"class": "running", "reason": reason, "remedy":
                f"agent-pull --id {task['id']} | {prepare}agent-run {NO_RECEIPT}"}
    if silent and silent > 300:
        reason += f"; nothing was heard of it for {units.duration(silent)}"
        advice = (f"agent-pull on that machine, which recovers what was left behind; where that is gone: agent-task "
                  f"stop {task['id']}")
    found = at_work.claim_of(task)
    stage, doing = (found[1]["stage"], _doing(found[0])) if found else (None, "")
    outage, refused = outages.present(found[0]) if found else ("", False)
    if outage:
        doing += f"; its agent cannot reach the server: {outage}"
    if refused:
        advice = "put good keys into its agent's clearml.conf: they are taken up without a new start"
    failed = _failed_unseen(found)
    if failed:
        return {"class": "running", "stage": failed.get("stage") or stage, "reason":
                f"{reason}; it has failed: {failed.get('reason')}", "advice":
                "nobody has told its server yet: agent-run < FILE, with the line that the stage has printed"}
    printed = logs.last(api, task["id"])
    return {"class": "running", "stage": stage, "reason": reason + doing, "advice": advice,
            "evidence": printed[1] if printed else "", "since": printed[0] if printed else None}


def _failed_unseen(found: tuple[str, dict[str, Any]] | None) -> dict[str, Any]:
    """`failed` of an attempt of this machine whose line was handed on, and has not come to agent-run; {} otherwise."""
    from agentpipe.claim import attempt
    if not found or found[1].get("state") != "handed":
        return {}
    return (attempt.read_manifest(found[0]) or {}).get("failed") or {}


def _doing(directory: str) -> str:
    """What an attempt of this machine is at, and for how long: "; env for 12 s"."""
    from agentpipe.claim import attempt
    record, ended = attempt.pid_record(directory), attempt.exit_status(directory)
    if ended is not None:
        return f"; its script has ended with {ended}, which its server does not know yet"
    if record and record[:1].isdigit():
        began = attempt.began_at(directory)
        name = "its script runs"
    else:
        stages = timing.stages(attempt.read_manifest(directory) or {})
        last = [each for each in stages if each["seconds"] is not None and each["stage"] != "queue"][-1:]
        began = (units.moment(last[0]["began"]) or 0.0) + last[0]["seconds"] if last else None
        name = "it is being set up"
    return f"; {name} for {units.duration(time.time() - began)}" if began else ""


def _waiting(api: Any, task: dict[str, Any]) -> dict[str, Any]:
    queue = _queue(task)
    name = find.queue_name(api, queue)
    since = units.ago(task.get("status_changed"))
    place = find.place_in_queue(api, queue, task["id"]) if queue else None
    if place is None:
        worker = task.get("last_worker")
        return {"class": "queued", "reason": f"it was pulled from {name} and is about to start"
                                             + (f" on {worker}" if worker else "")}
    workers, dead = at_work.serving(api, queue or "")
    ahead = "it is next" if place == 1 else f"{place - 1} before it"
    back = f"it came back: {task['status_reason']}; " if task.get("status_reason") else ""
    found = {"class": "queued", "reason": f"waits in {name} for {since.removesuffix(' ago')}, {ahead}; {back}"}
    shut = api.call("queues.get_all", {"id": [queue], "only_fields": ["tags"], "search_hidden": True})["queues"]
    if any(find.QUEUE_CLOSED in (each.get("tags") or ()) for each in shut):
        found["reason"] += f"an administrator has closed this queue (its tag {find.QUEUE_CLOSED})"
        return found
    if not workers:
        found["reason"] += "nobody serves this queue"
        if dead:
            ago = units.duration(min(map(at_work.silence, dead)))
            found["reason"] += f" any more ({at_work.names(dead)} reported {ago} ago)"
        found["remedy"] = f"{find.serve(name)} {NO_RECEIPT}"
        return found
    busy = [worker for worker in workers if worker.get("task")]
    found["reason"] += f"served by {at_work.names(workers)}"
    found["reason"] += f" (heard of {units.duration(min(map(at_work.silence, workers)))} ago)"
    found["reason"] += f", {'all' if len(busy) == len(workers) else len(busy)} busy" if busy else ""
    return found
