"""Asking queues for work: the token is on disk before the server is asked, and on the server with the answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from agentpipe import claims, errors, manifest, processes
from agentpipe.crash import crash_point
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Got = tuple[claims.Claim, dict[str, Any]]

# how often a waiting pull looks, in seconds: at the embedded store's change counter, or at a server
LOOK = 0.05
LOOK_HTTP = 5.0


class Queues:
    """The ids of the queues to ask, in the order of their priority, or in turns (`fair`)."""

    def __init__(self, api: Any, names: list[str], create: bool = False, fair: bool = False) -> None:
        found = [(_id_of(api, name, create), name) for name in names] or [_default(api)]
        self.ids = [id for id, _ in found]
        self.names = dict(found)
        self._fair = fair

    def in_order(self) -> list[str]:
        """The ids as they are to be asked now."""
        return list(self.ids)

    def served(self, queue: str) -> None:
        """A task came out of `queue`: with `fair` the next round starts behind it."""
        if self._fair:
            at = self.ids.index(queue) + 1
            self.ids = self.ids[at:] + self.ids[:at]


def next_task(api: Any, worker: str, queues: Queues, wait: bool, may_work: Callable[[], bool] | None = None,
              owner: int | None = None) -> Got | None:
    """The next task of these queues as (claim, manifest); None when there is none and nobody waits.

    may_work() is asked when there is a task; while it is false none is taken, and a waiting pull asks again after
    some seconds. One that waits for process `owner` ends with it: what it then got, nobody would run. Open to signals
    only while it waits.
    """
    intent = claims.Intent()
    keeper = processes.identity(owner) if owner else None
    reporter = None
    mark = None
    try:
        while True:
            mark = api.changed(mark)
            allowed = may_work is None or not _any(api, queues) or may_work()
            got = _ask(api, worker, queues, intent) if allowed else None
            if got:
                return got
            if intent.used:
                intent = claims.Intent()
                continue
            if not wait:
                return None
            reporter = reporter or _registered(api, worker, queues)
            with SIGNALS.open():
                if not allowed:
                    time.sleep(LOOK_HTTP)
                while allowed and api.changed(mark) == mark:
                    if owner and not (keeper and processes.alive(keeper)):
                        return None
                    time.sleep(LOOK if api.embedded else LOOK_HTTP)
    finally:
        if reporter:
            reporter.stop(unregister=not intent.used)
        if not intent.used:
            intent.drop()


def take(api: Any, worker: str, task: str, require_queue: bool = False) -> Got:
    """One named task, whether it is queued or not, as (claim, manifest).

    Taking it out of its queue is one step that only one agent can make, so two can never both start it; with
    `require_queue` a task that stands in none is refused (75), as by clearml-agent execute --require-queue.
    """
    found = _by_id(api, task)
    if found is None:
        raise errors.Failure(f"no task {task}", errors.NOT_FOUND, remedy="agent-task list")
    status, queue = found["status"], (found.get("execution") or {}).get("queue")
    if status == "in_progress":
        raise errors.Failure(f"task {task} runs already", errors.TRY_AGAIN, remedy=f"agent-task stop {task}")
    if status != "queued" and require_queue:
        raise errors.Failure(f"task {task} is {status}, not queued", errors.TRY_AGAIN,
                             remedy=f"agent-task enqueue {task}")
    intent = claims.Intent()
    try:
        intent.asked = True
        if status == "queued":
            _remove(api, task, queue, intent)
        else:
            _mark(api, found, intent.token)
        crash_point("pull:popped")
        got = _begun(api, worker, intent, found["id"], queue)
    finally:
        if not intent.used:
            intent.drop()
    if got is None:
        raise errors.Failure(f"task {task} was deleted meanwhile", errors.NOT_FOUND)
    return got


def _any(api: Any, queues: Queues) -> bool:
    return any(api.call("queues.get_num_entries", {"queue": queue})["num"] for queue in queues.ids)


def _ask(api: Any, worker: str, queues: Queues, intent: claims.Intent) -> Got | None:
    for queue in queues.in_order():
        intent.note(queue)
        answer = api.call("queues.get_next_task", {"queue": queue, "claim": intent.token})
        if not answer.get("entry"):
            intent.asked = False
            continue
        task = answer["entry"]["task"]
        if not answer.get("claimed"):
            _mark(api, _by_id(api, task) or {"id": task}, intent.token)
        crash_point("pull:popped")
        queues.served(queue)
        return _begun(api, worker, intent, task, queue, queues.names[queue])
    return None


def _begun(api: Any, worker: str, intent: claims.Intent, task: str, queue: str | None,
           queue_name: str | None = None) -> Got | None:
    try:
        claim = claims.begin(intent, task, worker)
    except errors.Failure as failure:
        claims.enqueue_again(api, task, queue, intent.token, failure.reason)
        intent.asked = False
        raise
    found = _by_id(api, task)
    if found is None:  # a queue's entry may name a task that was deleted
        claim.end()
        claim.release()
        return None
    from agentpipe import secrets
    found = secrets.put_away(found, claim.directory)
    pull = {"server": api.server_id, "queue": queue, "queue_name": queue_name, "worker": worker,
            "claim": claim.token}
    return claim, {"manifest": manifest.VERSION, "task": found, "pull": pull}


def _by_id(api: Any, task: str) -> dict[str, Any] | None:
    try:
        return api.call("tasks.get_by_id", {"task": task})["task"]
    except errors.ApiError as error:
        if error.subcode in (10, 101):
            return None
        raise


def _remove(api: Any, task: str, queue: str | None, intent: claims.Intent) -> None:
    try:
        answer = api.call("queues.remove_task", {"queue": queue, "task": task, "claim": intent.token})
    except errors.ApiError as error:
        if error.subcode in (701, 703):
            intent.asked = False
            raise errors.Failure(f"task {task} was taken by another agent", errors.TRY_AGAIN) from None
        raise
    if not answer.get("claimed"):
        _mark(api, _by_id(api, task) or {"id": task}, intent.token)


def _mark(api: Any, task: dict[str, Any], token: str) -> None:
    """Write the token with calls that every ClearML server has; an ended task starts anew with it."""
    runtime = {**(task.get("runtime") or {}), claims.RUNTIME_KEY: token}
    api.call("tasks.edit", {"task": task["id"], "runtime": runtime, "force": True})
    if task.get("status") not in ("queued", "in_progress"):
        api.call("tasks.started", {"task": task["id"], "force": True, "status_message": "pulled by agent"})


def _registered(api: Any, worker: str, queues: Queues) -> Any:
    from agentpipe.report import Reporter
    reporter = Reporter(api, worker, queues.ids)
    reporter.start()
    return reporter


def _id_of(api: Any, name: str, create: bool) -> str:
    import re
    # never queues.get_by_id: its answer has every entry of the queue
    for asked in ({"name": f"^{re.escape(name)}$"}, {"id": [name]}):
        for queue in api.call("queues.get_all", {**asked, "only_fields": ["id"], "search_hidden": True})["queues"]:
            return queue["id"]
    if create:
        return api.call("queues.create", {"name": name})["id"]
    known = ", ".join(queue["name"] for queue in api.call("queues.get_all", {"only_fields": ["name"]})["queues"])
    raise errors.Failure(f"no queue `{name}`; there are: {known}", errors.NOT_FOUND,
                         remedy=f"agent-pull --create-queue {name}")


def _default(api: Any) -> tuple[str, str]:
    try:
        found = api.call("queues.get_default")
        return found["id"], found["name"]
    except errors.ApiError:
        return _id_of(api, "default", False), "default"
