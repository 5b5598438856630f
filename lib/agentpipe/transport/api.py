"""The ClearML API: one call(), whatever is behind it (design: one API, two transports)."""

from __future__ import annotations

import os

from agentpipe import errors, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.transport.http_api import HttpApi

OF_ONE_MACHINE = "other machines that share this home see none of its queues and tasks"
SHARE = "to share them: agent-server on one machine, agent-config init"


class StoreApi:
    """The embedded store of this node, called in process: no server, no socket."""

    embedded = True
    ours = True  # it knows claims

    def __init__(self, path: str, worker: str = "") -> None:
        from agentpipe.server.store import Store
        self.store = Store(path)
        self._file = _identity(path)
        self.server_id: str = self.store.server_id
        self.worker = worker

    def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
        """The `data` of an endpoint's answer ("queues.get_all"); ApiError when it refuses, Failure when it is away."""
        from agentpipe.server.endpoints import call
        caller = {"user": paths.owner(), "worker": self.worker}
        return call(self.store, caller, endpoint, body or {})

    def changed(self, since: Any) -> Any:
        """A mark that differs from `since` once something may have changed; cheap enough for each 50 ms.

        Failure 69 when nothing can change any more: the store's file is gone, or another stands in its place.
        """
        if _identity(self.store.path) != self._file:
            raise errors.Failure(f"the store {self.store.path} was removed, or another put in its place",
                                 errors.UNAVAILABLE, remedy="start again")
        return self.store.data_version()

    def write(self) -> None:
        """Failure 73 where the store can be read only."""
        self.store.transaction(lambda db: None)

    def once(self, patience: float = 0) -> StoreApi:
        """The same: what fails here does not pass by itself."""
        return self

    def close(self) -> None:
        """Let this thread's connection go; the next call opens another."""
        self.store.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(worker: str = "", patience: float | None = None) -> StoreApi | HttpApi:
    """The server that this configuration means: the embedded store unless a ClearML server is configured.

    `patience` is how long (seconds) calls are repeated while a server is away.
    """
    host = address()
    if not host:
        path = paths.state("agent.db")
        if paths.of_one_machine() and not os.path.exists(path):  # where it is made, a task of another is looked for
            from agentpipe import stdio
            stdio.say(f"agentpipe: warning: a new store, {path}: {OF_ONE_MACHINE} ({SHARE})")
        return StoreApi(path, worker)
    from agentpipe.transport import http_api
    return http_api.HttpApi(host, worker, http_api.PATIENCE_S if patience is None else patience)


def address() -> str | None:
    """The API server that is configured, as it is written there; None: the embedded store."""
    from agentpipe.settings import config
    return config.get("api.api_server", None, "CLEARML_API_HOST") or config.get("api.host")
