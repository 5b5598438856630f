"""Where a task runs: on this machine, or in a place that is entered through a prefix (a container, a namespace).

    wanted   decide for a task
    start    make the place: the value of the manifest's `place`
    of       what stands in a manifest, as an object that can be asked, signalled and removed
    leave    remove whatever an attempt has made, by its journal

The journal is `place.json` in the task's directory: written before anything is created, removed after all is gone. It
is also what PID 1 of a container lives by, so that a place ends even when nobody can reach its engine.
"""

from __future__ import annotations

import os
import signal

from agentpipe import paths, processes, secrets, trees, untrusted
from agentpipe.files import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.decide import Container as Wanted
    from agentpipe.processes import Seen

JOURNAL = "place.json"
WITHOUT_DAEMON = ("charliecloud", "apptainer")
# how long a place may take for a look inside (s), and how much it may say (bytes); the status that stands for more
ANSWER_S = 60.0
ANSWER_MOST = 32 << 20
NO_ANSWER = 124


class Place:
    """The host, or any place that an operator's prefix enters; kinds that know more of theirs override this."""

    isolated = False  # whether our environment stays outside
    goes = False  # whether it goes with its task: what nobody enters any more once its journal is gone

    def __init__(self, value: Mapping[str, Any], directory: str) -> None:
        self.value = value
        self.directory = directory
        self.prefix: list[str] = list(value.get("prefix") or [])

    def alive(self, record: str) -> bool | None:
        """Whether the script "PID START BOOT" still runs; None when nobody can say at the moment."""
        if not self.prefix:
            return processes.alive(record)
        pid, start, boot = record.split(" ")
        if boot != processes.boot_id():
            return False
        from agentpipe.place import asking
        status = self._asked(asking.ALIVE, pid, start)[0]
        return None if status == NO_ANSWER else status == 0

    def pid(self, record: str) -> int | None:
        """The living script's pid on this host; None where it cannot be seen from here."""
        if self.prefix or not processes.alive(record):
            return None
        return int(record.split(" ")[0])

    def processes(self) -> list[int]:
        """What runs in the place, as pids of this host; [] where those cannot be seen."""
        return []

    def signal(self, record: str, signum: int) -> int:
        """Signal (0: only count) the script and all below it; how many there were."""
        return self.told(record, signum) or 0

    def told(self, record: str, signum: int) -> int | None:
        """signal() through the prefix; None where nobody answers there."""
        from agentpipe.place import asking
        pid = _session(record)
        last = self._asked(asking.SIGNAL, pid, _name(signum))[1].split()[-1:] if pid else []  # what enters may greet
        return int(last[0]) if last and last[0].isdecimal() and len(last[0]) < 8 else None  # its `sh` may be anybody's

    def family(self, record: str) -> list[Seen] | None:
        """The script and all below it, by the pids of the place; None when nobody can say at the moment."""
        from agentpipe.place import asking
        pid, mark = _session(record), os.urandom(16).hex()
        return asking.listed(self._asked(asking.LIST, pid, mark)[1], mark) if pid else []

    def tell(self, names: Iterable[tuple[int, int]], signum: int) -> None:
        """Signal these of its family, (pid, start) each."""
        from agentpipe.place import asking
        self._asked(asking.TELL, _name(signum), *(f"{pid}:{start}" for pid, start in names))

    def as_ourselves(self) -> list[str]:
        """The prefix by which programs run there as the user that we are here."""
        return self.prefix

    def entered(self, terminal: bool) -> list[str]:
        """The prefix for a command that a person types at, with or without a terminal."""
        return self.prefix

    def variables(self) -> dict[str, str]:
        """What the script finds in its environment there, besides what every script finds."""
        return {}

    def settings(self) -> dict[str, str]:
        """What of clearml.conf is different there, by its keys."""
        return {}

    def open_up(self) -> None:
        """Before the script starts: let whoever it runs as write in the task's directory."""

    def evidence(self, status: int | None) -> tuple[str, str]:
        """("out_of_memory" | "lost" | "", what is known of the end, in words that can follow a failed script's status):
        after the script's end, before remove()."""
        if not self.prefix and status == 137:
            from agentpipe.place import memory
            found = memory.evidence_of_kill(self.directory)
            return ("out_of_memory" if found else ""), found
        return "", ""

    def remove(self) -> str:
        """End all that runs there and remove it; a word about what could not be. Nothing to do for a bare prefix."""
        return ""

    def _asked(self, script: str, *arguments: str) -> tuple[int, str, str]:
        """(status, stdout, stderr) of a script there; NO_ANSWER from a place that hangs (limits count there too), whose
        `sh` talks without end, or where what enters it cannot be started now."""
        from agentpipe import errors, tools
        try:
            status, out, err = tools.answer([*self.prefix, "sh", "-c", script, "sh", *arguments], timeout=ANSWER_S,
                                            most=ANSWER_MOST)
        except (errors.Failure, tools.TooMuch) as error:
            return NO_ANSWER, "", str(error)
        if status is None:
            return NO_ANSWER, "", f"no answer for {ANSWER_S:g} s"
        return status, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def _session(record: str) -> str:
    """The script's pid in its place, which is its session's id; "" for what names none."""
    pid = record.split(" ")[0]
    return pid if pid.isdecimal() and int(pid) > 1 else ""  # session 0 is all that entered the place from outside


def _name(signum: int) -> str:
    """A signal as kill(1) knows it."""
    return signal.Signals(signum).name.removeprefix("SIG") if signum else "0"


def of(manifest: Mapping[str, Any] | None, directory: str) -> Place:
    """The place of a manifest; the host for one without."""
    value = (manifest or {}).get("place") or {}
    if value.get("kind") in WITHOUT_DAEMON:
        from agentpipe.place import unprivileged
        return unprivileged.Unprivileged(value, directory)
    if value.get("kind") not in ("docker", "podman"):
        return Place(value, directory)
    from agentpipe.place import docker
    return docker.Container(value, directory)


def check(line: Mapping[str, Any]) -> None:
    """Failure 65 for a place that nothing enters: its task would run on the host unseen."""
    found = line.get("place") or {}
    if found and found["kind"] != "host" and not found.get("prefix"):
        from agentpipe import errors
        raise errors.Failure(f"place.kind is {found['kind']}, but place.prefix, which enters it, is empty",
                             errors.BAD_DATA, remedy="agent-prepare makes containers; a place of your own has a kind "
                                                     "and a prefix (agent-manifest(5)); kind host has none")


def wanted(job: Job) -> Wanted:
    """Where the task is to run. What an earlier attempt at its set-up has left in its directory to run in is removed:
    who wrote there may have been anybody."""
    from agentpipe.place import decide
    found = decide.decide(job)
    if not job.option("dry_run"):
        leave(job.directory, job.say)
        trees.remove(job.path(paths.BOX))
    return found


def start(job: Job, wanted: Wanted) -> dict[str, Any]:
    """Make that place ready, set-up script included; the value of `place`."""
    if wanted.engine == "host":
        for line in [f"would run on this machine: {wanted.reason}"] if job.option("dry_run") else wanted.notes:
            job.say(line)
        return {"kind": "host", "reason": wanted.reason, "prefix": []}
    if job.option("dry_run"):
        job.say(f"would run in a container of {wanted.image} ({wanted.engine}): {wanted.reason}")
        for line in _told(job, wanted):
            job.say(line)
        return {"kind": wanted.engine, "reason": wanted.reason, "prefix": [], "image": wanted.image}
    if wanted.engine in ("docker", "podman"):
        from agentpipe.place import create
        return create.start(job, wanted)
    from agentpipe.place import unprivileged
    return unprivileged.start(job, wanted)


def _told(job: Job, wanted: Wanted) -> list[str]:
    """What a dry run says of a container: its arguments, without secrets, what is made of them, and its set-up."""
    from agentpipe.place import container_args, setup_script
    given = container_args.arguments(job, wanted)
    if wanted.engine in ("docker", "podman"):
        container_args.api(given)  # what cannot be meant fails here as well
    else:
        from agentpipe.place import args_without_daemon
        args_without_daemon.check_sources(given.options, wanted)
    steps = setup_script.steps(wanted, given.asks_for_packages)
    return [*([f"with {given.shown()}"] if given.options else []), *wanted.notes, *given.notes,
            *([f"set-up: {', '.join(step.words for step in steps)}"] if steps else [])]


def journal(directory: str, value: Mapping[str, Any]) -> None:
    """Write down what is about to be made, so that whoever comes after us finds it."""
    import json
    publish(os.path.join(directory, JOURNAL), json.dumps(value).encode() + b"\n")


def journalled(directory: str) -> dict[str, Any] | None:
    """What an attempt has made, or was about to make ({}: nobody can read that); None when there is nothing, or
    nothing any more."""
    try:
        found = untrusted.value(directory, JOURNAL, untrusted.LARGE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def leave(directory: str, say: Callable[[str], object]) -> None:
    """Nothing is to run here any more: remove what this attempt has made, if it has made anything, and what its script
    was told in confidence; `say` gets what could not be removed, on which no task's end depends."""
    word = ""
    try:
        if os.path.lexists(os.path.join(directory, JOURNAL)):
            word = of({"place": journalled(directory)}, directory).remove()
    except Exception as error:
        word = f"what the task was to run in could not be removed: {type(error).__name__}: {error}"
    if word:
        say(word)
    forget(directory)


def forget(directory: str) -> None:
    """The last step of a removal, which may have entered the place once more: what was told there in confidence goes,
    and the journal. PID 1 of a container that nobody could reach ends by this."""
    secrets.forget_script(directory)
    try:
        os.unlink(os.path.join(directory, JOURNAL))
    except FileNotFoundError:
        pass
