"""What agent-status shows: queues, workers, running tasks, the last ends, this machine's GPUs; one request a look."""

from __future__ import annotations

from agentpipe import errors, task_find, task_log, task_view, task_watch, timing, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Seen = dict[str, Any]

HEAD = ["id", "name", "status", "status_message", "started", "last_update", "last_worker", "last_iteration",
        "completed", "runtime._agentpipe_end", "execution.queue"]
ENDED = 5


class Looker:
    """Looks at a server again and again.

    Our store and agent-server answer one request with everything; any other server is asked for queues, workers and
    tasks, and for the last line of one running task, of another one at each look.
    """

    def __init__(self, api: Any) -> None:
        from agentpipe import metrics
        self.api = api
        self._whole = bool(api.ours)
        self._lines: dict[str, str] = {}  # by task, of a server that has to be asked for each
        self._sampler = metrics.Sampler()

    def look(self) -> Seen:
        """{now, server, counts, queues, workers, running, ended, gpus}, as they are shown and printed."""
        seen = self._asked()
        names = {queue["id"]: queue["name"] for queue in seen["queues"]}
        for worker in seen["workers"]:
            worker["queues"] = [names.get(id, id) for id in worker["queues"]]
            worker["alive"] = self._alive(worker)
        running = {task["id"] for task in seen["running"]}
        # a pipeline that has ended is no loss; one that has left a task behind is
        seen["workers"] = [worker for worker in seen["workers"]
                           if worker["alive"] or not self.api.embedded or worker["task"] in running]
        for task in seen["running"] + seen["ended"]:
            task["end"] = task_view.end_of(task).get("class") if task["status"] != "in_progress" else None
            task.pop("runtime", None)
        for task in seen["running"]:
            task["queue"] = names.get(task.get("queue") or "", task.get("queue"))
        return {"server": getattr(self.api, "host", "") or "the store of this machine", **seen, "gpus": self.gpus()}

    def gpus(self) -> list[dict[str, Any]]:
        """This machine's: index, utilization %, temperature °C, used, free, total bytes."""
        return self._sampler.gpus()

    def _asked(self) -> Seen:
        if self._whole:
            try:
                return self.api.call("agentpipe.overview")
            except errors.ApiError as error:
                if error.code != 404:
                    raise
                self._whole = False  # an older agent-server
        return self._of_any_server()

    def _of_any_server(self) -> Seen:
        import time
        queues = self.api.call("queues.get_all", {"only_fields": ["id", "name", "entries.added"]})["queues"]
        found = self.api.call("workers.get_all", {"last_seen": 600})["workers"]
        body = {"only_fields": HEAD, "status": ["in_progress"], "order_by": ["created"]}
        running = self.api.call("tasks.get_all", body)["tasks"]
        self._learn_a_line(running)
        return {"now": timing.iso(time.time()), "counts": None,
                "queues": [_queue(each) for each in queues], "workers": [_worker(each) for each in found],
                "running": [{**{key: task.get(key) for key in HEAD[:9]}, "runtime": task.get("runtime"),
                             "queue": (task.get("execution") or {}).get("queue"),
                             "last_line": self._lines.get(task["id"], "")} for task in running],
                "ended": []}

    def _learn_a_line(self, running: list[dict[str, Any]]) -> None:
        """The last line of the task whose line was asked for the longest ago."""
        ids = [task["id"] for task in running]
        for id in set(self._lines) - set(ids):
            del self._lines[id]
        missing = [id for id in ids if id not in self._lines]
        oldest = (missing or [id for id in self._lines if id in ids])[:1]
        for id in oldest:
            self._lines.pop(id, None)
            lines = [line for line in task_log.tail(self.api, id, 5, 10) if line.strip()]
            self._lines[id] = lines[-1] if lines else ""

    def _alive(self, worker: dict[str, Any]) -> bool:
        here = workers.lives(worker["id"]) if self.api.embedded else None
        return task_watch.silence(worker) <= task_watch.SILENT_S if here is None else here


def _queue(queue: dict[str, Any]) -> dict[str, Any]:
    added = [entry["added"] for entry in queue.get("entries") or [] if entry.get("added")]
    return {"id": queue["id"], "name": queue["name"], "waiting": len(queue.get("entries") or []),
            "oldest": min(added, default=None)}


def _worker(worker: dict[str, Any]) -> dict[str, Any]:
    task = worker.get("task")
    return {"id": worker["id"], "queues": [queue["id"] for queue in worker.get("queues") or []],
            "task": task.get("id") if isinstance(task, dict) else task,
            "last_report_time": worker.get("last_report_time"), "machine_stats": worker.get("machine_stats") or {}}


def shown_status(task: dict[str, Any]) -> str:
    """How a task ended, or stands."""
    return task["end"] if task["status"] in task_find.ENDED and task.get("end") else task["status"]
