"""Intents, `active/TOKEN`: pulls that may be about to own a task; and what becomes of those that died, or lost their
server, between asking for one and owning it."""

from __future__ import annotations

import fcntl
import os
import time

from agentpipe import errors, files
from agentpipe.claim import claims, on_server
from agentpipe.crash import crash_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STRAY_S = 120.0  # how long a task of no queue must be seen so before it counts as forgotten
YOUNG_S = 10.0  # a request of a pull that has just died may still be on its way


class Intent:
    """`active/TOKEN` as a locked file: this process may be about to own a task, and says so before it asks."""

    def __init__(self) -> None:
        self.used = False  # whether it has become an attempt
        self._durable = False
        self.asked = False  # whether the server may have given us a task that we do not know of, or could not keep
        while True:
            self.token = os.urandom(16).hex()  # a claim's only identity
            self.path = claims.active(self.token)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if os.fstat(self._fd).st_nlink:
                break
            os.close(self._fd)  # before it was locked another pull took it for one that a dead one had left

    def note(self, api: Any, queue: str, durable: bool = True) -> None:
        """Which server is asked, and of it which queue: one that cannot write the token itself is asked for that too.

        What is given out is lost with our power, unless the intent is on the disk before; `durable` is false where
        nothing is there to be given out, as far as was seen.
        """
        try:
            os.ftruncate(self._fd, os.pwrite(self._fd, f"{api.server_id} {queue}".encode(), 0))
        except OSError as error:
            raise files.unwritable(f"write {self.path}", error) from None
        if durable:
            self.keep()
        self.asked = True

    def keep(self) -> None:
        """It is on the disk from now on; the store's commit alone is an fdatasync(2) of a log that is reused."""
        if self._durable:
            return
        try:
            os.fsync(self._fd)
            files.sync_directory(os.path.dirname(self.path))
        except OSError as error:
            raise files.unwritable(f"write {self.path}", error) from None
        self._durable = True

    def becomes(self, directory: str) -> None:
        """Publish the attempt: the link takes the intent's name, so there is never neither."""
        link = f"{self.path}.{os.getpid()}"
        os.symlink(directory, link)
        os.rename(link, self.path)
        self.used = True
        self._close()

    def drop(self) -> None:
        """Nothing was got; where that is not certain, the next recovery asks the server by the token."""
        if self._fd < 0:  # it has become an attempt, or is dropped already
            return
        if not self.asked:
            try:
                os.unlink(self.path)
            except FileNotFoundError:  # removed by hand, with the whole home
                pass
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # once closed, the number may be another file's
        os.close(fd)


def recover_all(api: Any) -> bool:
    """Only what pulls left that died, or whose server did, while they asked; whether there is more to do later."""
    more = False
    for token in os.listdir(claims.active()):
        if len(token) != 32 or os.path.islink(claims.active(token)):
            continue
        try:
            more |= recover(api, token)
        except OSError:
            pass  # somebody else was quicker
        except (errors.ApiError, errors.Failure):
            more = True  # the server is away again
    return more


def recover(api: Any, token: str) -> bool:
    """A pull died between saying that it might own a task and owning it: ask its server by the token.

    True: look again later. One that asked another server than this is left alone.
    """
    path = claims.active(token)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not files.try_lock(fd):
            return False  # that pull lives
        server, *noted = os.pread(fd, 1 << 16, 0).decode("utf-8", "replace").split() or [api.server_id]
        if os.path.islink(path) or os.stat(path).st_ino != os.fstat(fd).st_ino or server != api.server_id:
            return False
        found = on_server.by_token(api, token, ["id", "status", "execution.queue"])
        for task in found:
            if task["status"] in ("queued", "in_progress"):
                queue = (task.get("execution") or {}).get("queue")
                on_server.enqueue_again(api, task["id"], queue, token, "its pull died")
        if not found and not api.ours and noted and _is_open(api, fd, noted):
            return True
        crash_point("recover:intent")
        os.unlink(path)
        return False
    finally:
        os.close(fd)


def _is_open(api: Any, fd: int, noted: list[str]) -> bool:
    """A server that cannot write our token itself may have given out a task that carries none.

    Then it is queued and stands in no queue. Seen so for two minutes it goes back: another agent that is about to
    start it takes less. What was seen is `noted` in the intent (SERVER, then QUEUE, TIME, IDS). True: look again later.
    """
    if 0 <= time.time() - os.fstat(fd).st_mtime < YOUNG_S and len(noted) == 1:
        return True
    queue, since, before = noted[0], float(noted[1]) if len(noted) > 1 else time.time(), noted[2:]
    stray = _stray(api, queue)
    if len(noted) == 1 or since > time.time():
        note = " ".join([api.server_id, queue, str(int(time.time())), *stray])
        os.ftruncate(fd, os.pwrite(fd, note.encode(), 0))
        return bool(stray)
    left = [task for task in before if task in stray]
    if left and time.time() - since < STRAY_S:
        return True
    for task in left:
        api.call("tasks.enqueue", {"task": task, "queue": queue, "force": True, "status_reason": "its pull died"})
        api.call("queues.move_task_to_front", {"task": task, "queue": queue})
    return False


def _stray(api: Any, queue: str) -> list[str]:
    """The tasks of this queue that are queued, stand in no queue and carry no claim."""
    found: list[str] = []
    page = 0
    while True:
        tasks = api.call("tasks.get_all", {
            "status": ["queued"], "search_hidden": True, "page": page, "page_size": 500, "order_by": ["id"],
            "only_fields": ["id", "runtime", "execution.queue"]})["tasks"]
        for task in tasks:
            token = (task.get("runtime") or {}).get(on_server.RUNTIME_KEY, on_server.RETURNED)
            if (task.get("execution") or {}).get("queue") == queue and token.startswith(on_server.RETURNED):
                found.append(task["id"])
        if len(tasks) < 500:
            break
        page += 1
    # the queues are asked after the tasks: one that was put back meanwhile stands there
    standing = on_server.waits(api, found) if found else set()
    return [task for task in found if task not in standing]
