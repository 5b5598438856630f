"""How a container begins: its PID 1, which is started through the image's entrypoint, and what is said when it does
not stay.
"""

from __future__ import annotations

import os

from agentpipe import errors, paths, place, processes
from agentpipe.place import container_args, engine, entrypoint, ports
from agentpipe.place.docker import LABEL, STOPPED, holds, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.args_body import Create
    from agentpipe.place.decide import Container as Wanted

# PID 1: stays while the journal ($1) is there and collects orphans. Told to stop from outside (docker stop, an engine
# that is shut down) it notes that in $2, tells everybody, and ends when they have; `kill -1` means everybody, so only
# where nobody of outside can be among them. In an image without `sleep` it waits for its own stdin, into which nobody
# writes; a shell without `read -t` does so until the container is removed.
KEEPER = """journal=$1 stopped=$2
[ -z "$3" ] || cat /proc/self/environ >"$3"
alone() { set -- /proc/[0-9]*; [ $# = 1 ]; }
nap() { sleep "$1" & wait $!; }
command -v sleep >/dev/null || nap() { read -r -t "$1" line || [ $? != 2 ] || read -r line; }
trap 'told=1; [ -e "$stopped" ] || : >"$stopped"; if [ $$ = 1 ]; then kill -s TERM -- -1; else exit 143; fi' TERM
while [ -e "$journal" ]; do
  nap ${told:-2}
  [ -z "$told" ] || { wait; alone && exit 143; }
done 2>/dev/null"""
LIMITS = {"Memory": "--memory", "NanoCpus": "--cpus", "PidsLimit": "--pids-limit"}
LAST_WORDS = 4000  # bytes of a container's that are told
# what an engine says where it has no GPUs to give, and what to do about it
NO_GPUS = {"could not select device driver": "install the NVIDIA Container Toolkit",
           "nvidia-container-cli: initialization error": "mend the driver (nvidia-smi tells what is wrong with it)"}
FEW = 16  # processes, with threads: a shell that runs a program may end for lack of them
STOP_SIGNAL = "SIGTERM"  # the keeper's, whatever the image's own program, or the arguments, would have


def create(api: Any, asked: Create, wanted: Wanted, job: Job) -> str:
    """Make the container; its id. A name that is taken is left to the engine."""
    import docker
    worker = asked.config["Labels"][LABEL + "worker"]
    name = asked.name or container_args.name(job, worker)
    for again in (name, None):
        try:
            with engine.at_work(api):
                return str(api.create_container_from_config(asked.config, again, asked.platform)["Id"])
        except docker.errors.APIError as error:
            if again is None or error.status_code != 409:
                raise engine.refused(error, f"no container of {wanted.image} can be made", wanted.own) from None
            job.say(f"there is a container called {name} already: the engine names this one")
    raise AssertionError


def has_entrypoint(image: dict[str, Any]) -> bool:
    """Whether the image, as the engine describes it, has one."""
    return bool((image.get("Config") or {}).get("Entrypoint"))


def first_program(job: Job, by_entrypoint: bool) -> dict[str, Any]:
    """Entrypoint and command: the keeper, by itself or as what the image's entrypoint is given."""
    words = ["-c", KEEPER, "keeper", job.path(place.JOURNAL), os.path.join(paths.box(job.directory), STOPPED)]
    if by_entrypoint:
        return {"Cmd": ["/bin/sh", *words, entrypoint.expected(job.directory)], "StopSignal": STOP_SIGNAL}
    return {"Entrypoint": ["/bin/sh"], "Cmd": words, "OpenStdin": True, "StopSignal": STOP_SIGNAL}


def through_entrypoint(api: Any, asked: Create, wanted: Wanted, job: Job, created: str,
                       keeper: str | None) -> tuple[str, str | None, list[str]]:
    """Wait for what the image's entrypoint does; where it does not start what it is given, a container without it."""
    if entrypoint.passed(job.directory, lambda: api.inspect_container(created)["State"]):
        found = api.inspect_container(created)
        return created, keeper, entrypoint.variables(job.directory, found["Config"].get("Env") or [])
    said = _last_words(api, created)
    job.say(f"the entrypoint of {wanted.image} does not start what it is given, it is left out"
            + (f":\n{said}" if said else ""))
    remove(api, created)
    asked.config |= first_program(job, False)
    created = create(api, asked, wanted, job)
    return created, start(api, created, wanted), []


def _last_words(api: Any, container: str) -> str:
    """The last lines that it has printed; none where its log driver (none, syslog …) gives nothing back."""
    import docker
    words = b""
    try:
        for piece in api.logs(container, tail=5, stream=True, follow=False):  # a line may be of any length
            words = (words + piece)[-LAST_WORDS:]
        return words.decode("utf-8", "replace").strip()
    except docker.errors.APIError:
        return ""


def start(api: Any, created: str, wanted: Wanted, by_entrypoint: bool = False) -> str | None:
    """Start it; PID 1 as "PID START BOOT" where it can be seen from here."""
    import docker
    try:
        with engine.at_work(api):
            api.start(created)
        state = api.inspect_container(created)["State"]
    except docker.errors.APIError as error:
        said = str(error.explanation or error)
        if "/bin/sh" in said and ("no such file" in said or "not found" in said):
            raise errors.Failure(f"image {wanted.image} has no /bin/sh", errors.BAD_DATA, said,
                                 "use an image with a shell") from None
        remedy = next((mend for sign, mend in NO_GPUS.items() if sign in said), "")
        if remedy:
            raise errors.OfMachine("the engine has no way to give GPUs to containers", errors.UNAVAILABLE, said,
                                   f"{remedy}; or agent-prepare --gpus none") from None
        if "permission denied" in said and _maps_users(api):  # it could not even mount there
            raise _mapped() from None
        failure = engine.refused(error, f"the container of {wanted.image} does not start", wanted.own)
        raise ports.of_refusal(failure) from None
    if not state.get("Running") and not by_entrypoint:
        raise ended(api, wanted, created, state)
    pid = int(state.get("Pid") or 0)
    return processes.identity(pid) if pid and holds(created, pid) else None


def say_unlimited(api: Any, asked: Create, job: Job, created: str) -> None:
    """Which limits the engine has left out without a word, as Podman of a plain user does with cgroups of version 1."""
    wanted = [name for name in LIMITS if (asked.config["HostConfig"].get(name) or 0) > 0]
    found = api.inspect_container(created)["HostConfig"] if wanted else {}
    left = [LIMITS[name] for name in wanted if not (found.get(name) or (name == "NanoCpus" and found.get("CpuQuota")))]
    if left:
        job.say(f"the engine cannot limit a task on this machine, left out: {', '.join(left)}")


def ended(api: Any, wanted: Wanted, created: str, state: dict[str, Any]) -> errors.Failure:
    """Why nothing can be run in a container that was started; `state` is the engine's word on it."""
    if _maps_users(api):
        return _mapped()
    if state.get("Running"):
        return errors.Failure(f"the container of {wanted.image} runs, but no program can be started in it",
                              errors.UNAVAILABLE, remedy="look at the engine's own log, then run the task again")
    said = str(state.get("Error") or "") or _last_words(api, created)
    if "exec format error" in said:
        return errors.Failure(f"the programs of {wanted.image} are for another processor than this machine's "
                              f"({os.uname().machine})", errors.BAD_DATA, said,
                              "build it for this one (docker build --platform), or use another image")
    last = said.rpartition("\n")[2]
    limit = api.inspect_container(created)["HostConfig"].get("PidsLimit") or 0
    if 0 < limit <= FEW:
        return errors.Failure(f"the container of {wanted.image} may have {limit} process{'es' if limit > 1 else ''}, "
                              "too few for a task" + (f": {last}" if last else ""), errors.BAD_DATA, said,
                              "raise --pids-limit in the container's arguments: agent-task edit --docker-args")
    return errors.Failure(f"the container of {wanted.image} ended at once: exit {state.get('ExitCode')}"
                          + (f": {last}" if last else ""), errors.BAD_DATA, said, "use an image with a POSIX shell")


def _maps_users(api: Any) -> bool:
    """Whether the engine gives containers other users than this machine's (userns-remap)."""
    return "name=userns" in (api.info().get("SecurityOptions") or [])


def _mapped() -> errors.Failure:
    return errors.Failure("the engine gives containers other users than this machine's (userns-remap): theirs can "
                          "read nothing of the task's", errors.BAD_CONFIG,
                          remedy='agent.extra_docker_arguments: ["--userns=host"]')
