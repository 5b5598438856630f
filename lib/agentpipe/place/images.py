"""Images on this disk, for places without a daemon: made once, and removed when nobody asks for them any more."""

from __future__ import annotations

import os
import time

from agentpipe import config, paths, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job


ASKED = ".asked"  # beside an image, touched when a task asks for it: its lock's own time changes with each look


def cached(job: Job, name: str, key: str, make: Any) -> str:
    """A path in the cache of images, made by make(path) when it is missing, by one process at a time."""
    import shutil

    import filelock
    folder = paths.cache("images", name)
    path = os.path.join(folder, key)
    os.makedirs(folder, 0o700, exist_ok=True)
    with filelock.FileLock(path + ".lock", fallback_to_soft=False):
        with open(path + ASKED, "ab"):
            os.utime(path + ASKED)
        if os.path.lexists(path):
            return path
        fresh = path + ".new"
        if os.path.isdir(fresh):
            shutil.rmtree(fresh, onerror=make_writable)
        elif os.path.lexists(fresh):
            os.unlink(fresh)
        make(fresh)
        os.rename(fresh, path)
    _sweep(folder)
    return path


def _sweep(folder: str) -> None:
    """Remove the images that nobody has asked for since AGENT_KEEP_DAYS, and that no task's place names."""
    import shutil

    import filelock

    from agentpipe import retention
    days = config.variable("AGENT_KEEP_DAYS", retention.KEEP_DAYS)
    if days <= 0:
        return
    home = paths.state("tasks")
    used = {(place.journalled(entry.path) or {}).get("image_id") for entry in os.scandir(home)} \
        if os.path.isdir(home) else set()
    for name in os.listdir(folder):
        key = name.removesuffix(ASKED)
        if key == name or key in used or not _is_old(os.path.join(folder, name), days):
            continue
        image = os.path.join(folder, key)
        try:
            with filelock.FileLock(image + ".lock", timeout=0, fallback_to_soft=False):
                if not _is_old(image + ASKED, days):
                    continue  # somebody has asked for it meanwhile
                if os.path.isdir(image):
                    shutil.rmtree(image, onerror=make_writable)
                elif os.path.lexists(image):
                    os.unlink(image)
                os.unlink(image + ASKED)  # its lock stays: another process may wait for that very file
        except filelock.Timeout:
            continue  # it is being made, or removed


def _is_old(stamp: str, days: float) -> bool:
    try:
        return time.time() - os.stat(stamp).st_mtime >= days * 86400
    except FileNotFoundError:
        return False


def mark(path: str) -> str:
    """What changes when the file or folder of an image does."""
    found = os.stat(path)
    parts = [os.path.realpath(path), str(found.st_mtime_ns)]
    if os.path.isdir(path):
        for name in ("etc", "usr", "opt", "usr/local/bin"):
            below = os.path.join(path, name)
            parts.append(str(os.stat(below).st_mtime_ns) if os.path.exists(below) else "")
    else:
        parts.append(str(found.st_size))
    return digest(*parts)


def digest(*parts: str) -> str:
    """A short name for these."""
    import hashlib
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def make_writable(function: Any, path: str, _: Any) -> None:
    """rmtree's second try: an image's folders may be closed to their own owner."""
    try:
        os.chmod(os.path.dirname(path), 0o700)
        if not os.path.islink(path):
            os.chmod(path, 0o700)
        function(path)
    except OSError:
        pass
