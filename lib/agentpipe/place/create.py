"""One container per task, made through the Docker Engine's API (Podman answers it too).

Nothing of ours gets into the image: PID 1 is a few words of its own shell, and what we need is mounted under the same
absolute path as outside.
"""

from __future__ import annotations

import os
import re
import time

from agentpipe import errors, paths, place, processes, secrets, trees
from agentpipe.crash import crash_point
from agentpipe.place import (
    apart,
    beginning,
    container_args,
    decide,
    deciding,
    devices,
    engine,
    entrypoint,
    gear,
    image_programs,
    image_python,
    leftovers,
    nested,
    owner,
    ports,
    setup_script,
)
from agentpipe.place.docker import LABEL, ROOT, Container
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentpipe.job import Job
    from agentpipe.place.args_body import Create
    from agentpipe.place.container_args import Args
    from agentpipe.place.decide import Container as Wanted

# what is large in a checkout and the mirror's too; their names are safe in any engine's list of mounts
PACK = re.compile(r"/\.git/(?:[\w.-]+/)*objects/pack/pack-[0-9a-f]+\.pack", re.ASCII)
LARGE = 32 << 20  # bytes; what is smaller is copied at once
MOST_PORTS = 50  # that the engine has refused; each costs a container
POWER = "DAC_OVERRIDE"  # by which root goes into folders of others


def start(job: Job, wanted: Wanted) -> dict[str, Any]:
    """The task's container, running and set up; the value of `place`."""
    kind = wanted.engine
    at = engine.url(kind)
    client = engine.client(kind, at)  # before anything is pulled
    with engine.spoken_to(kind, at):
        value, given = _with_free_ports(job, wanted, client)
    where = Container(value, job.directory)
    python = deciding.name(value["image_id"], {"decides": value["decides"]})
    if image_python.wanted_by(job) and image_python.known_to_lack(python) is not False:
        image_python.look(job, wanted, python, where.prefix)
    done = setup_script.run(job, wanted, where.prefix, where.root_prefix, given.asks_for_packages)
    value |= {"setup": done} if done else {}
    if not image_programs.check(job, value):
        with engine.spoken_to(kind, at):
            api = engine.connect(kind, at)
            created = value["container"]
            raise beginning.ended(api, wanted, created, api.inspect_container(created)["State"])
    return value


def _with_free_ports(job: Job, wanted: Wanted, client: list[str]) -> tuple[dict[str, Any], Args]:
    """_running(), again with others where a port has been taken meanwhile, or by what only the engine sees."""
    refused = set[int]()

    def taken(ip: str, port: int) -> bool:
        return port in refused or ports.taken(ip, port)
    while True:
        try:
            return _running(job, wanted, client, taken)
        except ports.Taken as found:
            if found.ports <= refused or len(refused) > MOST_PORTS:
                raise
            refused |= found.ports
            job.say(f"{found.reason}: once more, with another port")
            place.leave(job.directory, job.say)


def _running(job: Job, wanted: Wanted, client: list[str],
             taken: Callable[[str, int], bool]) -> tuple[dict[str, Any], Args]:
    """The container, started; the value of `place`, and its arguments. `taken` as container_args.arguments() wants it.
    """
    began = time.monotonic()
    kind = wanted.engine
    at = engine.url(kind)
    api = engine.connect(kind, at)
    leftovers.sweep(api, job.say)
    given = container_args.arguments(job, wanted, taken)
    for note in wanted.notes + given.notes:
        job.say(note)
    asked = container_args.api(given)
    image = _image(api, job, wanted, asked)
    decides = deciding.of(asked, image)
    wanted.lacks_python = image_python.wanted_by(job) and image_python.known_to_lack(
        deciding.name(image["Id"], {"decides": decides}))
    environments = apart.make()
    place.journal(job.directory, {"kind": kind, "engine": at, "environments": environments})
    crash_point("place:journalled")
    cpu_only = config.flag("agent.cpu_only")
    withheld = devices.withhold(asked.config, os.environ, cpu_only)
    user = asked.config.get("User") or (image.get("Config") or {}).get("User") or ""
    ours = _ours(api)
    stranger = _stranger(user, ours, asked.config["HostConfig"])
    gear.add(asked.config, job, wanted, given, stranger, ours != ROOT)
    nested.beside(asked.config, api)
    for note in filter(None, (withheld, devices.nvidia(asked.config, os.environ, cpu_only),
                              devices.hide(asked.config, os.environ, cpu_only))):
        job.say(note)
    packs = _make_room(job, not stranger)
    _complete(job, asked, wanted, image, environments, packs)
    created = beginning.create(api, asked, wanted, job)
    crash_point("place:created")
    keeper, more = beginning.start(api, created, wanted, beginning.has_entrypoint(image)), list[str]()
    if beginning.has_entrypoint(image):
        created, keeper, more = beginning.through_entrypoint(api, asked, wanted, job, created, keeper)
    beginning.say_unlimited(api, asked, job, created)
    crash_point("place:started")
    value = {"kind": kind, "reason": wanted.reason, "prefix": [*client, "exec", *more, created[:12]],
             "image": wanted.image, "image_id": image["Id"], "digest": engine.digest(image, wanted.image),
             "decides": decides, "entered": _entered(job, more), "environments": environments,
             "container": created, "engine": at, "keeper": keeper, "stranger": stranger,
             "ours": ours, "arguments": given.shown(), "seconds": round(time.monotonic() - began, 3)}
    job.say(f"container {created[:12]} of {wanted.image} started in {value['seconds']:.2f} s"
            + (f": {given.shown()}" if given.options else ""))
    place.journal(job.directory, value)
    _record(job, wanted, given)
    return value, given


def pinned(job: Job) -> str:
    """The very image that a receipt names, by its digest in a registry or its id; ""."""
    found = (job.manifest.get("pins") or {}).get("image")
    return found if isinstance(found, str) else ""


def _image(api: Any, job: Job, wanted: Wanted, asked: Create) -> dict[str, Any]:
    """The image, as the engine describes it: that of the receipt, else what its name means now."""
    exact = pinned(job)
    if exact:
        try:
            return engine.image(api, job, exact, "", not exact.startswith("sha256:"), asked.platform)
        except errors.Failure as failure:
            raise errors.Failure(f"the image of the receipt cannot be had: {failure.reason}", failure.exit,
                                 failure.evidence,
                                 "take `image` out of its `pins` for what the name means now") from None
    force = "--pull=always" if asked.pull == "always" else \
        "agent.docker_force_pull" if config.flag("agent.docker_force_pull") else ""
    with decide.blamed(wanted):
        return engine.image(api, job, wanted.image, force, asked.pull != "never", asked.platform)


def _ours(api: Any) -> str:
    """USER:GROUP inside that is us outside: root, where the engine runs as us (as Docker says it, and as Podman)."""
    if os.getuid() == 0:
        return ROOT
    info = api.info()
    if info.get("Rootless") or "name=rootless" in (info.get("SecurityOptions") or []):
        return ROOT
    return f"{os.getuid()}:{os.getgid()}"


def _stranger(user: str, ours: str, host: dict[str, Any]) -> str:
    """The container's user, by name or number, where our folders are closed to it; "" for us, and for a root whom
    nobody has taken that power."""
    name = user.partition(":")[0] or "root"
    if name == ours.partition(":")[0] or (name == "root" and ours == ROOT):
        return ""
    if name not in ("root", "0"):
        return name
    taken, given = ({each.removeprefix("CAP_") for each in host.get(key) or []} & {"ALL", POWER}
                    for key in ("CapDrop", "CapAdd"))
    return name if taken and not given and not host.get("Privileged") else ""


def _complete(job: Job, asked: Create, wanted: Wanted, image: dict[str, Any], environments: str,
              packs: list[str]) -> None:
    """Add what is ours to what was asked for: the keeper, labels, mounts."""
    worker = (job.manifest.get("pull") or {}).get("worker") or ""
    body = asked.config
    body |= {"Image": image["Id"] if pinned(job) else wanted.image,
             **beginning.first_program(job, beginning.has_entrypoint(image))}
    body["Labels"] |= {**container_args.labels(worker), LABEL + "task": job.task["id"],
                       LABEL + "directory": job.directory, LABEL + "home": paths.state("tasks"),
                       LABEL + "worker": worker, LABEL + "host": os.uname().nodename,
                       LABEL + "boot": processes.boot_id(), owner.LABEL: owner.id()}
    host = body["HostConfig"]
    there = gear.mounted(body)
    ours = [each for each in _mounts(job, environments, packs) if os.path.normpath(each["Target"]) not in there]
    host["Mounts"] = [*(host.get("Mounts") or []), *ours]
    host.pop("AutoRemove", None)  # its end must stay to be read


def _entered(job: Job, passed_on: list[str]) -> str:
    """What the image's entrypoint has changed that counts, as deciding.short() names it."""
    return deciding.short(deciding.variables(entrypoint.kept(job.directory))) if passed_on else ""


def _record(job: Job, wanted: Wanted, given: Args) -> None:
    """Put on the task what it did not name itself: the container, and the ports that were published."""
    decide.write_back(job, wanted)
    if given.runtime and job.tell:
        try:
            job.tell("tasks.edit", {"force": True, "runtime": {**(job.task.get("runtime") or {}), **given.runtime}})
        except (errors.ApiError, errors.Failure) as error:
            job.say(f"the published ports could not be recorded on the task: {error}")


def _make_room(job: Job, for_root: bool) -> list[str]:
    """The folders of the task's directory in which the container may write. All else there is shown to it, and stays
    out of its reach: whoever finds this attempt later believes what stands there.

    What is returned in them is the mirror's too, and must be shown read-only over itself: git's large packs, whose
    copies would take as long as they are large, and which git never writes again. For an image's own user all is
    copied, since the rights of what is in the checkout change.
    """
    if not for_root:
        os.chmod(job.directory, 0o711)  # else its PID 1 could not see the journal; what leads here is ours alone
    for name in (paths.BOX, "env"):  # what an earlier container left is nothing that we go into
        trees.remove(job.path(name))
        os.mkdir(job.path(name), 0o700)
    os.makedirs(job.path("code"), 0o700, exist_ok=True)
    code = job.path("code")
    packs = trees.unlink_shared(code, lambda file, size: for_root and size >= LARGE
                                and bool(PACK.fullmatch(file[len(code):])))
    if not for_root:
        os.chmod(job.path(paths.BOX), 0o777)
    return packs


def _mounts(job: Job, environments: str, packs: list[str]) -> list[dict[str, Any]]:
    """The task's directory and the caches that it needs, at their own paths; never mirrors, store or other tasks.

    It writes in folders of the directory that are its own, in that of the environments which it builds itself, and in a
    cache of downloads from which only containers install. What it cannot write it could still lock: our lock is hidden
    as the passwords are.
    """
    from agentpipe import tools
    from agentpipe.settings import indexes
    written = [*(job.path(name) for name in ("code", "env", paths.BOX)), environments, indexes.container_cache()]
    shown = [job.directory, apart.home(), paths.cache(apart.LENT)]
    for folder in (*written, *shown):
        os.makedirs(folder, 0o700, exist_ok=True)
    found = [*(_bind(folder, read_only=True) for folder in shown), *(_bind(folder) for folder in written),
             *(_bind(pack, read_only=True) for pack in packs)]
    for path in (tools.uv(), *indexes.local()):
        source = nested.lent(os.path.realpath(path))
        if source:
            found.append({"Type": "bind", "Source": source, "Target": path, "ReadOnly": True})
        else:
            job.say(f"{path} cannot be shown to the container: it is not below {nested.host_mount()}")
    for path in (job.path("lock"), job.path(secrets.FILE)):  # passwords of repositories: git runs outside
        if os.path.exists(path):
            found.append({**_bind(path, read_only=True), "Source": os.devnull})
    return found


def _bind(path: str, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": nested.outside(os.path.realpath(path)), "Target": path, "ReadOnly": read_only}


