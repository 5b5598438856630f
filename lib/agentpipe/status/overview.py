"""What agent-status shows: queues, workers, running tasks, the last ends, this machine's GPUs; one request a look."""

from __future__ import annotations

from agentpipe import errors, units
from agentpipe.task import at_work, logs, view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Seen = dict[str, Any]

HEAD = ["id", "name", "status", "status_message", "started", "last_update", "last_worker", "last_iteration",
        "completed", "runtime._agentpipe_end", "execution.queue"]
ENDED = 5
STATS = ("cpu_usage", "memory_used", "gpu_usage", "gpu_memory_used")
ENDS = ("completed", "failed", "stopped")
REST_EVERY_S = 30.0  # as often as workers report
STATS_INTERVAL_S, STATS_BACK_S = 40, 240  # servers take no shorter one, and leave the last one out


class Looker:
    """Looks at a server again and again.

    Our store and agent-server answer one request with everything; any other server is asked for queues, workers,
    running tasks, now and then for the last ends, how many there are, and the workers' load, and for the last line of
    one running task, of another one at each look.
    """

    def __init__(self, api: Any) -> None:
        from agentpipe.report import metrics
        self.api = api
        self._whole = bool(api.ours)
        self._lines: dict[str, str] = {}  # by task, of a server that has to be asked for each
        self._stats: dict[str, dict[str, Any]] = {}  # by worker, of such a server
        self._ended: list[dict[str, Any]] = []  # of such a server, and the tasks that ran when it was asked
        self._counts: dict[str, int] = {}  # of its tasks that have ended, by status
        self._ran: list[str] = []
        self._rest_at = 0.0  # when it is asked for all these again, as time.monotonic() counts
        self._sampler = metrics.Sampler(inside=True)

    def look(self) -> Seen:
        """{now, server, counts, queues, workers, running, ended, gpus}, as they are shown and printed."""
        seen = self._asked()
        names = {queue["id"]: queue["name"] for queue in seen["queues"]}
        for worker in seen["workers"]:
            worker["queues"] = [names.get(id, id) for id in worker["queues"]]
            worker["alive"] = at_work.is_alive(self.api, worker)
        running = {task["id"] for task in seen["running"]}
        # the newest first, as everywhere
        seen["running"].sort(key=lambda task: str(task["started"] or ""), reverse=True)
        self._learn_who_took_over(seen["workers"], running)
        # a pipeline that has ended is no loss; one that has left a task behind is
        seen["workers"] = [worker for worker in seen["workers"]
                           if worker["alive"] or not self.api.embedded or worker["task"] in running]
        for task in seen["running"] + seen["ended"]:
            task["end"] = view.end_of(task).get("class") if task["status"] != "in_progress" else None
            task.pop("runtime", None)
        for task in seen["running"]:
            task["queue"] = names.get(task.get("queue") or "", task.get("queue"))
        return {"server": getattr(self.api, "host", "") or "the store of this machine", **seen, "gpus": self.gpus()}

    def gpus(self) -> list[dict[str, Any]]:
        """This machine's: index, name, uuid, utilization %, temperature °C, power W, used, free, total bytes."""
        return self._sampler.gpus()

    def _learn_who_took_over(self, workers: list[dict[str, Any]], running: set[str]) -> None:
        """The task of a worker of this machine that reports none, since what it took over reports by its first name."""
        from agentpipe.claim import supervisors
        for worker in workers:
            if worker["alive"] and not worker["task"]:
                task = supervisors.taken_over(worker["id"])
                worker["task"] = task if task in running else None

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
        body = {"only_fields": HEAD, "status": ["in_progress"], "order_by": ["-created"], "search_hidden": True}
        running = self.api.call("tasks.get_all", body)["tasks"]
        self._learn_a_line(running)
        self._learn_the_rest([task["id"] for task in running], [each["id"] for each in found])
        shown = [_queue(each) for each in queues]
        counts = {"queued": sum(queue["waiting"] for queue in shown), "in_progress": len(running), **self._counts}
        return {"now": units.iso(time.time()), "counts": counts, "queues": shown,
                "workers": [_worker({"machine_stats": self._stats.get(each["id"]), **each}) for each in found],
                "running": [{**{key: task.get(key) for key in HEAD[:9]}, "runtime": task.get("runtime"),
                             "queue": (task.get("execution") or {}).get("queue"),
                             "last_line": self._lines.get(task["id"], "")} for task in running],
                "ended": [dict(task) for task in self._ended]}

    def _learn_the_rest(self, running: list[str], found: list[str]) -> None:
        """The last ends, how many there are, and what these workers last reported of their machines: each half a
        minute, and when another task runs."""
        import time
        if time.monotonic() < self._rest_at and running == self._ran:
            return
        self._rest_at, self._ran, now = time.monotonic() + REST_EVERY_S, running, time.time()
        fields = [*HEAD[:9], "status_changed", "runtime"]
        ended = self.api.call("tasks.get_all", {
            "only_fields": [*HEAD, "status_changed"], "status": list(ENDS), "order_by": ["-last_update"], "page": 0,
            "page_size": ENDED, "search_hidden": True})["tasks"]
        self._ended = [{key: task.get(key) for key in fields} for task in ended]
        self._counts = self._counted()
        if not found:
            return
        try:
            answer = self.api.call("workers.get_stats", {
                "worker_ids": found, "from_date": now - STATS_BACK_S, "to_date": now, "interval": STATS_INTERVAL_S,
                "items": [{"key": key, "aggregation": "avg"} for key in STATS]})
        except errors.ApiError:
            return  # it keeps none
        self._stats = {each["worker"]: _load(each["metrics"]) for each in answer.get("workers") or []}

    def _counted(self) -> dict[str, int]:
        """How many tasks have ended, by status; {} of a server that is too old to count."""
        try:
            found = {status: self.api.call("organization.get_entities_count", {
                "tasks": {"status": [status]}, "search_hidden": True})["tasks"] for status in ENDS}
            return {status: count for status, count in found.items() if count}
        except (errors.ApiError, KeyError):
            return {}

    def _learn_a_line(self, running: list[dict[str, Any]]) -> None:
        """The last line of the task whose line was asked for the longest ago."""
        ids = [task["id"] for task in running]
        for id in set(self._lines) - set(ids):
            del self._lines[id]
        missing = [id for id in ids if id not in self._lines]
        oldest = (missing or [id for id in self._lines if id in ids])[:1]
        for id in oldest:
            self._lines.pop(id, None)
            lines = [line for line in logs.tail(self.api, id, 5, 10) if line.strip()]
            self._lines[id] = lines[-1] if lines else ""


def _queue(queue: dict[str, Any]) -> dict[str, Any]:
    added = [entry["added"] for entry in queue.get("entries") or [] if entry.get("added")]
    return {"id": queue["id"], "name": queue["name"], "waiting": len(queue.get("entries") or []),
            "oldest": min(added, default=None)}


def _worker(worker: dict[str, Any]) -> dict[str, Any]:
    return {"id": worker["id"], "queues": [queue["id"] for queue in worker.get("queues") or []],
            "task": (worker.get("task") or {}).get("id"),
            "last_report_time": worker.get("last_report_time"), "machine_stats": worker.get("machine_stats") or {}}


def _load(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The last value of each of a worker's metrics, as it reports them: lists, but for the memory."""
    found: dict[str, Any] = {}
    for metric in metrics:
        values = [value for stats in metric.get("stats") or [] for value in stats.get("values") or [] if value]
        if values:
            found[metric["metric"]] = values[-1] if metric["metric"] == "memory_used" else [values[-1]]
    return found
