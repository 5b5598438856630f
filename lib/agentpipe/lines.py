"""The lines of a filter: read as they come, done one by one, and given back when we are told to stop.

Nothing may be imported above what an empty pipeline needs: most runs of a stage find no work.
"""

import os

from agentpipe.signals import SIGNALS

CHUNK = 1 << 16
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
                    _wait_for(self._fd)
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

    def give_back(self, why="told to stop", only_ours=False):
        """What is here, or comes within a second, goes back to its queue; how many lines those are."""
        import select
        import time

        from agentpipe import errors, stages
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
            try:
                self._refuse_endless(chunk)
            except errors.Failure:  # no line of anybody's
                break
            self._add(chunk)
        lines, self._lines = [line for line in self._lines if line.strip()], []
        for line in lines:
            stages.give_back_line(line, why, only_ours)
        return len(lines)

    def lay_down(self, why):
        """The command was called in a wrong way: what the stage before it hands over meanwhile is not lost on it.

        Neither is what a supervisor's file holds; a line in any other file stays as good as it was.
        """
        import stat
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
            self.give_back(why, only_ours=stat.S_ISREG(mode))

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


def of_files(name, files, each, values, stdin):
    """each(line, values) -> exit code for every line of these files, "-" being `stdin`; the exit code of all."""
    from agentpipe import errors
    codes: list[int] = []
    for file in files:
        if codes and SIGNALS.told:  # what was not begun stays with whoever has these files
            raise errors.Interrupted(SIGNALS.told, silent=True)
        try:
            lines = stdin if file == "-" else Input(_opened(file), file)
        except errors.Interrupted as told:
            told.silent = bool(codes)
            raise
        except errors.Failure as failure:
            from agentpipe import failures
            codes.append(failures.tell(name, failure))
            continue
        if file == "-" and os.isatty(0):
            from agentpipe import stdio
            stdio.say(f"{name}: waiting for a manifest, one JSON object a line (Ctrl-D ends; {name} --help)")
        try:
            _each_line(name, lines, each, values, codes)
        finally:
            lines.close()
        stdin.printed = stdin.printed or bool(codes)
    return errors.combined(codes)


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
            from agentpipe import failures
            codes.append(failures.tell(name, failures.as_failure(name, error)))
            if isinstance(error, errors.Failure) and error.ends_input:
                return
        lines.printed = True


def _opened(file):
    try:
        with SIGNALS.open():  # a fifo waits for whoever writes it
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        from agentpipe import errors
        raise errors.Failure(f"{file}: {error.strerror}", errors.NOT_FOUND) from None


def _wait_for(fd):
    """Until there is something to read, or the end."""
    import select
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
