"""Other people's programs: run to their end, streamed where a person waits, and never left behind."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

from agentpipe import errors
from agentpipe.signals import SIGNALS


class ToolFailed(errors.Failure):
    """A program ended with `status` (negative: a signal; None: it ran out of time); `output` is what it printed."""

    def __init__(self, argv: list[str], status: int | None, output: str, exit: int = errors.BUG) -> None:
        how = "ran out of time" if status is None else f"ended with {status}"
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        super().__init__(f"{os.path.basename(argv[0])} {how}" + (f": {last.strip()}" if last else ""), exit,
                         evidence=output[-4000:])
        self.argv = argv
        self.status = status
        self.output = output


def run(argv: list[str], sink: Callable[[str], None] | None = None, *, cwd: str | None = None,
        env: Mapping[str, str] | None = None, timeout: float | None = None, check: bool = True,
        stdin: bytes = b"", stderr: int = subprocess.PIPE) -> str:
    """Run `argv` to its end and give its stdout; `env` is the whole environment (default: ours).

    `sink` gets stdout and stderr together as they come, in pieces that may end within a line, and both are what is
    given back. Without it nothing is shown; `stderr` may be a descriptor that gets that stream. A missing program
    raises Failure 69, a non-zero status ToolFailed (unless `check` is false). The program runs in a session of its
    own (no terminal to ask at), which is killed when an exception (a signal to us) passes.
    """
    if sink:
        return _stream(argv, sink, cwd=cwd, env=env, timeout=timeout, check=check, stdin=stdin)
    process = None
    try:
        with SIGNALS.closed():  # a signal in the midst of a start would leave a program that nobody knows
            process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=stderr, start_new_session=True)
        out, err = process.communicate(stdin or None, timeout=timeout)
    except FileNotFoundError as error:
        raise _missing(argv, error) from None
    except subprocess.TimeoutExpired:
        assert process is not None
        _kill_group(process.pid)
        out, err = process.communicate()
        raise ToolFailed(argv, None, ((err or b"") + out).decode("utf-8", "replace")) from None
    except BaseException:
        if process is not None:
            _kill_group(process.pid)
            process.wait()
        raise
    if check and process.returncode:
        raise ToolFailed(argv, process.returncode, ((err or b"") + out).decode("utf-8", "replace"))
    return out.decode("utf-8", "surrogateescape")


def _stream(argv: list[str], sink: Callable[[str], None], *, cwd: str | None, env: Mapping[str, str] | None,
            timeout: float | None, check: bool, stdin: bytes) -> str:
    import codecs

    import sh
    try:
        program = sh.Command(argv[0])
    except sh.CommandNotFound as error:
        raise _missing(argv, error) from None
    # a pipe of our own: sh's readers come a tenth of a second late to a program's end
    reader, writer = os.pipe()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    said: list[str] = []
    until = None if timeout is None else time.monotonic() + timeout
    status: int | None = None
    process: sh.RunningCommand | None = None
    try:
        with SIGNALS.closed():
            try:
                process = program(*argv[1:], _out=writer, _err_to_out=True, _in=stdin or None, _cwd=cwd,
                                  _new_session=True, _env=dict(os.environ if env is None else env), _bg=True,
                                  _bg_exc=False, _return_cmd=True)
            finally:
                os.close(writer)
        while (chunk := _read(reader, until)) is not None and chunk:
            said.append(decoder.decode(chunk))
            sink(said[-1])
        if chunk is None:
            _kill_group(process.pid)
        else:
            process.wait()
            status = 0
    except sh.ErrorReturnCode as error:
        status = error.exit_code
    except BaseException:
        if process is not None:
            _kill_group(process.pid)
        raise
    finally:
        os.close(reader)
    if check and status != 0:
        raise ToolFailed(argv, status, "".join(said))
    return "".join(said)


def _read(fd: int, until: float | None) -> bytes | None:
    """What is there to read, b"" at the end; None when the time is over."""
    if until is not None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0, int((until - time.monotonic()) * 1000))):
            return None
    return os.read(fd, 1 << 16)


def _missing(argv: list[str], error: Exception) -> errors.Failure:
    return errors.Failure(f"{argv[0]} is not installed", errors.UNAVAILABLE, evidence=str(error),
                          remedy=f"install {os.path.basename(argv[0])}, or put it on PATH")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
