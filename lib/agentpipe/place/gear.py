"""What a task's container gets besides its arguments: shared caches, keys, AMD's devices, variables.

Each function adds to `config`, the body by which the Engine API creates a container (args_body.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from agentpipe import errors, gpus
from agentpipe.place import container_env, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.container_args import Args
    from agentpipe.place.decide import Container

HOST = "HostConfig"
# (the folder here, by its setting and else in our cache; where it appears inside, by its setting and else)
CACHES = {
    "apt": ("agent.docker_apt_cache", "agent.docker_internal_mounts.apt_cache", "/var/cache/apt/archives"),
    "apt-lists": ("", "", "/var/lib/apt/lists"),
    "dnf": ("", "", "/var/cache/dnf"),
    "apk": ("", "", "/var/cache/apk"),
    "pip": ("agent.docker_pip_cache", "agent.docker_internal_mounts.pip_cache", "/root/.cache/pip"),
    "poetry": ("agent.docker_poetry_cache", "agent.docker_internal_mounts.poetry_cache", "/root/.cache/pypoetry"),
    "sdk": ("sdk.storage.cache.default_base_dir", "agent.docker_internal_mounts.sdk_cache", "/clearml_agent_cache"),
}
SYSTEM = ("apt", "apt-lists", "dnf", "apk")
_slots: list[int] = []  # the lock of the folders in use


def add(config: dict[str, Any], job: Job, container: Container, args: Args, stranger: str = "",
        is_others: bool = False) -> None:
    """All of it; what the container's own arguments say already stays. `stranger` is its user, where our folders are
    closed to it; `is_others` says whether its root is somebody else than we."""
    variables(config, job, container)
    theirs = len(config[HOST].get("Binds") or [])
    caches(config, container, args, stranger)
    ssh(config, job, container, is_others)
    binds = config[HOST].get("Binds") or []
    kept = []
    for bind in binds[theirs:]:
        source, _, rest = bind.partition(":")
        there = nested.lent(source)
        if there:
            kept.append(f"{there}:{rest}")
        else:
            job.say(f"{source} cannot be shown to the container: it is not below {nested.host_mount()}")
    binds[theirs:] = kept
    if is_amd() and not config[HOST].get("DeviceRequests"):
        amd(config)


def variables(config: dict[str, Any], job: Job, container: Container) -> None:
    """The variables that clearml-agent sets in its containers, for their set-up scripts too; a task by hand has no
    server that would know its id."""
    from agentpipe import manifest
    from agentpipe.place import certificates
    pull = job.manifest.get("pull")
    worker = (pull or {}).get("worker") or ""
    found = {"CLEARML_WORKER_ID": worker, "CLEARML_DOCKER_IMAGE": container.image,
             "CLEARML_TASK_ID": job.task["id"] if pull else "",
             "CLEARML_WORKER_TAGS": os.environ.get("CLEARML_WORKER_TAGS", ""),
             "CLEARML_AGENT_SERVICE_TASK": "1" if manifest.is_service(job.manifest) else "",
             **certificates.variables(job.directory)}
    for name, value in found.items():
        if value:
            container_env.set_default(config, name, value)


def caches(config: dict[str, Any], container: Container, args: Args, stranger: str = "") -> None:
    """Folders of package managers, shared between tasks; those of system packages by one container at a time. That of
    the SDK, which the script itself fills, is shared between those of one stranger, who can write in no other."""
    from agentpipe import paths
    from agentpipe.place import setup_script
    from agentpipe.settings import config as settings
    check_home(":")  # between source and target of a mount
    wanted = ["pip", "sdk"]
    if settings.get("agent.package_manager.type") == "poetry":
        wanted.append("poetry")
    suffix = ""
    if setup_script.wants_packages(container, args.asks_for_packages):
        suffix = _free_slot()
        wanted += SYSTEM
    taken = mounted(config)
    for name in wanted:
        inside = folder_inside(name)
        if os.path.normpath(inside) not in taken:
            folder = folder_here(name, suffix if name in SYSTEM else "")
            if name == "sdk" and stranger and paths.in_cache(folder):  # to which only our own folders lead
                folder = folder_here(name, "." + re.sub(r"[^\w.-]", "-", stranger))
                os.chmod(folder, 0o777)
            config[HOST].setdefault("Binds", []).append(f"{folder}:{inside}")


def check_home(sign: str) -> None:
    """Failure 78 where the path of our folders has this sign, with which no container can be told of them."""
    from agentpipe import paths
    for folder in (paths.state("tasks"), paths.cache()):
        if sign in folder:
            raise errors.Failure(f"{folder} has a {sign!r} in its path, which no container can mount",
                                 errors.BAD_CONFIG, remedy="set AGENT_HOME to another folder")


def folder_here(name: str, suffix: str = "") -> str:
    """A shared folder on this machine, made when it is missing. Failure 73 when it cannot be."""
    from agentpipe import paths
    from agentpipe.settings import config as settings
    given = settings.get(CACHES[name][0]) if CACHES[name][0] else None
    folder = os.path.abspath(os.path.expanduser(os.path.expandvars(given))) if given \
        else paths.cache("containers", name)
    folder += suffix
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise errors.Failure(f"cannot create {folder}: {error.strerror}", errors.CANNOT_CREATE,
                             remedy=f"set {CACHES[name][0] or 'AGENT_HOME'}") from None
    return folder


def folder_inside(name: str) -> str:
    """Where it appears in the container; below root's home for images that run as root. Failure 78 for no path."""
    _, setting, default = CACHES[name]
    return _inside(setting, default) if setting else default


def ssh_folder() -> str:
    """Where ~/.ssh appears in the container. Failure 78 for no path."""
    return _inside("agent.docker_internal_mounts.ssh_folder", "/root/.ssh")


def _inside(setting: str, default: str) -> str:
    from agentpipe.settings import config as settings
    found = settings.get(setting, default) or default
    if not found.startswith("/") or ":" in found:
        raise errors.Failure(f"{setting} is no absolute path: {found}", errors.BAD_CONFIG,
                             remedy=f"correct {setting}, such as {default}")
    return found


def local_python(directory: str, place: Mapping[str, Any]) -> str:
    """LOCAL_PYTHON, as a set-up script or the container's arguments say it: the Python of tasks that name none."""
    import shlex

    from agentpipe.place import setup_script
    found = setup_script.environment(directory).get("LOCAL_PYTHON")
    named = [word[13:] for word in shlex.split(place.get("arguments") or "") if word.startswith("LOCAL_PYTHON=")]
    return found or (named[-1] if named else "")


def ssh(config: dict[str, Any], job: Job, container: Container, is_others: bool = False) -> None:
    """The socket of an SSH agent; without one ~/.ssh, read-only, where a script or a package needs it. `is_others`: who
    finds it inside is not its owner, and would be refused by ssh for settings that are another's."""
    from agentpipe.settings import config as settings
    socket = os.environ.get("SSH_AUTH_SOCK", "").strip()
    if socket:
        if os.path.exists(socket):
            config[HOST].setdefault("Binds", []).append(f"{socket}:{socket}")
            container_env.set_default(config, "SSH_AUTH_SOCK", socket)
        return
    home = os.path.expanduser("~/.ssh")
    inside = ssh_folder()
    disabled = settings.flag("agent.disable_ssh_mount", False, "CLEARML_AGENT_DISABLE_SSH_MOUNT")
    there = os.path.normpath(inside) in mounted(config)
    if disabled or there or not os.path.isdir(home) or not _speaks_of_ssh(job, container):
        return
    binds = config[HOST].setdefault("Binds", [])
    if not is_others or not os.path.isfile(os.path.join(home, "config")):
        binds.append(f"{home}:{inside}:ro")
        return
    for name in sorted(os.listdir(home)):
        if os.path.isfile(os.path.join(home, name)) and ":" not in name and name != "config":  # nor sockets
            binds.append(f"{home}/{name}:{inside}/{name}:ro")
    job.say("~/.ssh/config stays outside: ssh takes none there that is not its user's own")


def is_amd(root: str = "/") -> bool:
    """Whether this machine's GPUs are AMD's, and none is NVIDIA's (as clearml-agent's detect_rocm_env)."""
    def there(path: str) -> bool:
        return os.path.exists(os.path.join(root, path))
    return there("dev/kfd") and not (there("dev/nvidia0") or there("proc/driver/nvidia"))


def amd(config: dict[str, Any], root: str = "/") -> None:
    """AMD's devices: those that the visible-devices variables name (GPU N is renderD(128+N)), or all."""
    ours = gpus.visible(os.environ)
    if ours == []:
        return
    host = config[HOST]
    if ours is None:
        folder = os.path.join(root, "dev/dri")
        nodes = sorted(name for name in (os.listdir(folder) if os.path.isdir(folder) else [])
                       if name.startswith("renderD"))
    else:
        nodes = [f"renderD{128 + int(number)}" for number in ours if number.isdigit()]
        for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
            container_env.set_default(config, name, ",".join(ours))
    for path in ("/dev/kfd", *(f"/dev/dri/{node}" for node in nodes)):
        host.setdefault("Devices", []).append({"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"})
    host.setdefault("GroupAdd", []).append("video")


def mounted(config: dict[str, Any]) -> set[str]:
    """The paths inside at which something is mounted already, as engines compare them: without a / at the end."""
    host = config[HOST]
    found = {each.split(":")[1] for each in host.get("Binds") or [] if ":" in each}
    found |= {each.get("Target") or "/" for each in host.get("Mounts") or []} | set(host.get("Tmpfs") or {})
    return {os.path.normpath(f"/{path.lstrip('/')}") for path in found}


def _speaks_of_ssh(job: Job, container: Container) -> bool:
    import json
    requirements = (job.task.get("script") or {}).get("requirements") or {}
    return any(word in text for word in ("ssh", "git@") for text in (container.setup_script, json.dumps(requirements)))


def _free_slot() -> str:
    """"" or .1, .2 …: the first set of folders that nobody sets a container up with (apt's lock would make it fail)."""
    from agentpipe import files, paths
    while _slots:
        os.close(_slots.pop())
    os.makedirs(paths.cache("containers"), 0o700, exist_ok=True)
    number = 0
    while True:
        suffix = f".{number}" if number else ""
        fd = os.open(paths.cache("containers", f"slot{suffix}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if files.try_lock(fd):
            _slots.append(fd)
            return suffix
        os.close(fd)
        number += 1
