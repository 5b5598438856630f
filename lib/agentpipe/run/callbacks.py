"""Abort callbacks: the time that a script asked for (Task.register_abort_callback), and the operator's command.

The keys in the task's `runtime` are the `clearml` package's: `_abort_callback_timeout` (seconds; -1: no longer),
`_abort_poll_freq` (how often the script looks, so much is added) and `_abort_callback_completed` (1, or "").
"""

from __future__ import annotations

import os
import time

from agentpipe import errors
from agentpipe.report.abort import COMPLETED, POLL, TIMEOUT, seconds_wanted
from agentpipe.settings import config
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

    from agentpipe.held import Held
    from agentpipe.run.script import Script

COMMAND, COMMAND_TIMEOUT = "CLEARML_AGENT_ABORT_CALLBACK_CMD", "CLEARML_AGENT_ABORT_CALLBACK_TIMEOUT"
COMMAND_POLL = "10"
LOOK = 1.0
# in a place: with what the script's own process was given
IN_PLACE = 'cd "$1" && { [ ! -r spec ] || . ./spec; } && cd "$2" && shift 2 && exec "$@"'


def register(held: Held) -> None:
    """Before the script starts: say in the task's runtime that the operator's command wants time.

    What an earlier run of the task has left there is over.
    """
    before = held.manifest["task"].get("runtime") or {}
    keys: dict[str, Any] = {TIMEOUT: -1, COMPLETED: ""} if before.get(TIMEOUT) or before.get(COMPLETED) else {}
    if os.environ.get(COMMAND, "").strip():
        keys = {TIMEOUT: _command_timeout(), POLL: COMMAND_POLL, COMPLETED: ""}
    from agentpipe.claim import ranks, runtime
    if not held.api or not keys or ranks.is_follower(held.manifest):
        return
    try:
        runtime.merge(held.api, held.id, held.claim.token or "", keys)
    except (errors.ApiError, errors.Failure) as error:
        held.job.say(f"agent-run: the abort callback could not be registered: {error}")


def give_time(held: Held, script: Script, wanted: float | None) -> None:
    """A user stopped the task: run the operator's command, and wait until the script's callback has run.

    At most `wanted` seconds, and agent.abort_callback_max_timeout. Called closed to signals; open while it waits, so
    that a second one ends it.
    """
    command = os.environ.get(COMMAND, "").strip()
    if wanted is None and not command:
        return
    limit = _longest()
    most = min(max(wanted or 0.0, float(_command_timeout()) if command else 0.0), limit)
    held.job.say(f"agent-run: waiting up to {most:g} s for the abort callback")
    process = _started(held, command) if command else None
    begun = time.monotonic()
    try:
        with SIGNALS.open():
            while time.monotonic() - begun < most:
                if process and process.poll() is not None:
                    _tell_completed(held, process.returncode)
                    process = None
                if process is None and (script.wait(0) or _is_over(held, bool(command))):
                    held.job.say(f"agent-run: the abort callback took {time.monotonic() - begun:.1f} s")
                    return
                if script.wait(LOOK) and process:
                    time.sleep(LOOK)  # the script's end does not end the command
        held.job.say(f"agent-run: the abort callback was not done after {most:g} s")
    finally:
        if process:
            _end(process)


def _is_over(held: Held, had_command: bool) -> bool:
    """Whether no callback has to be waited for (any longer); not while the server is away."""
    from agentpipe.claim import runtime
    try:
        keys = runtime.read(held.api.once(), held.id)
        return seconds_wanted(keys) is None or (had_command and keys.get(TIMEOUT) == _command_timeout())
    except (errors.ApiError, errors.Failure):
        return False


def _tell_completed(held: Held, status: int) -> None:
    """The command is done; a callback that the script registered later is waited for all the same."""
    if status:
        held.job.say(f"agent-run: the abort callback's command ended with {status}")
    from agentpipe.claim import runtime
    try:
        api = held.api.once()
        if runtime.read(api, held.id).get(TIMEOUT) == _command_timeout():
            runtime.merge(api, held.id, held.claim.token or "", {COMPLETED: "1"})
    except (errors.ApiError, errors.Failure):
        pass  # then the script ends when the time is over


def _started(held: Held, command: str) -> subprocess.Popen[bytes] | None:
    import shlex
    import subprocess

    from agentpipe.run import launch
    directory = held.claim.directory
    try:
        argv = shlex.split(command)
        begin = launch.of(held.manifest, directory, {})
        prefix = held.job.prefix
        if prefix:
            argv = [*prefix, "sh", "-c", IN_PLACE, "sh", directory, begin.cwd, *argv]
        return subprocess.Popen(argv, cwd=None if prefix else begin.cwd, env=launch.own() if prefix else begin.env,
                                stdin=subprocess.DEVNULL, stdout=held.job.log, stderr=held.job.log,
                                start_new_session=True)
    except (OSError, ValueError, errors.Failure) as error:
        held.job.say(f"agent-run: {COMMAND}: {error}")
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    import signal
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    process.wait()


def _command_timeout() -> str:
    """In seconds, as text: so the peer registers it, and so it is known from what a script registers (a number)."""
    try:
        return str(int(os.environ.get(COMMAND_TIMEOUT, "").strip() or 180))
    except ValueError:
        return "180"


def _longest() -> float:
    try:
        return config.number(*config.ABORT_CALLBACK)
    except errors.Failure:  # agent-pull refuses it; what runs all the same has to end
        return config.ABORT_CALLBACK[1]
