"""How every command begins and ends: a start without imports, signals in one place, an exit code and a word out.

Nothing may be imported above what an empty pipeline needs: most runs of a stage find no work.
"""

import os
import sys

from agentpipe.signals import EXITS, SIGNALS


def entry(name, declared, doc, examples, each, common=True, check=None):
    """A filter's main(): read the options, then call each(line, values) -> exit code for every line; exit.

    `declared()` gives the command's own options (options.py); with `common` the file argument and --dry-run, --schema,
    --verbose and --quiet are added. `check(values)` is a Failure for options that cannot be meant, also without a line.
    Without arguments and input nothing but this file and lines.py is imported.
    """
    argv = sys.argv[1:]
    begin()
    from agentpipe import lines
    stdin = lines.Input()
    stdin.on_wait = lambda: warm_up(name)

    def work():
        if not argv and not os.isatty(0) and not stdin.fill():
            return 0
        from agentpipe import errors, options
        try:
            values = options.read(name, [*declared(), *(options.common() if common else [])], argv, doc, examples)
            if check and not values.get("schema"):
                check(values)
        except errors.Failure as failure:
            stdin.lay_down(f"{name}: {failure}")
            raise
        if values.get("schema"):
            from agentpipe import manifest, stdio
            stdio.put(manifest.schema().encode())
            return 0
        return lines.of_files(name, values.get("file") or ["-"], each, values, stdin)

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


def plain(name, work, renaming=True, exits=EXITS):
    """The main() of a command whose output no stage reads: work() -> exit code, broken off by any signal.

    `renaming` as in begin(); `exits` are the exit codes of signals.
    """
    def opened():
        with SIGNALS.open():
            return work()

    begin(renaming)
    leave(_guarded(name, opened, False, exits))


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


def old_names():
    """ClearML's variables had other names once: TRAINS_X is read where there is no CLEARML_X."""
    for name in [name for name in os.environ if name.startswith("TRAINS_")]:
        os.environ.setdefault("CLEARML_" + name[7:], os.environ[name])


def _guarded(name, work, line, exits=EXITS):
    """work()'s exit code; every error as one line and a code, without a traceback (AGENT_DEBUG=1 shows it).

    `line` is failures.tell()'s, `exits` plain()'s.
    """
    try:
        return work()
    except BaseException as error:
        from agentpipe import errors
        if isinstance(error, errors.Interrupted):
            code = exits[error.signum]
            if line and not error.silent:
                from agentpipe import failures
                failures.tell_stage(name, errors.Failure("told to stop", code))
            return code
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more to say, also not at exit
            return 141
        if not isinstance(error, Exception) or (os.environ.get("AGENT_DEBUG")
                                                and not isinstance(error, (errors.Failure, errors.ApiError))):
            raise
        from agentpipe import failures
        return failures.tell(name, failures.as_failure(name, error), line)
