"""Other people's programs: run to their end, streamed where a person waits, and never left behind."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping

from agentpipe import errors


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
        stdin: bytes = b"") -> str:
    """Run `argv` to its end and give its stdout; `env` is the whole environment (default: ours).

    `sink` gets stdout and stderr together as they come, a line or a step of a progress bar at a time, and both are
    what is given back (sh does the streaming). Without it nothing is shown. A missing program raises
    Failure 69, a non-zero status ToolFailed (unless `check` is false). The program runs in a session of its own (no
    terminal to ask at), which is killed when an exception (a signal to us) passes.
    """
    if sink:
        return _stream(argv, sink, cwd=cwd, env=env, timeout=timeout, check=check, stdin=stdin)
    try:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except FileNotFoundError as error:
        raise _missing(argv, error) from None
    try:
        out, err = process.communicate(stdin or None, timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)
        out, err = process.communicate()
        raise ToolFailed(argv, None, (err + out).decode("utf-8", "replace")) from None
    except BaseException:
        _kill_group(process.pid)
        process.wait()
        raise
    if check and process.returncode:
        raise ToolFailed(argv, process.returncode, (err + out).decode("utf-8", "replace"))
    return out.decode("utf-8", "surrogateescape")


def _stream(argv: list[str], sink: Callable[[str], None], *, cwd: str | None, env: Mapping[str, str] | None,
            timeout: float | None, check: bool, stdin: bytes) -> str:
    import codecs

    import sh
    lines: list[str] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pending: list[str] = []

    def receive(chunk: str) -> None:
        # sh hands over single bytes when it does not buffer; latin-1 gives them back, whole characters follow
        pending.append(decoder.decode(chunk.encode("latin-1")))
        if chunk in "\r\n":
            flush()

    def flush() -> None:
        text = "".join(pending)
        pending.clear()
        if text:
            lines.append(text)
            sink(text)

    try:
        command = sh.Command(argv[0])
    except sh.CommandNotFound as error:
        raise _missing(argv, error) from None
    process = command(*argv[1:], _out=receive, _err_to_out=True, _out_bufsize=0, _no_out=True, _tty_out=False,
                      _encoding="latin-1", _in=stdin or None, _cwd=cwd, _timeout=timeout, _new_session=True,
                      _env=dict(os.environ if env is None else env), _bg=True, _bg_exc=False, _return_cmd=True)
    status: int | None
    try:
        process.wait()
        status = 0
    except sh.TimeoutException:
        _kill_group(process.pid)
        status = None
    except sh.ErrorReturnCode as error:
        status = error.exit_code
    except BaseException:
        _kill_group(process.pid)
        raise
    flush()
    if check and status != 0:
        raise ToolFailed(argv, status, "".join(lines[-200:]))
    return "".join(lines)


def _missing(argv: list[str], error: Exception) -> errors.Failure:
    return errors.Failure(f"{argv[0]} is not installed", errors.UNAVAILABLE, evidence=str(error),
                          remedy=f"install {os.path.basename(argv[0])}, or put it on PATH")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
