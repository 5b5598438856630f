"""A task's container, once it is there: asked, signalled, looked into at the end, and removed (Docker or Podman)."""

from __future__ import annotations

import os
import time

from agentpipe import errors, paths, place, processes, trees
from agentpipe.claim import attempt
from agentpipe.place import apart, asking, engine, gear, reclaim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOPPED = "stopped"
LABEL = "agentpipe."
ROOT = "0:0"
ASK_S = 2.0
# what clients say of a container that is over: of Docker's engine, of Podman's
GONE = ("No such container", "is not running", "no such container")
IMPROPER = "container state improper"  # Podman's, also of one that it is about to stop, which has its grace period
SHOWN = ("spec", "clearml.conf")  # in the task's directory, for the script; the rest is between us and ourselves
ITS_OWN = ("code", "env", paths.BOX)  # the folders there that are the container's


class Container(place.Place):
    """A container of Docker or Podman."""

    isolated = goes = True

    def __init__(self, value: Any, directory: str) -> None:
        super().__init__(value, directory)
        self._pid: int | None = None
        self._lived = float("-inf")  # when it was last seen inside to live: asking costs a process there

    # ---- asked while the script runs

    def alive(self, record: str) -> bool | None:
        """Whether the script still runs: seen from the host where that can be, else asked inside."""
        pid, start, boot = record.split(" ")
        if self.value.get("keeper") and boot == processes.boot_id():
            return self.pid(record) is not None
        now = time.monotonic()
        if now - self._lived < ASK_S:
            return True
        code, _, said = self._asked(asking.ALIVE, pid, start)
        if code in (0, 3):
            self._lived = now if code == 0 else self._lived
            return code == 0
        return False if any(words in said for words in GONE) or (IMPROPER in said and self._is_over()) else None

    def pid(self, record: str) -> int | None:
        """The script's pid on this host, found by its start and its pid in the container's namespace: a process of
        this container, since others may have begun at the same tick under the same number."""
        inside, start, boot = record.split(" ")
        if not self.value.get("keeper") or boot != processes.boot_id():
            return None
        if self._pid and processes.start_time(self._pid) == int(start):
            return self._pid
        # the container has written the record: it may name a process of anybody's
        self._pid = next((pid for pid in processes.all_pids() if processes.start_time(pid) == int(start)
                          and _pid_inside(pid) == inside and holds(self.value["container"], pid)), None)
        return self._pid

    def signal(self, record: str, signum: int) -> int:
        """As everywhere; where nothing enters it, as without its engine, from the host, if the script is seen there."""
        told = self.told(record, signum)
        if told is not None:
            return told
        script = self.pid(record)
        names = [] if script is None else map(processes.seen, [script, *processes.descendants(script)])
        return sum(processes.tell(each.name, signum) for each in names if each)

    def _is_over(self) -> bool:
        """Whether the engine has no such container any more, or one without processes; not of one that is being stopped
        (which Podman does not call running), nor of an engine that does not answer."""
        import docker
        try:
            state = self._api().inspect_container(self._id())["State"]
        except docker.errors.NotFound:
            return True
        except (docker.errors.DockerException, errors.Failure, OSError):
            return False
        return not state.get("Pid")

    def as_user(self, user: str) -> list[str]:
        """The prefix for another user than the container's own."""
        return [*self.prefix[:-1], "-u", user, self.prefix[-1]]

    def processes(self) -> list[int]:
        """What runs in the container, as pids of this host; [] where those cannot be seen."""
        keeper = str(self.value.get("keeper") or "0").split(" ")[0]
        try:
            with open(f"/proc/{keeper}/cgroup", encoding="utf-8") as file:
                groups = [line.rstrip("\n").split(":", 2)[1:] for line in file]
        except OSError:
            return []
        for controllers, path in groups:
            if self.value["container"] not in path:  # an engine without cgroups: others are in it too
                continue
            if controllers == "" or "memory" in controllers.split(","):
                folder = "/sys/fs/cgroup" + ("/memory" if controllers else "") + path
                try:
                    with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
                        return [int(line) for line in file if line.strip() not in ("0", keeper)]
                except OSError:
                    continue
        return []

    def entered(self, terminal: bool) -> list[str]:
        """The prefix for a command that a person types at."""
        return [*self.prefix[:-1], *(["-it"] if terminal else ["-i"]), self.prefix[-1]]

    def as_ourselves(self) -> list[str]:
        """The prefix for this user of ours."""
        return self.as_user(self._ours())

    @property
    def root_prefix(self) -> list[str]:
        """The prefix for root inside."""
        return self.as_user(ROOT)

    def variables(self) -> dict[str, str]:
        """What the `clearml` package expects in a container, and git's leave to read a checkout of another user."""
        image = self.value.get("image") or ""  # a container of somebody else's may be entered by hand
        return {"CLEARML_DOCKER_IMAGE": image, "TRAINS_DOCKER_IMAGE": image,
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": os.path.join(self.directory, "code")}

    def settings(self) -> dict[str, str]:
        """The SDK's cache where it is mounted; certificates where they can be read."""
        from agentpipe.place import certificates
        return {"sdk.storage.cache.default_base_dir": gear.folder_inside("sdk"),
                **certificates.settings(self.directory)}

    def open_up(self) -> None:
        """For a stranger: what is the script's, to which only our own directories lead, opened to all."""
        if self.value.get("stranger") == "":  # of a container of somebody else's nobody knows
            return
        for name in SHOWN:
            trees.open_to_all(os.path.join(self.directory, name), 0o444)
        for name in ITS_OWN:
            trees.open_to_all(os.path.join(self.directory, name), 0o666)

    # ---- its end

    def evidence(self, status: int | None) -> tuple[str, str]:
        """What the container knows of the script's end: killed for lack of memory (limit, peak), or itself gone."""
        import docker
        if self._was_stopped():
            return "lost", ("its container was stopped from outside (docker stop, or an engine that was shut down "
                            f"without live-restore); the script ended with {status}")
        try:
            api = self._api()
            found = api.inspect_container(self._id())
        except docker.errors.NotFound:
            return "", "its container is gone: removed from outside" if status is None else ""
        except (docker.errors.DockerException, errors.Failure, OSError) as error:
            return "", f"the engine does not answer: {error}" if status is None else ""
        state = found["State"]
        if status == 137:
            killed, limit, peak = self._memory()
            if killed or state.get("OOMKilled"):
                limit = limit or found["HostConfig"].get("Memory") or None
                return "out_of_memory", _memory_words(limit, peak)
        if status and status != 137:  # a part of the script, of whose loss it has died
            killed, limit, peak = self._memory()
            if killed:
                words = _memory_words(limit or found["HostConfig"].get("Memory") or None, peak)
                return "", f"a process of it was {words}"
        if status is not None or state.get("Running"):
            return "", ""
        words = f"its container ended while the script ran: exit {state.get('ExitCode')} at {state.get('FinishedAt')}"
        if state.get("OOMKilled"):
            return "out_of_memory", words + "\n" + _memory_words(found["HostConfig"].get("Memory") or None, None)
        if state.get("Error"):
            words += f" ({state['Error']})"
        if self.value.get("kind") == "docker" and _ends_containers(api):
            words += "; a restart of the engine ends its containers (live-restore is off)"
        return "", words

    def _was_stopped(self) -> bool:
        """Whether it was stopped from outside while the script ran, as its PID 1 notes; what has ended before has ended
        by itself, though nobody has seen it yet."""
        try:
            stopped = os.lstat(os.path.join(paths.box(self.directory), STOPPED)).st_mtime
        except OSError:
            return False
        ended = attempt.ended_at(self.directory)
        return ended is None or ended >= stopped

    def remove(self) -> str:
        """End and remove it, by its id or by the label with our directory."""
        import docker
        try:
            api = self._api()
            if self.prefix and os.getuid() != 0:
                folders = [*(os.path.join(self.directory, name) for name in ITS_OWN), self.value.get("environments")]
                reclaim.reclaim(api, self._id(), self.root_prefix, self._ours(), list(filter(None, folders)))
            for each in [self.prefix[-1]] if self.prefix else made_for(api, self.directory):
                remove(api, each)
            apart.drop(self.value)
        except (docker.errors.DockerException, errors.Failure, OSError) as error:
            return f"the task's container could not be removed, it ends by itself: {error}"
        return ""

    def _ours(self) -> str:
        return self.value.get("ours") or f"{os.getuid()}:{os.getgid()}"

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
            # its `sh` may be anybody's
            return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 1 << 62 else None
        return number("oom_kill") or 0, number("limit"), number("peak")


MEMORY = """cd /sys/fs/cgroup || exit
say() { for file in "$2" "$3"; do [ ! -r "$file" ] || { read -r value <"$file" && echo "$1 $value"; return; }; done; }
say limit memory.max memory/memory.limit_in_bytes
say peak memory.peak memory/memory.max_usage_in_bytes
for file in memory.events memory/memory.oom_control; do
  [ ! -r "$file" ] || while read -r name value; do [ "$name" != oom_kill ] || echo "$name $value"; done <"$file"
done"""


def made_for(api: Any, directory: str) -> list[str]:
    """Those that were made for the attempt in that directory, but for such as are another agent's."""
    from agentpipe.place import owner
    return [found["Id"] for found in api.containers(all=True, filters={"label": f"{LABEL}directory={directory}"})
            if owner.of(found["Labels"]) is not False and shows(api, found["Id"], directory)]


def shows(api: Any, container: str, directory: str) -> bool:
    """Whether that container has the directory, or a folder of it, mounted where it stands here. What somebody has made
    of an image of a task's container has its labels only."""
    import docker
    try:
        mounts = api.inspect_container(container)["Mounts"]
    except docker.errors.NotFound:
        return False
    return any((each["Destination"] + "/").startswith(directory + "/") for each in mounts)


def remove(api: Any, container: str) -> None:
    """End and remove a container with its anonymous volumes; one that is gone, or going, already is fine."""
    import docker
    try:
        api.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if error.status_code != 409:  # somebody else removes it at this moment
            raise


def _ends_containers(api: Any) -> bool:
    """Whether a restart of the engine ends its containers; False also where it does not answer any more."""
    import docker
    try:
        return not api.info().get("LiveRestoreEnabled")
    except (docker.errors.DockerException, OSError):
        return False


def holds(container: str, pid: int) -> bool:
    """Whether a process of this host is the container's: its cgroup is named for it, or (of an engine that makes none)
    the folder of its mounts."""
    for name in ("cgroup", "mountinfo"):
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                if container in file.read():
                    return True
        except OSError:
            pass
    return False


def _pid_inside(pid: int) -> str:
    """A process's pid in its own namespace."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return next((line.split()[-1] for line in file if line.startswith("NSpid:")), "")
    except OSError:
        return ""


def _memory_words(limit: int | None, peak: int | None) -> str:
    return ("killed for lack of memory: " + (f"limit {limit} bytes" if limit else "no limit of its own")
            + (f", peak {peak} bytes" if peak else ""))
