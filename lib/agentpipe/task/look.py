"""agent-task list, show, log and why: what each prints of the tasks that are there."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agentpipe import errors, find, secrets
from agentpipe.task import log_output, logs, named, view
from agentpipe.task import why as whys
from agentpipe.task.output import columns, put, say
from agentpipe.transport import api


def listing(values: Mapping[str, Any]) -> None:
    """The newest tasks."""
    from agentpipe.task import listing
    rows = listing.rows(api.connect(), values)
    if values["json"]:
        for row in rows:
            put(json.dumps(row) + "\n")
        return
    found = list(rows)
    if not found and os.isatty(2):
        say("no task fits")
    put(listing.text(found, listing.columns(values["columns"]), columns()))


def log(values: Mapping[str, Any]) -> None:
    """The log; with --follow until the task has ended, whose status is said then."""
    if values["stream"] not in (None, "setup", "log"):
        raise errors.Failure(f"no stream `{values['stream']}`: setup or log", errors.USAGE)
    if values["lines"] is not None and values["lines"] < 1:
        raise errors.Failure("--lines wants 1 or more", errors.USAGE)
    server = api.connect()
    task = find.task(server, values["task"], ("status",))["id"]
    choice = partial(log_output.Choice, values["stream"], values["errors"])
    begin = find.moment(values["since"], "--since")
    reader = logs.Reader(server, task, begin)
    show = log_output.Output(choice(), values["json"], by_line=bool(values["errors"] or values["lines"]))
    read = False
    if values["lines"]:
        read = _at_the_last(values["lines"], reader, logs.Reader(server, task, begin), show, choice)
    if values["follow"]:
        status = logs.follow(reader, show, say)
        say(f"{task}: {status}" + (f" (agent-task why {task})" if status == "failed" else ""))
    elif not read:
        for event in reader.events():
            show.put(event)


def _at_the_last(count: int, reader: logs.Reader, counting: logs.Reader, show: log_output.Output,
                 choice: Callable[[], log_output.Choice]) -> bool:
    """Have only the last lines shown; whether they are already.

    They may be more than memory holds. So where they are not among the newest events, all is read by `counting`, for
    the number of lines, before `reader` reads it again.
    """
    def enough(events: list[dict[str, Any]]) -> bool:
        return log_output.lines(events, choice()) > count  # the first may begin within a line

    events = reader.newest(enough) if not show.errors else None
    show.skip = max(0, log_output.lines(counting.events() if events is None else events, choice()) - count)
    for event in events or []:
        show.put(event)
    return events is not None


def show(words: list[str], as_json: bool) -> int:
    """Tasks, whole."""
    server = api.connect()

    def one(word: str) -> None:
        task = find.task(server, word)
        put(json.dumps(secrets.shown(task)) + "\n" if as_json else view.page(server, task))
    return named.each(words, one, say)


def why(words: list[str], as_json: bool) -> int:
    """The cause, the evidence and the remedy."""
    server = api.connect()

    def one(word: str) -> None:
        found = whys.why(server, find.task(server, word))
        put(json.dumps(found) + "\n" if as_json else whys.text(found))
    return named.each(words, one, say)
