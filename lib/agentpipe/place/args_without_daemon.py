"""Arguments of `docker run` for a place without a daemon: mounts, variables, what else an engine there may know."""

from __future__ import annotations

import os

from agentpipe import errors, gpus
from agentpipe.place import args_body, args_special, args_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentpipe.job import Job
    from agentpipe.place.args_words import Option
    from agentpipe.place.decide import Container as Wanted

# options of docker run that say what is so anyway: no namespaces of its own, no privileges to lose
AS_IT_IS = {"network": ("host",), "ipc": ("host",), "pid": ("host",), "uts": ("host",), "userns": ("host",),
            "cgroupns": ("host",), "privileged": ("false", "true"), "rm": ("true", "false"), "tty": ("true", "false"),
            "interactive": ("true", "false"), "shm-size": (), "ulimit": ()}


class Asked:
    """What the arguments come to here: `binds` (source, target, "ro" or ""), `env`, `user` ("" or UID[:GID]), `gpus`
    whether GPUs are wanted, `other` options that an engine may know."""

    def __init__(self) -> None:
        self.binds: list[tuple[str, str, str]] = []
        self.env: dict[str, str] = {}
        self.user = ""
        self.gpus = False
        self.other: list[Option] = []


def translated(options: list[Option], notes: list[str]) -> Asked:
    """The arguments of `docker run` that mean something here; the rest is said, never silently dropped."""
    asked = Asked()
    files = args_body.of(option for option in options if option.name == "env-file").config["Env"]
    asked.env = dict(line.split("=", 1) for line in files)
    for option in options:
        if option.name == "env-file":
            continue
        if option.name == "env":
            name, _, value = option.value.partition("=")
            asked.env[name] = value
        elif bind := _bind(option):
            asked.binds.append(bind)
        elif option.name == "volume" and ":" in option.value:
            notes.append(f"--volume {option.value}: there are no named volumes here")
        elif option.name == "mount":
            notes.append(f"--mount {option.value}: only type=bind is known here")
        elif option.name == "user":
            asked.user = option.value
        elif option.name == "gpus":
            asked.gpus = True
        else:
            asked.other.append(option)
    _keep_gpus(asked, notes)
    return asked


def check_sources(options: Iterable[Option], wanted: Wanted) -> None:
    """Failure for a mount of what is not there: 65 where the arguments are the task's, else 78."""
    exit = errors.BAD_DATA if wanted.own else errors.BAD_CONFIG
    for option in options:
        bind = _bind(option)
        if bind and not os.path.exists(bind[0]):
            raise errors.Failure(f"--{option.name} {option.value}: there is no {bind[0]} on this machine", exit,
                                 remedy=f"make it, or {args_words.mend(exit)}")


def _bind(option: Option) -> tuple[str, str, str] | None:
    """(source, target, "ro" or "") of an option that mounts a file or folder of this machine; None for all others.
    Failure 65 for one that docker would refuse."""
    if option.name not in ("volume", "mount"):
        return None
    args_body.of([option])
    if option.name == "mount":
        mount = args_special.mount(option.value)
        return (mount["Source"], mount["Target"], "ro" if mount.get("ReadOnly") else "") \
            if mount["Type"] == "bind" else None
    source, target, *rest = [*option.value.split(":"), ""]
    return (source, target, "ro" if "ro" in rest[0].split(",") else "") if source.startswith("/") and rest else None


def _keep_gpus(asked: Asked, notes: list[str]) -> None:
    """All GPUs of this machine are there: where it is said which are ours, a task's variables name no others."""
    if gpus.visible(os.environ) is None:
        return
    for name in (gpus.CUDA, gpus.NVIDIA):
        if asked.env.pop(name, None) is not None:
            notes.append(f"--env {name} is left out: this agent says which GPUs it has")


def say_what_is_left(job: Job, options: list[Option], engine: str) -> None:
    """The arguments that have no meaning in this engine."""
    left = [option for option in options
            if option.name not in AS_IT_IS or (AS_IT_IS[option.name] and option.value not in AS_IT_IS[option.name])]
    if left:
        job.say(f"{engine} has no such thing: " + ", ".join(dict.fromkeys(f"--{option.name}" for option in left)))
