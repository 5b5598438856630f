"""Places without a daemon: Charliecloud and Apptainer, which a plain user runs where Docker is not allowed (HPC).

Every command enters such a place anew: a root filesystem of its own, the processes and the network of this machine.
So the script is an ordinary process here, and is watched, signalled and taken over as on the host. What differs between
the two is in charliecloud.py and apptainer.py, each with the same names:

    PROGRAMS   what must be installed, the first that is there is used
    OTHERS     whether a plain user may act as other users there
    image      make the image ready on this disk; its Image
    words      the command line up to the command itself
    say        tell the task what of its arguments has no meaning there
    line       a variable as its file of variables has it; "" for one that it cannot say
"""

from __future__ import annotations

import os
import time

from agentpipe import errors, paths, place, processes, secrets, tools, trees
from agentpipe.claim import attempt, claims
from agentpipe.crash import crash_point
from agentpipe.files import publish
from agentpipe.place import (
    apart,
    args_without_daemon,
    certificates,
    container_args,
    decide,
    gear,
    image_tools,
    setup_script,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.args_without_daemon import Asked
    from agentpipe.place.decide import Container as Wanted
    from agentpipe.processes import Seen

WRITABLE = "root"  # in the task's directory: where a place is changed by its set-up
USER_PACKAGES = "user-packages"  # there too: what `pip install --user` of its set-up installs, in place of ~/.local
CERTIFICATES = (*certificates.VARIABLES, "PIP_CERT", "GIT_SSL_CAINFO")


class Image:
    """An image on this disk: `path`, and `key`, which changes with its contents (environments are made for it)."""

    def __init__(self, path: str, key: str) -> None:
        self.path, self.key = path, key


class Unprivileged(place.Place):
    """A place whose processes are this machine's."""

    goes = True

    def alive(self, record: str) -> bool | None:
        return processes.alive(record)

    def pid(self, record: str) -> int | None:
        return int(record.split(" ")[0]) if processes.alive(record) else None

    def signal(self, record: str, signum: int) -> int:
        """The script, all below it, and what carries its task's mark; not the shim, nor who reads the script's last
        words for it."""
        return sum(processes.tell(each.name, signum) for each in self.family(record))

    def family(self, record: str) -> list[Seen]:
        """Those."""
        script = self.pid(record)
        shims = processes.holding_open(os.path.join(paths.box(self.directory), attempt.locked_by_shim(self.directory)))
        found = [script, *processes.descendants(script)] if script else []
        found += processes.having(f"AGENT_TASK_DIR={self.directory}".encode())
        there = [processes.seen(pid) for pid in dict.fromkeys(found) if pid not in shims and pid != os.getpid()]
        return [each for each in there if each and (each.name[0] == script or each.parent not in shims)]

    def tell(self, names: Iterable[tuple[int, int]], signum: int) -> None:
        for name in names:
            processes.tell(name, signum)

    def processes(self) -> list[int]:
        """The script and all below it."""
        script = self.pid(attempt.pid_record(self.directory) or "")
        return [script, *processes.descendants(script)] if script else []

    def settings(self) -> dict[str, str]:
        return {"sdk.storage.cache.default_base_dir": gear.folder_inside("sdk")}

    def evidence(self, status: int | None) -> tuple[str, str]:
        if status != 137:
            return "", ""
        from agentpipe.place import memory
        found = memory.evidence_of_kill(self.directory)
        return ("out_of_memory" if found else ""), found

    def remove(self) -> str:
        """What the set-up has changed goes with the task, and the folder in the image that its own was mounted on."""
        if self.value.get("root"):
            try:
                os.rmdir(self.value["root"] + self.directory)
            except OSError:
                pass
        folder = os.path.join(self.directory, WRITABLE)
        if os.path.lexists(folder):
            self._own_again(folder)
            trees.discard(folder)
        return f"{folder} could not be removed" if os.path.lexists(folder) else ""

    def _own_again(self, folder: str) -> None:
        """What its set-up has given to other users there (as whom a plain user may act) becomes ours."""
        import contextlib
        import subprocess
        # where there are no others all is ours already; and there the folder, seen from inside, holds all mounts, whose
        # files would lose their groups
        if os.getuid() != 0 and self.value.get("as_root") and _engine(self.value["kind"]).OTHERS:
            # what cannot be had (its program is gone, or hangs) must not keep us
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                subprocess.run([*self.value["as_root"], "chown", "-Rh", "0:0", folder], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=place.ANSWER_S)


def sweep(job: Job) -> None:
    """Remove what an earlier life of ours has kept: its attempt is over, and nobody holds it."""
    home = paths.state("tasks")
    for name in os.listdir(home) if os.path.isdir(home) else []:
        try:
            _sweep(os.path.join(home, name), job)
        except (errors.Failure, OSError):  # no attempt's, or its task's own doing: no other's set-up fails for that
            continue


def _sweep(directory: str, job: Job) -> None:
    value = place.journalled(directory)
    if not value or value.get("kind") not in place.WITHOUT_DAEMON or not attempt.is_over(directory):
        return
    lock = claims.lock(directory, 0)
    if lock is not None:
        try:
            place.leave(directory, job.say)
        finally:
            os.close(lock)


def start(job: Job, wanted: Wanted) -> dict[str, Any]:
    """The task's place, its image ready and its set-up done; the value of `place`."""
    began = time.monotonic()
    sweep(job)
    engine = _engine(wanted.engine)
    program = _program(engine)
    given = container_args.arguments(job, wanted)
    args_without_daemon.check_sources(given.options, wanted)
    asked = args_without_daemon.translated(given.options, given.notes)
    for note in wanted.notes + given.notes:
        job.say(note)
    steps = setup_script.steps(wanted, given.asks_for_packages)
    decides = _decides(asked)
    _add_ours(asked, job, wanted, given)
    place.journal(job.directory, {"kind": wanted.engine, "prefix": [], "reason": wanted.reason})
    crash_point("place:journalled")
    with decide.blamed(wanted):
        image = engine.image(job, wanted.image, program, asked.binds, bool(steps))
    crash_point("place:created")
    write_environment(job, asked, engine)
    prefix = _entered(job, wanted, engine, program, image, asked, bool(steps))
    value = {"kind": wanted.engine, "reason": wanted.reason, "prefix": prefix, "image": wanted.image,
             "image_id": image.key, "root": image.path, "decides": decides,
             "arguments": given.shown(), "seconds": round(time.monotonic() - began, 3)}
    job.say(f"{wanted.engine}: {wanted.image} is ready in {value['seconds']:.2f} s ({wanted.reason})")
    pinned = (job.manifest.get("pins") or {}).get("image")
    if pinned and pinned != image.key:
        job.say(f"the image may not be that of the receipt, which pins {pinned}: what {wanted.image} is here is "
                f"{image.key}")
    if steps:
        root = engine.words(program, job, image, asked, True, True)
        place.journal(job.directory, {**value, "as_root": root})
        value["setup"] = setup_script.run(job, wanted, prefix, root, given.asks_for_packages)
    else:
        place.journal(job.directory, value)
    decide.write_back(job, wanted)
    return value


def _engine(kind: str) -> ModuleType:
    from importlib import import_module
    return import_module(f"agentpipe.place.{kind}")


def _program(engine: ModuleType) -> str:
    import shutil
    for name in engine.PROGRAMS:
        found = shutil.which(name)
        if found:
            return found
    raise errors.OfMachine(f"{' or '.join(engine.PROGRAMS)} is not installed here", remedy=engine.INSTALL)


def _add_ours(asked: Asked, job: Job, wanted: Wanted, given: container_args.Args) -> None:
    """Mounts of the task's directory and the caches at their own paths, the peer's variables and shared caches."""
    from agentpipe.settings import indexes
    body: dict[str, Any] = {"Env": [], "HostConfig": {"Binds": [f"{source}:{target}" for source, target, _ in
                                                               asked.binds]}}
    before = len(body["HostConfig"]["Binds"])
    gear.variables(body, job, wanted)
    gear.caches(body, wanted, given)
    gear.ssh(body, job, wanted)
    for line in body["Env"]:
        name, _, value = line.partition("=")
        asked.env.setdefault(name, value)
    for bind in body["HostConfig"]["Binds"][before:]:
        source, target, *rest = bind.split(":")
        asked.binds.append((source, target, rest[0] if rest else ""))
    for folder in (apart.cache(), paths.cache(apart.LENT), indexes.download_cache()):
        os.makedirs(folder, 0o700, exist_ok=True)
        asked.binds.append((folder, folder, ""))
    asked.binds.append((job.directory, job.directory, ""))
    # our environment gets in, so what it names must be there: certificates at their own paths
    named = [os.environ.get(name, "") for name in CERTIFICATES]
    for path in dict.fromkeys((tools.uv(), *indexes.local(), *filter(os.path.isfile, named))):
        if not any(target == path for _, target, _ in asked.binds):
            asked.binds.append((path, path, "ro"))


def _decides(asked: Asked) -> str:
    """What the arguments change of the image, as deciding.of() names it."""
    from agentpipe.place import deciding
    parts = [":".join(bind) for bind in asked.binds] + ([f"user {asked.user}"] if asked.user else [])
    return deciding.short([*parts, *deciding.variables(f"{name}={value}" for name, value in asked.env.items())])


def write_environment(job: Job, asked: Asked, engine: ModuleType) -> None:
    """The variables of the arguments, in a file (0600): values may be secret, and command lines are seen by all."""
    lines = []
    for name, value in asked.env.items():
        lines.append(engine.line(name, value))
        if not lines[-1]:
            job.say(f"--env {name!r} cannot be passed on here: its name is none of a shell's, or it has several lines")
    publish(job.path(secrets.PLACE), "".join(lines).encode("utf-8", "surrogateescape"))


def _entered(job: Job, wanted: Wanted, engine: ModuleType, program: str, image: Image, asked: Asked,
             writable: bool) -> list[str]:
    """The prefix, tried; without the limits that need a cgroup where this machine gives a plain user none."""
    engine.say(job, asked)
    prefix: list[str] = engine.words(program, job, image, asked, writable, False)
    try:
        _check(job, prefix, wanted)
        return prefix
    except errors.Failure as failure:
        limits = [option.name for option in asked.other if option.name in getattr(engine, "LIMITS", ())]
        if not limits or "cgroup" not in (failure.evidence or ""):
            raise
        said = tools.last_line(failure.evidence or "")
    job.say(f"{wanted.engine} cannot limit a task on this machine, left out: "
            + ", ".join(f"--{name}" for name in dict.fromkeys(limits)) + f" ({said})")
    asked.other = [option for option in asked.other if option.name not in limits]
    prefix = engine.words(program, job, image, asked, writable, False)
    _check(job, prefix, wanted)
    return prefix


def _check(job: Job, prefix: list[str], wanted: Wanted) -> None:
    """The place can be entered, and has a shell."""
    try:
        job.run([*prefix, "sh", "-c", "exit 0"], timeout=600)
    except tools.ToolFailed as failed:
        said = f"image {wanted.image} cannot be entered by {wanted.engine}: {failed.reason}"
        raise image_tools.refused(said, failed.output, "mend what it says; the image needs a shell") from None
