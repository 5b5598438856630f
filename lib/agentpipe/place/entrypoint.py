"""What an image's ENTRYPOINT does before it starts what it is given: run as `docker run` would, and its variables kept.

Images activate an environment there, or make libraries fit the driver. PID 1 is started through it and writes down what
it was given; every program that is run in the container later is given the same.
"""

from __future__ import annotations

import os
import re
import time

from agentpipe import paths, secrets, untrusted
from agentpipe.files import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ENTERED = secrets.FIRST  # in the task's box: PID 1's environment as the kernel has it
VARIABLES = secrets.ENTERED  # what of it every program gets, for the client's --env-file
WAIT_S = 15.0
LIMIT = 16 << 20  # bytes of an environment; the kernel takes 6 MiB
# what the client's file can say: of a line that is no NAME=VALUE it takes the value from our own environment
NAME = re.compile(r"[^\s=#\0][^\s=\0]*")
LINE = 1 << 16  # bytes, its end included: bufio.MaxScanTokenSize
# of the shell, not of the image
NOT_PASSED_ON = {"PWD", "OLDPWD", "SHLVL", "_", "HOME", "HOSTNAME", "TERM"}


def expected(directory: str) -> str:
    """The file into which PID 1 will write, made empty; whoever it is can."""
    box = paths.box(directory)
    fd = untrusted.opened(box, ENTERED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.fchmod(fd, 0o666)
    os.close(fd)
    return os.path.join(box, ENTERED)


def passed(directory: str, state: Callable[[], dict[str, Any]]) -> bool:
    """Wait until PID 1 has been started; False when the container ended, or too much time went by. `state()` asks the
    engine for the container's."""
    until, look = time.monotonic() + WAIT_S, 0.0
    while time.monotonic() < until:
        if _entered(directory).endswith(b"\0"):
            return True
        if time.monotonic() >= look:
            if not state().get("Running"):
                return False
            look = time.monotonic() + 0.25
        time.sleep(0.01)
    return False


def variables(directory: str, given: list[str]) -> list[str]:
    """Keep what the entrypoint has changed of the container's variables (`given`); the client's words that pass it on.

    Left out is a value of several lines, which no client can pass, and one that is no UTF-8 or too long: with that it
    would start nothing.
    """
    said = _entered(directory).decode("utf-8", "surrogateescape")
    entries = dict(entry.split("=", 1) for entry in said.split("\0") if "=" in entry)
    before = dict(entry.split("=", 1) for entry in given if "=" in entry)
    lines = [f"{name}={value}\n" for name, value in entries.items()
             if before.get(name) != value and name not in NOT_PASSED_ON and NAME.fullmatch(name)
             and "\n" not in value and _is_sayable(f"{name}={value}\n")]
    if not lines:
        return []
    path = os.path.join(directory, VARIABLES)
    publish(path, "".join(lines).encode())
    return ["--env-file", path]


def _is_sayable(line: str) -> bool:
    try:
        return len(line.encode()) <= LINE
    except UnicodeEncodeError:
        return False


def kept(directory: str) -> list[str]:
    """Those variables, as NAME=VALUE; none where the entrypoint has changed nothing."""
    try:
        return untrusted.read(directory, VARIABLES, LIMIT).decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return []


def _entered(directory: str) -> bytes:
    """What PID 1 has written; nothing where something else stands in the place of that file."""
    try:
        return untrusted.read(paths.box(directory), ENTERED, LIMIT)
    except OSError:
        return b""
