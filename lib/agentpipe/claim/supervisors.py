"""The supervisors of this machine: how one begins to serve, which ones run, and how they are told to leave.

The lock of a worker's name tells of the supervisor that serves as it (workers.FIELDS).
"""

from __future__ import annotations

import functools
import os
import signal
import stat
import sys
import time

from agentpipe import errors, paths, processes
from agentpipe.claim import claims, workers
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

PARENT = "AGENT_SUPERVISOR_PARENT"  # slots.sh's process: what says to the supervisors that it starts whose they are
LOCK_FD = 9  # the loops close it in their children
LEAVES_WITHIN_S = 30.0


def serve(given: str | None, names: Iterable[str], serves: str, servers: set[str]) -> str:
    """Lock a worker's name for this process and whatever it executes; the name.

    Failure 75 when another process serves as the one that is `given`. Without one it is the first free of `names`;
    `servers` as workers.known_as() has them.
    """
    if given:
        name, fd = given, workers.named(given, servers)
    else:
        name, fd = workers.first_free(names, servers)
    if fd is None:
        raise errors.Failure(f"another process serves as {name}", errors.TRY_AGAIN,
                             remedy="agent-supervisor --status")
    slotted = os.environ.pop(PARENT, "") == str(os.getppid())
    if slotted:  # it leaves after its task when the one of all slots is killed outright
        processes.signal_at_parents_end(signal.SIGUSR2)
    parent = processes.identity(os.getppid()) if slotted else None
    workers.tell(fd, process=processes.identity(os.getpid()), parent=parent, worker=name, serves=serves,
                 servers=" ".join(sorted(servers)))
    os.dup2(fd, LOCK_FD)
    os.set_inheritable(LOCK_FD, True)  # dup2 does not, where fd is that number already
    return name


def running(names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The supervisors that live, by worker: workers.FIELDS; `tasks`, ids of what runs; `alone`: it was named itself.

    `names` are workers, or what stands before the `:N` of several; none means all of them.
    """
    found, names = [], list(names)
    for path in workers.lock_paths(paths.state()):
        one = workers.told(path)
        if one.get("serves") and processes.alive(one["process"]) and workers.locked(path) \
                and _is_meant(one["worker"], names):
            found.append({**one, "tasks": tasks_of(one["worker"]), "alone": one["worker"] in names})
    return found


def drain(supervisors: Iterable[dict[str, Any]], stopping: bool = False) -> list[str]:
    """Tell each to leave after its task, or with it (`stopping`); the processes that were told.

    Slots of --jobs are told by the one that starts them, unless a slot was named itself.
    """
    told = [one["parent"] if one["parent"] and processes.alive(one["parent"]) and not one["alone"] else one["process"]
            for one in supervisors]
    return [process for process in dict.fromkeys(told)
            if processes.send(process, signal.SIGPWR if stopping else signal.SIGUSR2)]


def stop(supervisors: Iterable[dict[str, Any]]) -> None:
    """Let each leave now: its task goes back to its queue. Failure 75 when one does not, after LEAVES_WITHIN_S."""
    told = drain(supervisors, stopping=True)
    until = time.monotonic() + LEAVES_WITHIN_S
    for process in told:
        while processes.alive(process):
            if time.monotonic() > until:
                raise errors.Failure(f"process {process.split()[0]} does not leave", errors.TRY_AGAIN,
                                     remedy=f"kill -KILL {process.split()[0]}; its script goes on")
            time.sleep(0.1)


def become(script: str, words: list[str]) -> None:
    """Replace this process by the loop at `script`, which gets `words`.

    A signal that comes meanwhile ends us at the latest when execve(2) would forget it: there is no task yet.
    """
    SIGNALS.uninstall()
    # the first two Python ignores, and so would every stage; the others whoever started us may: sh could not trap them
    for ours in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR2, signal.SIGPWR):
        signal.signal(ours, signal.SIG_DFL)
    beside = os.path.dirname(os.path.abspath(sys.argv[0]))  # where the stages are, if on nobody's PATH (cron)
    os.environ["PATH"] = os.pathsep.join(filter(None, [os.environ.get("PATH") or os.defpath, beside]))
    os.execv("/bin/sh", ["sh", script, *words])


def _is_meant(worker: str, names: list[str]) -> bool:
    return not names or any(worker == name or worker.startswith(name + ":") for name in names)


def tasks_of(worker: str) -> list[str]:
    """The tasks that run under a worker's name, and the one that its supervisor has taken over."""
    found = {taken_over(worker)}
    for token in os.listdir(claims.active()):
        name = str((claims.read(claims.active(token)) or {}).get("worker"))
        if name == worker or name.startswith(f"{worker}:service:"):
            found.add(_task_of(token))
    return sorted(filter(None, found))


def taken_over(worker: str) -> str:
    """The task whose script a worker's supervisor watches for another one, under whose name it runs; "" if none."""
    path = workers.lock_path(worker).removesuffix(".lock") + ".pulled"
    try:
        told = os.stat(path)
    except OSError:
        return ""
    token = _claim_in(path, told.st_mtime_ns) if stat.S_ISREG(told.st_mode) else ""
    claim = claims.read(claims.active(token)) if token else None
    return _task_of(token) if claim and claim.get("worker") != worker else ""


def _task_of(token: str) -> str:
    return os.path.basename(os.path.realpath(claims.active(token))).rpartition(".")[0]  # …/ID.N


@functools.lru_cache(maxsize=256)
def _claim_in(path: str, written: int) -> str:
    """The claim in the line that a loop got last; "" without one. Kept, since a line may be long and be asked often."""
    import json
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.loads(file.readline())["pull"]["claim"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
