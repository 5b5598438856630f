"""The script under its shim: started, watched, taken over, stopped; its status is kept whatever happens to us.

The shim is a shell in a session of its own, whose stdin is the locked file `running`. It renames that file to
`exit.N` when the script is over, so the status needs neither us nor a byte of disk space.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from agentpipe import attempt, cgroups, processes
from agentpipe.place import Place

# Arguments: the attempt's directory, "direct" or "piped", the script's working directory, the command. They are
# arguments, not text: nothing of a task is ever parsed by a shell. The script's own process writes `pid` just before it
# becomes the script: where that name is taken, nothing may start any more (exit 125).
# Piped is for shell scripts, whose `>/dev/stderr` would truncate a log that is their stdout; then the status is
# published before the reader has seen the end of what descendants hold.
SHIM = r"""
cd "$1" || exit 125
how=$2
shift 2
[ ! -r spec ] || . ./spec || exit 125
trap '' TERM INT HUP QUIT
script() (
  exec 2>&1
  trap - TERM INT HUP QUIT
  exec setsid sh -c '
    started() { shift 19; start=$1; }
    read -r stat </proc/$$/stat && read -r boot </proc/sys/kernel/random/boot_id || exit 125
    started ${stat##*) }
    ln -s "$$ $start $boot" pid || exit 125
    cd "$1" || exit 126
    shift
    exec "$@" </dev/null' sh "$@"
)
if [ "$how" = piped ] && command -p mkfifo pipe; then
  command -p cat <pipe >>log &
  script "$@" >pipe
  command -p mv running "exit.$?"
  wait
else
  script "$@" >>log
  command -p mv running "exit.$?"
fi
"""

# dash drops variables whose names it could not write itself (`my.var`): they go around it, by a 0600 file
ODD_NAMES = """
import json, os, sys
path, *argv = sys.argv[1:]
with open(path) as file: os.environ.update(json.load(file))
os.unlink(path)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(127 if isinstance(error, FileNotFoundError) else 126)
"""

RETURNED = (attempt.GIVEN_BACK, attempt.HANDED_BACK)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KILL_WAIT = 5.0
SHIM_WRITES = 1.0
# between two looks, where nothing wakes us (s); a look into a place costs a process there
OFTEN, OFTEN_IN_PLACE = 0.02, 0.2


class Script:
    """A script of one attempt; `status` is its exit status once wait() said it is over, None when it was lost."""

    def __init__(self, directory: str, place: Place | None = None,
                 shim: subprocess.Popen[bytes] | None = None) -> None:
        self.directory = directory
        self.place = place or Place({}, directory)  # the host
        self.status: int | None = None
        self._shim = shim
        self._gone_since: float | None = None

    @property
    def record(self) -> str | None:
        """ "PID START BOOT" as the script wrote it; in a place the pid is the place's."""
        return attempt.pid_record(self.directory)

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
        """Signal the script and every process below it (never the shim); how many there were."""
        if self.place.prefix:
            return self.place.signal(self.record or "0", signum)
        sent = 0
        for pid in self.processes():
            record = processes.identity(pid)
            sent += bool(record and processes.send(record, signum))
        return sent

    def stop(self, grace: float) -> None:
        """TERM to all, up to `grace` seconds for the script's end, then KILL until none is left."""
        self.signal_all(signal.SIGTERM)
        if not self.wait(grace):
            self.kill()

    def kill(self) -> None:
        """KILL, again and again (new ones may be born meanwhile), until the script is over and nothing is left."""
        until = time.monotonic() + KILL_WAIT
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
        cgroups.remove(self.directory)
        return left

    def _end_shim(self, shim: subprocess.Popen[bytes]) -> None:
        # its status is written; its reader waits for what still holds the pipe, which may be nobody's to kill (sudo)
        try:
            shim.wait(KILL_WAIT)
        except subprocess.TimeoutExpired:
            os.killpg(shim.pid, signal.SIGKILL)
            shim.wait()

    def gather(self) -> None:
        """Move all of it into a control group of its own, where we may: from then on nothing that it starts escapes.

        For scripts that run for a while: each move costs 10 ms and more, in which the whole machine starts no process.
        """
        if not self.place.prefix and cgroups.make(self.directory):
            for _ in range(5):  # what was started meanwhile
                outside = set(self.processes()) - set(cgroups.pids(self.directory))
                if not cgroups.enter(self.directory, outside):
                    break

    def processes(self) -> list[int]:
        """The script and every process below it, on the host; without the shim and its helpers."""
        if self.place.prefix:
            return self.place.processes()
        script = self._script_pid()
        if self._shim:
            shims = {self._shim.pid}
            found = processes.descendants(os.getpid())
        else:
            shims = set(processes.holding_open(os.path.join(self.directory, "running")))
            found = [script, *processes.descendants(script)] if script else []
            found += processes.having(f"AGENT_TASK_DIR={self.directory}".encode())
            found += processes.holding_open(os.path.join(self.directory, "log"))
        found += cgroups.pids(self.directory)
        # the shim's own children but the script: the reader of a piped script's output
        return [pid for pid in dict.fromkeys(found) if pid != os.getpid() and pid not in shims
                and (pid == script or processes.parent(pid) not in shims)]

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
        if record is None and attempt.forbid_start(self.directory, attempt.HANDED_BACK):
            return True
        if self.place.prefix:
            if not self._gone():
                return False
            self.status = attempt.exit_status(self.directory)
            return True
        if not self._script_pid() and attempt.shim_lives(self.directory):
            return False  # the shim's mv outlives it by a moment
        pid = int((self.record or "0").split(" ")[0])
        try:
            done, raw = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return not self._script_lives()
        if not done:
            return False
        code = os.waitstatus_to_exitcode(raw)
        self.status = code if code >= 0 else 128 - code
        try:
            os.rename(os.path.join(self.directory, "running"), os.path.join(self.directory, f"exit.{self.status}"))
        except FileNotFoundError:
            pass  # the shim has
        return True

    def _doze(self, seconds: float) -> None:
        # the script's pidfd wakes us at its very end; its shim's for the moment between that and the status; where
        # neither can be seen (a place, a takeover whose script is over, a kernel without pidfds) we look often
        pid, shim = self._script_pid(), self._shim
        if not pid:
            pid = shim.pid if shim and shim.returncode is None else None
            seconds = min(seconds, OFTEN_IN_PLACE if self.place.prefix else OFTEN)
        fd = processes.pidfd(pid) if pid else None
        if fd is None:
            time.sleep(min(seconds, OFTEN_IN_PLACE if self.place.prefix else OFTEN))
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(max(1, int(seconds * 1000)))
        finally:
            os.close(fd)

    def _script_pid(self) -> int | None:
        record = self.record
        return self.place.pid(record) if record and record not in RETURNED else None

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


def start(directory: str, argv: Sequence[str], cwd: str, env: Mapping[str, str],
          place: Place | None = None, piped: bool = False) -> Script:
    """Start `argv` in `cwd` under a shim; on the host `env` is its whole environment, in a place it stands in `spec`.

    `piped` puts a pipe between script and log, which shell scripts need.
    """
    place = place or Place({}, directory)
    running = os.open(os.path.join(directory, "running"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(running, fcntl.LOCK_EX)
        processes.become_subreaper()
        if not place.prefix:
            argv = _around_the_shell(directory, argv, env)
        shim = subprocess.Popen([*place.prefix, "sh", "-c", SHIM, "sh", directory, "piped" if piped else "direct", cwd,
                                 *argv], env=dict(env),
                                stdin=running, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                start_new_session=True)
    finally:
        os.close(running)
    return Script(directory, place, shim)


def taken_over(directory: str, place: Place | None = None) -> Script:
    """A script that another agent-run started."""
    processes.become_subreaper()
    return Script(directory, place)


def lives(directory: str, place: Place | None = None) -> bool:
    """Whether the script of this attempt still runs, as far as anybody can say at the moment."""
    record = attempt.pid_record(directory)
    if record is None or record in RETURNED:
        return False
    return (place or Place({}, directory)).alive(record) is not False


def running_for(directory: str) -> float | None:
    """Seconds since the script's process started, by a clock that neither jumps nor stops in suspend."""
    record = attempt.pid_record(directory)
    if not record or record in RETURNED:
        return None
    started = int(record.split(" ")[1]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _around_the_shell(directory: str, argv: Sequence[str], env: Mapping[str, str]) -> Sequence[str]:
    odd = {name: value for name, value in env.items() if not NAME.fullmatch(name)}
    if not odd:
        return argv
    path = os.path.join(directory, "environment.json")
    attempt.publish(path, json.dumps(odd).encode())
    return [sys.executable, "-I", "-S", "-c", ODD_NAMES, path, *argv]

