"""An agent that is in a container or a pod itself: its engine, outside, knows its folders by other paths, and what it
starts is a neighbour."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from agentpipe import errors, gpus
from agentpipe.place import container_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def outside(path: str) -> str:
    """The path by which the engine knows a folder of ours, when we are in a container ourselves:
    CLEARML_AGENT_DOCKER_HOST_MOUNT=THERE:HERE. Failure 78 for one that it does not cover."""
    given = host_mount()
    if not given:
        return path
    there, _, here = given.partition(":")
    here = here.rstrip("/")
    if path != here and not path.startswith(here + "/"):
        raise errors.Failure(f"{path} is not below {here or '/'}, where this machine's folder {there} is mounted",
                             errors.BAD_CONFIG, remedy=f"set AGENT_HOME to a folder below {here}, or mend "
                                                       "CLEARML_AGENT_DOCKER_HOST_MOUNT=THERE:HERE")
    return there.rstrip("/") + path[len(here):]


def lent(path: str) -> str | None:
    """The same for what is not of our cache: a file that the mount does not cover is copied below it, a folder is left
    out (None)."""
    import shutil

    from agentpipe import files, paths
    try:
        return outside(path)
    except errors.Failure:
        if not os.path.isfile(path):
            return None
    found = os.stat(path)
    copy = paths.cache("containers", "files", f"{found.st_size}-{found.st_mtime_ns}-{os.path.basename(path)}")
    if not os.path.exists(copy):
        os.makedirs(os.path.dirname(copy), 0o755, exist_ok=True)
        new = files.temporary(copy)
        shutil.copy2(path, new)
        os.rename(new, copy)
    return outside(copy)


def host_mount() -> str:
    """CLEARML_AGENT_DOCKER_HOST_MOUNT, by its other names too. Failure 78 for what is no THERE:HERE."""
    names = ("CLEARML_AGENT_K8S_HOST_MOUNT", "CLEARML_AGENT_DOCKER_HOST_MOUNT",
             "TRAINS_AGENT_K8S_HOST_MOUNT", "TRAINS_AGENT_DOCKER_HOST_MOUNT")
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        return ""
    there, _, here = os.environ[name].partition(":")
    if not (there.startswith("/") and here.startswith("/")):
        raise errors.Failure(f"{name} is {os.environ[name]}, no THERE:HERE of absolute paths", errors.BAD_CONFIG)
    return os.environ[name]


def in_pod(env: Mapping[str, str] = os.environ) -> bool:
    """Whether we are in a pod of Kubernetes, beside whose containers ours are started."""
    return bool(env.get("KUBERNETES_SERVICE_HOST") and env.get("KUBERNETES_PORT"))


def beside(config: dict[str, Any], api: Any, own: str = "") -> None:
    """In a container or a pod ourselves: the same network as ours, unless the arguments name one, and the same GPUs.
    `api` is docker-py's low-level client."""
    if not (host_mount() or in_pod()):
        return
    import docker
    if not config["HostConfig"].get("NetworkMode"):
        try:
            mode = api.inspect_container(own or _own_container())["HostConfig"]["NetworkMode"]
            config["HostConfig"]["NetworkMode"] = mode
        except (docker.errors.APIError, KeyError):  # another engine's container
            pass
    visible = os.environ.get(gpus.NVIDIA)
    if visible:
        container_env.set_default(config, gpus.NVIDIA, visible)


def _own_container() -> str:
    """The id of the container that we are in: its hosts file is mounted from a folder of that name."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        found = re.search(r"/containers/([0-9a-f]{64})/", file.read())
    return found[1] if found else os.uname().nodename
