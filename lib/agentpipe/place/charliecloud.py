"""Charliecloud (ch-run): a root filesystem unpacked on this disk, entered in a user namespace.

Images are unpacked once into the cache, with the folders that our mounts need, and run read-only there; a task with a
set-up script gets a copy of its own. As tested with 0.31; see ch-run(1).
"""

from __future__ import annotations

import os
import re

from agentpipe import errors, paths, secrets, tools, untrusted
from agentpipe.place import gear
from agentpipe.place.args_without_daemon import Asked, say_what_is_left
from agentpipe.place.image_root import fitting, open_up, prepare, single_user, within
from agentpipe.place.image_tools import copy_folder, pull, work
from agentpipe.place.images import ARCHIVES, cached, key_of, mark, on_disk, pulled_anew
from agentpipe.place.unprivileged import USER_PACKAGES, WRITABLE, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

    Binds = list[tuple[str, str, str]]

PROGRAMS = ("ch-run",)
OTHERS = False
INSTALL = "install Charliecloud (Debian: charliecloud), or agent-prepare --place host"
FOLDERS = [("", f"/{name}", "") for name in ("dev", "proc", "sys", "tmp", "etc")]  # which ch-run mounts on
ROOTS = ("bin", "etc", "usr")
# of images that name no PATH, as engines have it: that of this machine may lead into a home that is mounted there
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# what this machine's programs and shells were told: of others' files, which change what an image's own do
LEFT_OUT = ("LD_*", "CONDA_*", "VIRTUAL_ENV", "BASH_ENV", "ENV", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP",
            "PYTHONNOUSERSITE")
# 2: all is there but for devices and owners, which a plain user cannot make
UNSQUASH = 'unsquashfs -quiet -no-progress -force -no-xattrs -dest "$1" "$2" || [ $? = 2 ]'
# of tar, beside whose complaints about devices an archive is whole; and how long they may be, so as to be seen all
HARMLESS = re.compile(r"Cannot mknod: Operation not permitted$|^tar: Exiting with failure status due to previous"
                      r" errors$|^tar: Removing leading |^tar: Ignoring unknown extended header keyword|^\s*$")
MOST_SAID = 4000


def image(job: Job, name: str, program: str, binds: Binds, writable: bool) -> Image:
    """The unpacked image: of a folder, an archive (docker export), a SquashFS, or a name that ch-image knows or pulls.

    `writable`: a copy in the task's directory, since its set-up changes it.
    """
    if name.startswith("docker://-"):  # it would be an option of ch-image
        raise errors.Failure(f"{name} is not the name of an image", errors.BAD_DATA, remedy="correct the image's name")
    gear.check_home("=")  # what has one is a variable to --set-env, and no file of them
    path = on_disk(name, "name a folder, an archive of `docker export`, or an image for ch-image pull") \
        if name.startswith(("/", "~", "./")) else ""
    key = mark(path) if path else key_of(name.removeprefix("docker://"))
    if path:
        shared = cached(job, "charliecloud", key, lambda fresh: _unpacked(job, path, fresh),
                        os.path.realpath(path))
    else:
        shared = _pulled(job, name.removeprefix("docker://"), key)
    if not writable:
        prepare(shared, binds)
        return Image(shared, key)
    own = job.path(WRITABLE)
    job.say("copying the image: its set-up changes it")
    work(job, ["cp", "-a", "--reflink=auto", "--", shared, own], name)
    prepare(own, binds)
    single_user(own)
    return Image(own, key)


def words(program: str, job: Job, image: Image, asked: Asked, writable: bool, as_root: bool) -> list[str]:
    """ch-run's command line; variables stand in a file. Failure 65 for a user whom the image does not know."""
    # with TMPDIR ch-run would mount that folder as /tmp, and a task's directory below our /tmp were not there
    found = [*_env("-u", "TMPDIR"), program, "--no-passwd"]
    if writable:
        found.append("--write")
    if as_root:
        found += ["--uid=0", "--gid=0"]
    elif asked.user:
        user, _, group = asked.user.partition(":")
        found.append(f"--uid={_number(image, 'passwd', user)}")
        if group:
            found.append(f"--gid={_number(image, 'group', group)}")
    for source, target, _ in asked.binds:
        if ":" in source + target:  # which cannot be said
            raise errors.Failure(f"ch-run mounts no path with a colon: {source} at {target}", errors.BAD_DATA,
                                 remedy="name a path without one, as of a link to it")
        found.append(f"--bind={source}:{target}")
    found += [f"--unset-env={each}" for each in LEFT_OUT]
    found += [f"--set-env=PATH={PATH}", f"--set-env=PYTHONUSERBASE={job.path(USER_PACKAGES)}"]
    if os.path.isfile(os.path.join(image.path, "ch/environment")):
        found.append(f"--set-env={image.path}/ch/environment")
    found += ["--env-no-expand", f"--set-env={job.path(secrets.PLACE)}"]
    return [*found, image.path, "--"]


def say(job: Job, asked: Asked) -> None:
    """What the arguments say that has no meaning here."""
    for source, target, options in asked.binds:
        if options == "ro" and source != target:
            job.say(f"charliecloud: {target} can be written, it knows no read-only mounts")
    say_what_is_left(job, [option for option in asked.other if option.name not in ("init", "workdir")], "charliecloud")
    if asked.gpus:
        job.say("charliecloud: the devices of GPUs are there; their libraries must be in the image (ch-fromhost)")


def line(name: str, value: str) -> str:
    """A variable in the file of --set-env, which takes lines as they are, but for a pair of quotes around a value."""
    if len(value) > 1 and value[0] == value[-1] == "'":
        value = f"'{value}'"
    return f"{name}={value}\n" if name and "\n" not in name + value else ""


def _env(*options: str) -> list[str]:
    """What its programs want in their environment: cron and systemd set no USER, and ch-image is run by the first
    python3 of PATH, which has to be one with its modules."""
    return ["env", *options, f"USER={paths.owner()}", f"PATH={tools.search_path()}"]


def _number(image: Image, table: str, name: str) -> str:
    """The number of a user or group, which the image's `passwd` or `group` may know by name; else Failure 65."""
    if name.isdecimal():
        return name
    try:
        fd = untrusted.of_task(within(image.path, f"etc/{table}"), os.path.realpath(image.path), untrusted.SMALL)
        with open(fd, encoding="utf-8", errors="replace") as file:
            known = dict(line.split(":")[:3:2] for line in file if line.count(":") >= 2)
    except OSError:
        known = {}
    if name not in known:
        raise errors.Failure(f"--user: the image's /etc/{table} has no {name}", errors.BAD_DATA,
                             remedy="name one that it has, or a number")
    return known[name].strip()


def _unpacked(job: Job, path: str, fresh: str) -> None:
    """A copy of a folder or an archive without devices, which a plain user cannot make."""
    if os.path.isdir(path) and not any(os.path.lexists(os.path.join(path, name)) for name in ROOTS):
        raise errors.Failure(f"{path} is no image: it has none of {', '.join(ROOTS)}", errors.BAD_DATA,
                             remedy="name the folder of one root file system")  # not to copy a home, or all images
    if os.path.isdir(path):
        job.say(f"copying {path} (once)")
        copy_folder(job, path, fresh)
    else:
        job.say(f"unpacking {path} (once)")
        _unpack(job, path, fresh)
    _complete(fresh)


def _unpack(job: Job, path: str, fresh: str) -> None:
    import shutil
    os.makedirs(fresh, 0o755)
    if path.endswith(ARCHIVES):
        _untar(job, path, fresh)
    elif shutil.which("unsquashfs"):
        work(job, ["sh", "-c", UNSQUASH, "sh", fresh, path], path)
    else:
        raise errors.Failure(f"{path} is no archive and no folder", errors.BAD_DATA,
                             remedy="unpack it; a SquashFS needs unsquashfs here (Debian: squashfs-tools)")


def _untar(job: Job, path: str, fresh: str) -> None:
    """All of an archive but for its devices: of those outside of /dev tar complains only when it is at them."""
    try:
        work(job, ["tar", "-C", fresh, "--exclude=./dev/*", "--exclude=dev/*", "--no-same-owner", "-xf", path], path)
    except errors.Failure as failure:
        said = failure.evidence or ""
        if len(said) >= MOST_SAID or "Cannot mknod" not in said or not all(map(HARMLESS.search, said.splitlines())):
            raise
        job.say(f"{path}: its devices outside of /dev are left out, a plain user cannot make them")


def _complete(root: str) -> None:
    """What ch-run mounts its own on; hosts and resolv.conf of this machine, only where the image has files for them: a
    root filesystem that no engine has exported has none, or a link to what runs elsewhere, and so no names."""
    prepare(root, FOLDERS)
    etc = within(root, "etc")
    open_up(etc)
    for name in ("hosts", "resolv.conf"):
        path = os.path.join(etc, name)
        with fitting(f"/etc/{name}"):
            if os.path.islink(path):
                os.unlink(path)
            if not os.path.lexists(path):
                open(path, "xb").close()


def _pulled(job: Job, name: str, key: str) -> str:
    """An image by its name: what ch-image has, or pulls from its registry."""
    import shutil
    builder = shutil.which("ch-image")
    if not builder:
        raise errors.Failure(f"{name} is a name in a registry, and ch-image, which pulls it, is not installed",
                             errors.UNAVAILABLE, remedy="install it (Debian: charliecloud-builders), or name a folder "
                                                        "or an archive of `docker export`")

    def make(fresh: str) -> None:
        known = name in job.run([*_env(), builder, "list"], check=False).split()
        if not known or pulled_anew():
            pull(job, [*_env(), builder, "pull", name], name, f"{builder} pull --auth ")
        work(job, [*_env(), "ch-convert", name, fresh], name, loud=True)
        _complete(fresh)
    return cached(job, "charliecloud", key, make)
