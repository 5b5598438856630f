"""agent-task's commands: what each prints, out of what the other task_* modules find."""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from agentpipe import (
    api,
    capture,
    command,
    errors,
    task_container,
    task_edit,
    task_enqueue,
    task_find,
    task_log,
    task_view,
)
from agentpipe import why as whys


def say(line: str) -> None:
    """A line for people, on stderr."""
    command.say(f"agent-task: {line}")


def put(text: str) -> None:
    """Text on stdout."""
    command.put(text.encode("utf-8", "surrogateescape"))


def enqueue(wish: capture.Wish, values: Mapping[str, Any]) -> int:
    """A new task, or a new run of existing ones; prints ids."""
    server = api.connect()
    if wish.script == "-":
        return task_find.each(["-"], lambda word: _enqueue_again(server, wish, word, values), say)
    if not wish.module and not wish.repo and not os.path.isfile(wish.script):
        _enqueue_again(server, wish, wish.script, values)
        return 0
    found = _captured(wish, values)
    if values["dry_run"]:
        put(json.dumps(task_enqueue.body(found, values["name"] or "", None, values["tag"]), indent=2) + "\n")
        return 0
    where = task_find.queue(server, values["queue"] or "", values["create_queue"])
    id = task_enqueue.new(server, found, values["name"] or "", values["project"], where, values["tag"], say)
    _queued(server, id, where, values["json"])
    return 0


def create(wish: capture.Wish, values: Mapping[str, Any]) -> int:
    """A new draft; prints its id."""
    if not wish.module and not wish.repo and not os.path.isfile(wish.script):
        raise errors.Failure(f"no file {wish.script}", errors.NOT_FOUND, remedy="agent-task create --help")
    found = _captured(wish, values)
    if values["dry_run"]:
        put(json.dumps(task_enqueue.body(found, values["name"] or "", None, values["tag"]), indent=2) + "\n")
        return 0
    id = task_enqueue.draft(api.connect(), found, values["name"] or "", values["project"], values["tag"], say)
    put((json.dumps({"task": id}) if values["json"] else id) + "\n")
    if os.isatty(2):
        say(f"a draft: agent-task enqueue {id}")
    return 0


def _captured(wish: capture.Wish, values: Mapping[str, Any]) -> capture.Captured:
    container = task_container.changed(values)
    found = capture.capture(wish)
    found.container = container
    if found.bundle:
        found.notes += found.bundle.told()
    for what, remedy in found.warnings:
        say(f"warning: {what} ({remedy})")
    for note in found.notes:
        say(note)
    if values["check"]:
        from agentpipe import enqueue_check
        enqueue_check.check(found.script, found.bundle, say, unreachable=found.unreachable)
    return found


def _enqueue_again(server: Any, wish: capture.Wish, word: str, values: Mapping[str, Any]) -> None:
    try:
        task = task_find.task(server, word)
    except errors.Failure as failure:
        if failure.exit != errors.NOT_FOUND:
            raise
        raise errors.Failure(f"{word} is neither a file nor a task", errors.NOT_FOUND,
                             remedy="agent-task list") from None
    if wish.args or wish.requirements or wish.binary or wish.branch or wish.commit or wish.working_dir or wish.bundle:
        raise errors.Failure(f"{task['id']} is a task already: change it first", errors.USAGE,
                             remedy=f"agent-task edit {task['id']} …")
    if values["check"]:
        from agentpipe import enqueue_check
        enqueue_check.check(task.get("script") or {}, None, say, (task.get("execution") or {}).get("artifacts"))
    if values["dry_run"]:
        put(json.dumps({"task": task["id"], "status": task["status"]}) + "\n")
        return
    where = task_find.queue(server, values["queue"], values["create_queue"]) if values["queue"] else None
    _queued(server, task["id"], task_enqueue.again(server, task, where, say), values["json"])


def _queued(server: Any, task: str, queue: dict[str, Any], as_json: bool) -> None:
    put((json.dumps({"task": task, "queue": queue["name"]}) if as_json else task) + "\n")
    if os.isatty(2):
        say(f"waits in {queue['name']}; {task_enqueue.next_step(server, queue)}")


def clone(wanted: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """A task like another; prints its id."""
    from agentpipe import task_clone
    server = api.connect()
    queue = task_find.queue(server, values["queue"], values["create_queue"]) if values["queue"] else None
    id = task_clone.clone(server, task_find.task(server, values["task"]), wanted, say)
    if queue:
        server.call("tasks.enqueue", {"task": id, "queue": queue["id"]})
        _queued(server, id, queue, values["json"])
        return 0
    put((json.dumps({"task": id}) if values["json"] else id) + "\n")
    if os.isatty(2):
        say(f"a draft: agent-task enqueue {id}")
    return 0


def edit(wanted: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Change a task; says what changed. The id is for people and --json: `edit && enqueue` prints one id, once."""
    server = api.connect()
    task = task_find.task(server, values["task"])
    changed = task_edit.edit(server, task, wanted, say)
    if values["json"]:
        put(json.dumps({"task": task["id"], "changed": changed}) + "\n")
    elif os.isatty(1):
        put(task["id"] + "\n")
    if os.isatty(2):
        then = f"; agent-task enqueue {task['id']}" if set(changed) - set(task_edit.LABELS) else ""
        say(f"changed {', '.join(changed)}{then}")
    return 0


def listing(values: Mapping[str, Any]) -> None:
    """The newest tasks."""
    from agentpipe import task_list
    rows = task_list.rows(api.connect(), values)
    if values["json"]:
        for row in rows:
            put(json.dumps(row) + "\n")
        return
    width = shutil.get_terminal_size().columns if os.isatty(1) else None
    put(task_list.text(list(rows), task_list.columns(values["columns"]), width))


def log(values: Mapping[str, Any]) -> None:
    """The log; with --follow until the task has ended, whose status is said then."""
    if values["stream"] not in (None, "setup", "log"):
        raise errors.Failure(f"no stream `{values['stream']}`: setup or log", errors.USAGE)
    if values["lines"] is not None and values["lines"] < 1:
        raise errors.Failure("--lines wants 1 or more", errors.USAGE)
    server = api.connect()
    task = task_find.task(server, values["task"], ("status",))["id"]
    show = task_log.Shown(values["stream"], values["errors"], values["json"], values["lines"])
    begin = task_find.moment(values["since"], "--since")
    if values["follow"]:
        status = task_log.follow(server, task, show, say, begin)
        say(f"{task}: {status}" + (f" (agent-task why {task})" if status == "failed" else ""))
        return
    for event in task_log.Reader(server, task, begin).events():
        show.put(event)
    show.end()


def show(words: list[str], as_json: bool) -> int:
    """Tasks, whole."""
    server = api.connect()

    def one(word: str) -> None:
        task = task_find.task(server, word)
        put(json.dumps(task) + "\n" if as_json else task_view.page(server, task))
    return task_find.each(words, one, say)


def why(words: list[str], as_json: bool) -> int:
    """The cause, the evidence and the remedy."""
    server = api.connect()

    def one(word: str) -> None:
        found = whys.why(server, task_find.task(server, word))
        put(json.dumps(found) + "\n" if as_json else whys.text(found))
    return task_find.each(words, one, say)
