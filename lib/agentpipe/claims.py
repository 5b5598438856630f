"""Who owns a task on this node: intents, claims, the task's lock, and giving back (design: what stands on disk).

A pull makes one token. It names the intent `active/TOKEN` (a locked file, later a link to the attempt's directory),
stands in the file `claim` there and in the task's runtime on the server. Whoever holds the directory's `lock` works
on the task; between two stages the claim is handed to whoever will read the line.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time

from agentpipe import attempt, config, errors, paths, processes
from agentpipe.crash import crash_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME_KEY = "_agentpipe_claim"
RETURNED = "back:"  # before the token of whoever gave the task back, on a server that does not look at claims
LOCK_TIMEOUT = 10.0
GRACE = 10.0


def new_token() -> str:
    """A claim's only identity: 32 hex digits."""
    return os.urandom(16).hex()


def active(token: str = "") -> str:
    """The directory of intents and claims, or one of them."""
    home = paths.state("active")
    os.makedirs(home, 0o700, exist_ok=True)
    return os.path.join(home, token) if token else home


def any_active() -> bool:
    """Whether there is anything that recovery would have to look at."""
    return bool(os.listdir(active()))


class Intent:
    """`active/TOKEN` as a locked file: this process may be about to own a task, and says so before it asks."""

    def __init__(self) -> None:
        self.token = new_token()
        self.path = active(self.token)
        self.used = False  # whether it has become an attempt
        self.asked = False  # whether the server may have given us a task that we do not know of, or could not keep
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def note(self, queue: str) -> None:
        """Which queue is asked, for a server that cannot write the token itself."""
        try:
            os.ftruncate(self._fd, os.pwrite(self._fd, queue.encode(), 0))
        except OSError as error:
            raise errors.Failure(f"cannot write {self.path}: {error.strerror}", errors.CANNOT_CREATE,
                                 remedy="free some space, or set AGENT_HOME") from None
        self.asked = True

    def becomes(self, directory: str) -> None:
        """Publish the attempt: the link takes the intent's name, so there is never neither."""
        link = f"{self.path}.{os.getpid()}"
        os.symlink(directory, link)
        os.rename(link, self.path)
        self.used = True
        os.close(self._fd)

    def drop(self) -> None:
        """Nothing was got; where that is not certain, the next recovery asks the server by the token."""
        if not self.asked:
            os.unlink(self.path)
        os.close(self._fd)


class NotOurs(errors.Failure):
    """The task is somebody else's now, or it has ended (75): whoever holds it here lets it go."""


class Claim:
    """The hold of one process on one attempt: its lock, and (for a pulled task) its claim.

    `token` is None for a task by hand: nothing is reported and nobody else looks.
    """

    def __init__(self, directory: str, token: str | None, lock: int, worker: str = "") -> None:
        self.directory = directory
        self.token = token
        self.worker = worker
        self.is_new = False  # whether take() made the directory
        self._lock: int | None = lock

    def held_by(self, stage: str) -> None:
        """Write that `stage` works on it now: dead at once when the lock is free."""
        if self.token:
            self._write("held", stage, None)

    def hand(self, stage: str, holder: dict[str, Any] | None) -> None:
        """Write that whoever `holder` names has it next."""
        if self.token:
            self._write("handed", stage, holder)

    def touch(self) -> None:
        """Start the grace period anew: the line is out now."""
        if self.token:
            os.utime(os.path.join(self.directory, "claim"))

    def release(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def end(self) -> None:
        """The end is acknowledged: nothing is left to recover."""
        if self.token:
            try:
                os.unlink(active(self.token))
            except FileNotFoundError:
                pass

    def _write(self, state: str, stage: str, holder: dict[str, Any] | None) -> None:
        # no fsync: after a power loss the boot has changed, and a claim that cannot be read counts as dead
        attempt.publish(os.path.join(self.directory, "claim"), json.dumps(
            {"token": self.token, "worker": self.worker, "state": state, "stage": stage, "holder": holder},
        ).encode() + b"\n")


def lock(directory: str, timeout: float = LOCK_TIMEOUT) -> int | None:
    """The attempt's lock as a descriptor; None when another process has it for longer than `timeout` seconds."""
    fd = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(fd)
                return None
            time.sleep(0.01)


def begin(intent: Intent, task: str, worker: str) -> Claim:
    """A new attempt at a task that this process has just got from its queue: directory, lock, claim, link."""
    directory = attempt.create(task)
    crash_point("pull:directory")
    fd = lock(directory, 0)
    if fd is None:
        raise errors.Failure(f"{directory} is locked by another process", errors.BUG)
    claim = Claim(directory, intent.token, fd, worker)
    try:
        claim.held_by("pull")
    except errors.Failure:
        attempt.discard(directory)
        raise
    crash_point("pull:claimed")
    intent.becomes(directory)
    crash_point("pull:linked")
    return claim


def take(manifest: dict[str, Any], stage: str, look_only: bool = False) -> Claim:
    """Take the lock of a task whose line this stage has read, and check on this node that it is still ours.

    With `look_only` the claim stays as it is. Failure 75 when it is not. The server's word is checked_with_server()'s.
    """
    pull = manifest.get("pull")
    if not pull:
        return _take_local(manifest, stage)
    token = pull["claim"]
    try:
        directory = os.readlink(active(token))
    except OSError:
        raise _late(manifest, "it is no longer claimed on this node") from None
    try:
        fd = lock(directory)
    except FileNotFoundError:
        raise _late(manifest, "its directory on this machine was deleted") from None
    if fd is None:
        raise _late(manifest, "another stage works on it")
    found = read(directory) or {}
    claim = Claim(directory, token, fd, found.get("worker", ""))
    if found.get("token") != token or attempt.was_returned(directory) \
            or attempt.outcome(directory) or not os.path.islink(active(token)):
        claim.release()
        raise _late(manifest, "it has been given back or has ended meanwhile")
    if not look_only:
        claim.held_by(stage)
    return claim


def checked_with_server(api: Any, manifest: dict[str, Any], stage: str) -> str:
    """Under the lock: the task's status when the server still shows it ours (queued or in progress, our token).

    Otherwise Failure 75: nothing may run. An earlier agent of the same token is impossible, tokens are random.
    """
    task = manifest["task"]["id"]
    found = api.call("tasks.get_all", {"id": [task], "only_fields": ["id", "status", "runtime"],
                                       "search_hidden": True})["tasks"]
    if not found:
        raise _late(manifest, "the server no longer knows it")
    status = found[0].get("status", "")
    follows = manifest["pull"].get("follows")
    if not follows and (found[0].get("runtime") or {}).get(RUNTIME_KEY) != manifest["pull"]["claim"]:
        raise _late(manifest, "another agent has claimed it")
    if status not in ("queued", "in_progress", "created"):
        raise _late(manifest, f"it is {status}")
    # a server that does not look at claims leaves ours on a task that somebody has enqueued again
    if status == "queued" and not (api.ours or follows) and waits(api, [task]):
        raise _late(manifest, "it waits in a queue again")
    return status


def read(directory: str) -> dict[str, Any] | None:
    """What the file `claim` says: {token, worker, state: held|handed, stage, holder}; None when it cannot be read."""
    try:
        with open(os.path.join(directory, "claim"), encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # an intent is a file
        return None


def came_by_pipe(directory: str) -> bool:
    """Whether the line was handed to the pipe that is our stdin: with us it ends."""
    holder = (read(directory) or {}).get("holder") or {}
    return "pipe" in holder and holder["pipe"] == os.fstat(0).st_ino


def stdout_holder(owner: int | None = None) -> dict[str, Any]:
    """Who has the line that is about to be printed: a pipe lives by itself, anything else by a process.

    The process is `owner`, or else our parent (the shell or the supervisor that wrote it to a file or screen).
    """
    try:
        found = os.fstat(1)
    except OSError:  # closed
        found = None
    if found and stat.S_ISFIFO(found.st_mode) and owner is None:
        name = os.readlink("/proc/self/fd/1")
        return {"pipe": found.st_ino, "boot": processes.boot_id(), **({"fifo": name} if name.startswith("/") else {})}
    parent = os.getppid()
    # init adopts orphans and keeps nothing: a parent that is gone holds for the grace period only
    kept = owner or (parent if parent > 1 else None)
    return {"process": processes.identity(kept) if kept else None, "owner": owner is not None}


def is_held(directory: str, owner: int | None = None) -> bool:
    """Whether a claim whose lock is free still belongs to somebody: a living holder, or the grace of a handed line.

    What process `owner` (given explicitly) held before is free: it asks for the next task itself.
    """
    found = read(directory)
    if found is None or found["state"] != "handed":
        return False
    holder = found["holder"] or {}
    if "engine" in holder:
        return True
    if owner and holder.get("owner") and holder.get("process") == processes.identity(owner):
        return False
    try:
        age = time.time() - os.stat(os.path.join(directory, "claim")).st_mtime
    except FileNotFoundError:
        return False
    if 0 <= age < config.variable("AGENT_CLAIM_GRACE", GRACE):
        return True
    if "pipe" in holder:
        return holder.get("boot") == processes.boot_id() and \
            processes.pipe_is_held(holder["pipe"], holder.get("fifo", ""))
    return bool(holder.get("process")) and processes.alive(holder["process"])


def give_back(api: Any, claim: Claim, manifest: dict[str, Any], why: str) -> None:
    """Return a task that nobody started to the front of its queue, while the lock is held.

    An attempt whose script has started is left alone: recovery takes it over. Errors of the server leave the claim
    for recovery too.
    """
    if not claim.token:
        claim.release()
        return
    if attempt.forbid_start(claim.directory, attempt.HANDED_BACK):
        crash_point("give-back:forbidden")
        try:
            if not manifest["pull"].get("follows"):  # else there is nothing to give back
                enqueue_again(api, manifest["task"]["id"], manifest["pull"].get("queue"), claim.token, why)
            crash_point("give-back:enqueued")
            claim.end()
        except (errors.ApiError, errors.Failure):
            pass
    claim.release()


def enqueue_again(api: Any, task: str, queue: str | None, token: str, why: str) -> None:
    """Put a task of ours back to the front of its queue; somebody else's (another token, ended) is left alone."""
    body = {"task": task, "queue": queue, "force": True, "claim": token, "front": True, "status_reason": why}
    if not api.ours and not _returned(api, task, token):
        return
    crash_point("give-back:marked")
    try:
        api.call("tasks.enqueue", {key: value for key, value in body.items() if value is not None})
        if not api.ours and queue:
            api.call("queues.move_task_to_front", {"queue": queue, "task": task})
    except errors.ApiError as error:
        # no longer ours, deleted, already there; or taken already (then it need not be the first)
        if error.subcode not in (121, 101, 706, 703):
            raise


def by_token(api: Any, token: str, fields: list[str]) -> list[dict[str, Any]]:
    """The tasks whose runtime carries this token, with these fields and `runtime`."""
    asked = {"search_hidden": True, "only_fields": [*fields, "runtime"], "page": 0, "page_size": 10}
    # in paths ClearML writes a leading underscore as %_; a filter that a server does not know finds all tasks
    for key in (RUNTIME_KEY,) if api.ours else ("%" + RUNTIME_KEY, RUNTIME_KEY):
        for value in (token,) if api.ours else (token, RETURNED + token):
            found = api.call("tasks.get_all", {**asked, f"runtime.{key}": value})["tasks"]
            mine = [task for task in found if (task.get("runtime") or {}).get(RUNTIME_KEY) == value]
            if mine:
                return mine
    return []


def waits(api: Any, tasks: list[str]) -> set[str]:
    """Which of these tasks stand in a queue."""
    queues = api.call("queues.get_all", {"only_fields": ["id", "entries"], "search_hidden": True})["queues"]
    standing = {entry["task"] for queue in queues for entry in queue.get("entries") or ()}
    return standing & set(tasks)


def _returned(api: Any, task: str, token: str) -> bool:
    """On a server that does not look at claims: mark the task as given back; False when it is not ours to give.

    The mark comes first: who takes the task next writes its own token over it, which must not be overwritten.
    """
    found = api.call("tasks.get_all", {"id": [task], "only_fields": ["status", "runtime"],
                                       "search_hidden": True})["tasks"]
    runtime = (found[0].get("runtime") or {}) if found else {}
    if not found or found[0].get("status") not in ("queued", "in_progress") \
            or runtime.get(RUNTIME_KEY, token) not in (token, RETURNED + token) or waits(api, [task]):
        return False
    api.call("tasks.edit", {"task": task, "force": True, "runtime": {**runtime, RUNTIME_KEY: RETURNED + token}})
    return True


def _take_local(manifest: dict[str, Any], stage: str) -> Claim:
    task = manifest["task"]["id"]
    directory = attempt.latest(task)
    # a script that has ended is run again beside it: code and environment stay where the manifest says
    is_new = directory is None or (stage == "run" and attempt.outcome(directory) is not None)
    if is_new or directory is None:
        directory = attempt.create(task)
    fd = lock(directory)
    if fd is None:
        raise _late(manifest, "another stage works on it")
    claim = Claim(directory, None, fd)
    claim.is_new = is_new
    return claim


def _late(manifest: dict[str, Any], why: str) -> NotOurs:
    return NotOurs(f"task {manifest['task'].get('id')} is not ours to run: {why}", errors.TRY_AGAIN,
                          remedy="agent-pull")
