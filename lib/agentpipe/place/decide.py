"""Where a task runs: in the container that it asks for, in the agent's default one, or on the host.

The order is clearml-agent's (get_task_container, resolve_default_container and get_docker_config_cmd of 3.0.3): a rule
that is forced, the task's own, a rule that fits, --docker IMAGE, CLEARML_DOCKER_IMAGE, agent.default_docker.image.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from agentpipe.job import Job

# the same program under two names is one engine
ENGINES = {"host": "host", "docker": "docker", "podman": "podman", "apptainer": "apptainer",
           "singularity": "apptainer", "charliecloud": "charliecloud"}
RULES = "agent.default_docker.match_rules"


class Container:
    """The decision: `engine` (host: nothing but `reason` counts), `image`, `arguments` (words as for `docker run`),
    `setup_script`, `reason` in words, `notes` for the task's log, `write_back` (the new `container` of the task).
    `own`: the arguments are the task's, not the operator's; `named_by_task`: the image is. `lacks_python`: the task
    wants one, the image has none; None while nobody has looked."""

    def __init__(self, engine: str, image: str = "", arguments: list[str] | None = None, setup_script: str = "",
                 reason: str = "") -> None:
        self.engine, self.image, self.setup_script, self.reason = engine, image, setup_script, reason
        self.arguments = arguments or []
        self.own = self.named_by_task = False
        self.lacks_python: bool | None = False
        self.notes: list[str] = []
        self.write_back: dict[str, str] | None = None


def decide(job: Job) -> Container:
    """The place of this job's task. Failure 65 for a container that cannot be meant, 78 for the operator's, 64 for
    options that contradict."""
    kind = engine(job.option)
    if kind == "host":
        return _host(job, "agent-prepare was told to run tasks on the host")
    asked = _of_task({} if job.option("force_docker") else job.task)
    found = _by_rule(job, asked) or _own(asked, kind) or _default(job, asked)
    if found is None:
        from agentpipe.settings import config
        is_forced = "--force-docker" if job.option("force_docker") else "agent.disable_task_docker_override" \
            if config.flag("agent.disable_task_docker_override") and asked["image"] else ""
        return _host(job, f"{is_forced}, and no other image is named" if is_forced else "no container was asked for")
    found.engine = kind
    found.named_by_task = found.image == asked["image"]
    if found.image.startswith("-") or any(character.isspace() or character == "\0" for character in found.image):
        from agentpipe import errors
        with blamed(found):
            raise errors.Failure(f"'{found.image}' cannot be the name of an image", errors.BAD_DATA,
                                 remedy="mend the task's container.image")
    found.arguments = _resolved(job, found.arguments)
    return found


def _host(job: Job, reason: str) -> Container:
    """The host; an image that the task asks for in vain is noted."""
    image = _of_task(job.task)["image"]
    found = Container("host", reason=reason + (f": not in {image}" if image else ""))
    if image:
        found.notes.append(f"on this machine: {found.reason}")
    return found


@contextmanager
def blamed(container: Container) -> Iterator[None]:
    """An image that is not there, is none, or is refused to this machine is the fault of its task only where that names
    it; of one that the operator names, Failure 78: the next task would fail likewise."""
    from agentpipe import errors
    try:
        yield
    except errors.Failure as failure:
        is_refused = failure.exit == errors.NO_PERMISSION
        if container.named_by_task or not (is_refused or failure.exit in (errors.NOT_FOUND, errors.BAD_DATA)):
            raise
        raise errors.Failure(f"{failure.reason}: {container.reason}", errors.BAD_CONFIG, failure.evidence,
                             failure.remedy if is_refused else "correct what names it") from None


def write_back(job: Job, container: Container) -> None:
    """Put a container that the task did not name itself on the task, as clearml-agent does."""
    if not container.write_back or not job.tell or job.option("dry_run"):
        return
    from agentpipe import errors
    try:
        job.tell("tasks.edit", {"force": True, "container": container.write_back})
    except (errors.ApiError, errors.Failure) as error:
        job.say(f"the container could not be recorded on the task: {error}")


def engine(option: Callable[[str], Any]) -> str:
    """Which engine the options of agent-prepare and AGENT_PLACE name. Failure 64 or 78 for what cannot be meant."""
    from agentpipe import errors
    given, variable = option("place"), os.environ.get("AGENT_PLACE")
    docker, podman = option("docker"), option("podman")
    if docker and podman and docker != podman:
        raise errors.Failure("--docker and --podman name different images", errors.USAGE, remedy="give one of them")
    name = given or ("podman" if podman else variable) or "docker"
    if name not in ENGINES:
        raise errors.Failure(f"{'--place' if given else 'AGENT_PLACE'} is one of {', '.join(ENGINES)}, not {name}",
                             errors.USAGE if given else errors.BAD_CONFIG)
    return ENGINES[name]


def operators_words(job: Job) -> list[list[str]]:
    """The arguments that the operator gives to containers of tasks that do not bring their own, wherever they stand."""
    from agentpipe.settings import config
    texts = [job.option("docker"), job.option("podman"),
             config.get("agent.default_docker.image", None, "CLEARML_DOCKER_IMAGE")]
    found = [_words(text, "the default image")[1:] for text in texts if text]
    found.append(config.get_list("agent.default_docker.arguments"))
    for rule in rules():
        each = rule.get("arguments") or "" if isinstance(rule, dict) else ""
        found.append(_words(" ".join(map(str, each)) if isinstance(each, list) else str(each), f"a rule of {RULES}"))
    return [_resolved(job, words) for words in found]


def _of_task(task: dict[str, Any]) -> dict[str, str]:
    """The task's container as texts; from servers before API 2.13 `execution.docker_cmd`, image and arguments."""
    container = task.get("container") or {}
    found = {name: str(container.get(name) or "").strip() for name in ("image", "arguments", "setup_shell_script")}
    command = str((task.get("execution") or {}).get("docker_cmd") or "").strip()
    if command and not any(found.values()):
        found["image"], _, found["arguments"] = command.partition(" ")
    return found


def _own(asked: dict[str, str], engine: str) -> Container | None:
    from agentpipe import errors
    from agentpipe.settings import config
    if not asked["image"] or config.flag("agent.disable_task_docker_override"):
        return None
    words = _words(asked["arguments"], "the task's container arguments", errors.BAD_DATA)
    found = Container(engine, asked["image"], words, asked["setup_shell_script"],
                      f"the task asks for image {asked['image']}")
    found.own = True
    return found


def _default(job: Job, asked: dict[str, str]) -> Container | None:
    """The agent's own image; the task's set-up script still runs in it."""
    from agentpipe.settings import config
    option = job.option("docker") or job.option("podman")
    variable = config.get("agent.default_docker.image", None, "CLEARML_DOCKER_IMAGE")
    text = option or variable or ""
    words = _words(text, "--docker" if option else "the default image")
    if not words:
        return None
    if option:
        origin = "--docker" if job.option("docker") else "--podman"
    else:
        _, origin = config.origin("agent.default_docker.image", "CLEARML_DOCKER_IMAGE")
        if "/" in origin:
            origin = f"agent.default_docker.image in {origin}"
    arguments = words[1:] or config.get_list("agent.default_docker.arguments")
    found = Container("", words[0], arguments, asked["setup_shell_script"], f"{origin} names image {words[0]}")
    if config.flag("agent.disable_task_docker_override") and asked["image"]:
        found.reason += f" (agent.disable_task_docker_override: not the task's {asked['image']})"
    elif asked["arguments"]:
        found.notes.append("the task's container arguments go with an image of its own, and it names none: left out")
    if config.flag("agent.default_docker.update_back_task", True):
        _record(found, asked)
    return found


def _by_rule(job: Job, asked: dict[str, str]) -> Container | None:
    """What the first rule of agent.default_docker.match_rules that fits makes of the task's container."""
    from agentpipe import errors
    from agentpipe.settings import config
    known = rules()
    if not known or job.option("docker") or job.option("podman"):
        return None
    if config.flag("agent.disable_task_docker_override") or (asked["image"] and not any(map(_is_forced, known))):
        return None
    from agentpipe.place import rules as matching
    rule = matching.first(known, job, asked["image"])
    if rule is None or (asked["image"] and not _is_forced(rule)):
        return None
    forced, values = _is_forced(rule), dict(asked)
    for name in values:
        if forced or not values[name]:
            each = rule.get(name) or ""
            values[name] = ("\n" if name == "setup_shell_script" else " ").join(map(str, each)) \
                if isinstance(each, list) else str(each)
    if not values["image"].strip():
        job.say(f"a rule of {RULES} ({', '.join(matching.terms(rule))}) fits and names no image: it is left out")
        return None
    own = bool(asked["arguments"]) and not forced
    words = _words(values["arguments"], "the task's container arguments", errors.BAD_DATA) if own \
        else _words(values["arguments"], f"the arguments of a rule of {RULES}")
    found = Container("", values["image"].strip(), words,
                      values["setup_shell_script"], f"a rule of {RULES} ({', '.join(matching.terms(rule))}) names "
                      f"image {values['image'].strip()}" + (", by force" if forced else ""))
    found.own = own
    back = rule.get("update_back_task")
    if config.flag("agent.default_docker.update_back_task", True) if back is None else str(back).lower() in config.YES:
        _record(found, asked, values["arguments"])
    return found


def rules() -> list[Any]:
    """agent.default_docker.match_rules. Failure 78 for what is no list."""
    from agentpipe.settings import config
    found = config.value(RULES)
    found = config.parsed(found) if isinstance(found, str) else found
    if found and not isinstance(found, list):
        from agentpipe import errors
        raise errors.Failure(f"{RULES} is no list of rules", errors.BAD_CONFIG,
                             remedy='correct it: [ { image: "IMAGE", match: { … } } ]')
    return found or []


def _is_forced(rule: Any) -> bool:
    from agentpipe.settings import config
    return isinstance(rule, dict) and str(rule.get("force_container_rules") or "").lower() in config.YES


def _record(found: Container, asked: dict[str, str], arguments: str | None = None) -> None:
    import shlex
    new = {"image": found.image, "arguments": shlex.join(found.arguments) if arguments is None else arguments,
           "setup_shell_script": found.setup_script}
    if new != asked:
        found.write_back = new


def _resolved(job: Job, words: list[str]) -> list[str]:
    """Templates in the arguments filled: after they were split, so that no value can add a word."""
    if not any("CLEARML_" in word for word in words):
        return words
    from agentpipe import templates
    values = templates.of_job(job)
    return [templates.resolve(word, values) for word in words]


def _words(text: str, what: str, exit: int | None = None) -> list[str]:
    """The words of `text`; else Failure `exit`, or 78: what nobody says is the task's is the operator's."""
    import shlex

    from agentpipe import errors
    try:
        return shlex.split(text)
    except ValueError as error:
        raise errors.Failure(f"{what} cannot be split into words: {error}", exit or errors.BAD_CONFIG) from None
