"""INT, TERM and HUP, and the reporting thread's word that a task must end, as exceptions where we are open to them.

Everywhere else they wait, so that no claim is half handed over and no script is started and forgotten. Imports
nothing: an empty pipeline pays for this file.
"""

import _signal
import _thread
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

# Until the handlers stand, Ctrl-C simply ends us: no traceback out of an import. And a script of ours is to have both
# as every new process has them, though a shell's `&` has made us ignore them.
for _signum in (_signal.SIGINT, _signal.SIGQUIT):
    _signal.signal(_signum, _signal.SIG_DFL)

EXITS = {_signal.SIGINT: 130, _signal.SIGTERM: 75, _signal.SIGHUP: 129}
AGAIN_S = 0.01
LONGEST_S = 1e9  # what a timer takes
_HANDLED = (*EXITS, _signal.SIGUSR1, _signal.SIGALRM)


def _has_terminal() -> bool:
    """Whether this session has a terminal: under a supervisor none has, and a HUP is the supervisor's."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Window:
    def __init__(self, signals: "Signals", is_open: bool) -> None:
        self._signals, self._is_open, self._before = signals, is_open, False

    def __enter__(self) -> None:
        self._before = self._signals.is_open
        try:
            self._signals.is_open = self._is_open
            self._signals.check()
        except BaseException:  # then nobody calls __exit__
            self._signals.is_open = self._before
            raise

    def __exit__(self, kind: object, *_: object) -> None:
        self._signals.is_open = self._before
        if kind is None:
            self._signals.check()


class _Limit:
    def __init__(self, signals: "Signals", seconds: float | None) -> None:
        self._signals, self._seconds = signals, seconds

    def __enter__(self) -> None:
        if self._seconds:
            self._signals.is_limited = True
            _signal.setitimer(_signal.ITIMER_REAL, min(self._seconds, LONGEST_S))

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            _signal.setitimer(_signal.ITIMER_REAL, 0)
            self._signals.is_limited = False
            self._signals.drop(_signal.SIGALRM)


class Signals:
    """One per process. Handlers run in the main thread; `waiting` is what came while we were closed, oldest first."""

    def __init__(self) -> None:
        self.is_open = False
        self.waiting: list[int] = []
        self.told: int | None = None  # the first signal that told this process to stop, acted upon or not
        self.is_limited = False  # whether there is a time after which OutOfTime is raised
        self._abort: object = None  # the reporting thread's word
        self._takes_aborts = True

    def install(self) -> None:
        """Handle them from now on; what was ignored before (nohup) stays ignored, as long as a terminal can send it."""
        for signum in EXITS:
            if _signal.getsignal(signum) != _signal.SIG_IGN or not _has_terminal():
                _signal.signal(signum, self._arrived)
        for signum in (_signal.SIGUSR1, _signal.SIGALRM):
            _signal.signal(signum, self._arrived)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, EXITS)  # become_ourselves() has blocked them
        sys.unraisablehook = self._dropped

    def uninstall(self) -> None:
        """Give each the meaning that a new process has for it; what came up to now is raised, when we are open."""
        ours = [signum for signum in _HANDLED if _signal.getsignal(signum) == self._arrived]
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, ours)  # between two handlers nothing may come
            self.check()
            for signum in ours:
                _signal.signal(signum, _signal.SIG_DFL)
        finally:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, ours)

    def become_ourselves(self) -> None:
        """Begin anew as this process was called; what has waited, or comes meanwhile, is not lost. Raises OSError."""
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, EXITS)
            with self.open():
                os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        finally:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, EXITS)

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

    def take_aborts(self, wanted: bool) -> None:
        """Whether the word that the task must end means anything: not once its end is decided, or left to others."""
        self._takes_aborts = wanted
        if not wanted:
            self._abort = None
            self.drop(_signal.SIGUSR1)

    def drop(self, unwanted: int) -> None:
        """That signal has lost its meaning, should it wait."""
        while unwanted in self.waiting:
            self.waiting.remove(unwanted)  # in place: a handler may append meanwhile

    def forget(self) -> None:
        """Drop what has waited: it has been acted upon."""
        self.waiting.clear()

    def aborted(self, abort: object) -> None:
        """Called by the reporting thread: the main thread gets errors.Aborted with `abort`."""
        if self._takes_aborts:
            self._abort = abort
            os.kill(os.getpid(), _signal.SIGUSR1)

    def _arrived(self, signum: int, frame: "types.FrameType | None") -> None:
        # both may also come from outside: Slurm tells a whole step by USR1 that its time is nearly over (--signal)
        if signum == _signal.SIGUSR1 and not (self._takes_aborts and self._abort):
            return
        if signum == _signal.SIGALRM and not self.is_limited:
            return
        if signum in EXITS:
            self.told = self.told or signum
        if not self.is_open:
            self.waiting.append(signum)
        elif _is_wrapped(frame):
            _thread.start_new_thread(_send_later, (signum,))
        else:
            self._raise(signum)

    def _dropped(self, what: "sys.UnraisableHookArgs") -> None:
        """An exception that nobody gets (a weak reference's callback, as imports have them): ours is raised again."""
        from agentpipe import errors
        found = what.exc_value
        self.is_open = self.is_open or isinstance(found, (errors.OutOfTime, errors.Interrupted, errors.Aborted))
        if isinstance(found, errors.OutOfTime):
            _signal.setitimer(_signal.ITIMER_REAL, AGAIN_S)
        elif isinstance(found, (errors.Interrupted, errors.Aborted)):
            signum = found.signum if isinstance(found, errors.Interrupted) else _signal.SIGUSR1
            _thread.start_new_thread(_send_later, (signum,))
        else:
            sys.__unraisablehook__(what)

    def _raise(self, signum: int) -> None:
        from agentpipe import errors
        self.is_open = False  # until this part is left: a second one may not break off what ends the first one's work
        if signum == _signal.SIGUSR1:
            raise errors.Aborted(self._abort)
        if signum == _signal.SIGALRM:
            raise errors.OutOfTime
        raise errors.Interrupted(signum)


def _is_wrapped(frame: "types.FrameType | None") -> bool:
    """Whether what is raised there comes out as a RuntimeError: of a class that is made, as imports do, until 3.12."""
    while frame is not None and sys.version_info < (3, 12):
        if frame.f_code.co_name == "__set_name__":
            return True
        frame = frame.f_back
    return False


def _send_later(signum: int) -> None:
    time.sleep(AGAIN_S)
    os.kill(os.getpid(), signum)


SIGNALS = Signals()
