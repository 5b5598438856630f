"""The values that options of `docker run` take, as its client reads them (docker/cli opts, docker/go-units)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping

from agentpipe import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# of so few digits that a float has them, and that a long row of them is looked at once
_DURATION = re.compile(r"(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(ns|us|µs|ms|s|m|h)")
_PROCESSORS = re.compile(r"[+-]?[\d./]{1,40}(?:[eE][+-]?\d{1,2})?")  # 1e999999999 is a number that no memory holds
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
ULIMITS = {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
           "rttime", "sigpending", "stack"}


def integer(text: str) -> int:
    """A whole number, as Go's strconv reads it (0x10 too)."""
    return int(text, 0) if not re.fullmatch(r"[+-]?0\d+", text) else int(text, 8)


def natural(text: str) -> int:
    """A number from 0."""
    found = integer(text)
    if found < 0:
        raise ValueError("it is below 0")
    return found


def swap(text: str) -> int:
    """A size, or -1: no limit."""
    return -1 if text == "-1" else units.read_size(text)


def cpus(text: str) -> int:
    """Parts of a processor, in billionths."""
    from fractions import Fraction
    if not _PROCESSORS.fullmatch(text):
        raise ValueError("it is no number")
    found = Fraction(text) * 10**9
    if found.denominator != 1 or found < 0:
        raise ValueError("it is too precise" if found >= 0 else "it is below 0")
    return int(found)


def duration(text: str) -> int:
    """Nanoseconds of 1m30s."""
    parts = _DURATION.findall(text)
    if text == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("it is no duration (1m30s)")
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))


def pair(text: str, between: str = "=") -> tuple[str, str]:
    """NAME=VALUE, both sides wanted."""
    name, found, value = text.partition(between)
    if not found or not name:
        raise ValueError(f"NAME{between}VALUE is wanted")
    return name, value


def fields(text: str) -> list[tuple[str, str, bool]]:
    """key=value,key2=value2 with the quotes of CSV: (key, value, whether there was an =)."""
    found = []
    for word in _csv(text):
        key, equals, value = word.partition("=")
        found.append((key.strip().lower() if equals else key.strip(), value, bool(equals)))
    return found


def _csv(text: str) -> list[str]:
    try:
        return next(csv.reader([text]), [])
    except csv.Error as error:  # a line's end within it
        raise ValueError(str(error)) from None


def gpus(text: str) -> dict[str, Any]:
    """A DeviceRequest of all, 2, device=0,1, "device=GPU-…",capabilities=…; numbers after device= go with it."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": {}}
    counted = False
    for key, value, has_value in fields(text):
        if not has_value and request["DeviceIDs"]:
            request["DeviceIDs"].append(key)
        elif not has_value or key == "count":
            number = value if has_value else key
            request["Count"], counted = -1 if number == "all" else natural(number), True
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = dict(pair(each) for each in _csv(value))
        else:
            raise ValueError(f"{key} is no key of it")
    if counted and request["DeviceIDs"]:
        raise ValueError("it names devices and a count")
    if not counted and not request["DeviceIDs"]:
        request["Count"] = 1
    request["Capabilities"] = request["Capabilities"] or [["gpu"]]
    return request


def ulimit(text: str) -> dict[str, Any]:
    """nofile=1024:2048"""
    name, limits = pair(text)
    if name not in ULIMITS:
        raise ValueError(f"{name} is no limit")
    soft, _, hard = limits.partition(":")
    low, high = integer(soft), integer(hard or soft)
    if high != -1 and (low > high or low == -1):
        raise ValueError("the soft limit is above the hard one")
    return {"Name": name, "Soft": low, "Hard": high}


def device(text: str) -> dict[str, str] | str:
    """HOST[:INSIDE[:rwm]], or the name of a CDI device (vendor.com/class=name)."""
    if re.fullmatch(r"[a-zA-Z0-9][\w.-]*/[a-zA-Z0-9][\w.-]*=[\w.:-]+", text):
        return text
    parts = text.split(":")
    if len(parts) > 3:
        raise ValueError("HOST[:INSIDE[:rwm]] is wanted")
    if len(parts) == 2 and _is_mode(parts[1]):
        parts = [parts[0], parts[0], parts[1]]
    mode = parts[2] if len(parts) == 3 else "rwm"
    if not _is_mode(mode):
        raise ValueError(f"{mode} is no mode (of the letters r, w, m)")
    return {"PathOnHost": parts[0], "PathInContainer": parts[1] if len(parts) > 1 else parts[0],
            "CgroupPermissions": mode}


def capability(text: str) -> str:
    """sys_ptrace, CAP_SYS_PTRACE, all"""
    name = text.strip().upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def rate(text: str, of: Any) -> dict[str, Any]:
    """/dev/sda:1mb"""
    path, value = pair(text, ":")
    if not path.startswith("/dev/"):
        raise ValueError("/dev/DEVICE:RATE is wanted")
    return {"Path": path, "Rate": of(value)}


class Port:
    """[IP:][HOST:]INSIDE[/PROTOCOL] of --publish; `host` and `inside` are ranges (first, last), `host` may be None."""

    def __init__(self, text: str) -> None:
        if "=" in text:
            text = _long_port(text)
        ports, slash, protocol = text.partition("/")
        self.protocol = protocol.lower() if slash else "tcp"
        if self.protocol not in ("tcp", "udp", "sctp"):
            raise ValueError(f"{self.protocol} is no protocol")
        rest, _, inside = ports.rpartition(":")
        self.ip, colon, host = rest.rpartition(":")
        if self.ip.startswith("[") and self.ip.endswith("]"):
            self.ip = self.ip[1:-1]
        elif ":" in self.ip or (colon and not self.ip) or "[" in rest:
            raise ValueError("[IP:][HOST:]INSIDE[/tcp] is wanted, an IPv6 address in []")
        if self.ip and not _is_address(self.ip):  # a name would be asked for of each port's
            raise ValueError(f"{self.ip} is no IP address")
        self.inside = _range(inside)
        self.host = _range(host) if host else None
        first, last = self.inside
        if self.host and self.host[1] - self.host[0] != last - first and first != last:
            raise ValueError("the ranges are not equally long")

    def bindings(self) -> Iterable[tuple[str, dict[str, str]]]:
        """(80/tcp, {HostIp, HostPort}) for each port inside."""
        first, last = self.inside
        for port in range(first, last + 1):
            host = ""
            if self.host and first == last and self.host[0] != self.host[1]:
                host = f"{self.host[0]}-{self.host[1]}"  # the engine takes a free one of them
            elif self.host:
                host = str(self.host[0] + port - first)
            yield f"{port}/{self.protocol}", {"HostIp": self.ip, "HostPort": host}

    def text(self) -> str:
        """As --publish takes it."""
        ip = f"[{self.ip}]:" if ":" in self.ip else f"{self.ip}:" if self.ip else ""
        host = f"{_dashed(self.host)}:" if self.host else ":" if ip else ""
        return f"{ip}{host}{_dashed(self.inside)}/{self.protocol}"

    def mapping(self) -> str:
        """OUT:IN, as the `clearml` package reads it."""
        return f"{_dashed(self.host)}:{_dashed(self.inside)}" if self.host else ""


def expose(text: str) -> list[str]:
    """80, 80-90/udp: each port with its protocol."""
    ports, _, protocol = text.partition("/")
    first, last = _range(ports)
    return [f"{port}/{(protocol or 'tcp').lower()}" for port in range(first, last + 1)]


def environment_file(path: str, environ: Mapping[str, str]) -> list[str]:
    """The NAME=VALUE lines of a file of --env-file or --label-file (docker/cli, pkg/kvfile).

    White space before a name is none of it, all behind the `=` is the value: quotes, a `#`, blanks at its end. NAME
    alone gets the value that `environ` has, and is left out where it has none.
    """
    try:
        with open(os.path.expanduser(path), "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(getattr(error, "strerror", None) or "it is no UTF-8 text") from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        if not name or re.search(r"\s", name):  # the line itself may be a secret
            raise ValueError(f"line {number} " + ("has no name" if not name else "has white space in its name"))
        if equals:
            found.append(line)
        elif name in environ:
            found.append(f"{name}={environ[name]}")
    return found


def _is_address(text: str) -> bool:
    import ipaddress
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low, high = int(first), int(last) if dash else int(first)
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"{text} is no port")
    return low, high


def _dashed(ports: tuple[int, int] | None) -> str:
    return "" if ports is None else str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def _long_port(text: str) -> str:
    """target=80,published=8080,protocol=tcp in the short form."""
    known = {"target": "", "published": "", "protocol": "tcp", "mode": ""}
    for key, value, _ in fields(text):
        if key not in known:
            raise ValueError(f"{key} is no key of it")
        known[key] = value
    return (f"{known['published']}:" if known["published"] else "") + f"{known['target']}/{known['protocol']}"
