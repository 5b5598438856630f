"""Which place a task asks for."""

from __future__ import annotations

import os

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

KINDS = ("host", "docker")


class Container:
    """The decision: `engine` "host" or "docker", then with the image."""

    def __init__(self, engine: str, image: str = "", reason: str = "") -> None:
        self.engine, self.image, self.reason = engine, image, reason


def decide(job: Job) -> Container:
    """The place for this task: the image that it names, else the host."""
    wish = job.option("place") or os.environ.get("AGENT_PLACE") or "docker"
    if wish not in KINDS:
        raise errors.Failure(f"--place is one of {', '.join(KINDS)}, not {wish}", errors.USAGE)
    image = (job.task.get("container") or {}).get("image")
    if wish == "host":
        return Container("host", reason="agent-prepare was told to run tasks on the host")
    return Container(wish, image, f"the task asks for image {image}") if image else Container(
        "host", reason="no container was asked for")
