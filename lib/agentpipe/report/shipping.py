"""A task's log files → log events of the server, each byte acknowledged once, whatever dies in between."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable

from agentpipe import errors, paths, redact, terminal, untrusted
from agentpipe.files import publish
from agentpipe.report.logs import Stream
from agentpipe.settings import config, own_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EVENT = 64 << 10  # raw bytes an event at most, for servers that are not ours (the peer's limit)
BATCH = 1 << 20  # raw bytes a request at most (the peer's limit; a server takes 15 MB)
# stream, file, level: as the peer does, INFO for what the agent does and DEBUG for what the script prints
STREAMS = (("setup", "setup.log", "INFO"), ("log", "log", "DEBUG"))
# how long a real server may take until what it has accepted can be read back (Elasticsearch refreshes)
READ_BACK_S = 6.0
SUBCODE_ELSEWHERE = 139  # of agent-server: a stream is stored up to another position than the events go on from


class Shipper:
    """Ships `setup.log` and `log` of `directory` as log events of `task`; one at a time per directory.

    Each event names the claim, its stream and the raw bytes [offset, end) that it stands for. A server that
    knows claims keeps the position itself and takes no range twice; it may lose the last lines with its power, so it
    is asked again when there is a doubt, and at the end. For any other the file `reported` keeps the position, and
    after an unanswered batch the last lines are read back.
    """

    def __init__(self, api: Any, task: str, claim: str, directory: str, worker: str,
                 secrets: Iterable[str | bytes] = (), prefix: str = "") -> None:
        self.server_knows = bool(api.ours)  # until one of an older version has no events.get_log_position
        self._api, self._task, self._claim = api, task, claim
        self._directory, self._worker, self._prefix = directory, worker, prefix
        redactor = redact.Redactor({*own_secrets.known(), *secrets})
        rows = not config.flag("agent.suppress_carriage_return", True)
        folders = {"setup": directory, "log": paths.box(directory)}
        self._streams = [Stream(name, os.path.join(folders[name], file), redactor, rows) for name, file, _ in STREAMS]
        self._levels = {name: level for name, _, level in STREAMS}
        self._pending: list[dict[str, Any]] = []
        self._started = self._doubted = self._cut = self._left = False
        self._asks_at_end = not api.embedded  # a store on this machine loses its power with us
        self._unanswered: float | None = None
        self._stamp = 0
        self.sent = 0  # bytes that were acknowledged to us

    def ship(self, limit_bytes: int | None = None, final: bool = False) -> int:
        """Send what is new, in order, setup.log first; how many raw bytes were acknowledged.

        Whole lines only, while the files may grow; with `final` all that is there now. ApiError and Failure pass:
        what was not acknowledged is sent again by the next call.
        """
        self._start()
        for stream in self._streams:  # what we have to say meanwhile belongs to it
            stream.follow(final and stream.name == "log")
        if self.server_knows and (self._doubted or (final and self._asks_at_end)):
            self._go_back(self._positions({}))
            self._doubted, self._asks_at_end = False, self._asks_at_end and not final
        acknowledged = 0
        while not self._left and (limit_bytes is None or acknowledged < limit_bytes):
            if not self._pending and not self._gather(final):
                break
            acknowledged += self._send()
        return acknowledged

    def doubt(self) -> None:
        """The server was away: what it acknowledged before may be gone."""
        self._doubted = self._started

    def leave(self) -> None:
        """Another thread wants to go on: no further request is begun until close()."""
        self._left = True

    def close(self) -> None:
        """Let the files go; whoever goes on opens them again."""
        self._left = False
        for stream in self._streams:
            stream.close()

    def _start(self) -> None:
        if self._started:
            return
        from agentpipe.claim import claims
        noted = read_reported(self._directory)
        # then neither the end of a log nor what was noted last need be on the disk
        self._cut = not claims.is_of_this_boot(self._directory)
        positions = self._positions(noted)
        self._stamp = noted.get("stamp", 0)  # a clock may have been set back since
        before = noted.get("base", {})
        for stream in self._streams:
            if not self.server_knows:
                stream.chunk = EVENT
            stream.base = before.get(stream.name, 0)
            stream.seek(positions.get(stream.name, 0), self._cut)
        if any(stream.base != before.get(stream.name, 0) for stream in self._streams):
            self._note()
        if not self.server_knows and noted.get("sending") and positions == noted.get("positions", {}):
            self._unanswered = time.monotonic()  # a request of another process may still be under way
        self._started = True

    def _gather(self, final: bool) -> bool:
        """Fill one request; False when nothing is due."""
        room, now, shrank = BATCH, time.monotonic(), False
        for stream in self._streams:
            while room > 0 and (taken := stream.take(now, final)):
                text, offset, end = taken
                self._pending.append(self._event(stream.name, text, offset, end))
                room -= end - offset
            if stream.shrank:
                self._truncated(stream)
                shrank = True
        return shrank or bool(self._pending)

    def _event(self, stream: str, text: str, offset: int, end: int) -> dict[str, Any]:
        # always later than the one before: real servers do not keep the order of equal timestamps
        if self._prefix:
            text = "".join(self._prefix + line for line in terminal.lines(text))
        self._stamp = max(self._stamp + 1, time.time_ns() // 1_000_000)
        return {"type": "log", "level": self._levels[stream], "task": self._task, "worker": self._worker,
                "msg": text, "timestamp": self._stamp, "claim": self._claim, "stream": stream,
                "offset": offset, "end": end}

    def _send(self) -> int:
        if self._unanswered is not None:
            self._drop_arrived(self._unanswered)
        if not self._pending:
            return 0
        if not self.server_knows:
            self._note(sending=True)
        try:
            answer = self._api.call("events.add_batch", self._pending)
        except (errors.Failure, errors.ApiError) as error:
            if is_outage(error):
                self._unanswered = time.monotonic()
            if isinstance(error, errors.ApiError) and error.subcode == SUBCODE_ELSEWHERE \
                    and self._go_back(self._positions({})):
                return 0
            raise
        if answer.get("errors"):
            raise errors.ApiError(400, 131, "; ".join(answer.get("errors_info") or ["no event was added"]))
        size = sum(event["end"] - event["offset"] for event in self._pending)
        self._pending = []
        self.sent += size
        if not self.server_knows:
            self._note()
        return size

    def _drop_arrived(self, since: float) -> None:
        """After a request without an answer: forget what the server has all the same."""
        positions = self._positions({})
        if self.server_knows:
            self._go_back(positions)
        else:
            self._pending = [event for event in self._pending if event["end"] > positions.get(event["stream"], 0)]
        if self._pending and not self.server_knows and time.monotonic() - since < READ_BACK_S:
            raise errors.Failure("the server does not show yet whether it got the last lines",
                                 errors.TRY_AGAIN)
        self._unanswered = None

    def _go_back(self, positions: dict[str, int]) -> bool:
        """Go on from where the server says that each stream is; whether that is elsewhere than we thought.

        It has lost lines that it had acknowledged (its power failed), or another process of ours has sent some.
        """
        moved = False
        for stream in self._streams:
            position = positions.get(stream.name, 0)
            waiting = [event for event in self._pending if event["stream"] == stream.name]
            here = waiting[0]["offset"] if waiting else stream.start
            if position == here:
                continue
            moved = True
            if any(event["end"] == position for event in waiting):
                waiting = [event for event in waiting if event["end"] > position]
            else:
                waiting = []
                stream.seek(position)
            self._pending = [event for event in self._pending if event["stream"] != stream.name] + waiting
        return moved

    def _positions(self, noted: dict[str, Any]) -> dict[str, int]:
        if self.server_knows:
            try:
                return self._api.call("events.get_log_position",
                                      {"task": self._task, "claim": self._claim})["positions"]
            except errors.ApiError as error:
                if error.code != 404:
                    raise
                self.server_knows = False
        positions = dict(noted.get("positions", {}))
        if noted.get("sending") or self._unanswered is not None or self._cut:
            last = self._api.call("events.get_task_log", {"task": self._task, "batch_size": 100,
                                                          "navigate_earlier": True, "order": "asc"})
            for event in last["events"]:
                stream = event.get("stream")
                if event.get("claim") == self._claim and stream in self._levels:
                    positions[stream] = max(positions.get(stream, 0), event.get("end", 0))
        return positions

    def _note(self, sending: bool = False) -> None:
        """Keep positions and truncations on this node; `sending`: the server may have more than they say."""
        ahead = {event["stream"]: event["offset"] for event in reversed(self._pending)}
        note_reported(self._directory, {
            "positions": {stream.name: ahead.get(stream.name, stream.start) for stream in self._streams},
            "base": {stream.name: stream.base for stream in self._streams}, "stamp": self._stamp,
            "sending": sending})

    def _truncated(self, stream: Stream) -> None:
        was, size = stream.restart()
        self._note()
        say(self._directory, f"{stream.name} shrank from {was} to {size} bytes (it was truncated): "
                             "what was written over is lost, going on from its start")


def say(directory: str, line: str) -> None:
    """One line of ours to the task's set-up log, where its owner reads it; a full disk loses the line."""
    try:
        fd = untrusted.opened(directory, "setup.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(fd, line.encode("utf-8", "replace") + b"\n")
        finally:
            os.close(fd)
    except OSError:
        pass


def is_outage(error: Exception) -> bool:
    """Whether the server (or the way to it) fails, not the request: worth trying again as it is."""
    if isinstance(error, errors.ApiError):
        return error.code >= 500 or error.code in (401, 429)
    return isinstance(error, errors.Failure) and not isinstance(error, errors.OddAnswer)


def read_reported(directory: str) -> dict[str, Any]:
    """What the file `reported` says; {} when there is none that can be read."""
    try:
        found = untrusted.value(directory, "reported")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_reported(directory: str, values: dict[str, Any]) -> None:
    """Change keys of the file `reported`."""
    noted = read_reported(directory) | values
    publish(os.path.join(directory, "reported"), json.dumps(noted).encode() + b"\n")
