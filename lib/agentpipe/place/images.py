"""Images on this disk, for places without a daemon: made once, and removed when nobody asks for them any more."""

from __future__ import annotations

import os
import time

from agentpipe import errors, paths, place, trees
from agentpipe.settings import config
from agentpipe.settings.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job


ASKED = ".asked"  # beside an image, touched when a task asks for it: its lock's own time changes with each look
NEW = ".new"  # behind the name of one that is being made, or removed
ONCE = "once-"  # begins the key of an image that was pulled for one task: no other will ask for it
ONCE_DAYS = 1 / 24
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")
BYTE_CODE = "__pycache__"  # which Python writes when somebody only looks
NO_PART = (BYTE_CODE, "dev", "proc", "run", "sys", "tmp")  # of an image: what a running system has there


def cached(job: Job, name: str, key: str, make: Any, source: str = "") -> str:
    """A path in the cache of images, made by make(path) when it is missing, by one process at a time.

    `source`: the path of what it is made from; former states of that are removed as those of one task are.
    """
    import filelock
    folder = paths.cache("images", name)
    path = os.path.join(folder, key)
    os.makedirs(folder, 0o700, exist_ok=True)
    lock = filelock.FileLock(path + ".lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        job.say("another task makes the same image: waiting for it")
        lock.acquire()
    try:
        _stamp(path, source)
        if os.path.lexists(path):
            return path
        fresh = path + NEW
        trees.discard(fresh)
        try:
            make(fresh)
            os.rename(fresh, path)
            _stamp(path, source)  # it may have taken longer than an image is kept
        except BaseException:  # on a full disk it would keep that full
            trees.discard(fresh)
            raise
    finally:
        lock.release()
    _sweep(folder, key, source)
    return path


def _stamp(path: str, source: str) -> None:
    """A task asks for that image now, which is made from `source`."""
    with open(path + ASKED, "wb") as file:
        file.write(os.fsencode(source))
    os.utime(path + ASKED)


def _made_from(stamp: str) -> str:
    try:
        with open(stamp, "rb") as file:
            return os.fsdecode(file.read())
    except OSError:  # removed meanwhile
        return ""


def _sweep(folder: str, newest: str = "", source: str = "") -> None:
    """Remove the images that nobody has asked for since AGENT_KEEP_DAYS (for an hour: those of one task, and what was
    made from `source` before the `newest`), and that no task's place names."""
    import filelock

    from agentpipe.claim import retention
    kept = config.variable("AGENT_KEEP_DAYS", retention.KEEP_DAYS)
    home = paths.state("tasks")
    used = {str((place.journalled(entry.path) or {}).get("image_id")) for entry in os.scandir(home)} \
        if os.path.isdir(home) else set()
    for name in os.listdir(folder):
        key = name.removesuffix(ASKED)
        if key == name or key in used:
            continue
        former = source and key != newest and _made_from(os.path.join(folder, name)) == source
        days = ONCE_DAYS if former or key.startswith(ONCE) else kept
        if days <= 0 or not _is_old(os.path.join(folder, name), days):
            continue
        image = os.path.join(folder, key)
        try:
            with filelock.FileLock(image + ".lock", timeout=0, fallback_to_soft=False):
                if not _is_old(image + ASKED, days):
                    continue  # somebody has asked for it meanwhile
                _remove(image)
                os.unlink(image + ASKED)  # its lock stays: another process may wait for that very file
        except filelock.Timeout:
            continue  # it is being made, or removed


def _remove(image: str) -> None:
    """Remove an image, under its lock: whoever is killed at it leaves no half of one that looks whole."""
    trees.discard(image + NEW)  # of a process that was killed while it made it
    try:
        os.rename(image, image + NEW)
    except FileNotFoundError:
        pass
    trees.discard(image + NEW)


def _is_old(stamp: str, days: float) -> bool:
    try:
        return time.time() - os.stat(stamp).st_mtime >= days * 86400
    except FileNotFoundError:
        return False


def on_disk(name: str, remedy: str) -> str:
    """The absolute path of an image that is named by one; Failure 66 where there is none, 77 where we may not look,
    65 for what can be none: a pipe would be waited for, and of a folder that holds our cache there is no end."""
    import stat
    path = os.path.abspath(os.path.expanduser(name))
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        raise errors.Failure(f"image {name} is closed to {paths.owner()}: {error.strerror}", errors.NO_PERMISSION,
                             remedy="have its owner open it, and the folders above it") from None
    except OSError:
        raise errors.Failure(f"there is no image {name}", errors.NOT_FOUND, remedy=remedy) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise errors.Failure(f"{name} is no image: it is neither a file nor a folder", errors.BAD_DATA, remedy=remedy)
    real, cache = os.path.realpath(path), os.path.realpath(paths.cache("images"))
    if os.path.commonpath([real, cache]) == real:
        raise errors.Failure(f"{name} is no image: the images of this agent are kept in it", errors.BAD_DATA,
                             remedy=remedy)
    return path


def mark(path: str) -> str:
    """What changes when the file or folder of an image does, however deep in it."""
    import hashlib
    found = os.stat(path)
    if not os.path.isdir(path):
        return digest(os.path.realpath(path), str(found.st_mtime_ns), str(found.st_size))
    digested = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape"))
    folders = [path]
    while folders:
        folder = folders.pop()
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in (NO_PART if folder == path else (BYTE_CODE,)):
                    folders.append(entry.path)
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError:  # it goes at this very moment
                continue
            digested.update(f"{entry.path}\n{seen.st_mtime_ns} {seen.st_size}\n".encode("utf-8", "surrogateescape"))
    return digested.hexdigest()[:24]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:  # closed to us, as a root's home in an image of root's
        return []


def digest(*parts: str) -> str:
    """A short name for these."""
    import hashlib
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def key_of(address: str) -> str:
    """The key of an image of a registry; a new one each time where images are to be pulled each time."""
    if pulled_anew():
        return ONCE + digest(address, str(time.time_ns()))
    return digest(address)


def pulled_anew() -> bool:
    """Whether each task is to have its image pulled; without a network the one that is here has to do."""
    return config.flag("agent.docker_force_pull") and not offline()
