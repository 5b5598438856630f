"""agent-config check, what concerns this machine: directories, disk, programs, Pythons, containers, GPUs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from agentpipe import errors, paths, tools, units
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GOOD, ODD, BAD = "ok", "warning", "wrong"
LOW_SPACE = 2 << 30  # bytes
LOW_FILES = 20_000  # inodes: an environment alone is some thousands
NVIDIA_VENDOR = "0x10de"


class Finding:
    """One line of the report: how it is, what it is about, what was seen, and what to do."""

    def __init__(self, level: str, subject: str, text: str, remedy: str = "", exit: int = 0) -> None:
        self.level, self.subject, self.text, self.remedy, self.exit = level, subject, text, remedy, exit


def directories() -> Iterator[Finding]:
    """State and cache: writable, on local disks, with room for bytes and files."""
    for name, path in (("state", paths.state()), ("cache", paths.cache())):
        path = path.rstrip("/")
        if not os.access(path, os.W_OK | os.X_OK):
            yield Finding(BAD, name, f"{path} cannot be written", "set AGENT_HOME", errors.CANNOT_CREATE)
            continue
        free, inodes = shutil.disk_usage(path).free, os.statvfs(path)
        kind = paths.file_system(path)
        text = f"{path}, {free / units.GIB:.1f} GiB free on {kind}"
        if free < LOW_SPACE:
            yield Finding(ODD, name, text, "free some space (agent-env --prune), or set AGENT_HOME")
        elif inodes.f_files and inodes.f_favail < LOW_FILES:
            yield Finding(ODD, name, f"{text}, but room for {inodes.f_favail} files only",
                          "remove files (agent-env --prune), or set AGENT_HOME")
        elif kind in paths.NETWORK_FILE_SYSTEMS:
            yield Finding(ODD, name, f"{text}: slow over a network", "set XDG_CACHE_HOME to a local disk")
        else:
            yield Finding(GOOD, name, text)
    yield from _wanted_room()


def _wanted_room() -> Iterator[Finding]:
    from agentpipe.pull import room
    asked = room.wanted(None, lambda _: None)
    if asked and (lacks := asked.lacks()):
        yield Finding(ODD, "room", lacks, "free some space (agent-env --prune), or ask for less")


def programs() -> Iterator[Finding]:
    """What stages run: git, uv, a shell."""
    for name, needed, remedy in (("git", True, "install git"), ("uv", True, "pip install uv"),
                                 ("bash", False, "install bash: tasks that are shell scripts need it")):
        path = _found(name)
        if path is None:
            yield Finding(BAD if needed else ODD, name, "not found", remedy, errors.UNAVAILABLE if needed else 0)
            continue
        broken = _git_broken() if name == "git" else None
        yield broken or Finding(GOOD, name, f"{tools.run([path, '--version'], timeout=20).splitlines()[0]} ({path})")
    from agentpipe.code import git_access
    for half, remedy in git_access.unused():
        yield Finding(ODD, "git", half, remedy)


def _git_broken() -> Finding | None:
    """git's configuration, where git itself cannot read it."""
    from agentpipe import git_config
    from agentpipe.code import git
    failure = None
    try:
        tools.run(["git", "config", "--list"], env=git.environment(), cwd="/", timeout=20)
    except tools.ToolFailed as failed:
        failure = git_config.broken(failed.output, git.environment())
    except errors.Failure as refused:
        failure = refused
    return Finding(BAD, "git", failure.reason, failure.remedy, failure.exit) if failure else None


def pythons() -> Iterator[Finding]:
    """The Pythons that tasks can get, ours first."""
    from agentpipe.environment import discovery
    own = sys.version.split()[0]
    others = sorted({each["version"] for each in discovery.every()} - {own},
                    key=lambda version: [int(part) for part in version.split(".") if part.isdigit()])
    yield Finding(GOOD, "python", f"{own} ({sys.executable})"
                  + (f"; tasks can also get {', '.join(others)}" if others else "; tasks can get no other"))
    named = config.get("agent.python_binary")
    if named and not shutil.which(os.path.expanduser(named)):
        yield Finding(ODD, "python", f"agent.python_binary: there is no {named}", "name one that is there")


def containers() -> Iterator[Finding]:
    """The engine for tasks that ask for an image."""
    from agentpipe.place import decide
    name = os.environ.get("AGENT_PLACE") or "docker"
    kind = decide.ENGINES.get(name)
    if kind is None:
        yield Finding(BAD, "containers", f"AGENT_PLACE={name} is none of {', '.join(decide.ENGINES)}",
                      "set one of them, or unset it", errors.BAD_CONFIG)
    elif kind == "host":
        yield Finding(GOOD, "containers", "none: tasks that ask for an image run without it (AGENT_PLACE=host)")
    elif kind in ("docker", "podman"):
        yield _engine(kind)
    else:
        program = {"apptainer": ("apptainer", "singularity"), "charliecloud": ("ch-run",)}[kind]
        path = next(filter(None, map(shutil.which, program)), None)
        if path:
            yield _version(name, path)
        else:
            yield Finding(ODD, name, f"{program[0]} is not there: tasks that ask for an image fail here",
                          f"install {program[0]}, or set AGENT_PLACE to another engine or host")


def _version(name: str, path: str) -> Finding:
    """The version of a program that needs no engine, which fails already at this where a task would."""
    try:
        # ch-run tells it on standard error, and only who has a USER (cron and systemd set none)
        said = tools.run([path, "--version"], lambda _: None, timeout=20, env={**os.environ, "USER": paths.owner()})
    except errors.Failure as failure:
        return Finding(ODD, name, f"{failure.reason}: tasks that ask for an image fail here",
                       f"mend what it says ({path} --version), or set AGENT_PLACE to another engine or host")
    return Finding(GOOD, name, f"{said.strip()} ({path})")


def _engine(kind: str) -> Finding:
    from agentpipe.place import engine
    try:
        api = engine.connect(kind)
        said = api.version()
        runtimes = set(api.info().get("Runtimes") or ())
    except errors.Failure as failure:
        variable = "CONTAINER_HOST" if kind == "podman" else "DOCKER_HOST"
        return Finding(ODD, kind, f"{failure.reason}: tasks that ask for an image fail here",
                       f"start it, set {variable}, or AGENT_PLACE=host to run them without their image")
    text = f"{kind.capitalize()} {said.get('Version', '?')} at {engine.url(kind)}"
    try:
        engine.client(kind, engine.url(kind))
    except errors.Failure as failure:
        return Finding(ODD, kind, f"{text}, but {failure.reason}", failure.remedy or "")
    if kind == "docker" and os.path.exists("/dev/nvidiactl") and "nvidia" not in runtimes:
        return Finding(ODD, kind, f"{text}, without NVIDIA's runtime: containers may see no GPU",
                       "install nvidia-container-toolkit")
    return Finding(GOOD, kind, text)


def gpus() -> Iterator[Finding]:
    """The cards and their driver."""
    import glob
    if os.path.exists("/dev/nvidiactl"):
        yield _nvidia()
    elif os.path.exists("/dev/kfd"):
        nodes = sorted(map(os.path.basename, glob.glob("/dev/dri/renderD*")))
        yield Finding(GOOD if nodes else ODD, "gpu", f"AMD: {len(nodes)}" + (f" ({', '.join(nodes)})" if nodes else ""),
                      "" if nodes else "give this machine, or container, the devices /dev/dri/renderD*")
    elif any(_is_nvidia(path) for path in _pci()):
        yield Finding(ODD, "gpu", "an NVIDIA card is there, and no driver", "install NVIDIA's driver, or load it: "
                      "modprobe nvidia")
    else:
        yield Finding(GOOD, "gpu", "none: tasks run on the CPU")


def _nvidia() -> Finding:
    try:
        from agentpipe.report import gpu_reader
        told = gpu_reader.read(everything=True)
    except Exception as error:  # NVMLError, or no libnvidia-ml
        remedy = "restart the machine: driver and library are of two versions" if "mismatch" in str(error).lower() \
            else "nvidia-smi; install or reload NVIDIA's driver"
        return Finding(BAD, "gpu", f"the NVIDIA driver cannot be asked: {error}", remedy, errors.UNAVAILABLE)
    cards = told["gpus"]
    names = [card["name"] for card in cards]
    text = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "no card"
    return visible(f"{text}; driver {told['driver']}, CUDA up to {told['cuda']}", cards)


def visible(text: str, cards: list[dict[str, Any]]) -> Finding:
    """What the visible-devices variables leave of these cards (index, uuid), after the `text` about them."""
    from agentpipe import gpus
    variable, ours = gpus.told(os.environ)
    if ours is None:
        return Finding(GOOD, "gpu", text)
    if not ours:
        return Finding(GOOD, "gpu", f"{text}; {variable} hides them: tasks run on the CPU")
    missing = gpus.absent(ours, cards)
    if missing:
        return Finding(ODD, "gpu", f"{text}; {variable} names {', '.join(missing)}, which is not there",
                       f"unset {variable}, or correct it: nvidia-smi -L lists the cards")
    if all(gpus.named(ours, card["index"], card["uuid"]) for card in cards):
        return Finding(GOOD, "gpu", text)
    return Finding(GOOD, "gpu", f"{text}; of these only {', '.join(ours)} ({variable})")


def _pci() -> list[str]:
    import glob
    return glob.glob("/sys/bus/pci/devices/*")


def _is_nvidia(path: str) -> bool:
    try:
        with open(f"{path}/vendor", encoding="ascii") as vendor, open(f"{path}/class", encoding="ascii") as kind:
            return vendor.read().strip() == NVIDIA_VENDOR and kind.read().startswith("0x03")
    except OSError:
        return False


def _found(name: str) -> str | None:
    own = os.path.join(os.path.dirname(sys.executable), name)  # uv comes with our package
    return own if name == "uv" and os.access(own, os.X_OK) else shutil.which(name)
