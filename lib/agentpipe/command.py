"""What every command shares: a start without imports, signals in one place, lines in, an exit code and a word out.

Nothing may be imported above what an empty pipeline needs: most runs of a stage find no work.
"""

import os
import sys

from agentpipe.signals import EXITS, SIGNALS

CHUNK = 1 << 16


class Input:
    """Lines from a descriptor, as they come. Told to stop, it gives back the tasks of the lines that it still has."""

    def __init__(self, fd=0, source="standard input"):
        self._fd, self._source = fd, source
        self._parts = []  # what is read and not yet a line; never joined for nothing (a diff may have 50 MB)
        self._lines = []
        self.on_wait = None  # what to do once before the first read
        self.printed = False  # whether a line has gone out: then nobody waits for a word of ours

    def __iter__(self):
        return self

    def __next__(self):
        """The next line that is not blank, without its newline."""
        while True:
            signum = SIGNALS.told_to_stop()
            if signum:
                self._stop(signum)
            if self._lines:
                line = self._lines.pop(0)
            elif not self.fill():
                line, self._parts = b"".join(self._parts), []
                if not line.strip():
                    raise StopIteration
            else:
                continue
            if line.strip():
                return line

    def fill(self):
        """Read once more; False at the end. A signal while waiting ends the process's work (errors.Interrupted)."""
        from agentpipe import errors
        if self.on_wait:
            self.on_wait()
            self.on_wait = None
        try:
            with SIGNALS.open():
                chunk = os.read(self._fd, CHUNK)
        except errors.Interrupted as told:
            self._stop(told.signum)
        except OSError as error:
            failure = errors.Failure(f"{self._source}: {error.strerror}", errors.BAD_DATA)
            failure.ends_input = True
            raise failure from None
        self._add(chunk)
        return bool(chunk)

    def _add(self, chunk):
        head, newline, rest = chunk.rpartition(b"\n")
        if newline:
            self._lines += (b"".join(self._parts) + head).split(b"\n")
            self._parts = [rest] if rest else []
        elif chunk:
            self._parts.append(chunk)

    def _stop(self, signum):
        """Read on for up to a second: what was on its way here goes back to its queue."""
        import select
        import time

        from agentpipe import errors, stages
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        until = time.monotonic() + 1
        while not self._lines and poll.poll(max(0, int((until - time.monotonic()) * 1000))):
            chunk = os.read(self._fd, CHUNK)
            if not chunk:
                break
            self._add(chunk)
        for line in self._lines:
            stages.give_back_line(line)
        SIGNALS.forget()
        error = errors.Interrupted(signum)
        error.silent = self.printed
        raise error


def entry(name, declared, doc, examples, each, common=True):
    """A filter's main(): read the options, then call each(line, values) -> exit code for every line; exit.

    `declared()` gives the command's own options (options.py); with `common` the file argument and --dry-run, --schema,
    --verbose and --quiet are added. Without arguments and input nothing but this file is imported.
    """
    argv = sys.argv[1:]
    keep_places()
    SIGNALS.install()
    stdin = Input()
    stdin.on_wait = lambda: warm_up(name)

    def work():
        if not argv and not os.isatty(0) and not stdin.fill():
            return 0
        return _filter(name, declared, doc, examples, each, argv, stdin, common)

    sys.exit(_guarded(name, work))


def keep_places():
    """Where a standard stream is closed, take its number with what it cannot be used for: else the next file or
    connection got it, and a manifest were written there."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if fd else os.O_WRONLY)


def warm_up(name):
    """Import what `name` will need if its input keeps it waiting."""
    from agentpipe import warm
    warm.up_while_waiting(name, 0)


def stage(name, work, declared, doc, examples, key=""):
    """The main() of a stage that is a filter: work(job) gives the value of its key."""
    def steps(held):
        from agentpipe import stages
        stages.step(held, name, key or name, work)
    composed(name, steps, declared, doc, examples)


def composed(name, steps, declared, doc, examples):
    """The same for a stage that consists of several: steps(held) calls held.step() for each."""
    def each(line, values):
        from agentpipe import stages  # an empty pipeline has no use for it
        return stages.each(name, steps, line, values)
    entry(f"agent-{name}", declared, doc, examples, each)


def plain(name, work):
    """A main() for commands that are no filters: work() -> exit code, under the same signals and errors."""
    keep_places()
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
    say(f"{name}: {failure}")
    if line and not os.isatty(1):
        from agentpipe import manifest
        try:
            put(manifest.write(manifest.failure(failure, name.removeprefix("agent-"))))
        except OSError:  # nobody reads it: the exit code has to do
            pass
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


def old_names():
    """ClearML's variables had other names once: TRAINS_X is read where there is no CLEARML_X."""
    for name in [name for name in os.environ if name.startswith("TRAINS_")]:
        os.environ.setdefault("CLEARML_" + name[7:], os.environ[name])


def combined(codes):
    """The exit code of several lines: 0 if all succeeded, that of the only one, else 123 (as xargs)."""
    if not any(codes):
        return 0
    return codes[0] if len(codes) == 1 else 123


def _filter(name, declared, doc, examples, each, argv, stdin, common):
    from agentpipe import errors, options
    values = options.read(name, [*declared(), *(common_options() if common else [])], argv, doc, examples)
    if values.get("schema"):
        from agentpipe import manifest
        put(manifest.schema().encode())
        return 0
    codes = []
    for file in values.get("file") or ["-"]:
        try:
            lines = stdin if file == "-" else Input(_opened(file), file)
        except errors.Failure as failure:
            codes.append(tell(name, failure))
            continue
        if file == "-" and os.isatty(0):
            say(f"{name}: waiting for a manifest, one JSON object a line (Ctrl-D ends; {name} --help)")
        _each_line(name, lines, each, values, codes)
        stdin.printed = stdin.printed or bool(codes)
    return combined(codes)


def _each_line(name, lines, each, values, codes):
    """Do them one by one; what goes wrong with one line does not keep later ones from being done."""
    from agentpipe import errors
    while True:
        try:
            line = next(lines, None)
            if line is None:
                return
            codes.append(each(line, values))
        except (errors.Failure, errors.ApiError) as error:
            codes.append(tell(name, as_failure(name, error)))
            if isinstance(error, errors.Failure) and error.ends_input:
                return
        lines.printed = True


def as_failure(name, error):
    """What a person is told, and the exit code, for any error."""
    from agentpipe import errors
    if isinstance(error, errors.Failure):
        return error
    # agent-run exits as the script did, and 70 could be the script's
    code = 125 if name == "agent-run" else errors.BUG
    if isinstance(error, errors.ApiError):
        return errors.refused(error, code)
    return errors.Failure(f"a bug of ours: {type(error).__name__}: {error}", code,
                          remedy="set AGENT_DEBUG=1, and report what it prints")


def _opened(file):
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        from agentpipe import errors
        raise errors.Failure(f"{file}: {error.strerror}", errors.NOT_FOUND) from None


def _stopped(name, told):
    from agentpipe import errors
    code = EXITS[told.signum]
    if not told.silent and not os.isatty(1):
        from agentpipe import manifest
        failure = errors.Failure("told to stop", code)
        try:
            put(manifest.write(manifest.failure(failure, name.removeprefix("agent-"))))
        except OSError:
            pass
    return code


def _guarded(name, work):
    """work()'s exit code; every error as one line and a code, without a traceback (AGENT_DEBUG=1 shows it)."""
    old_names()
    try:
        return work()
    except BaseException as error:
        from agentpipe import errors
        if isinstance(error, errors.Interrupted):
            return _stopped(name, error)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more to say, also not at exit
            return 141
        if not isinstance(error, Exception) or (os.environ.get("AGENT_DEBUG")
                                                and not isinstance(error, (errors.Failure, errors.ApiError))):
            raise
        return tell(name, as_failure(name, error))
