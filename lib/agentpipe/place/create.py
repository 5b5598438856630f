"""One container per task, made through the Docker Engine's API (Podman answers it too).

Nothing of ours gets into the image: PID 1 is a few words of its own shell, and what we need is mounted under the same
absolute path as outside.
"""

from __future__ import annotations

import os
import time

from agentpipe import attempt, claims, config, errors, paths, place, processes
from agentpipe.crash import crash_point
from agentpipe.place import container_args, decide, devices, engine, entrypoint, gear, setup_script
from agentpipe.place.docker import LABEL, ROOT, STOPPED, Container, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.args_body import Create
    from agentpipe.place.container_args import Args
    from agentpipe.place.decide import Container as Wanted

# PID 1: stays while the journal ($1) is there and collects orphans. Told to stop from outside (docker stop, an engine
# that is shut down) it notes that in $2, tells everybody, and ends when they have; `kill -1` means everybody, so only
# where nobody of outside can be among them.
KEEPER = """[ -z "$3" ] || cat /proc/self/environ >"$3"
alone() { set -- /proc/[0-9]*; [ $# = 1 ]; }
trap 'told=1; : >"$2"; if [ $$ = 1 ]; then kill -s TERM -- -1; else exit 143; fi' TERM
while [ -e "$1" ]; do
  sleep ${told:-2} & wait $!
  [ -z "$told" ] || { wait; alone && exit 143; }
done 2>/dev/null"""


def start(job: Job, wanted: Wanted) -> dict[str, Any]:
    """The task's container, running and set up; the value of `place`."""
    began = time.monotonic()
    kind = wanted.engine
    at = engine.url(kind)
    api = engine.connect(kind, at)
    sweep(api)
    given = container_args.arguments(job, wanted)
    for note in wanted.notes + given.notes:
        job.say(note)
    asked = container_args.api(given)
    image = _image(api, job, wanted, asked)
    place.journal(job.directory, {"kind": kind, "engine": at})
    crash_point("place:journalled")
    gear.add(asked.config, job, wanted, given)
    gear.beside(asked.config, api)
    note = devices.nvidia(asked.config, os.environ, config.flag("agent.cpu_only"))
    if note:
        job.say(note)
    _complete(job, asked, wanted, image)
    user = asked.config.get("User") or (image.get("Config") or {}).get("User") or ""
    if user.partition(":")[0] not in ("", "root", "0"):
        os.chmod(job.directory, 0o711)  # else its PID 1 could not see the journal; what leads here is ours alone
    created = _created(api, asked, wanted, job)
    crash_point("place:created")
    keeper, more = _started(api, created, wanted, _has_entrypoint(image)), list[str]()
    if _has_entrypoint(image):
        created, keeper, more = _entered(api, asked, wanted, job, created, keeper)
    crash_point("place:started")
    value = {"kind": kind, "reason": wanted.reason, "prefix": [*_client(kind, at), "exec", *more, created[:12]],
             "image": wanted.image, "image_id": image["Id"], "digest": engine.digest(image, wanted.image),
             "container": created, "engine": at, "keeper": keeper, "user": None,
             "ours": _ours(api), "arguments": given.shown(), "seconds": 0.0}
    value["user"] = _user(job, value, user)
    value["seconds"] = round(time.monotonic() - began, 3)
    job.say(f"container {created[:12]} of {wanted.image} started in {value['seconds']:.2f} s"
            + (f": {given.shown()}" if given.options else ""))
    place.journal(job.directory, value)
    _record(job, wanted, given)
    where = Container(value, job.directory)
    done = setup_script.run(job, wanted, where.prefix, where.root_prefix, given.words)
    return {**value, "setup": done} if done else value


def pinned(job: Job) -> str:
    """The very image that a receipt names, by its digest in a registry or its id; ""."""
    found = (job.manifest.get("pins") or {}).get("image")
    return found if isinstance(found, str) else ""


def _image(api: Any, job: Job, wanted: Wanted, asked: Create) -> dict[str, Any]:
    """The image, as the engine describes it: that of the receipt, else what its name means now."""
    exact = pinned(job)
    if exact:
        try:
            return engine.image(api, job, exact, False, not exact.startswith("sha256:"), asked.platform)
        except errors.Failure as failure:
            raise errors.Failure(f"the image of the receipt cannot be had: {failure.reason}", failure.exit,
                                 failure.evidence,
                                 "take `image` out of its `pins` for what the name means now") from None
    force = asked.pull == "always" or config.flag("agent.docker_force_pull")
    return engine.image(api, job, wanted.image, force, asked.pull != "never", asked.platform)


def _user(job: Job, value: dict[str, Any], name: str) -> int | None:
    """The number of the user that the script runs as; None when the image cannot tell."""
    name = name.partition(":")[0]
    if name in ("", "root"):
        return 0
    if not name.isdigit():
        name = job.run([*value["prefix"], "sh", "-c", "id -u"], check=False, timeout=60).strip()
    return int(name) if name.isdigit() else None


def _ours(api: Any) -> str:
    """USER:GROUP inside that is us outside: root, where the engine runs as us."""
    if os.getuid() == 0 or "name=rootless" in (api.info().get("SecurityOptions") or []):
        return ROOT
    return f"{os.getuid()}:{os.getgid()}"


def sweep(api: Any) -> None:
    """Remove containers that an earlier life of ours left: their task's directory has no journal any more, or its end
    is decided and nobody holds it."""
    for found in api.containers(all=True, filters={"label": f"{LABEL}home={_home()}"}):
        directory = found["Labels"].get(LABEL + "directory", "")
        if not os.path.lexists(os.path.join(directory, place.JOURNAL)):
            remove(api, found["Id"])
        elif attempt.outcome(directory) and (lock := claims.lock(directory, 0)) is not None:
            remove(api, found["Id"])
            place.forget(directory)
            os.close(lock)


def _complete(job: Job, asked: Create, wanted: Wanted, image: dict[str, Any]) -> None:
    """Add what is ours to what was asked for: the keeper, labels, mounts."""
    worker = (job.manifest.get("pull") or {}).get("worker") or ""
    body = asked.config
    body |= {"Image": image["Id"] if pinned(job) else wanted.image, **_first_program(job, _has_entrypoint(image))}
    body["Labels"] |= {**container_args.labels(worker), LABEL + "task": job.task["id"],
                       LABEL + "directory": job.directory, LABEL + "home": _home(), LABEL + "worker": worker,
                       LABEL + "host": os.uname().nodename, LABEL + "boot": processes.boot_id()}
    host = body["HostConfig"]
    there = gear.mounted(body)
    host["Mounts"] = [*(host.get("Mounts") or []), *(each for each in _mounts(job) if each["Target"] not in there)]
    host.pop("AutoRemove", None)  # its end must stay to be read


def _record(job: Job, wanted: Wanted, given: Args) -> None:
    """Put on the task what it did not name itself: the container, and the ports that were published."""
    decide.write_back(job, wanted)
    if given.runtime and job.tell:
        try:
            job.tell("tasks.edit", {"force": True, "runtime": {**(job.task.get("runtime") or {}), **given.runtime}})
        except (errors.ApiError, errors.Failure) as error:
            job.say(f"the published ports could not be recorded on the task: {error}")


def _mounts(job: Job) -> list[dict[str, Any]]:
    """The task's directory and the caches that it needs, at their own paths; never mirrors, store or other tasks."""
    from agentpipe import indexes
    from agentpipe.installers import uv
    shared = [paths.cache("envs"), paths.cache("virtualenv"), indexes.download_cache()]
    for folder in shared:
        os.makedirs(folder, 0o700, exist_ok=True)
    os.chmod(shared[0], 0o755)  # an image's user has to read there; only directories of ours lead to it
    found = [_bind(folder) for folder in (job.directory, *shared)]
    for path in (uv.binary(), *indexes.local()):
        source = gear.lent(os.path.realpath(path))
        if source:
            found.append({"Type": "bind", "Source": source, "Target": path, "ReadOnly": True})
        else:
            job.say(f"{path} cannot be shown to the container: it is not below {gear.host_mount()}")
    secrets = job.path("secrets.json")
    if os.path.exists(secrets):  # passwords of repositories: git runs outside
        found.append({**_bind(secrets, read_only=True), "Source": os.devnull})
    return found


def _bind(path: str, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": gear.outside(os.path.realpath(path)), "Target": path, "ReadOnly": read_only}


def _created(api: Any, asked: Create, wanted: Wanted, job: Job) -> str:
    import docker
    worker = asked.config["Labels"][LABEL + "worker"]
    name = asked.name or container_args.name(job, worker)
    for again in (name, None):
        try:
            return str(api.create_container_from_config(asked.config, again, asked.platform)["Id"])
        except docker.errors.APIError as error:
            if again is None or error.status_code != 409:
                raise engine.failure(error, f"no container of {wanted.image} can be made", errors.BAD_CONFIG) from None
            job.say(f"there is a container called {name} already: the engine names this one")
    raise AssertionError


def _has_entrypoint(image: dict[str, Any]) -> bool:
    return bool((image.get("Config") or {}).get("Entrypoint"))


def _first_program(job: Job, through_entrypoint: bool) -> dict[str, Any]:
    """Entrypoint and command: the keeper, by itself or as what the image's entrypoint is given."""
    words = ["-c", KEEPER, "keeper", job.path(place.JOURNAL), job.path(STOPPED)]
    if through_entrypoint:
        return {"Cmd": ["/bin/sh", *words, entrypoint.expected(job.directory)]}
    return {"Entrypoint": ["/bin/sh"], "Cmd": words}


def _entered(api: Any, asked: Create, wanted: Wanted, job: Job, created: str,
             keeper: str | None) -> tuple[str, str | None, list[str]]:
    """Wait for what the image's entrypoint does; where it does not start what it is given, a container without it."""
    if entrypoint.passed(job.directory, lambda: api.inspect_container(created)["State"]):
        found = api.inspect_container(created)
        return created, keeper, entrypoint.variables(job.directory, found["Config"].get("Env") or [])
    said = api.logs(created, tail=5).decode("utf-8", "replace").strip()
    job.say(f"the entrypoint of {wanted.image} does not start what it is given, it is left out"
            + (f":\n{said}" if said else ""))
    remove(api, created)
    asked.config |= _first_program(job, False)
    created = _created(api, asked, wanted, job)
    return created, _started(api, created, wanted), []


def _started(api: Any, created: str, wanted: Wanted, through_entrypoint: bool = False) -> str | None:
    """Start it; PID 1 as "PID START BOOT" where it can be seen from here."""
    import docker
    try:
        api.start(created)
        state = api.inspect_container(created)["State"]
    except docker.errors.APIError as error:
        said = str(error.explanation or error)
        if "/bin/sh" in said and ("no such file" in said or "not found" in said):
            raise errors.Failure(f"image {wanted.image} has no /bin/sh", errors.BAD_DATA, said,
                                 "use an image with a shell") from None
        if "could not select device driver" in said:
            raise errors.Failure("the engine has no way to give GPUs to containers", errors.UNAVAILABLE, said,
                                 "install the NVIDIA Container Toolkit; or agent-prepare --gpus none") from None
        raise engine.failure(error, f"the container of {wanted.image} does not start", errors.BAD_CONFIG) from None
    if not state.get("Running") and not through_entrypoint:
        raise errors.Failure(f"the container of {wanted.image} ended at once: exit {state.get('ExitCode')}",
                             errors.BAD_DATA, str(state.get("Error") or ""), "use an image with a POSIX shell")
    pid = int(state.get("Pid") or 0)
    return processes.identity(pid) if pid and _is_of(pid, created) else None


def _client(kind: str, at: str) -> list[str]:
    """The words that speak to this engine on a command line."""
    import shutil
    for name, option in (("docker", "--host"), ("podman", "--url")):
        if shutil.which(name):
            default = at == engine.DOCKER_SOCKET and name == "docker" and not os.environ.get("DOCKER_HOST")
            return [name] if default else [name, option, at]
    raise errors.Failure(f"there is no docker command here, through which {kind} containers are entered",
                         errors.UNAVAILABLE, remedy="install Docker's client (Debian: docker.io)")


def _home() -> str:
    return paths.state("tasks")


def _is_of(pid: int, container: str) -> bool:
    """Whether this process of ours is the container's: its cgroup is named for it."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            return container in file.read()
    except OSError:
        return False
