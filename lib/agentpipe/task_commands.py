"""agent-task's commands: what each prints, out of what the other task_* modules find."""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from agentpipe import capture, command, errors, task_edit, task_enqueue, task_find, task_log, task_view, task_watch
from agentpipe import why as whys


def say(line: str) -> None:
    """A line for people, on stderr."""
    command.say(f"agent-task: {line}")


def put(text: str) -> None:
    """Text on stdout."""
    command.put(text.encode("utf-8", "surrogateescape"))


def enqueue(api: Any, wish: capture.Wish, queue: str, create_queue: bool, name: str, project: str | None,
            dry_run: bool, as_json: bool) -> None:
    """A new task, or a new run of an existing one; prints its id."""
    if not wish.module and not wish.repo and not os.path.isfile(wish.script):
        _enqueue_again(api, wish, queue, create_queue, dry_run, as_json)
        return
    found = capture.capture(wish)
    for what, remedy in found.warnings:
        say(f"warning: {what} ({remedy})")
    for note in found.notes:
        say(note)
    if dry_run:
        put(json.dumps(task_enqueue.body(found, name, None), indent=2) + "\n")
        return
    where = task_find.queue(api, queue, create_queue)
    _queued(api, task_enqueue.new(api, found, name, project, where), where, as_json)


def _enqueue_again(api: Any, wish: capture.Wish, queue: str, create: bool, dry_run: bool, as_json: bool) -> None:
    try:
        task = task_find.task(api, wish.script)
    except errors.Failure as failure:
        if failure.exit != errors.NOT_FOUND:
            raise
        raise errors.Failure(f"{wish.script} is neither a file nor a task", errors.NOT_FOUND,
                             remedy="agent-task list") from None
    if wish.args or wish.requirements or wish.binary or wish.branch or wish.commit or wish.working_dir:
        raise errors.Failure(f"{task['id']} is a task already: change it first", errors.USAGE,
                             remedy=f"agent-task edit {task['id']} …")
    if dry_run:
        put(json.dumps({"task": task["id"], "status": task["status"]}) + "\n")
        return
    where = task_find.queue(api, queue, create) if queue else None
    _queued(api, task["id"], task_enqueue.again(api, task, where, say), as_json)


def _queued(api: Any, task: str, queue: dict[str, Any], as_json: bool) -> None:
    put((json.dumps({"task": task, "queue": queue["name"]}) if as_json else task) + "\n")
    if os.isatty(2):
        say(f"waits in {queue['name']}; {task_enqueue.next_step(api, queue)}")


def edit(api: Any, word: str, wanted: Mapping[str, Any], as_json: bool) -> None:
    """Change a task; says what changed. The id is for people and --json: `edit && enqueue` prints one id, once."""
    task = task_find.task(api, word)
    changed = task_edit.edit(api, task, wanted, say)
    if as_json:
        put(json.dumps({"task": task["id"], "changed": changed}) + "\n")
    elif os.isatty(1):
        put(task["id"] + "\n")
    if os.isatty(2):
        then = f"; agent-task enqueue {task['id']}" if changed != ["name"] else ""
        say(f"changed {', '.join(changed)}{then}")


def listing(api: Any, statuses: list[str], queue: str, name: str, limit: int, as_json: bool) -> None:
    """The newest tasks."""
    rows = task_view.table(api, statuses, queue, name, limit)
    width = shutil.get_terminal_size().columns if os.isatty(1) else None
    put("".join(json.dumps(row) + "\n" for row in rows) if as_json else task_view.table_text(rows, width))


def log(api: Any, word: str, follow: bool, stream: str, as_json: bool) -> None:
    """The log; with `follow` until the task has ended, whose status is said then."""
    if stream not in ("", "setup", "log"):
        raise errors.Failure(f"no stream `{stream}`: setup or log", errors.USAGE)
    task = task_find.task(api, word, ("status",))["id"]
    write = task_log.writer(stream or None, as_json)
    if follow:
        status = task_log.follow(api, task, write, say)
        say(f"{task}: {status}" + (f" (agent-task why {task})" if status == "failed" else ""))
        return
    for event in task_log.Reader(api, task).events():
        write(event)


def show(api: Any, word: str, as_json: bool) -> None:
    """One task."""
    task = task_find.task(api, word)
    put(json.dumps(task) + "\n" if as_json else task_view.page(api, task))


def stop(api: Any, words: list[str]) -> None:
    """Stop tasks; says of each what follows."""
    for word in words:
        task = task_find.task(api, word, ("status", "runtime"))
        if task["status"] in task_find.ENDED:
            say(f"{task['id']} is {task['status']} already")
            continue
        left = task_watch.unwatched(task)
        fields = api.call("tasks.stop", {"task": task["id"], "status_reason": "stopped with agent-task",
                                         "force": task["status"] == "created"})["fields"]
        say(f"{task['id']}: {_what_follows(task['id'], fields.get('status') == 'in_progress', left)}")


def _what_follows(task: str, waits: bool, left: str) -> str:
    if waits and left == "script":
        return ("asked to stop, but nobody watches its script here: it ends once an agent takes it over "
                f"(agent-pull --id {task} | agent-run)")
    if waits and left:
        return f"asked to stop, but nobody works on it any more: the next agent-pull ends it (agent-pull --id {task})"
    if left == "script":
        from agentpipe import attempt
        pid = (attempt.pid_record(attempt.latest(task) or "") or "").split(" ")[0]
        return "stopped; its script still runs here, and nobody watches it" + (f" (kill -- -{pid})" if pid else "")
    return "its worker is told to stop it" if waits else "stopped"


def why(api: Any, word: str, as_json: bool) -> None:
    """The cause, the evidence and the remedy."""
    found = whys.why(api, task_find.task(api, word))
    put(json.dumps(found) + "\n" if as_json else whys.text(found))
