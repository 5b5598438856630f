"""How a command says that it failed: any error as one line and an exit code, and as a line for the next stage."""

from __future__ import annotations

import os

from agentpipe import errors, stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def as_failure(name: str, error: Exception) -> errors.Failure:
    """What a person is told, and the exit code, for any error."""
    if isinstance(error, errors.Failure):
        return error
    own = 125 if name == "agent-run" else None  # it exits as the script did, and 70 could be the script's
    if isinstance(error, errors.ApiError):
        return errors.refused(error, own or errors.BUG)
    failure = _of_system(error)
    if failure is None:
        from agentpipe.settings import own_secrets
        said = own_secrets.hidden(f"{type(error).__name__}: {error}")
        failure = errors.Failure(f"a bug of ours: {said}", remedy="set AGENT_DEBUG=1, and report what it prints")
    failure.exit = own or failure.exit
    return failure


def tell(name: str, failure: errors.Failure, line: bool = True) -> int:
    """One line on stderr; and where a later stage reads our stdout, a `failed` line without a task. The exit code.

    The line may stand in the mail of cron or in a journal: programs that it quotes may have printed a secret of ours.
    """
    from agentpipe.settings import own_secrets
    stdio.say(own_secrets.hidden(f"{name}: {failure}"))
    if line:
        tell_stage(name, failure)
    return failure.exit


def tell_stage(name: str, failure: errors.Failure, line: dict[str, Any] | None = None) -> None:
    """Only the `failed` line, with what is known of its task."""
    if not os.isatty(1):
        from agentpipe import manifest
        end = manifest.LET_GO if isinstance(failure, errors.LetGo) else "setup_failed"
        try:
            stdio.put(manifest.write(manifest.failure(failure, name.removeprefix("agent-"), line, end)))
        except (OSError, errors.Interrupted):  # nobody reads it: the exit code has to do
            pass


def _of_system(error: Exception) -> errors.Failure | None:
    """The Failure of what this machine does not give or take, or None."""
    if isinstance(error, OSError) and _takes_nothing(error):
        return errors.Failure(f"cannot write: {error.strerror}", errors.CANNOT_CREATE)
    limit = _of_limit(error)
    return _of_disk(error) or (errors.Failure(limit[0], errors.UNAVAILABLE, remedy=limit[1]) if limit else None)


def _of_disk(error: Exception) -> errors.Failure | None:
    """files.of_disk(), or the Failure of a home that cannot be made."""
    from agentpipe import files
    try:
        return files.of_disk(error) if isinstance(error, OSError) else None
    except errors.Failure as failure:
        return failure


def _of_limit(error: Exception) -> tuple[str, str] | None:
    """(what this process may have no more of, what to do), or None."""
    import errno
    if isinstance(error, MemoryError):
        return "memory ran out", "ulimit -v; free -m"
    return {errno.EMFILE: ("too many open files", "ulimit -n 1024"),
            errno.ENFILE: ("too many open files on this machine", "sysctl fs.file-nr"),
            errno.EAGAIN: ("no more processes or threads may be started", "ulimit -u; ps -u $USER"),
            errno.ENOMEM: ("memory ran out", "ulimit -v; free -m")}.get(getattr(error, "errno", None) or 0)


def _takes_nothing(error: OSError) -> bool:
    """Whether it is a descriptor's error, such as standard output's on a full disk."""
    import errno
    return not error.filename and error.errno in (
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO)
