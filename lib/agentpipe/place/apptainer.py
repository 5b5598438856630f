"""Apptainer and Singularity: a SIF or sandbox, entered by `apptainer exec`.

As tested with Apptainer 1.4.5, as root and as a plain user; its options are those that 1.1 to 1.4 document
(SingularityCE 3.10 and later has the same).
"""

from __future__ import annotations

import os
import re

from agentpipe import errors, gpus, secrets, tools
from agentpipe.place.args_without_daemon import Asked, say_what_is_left
from agentpipe.place.image_root import prepare, single_user
from agentpipe.place.image_tools import copy_folder, pull, work
from agentpipe.place.images import ARCHIVES, cached, key_of, mark, on_disk
from agentpipe.place.unprivileged import USER_PACKAGES, WRITABLE, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

    Binds = list[tuple[str, str, str]]

PROGRAMS = ("apptainer", "singularity")
OTHERS = True  # of /etc/subuid
INSTALL = "load or install Apptainer (module load apptainer), or agent-prepare --place host"
# options of docker run that `apptainer exec` has under the same name, with the same values; all need a cgroup
LIMITS = ("blkio-weight", "cpu-shares", "cpus", "cpuset-cpus", "cpuset-mems", "memory", "memory-reservation",
          "memory-swap", "pids-limit")
# of what this machine's programs and shells were told; it keeps LD_LIBRARY_PATH and LD_PRELOAD out by itself
LEFT_OUT = tuple(f"--unset={name}" for name in (
    "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "BASH_ENV", "ENV", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP",
    "PYTHONNOUSERSITE"))
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# what Apptainer says where nobody has named one, 1.1 to 1.3 and 1.4; what to do about this, and about another refusal
NO_LIBRARY = re.compile("remote has no library client|no default remote")
ADD_LIBRARY = "that of Sylabs: {0} remote add --no-login SylabsCloud cloud.sycloud.io && {0} remote use SylabsCloud, " \
              "as the user of the agent; or give another address of the image (docker://NAME)"
LIBRARY = {errors.NO_PERMISSION: "{0} remote login, as the user of the agent; or correct the image's name",
           errors.UNAVAILABLE: "check the network and the library of `{0} remote list`, then run the task again"}
# those that take all values in one
JOINED = {"cap-add": "--add-caps", "cap-drop": "--drop-caps", "dns": "--dns"}


def image(job: Job, name: str, program: str, binds: Binds, writable: bool) -> Image:
    """The image on this disk: a .sif or a sandbox folder as it is, else pulled once; a bare name means docker://NAME.

    `writable`: its set-up changes it; of a plain user a copy in the task's directory, of root an overlay there.
    """
    if name.startswith(("/", "~", "./")) or name.endswith(".sif"):
        path = on_disk(name, "name a .sif, a sandbox, or an image of a registry (docker://NAME)")
        if path.endswith(ARCHIVES) and os.path.isfile(path):
            raise errors.Failure(f"{name} is an archive, which Apptainer does not enter", errors.BAD_DATA,
                                 remedy="unpack what `docker export` wrote into a folder, and name that; what "
                                        f"`docker save` wrote is docker-archive://{path}")
        found = Image(path, mark(path))
    else:
        address = name if "://" in name else f"docker://{name}"
        key = key_of(address) + ".sif"

        def make(fresh: str) -> None:
            job.say(f"pulling {address} (once)")
            _pull(job, program, fresh, address)
        found = Image(cached(job, "apptainer", key, make), key)
    if not writable:
        return found
    if os.getuid() == 0:
        os.makedirs(job.path(WRITABLE), exist_ok=True)
        return found
    # an overlay that a plain user mounts renames no folders, which dpkg wants
    job.say("copying the image: its set-up changes it")
    own = job.path(WRITABLE)
    if os.path.isdir(found.path):
        copy_folder(job, found.path, own)
    else:
        work(job, [program, "--quiet", "build", "--sandbox", own, found.path], name)
    prepare(own, [(source, _inside(target), options) for source, target, options in binds])
    single_user(own)
    return Image(own, found.key)


def words(program: str, job: Job, image: Image, asked: Asked, writable: bool, as_root: bool) -> list[str]:
    """The command line of `apptainer exec`; variables stand in a file."""
    # the home of this machine stays outside: its ~/.local would be imported; and what we were started in, which may be
    # that home: of / nothing is mounted (runtime/engine/apptainer, addCwdMount; --no-mount cwd is not known everywhere)
    # --no-eval: else $ and ` in the values of a task would be run by a shell
    found = ["env", *LEFT_OUT, f"PYTHONUSERBASE={job.path(USER_PACKAGES)}",
             "sh", "-c", 'cd / && PATH=$0 exec "$@"', tools.search_path(), program,
             "exec", "--no-home", "--no-eval", "--env-file", _one(job.path(secrets.PLACE))]
    if not writable:
        found.append("--writable-tmpfs")
    else:
        found += ["--writable"] if image.path == job.path(WRITABLE) else ["--overlay", _one(job.path(WRITABLE))]
    if as_root and os.getuid() != 0:  # root is root there
        found.append("--fakeroot")
    for source, target, options in asked.binds:
        found += _bind(source, _inside(target), options == "ro")
    gpus = _gpus(asked)
    if gpus:
        found.append(gpus)
    for option in asked.other:
        if option.name in LIMITS:
            found += [f"--{option.name}", option.value]
        elif option.name == "hostname":
            found += ["--hostname", option.value, "--uts"]
    for name, theirs in JOINED.items():
        values = [option.value for option in asked.other if option.name == name]
        if values:
            found += [theirs, ",".join(values)]
    return [*found, image.path]


def say(job: Job, asked: Asked) -> None:
    """What the arguments say that has no meaning here."""
    known = (*LIMITS, *JOINED, "hostname", "init", "workdir")
    say_what_is_left(job, [option for option in asked.other if option.name not in known], "apptainer")
    if asked.user:
        job.say("apptainer: --user has no effect, tasks run as the user of this agent")


def _pull(job: Job, program: str, fresh: str, address: str) -> None:
    """Pull it. A library is no registry of Docker's: which one is meant each machine says itself, or none."""
    scheme, _, name = address.partition("://")
    try:
        pull(job, [program, "pull", "--force", fresh, address], name,
             f"{program} registry login --username USER docker://")
    except errors.Failure as failure:
        if scheme == "library" and NO_LIBRARY.search(failure.evidence):
            raise errors.OfMachine(f"image {address}: {program} knows no library on this machine",
                                   evidence=failure.evidence, remedy=ADD_LIBRARY.format(program)) from None
        if scheme == "library" and failure.evidence and failure.exit in LIBRARY:
            failure.remedy = LIBRARY[failure.exit].format(program)
        raise


def line(name: str, value: str) -> str:
    """A variable in its --env-file, which is read as a shell would."""
    import shlex
    return f"{name}={shlex.quote(value)}\n" if NAME.fullmatch(name) else ""


def _one(path: str) -> str:
    """A path for an option that takes several, as CSV."""
    return '"' + path.replace('"', '""') + '"' if re.search(r'[,"]', path) else path


def _bind(source: str, target: str, read_only: bool) -> list[str]:
    """--bind takes several mounts with commas between them: what has one, or a colon, is told by --mount, as CSV."""
    if not re.search(r'[,:"\n\\]', source + target):
        return ["--bind", f"{source}:{target}" + (":ro" if read_only else "")]
    fields = [f"{key}={path}".replace('"', '""') for key, path in (("source", source), ("destination", target))]
    return ["--mount", "type=bind," + ",".join(f'"{each}"' for each in fields) + (",ro" if read_only else "")]


def _inside(target: str) -> str:
    """Where a mount is to be: what is meant for root's home is for that of this user, who cannot enter it there."""
    return os.path.expanduser("~") + target[5:] if os.getuid() != 0 and target.startswith("/root/") else target


def _gpus(asked: Asked) -> str:
    """--nv or --rocm where there are such devices, and they are not hidden."""
    from agentpipe.place import gear
    if gpus.visible(os.environ) == []:
        return ""
    if gear.is_amd():
        return "--rocm"
    return "--nv" if asked.gpus or os.path.exists("/dev/nvidia0") or os.path.exists("/proc/driver/nvidia") else ""
