"""Changing how tasks stand: stop, dequeue, move, continue, reset, archive, unarchive, delete; one task at a time."""

import json
from collections.abc import Mapping
from typing import Any

from agentpipe import errors, find
from agentpipe.task import at_work, named, queueing
from agentpipe.task.output import put, say
from agentpipe.transport import api as transports

Told = dict[str, Any]  # {status, said, …}: how the task stands now, and what is said of it


def each(name: str, values: Mapping[str, Any]) -> int:
    """Do `name` to each task of the command line; says of each what follows, with --json on stdout."""
    server = transports.connect()
    work = DOES[name]
    if name == "move":
        _check_move(values)

    def one(word: str) -> None:
        task = find.task(server, word)
        told = work(server, task, values)
        if values["json"]:
            put(json.dumps({"task": task["id"], **told}) + "\n")
        else:
            say(f"{task['id']}: {told['said']}")
    return named.each(values["task"], one, say)


def stop(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """End a running task by its worker, take a waiting one out of its queue; of a pipeline its steps too."""
    if task["status"] in find.ENDED:
        return {"status": task["status"], "said": f"{task['status']} already"}
    left = at_work.unwatched(task)
    fields = server.call("tasks.stop", {"task": task["id"], "status_reason": "stopped with agent-task",
                                        "force": task["status"] == "created", "include_pipeline_steps": True})["fields"]
    waits = fields.get("status") == "in_progress"
    return {"status": fields.get("status", "stopped"), "said": _what_follows(task["id"], waits, left)}


def _what_follows(task: str, waits: bool, left: str) -> str:
    if waits and left == "script":
        return ("asked to stop, but nobody watches its script here: it ends once an agent takes it over "
                f"(agent-pull --id {task} | agent-run)")
    if waits and left == "end":
        return f"asked to stop, but it has ended, which its server does not know yet (agent-pull --id {task})"
    if waits and left:
        return f"asked to stop, but nobody works on it any more: the next agent-pull ends it (agent-pull --id {task})"
    if left == "script":
        from agentpipe.claim import attempt
        pid = (attempt.pid_record(attempt.latest(task) or "") or "").split(" ")[0]
        return "stopped; its script still runs here, and nobody watches it" + (
            f" (kill -- -{pid})" if pid.strip("0") else "")
    return "its worker is told to stop it" if waits else "stopped"


def dequeue(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """Take a waiting task out of its queue; it is again what it was before."""
    if task["status"] != "queued":
        _refuse_running(task)
        return {"status": task["status"], "said": f"{task['status']}, it stands in no queue"}
    _place(server, task)
    answer = server.call("tasks.dequeue", {"task": task["id"], "status_reason": "dequeued with agent-task"})
    now = (answer.get("fields") or {}).get("status", "created")
    if now == "in_progress":  # an agent gave it back, and a server that is not ours calls it what it was
        server.call("tasks.stopped", {"task": task["id"], "status_reason": "dequeued with agent-task"})
        now = "stopped"
    shown = "a draft" if now == "created" else now
    return {"status": now, "said": f"out of its queue, {shown} again (agent-task enqueue {task['id']})"}


def move(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """Another place in its queue, or another queue."""
    if task["status"] != "queued":
        raise errors.Failure(f"task {task['id']} is {task['status']}, it stands in no queue", errors.TRY_AGAIN,
                             remedy=f"agent-task enqueue {task['id']}")
    _place(server, task)
    queue = {"id": task["execution"]["queue"], "name": ""}
    if values["queue"]:
        queue = find.queue(server, values["queue"])
        if queue["id"] != task["execution"]["queue"]:
            server.call("tasks.enqueue", {"task": task["id"], "queue": queue["id"]})
    body = {"queue": queue["id"], "task": task["id"]}
    if values["back"]:
        server.call("queues.move_task_to_back", body)
    elif values["up"]:
        server.call("queues.move_task_forward", {**body, "count": values["up"]})
    elif values["down"]:
        server.call("queues.move_task_backward", {**body, "count": values["down"]})
    elif values["front"] or not values["queue"]:
        server.call("queues.move_task_to_front", body)
    place = find.place_in_queue(server, queue["id"], task["id"])
    name = queue["name"] or find.queue_name(server, queue["id"])
    ahead = "it is next" if place == 1 else "it was pulled meanwhile" if place is None else f"{place - 1} before it"
    return {"status": "queued", "queue": name, "place": place, "said": f"in {name}, {ahead}"}


def _check_move(values: Mapping[str, Any]) -> None:
    for name in ("up", "down"):
        if values[name] is not None and values[name] < 1:
            raise errors.Failure(f"--{name} wants 1 or more", errors.USAGE)
    if sum(bool(values[name]) for name in ("front", "back", "up", "down")) > 1:
        raise errors.Failure("--front, --back, --up and --down: give one of them", errors.USAGE)


def _place(server: Any, task: dict[str, Any]) -> None:
    """Failure 75 when a queued task has been pulled already."""
    queue = (task.get("execution") or {}).get("queue")
    if not queue or find.place_in_queue(server, queue, task["id"]) is None:
        raise errors.Failure(f"task {task['id']} was pulled from its queue and is about to start", errors.TRY_AGAIN,
                             remedy=f"agent-task stop {task['id']}")


def resume(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """Queue an ended task again without a reset: its log goes on, iterations are counted on."""
    if task["status"] == "created":
        raise errors.Failure(f"task {task['id']} has not run yet", errors.TRY_AGAIN,
                             remedy=f"agent-task enqueue {task['id']}")
    if task["status"] == "queued":
        return {"status": "queued", "said": "waits in its queue already"}
    _refuse_running(task)
    if task["status"] in ("published", "publishing"):
        raise _published(task)
    before = (task.get("execution") or {}).get("queue")
    queue = find.queue(server, values["queue"] or before or "")
    # a completed task is queued by force only; its log and results stay
    server.call("tasks.enqueue", {"task": task["id"], "queue": queue["id"], "force": True,
                                  "status_reason": "continued with agent-task"})
    from agentpipe.run import former
    before = former.working_directory(task["id"])
    found = "" if (task.get("container") or {}).get("image") else f", which its script finds as {former.VARIABLE} here"
    kept = f"; what it has saved in its own directory stands in {before}{found}" if before else ""
    return {"status": "queued", "queue": queue["name"],
            "said": f"waits in {queue['name']} with log and results{kept}; {queueing.next_step(server, queue)}"}


def reset(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """A draft again."""
    if task["status"] == "created":
        return {"status": "created", "said": "a draft already"}
    _refuse_running(task)
    if task["status"] == "queued":
        return dequeue(server, task, values)
    said: list[str] = []
    queueing.reset(server, task, said.append)
    return {"status": "created", "said": "; ".join(said) or "a draft again"}


def archive(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """Out of its queue, and out of sight."""
    if "archived" in (task.get("system_tags") or []):
        return {"status": task["status"], "said": "archived already"}
    _refuse_running(task)
    _many(server, "tasks.archive_many", task)
    # one that waited is what it was before
    now = find.task(server, task["id"], ("status",))["status"] if task["status"] == "queued" else task["status"]
    return {"status": now, "said": f"archived (agent-task unarchive {task['id']})"}


def unarchive(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """Back in sight."""
    if "archived" not in (task.get("system_tags") or []):
        return {"status": task["status"], "said": "not archived"}
    _many(server, "tasks.unarchive_many", task)
    return {"status": task["status"], "said": "no longer archived"}


def delete(server: Any, task: dict[str, Any], values: Mapping[str, Any]) -> Told:
    """Gone for good; its files on this machine stay until they are too old."""
    _refuse_running(task)
    if task["status"] == "queued":
        raise errors.Failure(f"task {task['id']} waits in a queue", errors.TRY_AGAIN,
                             remedy=f"agent-task dequeue {task['id']}")
    if task["status"] == "published" and not values["force"]:
        raise _published(task)
    mild = task["status"] == "created" or "archived" in (task.get("system_tags") or [])
    if not mild and not values["force"]:
        raise errors.Failure(f"task {task['id']} has ended and is not archived", errors.TRY_AGAIN,
                             remedy=f"agent-task archive {task['id']}, or agent-task delete --force {task['id']}")
    try:
        gone = server.call("tasks.delete", {"task": task["id"], "force": bool(values["force"]),
                                            "return_file_urls": server.embedded})
    except errors.ApiError as error:
        if error.subcode != 123:
            raise
        raise errors.Failure(f"task {task['id']} has published models or children", errors.TRY_AGAIN,
                             remedy="delete --force takes it away all the same") from None
    if server.embedded:  # a server does it by itself
        from agentpipe.transport import artifact_files
        artifact_files.discard(gone["urls"]["brought_urls"])
    return {"status": "deleted", "said": "deleted"}


def _many(server: Any, endpoint: str, task: dict[str, Any]) -> None:
    answer = server.call(endpoint, {"ids": [task["id"]]})
    for failed in answer.get("failed") or []:
        raise errors.Failure(f"task {task['id']}: {(failed.get('error') or {}).get('msg', 'refused')}",
                             errors.TRY_AGAIN)


def _refuse_running(task: dict[str, Any]) -> None:
    if task["status"] == "in_progress":
        raise errors.Failure(f"task {task['id']} is running", errors.TRY_AGAIN, remedy=f"agent-task stop {task['id']}")


def _published(task: dict[str, Any]) -> errors.Failure:
    return errors.Failure(f"task {task['id']} is published and stays as it is", errors.NO_PERMISSION,
                          remedy=f"agent-task clone {task['id']}")


DOES = {"stop": stop, "dequeue": dequeue, "move": move, "continue": resume, "reset": reset, "archive": archive,
        "unarchive": unarchive, "delete": delete}
