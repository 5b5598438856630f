"""One container per task, made through the Docker Engine's API (Podman answers it too).

Nothing of ours gets into the image: PID 1 is a few words of its own shell, and what we need is mounted under the same
absolute path as outside.
"""

from __future__ import annotations

import os
import stat
import time

from agentpipe import attempt, claims, config, errors, paths, place, processes
from agentpipe.crash import crash_point
from agentpipe.place import container_args, decide, devices, engine, gear, setup_script

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
KEEPER = """alone() { set -- /proc/[0-9]*; [ $# = 1 ]; }
trap 'told=1; : >"$2"; if [ $$ = 1 ]; then kill -s TERM -- -1; else exit 143; fi' TERM
while [ -e "$1" ]; do
  sleep ${told:-2} & wait $!
  [ -z "$told" ] || { wait; alone && exit 143; }
done 2>/dev/null"""
STOPPED = "stopped"
LABEL = "agentpipe."
ROOT = "0:0"
OPENED = ("code", "env", "spec", "clearml.conf")  # in the task's directory; the rest is between us and ourselves
# $1:$2 our user and group, then folders
OWN_AGAIN = """uid=$1 gid=$2; shift 2
find "$@" -xdev ! -user "$uid" -exec chown -h "$uid:$gid" {} +"""


class Container(place.Place):
    """A container of Docker or Podman."""

    isolated = True

    def __init__(self, value: Any, directory: str) -> None:
        super().__init__(value, directory)
        self._pid: int | None = None

    # ---- asked while the script runs

    def alive(self, record: str) -> bool | None:
        """Whether the script still runs: seen from the host where that can be, else asked inside."""
        pid, start, boot = record.split(" ")
        if self.value.get("keeper") and boot == processes.boot_id():
            return self.pid(record) is not None
        code, _, said = self._asked(place.ALIVE, pid, start)
        if code in (0, 3):
            return code == 0
        gone = "No such container" in said or "is not running" in said or "no such container" in said
        return False if gone else None

    def pid(self, record: str) -> int | None:
        """The script's pid on this host, found by its start and its pid in the container's namespace."""
        inside, start, boot = record.split(" ")
        if not self.value.get("keeper") or boot != processes.boot_id():
            return None
        if self._pid and processes.start_time(self._pid) == int(start):
            return self._pid
        self._pid = next((pid for pid in processes.all_pids() if processes.start_time(pid) == int(start)
                          and _pid_inside(pid) == inside), None)
        return self._pid

    def as_user(self, user: str) -> list[str]:
        """The prefix for another user than the container's own."""
        return [*self.prefix[:-1], "-u", user, self.prefix[-1]]

    def entered(self, terminal: bool) -> list[str]:
        """The prefix for a command that a person types at."""
        return [*self.prefix[:-1], *(["-it"] if terminal else ["-i"]), self.prefix[-1]]

    def as_ourselves(self) -> list[str]:
        """The prefix for this user of ours."""
        return self.as_user(self.value.get("ours") or f"{os.getuid()}:{os.getgid()}")

    @property
    def root_prefix(self) -> list[str]:
        """The prefix for root inside."""
        return self.as_user(ROOT)

    def variables(self) -> dict[str, str]:
        """What the `clearml` package expects in a container, and git's leave to read a checkout of another user."""
        return {"CLEARML_DOCKER_IMAGE": self.value["image"], "TRAINS_DOCKER_IMAGE": self.value["image"],
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": os.path.join(self.directory, "code")}

    def settings(self) -> dict[str, str]:
        """The SDK's cache where it is mounted."""
        return {"sdk.storage.cache.default_base_dir": gear.folder_inside("sdk")}

    def open_up(self) -> None:
        """For an image of another user: the task's directory, which only our own directories lead to, opened to all."""
        user = self.value.get("user")
        if user in (0, os.getuid()):
            return
        os.chmod(self.directory, 0o777)
        for name in OPENED:
            path = os.path.join(self.directory, name)
            if not os.path.isdir(path):
                _open(path, 0o444)
            for here, folders, names in os.walk(path):
                for each in (".", *folders):
                    _open(os.path.join(here, each), 0o777)
                for each in names:
                    _open(os.path.join(here, each), 0o666)

    # ---- its end

    def evidence(self, status: int | None) -> tuple[str, str]:
        """What the container knows of the script's end: killed for lack of memory (limit, peak), or itself gone."""
        import docker
        if os.path.exists(os.path.join(self.directory, STOPPED)):
            return "lost", ("its container was stopped from outside (docker stop, or an engine that was shut down "
                            f"without live-restore); the script ended with {status}")
        try:
            api = self._api()
            found = api.inspect_container(self._id())
        except docker.errors.NotFound:
            return "", "its container is gone: removed from outside"
        except (docker.errors.DockerException, errors.Failure, OSError) as error:
            return "", f"the engine does not answer: {error}"
        state = found["State"]
        if status == 137:
            killed, limit, peak = self._memory()
            if killed or state.get("OOMKilled"):
                limit = limit or found["HostConfig"].get("Memory") or None
                return "out_of_memory", _memory_words(limit, peak)
        if status is not None or state.get("Running"):
            return "", ""
        words = f"its container ended while the script ran: exit {state.get('ExitCode')} at {state.get('FinishedAt')}"
        if state.get("OOMKilled"):
            return "out_of_memory", words + "\n" + _memory_words(found["HostConfig"].get("Memory") or None, None)
        if state.get("Error"):
            words += f" ({state['Error']})"
        if self.value.get("kind") == "docker" and not _live_restore(api):
            words += "; a restart of the engine ends its containers (live-restore is off)"
        return "", words

    def remove(self) -> str:
        """End and remove it, by its id or by the label with our directory."""
        import docker
        try:
            api = self._api()
            self._own_again()
            for each in [self.prefix[-1]] if self.prefix else _labelled(api, "directory", self.directory):
                _remove(api, each)
        except (docker.errors.DockerException, errors.Failure, OSError) as error:
            return f"the task's container could not be removed, it ends by itself: {error}"
        return ""

    def _own_again(self) -> None:
        """What another user inside has written becomes ours, so that we can read and remove it."""
        if not self.prefix or os.getuid() == 0 or self.value.get("ours") == ROOT:
            return
        import subprocess
        folders = [self.directory, *([self.base] if self.base else [])]
        subprocess.run([*self.root_prefix, "sh", "-c", OWN_AGAIN, "sh", str(os.getuid()), str(os.getgid()), *folders],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _api(self) -> Any:
        return engine.connect(self.value.get("kind") or "docker", self.value.get("engine") or "")

    def _id(self) -> str:
        return self.prefix[-1]

    def _memory(self) -> tuple[int, int | None, int | None]:
        """(processes killed, limit, peak in bytes) of the container's cgroup, version 1 or 2."""
        _, said, _ = self._asked(MEMORY)
        found = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)

        def number(name: str) -> int | None:
            text = found.get(name, "")
            return int(text) if text.isdigit() and int(text) < 1 << 62 else None
        return number("oom_kill") or 0, number("limit"), number("peak")


MEMORY = """cd /sys/fs/cgroup || exit
say() { for file in "$2" "$3"; do [ ! -r "$file" ] || { read -r value <"$file" && echo "$1 $value"; return; }; done; }
say limit memory.max memory/memory.limit_in_bytes
say peak memory.peak memory/memory.max_usage_in_bytes
for file in memory.events memory/memory.oom_control; do
  [ ! -r "$file" ] || while read -r name value; do [ "$name" != oom_kill ] || echo "$name $value"; done <"$file"
done"""


# ---- making one

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
    keeper = _started(api, created, wanted)
    crash_point("place:started")
    value = {"kind": kind, "reason": wanted.reason, "prefix": [*_client(kind, at), "exec", created[:12]],
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
            _remove(api, found["Id"])
        elif attempt.outcome(directory) and (lock := claims.lock(directory, 0)) is not None:
            _remove(api, found["Id"])
            place.forget(directory)
            os.close(lock)


def _complete(job: Job, asked: Create, wanted: Wanted, image: dict[str, Any]) -> None:
    """Add what is ours to what was asked for: the keeper, labels, mounts."""
    worker = (job.manifest.get("pull") or {}).get("worker") or ""
    body = asked.config
    body |= {"Image": image["Id"] if pinned(job) else wanted.image, "Entrypoint": ["/bin/sh"],
             "Cmd": ["-c", KEEPER, "keeper", job.path(place.JOURNAL), job.path(STOPPED)]}
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
    found = [_bind(folder) for folder in (job.directory, *shared)] + [_bind(uv.binary(), read_only=True)]
    found += [_bind(path, read_only=True) for path in indexes.local()]
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


def _started(api: Any, created: str, wanted: Wanted) -> str | None:
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
    if not state.get("Running"):
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


def _labelled(api: Any, name: str, value: str) -> list[str]:
    return [found["Id"] for found in api.containers(all=True, filters={"label": f"{LABEL}{name}={value}"})]


def _remove(api: Any, container: str) -> None:
    import docker
    try:
        api.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if error.status_code != 409:  # somebody else removes it at this moment
            raise


def _home() -> str:
    return paths.state("tasks")


def _live_restore(api: Any) -> bool:
    return bool(api.info().get("LiveRestoreEnabled"))


def _open(path: str, mode: int) -> None:
    """Add to the mode of a file that is ours and there."""
    try:
        found = os.lstat(path)
        if found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode):
            os.chmod(path, stat.S_IMODE(found.st_mode) | mode)
    except FileNotFoundError:
        pass


def _pid_inside(pid: int) -> str:
    """A process's pid in its own namespace."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return next((line.split()[-1] for line in file if line.startswith("NSpid:")), "")
    except OSError:
        return ""


def _is_of(pid: int, container: str) -> bool:
    """Whether this process of ours is the container's: its cgroup is named for it."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            return container in file.read()
    except OSError:
        return False


def _memory_words(limit: int | None, peak: int | None) -> str:
    return ("killed for lack of memory: " + (f"limit {limit} bytes" if limit else "no limit of its own")
            + (f", peak {peak} bytes" if peak else ""))
