"""Options of `docker run` that are more than one value of the Engine API's body: each takes all of its values."""

from __future__ import annotations

import json
import os
import re

from agentpipe import units
from agentpipe.place import args_values as values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.place.args_body import Create

HOST = "HostConfig"
_MOUNT_KEYS = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions", "image": "ImageOptions"}


def env(made: Create, lines: list[str]) -> None:
    """--env NAME=VALUE (NAME alone has been given its value already)."""
    made.config["Env"] += lines


def labels(made: Create, lines: list[str]) -> None:
    """--label NAME=VALUE, NAME alone is empty."""
    for line in lines:
        name, _, value = line.partition("=")
        made.config["Labels"][name] = value


def label_files(made: Create, paths: list[str]) -> None:
    """--label-file"""
    for path in paths:
        labels(made, values.environment_file(path, {}))


def volumes(made: Create, texts: list[str]) -> None:
    """--volume SOURCE:INSIDE[:OPTIONS], or INSIDE alone, a volume without a name."""
    for text in texts:
        source, colon, rest = text.partition(":")
        inside = rest.split(":")[0] if colon else source
        if not inside.startswith("/"):
            raise ValueError("the path inside is not absolute")
        if source.startswith((".", "~")):
            raise ValueError("the path on this machine is not absolute")
        if not colon:
            made.config.setdefault("Volumes", {})[text] = {}
        else:
            made.config[HOST].setdefault("Binds", []).append(text)


def mounts(made: Create, texts: list[str]) -> None:
    """--mount type=bind,source=…,target=…,readonly"""
    for text in texts:
        made.config[HOST].setdefault("Mounts", []).append(mount(text))


def tmpfs(made: Create, texts: list[str]) -> None:
    """--tmpfs PATH[:OPTIONS]"""
    for text in texts:
        path, _, options = text.partition(":")
        made.config[HOST].setdefault("Tmpfs", {})[path] = options


def devices(made: Create, texts: list[str]) -> None:
    """--device, of this machine or by the container device interface."""
    cdi = []
    for text in texts:
        found = values.device(text)
        if isinstance(found, str):
            cdi.append(found)
        else:
            made.config[HOST].setdefault("Devices", []).append(found)
    if cdi:
        made.config[HOST].setdefault("DeviceRequests", []).append({"Driver": "cdi", "DeviceIDs": cdi})


def publish(made: Create, texts: list[str]) -> None:
    """--publish"""
    for text in texts:
        for inside, binding in values.Port(text).bindings():
            made.config.setdefault("ExposedPorts", {})[inside] = {}
            made.config[HOST].setdefault("PortBindings", {}).setdefault(inside, []).append(binding)


def expose(made: Create, texts: list[str]) -> None:
    """--expose"""
    for text in texts:
        made.config.setdefault("ExposedPorts", {}).update({port: {} for port in values.expose(text)})


def security(made: Create, texts: list[str]) -> None:
    """--security-opt; a seccomp profile is read here, as the client does."""
    for text in texts:
        if text == "systempaths=unconfined":
            made.config[HOST]["MaskedPaths"], made.config[HOST]["ReadonlyPaths"] = [], []
            continue
        name, value = _named(text)
        if not value and name != "no-new-privileges":
            raise ValueError("NAME=VALUE is wanted")
        if profile(text):
            try:
                with open(os.path.expanduser(value), encoding="utf-8") as file:
                    text = "seccomp=" + json.dumps(json.load(file), separators=(",", ":"))
            except OSError as error:
                raise ValueError(error.strerror or "it cannot be read") from None
            except ValueError:  # not in the parser's words: it may be any file
                raise ValueError("the profile is no JSON") from None
        made.config[HOST].setdefault("SecurityOpt", []).append(text)


def profile(text: str) -> str:
    """The file that seccomp=FILE of --security-opt names; "" of other values."""
    name, value = _named(text)
    return value if name == "seccomp" and value not in ("unconfined", "builtin") else ""


def log_driver(made: Create, texts: list[str]) -> None:
    """--log-driver"""
    made.config[HOST].setdefault("LogConfig", {"Config": {}})["Type"] = texts[-1]


def networks(made: Create, texts: list[str]) -> None:
    """--network NAME, or name=NAME,alias=A,ip=… ; the first is the container's own."""
    for text in texts:
        made._networks.append(_network(text))
    made.config[HOST]["NetworkMode"] = made._networks[0]["name"]
    for each in made._networks:
        settings = {key: value for key, value in each.items() if key != "name"}
        if settings or len(made._networks) > 1:
            _endpoint(made, each["name"]).update(settings)


def endpoint(key: str, *inner: str) -> Any:
    """--ip, --network-alias and their like: settings of the container's own network."""
    def handle(made: Create, texts: list[str]) -> None:
        at = _endpoint(made, made.config[HOST].get("NetworkMode") or "default")
        for each in inner:
            at = at.setdefault(each, {})
        at[key] = texts if key in ("Aliases", "LinkLocalIPs") else texts[-1]
    return handle


def links(made: Create, texts: list[str]) -> None:
    """--link CONTAINER[:ALIAS]; on the default network it is the container's, on others the endpoint's."""
    if (made.config[HOST].get("NetworkMode") or "default") in ("default", "bridge"):
        made.config[HOST]["Links"] = texts
    else:
        _endpoint(made, made.config[HOST]["NetworkMode"])["Links"] = texts


def health_cmd(made: Create, texts: list[str]) -> None:
    """--health-cmd"""
    made.config.setdefault("Healthcheck", {})["Test"] = ["CMD-SHELL", texts[-1]]


def no_healthcheck(made: Create, texts: list[str]) -> None:
    """--no-healthcheck"""
    if texts[-1] == "true":
        if made.config.get("Healthcheck"):
            raise ValueError("it contradicts --health-…")
        made.config["Healthcheck"] = {"Test": ["NONE"]}


def outside(attribute: str, known: tuple[str, ...] = ()) -> Any:
    """--name, --platform, --pull: not of the body."""
    def handle(made: Create, texts: list[str]) -> None:
        if known and texts[-1] not in known:
            raise ValueError(f"one of {', '.join(known)} is wanted")
        setattr(made, attribute, texts[-1])
    return handle


def health(body: dict[str, Any]) -> None:
    """A check without a command of its own is the image's, with these times."""
    if "Healthcheck" in body:
        body["Healthcheck"].setdefault("Test", [])


# in the order in which they are looked at: those of a network after --network
HANDLERS: dict[str, Any] = {
    "env": env, "label-file": label_files, "label": labels, "volume": volumes, "mount": mounts,
    "tmpfs": tmpfs, "device": devices, "publish": publish, "expose": expose, "security-opt": security,
    "log-driver": log_driver, "network": networks, "network-alias": endpoint("Aliases"),
    "ip": endpoint("IPv4Address", "IPAMConfig"), "ip6": endpoint("IPv6Address", "IPAMConfig"),
    "link-local-ip": endpoint("LinkLocalIPs", "IPAMConfig"), "link": links, "health-cmd": health_cmd,
    "no-healthcheck": no_healthcheck, "name": outside("name"), "platform": outside("platform"),
    "pull": outside("pull", ("always", "missing", "never")),
}


def _named(text: str) -> tuple[str, str]:
    """(name, value) of --security-opt, which takes NAME=VALUE and, of old, NAME:VALUE."""
    name, _, value = text.partition("=" if "=" in text else ":")
    return name, value


def _endpoint(made: Create, name: str) -> dict[str, Any]:
    return made.config.setdefault("NetworkingConfig", {}).setdefault("EndpointsConfig", {}).setdefault(name, {})


def _network(text: str) -> dict[str, Any]:
    if "=" not in text:
        return {"name": text}
    found: dict[str, Any] = {}
    for key, value, _ in values.fields(text):
        if key == "name":
            found["name"] = value
        elif key == "alias":
            found.setdefault("Aliases", []).append(value)
        elif key in ("ip", "ip6"):
            found.setdefault("IPAMConfig", {})["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "link-local-ip":
            found.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
        elif key == "mac-address":
            found["MacAddress"] = value
        elif key == "driver-opt":
            name, option = values.pair(value)
            found.setdefault("DriverOpts", {})[name] = option
        elif key == "gw-priority":
            found["GwPriority"] = values.integer(value)
        else:
            raise ValueError(f"{key} is no key of it")
    if "name" not in found:
        raise ValueError("name=NETWORK is missing")
    return found


def mount(text: str) -> dict[str, Any]:
    """A mount as the API's HostConfig.Mounts has it, from --mount's "type=bind,source=…,target=…"; 65 when wrong."""
    found: dict[str, Any] = {"Type": "volume"}
    options: dict[str, Any] = {}
    for key, value, has_value in values.fields(text):
        if key in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive") and not has_value:
            value = "true"
        if key == "type":
            found["Type"] = value.lower()
        elif key in ("source", "src"):
            found["Source"] = value
        elif key in ("target", "dst", "destination"):
            found["Target"] = value
        elif key in ("readonly", "ro"):
            found["ReadOnly"] = _yes(value)
        elif key == "consistency":
            found["Consistency"] = value.lower()
        else:
            _mount_option(options, key, value)
    if found["Type"] not in _MOUNT_KEYS or "Target" not in found:
        raise ValueError("a target is missing" if found["Type"] in _MOUNT_KEYS else f"{found['Type']} is no type")
    if found["Type"] == "bind" and not found.get("Source", "").startswith("/"):
        raise ValueError("the source is not an absolute path")
    wrong = [kind for kind in options if kind != found["Type"]]
    if wrong:
        raise ValueError(f"options of {wrong[0]} do not fit type {found['Type']}")
    if found["Type"] in options:
        found[_MOUNT_KEYS[found["Type"]]] = options[found["Type"]]
    return found


def _mount_option(options: dict[str, Any], key: str, value: str) -> None:
    kind = key.partition("-")[0]
    known: dict[str, tuple[str, Any]] = {
        "bind-propagation": ("Propagation", str.lower), "bind-nonrecursive": ("NonRecursive", _yes),
        "volume-subpath": ("Subpath", str), "volume-nocopy": ("NoCopy", _yes), "image-subpath": ("Subpath", str),
        "tmpfs-size": ("SizeBytes", units.read_size), "tmpfs-mode": ("Mode", lambda text: int(text, 8)),
    }
    if key in known:
        field, read = known[key]
        options.setdefault(kind, {})[field] = read(value)
    elif key == "volume-label":
        label, _, text = value.partition("=")
        options.setdefault(kind, {}).setdefault("Labels", {})[label] = text
    elif key == "volume-driver":
        options.setdefault(kind, {}).setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        option, text = values.pair(value)
        options.setdefault(kind, {}).setdefault("DriverConfig", {}).setdefault("Options", {})[option] = text
    elif key == "bind-recursive" and value in ("enabled", "disabled", "writable", "readonly"):
        fields = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
        options.setdefault(kind, {}).update({fields[value]: True} if value in fields else {})
    else:
        raise ValueError(f"{key} is no key of it")


def _yes(text: str) -> bool:
    if not re.fullmatch(r"1|0|t|f|true|false", text, re.IGNORECASE):
        raise ValueError(f"{text} is neither true nor false")
    return text.lower() in ("1", "t", "true")
