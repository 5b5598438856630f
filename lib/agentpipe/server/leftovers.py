"""What goes with a task that is reset or deleted: its draft models, and its files on the files server."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from agentpipe.server import nested
from agentpipe.server.common import loads
from agentpipe.server.documents import Task
from agentpipe.server.endpoints import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# what stands before the id of a task that is gone
DELETED = "__DELETED__"
# where the files stand that tasks bring along: agentpipe/TASK/artifacts/NAME
BUNDLED = "agentpipe/"
# pictures that stand in plots
SOURCE = re.compile(r'"source": ?"(https?://[^"\\]+)"')


def urls(request: Request, task: Task, deleted: bool = False) -> dict[str, Any]:
    """Where a task's files lie, for the caller to remove: {model_urls, event_urls, artifact_urls}.

    For one that is deleted also `brought_urls`, what it alone brought along: that is safe to remove unseen.
    """
    drafts = [model for model in _models(request, task) if _goes(request, model)]
    return {"model_urls": sorted({draft["uri"] for draft in drafts if draft.get("uri") and _is_its(request, draft)}),
            "event_urls": sorted(set(_of_events(request, task))), "artifact_urls": sorted(set(_of_artifacts(task))),
            **({"brought_urls": sorted(set(_brought(request, task)))} if deleted else {})}


def _of_artifacts(task: Task) -> Iterator[str]:
    for item in (task.get("execution") or {}).get("artifacts") or []:
        if item.get("uri") and nested.with_mode(item)["mode"] == "output":
            yield str(item["uri"])


def _brought(request: Request, task: Task) -> Iterator[str]:
    """What the task, as nobody else, brings along (`agent-task enqueue --bundle`): clones use the same files."""
    for item in (task.get("execution") or {}).get("artifacts") or []:
        path = _path(str(item.get("uri") or ""), BUNDLED)
        if item.get("mode") == "input" and path and not request.db.execute(
                "SELECT 1 FROM parts WHERE part='execution' AND task<>? AND instr(doc, ?)",
                (task.id, path[len(BUNDLED):])).fetchone():
            yield str(item["uri"])


def _of_events(request: Request, task: Task) -> Iterator[str]:
    for kind, doc in request.db.execute("SELECT type, doc FROM shapes WHERE task=?", (task.id,)):
        event = loads(doc)
        if event.get("url"):
            yield str(event["url"])
        elif kind == "plot" and isinstance(event.get("plot_str"), str):
            yield from SOURCE.findall(event["plot_str"])


def remove(request: Request, task: Task, deleted: str = "") -> tuple[int, int]:
    """Remove the draft models that a task made and nobody uses; how many, and how many others lost it.

    `deleted` is what stands in the place of the task in the models that stay. The files of what goes are noted for
    removal, unless `delete_external_artifacts` is false.
    """
    found = [*_of_events(request, task), *_of_artifacts(task)]
    brought = [*_brought(request, task)] if deleted else []
    gone, updated = _remove_models(request, task, deleted)
    if request.get("delete_external_artifacts", True):
        _doom(request, task.id, [*found, *(draft["uri"] for draft in gone if _is_its(request, draft))], brought)
    return len(gone), updated


def remove_file(request: Request, model: dict[str, Any]) -> None:
    """Note the file of a model that was removed for removal, unless another model has it."""
    task = str(model.get("task") or "").removeprefix(DELETED)
    if task and _is_its(request, model):
        _doom(request, task, [model["uri"]], [])


def _is_its(request: Request, model: dict[str, Any]) -> bool:
    """Whether no other model has the same file."""
    return request.db.execute("SELECT 1 FROM models WHERE uri=? AND id<>?",
                              (model["uri"], model["id"])).fetchone() is None


def _models(request: Request, task: Task) -> list[dict[str, Any]]:
    """What a task made."""
    return [loads(doc) for (doc,) in request.db.execute("SELECT doc FROM models WHERE task=?", (task.id,))]


def _goes(request: Request, model: dict[str, Any]) -> bool:
    """Whether a model goes with the task that made it: a draft that nobody uses."""
    from agentpipe.server import models
    wanted = request.get("delete_output_models", True)
    return bool(wanted) and not model["ready"] and not models.inputs_of(request, model["id"])


def _remove_models(request: Request, task: Task, deleted: str) -> tuple[list[dict[str, Any]], int]:
    """The models that were removed, and how many others lost the task."""
    from agentpipe.server import models
    removed, updated = [], 0
    for model in _models(request, task):
        if _goes(request, model):
            models.forget(request, model["id"])
            removed.append(model)
        elif deleted:
            model["task"] = deleted
            models.save(request, model, update=False)
            updated += 1
    return removed, updated


def _doom(request: Request, task: str, addresses: list[str], brought: list[str]) -> None:
    """Note files for removal.

    Anybody can write any address into a task, so only what lies in a folder with the task's id in its name counts,
    as the clearml package lays it out: FILES_HOST/PROJECT/NAME.ID/…; and of what was brought along all that no other
    task has.
    """
    at = time.time_ns() // 1_000_000
    paths = {path for path in map(_path, addresses)
             if any(part.endswith("." + task) for part in path.split("/")[:-1])}
    paths |= {_path(address, BUNDLED) for address in brought}
    request.db.executemany("INSERT OR REPLACE INTO doomed VALUES (?, ?)", ((path, at) for path in sorted(paths)))


def _path(address: str, below: str = "") -> str:
    """A file's path on the files server, out of its address; "" when it is no such address, or not in `below`.

    What a store without a server keeps there has a path of this machine for an address, which counts from `below`.
    """
    from urllib.parse import unquote, urlsplit
    try:
        found = urlsplit(address)
    except ValueError:
        return ""
    path = unquote(found.path).strip("/")
    if found.scheme == "file" and below and f"/{below}" in path:
        return below + path.rpartition(f"/{below}")[2]
    return path if found.scheme in ("http", "https") and path.startswith(below) else ""


def published_models(request: Request, task: str) -> bool:
    """Whether a task made a model that is ready."""
    rows = request.db.execute("SELECT doc FROM models WHERE task=?", (task,))
    return any(loads(doc)["ready"] for (doc,) in rows)
