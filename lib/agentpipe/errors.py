"""What can go wrong: one exception that carries an exit code, evidence and a remedy, and the API's own error."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = 64
BAD_DATA = 65
NOT_FOUND = 66
UNAVAILABLE = 69
BUG = 70
CANNOT_CREATE = 73
TRY_AGAIN = 75
NO_PERMISSION = 77
BAD_CONFIG = 78
SEVERAL_FAILED = 123


# the change of a task whose code is to be mended in its checkout first, as the remedy says
CODE_ANEW = ("--checkout", ".")


class Failure(Exception):
    """The reason why a command or a stage ends without its work done.

    `reason` is one line for people; `exit` one of the codes above (sysexits(3) where it has one); `evidence` the
    lines that show the cause (may be long, may be empty); `remedy` what to do next, a command where there is one;
    `change` the options of `agent-task edit` that mend the task, when that is what it takes (CODE_ANEW: and the remedy
    before). `of_machine`: the task is not to blame, another try (75) or another machine (73, 78) may do it; a program's
    own exit code does not say that.
    """

    def __init__(self, reason: str, exit: int = BUG, evidence: str = "", remedy: str = "",
                 change: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit = exit
        self.evidence = evidence
        self.remedy = remedy
        self.change = change
        self.of_machine = exit in (CANNOT_CREATE, TRY_AGAIN, BAD_CONFIG)
        self.ends_input = False  # whether nothing after it can be read
        self.stage = ""  # where it happened, when one command composes several stages
        self.timed: dict[str, Any] = {}  # {began, seconds} of that stage

    def __str__(self) -> str:
        return self.reason + (f" ({self.remedy})" if self.remedy else "")


class Damaged(Failure):
    """The store of this machine cannot be read (69), and waiting does not mend it."""

    def __init__(self, reason: str, evidence: str, remedy: str) -> None:
        super().__init__(reason, UNAVAILABLE, evidence, remedy)


class OfMachine(Failure):
    """A Failure that is never the task's, also with a code that may be one (69, 77): another machine may do it."""

    def __init__(self, reason: str, exit: int = UNAVAILABLE, evidence: str = "", remedy: str = "") -> None:
        super().__init__(reason, exit, evidence, remedy)
        self.of_machine = True


class OddAnswer(OfMachine):
    """A server's answer is none of its API's (69), and waiting does not mend it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, remedy="tell whoever runs that server")


class LetGo(Failure):
    """Somebody else has decided about the task while we worked on it, or before we began: nothing failed."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason, TRY_AGAIN, remedy=remedy)
        self.of_machine = False


class ApiError(Exception):
    """An answer of the ClearML API that is not a success: `code` and `subcode` as in its `meta`, `msg` its text.

    `code` 400 with subcode 121 means that somebody else changed the task meanwhile; 404 an unknown endpoint.
    """

    def __init__(self, code: int, subcode: int, msg: str) -> None:
        super().__init__(f"{msg} ({code}/{subcode})")
        self.code = code
        self.subcode = subcode
        self.msg = msg


def refused(error: ApiError, otherwise: int = BUG) -> Failure:
    """What a command says of an answer that nothing else was made of: 77, 69, or `otherwise` for a wrong request."""
    if error.code in (401, 403):
        return Failure(f"the server refused: {error.msg}", NO_PERMISSION, remedy="agent-config check")
    if error.code >= 500 or error.code == 429:
        return Failure(f"the server failed: {error.msg}", UNAVAILABLE, remedy="try again later")
    return Failure(f"the server refused: {error.msg}", otherwise)


def combined(codes: list[int]) -> int:
    """The exit code of several lines: 0 if all succeeded, that of the only one, else 123 (as xargs)."""
    if not any(codes):
        return 0
    return codes[0] if len(codes) == 1 else SEVERAL_FAILED


def is_away(error: Exception) -> bool:
    """Whether the server is away for now, rather than our request or this node at fault."""
    if isinstance(error, ApiError):
        return error.code >= 500 or error.code == 429
    return isinstance(error, Failure) and error.exit == UNAVAILABLE and not isinstance(error, OddAnswer)


class Interrupted(BaseException):
    """A signal asked this process to stop: raised in the main thread by the handlers of signals.py."""

    def __init__(self, signum: int, silent: bool = False) -> None:
        super().__init__(signum)
        self.signum = signum
        self.silent = silent  # a line has gone out already: no later stage waits for a word


class OutOfTime(BaseException):
    """What was to be done has taken longer than allowed: raised in the main thread, as Interrupted."""

    stage = ""  # the one that was at work


class Aborted(BaseException):
    """The server wants this task to end here: `abort` (abort.py) says how and why."""

    def __init__(self, abort: Any) -> None:
        super().__init__(abort)
        self.abort = abort
