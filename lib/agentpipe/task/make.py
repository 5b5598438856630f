"""agent-task enqueue, create, clone and edit: what each prints of the tasks that it makes or changes."""

import json
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from agentpipe import errors, find, secrets
from agentpipe.capture import capture
from agentpipe.task import container_options, edits, named, queueing, typed
from agentpipe.task.output import put, say
from agentpipe.transport import api

OF_A_NEW_TASK = ("requirements", "python", "binary", "branch", "commit", "working_dir", "bundle", "include", "name",
                 "project", "tag", "docker", "docker_args", "setup_script")
FILE = re.compile(r"/|\.(?:py|ipynb|sh|bash)$")  # in a word that means a script, whatever tasks are called


def enqueue(wish: capture.Wish, values: Mapping[str, Any]) -> int:
    """A new task, or a new run of existing ones; prints ids."""
    server = api.connect()
    if wish.script == "-":
        return named.each(["-"], lambda word: _enqueue_again(server, word, values), say)
    if not wish.module and not wish.repo and not os.path.isfile(wish.script):
        _enqueue_again(server, wish.script, values)
        return 0
    found = _captured(wish, values)
    if values["dry_run"]:
        _shown(found, values)
        return 0
    where = find.queue(server, values["queue"] or "", values["create_queue"])
    id = queueing.new(server, found, values["name"] or "", values["project"], where, values["tag"], say)
    _queued(server, id, where, values["json"])
    return 0


def create(wish: capture.Wish, values: Mapping[str, Any]) -> int:
    """A new draft; prints its id."""
    if not wish.module and not wish.repo and not os.path.isfile(wish.script):
        what = f"{wish.script} is a folder, not a script" if os.path.isdir(wish.script) else f"no file `{wish.script}`"
        raise errors.Failure(what, errors.NOT_FOUND, remedy="agent-task create --help")
    found = _captured(wish, values)
    if values["dry_run"]:
        _shown(found, values)
        return 0
    id = queueing.draft(api.connect(), found, values["name"] or "", values["project"], values["tag"], say)
    put((json.dumps({"task": id}) if values["json"] else id) + "\n")
    if os.isatty(2):
        say(f"a draft: agent-task enqueue {id}")
    return 0


def _shown(found: capture.Captured, values: Mapping[str, Any]) -> None:
    body = queueing.body(found, values["name"] or "", None, values["tag"])
    put(json.dumps(secrets.shown(body), indent=2) + "\n")


def _captured(wish: capture.Wish, values: Mapping[str, Any]) -> capture.Captured:
    container = container_options.changed(values)
    found = capture.capture(wish)
    found.container = container
    if not values["name"] and len(found.name.strip()) < typed.SHORTEST_NAME:
        found.name = f"{found.name.strip()} task"
        found.notes.append(f"its name is `{found.name}`: a server takes none of fewer than {typed.SHORTEST_NAME} "
                           "characters (--name TEXT)")
    if found.bundle:
        found.notes += found.bundle.told()
    if (container or {}).get("arguments") and not (container or {}).get("image"):
        found.notes.append("--docker-args go with an image: without --docker a worker that has one of its own leaves "
                           "them out, unless a rule of its match_rules names it")
    for what, remedy in found.warnings:
        say(f"warning: {what} ({remedy})")
    for note in found.notes:
        say(note)
    if values["check"]:
        from agentpipe.task import enqueue_check
        enqueue_check.check(found.script, found.bundle, say, unreachable=found.unreachable)
    return found


def _enqueue_again(server: Any, word: str, values: Mapping[str, Any]) -> None:
    task = _to_queue_again(server, word)
    _refuse_changes(server, task, values)
    if values["check"]:
        from agentpipe.task import enqueue_check
        enqueue_check.check(task.get("script") or {}, None, say, (task.get("execution") or {}).get("artifacts"))
    if values["dry_run"]:
        put(json.dumps({"task": task["id"], "status": task["status"]}) + "\n")
        return
    where = find.queue(server, values["queue"], values["create_queue"]) if values["queue"] else None
    _queued(server, task["id"], queueing.again(server, task, where, say), values["json"])


def _to_queue_again(server: Any, word: str) -> dict[str, Any]:
    """The task of that word; Failure 66 when there is none, or when it is the name of a script.

    A task is called as its script is unless somebody named it: in the wrong folder, a new run of that task, which
    wipes its results, is not what was asked for.
    """
    like_a_file = FILE.search(word)
    wrong = f"`{word}` is a script, not a task" if os.path.isfile(word) else f"no file `{word}` here"
    try:
        task = find.task(server, word)
    except errors.Failure as failure:
        if failure.exit == errors.BAD_DATA and like_a_file:
            raise errors.Failure(wrong, errors.NOT_FOUND,
                                 remedy=f"{failure.reason}: agent-task enqueue ID") from None
        if failure.exit != errors.NOT_FOUND:
            raise
        what = f"{word} is a folder, not a script" if os.path.isdir(word) else f"`{word}` is neither a file nor a task"
        raise errors.Failure(what, errors.NOT_FOUND, remedy="agent-task list") from None
    if like_a_file and task["id"] != word:
        raise errors.Failure(wrong, errors.NOT_FOUND,
                             remedy=f"a task of that name: agent-task enqueue {task['id']}")
    return task


def _refuse_changes(server: Any, task: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Failure 64 when options say how a new task is to be: of one that is there enqueue changes nothing."""
    id = task["id"]
    given = ["--" + option.replace("_", "-") for option in OF_A_NEW_TASK if values[option] not in (None, False, [])]
    remedy = f"agent-task edit {id} {' … '.join(given)} …, then agent-task enqueue {id}"
    if values["args"] and _is_task(server, values["args"][0]):
        words = shlex.join([values["script"], *values["args"]])
        raise errors.Failure("enqueue takes one task, or - for those of standard input", errors.USAGE,
                             remedy=f"printf '%s\\n' {words} | agent-task enqueue -")
    if values["args"]:
        queue = values["queue"] or find.queue_name(server, (task.get("execution") or {}).get("queue")) or "default"
        given = [*given, "-- ARGS"]
        words = shlex.join(values["args"])
        words = words if secrets.shown(words) == words else "ARGS"
        remedy = f"agent-task clone {id} --queue {shlex.quote(queue)} -- {words}"
    if given:
        raise errors.Failure(f"{id} is a task already, and enqueue does not change it: {', '.join(given)}",
                             errors.USAGE, remedy=remedy)


def _is_task(server: Any, word: str) -> bool:
    try:
        return bool(find.task(server, word, ("status",)))
    except errors.Failure as failure:
        return failure.exit == errors.BAD_DATA  # several


def _queued(server: Any, task: str, queue: dict[str, Any], as_json: bool) -> None:
    put((json.dumps({"task": task, "queue": queue["name"]}) if as_json else task) + "\n")
    if os.isatty(2):
        say(f"waits in {queue['name']}; {queueing.next_step(server, queue)}")


def clone(wanted: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """A task like another; prints its id."""
    from agentpipe.task import clones
    server = api.connect()
    queue = find.queue(server, values["queue"], values["create_queue"]) if values["queue"] else None
    id = clones.clone(server, find.task(server, values["task"]), wanted, say)
    if queue:
        queueing.enqueue_new(server, id, queue)
        _queued(server, id, queue, values["json"])
        return 0
    put((json.dumps({"task": id}) if values["json"] else id) + "\n")
    if os.isatty(2):
        say(f"a draft: agent-task enqueue {id}")
    return 0


def edit(wanted: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Change a task; what changed is for people, and for --json: the id is known to whoever types it."""
    server = api.connect()
    task = find.task(server, values["task"])
    changed = edits.edit(server, task, wanted, say)
    if values["json"]:
        put(json.dumps({"task": task["id"], "changed": changed}) + "\n")
    elif os.isatty(2):
        then = f"; a draft until agent-task enqueue {task['id']}" if set(changed) - set(edits.LABELS) else ""
        say(f"changed {', '.join(changed)}{then}")
    return 0
