"""The `_ex` calls that pages and APIClient use: lists with references as objects (server.md §4, §9)."""

from __future__ import annotations

from agentpipe.server import expanded, models, projects, queues, tasks_read, workers
from agentpipe.server.common import error, loads
from agentpipe.server.endpoints import READ, Request, Texts, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@endpoint("tasks.get_all_ex", READ)
def tasks_all(request: Request) -> dict[str, Any]:
    """Tasks."""
    return expanded.every(request, "tasks", tasks_read.get_all)


@endpoint("tasks.get_by_id_ex", READ, {}, ids=Texts, task=str)
def task(request: Request) -> dict[str, Any]:
    """Tasks by id, in the form of a list."""
    ids = request.get("ids") or ([request.body["task"]] if request.get("task") else [])
    if not ids:
        raise error(12, "ids must not be empty")
    found = [expanded.one(request, "tasks", tasks_read.get_all, id) for id in ids]
    return {"tasks": [item for item in found if item is not None]}


@endpoint("models.get_all_ex", READ)
def models_all(request: Request) -> dict[str, Any]:
    """Models."""
    return expanded.every(request, "models", models.get_all)


@endpoint("queues.get_all_ex", READ, {}, max_task_entries=int)
def queues_all(request: Request) -> dict[str, Any]:
    """Queues with the workers that pull from each, and their tasks by name."""
    import time
    answer = expanded.every(request, "queues", queues.get_all)
    rows = request.db.execute("SELECT user, doc FROM workers WHERE expires>=?", (time.time(),))
    found = [(user, loads(doc)) for user, doc in rows]
    for queue in answer["queues"]:
        queue["workers"] = [{"name": each["id"], "ip": each["ip"], "key": workers.key_of(user, each["id"]),
                             **({"task": each["task"]} if each.get("task") else {})}
                            for user, each in found if queue["id"] in each["queues"]]
        if "entries" in queue:
            queue["entries"] = [{**entry, "task": _named(request, entry["task"])}
                                for entry in queue["entries"][:request.get("max_task_entries")]]
    return answer


def _named(request: Request, id: str) -> dict[str, Any]:
    row = request.db.execute("SELECT name FROM tasks WHERE id=?", (id,)).fetchone()
    return {"id": id, **({"name": row[0]} if row else {})}


@endpoint("projects.get_all_ex", READ, {}, include_stats=bool)
def projects_all(request: Request) -> dict[str, Any]:
    """Projects, with counts of their tasks if asked."""
    answer = expanded.every(request, "projects", projects.get_all)
    if request.get("include_stats"):
        names, below = _tree(request)
        for project in answer["projects"]:
            ids = below.get(project["id"], [])
            project["stats"] = {"active": _stats(request, [project["id"], *ids])}
            project["sub_projects"] = [{"id": id, "name": names[id]} for id in ids]
    return answer


def _tree(request: Request) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The names of all projects, and which are below each."""
    names: dict[str, str] = {}
    below: dict[str, list[str]] = {}
    for id, name, doc in request.db.execute("SELECT id, name, doc FROM projects ORDER BY seq"):
        names[id] = name
        for above in loads(doc)["path"]:
            below.setdefault(above, []).append(id)
    return names, below


def _stats(request: Request, ids: list[str]) -> dict[str, Any]:
    """How many tasks of each status stand in these projects, archived ones not counted."""
    counts: dict[str, int] = {}
    runtime = 0
    for id in ids:
        for state, doc in request.db.execute("SELECT status, doc FROM tasks WHERE project=?", (id,)):
            found = loads(doc)
            if "archived" not in found["system_tags"]:
                counts[state] = counts.get(state, 0) + 1
                runtime += found.get("active_duration") or 0
    return {"status_count": counts, "total_tasks": sum(counts.values()), "total_runtime": runtime}


@endpoint("users.get_all_ex", READ)
def users_all(request: Request) -> dict[str, Any]:
    """The users who have keys, and who calls."""
    names = {row[0] for row in request.db.execute("SELECT DISTINCT user FROM credentials")} | {request.user}
    return {"users": [{"id": name, "name": name} for name in sorted(names) if name]}
