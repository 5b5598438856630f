"""INT, TERM and HUP, and the reporting thread's word that a task must end, as exceptions where we are open to them.

Everywhere else they wait, so that no claim is half handed over and no script is started and forgotten. Imports
nothing: an empty pipeline pays for this file.
"""

import _signal
import os

# until the handlers stand, Ctrl-C simply ends us: no traceback out of an import
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)

EXITS = {_signal.SIGINT: 130, _signal.SIGTERM: 75, _signal.SIGHUP: 129}


class _Window:
    def __init__(self, signals: "Signals", is_open: bool) -> None:
        self._signals, self._is_open, self._before = signals, is_open, False

    def __enter__(self) -> None:
        self._before, self._signals.is_open = self._signals.is_open, self._is_open
        self._signals.check()

    def __exit__(self, kind: object, *_: object) -> None:
        self._signals.is_open = self._before
        if kind is None:
            self._signals.check()


class _Limit:
    def __init__(self, signals: "Signals", seconds: float | None) -> None:
        self._signals, self._seconds = signals, seconds

    def __enter__(self) -> None:
        if self._seconds:
            _signal.setitimer(_signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
            self._signals.waiting = [signum for signum in self._signals.waiting if signum != _signal.SIGALRM]


class Signals:
    """One per process. Handlers run in the main thread; `waiting` is what came while we were closed, oldest first."""

    def __init__(self) -> None:
        self.is_open = False
        self.waiting: list[int] = []
        self._abort: object = None

    def install(self) -> None:
        """Handle them from now on; what was ignored before (nohup) stays ignored."""
        for signum in EXITS:
            if _signal.getsignal(signum) != _signal.SIG_IGN:
                _signal.signal(signum, self._arrived)
        for signum in (_signal.SIGUSR1, _signal.SIGALRM):
            _signal.signal(signum, self._arrived)

    def open(self) -> _Window:
        """`with SIGNALS.open():` what has waited or arrives in here is raised (errors.Interrupted, errors.Aborted)."""
        return _Window(self, True)

    def closed(self) -> _Window:
        """`with SIGNALS.closed():` inside an open part: what arrives in here is raised behind it."""
        return _Window(self, False)

    def check(self) -> None:
        """Raise what has waited, when we are open."""
        if self.is_open and self.waiting:
            self._raise(self.waiting.pop(0))

    def limited(self, seconds: float | None) -> "_Limit":
        """`with SIGNALS.limited(3600):` after so many seconds errors.OutOfTime is raised in here (None: never)."""
        return _Limit(self, seconds)

    def told_to_stop(self) -> int | None:
        """The signal that has waited to stop this process, if there is one; it is taken."""
        for signum in self.waiting:
            if signum in EXITS:
                self.waiting.remove(signum)
                return signum
        return None

    def forget_abort(self) -> None:
        """The task that was to end is in other hands now."""
        self.waiting = [signum for signum in self.waiting if signum != _signal.SIGUSR1]

    def forget(self) -> None:
        """Drop what has waited: it has been acted upon."""
        self.waiting.clear()

    def aborted(self, abort: object) -> None:
        """Called by the reporting thread: the main thread gets errors.Aborted with `abort`."""
        self._abort = abort
        os.kill(os.getpid(), _signal.SIGUSR1)

    def _arrived(self, signum: int, _frame: object) -> None:
        if self.is_open:
            self._raise(signum)
        else:
            self.waiting.append(signum)

    def _raise(self, signum: int) -> None:
        from agentpipe import errors
        if signum == _signal.SIGUSR1:
            raise errors.Aborted(self._abort)
        if signum == _signal.SIGALRM:
            raise errors.OutOfTime
        raise errors.Interrupted(signum)


SIGNALS = Signals()
