"""The GPUs of a task's container: fixed when it is made, by a device request; by variables where all can be reached."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from agentpipe import gpus
from agentpipe.place import container_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGNS = ("dev/nvidiactl", "proc/driver/nvidia/version", "dev/dxg")  # a driver; the last one is WSL's

GPU = re.compile(r"/+dev/(kfd|dri|nvidia|dxg)")
CDI = re.compile("/(gpu|mig)=")
RULE = re.compile(r"a\b|c (\*|195|226):")  # of --device-cgroup-rule: everything, NVIDIA's cards, render nodes


def nvidia(config: dict[str, Any], environ: Mapping[str, str], cpu_only: bool = False, root: str = "/") -> str:
    """Ask for the GPUs that are ours (--gpus, the visible-devices variables), else for all that this machine has.

    `config` is the body by which the Engine API creates a container. What the task's arguments ask for counts only
    where nothing is said here: a task cannot get more than its agent. A word for the log when that is changed.
    CLEARML_DOCKER_SKIP_GPUS_FLAG sets the variable only, for engines whose default runtime is NVIDIA's.
    """
    host = config["HostConfig"]
    theirs = [each for each in host.get("DeviceRequests") or [] if _is_gpu(each)]
    ours = [] if cpu_only else gpus.visible(environ)
    if ours is None:
        if theirs or not any(os.path.exists(os.path.join(root, sign)) for sign in SIGNS):
            return ""
        _request(config, None, environ)
        return ""
    host["DeviceRequests"] = [each for each in host.get("DeviceRequests") or [] if each not in theirs]
    _request(config, ours, environ)
    if not theirs or theirs == host["DeviceRequests"]:
        return ""
    return f"--gpus of the container's arguments is left out: this agent has {', '.join(ours) or 'no GPU'}"


def withhold(config: dict[str, Any], environ: Mapping[str, str], cpu_only: bool = False) -> str:
    """Leave out the GPUs that --device of the task's arguments names, by path or in CDI's way, where it is said here
    which are ours. A word for the log when there were any; to be called before gear.add(), which adds AMD's own."""
    if not cpu_only and gpus.visible(environ) is None:
        return ""
    host, left = config["HostConfig"], []
    for each in host.get("Devices") or []:
        left += [each["PathOnHost"]] if _gpu_path(each["PathOnHost"]) else []
    if left:
        host["Devices"] = [each for each in host["Devices"] if each["PathOnHost"] not in left]
    for request in host.get("DeviceRequests") or []:
        if request.get("Driver") == "cdi":
            named = [id for id in request["DeviceIDs"] if CDI.search(id)]
            left += named
            request["DeviceIDs"] = [id for id in request["DeviceIDs"] if id not in named]
    if host.get("DeviceRequests"):
        host["DeviceRequests"] = [each for each in host["DeviceRequests"]
                                  if each.get("Driver") != "cdi" or each["DeviceIDs"]]
    return f"--device {', '.join(left)} of the container's arguments is left out: this agent says which GPUs it has" \
        if left else ""


def hide(config: dict[str, Any], environ: Mapping[str, str], cpu_only: bool = False) -> str:
    """Name our GPUs to CUDA where the arguments open all of this machine to the container (--privileged, /dev mounted,
    a rule for devices), whatever they say there themselves. A word for the log; after nvidia(), which names them to
    NVIDIA's runtime."""
    ours = [] if cpu_only else gpus.visible(environ)
    opened = _opened(config["HostConfig"])
    if ours is None or not opened:
        return ""
    container_env.override(config, gpus.CUDA, ",".join(uuids(ours)))
    return (f"{', '.join(opened)} may open every GPU of this machine to the container: only {gpus.NVIDIA} and "
            f"{gpus.CUDA} keep the task to what this agent has ({', '.join(ours) or 'no GPU'}), and its script can "
            "change them")


def uuids(words: list[str]) -> list[str]:
    """The same GPUs by names that mean the same wherever only some are seen; numbers stay where no driver answers."""
    if not any(word.isdigit() for word in words):
        return words
    from agentpipe.report import gpu_reader
    known = {str(card["index"]): card["uuid"] for card in gpu_reader.ask(everything=True).get("gpus") or []}
    return [known.get(word) or word for word in words]


def _opened(host: Mapping[str, Any]) -> list[str]:
    """The arguments, as they are spelled, by which more devices can be reached than were asked for."""
    found = ["--privileged"] if host.get("Privileged") else []
    sources = [bind.partition(":")[0] for bind in host.get("Binds") or []]
    sources += [each.get("Source") or "" for each in host.get("Mounts") or [] if each.get("Type") == "bind"]
    found += [f"a mount of {source}" for source in sources if source.startswith("/") and _gpu_path(source)]
    rules = [rule for rule in host.get("DeviceCgroupRules") or [] if RULE.match(rule)]
    return found + [f"--device-cgroup-rule '{rule}'" for rule in rules]


def _gpu_path(path: str) -> bool:
    """Whether a device is a GPU, or a folder with all of them; a link is what it leads to."""
    return any(each in ("/", "/dev") or GPU.match(each) for each in (os.path.normpath(path), os.path.realpath(path)))


def _request(config: dict[str, Any], ids: list[str] | None, environ: Mapping[str, str]) -> None:
    named = ",".join(ids) if ids else "all" if ids is None else "none"
    if not any(each.startswith(gpus.NVIDIA + "=") for each in config["Env"]) or ids is not None:
        container_env.override(config, gpus.NVIDIA, named)
    if named != "none" and not environ.get("CLEARML_DOCKER_SKIP_GPUS_FLAG"):
        request: dict[str, Any] = {"Driver": "", "Count": 0 if ids else -1, "DeviceIDs": ids, "Capabilities": [["gpu"]],
                                   "Options": {}}
        config["HostConfig"].setdefault("DeviceRequests", []).append(request)



def _is_gpu(request: Mapping[str, Any]) -> bool:
    return any("gpu" in names for names in request.get("Capabilities") or [])
