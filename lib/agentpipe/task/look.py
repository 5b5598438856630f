"""agent-task list, show, log and why: what each prints of the tasks that are there."""

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from agentpipe import errors, find
from agentpipe.task import logs, named, view
from agentpipe.task import why as whys
from agentpipe.task.output import put, say
from agentpipe.transport import api


def listing(values: Mapping[str, Any]) -> None:
    """The newest tasks."""
    from agentpipe.task import listing
    rows = listing.rows(api.connect(), values)
    if values["json"]:
        for row in rows:
            put(json.dumps(row) + "\n")
        return
    width = shutil.get_terminal_size().columns if os.isatty(1) else None
    found = list(rows)
    if not found and os.isatty(2):
        say("no task fits")
    put(listing.text(found, listing.columns(values["columns"]), width))


def log(values: Mapping[str, Any]) -> None:
    """The log; with --follow until the task has ended, whose status is said then."""
    if values["stream"] not in (None, "setup", "log"):
        raise errors.Failure(f"no stream `{values['stream']}`: setup or log", errors.USAGE)
    if values["lines"] is not None and values["lines"] < 1:
        raise errors.Failure("--lines wants 1 or more", errors.USAGE)
    server = api.connect()
    task = find.task(server, values["task"], ("status",))["id"]
    show = logs.Shown(values["stream"], values["errors"], values["json"], values["lines"])
    begin = find.moment(values["since"], "--since")
    if values["follow"]:
        status = logs.follow(server, task, show, say, begin)
        say(f"{task}: {status}" + (f" (agent-task why {task})" if status == "failed" else ""))
        return
    events = logs.newest(server, task, show, begin) if values["lines"] and not values["errors"] else None
    for event in logs.Reader(server, task, begin).events() if events is None else events:
        show.put(event)
    show.end()


def show(words: list[str], as_json: bool) -> int:
    """Tasks, whole."""
    server = api.connect()

    def one(word: str) -> None:
        task = find.task(server, word)
        put(json.dumps(task) + "\n" if as_json else view.page(server, task))
    return named.each(words, one, say)


def why(words: list[str], as_json: bool) -> int:
    """The cause, the evidence and the remedy."""
    server = api.connect()

    def one(word: str) -> None:
        found = whys.why(server, find.task(server, word))
        put(json.dumps(found) + "\n" if as_json else whys.text(found))
    return named.each(words, one, say)
