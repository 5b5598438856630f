"""serving.*: containers that serve models say so, and how much they do (the clearml package's router).

Entries vanish when their reports stop. Their past is not kept: there is no serving.get_endpoint_metrics_history.
"""

from __future__ import annotations

import time

from agentpipe.server.common import dumps, error, loads, seconds
from agentpipe.server.endpoints import LAZY, READ, Objects, Request, endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Container = dict[str, Any]

# a container without a report for so long is gone (s)
TIMEOUT = 600
# what a report says of the model, as it was asked and as it is answered
MODEL = {"endpoint_name": "endpoint", "model_name": "model", "endpoint_url": "url",
         **{name: name for name in ("model_source", "model_version", "preprocess_artifact", "input_type",
                                    "input_size")}}
NEEDED = {"container_id": str, "endpoint_name": str, "model_name": str}
TEXTS: dict[str, type] = {name: str for name in MODEL if name not in NEEDED}
# numbers of a report, and how they are answered
LOAD = {"uptime_sec": "uptime_sec", "requests_num": "requests", "requests_min": "requests_min",
        "latency_ms": "latency_ms"}


@endpoint("serving.register_container", LAZY, NEEDED, timeout=int, reference=Objects, **TEXTS)
def register_container(request: Request) -> dict[str, Any]:
    """Note a container; registered again it is written over."""
    _save(request, {"registered": request.now, "timeout": request.get("timeout", TIMEOUT), **_told(request)})
    return {}


@endpoint("serving.unregister_container", LAZY, {"container_id": str})
def unregister_container(request: Request) -> dict[str, Any]:
    """Forget a container; an unknown one is no error."""
    request.db.execute("DELETE FROM containers WHERE id=?", (request.body["container_id"],))
    return {}


@endpoint("serving.container_status_report", LAZY, NEEDED, reference=Objects, machine_stats=dict,
          **TEXTS, **dict.fromkeys(LOAD, float))
def container_status_report(request: Request) -> dict[str, Any]:
    """A container's sign of life, and its load; an unknown one is registered on the spot."""
    row = request.db.execute("SELECT doc FROM containers WHERE id=?", (request.body["container_id"],)).fetchone()
    known = loads(row[0]) if row else {"registered": request.now, "timeout": TIMEOUT}
    _save(request, {**known, **_told(request)})
    return {}


def _told(request: Request) -> Container:
    """What the request says of a container."""
    body = request.body
    found = {shown: body[name] for name, shown in (MODEL | LOAD).items() if body.get(name) is not None}
    stats = request.get("machine_stats", {})
    counts = {f"{kind}_count": len(stats[f"{kind}_usage"]) for kind in ("cpu", "gpu")
              if isinstance(stats.get(f"{kind}_usage"), list)}
    return {"id": body["container_id"], "last_update": request.now, "reference": request.get("reference", []), **found,
            **counts}


def _save(request: Request, container: Container) -> None:
    at = time.time()
    request.db.execute("DELETE FROM containers WHERE expires<?", (at,))
    request.db.execute("INSERT OR REPLACE INTO containers (id, expires, doc) VALUES (?, ?, ?)",
                       (container["id"], at + container["timeout"], dumps(container)))


def _all(request: Request) -> list[Container]:
    rows = request.db.execute("SELECT doc FROM containers WHERE expires>=? ORDER BY id", (time.time(),))
    return [loads(doc) for (doc,) in rows]


@endpoint("serving.get_endpoints", READ)
def get_endpoints(request: Request) -> dict[str, Any]:
    """The addresses at which models are served: {endpoints: [{endpoint, model, url, instances, requests, …}]}."""
    by_url: dict[str, list[Container]] = {}
    for container in _all(request):
        if container.get("url"):
            by_url.setdefault(container["url"], []).append(container)
    return {"endpoints": [{**{name: found[0][name] for name in ("endpoint", "model", "url")}, "instances": len(found),
                           "requests": int(sum(each.get("requests", 0) for each in found)),
                           "requests_min": _mean(found, "requests_min"), "latency_ms": int(_mean(found, "latency_ms")),
                           **_newest(found)} for found in by_url.values()]}


def _mean(found: list[Container], field: str) -> float:
    return sum(each.get(field, 0) for each in found) / len(found)


def _newest(found: list[Container]) -> dict[str, Any]:
    return {"uptime_sec": int(max(each.get("uptime_sec", 0) for each in found)),
            "last_update": max(each["last_update"] for each in found)}


@endpoint("serving.get_loading_instances", READ)
def get_loading_instances(request: Request) -> dict[str, Any]:
    """Containers that have no address yet: {instances}."""
    now = seconds(request.now)
    return {"instances": [{**_of(each, "id", *MODEL.values(), "last_update"), "uptime_sec": each.get("uptime_sec", 0),
                           "age_sec": int(now - seconds(each["registered"]))}
                          for each in _all(request) if not each.get("url")]}


@endpoint("serving.get_endpoint_details", READ, {"endpoint_url": str})
def get_endpoint_details(request: Request) -> dict[str, Any]:
    """What is served at an address, and by which containers; none there is 400/12."""
    found = [each for each in _all(request) if each.get("url") == request.body["endpoint_url"]]
    if not found:
        raise error(12, "no instance serves it", endpoint_url=request.body["endpoint_url"])
    shown = ("id", *LOAD.values(), "last_update", "cpu_count", "gpu_count", "reference")
    return {**_of(found[0], *MODEL.values()), **_newest(found), "instances": [_of(each, *shown) for each in found]}


def _of(container: Container, *fields: str) -> dict[str, Any]:
    return {field: container[field] for field in fields if field in container}
