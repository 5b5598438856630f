"""A task's own environment: a few links, copied scripts and a .pth over a shared base, made in milliseconds.

What the task installs, upgrades or removes while it runs happens here and is gone with it: the base stays behind
in sys.path, so what is here hides what is there.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors, trees, untrusted
from agentpipe.place import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.environment.python_env import Base
    from agentpipe.job import Job

# an environment with more data files than this gets its top folders as links: copies of the tree would cost too much
MANY = 2000
ENVIRONMENT_VARIABLE = "AGENT_LINE_BUFFERED"

# Each line of a .pth that begins with `import` is executed by site before the script starts. The first ones put the
# base behind the overlay and obey its .pth files. The last makes stdout line-buffered when agent-run asks for it:
# AGENT_LINE_BUFFERED is 1, or DEVICE:INODE of the only file that is meant (so a pipe to another program stays fast);
# Python 3.6 has no `reconfigure` and gets another stdout.
BEHIND = "import site; site.addsitedir({site})\n"
PTH = """import os, sys; w = os.environ.get("{variable}"); s = w and sys.stdout and os.fstat(1); s and w in ("1", "%d:%d" % (s.st_dev, s.st_ino)) and (sys.stdout.reconfigure(line_buffering=True) if hasattr(sys.stdout, "reconfigure") else setattr(sys, "stdout", open(1, "w", 1, sys.stdout.encoding, sys.stdout.errors, closefd=False)))
"""  # noqa: E501


def create(job: Job, base: Base) -> str:
    """Make the task's overlay over this base and give its directory; one that was there is replaced."""
    directory = job.path("env")
    # its container can write there: made where it cannot, then moved
    new = job.path("env.new") if apart.folder(job) else directory
    try:
        trees.remove(new)
        _write(new, base)
        _add_pip(new, base)
        if new != directory:
            trees.fill(new, directory)
    except OSError as error:
        raise errors.Failure(f"cannot write {error.filename or directory}: {error.strerror}", errors.CANNOT_CREATE,
                             remedy=f"make room on the disk of {job.directory}") from None
    return directory


def _add_pip(directory: str, base: Base) -> None:
    if base.get("pip"):
        from agentpipe.environment import installers
        installers.write_pip(directory)


def parts(base: str, site: str, about: str) -> dict[str, Any]:
    """What an overlay takes over from a base, for its record: found once, when the base is built.

    `scripts` are text and copied (they start the Python beside them); `folders` are made; `links` are what links into
    the base: binaries, and data files of packages (share, etc, include, lib). The N-th of them is made once, in the
    folder `about` as `links/N`, and overlays hard-link that: a third of the time of a symbolic link, and no inode for
    each task.
    """
    scripts: list[str] = []
    links: list[str] = []
    for name in sorted(os.listdir(os.path.join(base, "bin"))):
        path = os.path.join(base, "bin", name)
        if name.startswith("python") and os.path.islink(path):
            continue
        (scripts if _is_script(base, name) else links).append(f"bin/{name}")
    folders, files = _data(base, site)
    if len(files) > MANY:
        folders, files = [], sorted({path.split("/")[0] for path in files} - {"lib"})
    links += files
    os.mkdir(os.path.join(about, "links"))
    for number, path in enumerate(links):
        os.symlink(os.path.join(base, path), os.path.join(about, "links", str(number)))
    return {"scripts": scripts, "folders": folders, "links": links}


def _is_script(base: str, name: str) -> bool:
    """Whether it is a script of the base itself: what a container puts there as a link is not ours to look into."""
    try:
        with os.fdopen(untrusted.opened(base, f"bin/{name}"), "rb") as file:
            return file.read(2) == b"#!"
    except untrusted.NotRegular:
        return False


def _data(base: str, site: str) -> tuple[list[str], list[str]]:
    """(folders, files) of a base besides its scripts, modules and records, relative to it; no empty folders."""
    files: list[str] = []
    for here, names, leaves in trees.walk(base):
        if here == base:
            names[:] = [name for name in names if name not in ("bin", "lib64")]
            leaves = []
        elif here == os.path.dirname(site):
            names[:] = [name for name in names if name != os.path.basename(site)]
        links = [name for name in names if os.path.islink(os.path.join(here, name))]
        files += [os.path.relpath(os.path.join(here, name), base) for name in leaves + links]
    return sorted({os.path.dirname(path) for path in files}), files


def _write(directory: str, base: Base) -> None:
    """All of it: about 20 system calls, and one or two more for each script and data file."""
    behind, site = base["directory"], base["site"]
    interpreter = base["interpreter"]
    os.makedirs(os.path.join(directory, "bin"))
    os.makedirs(os.path.join(directory, site))
    os.symlink("lib", os.path.join(directory, "lib64"))
    _file(directory, "pyvenv.cfg", f"home = {os.path.dirname(interpreter['executable'])}\n"
                                   f"include-system-site-packages = {'true' if base.get('system') else 'false'}\n"
                                   f"version = {interpreter['version']}\n")
    os.symlink(interpreter["executable"], os.path.join(directory, "bin", "python"))
    major, minor = interpreter["version"].split(".")[:2]
    for name in ("python3", f"python{major}.{minor}"):
        os.symlink("python", os.path.join(directory, "bin", name))
    behinds = [os.path.join(behind, site), *base.get("behind", ())] if behind else base["behind"]
    pth = "".join(BEHIND.format(site=ascii(folder)) for folder in behinds)
    _file(directory, os.path.join(site, "_agentpipe.pth"), pth + PTH.format(variable=ENVIRONMENT_VARIABLE))
    for folder in base["folders"]:
        os.makedirs(os.path.join(directory, folder), exist_ok=True)
    for number, link in enumerate(base["links"]):
        _link(os.path.join(base["about"], "links", str(number)), os.path.join(directory, link))
    for script in base["scripts"]:
        _new(os.path.join(directory, script), untrusted.read(behind, script, untrusted.LARGE))
    if "variables" in base:
        _take_scripts(behind, directory)


def _file(directory: str, name: str, text: str) -> None:
    with open(os.path.join(directory, name), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # another file system, another owner, or its 65 000th task
        os.symlink(os.readlink(source), target)


def _take_scripts(base: str, directory: str) -> None:
    """Scripts of a conda environment, `pip` among them, so that they start the task's Python and not their own, which
    would install into the environment itself. One that is none, or is told more than its Python, stays there alone."""
    from agentpipe.environment import installers
    own = re.escape(os.path.join(base, "bin", "python").encode("utf-8", "surrogateescape")) + rb"[\d.]*"
    start = re.compile(rb"#!" + own + rb"\n|#!/bin/sh\n'''exec' [\"']?" + own + rb"[\"']? \"\$0\" \"\$@\"\n' '''\n")
    for name in os.listdir(os.path.join(base, "bin")):
        try:
            if name.startswith("python") or not _is_script(base, name):
                continue
            data = untrusted.read(base, f"bin/{name}")
        except OSError:  # a link to what is not there, or a program that only begins as a script
            continue
        found = start.match(data)
        if found:
            _new(os.path.join(directory, "bin", name), installers.HEADER.encode() + data[found.end():])


def _new(target: str, data: bytes) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    try:
        while data:  # a disk that is nearly full takes a part
            data = data[os.write(descriptor, data):]
    finally:
        os.close(descriptor)
