"""agent-prepare --image NAME: the ready container as an image, with code and environment in it.

A commit of the container alone would not do: what we mount is not of its file system. So code and environment are
copied into a container of that commit, at the same absolute paths, and that is committed again.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

MODES = ("none", "reuse_task", "clone_task")
OURS = ("CLEARML_WORKER_ID", "CLEARML_TASK_ID", "CLEARML_AGENT_HOST_IP")
LABELS = ("agentpipe.", "clearml-")
START, TELLER = "start", "image_start.py"
# https://pkg.go.dev/github.com/distribution/reference, without a digest, which a new image cannot choose
NAME = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d+)?/)?"
                  r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:\w[\w.-]{0,127})?", re.ASCII)
SAID = 4000  # bytes of what tar has said that are told


def check(options: Any) -> None:
    """Options that cannot be meant: Failure 64. `options` is a stage's values, or a job's options."""
    mode = options.get("entry_point")
    if mode and not options.get("image"):
        raise errors.Failure("--entry-point goes with --image", errors.USAGE, remedy="agent-prepare --help")
    if mode and mode not in MODES:
        raise errors.Failure(f"--entry-point is one of {', '.join(MODES)}, not {mode}", errors.USAGE)
    if options.get("image") is not None and not NAME.fullmatch(options["image"]):  # else known when all is prepared
        raise errors.Failure(f"{options['image']} cannot be the name of an image", errors.USAGE,
                             remedy="[HOST[:PORT]/]name[:tag], the name in small letters")
    if options.get("image") and (options.get("target") or options.get("stage_only")):
        raise errors.Failure("--image, --target and --stage-only are different things", errors.USAGE,
                             remedy="agent-prepare --help")


def check_base(name: str, base: str) -> None:
    """An image that would take the place of the one that its task asks for: Failure 64."""
    if _whole(name) == _whole(base):
        raise errors.Failure(f"--image {name} would take the place of the image that the task runs in", errors.USAGE,
                             remedy="name another; docker tag gives it that name afterwards")


def save(job: Job) -> dict[str, str]:
    """Save the place of this job, prepared, under the name of --image; {name, id} of the image.

    Failure 65 for a task without a container, or whose image has no Python for the entry point that was asked for.
    """
    import contextlib

    import docker

    from agentpipe.crash import crash_point
    from agentpipe.place import engine
    from agentpipe.place.docker import remove
    name, mode = job.option("image"), job.option("entry_point") or "none"
    place = job.manifest["place"]
    if place["kind"] not in ("docker", "podman"):
        raise errors.Failure(f"--image wants a container of Docker or Podman; this task's place is {place['kind']}",
                             errors.BAD_DATA, remedy="agent-prepare --docker IMAGE --image NAME")
    if job.directory.startswith(("/dev/", "/proc/", "/sys/")):
        raise errors.Failure(f"{job.directory} would be hidden in a container of the image", errors.BAD_CONFIG,
                             remedy="set AGENT_HOME to a folder that is not below /dev")
    at = place.get("engine") or ""
    api = engine.connect(place["kind"], at)
    api.timeout = None  # a commit takes as long as its files are many
    repository, tag = _split(name)
    entry = _write_start(job, mode)
    half, copy, done = "", "", ""
    try:
        with engine.spoken_to(place["kind"], at, f"image {name} cannot be made"):
            changes = _changes(api, place["container"], entry)
            half = api.commit(place["container"], changes=changes)["Id"]
            crash_point("image:committed")
            copy = api.create_container_from_config({"Image": half, "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "exit 0"],
                                                     "Labels": {"agentpipe.image": name}})["Id"]
            own, others = _paths(job)
            _copy_in(api, copy, own, "a+rwX")  # whoever docker run says is the user there works in these
            _copy_in(api, copy, others, "a+rX")
            done = api.commit(copy, repository, tag, changes=changes)["Id"]
    finally:
        # an engine that is gone keeps them: of what it refused more has been said
        with contextlib.suppress(docker.errors.DockerException, OSError):
            if copy:
                remove(api, copy)
            if half and not done:  # else it is what the image is made of
                api.remove_image(half)
    return {"name": f"{repository}:{tag}", "id": done}


def _whole(name: str) -> tuple[str, str]:
    """(repository, tag) of a name, however it is spelled for Docker's own registry."""
    repository, tag = _split(name)
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        repository = repository.removeprefix(prefix)
    return repository, tag


def _split(name: str) -> tuple[str, str]:
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, "latest"
    return repository, tag


def _write_start(job: Job, mode: str) -> str:
    """The script that starts the program in the image, in the task's directory; its path."""
    import shlex

    from agentpipe import files
    from agentpipe.place import entrypoint, setup_script
    from agentpipe.run import launch, shim
    begin = launch.of(job.manifest, job.directory, {})
    lines = ["#!/bin/sh", f"# task {job.task['id']}: {job.task.get('name') or ''}".replace("\n", " ")]
    left_out = []

    def export(name: str, value: str) -> None:
        """But for secrets: whoever has the image has what stands here."""
        if _is_secret(name, value):
            left_out.append(name)
        elif shim.NAME.fullmatch(name):
            lines.append(f"export {name}={shlex.quote(value)}")
    for line in entrypoint.kept(job.directory):  # which this script takes the place of
        variable, _, text = line.partition("=")
        export(variable, text)
    for name, value in setup_script.environment(job.directory).items():
        if value is not None:
            export(name, value)
        elif shim.NAME.fullmatch(name):
            lines.append(f"unset {name}")
    for name, value in begin.env.items():
        if name == "PATH":
            lines.append(f"export PATH={shlex.quote(':'.join(job.manifest['env'].get('path') or []))}${{PATH:+:$PATH}}")
        elif not name.startswith(("CLEARML_", "TRAINS_", "AGENT_TASK_DIR")):
            export(name, value)
    if left_out:
        job.say(f"secret, so not in the image: {', '.join(dict.fromkeys(left_out))}")
    lines.append(f"cd {shlex.quote(begin.cwd)} || exit 125")
    words = begin.argv
    if mode != "none":
        python = job.manifest["env"].get("python")
        if not python:
            raise errors.Failure(f"--entry-point {mode} wants a task with a Python environment", errors.BAD_DATA)
        task = job.option("task_id") or ""
        if not task or task.startswith("local-"):
            raise errors.Failure(f"--entry-point {mode} wants a task of a server: this manifest has no id of one",
                                 errors.BAD_DATA,
                                 remedy="agent-task show --json TASK | jq -c '{task: .}', or a receipt")
        with open(os.path.join(os.path.dirname(__file__), TELLER), "rb") as file:
            files.publish(job.path(TELLER), file.read(), 0o644)
        words = [python, job.path(TELLER), mode, task, *words]
    lines.append(f'exec {shlex.join(words)} "$@"')
    path = job.path(START)
    files.publish(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"), 0o755)
    return path


def _paths(job: Job) -> tuple[list[str], list[str]]:
    """What goes into the image: the code and the task's environment; the base below it, the start and what its
    variables name."""
    from agentpipe.environment import python_env
    from agentpipe.place import certificates
    env = job.manifest["env"]
    own: list[str | None] = [job.path("code"), env.get("overlay")]
    others: list[str | None] = [job.path(START), job.path(TELLER),
                                *set(certificates.variables(job.directory).values())]
    if env.get("base"):
        others.append((python_env.cached(env["base"]) or {}).get("directory"))
    return _there(own), _there([path for path in others if path not in own])


def _there(found: list[str | None]) -> list[str]:
    return [path for path in dict.fromkeys(found) if path and os.path.lexists(path)]


def _copy_in(api: Any, container: str, folders: list[str], mode: str) -> None:
    """Stream these into a container that is not running, at their own absolute paths, with `mode` added to theirs."""
    import subprocess
    import tempfile
    # who uses a base stands beside it, and means nothing there
    left_out = [f"--exclude={path.lstrip('/')}/users" for path in folders]
    words = ["tar", "-C", "/", "--anchored", "--no-wildcards", *left_out, f"--mode={mode}", "-cf", "-", "--",
             *(path.lstrip("/") for path in folders)]
    with tempfile.TemporaryFile() as said:  # nobody reads a pipe while the archive is sent
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said) as tar:
            api.put_archive(container, "/", tar.stdout)
        if tar.returncode:
            said.seek(max(0, said.tell() - SAID))
            raise errors.Failure("the environment cannot be copied into the image", errors.CANNOT_CREATE,
                                 said.read().decode("utf-8", "replace"))


def _changes(api: Any, container: str, entry: str) -> list[str]:
    """What the image says of itself: how it starts; none of the secrets that its container was given, nor of the labels
    by which tasks' containers are found (which can only be emptied)."""
    import json
    config = api.inspect_container(container)["Config"]
    found = ["CMD []", f"ENTRYPOINT {json.dumps(['/bin/sh', entry])}"]
    found += [f'LABEL {name}=""' for name in config.get("Labels") or {} if name.startswith(LABELS)]
    for line in config.get("Env") or []:
        name, _, value = line.partition("=")
        if name in OURS or _is_secret(name, value):
            found.append(f"ENV {name}=")
    return found


def _is_secret(name: str, value: str) -> bool:
    from agentpipe import redact, secret_names
    return secret_names.is_secret(name, value.strip()) or bool(redact.secrets_in({name: value}))
