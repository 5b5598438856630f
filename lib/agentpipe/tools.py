"""Other people's programs: run to their end, streamed where a person waits, and never left behind."""

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping

from agentpipe import cells, errors
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.streamed import Still

# how long what a program has left behind may keep its output open (s); looked at twice
LINGER = 0.5
MOST = 1 << 30  # bytes that a program may print when nobody has said otherwise
FULL = ("No space left on device", "Disk quota exceeded")  # as the C library says it
NO_ROOM = (*FULL, "Read-only file system")
OURS = ("git", "uv", "sh")  # without which no task can be set up


def ended(status: int) -> str:
    """How a program ended, in words; negative: by a signal."""
    if status >= 0:
        return f"ended with {status}"
    try:
        name = signal.Signals(-status).name.removeprefix("SIG")
    except ValueError:  # one of the real-time signals
        return f"was killed by signal {-status}"
    return f"was killed by signal {-status} ({name})"


def last_line(output: str) -> str:
    """The last line that a program has printed with something in it, without its colours."""
    plain = cells.COLOUR.sub("", output)
    return next((line.strip() for line in reversed(plain.splitlines()) if line.strip()), "")


class ToolFailed(errors.Failure):
    """A program ended with `status` (negative: a signal; None: it ran out of time); `output` is what it printed.

    `still`: it was ended since it had done nothing at all for so many seconds.
    """

    def __init__(self, argv: list[str], status: int | None, output: str, exit: int = errors.BUG,
                 still: float | None = None) -> None:
        how = f"ended with {status}"
        if status is None:
            how = "ran out of time" if still is None else f"was still for {still:g} s"
        last = last_line(output)
        super().__init__(f"{os.path.basename(argv[0])} {how}" + (f": {last}" if last else ""), exit,
                         evidence=output[-4000:])
        self.argv = argv
        self.status = status
        self.output = output
        self.still = still


def out_of_room(failed: ToolFailed) -> errors.Failure | None:
    """The Failure 73 of a program that nobody could say more about than that a disk took nothing; else None."""
    said = next((line for line in failed.output.splitlines() if any(word in line for word in NO_ROOM)), None)
    if said is None:
        return None
    return errors.Failure(f"{os.path.basename(failed.argv[0])}: {said.strip()}", errors.CANNOT_CREATE, failed.evidence,
                          "make room there (df -h), or set AGENT_HOME")


class TooMuch(Exception):
    """A program printed more than was to be kept."""


def run(argv: list[str], sink: Callable[[str], None] | None = None, *, cwd: str | None = None,
        env: Mapping[str, str] | None = None, timeout: float | None = None, check: bool = True,
        stdin: bytes = b"", stderr: int = subprocess.PIPE, most: int | None = None,
        silence: float | None = None) -> str:
    """Run `argv` to its end and give its stdout; `env` is the whole environment (default: ours).

    `sink` gets stdout and stderr together as they come, in pieces that may end within a line, and both are what is
    given back (of much the begin and the end); with it, `silence` is for how many seconds the program may neither print
    nor read, write or compute: it waits for somebody who says nothing any more. Without it nothing is shown; `stderr`
    may be a descriptor that gets that stream, and more than `most` bytes of both are TooMuch. A missing program raises
    Failure 69, one that may not be executed 77, a missing `cwd` 66, a non-zero status ToolFailed (unless `check` is
    false), of git whose configuration is broken Failure 78. The program runs in a session of its own (no terminal to
    ask at), which is killed when an exception (a signal to us) passes. Its end is the end: what it left behind with its
    output open (a master of ssh) is not waited for.
    """
    if cwd is not None and not os.path.isdir(cwd):
        raise errors.Failure(f"there is no directory {cwd} to run {argv[0]} in", errors.NOT_FOUND)
    if sink:
        until = None if timeout is None else time.monotonic() + timeout
        return _stream(argv, sink, cwd=cwd, env=env, until=until, check=check, stdin=stdin, silence=silence)
    status, out, err = answer(argv, cwd=cwd, env=env, timeout=timeout, stdin=stdin, stderr=stderr, most=most)
    if status is None or (check and status):
        raise _failed(argv, status, (err + out).decode("utf-8", "replace"), env)
    return out.decode("utf-8", "surrogateescape")


def answer(argv: list[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None,
           timeout: float | None = None, stdin: bytes = b"", stderr: int = subprocess.PIPE,
           most: int | None = None) -> tuple[int | None, bytes, bytes]:
    """As run() without a sink, whatever the status: that (None: it ran out of time), its stdout, its stderr."""
    until = None if timeout is None else time.monotonic() + timeout
    process = None
    try:
        with SIGNALS.closed():  # a signal in the midst of a start would leave a program that nobody knows
            process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=stderr, start_new_session=True)
        in_time, out, err = communicate(process, stdin, until, MOST if most is None else most)
    except OSError as error:
        if process is None:
            raise cannot_start(argv, error) from None
        raise
    except BaseException as error:
        if process is not None:
            _kill_group(process.pid)
            process.wait()
        if isinstance(error, TooMuch) and most is None:
            raise errors.Failure(f"{os.path.basename(argv[0])}: {error}", errors.BAD_DATA) from None
        raise
    return process.returncode if in_time else None, out, err


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write all of it from a thread; one that is never read dies with us."""
    import threading
    pipe = process.stdin
    process.stdin = None  # not communicate()'s, which cannot go on with input once it has timed out

    def write() -> None:
        try:
            with pipe:  # type: ignore[union-attr]
                pipe.write(data)  # type: ignore[union-attr]
        except OSError:  # the program had enough
            pass
    threading.Thread(target=write, daemon=True).start()


def communicate(process: subprocess.Popen[bytes], stdin: bytes, until: float | None,
                most: int | None = None) -> tuple[bool, bytes, bytes]:
    """(whether it ended before `until`, a time.monotonic(), its stdout, its stderr); else its session is killed.

    Not waited for is what it has left behind with its output open. More than `most` bytes are TooMuch, at once.
    """
    if stdin:
        _feed(process, stdin)
    streams = {stream.fileno(): (stream, list[bytes]()) for stream in (process.stdout, process.stderr) if stream}
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    left, room, in_time, ended = set(streams), most, True, False
    while left or process.poll() is None:
        look = time.monotonic() + _slice(until if in_time else None)
        while left and (ready := poll.poll(max(0, int((look - time.monotonic()) * 1000)))):
            for fd, _ in ready:
                data = os.read(fd, 1 << 16)
                streams[fd][1].append(data)
                if not data:
                    poll.unregister(fd)
                    left.discard(fd)
                if room is not None and (room := room - len(data)) < 0:
                    raise TooMuch(f"it printed more than {most} bytes")
            if time.monotonic() >= look:
                break
        if not left and _waited(process, look):
            break
        if ended:  # already before this slice: all that it wrote has been read
            break
        ended = process.poll() is not None
        if not ended and in_time and until is not None and time.monotonic() >= until:
            _kill_group(process.pid)
            in_time = False
    out, err = (b"".join(streams[stream.fileno()][1]) if stream else b"" for stream in (process.stdout, process.stderr))
    for stream, _ in streams.values():
        stream.close()
    return in_time, out, err


def _waited(process: subprocess.Popen[bytes], until: float) -> bool:
    try:
        process.wait(max(0.0, until - time.monotonic()))
        return True
    except subprocess.TimeoutExpired:
        return False


def _stream(argv: list[str], sink: Callable[[str], None], *, cwd: str | None, env: Mapping[str, str] | None,
            until: float | None, check: bool, stdin: bytes, silence: float | None) -> str:
    import codecs

    import sh

    from agentpipe.streamed import Said, Still
    try:
        program = sh.Command(argv[0])
    except sh.CommandNotFound as error:
        raise cannot_start(argv, error) from None
    # a pipe of our own: sh's readers come a tenth of a second late to a program's end
    reader, writer = os.pipe()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    said = Said()
    status: int | None = None
    process: sh.RunningCommand | None = None
    still: Still | None = None
    try:
        with SIGNALS.closed():
            try:
                process = program(*argv[1:], _out=writer, _err_to_out=True, _in=stdin or None, _cwd=cwd,
                                  _new_session=True, _preexec_fn=default_signals, _bg=True,
                                  _env=dict(os.environ if env is None else env),
                                  _bg_exc=False, _return_cmd=True)
            finally:
                os.close(writer)
        still = Still(process.pid, silence) if silence else None
        while (chunk := _read(reader, until, process.is_alive, still)) is not None and chunk:
            text = decoder.decode(chunk)
            said.add(text)
            sink(text)
        if chunk is None:
            _kill_group(process.pid)
        else:
            process.wait()
            status = 0
    except sh.ErrorReturnCode as error:
        status = error.exit_code
    except sh.ForkException as error:
        raise cannot_start(argv, error) from None
    except BaseException:
        if process is not None:
            _kill_group(process.pid)
        raise
    finally:
        os.close(reader)
    if status is None or (check and status):
        raise _failed(argv, status, said.text(), env, silence if still and still.over else None)
    return said.text()


def _failed(argv: list[str], status: int | None, output: str, env: Mapping[str, str] | None,
            still: float | None = None) -> errors.Failure:
    """ToolFailed; Failure 78 where git speaks of this machine's configuration, before anybody reads more into it."""
    if os.path.basename(argv[0]) == "git" and argv[1:2] != ["config"]:
        from agentpipe import git_config
        return git_config.broken(output, env) or ToolFailed(argv, status, output, still=still)
    return ToolFailed(argv, status, output, still=still)


def default_signals() -> None:
    """What Python ignores, programs must not (subprocess sees to that itself): `yes | head` would go on for ever."""
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)


def _read(fd: int, until: float | None, alive: Callable[[], bool], still: "Still | None") -> bytes | None:
    """What is there to read; b"" at the end, or when its writer is gone for a while; None when the time is over, or
    when it is `still` for too long."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ended = False
    while True:
        if poll.poll(int(_slice(until) * 1000)):
            if still:
                still.printed()
            return os.read(fd, 1 << 16)
        if ended:
            return b""
        ended = not alive()
        if not ended and ((until is not None and time.monotonic() >= until) or (still and still())):
            return None


def _slice(until: float | None) -> float:
    return LINGER if until is None else max(0.0, min(LINGER, until - time.monotonic()))


def cannot_start(argv: list[str], error: Exception) -> errors.Failure:
    """Why the program argv[0] was not started: 77 when it may not be executed, else 69; of OURS the machine's fault."""
    failure = _not_started(argv, error)
    failure.of_machine = os.path.basename(argv[0]) in OURS
    return failure


def _not_started(argv: list[str], error: Exception) -> errors.Failure:
    name = os.path.basename(argv[0])
    import re
    # sh gives a child's exception as a text that ends in what it said, after a traceback
    said = str(error).rstrip().rpartition("\n")[2].strip()
    told = re.search(r"\[Errno (\d+)\]", said)
    number = int(told[1]) if told else None
    if number == errno.EACCES or ("/" in argv[0] and os.path.exists(argv[0]) and not os.access(argv[0], os.X_OK)):
        return errors.Failure(f"{argv[0]} may not be executed here", errors.NO_PERMISSION, said,
                              f"ls -l {argv[0]}" if "/" in argv[0] else f"type -a {name}; or put another on PATH")
    if number not in (None, errno.ENOENT, errno.ENOTDIR):
        return errors.Failure(f"cannot start {argv[0]}: {os.strerror(number)}", errors.UNAVAILABLE, said)
    return errors.Failure(f"{argv[0]} is not installed", errors.UNAVAILABLE, evidence=said,
                          remedy=f"install {name}, or put it on PATH")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def search_path() -> str:
    """PATH without the programs of the virtual environment that we are installed in.

    They are no task's: what it installs with their pip would change us, and be there for the next task; and where a
    place shows their folder, their Python would be taken for the image's own.
    """
    import sys
    ours = os.path.realpath(f"{sys.prefix}/bin") if sys.prefix != sys.base_prefix else None
    kept = [each for each in (os.environ.get("PATH") or os.defpath).split(os.pathsep)
            if os.path.realpath(each) != ours]
    return os.pathsep.join(kept) or os.defpath


def uv() -> str:
    """The uv of our own environment, else the one on PATH."""
    import shutil
    import sysconfig
    own = os.path.join(sysconfig.get_path("scripts"), "uv")
    if os.access(own, os.X_OK):
        return own
    found = shutil.which("uv")
    if found is None:
        raise errors.OfMachine("uv is not installed", remedy="install it beside agentpipe: pip install uv")
    return found
