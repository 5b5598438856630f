"""What every command shares: a start without imports, signals in one place, lines in, an exit code and a word out.

Nothing may be imported above what an empty pipeline needs: most runs of a stage find no work.
"""

import _signal
import os
import sys

# until the handlers below stand, Ctrl-C simply ends us: no traceback out of an import
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)

SIGNAL_EXITS = {_signal.SIGINT: 130, _signal.SIGTERM: 75, _signal.SIGHUP: 129}
CHUNK = 1 << 16


class Signals:
    """INT, TERM and HUP as one exception in the main thread, and USR1 for what the reporting thread has seen.

    While `deferred` they wait, so that no claim is half handed over.
    """

    def __init__(self) -> None:
        self._deferred = 0
        self._waiting: list[int] = []
        self.abort: object = None  # what the reporting thread saw, before it raises USR1

    def install(self) -> None:
        """Handle them from now on."""
        for signum in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1):
            if _signal.getsignal(signum) != _signal.SIG_IGN or signum == _signal.SIGUSR1:  # nohup stays nohup
                _signal.signal(signum, self._arrived)

    def __enter__(self) -> "Signals":
        self._deferred += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._deferred -= 1
        if self._waiting and not self._deferred:
            self._raise(self._waiting.pop())

    def forget(self) -> None:
        """Drop what has waited: it has been acted upon."""
        self._waiting.clear()

    def aborted(self, abort: object) -> None:
        """Called by the reporting thread: interrupt the main thread with errors.Aborted."""
        self.abort = abort
        os.kill(os.getpid(), _signal.SIGUSR1)

    def _arrived(self, signum: int, _frame: object) -> None:
        if self._deferred:
            self._waiting.append(signum)
        else:
            self._raise(signum)

    def _raise(self, signum: int) -> None:
        from agentpipe import errors
        if signum == _signal.SIGUSR1:
            raise errors.Aborted(self.abort)
        raise errors.Interrupted(signum)


SIGNALS = Signals()


def entry(name, declared, doc, examples, each, common=True):
    """A filter's main(): read the options, then call each(line, values) -> exit code for every line; exit.

    `declared()` gives the command's own options (options.py); with `common` the file argument and --dry-run, --schema,
    --verbose and --quiet are added. Without arguments and input nothing but this file is imported.
    """
    argv = sys.argv[1:]
    first = None
    if not argv and not os.isatty(0):
        first = _read_early(name)
        if first == b"":
            sys.exit(0)
    sys.exit(_guarded(name, lambda: _filter(name, declared, doc, examples, each, argv, first, common)))


def stage(name, work, declared, doc, examples, key=""):
    """The main() of a stage that is a filter: work(job) gives the value of its key."""
    composed(name, lambda held: held.step(name, key or name, work), declared, doc, examples)


def composed(name, steps, declared, doc, examples):
    """The same for a stage that consists of several: steps(held) calls held.step() for each."""
    def each(line, values):
        from agentpipe import stages  # an empty pipeline has no use for it
        return stages.each(name, steps, line, values)
    entry(f"agent-{name}", declared, doc, examples, each)


def plain(name, work):
    """A main() for commands that are no filters: work() -> exit code, under the same signals and errors."""
    SIGNALS.install()
    sys.exit(_guarded(name, work))


def common_options(dry_run=True):
    """The options of every stage."""
    from agentpipe.options import Argument, Flag
    return [
        Argument("FILE", "Manifests, one JSON object a line; - or nothing is standard input.", many=True),
        *([Flag("--dry-run", "Say what would be done; change nothing.")] if dry_run else []),
        Flag("--schema", "Print the JSON Schema of the manifest and exit."),
        Flag("--verbose", "Show the set-up log on standard error, also when that is no terminal.", "-v"),
        Flag("--quiet", "Show nothing but errors.", "-q"),
    ]


def tell(name, failure, line=True):
    """One line on stderr; and where a later stage reads our stdout, a `failed` line without a task."""
    say(f"{name}: {failure.reason}" + (f" ({failure.remedy})" if failure.remedy else ""))
    if line and not os.isatty(1):
        from agentpipe import manifest
        put(manifest.write(manifest.failure(failure, name.removeprefix("agent-"))))
    return failure.exit


def say(text):
    """One line for people; a stderr that is gone is no error."""
    try:
        os.write(2, (text.rstrip("\n") + "\n").encode("utf-8", "replace"))
    except OSError:
        pass


def put(data):
    """All of `data` to stdout, unbuffered: a line is out when this returns. A reader that is gone: BrokenPipeError."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]


def combined(codes):
    """The exit code of several lines: 0 if all succeeded, that of the only one, else 123 (as xargs)."""
    if not any(codes):
        return 0
    return codes[0] if len(codes) == 1 else 123


def _filter(name, declared, doc, examples, each, argv, first, common):
    from agentpipe import options
    values = options.read(name, [*declared(), *(common_options() if common else [])], argv, doc, examples)
    if values.get("schema"):
        from agentpipe import manifest
        put(manifest.schema().encode())
        return 0
    files = values.get("file") or ["-"]
    codes = []
    for file in files:
        for line in _lines(name, file, first):
            codes.append(each(line, values))
        first = None
    return combined(codes)


def _lines(name, file, first):
    if file != "-":
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            from agentpipe import errors
            raise errors.Failure(f"{file}: {error.strerror}", errors.NOT_FOUND) from None
    else:
        fd = 0
        if os.isatty(0):
            say(f"{name}: waiting for a manifest, one JSON object a line (Ctrl-D ends; {name} --help)")
    SIGNALS.install()
    rest = first or b""
    parts = [rest]
    while True:
        newline = parts[-1].find(b"\n")
        if newline >= 0:
            whole = b"".join(parts)
            line, _, rest = whole.partition(b"\n")
            parts = [rest]
            if line.strip():
                yield line
            continue
        chunk = _read(fd)
        if not chunk:
            break
        parts.append(chunk)
    last = b"".join(parts)
    if last.strip():
        yield last


def _read(fd):
    """More input; told to stop while waiting for it, read on for up to a second and give back what comes."""
    from agentpipe import errors
    try:
        return os.read(fd, CHUNK)
    except errors.Interrupted as told:
        _give_back_what_comes(fd)
        raise told


def _give_back_what_comes(fd):
    import select
    import time

    from agentpipe import stages
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    until = time.monotonic() + 1
    data = b""
    with SIGNALS:
        while not data.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(int(left * 1000)):
                break
            chunk = os.read(fd, CHUNK)
            if not chunk:
                break
            data += chunk
        for line in data.splitlines():
            stages.give_back_line(line)
        SIGNALS.forget()


def _read_early(name):
    """The first bytes of stdin, before any import; b"" is the end."""
    SIGNALS.install()
    from agentpipe import errors
    try:
        return _read(0)
    except errors.Interrupted as told:
        sys.exit(_stopped(name, told))


def _stopped(name, told):
    from agentpipe import errors
    code = SIGNAL_EXITS[told.signum]
    failure = errors.Failure("told to stop", code)
    if not os.isatty(1):
        from agentpipe import manifest
        try:
            put(manifest.write(manifest.failure(failure, name.removeprefix("agent-"))))
        except BrokenPipeError:
            pass
    return code


def _guarded(name, work):
    """work()'s exit code; every error as one line and a code, without a traceback (AGENT_DEBUG=1 shows it)."""
    from agentpipe import errors
    try:
        return work()
    except errors.Interrupted as told:
        return _stopped(name, told)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more to say, also not at exit
        return 141
    except errors.ApiError as error:
        return tell(name, errors.refused(error))
    except errors.Failure as failure:
        return tell(name, failure)
    except Exception as error:
        if os.environ.get("AGENT_DEBUG"):
            raise
        return tell(name, errors.Failure(f"a bug of ours: {type(error).__name__}: {error}", errors.BUG,
                                         remedy="set AGENT_DEBUG=1, and report what it prints"))
