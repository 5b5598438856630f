"""Who owns a task on this node: claims, the task's lock, and giving back (design: what stands on disk).

A pull makes one token. It names the intent `active/TOKEN` (a locked file, later a link to the attempt's directory),
stands in the file `claim` there and in the task's runtime on the server. Whoever holds the directory's `lock` works
on the task; between two stages the claim is handed to whoever will read the line.
"""

from __future__ import annotations

import json
import os

from agentpipe import errors, files, paths, processes, secrets, untrusted
from agentpipe.claim import attempt, namespaces, on_server, uptime
from agentpipe.crash import crash_point
from agentpipe.files import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.claim.intents import Intent

LOCK_TIMEOUT = 10.0
GIVE_BACK_S = 10.0  # patience with a server that is away: who is told to stop has little time; recovery does the rest


def active(token: str = "") -> str:
    """The directory of intents and claims, or one of them."""
    home = paths.state("active")
    os.makedirs(home, 0o700, exist_ok=True)
    return os.path.join(home, token) if token else home


def any_active() -> bool:
    """Whether there is anything that recovery would have to look at."""
    return bool(os.listdir(active()))


class NotOurs(errors.LetGo):
    """The task is somebody else's now, or it has ended (75): whoever holds it here lets it go."""

    def __init__(self, task: str, why: str, remedy: str = "") -> None:
        super().__init__(f"task {task} is not ours to run: {why}", remedy or f"agent-task why {task}")


class Claim:
    """The hold of one process on one attempt: its lock, and (for a pulled task) its claim.

    `token` is None for a task by hand: nothing is reported and nobody else looks.
    """

    def __init__(self, directory: str, token: str | None, lock: int, worker: str = "", server: str = "") -> None:
        self.directory = directory
        self.token = token
        self.worker = worker
        self.server = server  # by its id: only that one is asked for the task
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
            os.utime(os.path.join(self.directory, "claim"), follow_symlinks=False)

    def release(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def end(self) -> None:
        """The end is acknowledged: nothing is left to recover."""
        if self.token:
            secrets.forget(self.directory)  # first: who is killed in between leaves the claim to others
            try:
                os.unlink(active(self.token))
            except FileNotFoundError:
                pass
            uptime.note()

    def undo(self) -> None:
        """Nothing has come of it, and nobody has been told: neither claim nor directory stays."""
        self.end()
        attempt.discard(self.directory)
        self.release()

    def _write(self, state: str, stage: str, holder: dict[str, Any] | None) -> None:
        namespaces.hold()
        # no fsync: after a power loss the boot has changed, and a claim that cannot be read counts as dead
        publish(os.path.join(self.directory, "claim"), json.dumps(
            {"token": self.token, "server": self.server, "worker": self.worker, "state": state, "stage": stage,
             "holder": holder, "namespace": processes.namespace()}).encode() + b"\n")


def lock(directory: str, timeout: float = LOCK_TIMEOUT) -> int | None:
    """The attempt's lock as a descriptor; None when another process has it for longer than `timeout` seconds.

    Failure 65 where something else stands in its place.
    """
    try:
        fd = untrusted.opened(directory, "lock", os.O_RDWR | os.O_CREAT)
    except untrusted.NotRegular as error:
        raise errors.Failure(f"{error.filename} cannot be locked: {error.strerror}", errors.BAD_DATA,
                             remedy="end what runs there, then remove it") from None
    if files.lock_within(fd, timeout):
        return fd
    os.close(fd)
    return None


def begin(api: Any, intent: Intent, task: str, worker: str) -> Claim:
    """A new attempt at a task that this process has just got from this server: directory, lock, claim, link.

    Failure 73 when the disk takes one of them; then none of them stays.
    """
    directory = attempt.create(task)
    crash_point("pull:directory")
    fd = None
    try:
        fd = lock(directory)  # whoever looks whether somebody works on it has it for an instant
        if fd is None:
            raise errors.Failure(f"{directory} is locked by another process", errors.BUG)
        claim = Claim(directory, intent.token, fd, worker, api.server_id)
        claim.held_by("pull")
        crash_point("pull:claimed")
        intent.becomes(directory)
    except (errors.Failure, OSError) as error:
        attempt.discard(directory)
        if fd is not None:
            os.close(fd)
        if isinstance(error, errors.Failure):
            raise
        raise files.unwritable(f"write in {directory}", error) from None
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
        raise _late(manifest, "its directory on this machine was deleted",
                    f"agent-pull --id {manifest['task'].get('id')}, which tells its server that it is lost") from None
    if fd is None:
        raise _late(manifest, "another stage works on it", "wait for that, or end it")
    found = read(directory) or {}
    claim = found_again(directory, token, fd)
    if found.get("token") != token or attempt.was_returned(directory) \
            or attempt.outcome(directory) or not os.path.islink(active(token)):
        claim.release()
        raise _late(manifest, "it has been given back or has ended meanwhile")
    if not look_only:
        claim.held_by(stage)
    return claim


def found_again(directory: str, token: str, lock: int) -> Claim:
    """The claim of an attempt whose lock is ours now, as its file tells."""
    found = read(directory) or {}
    return Claim(directory, token, lock, found.get("worker") or "", found.get("server") or "")


def checked_with_server(api: Any, manifest: dict[str, Any], stage: str) -> str:
    """Under the lock: the task's status when the server still shows it ours (queued or in progress, our token).

    Otherwise Failure 75: nothing may run. An earlier agent of the same token is impossible, tokens are random.
    """
    task = manifest["task"]["id"]
    found = api.call("tasks.get_all", {"id": [task], "only_fields": ["id", "status", "runtime"],
                                       "search_hidden": True})["tasks"]
    if not found:
        raise _late(manifest, "the server no longer knows it", "it was deleted")
    status = found[0].get("status", "")
    follows = manifest["pull"].get("follows")
    claim = manifest["pull"]["claim"] if follows else (found[0].get("runtime") or {}).get(on_server.RUNTIME_KEY)
    if claim and claim != manifest["pull"]["claim"]:
        raise _late(manifest, "another agent has claimed it")
    if status not in on_server.RUNNABLE:
        raise _late(manifest, f"it is {status}", f"to run it again: agent-task enqueue {task}")
    if not claim:
        raise _late(manifest, f"somebody has taken it back since it was pulled, it is {status} now")
    # a server that does not look at claims leaves ours on a task that somebody has enqueued again
    if status == "queued" and not (api.ours or follows) and on_server.waits(api, [task]):
        raise _late(manifest, "it waits in a queue again")
    return status


def read(directory: str) -> dict[str, Any] | None:
    """What the file `claim` says (as Claim writes it; state: held|handed), or None: it may be one that cannot be read.

    `namespace` is where its pids are to be understood (namespaces.py).
    """
    try:
        found = untrusted.value(directory, "claim")
    except (FileNotFoundError, NotADirectoryError, untrusted.NotRegular, ValueError):  # an intent is a file
        return None
    return found if isinstance(found, dict) else None


def is_of_this_boot(directory: str) -> bool:
    """Whether the machine has not been started anew since the attempt's script was, or else a stage worked on it last.

    A claim that cannot be read is what a power failure left of it.
    """
    record = attempt.pid_record(directory)
    if record and record not in attempt.RETURNED:
        return record.endswith(processes.boot_id())
    found = read(directory)
    if found is None:
        return not os.path.lexists(os.path.join(directory, "claim"))
    return not found.get("namespace") or str(found["namespace"]).startswith(processes.boot_id())


def give_back(api: Any, claim: Claim, manifest: dict[str, Any], why: str, record: str = attempt.HANDED_BACK) -> bool:
    """Return a task that nobody started to the front of its queue, while the lock is held; False when it could not be.

    An attempt whose script has started is left alone: recovery takes it over. Errors of the server, and a disk that
    takes no further name, leave the claim for recovery too. `record`, one of attempt.RETURNED, says how it counts.
    """
    if not claim.token:
        claim.release()
        return True
    try:
        if attempt.forbid_start(claim.directory, record):
            crash_point("give-back:forbidden")
            if not manifest["pull"].get("follows"):  # else there is nothing to give back
                on_server.enqueue_again(api.once(GIVE_BACK_S), manifest["task"]["id"], manifest["pull"].get("queue"),
                                        claim.token, why)
            crash_point("give-back:enqueued")
            claim.end()
            attempt.clear(claim.directory)
        return True
    except (errors.ApiError, errors.Failure, OSError):
        attempt.note_return(claim.directory, why)
        return False
    finally:
        claim.release()


def hand_back(claim: Claim, why: str) -> None:
    """Nothing of it was begun, and its server cannot be told now: the next recovery gives it back, and counts nothing.

    It tells `why`. A script that runs is left running.
    """
    if claim.token:
        attempt.note_return(claim.directory, why)
        try:
            attempt.forbid_start(claim.directory, attempt.HANDED_BACK)
        except OSError:  # a disk that takes no further name
            pass
    claim.release()


def _take_local(manifest: dict[str, Any], stage: str) -> Claim:
    task = manifest["task"]["id"]
    directory = attempt.latest(task)
    # a script that has ended is run again beside it: code and environment stay where the manifest says
    is_new = directory is None or (stage == "run" and attempt.outcome(directory) is not None)
    if is_new or directory is None:
        directory = attempt.create(task)
    fd = lock(directory)
    if fd is None:
        raise _late(manifest, "another stage works on it", "wait for that, or end it")
    claim = Claim(directory, None, fd)
    claim.is_new = is_new
    return claim


def _late(manifest: dict[str, Any], why: str, remedy: str = "") -> NotOurs:
    return NotOurs(str(manifest["task"].get("id")), why, remedy)
