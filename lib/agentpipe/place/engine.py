"""The container engine: Docker's, or Podman's socket that answers the same API; its images."""

from __future__ import annotations

import os
from contextlib import contextmanager

from agentpipe import errors
from agentpipe.place.args_words import OF_OPERATOR
from agentpipe.settings.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from agentpipe.job import Job

TIMEOUT_S = 60
# the same for a pull, whose layers are unpacked without a word, and for a container that is made: some storage drivers
# copy the image for it
WORK_S = 900
NO_SPACE = "make room on the engine's disk: docker system df, docker system prune"
DOCKER_SOCKET = "unix:///var/run/docker.sock"


def url(kind: str) -> str:
    """Where the engine answers: DOCKER_HOST (Podman: before it CONTAINER_HOST, its own), the docker context
    (DOCKER_CONTEXT, or the current one), the default. Failure 78 for a context that is not there, or damaged."""
    given = (os.environ.get("CONTAINER_HOST") if kind == "podman" else None) or os.environ.get("DOCKER_HOST")
    if given:
        return given
    if kind == "podman":
        folder = "/run" if os.getuid() == 0 else os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        return f"unix://{folder}/podman/podman.sock"
    named, settings = os.environ.get("DOCKER_CONTEXT"), os.environ.get("DOCKER_CONFIG") or "~/.docker"
    if not named and not os.path.exists(os.path.expanduser(os.path.join(settings, "config.json"))):
        return DOCKER_SOCKET
    from docker.context import ContextAPI
    try:
        found = ContextAPI.get_context(named)
    except Exception as error:  # of many kinds, for a file that somebody has edited
        raise _unreadable(error) from None
    if found is None:
        raise errors.Failure(f"there is no docker context {named or 'of the name that is current'}", errors.BAD_CONFIG,
                             remedy="docker context ls; docker context use, or DOCKER_CONTEXT")
    return str(found.Host or DOCKER_SOCKET).replace("http+docker://localunixsocket", DOCKER_SOCKET) \
        .replace("http+unix", "unix")


def connect(kind: str, at: str = "") -> Any:
    """The engine as docker-py's low-level client; Failure 69 when nothing answers, 77 when we may not ask, 78 for a
    config.json of Docker's that cannot be read."""
    import docker
    at = at or url(kind)
    try:
        if os.environ.get("DOCKER_TLS_VERIFY") and at.startswith("tcp://"):
            client = docker.DockerClient.from_env(environment={**os.environ, "DOCKER_HOST": at})
        else:
            client = docker.DockerClient(base_url=at, version="auto")
        client.api.timeout = TIMEOUT_S
        return client.api
    except (docker.errors.InvalidConfigFile, ValueError, TypeError, AttributeError) as error:  # as its keys are odd
        raise _unreadable(error) from None
    except (docker.errors.DockerException, OSError) as error:
        raise _away(kind, at, error) from None


def client(kind: str, at: str) -> list[str]:
    """The words that speak to this engine on a command line; Failure 69 without such a program."""
    import shutil
    for name, option in (("docker", "--host"), ("podman", "--url")):
        if shutil.which(name):
            default = at == DOCKER_SOCKET and name == "docker" and not (
                os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT"))
            return [name] if default else [name, option, at]
    raise errors.OfMachine(f"there is no docker command here, through which {kind} containers are entered",
                           remedy="install Docker's client (Debian: docker.io)")


@contextmanager
def at_work(api: Any) -> Iterator[None]:
    """While this lasts the engine may be silent for as long as it takes to make something."""
    before, api.timeout = api.timeout, WORK_S
    try:
        yield
    finally:
        api.timeout = before


@contextmanager
def spoken_to(kind: str, at: str, what: str = "") -> Iterator[None]:
    """What is asked of the engine meanwhile: one that goes away, hangs or refuses (`what` then cannot be done) is
    Failure 69."""
    import docker
    import requests
    import urllib3
    try:
        yield
    except docker.errors.APIError as error:  # of requests too
        raise failure(error, what or f"the engine at {at} refuses") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        name = "Podman" if kind == "podman" else "Docker"
        raise errors.OfMachine(f"{name} at {at} went away, or gave no answer in time", errors.UNAVAILABLE,
                               str(error), "look at the engine's own log, then run the task again") from None


def failure(error: Exception, what: str, code: int = errors.UNAVAILABLE) -> errors.Failure:
    """What the engine refused, in its own words."""
    said = getattr(error, "explanation", None) or str(error)
    return errors.Failure(f"{what}: {said}", code)


def refused(error: Exception, what: str, of_task: bool) -> errors.Failure:
    """Why no container can be made or started; `of_task`: its arguments are the task's own, not the operator's."""
    said = str(getattr(error, "explanation", None) or error)
    if "no space left on device" in said:
        return errors.Failure(f"{what}: {said}", errors.CANNOT_CREATE, said, NO_SPACE)
    if "does not match the specified platform" in said:
        return errors.Failure(f"{what}: {said}", errors.BAD_DATA if of_task else errors.BAD_CONFIG, said,
                              "take --platform out of the container's arguments, or docker pull --platform … here")
    mend = "agent-task edit --docker-args" if of_task else OF_OPERATOR
    return errors.Failure(f"{what}: {said}", errors.BAD_DATA if of_task else errors.BAD_CONFIG, said,
                          f"mend the image or the container's arguments: {mend}")


def image(api: Any, job: Job, name: str, force: str = "", may_pull: bool = True,
          platform: str | None = None) -> dict[str, Any]:
    """The image as the engine describes it, pulled when it is not there and `may_pull`, or because of the option
    `force`."""
    import docker
    if {"", ".", ".."} & set(name.split("/")):  # in the engine's address it would be another of its lists
        raise no_image(name, "invalid reference format")
    if offline():
        force = ""  # the one that is here has to do
    try:
        if not force:
            try:
                return dict(api.inspect_image(name))
            except docker.errors.ImageNotFound:
                if not may_pull:
                    raise
        check_network(name)
        with at_work(api):
            _pull(api, job, name, platform)
        return dict(api.inspect_image(name))
    except docker.errors.APIError as error:
        found = no_image(name, str(error.explanation or error))
        if force and _is_here(api, name):
            last = found.evidence.strip().rpartition("\n")[2]
            found = errors.Failure(f"image {name} is here, and {force} wants it from its registry, which does not give "
                                   f"it: {last}", found.exit, found.evidence,
                                   f"{found.remedy}; without {force} the one that is here is taken")
        raise found from None


def check_network(name: str) -> None:
    """Failure 69 where nothing may be pulled."""
    if offline():
        raise errors.Failure(f"image {name} is not here, and AGENT_OFFLINE forbids the network", errors.UNAVAILABLE,
                             remedy="pull it where there is a network: agent-prepare --stage-only")


def _is_here(api: Any, name: str) -> bool:
    import docker
    try:
        api.inspect_image(name)
    except docker.errors.APIError:
        return False
    return True


def digest(found: dict[str, Any], name: str) -> str | None:
    """NAME@sha256:… under which a registry has this image; None for one that was made here."""
    from docker.utils import parse_repository_tag
    repository = parse_repository_tag(name)[0]
    known = found.get("RepoDigests") or []
    return next((each for each in known if each.startswith(repository + "@")), known[0] if known else None)


def _pull(api: Any, job: Job, name: str, platform: str | None) -> None:
    """Pull, and say how far it is: each layer once it is there, all of them every few seconds."""
    import time

    import docker
    import urllib3
    from docker.utils import parse_repository_tag
    repository, tag = parse_repository_tag(name)
    job.say(f"pulling image {name}")
    _say_unread(job)
    began, told, parts = time.monotonic(), time.monotonic(), {}
    try:
        for event in _events(api, job, repository, tag or "latest", platform):
            if event.get("error"):
                raise docker.errors.APIError(event["error"], explanation=event["error"])
            progress = event.get("progressDetail") or {}
            if progress.get("total") and event.get("status") == "Downloading":
                parts[event.get("id")] = (progress.get("current", 0), progress["total"])
            elif event.get("status") in ("Download complete", "Pull complete") and event.get("id") in parts:
                parts[event["id"]] = (parts[event["id"]][1],) * 2
            if parts and time.monotonic() - told > 5:
                told = time.monotonic()
                have, whole = (sum(part[number] for part in parts.values()) for number in (0, 1))
                job.say(f"pulling image {name}: {have >> 20} of {whole >> 20} MiB")
    except docker.errors.APIError:  # an OSError, as requests has it
        raise
    except (OSError, urllib3.exceptions.HTTPError) as error:
        raise errors.Failure(f"image {name} cannot be pulled: {error}", errors.UNAVAILABLE,
                             remedy="try again later") from None
    job.say(f"pulled image {name} in {time.monotonic() - began:.1f} s")


def _events(api: Any, job: Job, repository: str, tag: str, platform: str | None) -> Iterator[dict[str, Any]]:
    """What the engine says of a pull. Where the program that keeps Docker's logins cannot be run, it is done without
    one, as by docker itself."""
    import warnings

    import docker

    def asked(**login: Any) -> Iterator[dict[str, Any]]:
        return api.pull(repository, tag=tag, stream=True, decode=True, platform=platform, **login)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said below
            return asked()
    except docker.errors.APIError:
        raise
    except docker.errors.DockerException as error:
        job.say(f"pulling without a login: {error}")
        return asked(auth_config={})


def no_image(name: str, said: str, login: str = "", room: str = NO_SPACE) -> errors.Failure:
    """Why an image is not to be had, by what a registry, or a program that asked it, has said; `login` is that
    program's command, `room` what to do where its disk is full."""
    low = said.lower()
    first, slash, _ = name.partition("/")
    registry = first if slash and (first == "localhost" or "." in first or ":" in first) else "docker.io"
    if any(sign in low for sign in ("unauthorized", "denied", "no basic auth", "authentication required", "forbidden")):
        return errors.Failure(f"image {name}: the registry refuses access, or has no such image", errors.NO_PERMISSION,
                              said, f"{login or 'docker login '}{registry}, as the user of the agent; or correct the "
                                    "image's name")
    if any(sign in low for sign in ("not found", "manifest unknown", "does not exist", "no such image")) \
            and "executable file not found" not in low:
        return errors.Failure(f"there is no image {name}", errors.NOT_FOUND, said,
                              "correct the image's name: agent-task edit --docker")
    if "no space left on device" in low:
        return errors.Failure(f"image {name} cannot be pulled: the disk is full", errors.CANNOT_CREATE, said, room)
    if any(sign in low for sign in ("invalid reference format", "invalid tag", "image ref syntax", "reserved name")):
        return errors.Failure(f"{name} is not the name of an image", errors.BAD_DATA, said,
                              "correct the image's name: agent-task edit --docker")
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if "executable file not found" in low or "modulenotfounderror" in low:
        return errors.Failure(f"image {name} cannot be pulled: {last}", errors.UNAVAILABLE, said,
                              "install what the program that pulls it lacks")
    return errors.Failure(f"image {name} is not here and cannot be pulled: {last}", errors.UNAVAILABLE, said,
                          f"check the network of the engine and the registry {registry}, then run the task again")


def _say_unread(job: Job) -> None:
    """Docker's settings that are not JSON are passed over with the logins in them, by docker too, which says so."""
    import json

    from docker.utils.config import find_config_file
    path = str(find_config_file() or "")
    if not path.endswith(".json"):  # ~/.dockercfg may be of the old kind
        return
    try:
        with open(path, encoding="utf-8") as file:
            json.load(file)
    except (OSError, ValueError) as error:
        job.say(f"pulling without the logins of {path}, which cannot be read: {type(error).__name__}: {error}")


def _unreadable(error: Exception) -> errors.Failure:
    from docker.utils.config import find_config_file
    path = str(find_config_file() or "~/.docker/config.json")
    return errors.Failure(f"Docker's settings in {path} cannot be read", errors.BAD_CONFIG,
                          f"{type(error).__name__}: {error}", "mend that file (docker info says what is wrong with it)")


def _away(kind: str, at: str, error: Exception) -> errors.Failure:
    """This machine's fault, whatever the task asks for: others may run it."""
    name, variable = ("Podman", "CONTAINER_HOST") if kind == "podman" else ("Docker", "DOCKER_HOST")
    if "Permission denied" in str(error):
        join = "" if kind == "podman" else "add the user to the group docker, or "
        return errors.OfMachine(f"this user may not ask {name} at {at}", errors.NO_PERMISSION, str(error),
                                f"{join}set {variable}")
    return errors.OfMachine(f"no {name} answers at {at}", errors.UNAVAILABLE, str(error),
                            f"start it, set {variable}, or run tasks without containers: agent-prepare --place host")
