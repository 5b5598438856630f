"""The cache of environments as a whole: where it is, what stands in it, what may go, what is damaged.

How a single one is built and used is python_env.py's.
"""

from __future__ import annotations

import os
import time

from agentpipe import trees, units
from agentpipe.place import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.job import Job

    Entry = dict[str, Any]

RECORD = "agentpipe.json"  # what stands in an environment
MAX_ENTRIES = 10
FREE_GB = 2.0
MAX_AGE_DAYS = 30.0
# in the name of an environment that is not to be found again: the cache is switched off, or it is a makeshift
PRIVATE = "-only-"
# an unpublished build that was not touched for so long is nobody's any more (s)
LEFT_BEHIND = 3600


class Limits:
    """What is kept: so many environments, so many GB of them, none unused for longer, so many GB of the disk free."""

    def __init__(self, entries: float = MAX_ENTRIES, size_gb: float = 0, age_days: float = MAX_AGE_DAYS,
                 free_gb: float = FREE_GB) -> None:
        self.entries, self.size_gb, self.age_days, self.free_gb = entries, size_gb, age_days, free_gb


def limits() -> Limits:
    """As configured: agent.venvs_cache.{max_entries,free_space_threshold_gb}, AGENT_ENVS_MAX_{GB,DAYS}.

    Failure 78 for what is no number, or below 0 (but for the threshold, where that is none).
    """
    from agentpipe.settings import config
    return Limits(config.number("agent.venvs_cache.max_entries", MAX_ENTRIES),
                  config.variable("AGENT_ENVS_MAX_GB", 0), config.variable("AGENT_ENVS_MAX_DAYS", MAX_AGE_DAYS),
                  config.number("agent.venvs_cache.free_space_threshold_gb", FREE_GB, least=config.NO_LEAST))


def home() -> str:
    """The folder of environments."""
    return apart.cache()


def setting() -> str:
    """What says where that is."""
    from agentpipe.settings import config
    if os.environ.get("CLEARML_AGENT_VENV_CACHE_PATH"):
        return "CLEARML_AGENT_VENV_CACHE_PATH"
    return "agent.venvs_cache.path" if config.get("agent.venvs_cache.path") else "AGENT_HOME"


def is_off() -> bool:
    """Whether the user's file has an empty agent.venvs_cache.path: nothing is kept for the next task."""
    from agentpipe.settings import config
    if os.environ.get("CLEARML_AGENT_VENV_CACHE_PATH") or not config.files():
        return False
    return config.section("agent.venvs_cache", whole=True).get("path") == ""


def private(job: Job) -> str:
    """The end of the key of an environment that is this task's alone."""
    return PRIVATE + os.path.basename(job.directory)


def lock_timeout() -> float:
    """How long a build of another task is waited for (s); -1, as long as it takes, when nobody said otherwise."""
    from agentpipe.settings import config
    return config.number("agent.venvs_cache.lock_timeout", -1, least=config.NO_LEAST)


def entries() -> list[Entry]:
    """The published environments, the one that was used last first."""
    envs, found = home(), {}  # type: ignore[var-annotated]
    try:
        names = sorted(os.listdir(envs))
    except FileNotFoundError:
        return []
    for name in names:
        target = _published(envs, name)
        if target:
            found.setdefault(target, []).append(name)
    each = (_entry(envs, target, keys) for target, keys in found.items())
    return sorted(filter(None, each), key=lambda entry: -entry["used"])


def evict(wanted: Limits, room: bool = False, dry: bool = False) -> list[Entry]:
    """Remove what no limit keeps, longest unused first, and never what a task uses; what was removed.

    With `room` only the limit of free space counts: before a build. With `dry` nothing is removed, but what would be.
    """
    envs, kept, removed, gained = home(), entries(), [], 0
    size = sum(entry["size"] for entry in kept)
    for entry in reversed(kept[:]):
        over = _free(envs) + gained < wanted.free_gb * units.GIB or (not room and (
            len(kept) > wanted.entries or bool(wanted.size_gb and size > wanted.size_gb * units.GIB)
            or time.time() - entry["used"] > wanted.age_days * 86400 or PRIVATE in entry["key"]))
        if over and not entry["tasks"] and (dry or _remove(envs, entry)):
            kept.remove(entry)
            removed.append(entry)
            size -= entry["size"]
            gained += entry["size"] if dry else 0
    return removed


def verify() -> list[tuple[Entry, list[str]]]:
    """Every environment with the files that are not as they were installed, by their hashes.

    A damaged one is taken out of the cache: the next task builds it again. One that a task uses is removed by a sweep.
    """
    from agentpipe.environment import installed
    found = []
    for entry in entries():
        damage = installed.damage(entry["path"]) + ([] if entry["python"] else [RECORD])
        if damage and not os.path.isdir(entry["about"]):
            continue  # evicted meanwhile
        if damage and not _remove(home(), entry):
            _unpublish(home(), entry)
        found.append((entry, damage))
    return found


def sweep(envs: str, left_behind: float) -> int:
    """Remove builds of killed stages: never published, untouched for `left_behind` s, nobody's lock on them."""
    import filelock
    count = 0
    for entry in os.listdir(envs):
        directory = os.path.join(envs, entry)
        name, _, number = entry.rpartition(".")
        if not number.isdigit() or _is_published(envs, entry):
            continue
        try:
            if 0 <= time.time() - os.stat(directory).st_mtime < left_behind or tasks(directory):
                continue
        except FileNotFoundError:  # whoever built it has removed it
            continue
        try:
            with filelock.FileLock(os.path.join(envs, name + ".lock"), timeout=0, fallback_to_soft=False):
                if not _is_published(envs, entry):
                    trees.discard(directory)
                    _forget_lock(envs, name)
                    count += 1
        except (filelock.Timeout, OSError):  # a lock on a full disk cannot be made
            pass
    apart.sweep(envs, left_behind)
    return count


def user(directory: str) -> str:
    """The name of the link in `users/` of the task at `directory`: ID.N and, behind it, in whose folder that is.

    A cache may be shared by machines and containers, where a link leads to nothing, or to another task of that path.
    """
    folder, name = os.path.split(directory)
    return "@".join((name, *_owners(folder)))


def _owners(folder: str) -> list[str]:
    """This folder of tasks, by this host's name and, for containers that share it, by this machine's start."""
    import hashlib

    from agentpipe import processes
    same = f"{folder}\0{os.stat(folder).st_ino}"
    return [hashlib.sha256(f"{host}\0{same}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
            for host in (os.uname().nodename, processes.boot_id())]


def tasks(directory: str) -> list[str]:
    """The tasks (ID.N) that use this build: those whose attempt is not over.

    What cannot be seen from here, a task of another machine, counts until its link says that it has ended, or for
    AGENT_KEEP_DAYS since it came.
    """
    users = os.path.join(directory, "users")
    try:
        names = os.listdir(users)
    except FileNotFoundError:
        return []
    return [name.partition("@")[0] for name in names if _in_use(os.path.join(users, name))]


def _in_use(link: str) -> bool:
    from agentpipe.claim import attempt, retention
    from agentpipe.settings import config
    if link.endswith(attempt.ENDED):
        return False
    try:
        task, since = os.readlink(link), os.lstat(link).st_mtime
    except FileNotFoundError:  # its task is gone, and another process has tidied up
        return False
    if _is_seen(os.path.basename(link), task):
        return os.path.isdir(task) and not attempt.is_over(task)
    days = config.variable("AGENT_KEEP_DAYS", retention.KEEP_DAYS) or retention.KEEP_DAYS
    return time.time() - since < days * 86400


def _is_seen(name: str, task: str) -> bool:
    """Whether what stands at `task` here is what the link of this name was made for."""
    owners = name.split("@")[1:]
    if not owners:  # of an earlier version, which did not say whose it is
        return os.path.isdir(task)
    try:
        return bool(set(owners) & set(_owners(os.path.dirname(task))))
    except OSError:
        return False


def _entry(envs: str, target: str, keys: list[str]) -> Entry | None:
    """What is told of a published build; of one whose record is damaged, and which no task gets, without a version."""
    import json

    from agentpipe.environment import installed
    directory = os.path.join(envs, target)
    try:
        try:
            with open(os.path.join(directory, RECORD), encoding="utf-8") as file:
                base = json.load(file)
            told = {"key": base["key"], "path": base.get("built") or directory,
                    "python": base["interpreter"]["version"], "packages": base["packages"], "size": base["size"],
                    "created": base["created"]}
        except installed.WRONG:
            if not any(_published(envs, name) == target for name in keys):  # removed meanwhile
                return None
            told = {"key": target.rpartition(".")[0], "path": directory, "python": "", "packages": [],
                    "size": installed.size(directory), "created": os.stat(directory).st_mtime}
        return {**told, "keys": keys, "about": directory, "used": _last_used(directory, told["created"]),
                "tasks": tasks(directory)}
    except installed.WRONG:
        return None


def _last_used(directory: str, created: float) -> float:
    """When a task last asked for it; of the links of tasks that are over only the newest stays, to tell that."""
    from agentpipe.claim import attempt
    users = os.path.join(directory, "users")
    found = []
    for name in os.listdir(users):
        path = os.path.join(users, name)
        try:
            found.append((os.lstat(path).st_mtime, path))
        except FileNotFoundError:
            continue
    found.sort()
    for _, path in found[:-1]:
        if (path.endswith(attempt.ENDED) or not os.path.exists(path)) and not _in_use(path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
    return found[-1][0] if found else created


def _remove(envs: str, entry: Entry) -> bool:
    """Take it out of the cache, unless a task came for it meanwhile; whether it is gone."""
    import filelock
    target = os.path.basename(entry["about"])
    try:
        with filelock.FileLock(os.path.join(envs, entry["key"] + ".lock"), timeout=0, fallback_to_soft=False):
            links = _unpublish(envs, entry)
            # whoever uses one writes his link before he looks at KEY again (python_env.use)
            if tasks(entry["about"]):
                for name in links:
                    os.symlink(target, os.path.join(envs, name))
                return False
            for path in {entry["path"], entry["about"]}:
                trees.discard(path)
            _forget_lock(envs, entry["key"])
    except (filelock.Timeout, OSError):
        return False
    return True


def _unpublish(envs: str, entry: Entry) -> list[str]:
    """No task finds it any more; the links that are gone."""
    links = [name for name in entry["keys"] if _published(envs, name) == os.path.basename(entry["about"])]
    for name in links:
        os.unlink(os.path.join(envs, name))
    return links


def _forget_lock(envs: str, name: str) -> None:
    """Remove the file of a lock that we hold, of a key that nothing stands for: whoever waits for it makes another."""
    if not os.path.lexists(os.path.join(envs, name)):
        os.unlink(os.path.join(envs, name + ".lock"))


def _published(envs: str, name: str) -> str:
    try:
        return os.readlink(os.path.join(envs, name))
    except OSError:
        return ""


def _is_published(envs: str, target: str) -> bool:
    """Whether a link leads to this build: that of its own name, or another's."""
    own = target.rpartition(".")[0]
    return _published(envs, own) == target or any(
        _published(envs, name) == target for name in os.listdir(envs) if not name.endswith(".lock"))


def _free(folder: str) -> float:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
