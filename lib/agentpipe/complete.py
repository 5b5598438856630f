"""`agent-task complete KIND [BEGINNING]`: what may stand at the cursor, asked by the completion of a shell.

A line each: the word, and after a tab what it is. Nothing is ever said on stderr, and no shell is kept waiting for
long: a server's answers are kept for half a minute, and older ones are given while newer ones are fetched.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FRESH_S = 30
WAIT_S = 2.0  # for a server of which nothing is kept
MOST = 100
NAME = 40  # columns


def main(argv: list[str]) -> int:
    """Print the words of a kind that begin so; 0 whatever happens."""
    try:
        if argv[:1] == ["--refresh"]:
            _kept(_api(), argv[1])
            return 0
        kind, beginning = argv[0], [*argv, ""][1]
        _wait_for(WAIT_S, kind)
        words = found(kind)
        if kind == "tasks" and beginning and not any(word.startswith(beginning) for word, _ in words):
            words = _of_beginning(_api(), beginning)
        for word, what in words:
            if word.startswith(beginning):
                line = f"{word}\t{what}" if what else word
                os.write(1, line.encode("utf-8", "replace") + b"\n")
    except Exception:
        if os.environ.get("AGENT_DEBUG"):
            raise
    finally:
        _wait_for(0)
    return 0


def _wait_for(seconds: float, kind: str = "") -> None:
    """End this process with what it has said once they are over (0: never); its question goes on behind it."""
    import _signal

    def give_up(*_: object) -> None:
        _refresh(kind)
        os._exit(0)
    if seconds:
        _signal.signal(_signal.SIGALRM, give_up)
    _signal.setitimer(_signal.ITIMER_REAL, seconds)


def found(kind: str) -> list[tuple[str, str]]:
    """(word, what it is) of a kind."""
    server = _api()
    if server.embedded:
        return asked(server, kind)
    import json
    import time
    path = _path(server, kind)
    try:
        with open(path, encoding="utf-8") as file:
            kept = [(word, what) for word, what in json.load(file)]
        if not 0 <= time.time() - os.stat(path).st_mtime <= FRESH_S:
            _refresh(kind)
        return kept
    except (OSError, ValueError):
        return _kept(server, kind)


def _api() -> Any:
    from agentpipe.transport import api
    return api.connect(patience=0)


def _path(server: Any, kind: str) -> str:
    import hashlib

    from agentpipe import paths
    return paths.cache("completion", f"{kind}-{hashlib.sha256(server.host.encode()).hexdigest()[:16]}")


def _kept(server: Any, kind: str) -> list[tuple[str, str]]:
    import json

    from agentpipe import errors, files
    now = asked(server, kind)
    path = _path(server, kind)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        files.publish(path, json.dumps(now).encode())
    except (OSError, errors.Failure):  # a home that takes nothing: the next one asks again
        pass
    return now


def _refresh(kind: str) -> None:
    """Ask the server in a process of its own, which nobody waits for."""
    import subprocess
    import sys
    subprocess.Popen([sys.executable, "-m", "agentpipe.cmds.agent_task", "complete", "--refresh", kind],
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                     start_new_session=True)


def asked(server: Any, kind: str) -> list[tuple[str, str]]:
    """The newest words of a kind, as the server has them."""
    if kind == "queues":
        return [(each["name"], "") for each in server.call("queues.get_all", {"only_fields": ["name"]})["queues"]]
    if kind == "projects":
        named = {"only_fields": ["name"], "order_by": ["name"], "search_hidden": True}
        return [(each["name"], "") for each in server.call("projects.get_all", named)["projects"]]
    body: dict[str, Any] = {"order_by": ["-created"], "page_size": MOST, "system_tags": ["-archived"],
                            "search_hidden": True,
                            "only_fields": ["id", "name", "status", "tags", "container.image"]}
    tasks = server.call("tasks.get_all", body)["tasks"]
    if kind == "images":
        images = [(task.get("container") or {}).get("image") for task in tasks]
        return [(image, "") for image in dict.fromkeys(images) if image]
    if kind == "tags":
        return [(tag, "") for tag in sorted({tag for task in tasks for tag in task.get("tags") or []})]
    if kind != "tasks":
        return []
    return [_named(task) for task in tasks]


def _of_beginning(server: Any, beginning: str) -> list[tuple[str, str]]:
    """Tasks older than the newest ones, by the beginning of their ids; else tasks by that of their names."""
    import re

    from agentpipe import find
    body: dict[str, Any] = {"page_size": MOST, "page": 0, "only_fields": ["id", "name", "status"],
                            "order_by": ["-created"], "search_hidden": True}
    if find.PREFIX.match(beginning):
        old = {**body, "_any_": {"fields": ["id"], "pattern": f"^{beginning}"}}
        tasks = server.call("tasks.get_all", old)["tasks"]
        if tasks:
            return [_named(task) for task in tasks]
    named = {**body, "name": f"^{re.escape(beginning)}", "system_tags": ["-archived"]}
    tasks = reversed(server.call("tasks.get_all", named)["tasks"])  # of several of one name the newest is told
    found = {task["name"]: f"{task['status']}, {task['id'][:8]}" for task in tasks}
    return [(name, what) for name, what in found.items() if name.isprintable()]


def _named(task: dict[str, Any]) -> tuple[str, str]:
    from agentpipe import cells
    return task["id"], f"{task['status']}, {cells.cut(cells.plain(task.get('name') or ''), NAME)}"
