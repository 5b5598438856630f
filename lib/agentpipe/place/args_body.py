"""Options of `docker run` as the Engine API's container: the body that `docker create` would send.

Not docker-py's keywords: they cannot say all of what the API can (health checks, annotations, options of mounts …), and
this can be compared with what the client makes of the same words, which a test does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from agentpipe import errors, units
from agentpipe.place import args_values as values
from agentpipe.place import args_words
from agentpipe.place.args_words import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Body = dict[str, Any]

HOST = "HostConfig"
# what a client does beside the API, or what this pipeline does by itself: taken, without effect
IGNORED = {"attach", "detach", "detach-keys", "disable-content-trust", "interactive", "quiet", "rm", "sig-proxy", "tty"}
# what cannot be had, and why
REFUSED = {
    "cidfile": "the container's id stands in the manifest, in place.container",
    "cpu-count": "it is for Windows only", "cpu-percent": "it is for Windows only",
    "io-maxbandwidth": "it is for Windows only", "io-maxiops": "it is for Windows only",
    "isolation": "it is for Windows only", "use-api-socket": "the engine's socket is not given to tasks by it; use -v",
    "entrypoint": "it would take the place of what runs the task",
    "restart": "the engine cannot start a task again; agent-task enqueue can",
}
# the option: (section, key, how its text is read); the last one counts
SINGLE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "blkio-weight": (HOST, "BlkioWeight", values.natural), "cgroup-parent": (HOST, "CgroupParent", str),
    "cgroupns": (HOST, "CgroupnsMode", str), "cpu-period": (HOST, "CpuPeriod", values.integer),
    "cpu-quota": (HOST, "CpuQuota", values.integer), "cpu-rt-period": (HOST, "CpuRealtimePeriod", values.integer),
    "cpu-rt-runtime": (HOST, "CpuRealtimeRuntime", values.integer), "cpu-shares": (HOST, "CpuShares", values.integer),
    "cpus": (HOST, "NanoCpus", values.cpus), "cpuset-cpus": (HOST, "CpusetCpus", str),
    "cpuset-mems": (HOST, "CpusetMems", str), "ipc": (HOST, "IpcMode", str), "pid": (HOST, "PidMode", str),
    "kernel-memory": (HOST, "KernelMemory", units.read_size), "memory": (HOST, "Memory", units.read_size),
    "memory-reservation": (HOST, "MemoryReservation", units.read_size),
    "memory-swap": (HOST, "MemorySwap", values.swap),
    "memory-swappiness": (HOST, "MemorySwappiness", values.integer),
    "oom-score-adj": (HOST, "OomScoreAdj", values.integer), "pids-limit": (HOST, "PidsLimit", values.integer),
    "runtime": (HOST, "Runtime", str), "shm-size": (HOST, "ShmSize", units.read_size),
    "userns": (HOST, "UsernsMode", str),
    "uts": (HOST, "UTSMode", str), "volume-driver": (HOST, "VolumeDriver", str),
    "domainname": ("", "Domainname", str), "hostname": ("", "Hostname", str), "mac-address": ("", "MacAddress", str),
    "stop-signal": ("", "StopSignal", str), "stop-timeout": ("", "StopTimeout", values.integer),
    "user": ("", "User", str), "workdir": ("", "WorkingDir", str),
}
SWITCHES = {"init": "Init", "oom-kill-disable": "OomKillDisable", "privileged": "Privileged",
            "publish-all": "PublishAllPorts", "read-only": "ReadonlyRootfs"}
# each one more entry of a list
LISTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "add-host": ("ExtraHosts", lambda text: ":".join(values.pair(text, "=" if "=" in text else ":"))),
    "blkio-weight-device": ("BlkioWeightDevice", lambda text: {"Path": text.split(":")[0],
                                                               "Weight": values.natural(values.pair(text, ":")[1])}),
    "cap-add": ("CapAdd", values.capability), "cap-drop": ("CapDrop", values.capability),
    "device-cgroup-rule": ("DeviceCgroupRules", str),
    "device-read-bps": ("BlkioDeviceReadBps", lambda text: values.rate(text, units.read_size)),
    "device-read-iops": ("BlkioDeviceReadIOps", lambda text: values.rate(text, values.natural)),
    "device-write-bps": ("BlkioDeviceWriteBps", lambda text: values.rate(text, units.read_size)),
    "device-write-iops": ("BlkioDeviceWriteIOps", lambda text: values.rate(text, values.natural)),
    "dns": ("Dns", str), "dns-option": ("DnsOptions", str), "dns-search": ("DnsSearch", str),
    "gpus": ("DeviceRequests", values.gpus), "group-add": ("GroupAdd", str), "ulimit": ("Ulimits", values.ulimit),
    "volumes-from": ("VolumesFrom", str),
}
MAPS: dict[str, tuple[str, ...]] = {
    "annotation": (HOST, "Annotations"), "log-opt": (HOST, "LogConfig", "Config"),
    "storage-opt": (HOST, "StorageOpt"), "sysctl": (HOST, "Sysctls"),
}
HEALTH: dict[str, tuple[str, Callable[[str], Any]]] = {
    "health-interval": ("Interval", values.duration), "health-retries": ("Retries", values.natural),
    "health-start-interval": ("StartInterval", values.duration),
    "health-start-period": ("StartPeriod", values.duration), "health-timeout": ("Timeout", values.duration),
}


class Create:
    """What a container is created with: `config` is the API's body without an image; `name`, `platform` and `pull`
    (always, missing, never) are None when they were not asked for."""

    def __init__(self) -> None:
        self.config: Body = {"Env": [], "Labels": {}, HOST: {}}
        self.name: str | None = None
        self.platform: str | None = None
        self.pull: str | None = None
        self._networks: list[Body] = []


def of(options: Iterable[Option], exit: int = errors.BAD_DATA) -> Create:
    """The container that these options describe. A Failure names the option that the API cannot express, or whose value
    cannot be read."""
    from agentpipe.place import args_special as special
    made = Create()
    rest: dict[str, list[str]] = {}
    for option in options:
        if option.name in REFUSED:
            raise errors.Failure(f"--{option.name} cannot be had for a task's container: {REFUSED[option.name]}", exit,
                                 remedy=f"take --{option.name} out of the container's arguments")
        try:
            if not _simple(made.config, option):
                if option.name not in special.HANDLERS and option.name not in IGNORED:
                    raise ValueError("it is not known here")
                rest.setdefault(option.name, []).append(option.value)
        except (ValueError, ZeroDivisionError) as error:
            raise unreadable(option, error, exit) from None
    for name, handle in special.HANDLERS.items():
        if name not in rest:
            continue
        try:
            handle(made, rest[name])
        except ValueError as error:
            raise unreadable(Option(name, _culprit(handle, rest[name]), ""), error, exit) from None
    special.health(made.config)
    return made


def _culprit(handle: Callable[[Create, list[str]], None], texts: list[str]) -> str:
    """The first of an option's values that cannot be read by itself; all of them where only together they cannot."""
    for text in texts:
        try:
            handle(Create(), [text])
        except (ValueError, LookupError):
            return text
    return ", ".join(texts)


def _simple(body: Body, option: Option) -> bool:
    """Options that are one value of the body."""
    name, text = option.name, option.value
    if name in SINGLE:
        section, key, read = SINGLE[name]
        (body[section] if section else body)[key] = read(text)
    elif name in SWITCHES:
        body[HOST][SWITCHES[name]] = text == "true"
    elif name in LISTS:
        key, read = LISTS[name]
        body[HOST].setdefault(key, []).append(read(text))
    elif name in MAPS:
        *above, last = MAPS[name]
        place = body
        for each in above:
            place = place.setdefault(each, {})
        key, value = values.pair(text) if "=" in text else (text, "")
        place.setdefault(last, {})[key] = value
    elif name in HEALTH:
        key, read = HEALTH[name]
        body.setdefault("Healthcheck", {})[key] = read(text)
    elif name == "env-file":  # so before what --env says
        body["Env"] += values.environment_file(text, os.environ if option.environ is None else option.environ)
    else:
        return False
    return True


def unreadable(option: Option, error: Exception, exit: int = errors.BAD_DATA) -> errors.Failure:
    """What is said of a value that cannot be read."""
    # int() and float() name the value in words of their own
    why = str(error) if not str(error).startswith(("invalid literal", "could not convert", "Invalid literal")) \
        else "it is no number"
    shown = option.value.partition("=")[0] if option.name == "env" else option.value
    return errors.Failure(f"--{option.name} {shown}: {why}", exit, remedy=args_words.mend(exit))
