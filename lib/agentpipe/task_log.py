"""A task's log as a person reads it: whole, in order, and followed until the task has ended."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from agentpipe import errors, task_find

PAGE = 500
LOOK_S = 0.1  # how often a follower asks the embedded store's change mark
LOOK_OURS_S, LOOK_HTTP_S = 0.25, 0.7  # at agent-server, at any other


class Reader:
    """Reads on from where it was. The embedded store numbers events by arrival; of another server the time counts."""

    def __init__(self, api: Any, task: str) -> None:
        self.api, self.task = api, task
        self._after = 0
        self._time = 0
        self._seen: set[tuple[Any, ...]] = set()  # events of the last time

    def events(self) -> Iterator[dict[str, Any]]:
        """All events that are there now and were not given yet."""
        while True:
            page = self._page_after() if self.api.ours else self._page_since()
            yield from page
            if len(page) < PAGE:
                return

    def _page_after(self) -> list[dict[str, Any]]:
        answer = self.api.call("events.get_task_log", {"task": self.task, "batch_size": PAGE, "after": self._after,
                                                       "navigate_earlier": False})
        self._after = answer["last"]
        return answer["events"]

    def _page_since(self) -> list[dict[str, Any]]:
        # from_timestamp is exclusive, and events of its millisecond may still come
        body = {"task": self.task, "batch_size": PAGE, "navigate_earlier": False, "order": "asc"}
        if self._time:
            body["from_timestamp"] = self._time - 1
        found = []
        for event in self.api.call("events.get_task_log", body)["events"]:
            mark = (event["timestamp"], event.get("stream"), event.get("offset"), event.get("msg"))
            if mark in self._seen:
                continue
            if event["timestamp"] > self._time:
                self._time, self._seen = event["timestamp"], set()
            self._seen.add(mark)
            found.append(event)
        return found


def follow(api: Any, task: str, put: Callable[[dict[str, Any]], None], say: Callable[[str], None]) -> str:
    """Give every event as it comes, until the task has ended; its last status."""
    reader, told, mark = Reader(api, task), "", None
    while True:
        mark = api.changed(mark)
        # the status first: whoever ends a task has sent its log before
        status, queue = state(api, task)
        for event in reader.events():
            put(event)
        if status in task_find.ENDED:
            return status
        if status != told:
            told = status
            if status == "created":
                say(f"a draft, in no queue yet: agent-task enqueue {task}")
            elif status == "queued" and queue:
                say(f"waits in {task_find.queue_name(api, queue)}")
        if not api.embedded:
            time.sleep(LOOK_OURS_S if api.ours else LOOK_HTTP_S)
            continue
        while api.changed(mark) == mark:
            time.sleep(LOOK_S)


def state(api: Any, task: str) -> tuple[str, str | None]:
    """(status, queue's id) of a task; Failure 66 when it was deleted."""
    found = api.call("tasks.get_all", {"id": [task], "only_fields": ["status", "execution.queue"],
                                       "search_hidden": True})["tasks"]
    if not found:
        raise errors.Failure(f"task {task} was deleted", errors.NOT_FOUND)
    return found[0]["status"], (found[0].get("execution") or {}).get("queue")


def text_of(event: dict[str, Any]) -> bytes:
    """An event's text as it was printed. Ours end where the lines end; the SDK's may lack the line's end."""
    text = event.get("msg") or ""
    if "offset" not in event and not text.endswith("\n"):
        text += "\n"
    return text.encode("utf-8", "surrogatepass")


def tail(api: Any, task: str, count: int) -> list[str]:
    """The last lines that the script printed."""
    body = {"task": task, "batch_size": 50, "navigate_earlier": True, "order": "asc"}
    events = api.call("events.get_task_log", body)["events"]
    printed = [text_of(event) for event in events if event.get("stream", "log") == "log"]
    lines = b"".join(printed).decode("utf-8", "replace").splitlines()
    return lines[-count:]


def writer(stream: str | None, as_json: bool) -> Callable[[dict[str, Any]], None]:
    """put(event) for stdout: the text of all events or of one stream ("setup", "log"), or JSON, one event a line."""
    import json

    def put(event: dict[str, Any]) -> None:
        if stream and event.get("stream", "log") != stream:
            return
        data = json.dumps(event).encode() + b"\n" if as_json else text_of(event)
        while data:
            data = data[os.write(1, data):]
    return put
