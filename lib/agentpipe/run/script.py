"""The script under its shim: started, watched, taken over, stopped; its status is kept whatever happens to us.

How the shim keeps the status is in shim.py.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence

from agentpipe import paths, processes
from agentpipe.claim import attempt
from agentpipe.place import Place
from agentpipe.run import cgroups, stopping
from agentpipe.run.shim import start_shim

KILL_WAIT = 5.0
SHIM_WRITES = 1.0
# between two looks, where nothing wakes us (s); a look into a place costs a process there
OFTEN, OFTEN_IN_PLACE = 0.02, 0.2
LONGEST_LOOK = 3600.0  # poll(2) takes no more than 24 days


class Script:
    """A script of one attempt; `status` is its exit status once wait() said it is over, None when it was lost."""

    def __init__(self, directory: str, place: Place | None = None,
                 shim: subprocess.Popen[bytes] | None = None) -> None:
        self.directory = directory
        self.place = place or Place({}, directory)  # the host
        self.status: int | None = None
        self._shim = shim
        self._gone_since: float | None = None
        self._ended: set[int] = set()  # children of ours that had ended when bury() looked last

    @property
    def record(self) -> str | None:
        """ "PID START BOOT" as the script wrote it; in a place the pid is the place's."""
        return attempt.pid_record(self.directory)

    @property
    def never_began(self) -> int | None:
        """The exit status of what should have entered the place, where a script never stood in it."""
        return self._shim.poll() if self._shim and self.place.prefix else None

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end; True when it is over (then `status` is set)."""
        until = time.monotonic() + seconds
        while True:
            if self._over():
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._doze(left)

    def signal_all(self, signum: int) -> int:
        """Signal (0: only count) the script and every process below it (never the shim); how many there were."""
        if self.place.prefix:
            return self.place.signal(self.record or "0", signum)
        return _tell(self.processes(), signum)

    @property
    def look_s(self) -> float:
        """How long to pause between two looks, in seconds."""
        return OFTEN_IN_PLACE if self.place.prefix else OFTEN

    def family(self) -> list[processes.Seen]:
        """The script and every process below it, as they are where it runs."""
        if self.place.prefix:
            return self.place.family(self.record or "0") or []
        return list(filter(None, map(processes.seen, self.processes())))

    def tell(self, names: Iterable[tuple[int, int]], signum: int) -> None:
        """Signal these of its family, by their names."""
        if self.place.prefix:
            self.place.tell(names, signum)
        else:
            for name in names:
                processes.tell(name, signum)

    def stop(self, grace: float) -> None:
        """TERM to all, up to `grace` seconds for their end, INT to what heeds no TERM, then KILL until it is over."""
        stopping.stop(self, grace)

    def kill(self) -> None:
        """KILL, again and again (new ones may be born meanwhile), until the script is over and nothing is left."""
        until = time.monotonic() + KILL_WAIT
        if not self.place.prefix:  # what runs in a place can write its link
            cgroups.kill(self.directory)
        while self.signal_all(signal.SIGKILL) and time.monotonic() < until:
            if self.wait(0.02):
                self._reap()
        self.wait(KILL_WAIT)

    def sweep(self) -> int:
        """After the end: kill what the script left behind; how many processes there were."""
        left = 0 if self.place.isolated else self.signal_all(signal.SIGKILL)  # such a place is removed whole
        if left:
            self.kill()
        if self._shim:
            self._end_shim(self._shim)
        else:
            self._hear_out()
        if not self.place.prefix:
            cgroups.remove(self.directory)
        return left

    def _end_shim(self, shim: subprocess.Popen[bytes]) -> None:
        # its status is written; its reader waits for what still holds the pipe, which may be nobody's to kill (sudo)
        try:
            shim.wait(KILL_WAIT)
        except subprocess.TimeoutExpired:
            os.killpg(shim.pid, signal.SIGKILL)
            shim.wait()

    def _hear_out(self) -> None:
        """Another's shim waits likewise, with its lock: until then its reader may have last words for the log."""
        until = time.monotonic() + KILL_WAIT
        while attempt.shim_lives(self.directory, over=True) and time.monotonic() < until:
            time.sleep(0.01)

    def gather(self) -> None:
        """Move all of it into a control group of its own, where we may: from then on nothing that it starts escapes.

        For scripts that run for a while: each move costs 10 ms and more, in which the whole machine starts no process.
        """
        if not self.place.prefix and cgroups.make(self.directory):
            for _ in range(5):  # what was started meanwhile
                outside = set(self.processes()) - set(cgroups.pids(self.directory))
                if not cgroups.enter(self.directory, outside):
                    break

    def bury(self) -> None:
        """Collect the orphans of the script that have ended: until then each keeps its number, of which there are few.

        To be called again and again. What had not ended at the last call is left alone: it may be a program of ours,
        whose status whoever has started it is about to ask for.
        """
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
        except ChildProcessError:
            return
        ended = set(processes.ended_children()) - {self._shim.pid if self._shim else 0, self._recorded_pid()}
        for pid in ended & self._ended:
            os.waitpid(pid, os.WNOHANG)
        self._ended = ended

    def processes(self) -> list[int]:
        """The script and every process below it, on the host; without the shim, its helpers and programs of ours."""
        if self.place.prefix:
            return self.place.processes()
        script = self._script_pid()
        if self._shim:
            shims = {self._shim.pid}
            found = processes.descendants(os.getpid())
        else:
            shims = set(processes.holding_open(self._made(attempt.locked_by_shim(self.directory))))
            found = [script, *processes.descendants(script)] if script else []
            found += processes.having(f"AGENT_TASK_DIR={self.directory}".encode())
            found += processes.holding_open(self._made("log"), to_write=True)  # who reads it is free
        found += cgroups.pids(self.directory)
        # the shim's own children but the script: the reader of a piped script's output
        return [pid for pid in dict.fromkeys(found) if pid != os.getpid() and pid not in shims | processes.of_ours
                and (pid == script or processes.parent(pid) not in shims)]

    def _made(self, name: str) -> str:
        """The path of what the shim makes."""
        return os.path.join(paths.box(self.directory), name)

    def _over(self) -> bool:
        self.status = attempt.exit_status(self.directory)
        if self.status is not None:
            return True
        if self._shim:
            if self._shim.poll() is None:
                return False
            self.status = attempt.exit_status(self.directory)
            if self.status is None and self._orphan_over():
                # its rename may have been under way when the shim was killed
                self.status = attempt.exit_status(self.directory) if self.status is None else self.status
                return True
            return self.status is not None
        if attempt.shim_lives(self.directory) or not self._gone():
            return False
        # the shim renames and then lets go of its lock: look once more, in this order
        self.status = attempt.exit_status(self.directory)
        return True

    def _orphan_over(self) -> bool:
        """The shim was killed and the script is our child now: we write its status ourselves."""
        if not os.path.isdir(self.directory):  # the script has deleted it: nobody can say how it ended
            return True
        record = self.record
        if record in attempt.RETURNED:
            return True
        # a place that cannot be entered may be the task's own doing (its limits): that is not tried for ever
        why = attempt.GIVEN_BACK if self.place.prefix else attempt.HANDED_BACK
        if record is None and attempt.forbid_start(self.directory, why):
            return True
        if self.place.prefix:
            if not self._gone():
                return False
            self.status = attempt.exit_status(self.directory)
            return True
        if not self._script_pid() and attempt.shim_lives(self.directory):
            return False  # the shim's mv outlives it by a moment
        pid = self._recorded_pid()
        if not pid:  # somebody has written over its name
            return True
        try:
            done, raw = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return not self._script_lives()
        if not done:
            return False
        code = os.waitstatus_to_exitcode(raw)
        self.status = code if code >= 0 else 128 - code
        try:
            os.rename(self._made("running"), self._made(f"exit.{self.status}"))
        except FileNotFoundError:
            pass  # the shim has
        return True

    def _doze(self, seconds: float) -> None:
        # the script's pidfd wakes us at its very end; its shim's for the moment between that and the status; where
        # neither can be seen (a place, a takeover whose script is over, a kernel without pidfds) we look often
        pid, shim = self._script_pid(), self._shim
        if not pid:
            pid = shim.pid if shim and shim.returncode is None else None
            seconds = min(seconds, self.look_s)
        fd = processes.pidfd(pid) if pid else None
        if fd is None:
            time.sleep(min(seconds, self.look_s))
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(max(1, int(min(seconds, LONGEST_LOOK) * 1000)))
        finally:
            os.close(fd)

    def _recorded_pid(self) -> int:
        """What the script wrote as its pid, living or not (in a place the place's); 0 before it started."""
        record = self.record
        return 0 if record is None or record in attempt.RETURNED else int(record.split(" ")[0])

    def _script_pid(self) -> int | None:
        record = self.record
        return self.place.pid(record) if record and record not in attempt.RETURNED else None

    def _gone(self) -> bool:
        """Whether the script is gone; in a place since a moment, in which its shim there writes the status."""
        if self._script_lives():
            self._gone_since = None
            return False
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        return not self.place.prefix or now - self._gone_since >= SHIM_WRITES

    def _script_lives(self) -> bool:
        return lives(self.directory, self.place)

    def _reap(self) -> None:
        """Collect the children that we adopted, so that they do not stay as zombies."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return


def _tell(pids: Iterable[int], signum: int) -> int:
    """Signal these processes; how many were there."""
    sent = 0
    for pid in pids:
        record = processes.identity(pid)
        sent += bool(record and processes.send(record, signum))
    return sent


def start(directory: str, argv: Sequence[str], cwd: str, env: Mapping[str, str],
          place: Place | None = None, piped: bool = False) -> Script:
    """Start `argv` in `cwd` under a shim; on the host `env` is its whole environment, in a place it stands in `spec`.

    `piped` puts a pipe between script and log, which shell scripts need.
    """
    place = place or Place({}, directory)
    return Script(directory, place, start_shim(directory, argv, cwd, env, place, piped))


def taken_over(directory: str, place: Place | None = None) -> Script:
    """A script that another agent-run started."""
    processes.become_subreaper()
    return Script(directory, place)


def lives(directory: str, place: Place | None = None) -> bool:
    """Whether the script of this attempt still runs, as far as anybody can say at the moment."""
    record = attempt.pid_record(directory)
    if record is None or record in attempt.RETURNED:
        return False
    return (place or Place({}, directory)).alive(record) is not False


def running_for(directory: str) -> float | None:
    """Seconds since the script's process started, by a clock that neither jumps nor stops in suspend."""
    record = attempt.pid_record(directory)
    if not record or record in attempt.RETURNED:
        return None
    started = int(record.split(" ")[1]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
