"""A task's log as a person reads it: whole, in order, and followed until the task has ended."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from agentpipe import errors, find, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.log_output import Output

COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")

FIRST_PAGE, PAGE = 4, 500  # events, each a batch of lines: the first of a long log are soon on the screen
PAGE_OURS = 10_000  # of a script that sends each line as an event of its own
GROWTH = 5  # of a page of the last events, until it has enough
PAGE_BYTES = 16 << 20  # about: ours have up to 256 KiB each, and a log may be larger than the memory
LOOK_S = 0.1  # how often a follower asks the embedded store's change mark
LOOK_OURS_S, LOOK_HTTP_S = 0.25, 0.7  # at agent-server, at any other


class Reader:
    """Reads on from where it was. The embedded store numbers events by arrival; of another server the time counts.

    `begin`: only events since then, in seconds since the epoch.
    """

    def __init__(self, api: Any, task: str, begin: float | None = None) -> None:
        self.api, self.task = api, task
        self._begin = int((begin or 0) * 1000)
        self._after = 0
        self._time = self._begin
        self._size = FIRST_PAGE
        self._seen: set[tuple[Any, ...]] = set()  # events of the last time

    def events(self) -> Iterator[dict[str, Any]]:
        """All events that are there now and were not given yet."""
        while True:
            size = self._size
            count, page, more = self._page_after(size) if self.api.ours else self._page_since(size)
            read = 0
            for event in page:
                read += len(event.get("msg") or "")
                yield event
            if count < size and not more:
                return
            self._size = min(2 * size, PAGE)
            if self.api.ours:  # of another server a page must go beyond all events of one time
                self._size = max(FIRST_PAGE, min(2 * size, PAGE_OURS, PAGE_BYTES * count // max(1, read)))

    def newest(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]] | None:
        """The last events, as many as enough() wants to see, in the order of their time; events() goes on behind them.

        None when so many are no small part of a log: then all have to be read.
        """
        size = FIRST_PAGE
        while size <= PAGE:
            body = {"task": self.task, "batch_size": size, "navigate_earlier": True, "order": "asc"}
            answer = self.api.call("events.get_task_log", body)
            found, more = answer["events"], "more" in answer
            fits = [event for event in found if event["timestamp"] >= self._begin]
            if (len(found) < size and not more) or len(fits) < len(found) or enough(fits):
                return fits if self._is_behind(answer) else None
            if more or sum(len(event.get("msg") or "") for event in found) > PAGE_BYTES // GROWTH:
                return None
            size *= GROWTH
        return None

    def _is_behind(self, answer: dict[str, Any]) -> bool:
        """Go on behind an answer's newest events; False where an older agent-server does not tell how."""
        if self.api.ours:
            self._after = answer.get("last", 0)
            return "last" in answer
        for event in answer["events"]:
            self._note(event)
        return True

    def _page_after(self, size: int) -> tuple[int, list[dict[str, Any]], bool]:
        answer = self.api.call("events.get_task_log", {"task": self.task, "batch_size": size, "after": self._after,
                                                       "navigate_earlier": False})
        self._after = answer["last"]
        events = answer["events"]
        return len(events), [event for event in events if event["timestamp"] >= self._begin], "more" in answer

    def _page_since(self, size: int) -> tuple[int, list[dict[str, Any]], bool]:
        # from_timestamp is exclusive, and events of its millisecond may still come
        body = {"task": self.task, "batch_size": size, "navigate_earlier": False, "order": "asc"}
        if self._time:
            body["from_timestamp"] = self._time - 1
        answer = self.api.call("events.get_task_log", body)
        found, events = [], answer["events"]
        for event in events:
            if self._note(event):
                found.append(event)
        # a page of nothing but what was seen leads nowhere
        return (len(events) if found else 0), found, bool(found) and "more" in answer

    def _note(self, event: dict[str, Any]) -> bool:
        """Whether an event, none of which is older than the one before, is new."""
        mark = (event["timestamp"], event.get("stream"), event.get("offset"), event.get("msg"))
        if mark in self._seen:
            return False
        if event["timestamp"] > self._time:
            self._time, self._seen = event["timestamp"], set()
        self._seen.add(mark)
        return True


def follow(reader: Reader, show: Output, say: Callable[[str], None]) -> str:
    """Show every event as it comes, until the task has ended; its last status."""
    api, task, told, mark = reader.api, reader.task, "", None
    while True:
        mark = api.changed(mark) if api.embedded else None
        # the status first: whoever ends a task has sent its log before
        status, queue = state(api, task)
        for event in reader.events():
            show.put(event)
        if status in find.ENDED:
            return status
        if status != told:
            told = status
            if status == "created":
                say(f"a draft, in no queue yet: agent-task enqueue {task}")
            elif status == "queued" and queue:
                say(f"waits in {find.queue_name(api, queue)}")
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


def tail(api: Any, task: str, count: int, events: int = 50) -> list[str]:
    """The last lines that the script printed, out of the last so many events."""
    body = {"task": task, "batch_size": events, "navigate_earlier": True, "order": "asc"}
    found = api.call("events.get_task_log", body)["events"]
    printed = [text_of(event) for event in found if event.get("stream", "log") == "log"]
    lines = b"".join(printed).decode("utf-8", "replace").splitlines()
    return lines[-count:]


def last(api: Any, task: str) -> tuple[str, str] | None:
    """(ISO time, text) of the last line of a task's log, the agent's own lines included; None of an empty one."""
    body = {"task": task, "batch_size": 5, "navigate_earlier": True, "order": "desc"}
    for event in api.call("events.get_task_log", body)["events"]:
        lines = [line for line in text_of(event).decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return units.iso(event["timestamp"] / 1000), COLOUR.sub(b"", lines[-1].encode()).decode()
    return None
