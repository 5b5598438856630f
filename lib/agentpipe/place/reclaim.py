"""What another user inside of a container has written becomes ours, so that we can read and remove it."""

from __future__ import annotations

import contextlib
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT_S = 300.0  # for a chown of all that a task has written
# $1:$2 our user and group, then folders
CHOWN = """uid=$1 gid=$2; shift 2
find "$@" -xdev ! -user "$uid" -exec chown -h "$uid:$gid" {} +"""


def reclaim(api: Any, container: str, entered: list[str], ours: str, folders: list[str]) -> None:
    """Give these folders of the container to `ours` (USER:GROUP inside); `entered` is the prefix for its root.

    Where it runs no more, or its root has no power over files, another one of its image does that, which is shown these
    folders alone. An engine that does not answer, or starts nothing, keeps nobody: then they stay as they are.
    """
    import docker
    words = ["-c", CHOWN, "sh", *ours.split(":"), *folders]
    with contextlib.suppress(subprocess.TimeoutExpired, OSError, docker.errors.DockerException):
        done = subprocess.run([*entered, "sh", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=LIMIT_S)
        if done.returncode:
            _by_another(api, api.inspect_container(container), words, folders)


def _by_another(api: Any, found: dict[str, Any], words: list[str], folders: list[str]) -> None:
    mounts = [{"Type": "bind", "Source": each["Source"], "Target": each["Destination"]}
              for each in found["Mounts"] if each["Destination"] in folders]
    helper = api.create_container_from_config({
        "Image": found["Image"], "Entrypoint": ["/bin/sh"], "Cmd": words, "User": "0:0",
        "Labels": found["Config"]["Labels"],  # by which it is found should we be killed
        "HostConfig": {"Mounts": mounts, "NetworkMode": "none", "LogConfig": {"Type": "none"}}})["Id"]
    try:
        api.start(helper)
        api.wait(helper, timeout=LIMIT_S)
    finally:
        api.remove_container(helper, force=True, v=True)
