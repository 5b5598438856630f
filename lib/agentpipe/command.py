"""What every command shares: a start without imports, signals in one place, lines in, an exit code and a word out.

Nothing may be imported above what an empty pipeline needs: most runs of a stage find no work.
"""

import os
import stat
import sys

from agentpipe.signals import EXITS, SIGNALS

CHUNK = 1 << 16
PIECE = 4096  # PIPE_BUF
CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")
LONGEST = 256 << 20  # bytes of a line; the diff in one may have some 50 MB


class Input:
    """Lines from a descriptor, as they come. Told to stop, it gives back the tasks of the lines that it still has."""

    def __init__(self, fd=0, source="standard input"):
        self._fd, self._source = fd, source
        self._parts = []  # what is read and not yet a line; never joined for nothing (a diff may have 50 MB)
        self._size = None  # bytes of that; nothing is read yet
        self._lines = []
        self.on_wait = None  # what to do once before the first read
        self.printed = False  # whether a line has gone out: then nobody waits for a word of ours
        self._given_back = False

    def __iter__(self):
        return self

    def __next__(self):
        """The next line that is not blank, without its newline; none once we are told to stop."""
        while True:
            if SIGNALS.told:
                self._stop(SIGNALS.told, self.printed)
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
        got: list[bytes] = []
        try:
            with SIGNALS.open():
                # kept in the same step: behind read(2) a signal may come, which must not cost us what was read
                try:
                    got.extend(map(os.read, (self._fd,), (CHUNK,)))
                except BlockingIOError:
                    _is_ready(self._fd)
                    got.extend(map(os.read, (self._fd,), (CHUNK,)))
        except errors.Interrupted as told:
            self._add(b"".join(got))
            self._stop(told.signum)
        except OSError as error:
            failure = errors.Failure(f"{self._source}: {error.strerror}", errors.BAD_DATA)
            failure.ends_input = True
            raise failure from None
        chunk = got[0]
        self._refuse_endless(chunk)
        self._add(chunk)
        return bool(chunk)

    def _refuse_endless(self, chunk):
        """Failure 65 for what is no text (/dev/zero, an archive), or a line that memory may not hold."""
        from agentpipe import errors
        what = "holds no text" if self._size is None and b"\0" in chunk else ""
        self._size = len(chunk) - chunk.rfind(b"\n") - 1 if b"\n" in chunk else (self._size or 0) + len(chunk)
        if self._size > LONGEST:
            what = f"has a line of more than {LONGEST >> 20} MiB"
        if what:
            failure = errors.Failure(f"{self._source} {what}: a manifest is one JSON object a line", errors.BAD_DATA)
            failure.ends_input = True
            raise failure

    def _add(self, chunk):
        head, newline, rest = chunk.rpartition(b"\n")
        if newline:
            self._lines += (b"".join(self._parts) + head).split(b"\n")
            self._parts = [rest] if rest else []
        elif chunk:
            self._parts.append(chunk)

    def give_back(self):
        """Told to stop: what is here, or comes within a second, goes back to its queue; how many lines those are."""
        import select
        import time

        from agentpipe import stages
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        until = time.monotonic() + (0 if self._given_back else 1)
        self._given_back = True
        while poll.poll(0 if self._lines else max(0, int((until - time.monotonic()) * 1000))):
            try:
                chunk = os.read(self._fd, CHUNK)
            except OSError:  # EIO of a terminal that has hung up: nothing more comes
                break
            if not chunk:  # the last line may lack its newline
                self._lines, self._parts = [*self._lines, b"".join(self._parts)], []
                break
            self._add(chunk)
        lines, self._lines = [line for line in self._lines if line.strip()], []
        for line in lines:
            stages.give_back_line(line)
        return len(lines)

    def close(self):
        """Let the descriptor go; the standard input stays."""
        if self._fd:
            os.close(self._fd)

    def _stop(self, signum, is_done=False):
        """Give back what is left, and end; `is_done`: as usual, if that is nothing."""
        from agentpipe import errors
        left = self.give_back()
        SIGNALS.forget()
        if is_done and not left:
            raise StopIteration
        raise errors.Interrupted(signum, self.printed)


def entry(name, declared, doc, examples, each, common=True):
    """A filter's main(): read the options, then call each(line, values) -> exit code for every line; exit.

    `declared()` gives the command's own options (options.py); with `common` the file argument and --dry-run, --schema,
    --verbose and --quiet are added. Without arguments and input nothing but this file is imported.
    """
    argv = sys.argv[1:]
    begin()
    stdin = Input()
    stdin.on_wait = lambda: warm_up(name)

    def work():
        if not argv and not os.isatty(0) and not stdin.fill():
            return 0
        return _filter(name, declared, doc, examples, each, argv, stdin, common)

    leave(_guarded(name, work, True))


def begin(renaming=True):
    """What comes first in every process of ours; with `renaming` old names of variables become new ones."""
    keep_places()
    SIGNALS.install()
    if renaming:
        old_names()


def keep_places():
    """Where a standard stream is closed, take its number with what it cannot be used for: else the next file or
    connection got it, and a manifest were written there. The same for whatever we start or become."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY if fd else os.O_WRONLY), True)


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


def source(name, work):
    """The main() of a pipeline's first command: work() -> exit code, under the same signals and errors."""
    begin()
    leave(_guarded(name, work, True))


def plain(name, work, renaming=True):
    """The main() of a command whose output no stage reads: work() -> exit code, broken off by any signal.

    `renaming` as in begin().
    """
    def opened():
        with SIGNALS.open():
            return work()

    begin(renaming)
    leave(_guarded(name, opened, False))


def leave(code):
    """End this process with that exit code: at once, unless there are other threads.

    To take the interpreter down, object by object, is a sixth of a short command's time, and the kernel does it anyway;
    only the store's file is to be left as whoever copies it expects it. Where rattler was used it must not be done: a
    thread of its runtime that still lets go of a result then asks for the interpreter, and is a segmentation fault in
    place of our exit code (seen in 1 of 30 under load).
    """
    alone = "threading" not in sys.modules or sys.modules["threading"].active_count() == 1
    if "rattler" in sys.modules or alone:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):  # nobody reads it
            if alone:
                sys.exit(code)
        if alone and "agentpipe.server.store" in sys.modules:
            sys.modules["agentpipe.server.store"].close_all()
        os._exit(code or 0)
    sys.exit(code)


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
    """One line on stderr; and where a later stage reads our stdout, a `failed` line without a task.

    The line may stand in the mail of cron or in a journal: programs that it quotes may have printed a secret of ours.
    """
    from agentpipe import redact
    say(redact.known(f"{name}: {failure}"))
    if line:
        _tell_stage(name, failure)
    return failure.exit


def _tell_stage(name, failure):
    if not os.isatty(1):
        from agentpipe import errors, manifest
        end = manifest.LET_GO if isinstance(failure, errors.LetGo) else "setup_failed"
        try:
            put(manifest.write(manifest.failure(failure, name.removeprefix("agent-"), end=end)))
        except (OSError, errors.Interrupted):  # nobody reads it: the exit code has to do
            pass


def say(text):
    """One line for people; a stderr that is gone is no error. What a task holds must not move a terminal's cursor."""
    try:
        os.write(2, (text.rstrip("\n").translate(CONTROLS) + "\n").encode("utf-8", "replace"))
    except OSError:
        pass


def put(data):
    """All of `data` to stdout, unbuffered: a line is out when this returns. A reader that is gone: BrokenPipeError.

    While it takes nothing we are open to signals: errors.Interrupted, and a part may be out that no later word mends.
    """
    from agentpipe import errors
    # what poll(2) calls ready takes so much at once, and no signal finds us in a write
    piece = len(data) if stat.S_ISREG(os.fstat(1).st_mode) else PIECE
    view = memoryview(data)
    while view:
        try:
            if not _is_ready(1, 0):
                with SIGNALS.open():
                    _is_ready(1)
            view = view[os.write(1, view[:piece]):]
        except BlockingIOError:  # whoever shares it (ssh, node) has made it one that does not wait
            continue
        except errors.Interrupted as told:
            told.silent = True
            raise


def _is_ready(fd, patience=None):
    """Whether a descriptor takes (stdout) or has something; waits for that, or for up to `patience` ms."""
    import select
    poll = select.poll()
    poll.register(fd, select.POLLOUT if fd == 1 else select.POLLIN)
    return bool(poll.poll(patience))


def old_names():
    """ClearML's variables had other names once: TRAINS_X is read where there is no CLEARML_X."""
    for name in [name for name in os.environ if name.startswith("TRAINS_")]:
        os.environ.setdefault("CLEARML_" + name[7:], os.environ[name])


def combined(codes):
    """The exit code of several lines: 0 if all succeeded, that of the only one, else 123 (as xargs)."""
    if not any(codes):
        return 0
    from agentpipe import errors
    return codes[0] if len(codes) == 1 else errors.SEVERAL_FAILED


def _filter(name, declared, doc, examples, each, argv, stdin, common):
    from agentpipe import errors, options
    try:
        values = options.read(name, [*declared(), *(common_options() if common else [])], argv, doc, examples)
    except errors.Failure:  # a mistake: what the stage before us hands over meanwhile is not to be lost on us
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            stdin.give_back()
        raise
    if values.get("schema"):
        from agentpipe import manifest
        put(manifest.schema().encode())
        return 0
    codes: list[int] = []
    for file in values.get("file") or ["-"]:
        if codes and SIGNALS.told:  # what was not begun stays with whoever has these files
            raise errors.Interrupted(SIGNALS.told, silent=True)
        try:
            lines = stdin if file == "-" else Input(_opened(file), file)
        except errors.Interrupted as told:
            told.silent = bool(codes)
            raise
        except errors.Failure as failure:
            codes.append(tell(name, failure))
            continue
        if file == "-" and os.isatty(0):
            say(f"{name}: waiting for a manifest, one JSON object a line (Ctrl-D ends; {name} --help)")
        try:
            _each_line(name, lines, each, values, codes)
        finally:
            lines.close()
        stdin.printed = stdin.printed or bool(codes)
    return combined(codes)


def _each_line(name, lines, each, values, codes):
    """Do them one by one; what goes wrong with one line does not keep later ones from being done."""
    from agentpipe import errors
    while True:
        line = None
        try:
            line = next(lines, None)
            if line is None:
                return
            codes.append(each(line, values))
        except errors.Interrupted:
            lines.give_back()
            raise
        except BrokenPipeError:  # nobody reads what later ones would print
            raise
        except Exception as error:
            if not isinstance(error, (errors.Failure, errors.ApiError)) and (
                    line is None or os.environ.get("AGENT_DEBUG")):
                raise
            codes.append(tell(name, as_failure(name, error)))
            if isinstance(error, errors.Failure) and error.ends_input:
                return
        lines.printed = True


def as_failure(name, error):
    """What a person is told, and the exit code, for any error."""
    from agentpipe import errors
    if isinstance(error, errors.Failure):
        return error
    own = 125 if name == "agent-run" else None  # it exits as the script did, and 70 could be the script's
    if isinstance(error, errors.ApiError):
        return errors.refused(error, own or errors.BUG)
    failure = _of_system(error)
    if failure is None:
        from agentpipe import redact
        said = redact.known(f"{type(error).__name__}: {error}")
        failure = errors.Failure(f"a bug of ours: {said}", remedy="set AGENT_DEBUG=1, and report what it prints")
    failure.exit = own or failure.exit
    return failure


def _of_system(error):
    """The Failure of what this machine does not give or take, or None."""
    from agentpipe import errors
    if _takes_nothing(error):
        return errors.Failure(f"cannot write: {error.strerror}", errors.CANNOT_CREATE)
    limit = _of_limit(error)
    return _of_disk(error) or (errors.Failure(limit[0], errors.UNAVAILABLE, remedy=limit[1]) if limit else None)


def _of_disk(error):
    """errors.of_disk(), or the Failure of a home that cannot be made."""
    from agentpipe import errors
    try:
        return errors.of_disk(error) if isinstance(error, OSError) else None
    except errors.Failure as failure:
        return failure


def _of_limit(error):
    """(what this process may have no more of, what to do), or None."""
    import errno
    if isinstance(error, MemoryError):
        return "memory ran out", "ulimit -v; free -m"
    return {errno.EMFILE: ("too many open files", "ulimit -n 1024"),
            errno.ENFILE: ("too many open files on this machine", "sysctl fs.file-nr"),
            errno.EAGAIN: ("no more processes or threads may be started", "ulimit -u; ps -u $USER"),
            errno.ENOMEM: ("memory ran out", "ulimit -v; free -m")}.get(getattr(error, "errno", None) or 0)


def _takes_nothing(error):
    """Whether it is a descriptor's error, such as standard output's on a full disk."""
    import errno
    return isinstance(error, OSError) and not error.filename and error.errno in (
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO)


def _opened(file):
    try:
        with SIGNALS.open():  # a fifo waits for whoever writes it
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        from agentpipe import errors
        raise errors.Failure(f"{file}: {error.strerror}", errors.NOT_FOUND) from None


def _guarded(name, work, line):
    """work()'s exit code; every error as one line and a code, without a traceback (AGENT_DEBUG=1 shows it).

    `line` is tell()'s.
    """
    try:
        return work()
    except BaseException as error:
        from agentpipe import errors
        if isinstance(error, errors.Interrupted):
            code = EXITS[error.signum]
            if line and not error.silent:
                _tell_stage(name, errors.Failure("told to stop", code))
            return code
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more to say, also not at exit
            return 141
        if not isinstance(error, Exception) or (os.environ.get("AGENT_DEBUG")
                                                and not isinstance(error, (errors.Failure, errors.ApiError))):
            raise
        return tell(name, as_failure(name, error), line)
