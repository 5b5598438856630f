"""What the tests of reporting share: a real store with a claimed, running task, and a server that fails for a while."""

import json
import os
from pathlib import Path
from typing import Any

from agentpipe import errors, paths
from agentpipe.transport import api as apis

WORKER = "host:0"


class Running:
    """A task that was pulled and started: its store, its directory, its claim."""

    def __init__(self, home: Path, name: str = "train") -> None:
        self.api = apis.StoreApi(paths.state("agent.db"), WORKER)
        self.queue = self.call("queues.get_default")["id"]
        self.id = self.call("tasks.create", name=name, type="training")["id"]
        self.call("tasks.enqueue", task=self.id, queue=self.queue)
        self.claim = os.urandom(16).hex()
        self.call("queues.get_next_task", queue=self.queue, claim=self.claim)
        self.call("tasks.started", task=self.id, claim=self.claim)
        self.directory = home / "state" / "tasks" / f"{self.id}.1"
        self.directory.mkdir(parents=True, mode=0o700)
        (self.directory / "lock").touch()
        self.store_manifest()

    def call(self, endpoint: str, **body: Any) -> dict[str, Any]:
        return self.api.call(endpoint, body)

    def store_manifest(self, **keys: Any) -> None:
        pull = {"server": self.api.server_id, "queue": self.queue, "worker": WORKER, "claim": self.claim}
        (self.directory / "manifest.json").write_text(
            json.dumps({"manifest": 1, "task": {"id": self.id}, "pull": pull, **keys}) + "\n")

    def prints(self, data: bytes, file: str = "log") -> None:
        with open(self.directory / file, "ab") as log:
            log.write(data)

    def ends(self, end: str, exit: int = 0, **keys: Any) -> None:
        (self.directory / f"exit.{exit}").touch()
        os.symlink(end, self.directory / "outcome")
        self.store_manifest(**(keys or {"run": {"exit": exit, "end": end, "reason": ""}}))

    def log(self, stream: str = "log") -> str:
        """What the store has of a stream, in the order of arrival."""
        found, after, more = [], 0, True
        while more:
            page = self.call("events.get_task_log", task=self.id, after=after, batch_size=10_000)
            found += [event["msg"] for event in page["events"] if event.get("stream") == stream]
            more, after = page["returned"] > 0, page["last"]
        return "".join(found)

    @property
    def task(self) -> dict[str, Any]:
        return self.call("tasks.get_by_id", task=self.id)["task"]


class Unreliable:
    """The real API behind a bad network: `away` calls fail before they arrive, `lost` answers after they did."""

    embedded = ours = True

    def __init__(self, api: Any, hides: tuple[str, ...] = ()) -> None:
        self.api, self.hides = api, hides
        self.server_id = api.server_id
        self.away = self.lost = 0
        self.calls: list[str] = []

    def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
        self.calls.append(endpoint)
        if endpoint in self.hides:
            raise errors.ApiError(404, 0, f"Unable to find endpoint for name {endpoint}")
        if self.away:
            self.away -= 1
            raise errors.Failure("connection refused", errors.UNAVAILABLE)
        answer = self.api.call(endpoint, body)
        if self.lost and endpoint == "events.add_batch":
            self.lost -= 1
            raise errors.Failure("the answer did not arrive", errors.UNAVAILABLE)
        return answer

    def changed(self, since: Any) -> Any:
        return object()

    def once(self) -> "Unreliable":
        return self

    def close(self) -> None:
        self.api.close()


class Foreign(Unreliable):
    """A server that knows nothing of claims: no positions, and a repeated event is stored twice."""

    embedded = ours = False

    def __init__(self, api: Any) -> None:
        super().__init__(api, ("events.get_log_position", "tasks.edit_runtime"))
        self.sent = 0

    def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
        if endpoint == "events.add_batch" and isinstance(body, list):
            # the embedded store would recognise a repetition by its claim and offset: here it may not
            self.sent += 1
            body = [{**event, "claim": f"{event['claim']}/{self.sent}"} if "claim" in event else event
                    for event in body]
        answer = super().call(endpoint, body)
        for event in answer.get("events", []):
            if "claim" in event:
                event["claim"] = event["claim"].partition("/")[0]
        return answer


class Late(Unreliable):
    """The way to `api` (which is any of these) that keeps the first batch until carry_out()."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self.ours = getattr(api, "ours", True)
        self.kept: Any = None

    def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
        if endpoint == "events.add_batch":
            self.kept = [dict(event) for event in body]
            raise errors.Failure("no answer came in time", errors.UNAVAILABLE)
        return super().call(endpoint, body)

    def carry_out(self) -> None:
        self.api.call("events.add_batch", self.kept)
