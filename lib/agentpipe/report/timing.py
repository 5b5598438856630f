"""Where a task's seconds went: stage by stage, out of what its manifest says of each."""

from __future__ import annotations

from agentpipe import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

STAGES = ("place", "fetch", "patch", "env")
SMALL_PINS = ("commit", "diff", "python", "image", "driver")


def stages(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """[{stage, began, seconds, cached, failed}] in order, as far as the manifest knows: queue, place … run.

    `began` is ISO 8601 UTC; `seconds` is None of what is under way; `cached` is there where a cache may have helped.
    """
    found = []
    pull = manifest.get("pull") or manifest.get("origin") or {}
    queued, pulled = units.moment(pull.get("queued")), units.moment(pull.get("pulled"))
    if queued is not None and pulled is not None:
        found.append({"stage": "queue", "began": pull["queued"], "seconds": round(max(0.0, pulled - queued), 3)})
    for name in sorted(STAGES, key=lambda name: (manifest.get(name) or {}).get("began") or ""):
        value = manifest.get(name) or {}
        if value.get("began") and value.get("seconds") is not None:
            found.append({"stage": name, "began": value["began"], "seconds": value["seconds"],
                          **({"cached": bool(value["cached"])} if value.get("cached") is not None else {})})
        if value.get("setup"):  # of a container: its scripts and system packages, one after the other
            steps = value["setup"]
            found.append({"stage": "setup", "began": steps[0].get("began"),
                          "seconds": round(sum(each["seconds"] for each in steps), 3)})
    failed = manifest.get("failed") or {}
    if failed.get("began"):
        found.append({"stage": failed.get("stage"), "began": failed["began"], "seconds": failed.get("seconds"),
                      "failed": True})
    run = manifest.get("run") or {}
    if run.get("started"):
        found.append({"stage": "run", "began": run["started"], "seconds": run.get("seconds")})
    return found


def pins(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the run repeatable, without its packages (those are recorded on the task)."""
    from agentpipe import manifest as manifests
    known = manifests.pins(manifest)
    return {key: known[key] for key in SMALL_PINS if known.get(key) is not None}
