"""Asking queues for work: the token is on disk before the server is asked, and on the server with the answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from agentpipe import errors, find, manifest, units
from agentpipe.claim import claims, intents, on_server
from agentpipe.crash import crash_point
from agentpipe.pull import waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.pull.schedule import Schedule

    Got = tuple[claims.Claim, dict[str, Any]]


class Queues:
    """The ids of the queues to ask, in the order of their priority, or in turns (`fair`); `create` as find.queue()."""

    def __init__(self, api: Any, names: list[str], create: bool | None = False, fair: bool = False,
                 schedule: Schedule | None = None, worker: str = "") -> None:
        found = [find.queue(api, name.strip(), create, ("tags",)) for name in names or [""]]
        self.ids = [queue["id"] for queue in found]
        self.names = {queue["id"]: queue.get("name", queue["id"]) for queue in found}
        # of a default one they are not known yet
        self._tags = {queue["id"]: queue.get("tags") or [] for queue in found} if names else None
        self.schedule = schedule
        self._api, self._fair, self._worker = api, fair, worker
        self._has_properties = bool(worker) and not (api.embedded or api.ours)
        self._closed = False  # whether one of them was the last time

    def in_order(self) -> list[str]:
        """The ids as they are to be asked now: without those that are closed, or seen to be empty.

        A queue's tag counts before what an administrator has set for this worker, that before the worker's hours.
        """
        tags, self._tags = self._tags, None
        empty = set()
        if tags is None:  # later rounds: somebody may have changed them
            # who polls sees what is empty: then this is the only request, however many queues there are. Not while
            # one is closed: what has gathered there may be much
            look = not (self._api.embedded or self._api.long_polls or self._closed)
            found = self._api.call("queues.get_all", {
                "id": self.ids, "only_fields": ["id", "tags", "entries"] if look else ["id", "tags"],
                "search_hidden": True})["queues"]
            tags = {queue["id"]: queue.get("tags") or [] for queue in found}
            empty = {queue["id"] for queue in found if look and queue.get("entries") == []}
        works = all(find.QUEUE_OPEN in tags.get(queue, ()) for queue in self.ids) or self._works()
        closed = {queue for queue in self.ids
                  if find.QUEUE_CLOSED in tags.get(queue, ()) or not (works or find.QUEUE_OPEN in tags.get(queue, ()))}
        self._closed = bool(closed)
        return [queue for queue in self.ids if queue not in closed and queue not in empty]

    def _works(self) -> bool:
        """Whether this worker takes tasks now, whatever a queue's tag says."""
        forced = self._forced() if self._has_properties else None
        if forced in ("on", "off"):
            return forced == "on"
        return self.schedule is None or self.schedule.active()

    def _forced(self) -> str | None:
        """The worker's property `force`, which servers that are not free can have; others are asked once."""
        try:
            found = self._api.call("workers.get_runtime_properties", {"worker": self._worker}).get("runtime_properties")
        except errors.ApiError:
            self._has_properties = False
            return None
        return next((str(each.get("value")).lower() for each in found or () if each.get("key") == "force"), None)

    def served(self, queue: str) -> None:
        """A task came out of `queue`: with `fair` the next round starts behind it."""
        if self._fair:
            at = self.ids.index(queue) + 1
            self.ids = self.ids[at:] + self.ids[:at]


def next_task(api: Any, worker: str, queues: Queues, wait: bool, may_work: Callable[[], bool] | None = None,
              owner: int | None = None, side_by_side: bool = False, recovers: bool = True) -> Got | None:
    """The next task of these queues as (claim, manifest); None when there is none and nobody waits.

    may_work() is asked when there is a task; while it is false none is taken, and a waiting pull asks again after
    some seconds. One that waits for process `owner` ends with it: what it then got, nobody would run. Open to signals
    only while it waits. The line of one that waits names the worker's queues: whoever works on the task reports them,
    unless the task gets a worker of its own (`side_by_side`). waiting.BeginAnew when it waits, `recovers`, and
    something was left behind here.
    """
    patience = waiting.Waiting(api, worker, queues.ids, owner, queues.schedule, recovers) if wait else None
    intent, stays = intents.Intent(), False
    try:
        while True:
            try:
                if patience:
                    patience.note()
                allowed = may_work is None or not any(_waits(api, queue) for queue in queues.ids) or may_work()
                got = _ask(api, worker, queues, intent) if allowed else None
                if patience:
                    patience.heard()
                if got:
                    if patience and side_by_side:
                        patience.serves()
                    elif patience:
                        got[1]["pull"]["queues"] = queues.ids
                    return got
                if intent.used:  # what it named was deleted
                    intent = intents.Intent()
                elif patience is None or not patience.look(allowed):
                    return None
            except (errors.ApiError, errors.Failure) as error:
                if patience is None or api.embedded or not errors.is_away(error):
                    raise
                if intent.asked:  # it may have got a task all the same: recovery asks for that by the token
                    patience.left_open()
                intent.drop()
                intent = intents.Intent()
                if not patience.outage(error):
                    return None
    except waiting.BeginAnew:
        stays = True
        raise
    finally:
        if patience:
            patience.stop(unregister=not (intent.used or stays))
        if not intent.used:
            intent.drop()


def take(api: Any, worker: str, task: str, require_queue: bool = False) -> Got:
    """One named task, whether it is queued or not, as (claim, manifest).

    Taking it out of its queue is one step that only one agent can make, so two can never both start it; with
    `require_queue` a task that stands in none is refused (75), as by clearml-agent execute --require-queue.
    """
    found = by_id(api, task)
    if found is None:
        raise errors.Failure(f"no task {task}", errors.NOT_FOUND, remedy="agent-task list")
    status, queue = found["status"], (found.get("execution") or {}).get("queue")
    if status == "in_progress":
        raise errors.Failure(f"task {task} runs already", errors.TRY_AGAIN, remedy=f"agent-task stop {task}")
    if status != "queued" and require_queue:
        raise errors.Failure(f"task {task} is {status}, not queued", errors.TRY_AGAIN,
                             remedy=f"agent-task enqueue {task}")
    name = find.queue_name(api, queue) or None
    intent = intents.Intent()
    try:
        intent.note(api, queue or "")
        if status == "queued":
            _remove(api, task, queue, intent)
        else:
            _mark(api, found, intent.token)
        crash_point("pull:popped")
        got = _begun(api, worker, intent, found["id"], queue, name)
    finally:
        if not intent.used:
            intent.drop()
    if got is None:
        raise errors.Failure(f"task {task} was deleted meanwhile", errors.NOT_FOUND)
    return got


def join(api: Any, worker: str, task: str) -> Got:
    """agent-pull --id of a follower: the task is taken out of no queue."""
    from agentpipe import secrets
    from agentpipe.claim import ranks
    found = by_id(api, task)
    if found is None:
        raise errors.Failure(f"no task {task}", errors.NOT_FOUND, remedy="agent-task list")
    if found["status"] not in on_server.RUNNABLE:
        raise errors.Failure(f"task {task} is {found['status']}", errors.TRY_AGAIN, remedy=f"agent-task reset {task}")
    queue = (found.get("execution") or {}).get("queue")
    pull = {"server": api.server_id, "queue": queue, "queue_name": find.queue_name(api, queue) or None,
            "worker": worker, "claim": "0" * 32}
    claim, line = ranks.follow(api, {"manifest": manifest.VERSION, "task": found, "pull": pull})
    return claim, {**line, "task": secrets.put_away(found, claim.directory)}


def cloned(api: Any, task: str) -> str:
    """The id of a copy of a task, named as clearml-agent execute --clone does."""
    found = by_id(api, task)
    if found is None:
        raise errors.Failure(f"no task {task}", errors.NOT_FOUND, remedy="agent-task list")
    return api.call("tasks.clone", {"task": found["id"], "new_task_name": f"Clone of {found.get('name', task)}",
                                    "new_task_parent": found["id"]})["id"]


def _waits(api: Any, queue: str) -> bool:
    """Whether a task waits there."""
    return bool(api.call("queues.get_num_entries", {"queue": queue})["num"])


def _ask(api: Any, worker: str, queues: Queues, intent: intents.Intent) -> Got | None:
    loud = os.environ.get("CLEARML_AGENT_DEBUG_GET_NEXT_TASK")
    for queue in queues.in_order():
        # to ask for it over a network takes as long as to write it down
        intent.note(api, queue, durable=not api.embedded or _waits(api, queue))
        answer = api.call("queues.get_next_task", {"queue": queue, "claim": intent.token, "host": _host()})
        if loud:
            from agentpipe import stdio
            stdio.say(f"agent-pull: queues.get_next_task {queues.names[queue]}: {answer}")
        if not answer.get("entry"):
            intent.asked = False
            continue
        task = answer["entry"]["task"]
        if not answer.get("claimed"):
            _mark(api, by_id(api, task) or {"id": task}, intent.token)
        crash_point("pull:popped")
        queues.served(queue)
        return _begun(api, worker, intent, task, queue, queues.names[queue])
    return None


def _begun(api: Any, worker: str, intent: intents.Intent, task: str, queue: str | None,
           queue_name: str | None = None) -> Got | None:
    try:
        intent.keep()  # of a task that came in the very moment
        found = by_id(api, task)  # first: a server that fails now must not make an attempt that counts
        claim = claims.begin(api, intent, task, worker)
    except (errors.ApiError, errors.Failure) as error:
        why = error.reason if isinstance(error, errors.Failure) else f"its agent could not read it: {error.msg}"
        on_server.enqueue_again(api, task, queue, intent.token, why)
        intent.asked = False
        raise
    if found is None:  # a queue's entry may name a task that was deleted
        claim.undo()
        return None
    from agentpipe import secrets
    from agentpipe.claim import ranks
    try:
        found = secrets.put_away(found, claim.directory)
    except errors.Failure as failure:
        claims.give_back(api, claim, {"task": found, "pull": {"queue": queue}}, failure.reason)
        raise
    pull = {"server": api.server_id, "queue": queue, "queue_name": queue_name, "worker": worker,
            "claim": claim.token, "pulled": units.iso(time.time()), **ranks.noted()}
    if found.get("status") == "queued":
        pull["queued"] = found.get("status_changed")
    return claim, {"manifest": manifest.VERSION, "task": found, "pull": pull}


def by_id(api: Any, task: str) -> dict[str, Any] | None:
    """The whole task, or None."""
    try:
        return api.call("tasks.get_by_id", {"task": task})["task"]
    except errors.ApiError as error:
        if error.subcode in (10, 101):
            return None
        raise


def _remove(api: Any, task: str, queue: str | None, intent: intents.Intent) -> None:
    try:
        answer = api.call("queues.remove_task", {"queue": queue, "task": task, "claim": intent.token,
                                                  "host": _host()})
    except errors.ApiError as error:
        if error.subcode in (701, 703):
            intent.asked = False
            raise errors.Failure(f"task {task} was taken by another agent", errors.TRY_AGAIN) from None
        raise
    if not answer.get("claimed"):
        _mark(api, by_id(api, task) or {"id": task}, intent.token)


def _mark(api: Any, task: dict[str, Any], token: str) -> None:
    """Write the token with calls that every ClearML server has; an ended task starts anew with it."""
    runtime = {**(task.get("runtime") or {}), on_server.RUNTIME_KEY: token, "_exec_agent_hostname": _host()}
    api.call("tasks.edit", {"task": task["id"], "runtime": runtime, "force": True})
    if task.get("status") not in ("queued", "in_progress"):
        api.call("tasks.started", {"task": task["id"], "force": True, "status_message": "pulled by agent"})


def _host() -> str:
    return os.uname().nodename
