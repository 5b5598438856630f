"""One attempt at a task on this node: its directory state/tasks/ID.N and the facts that stand there as names.

`running` (locked by the shim) → `exit.N`, `pid` → "PID START BOOT" and `outcome` → CLASS are names, not contents,
so that a full disk cannot lose them. The first two stand where the script's own shell can write (paths.box): what a
container makes of them says how its own script ended, and nothing else.
"""

from __future__ import annotations

import os
import re
import stat

from agentpipe import ends, errors, files, paths, trees, untrusted
from agentpipe.files import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GIVEN_BACK = "given-back"  # by recovery: counts as a failed attempt
HANDED_BACK = "handed-back"  # by a signal or a broken pipe: does not
NOT_HERE = "not-here"  # for a setting of this machine: counts apart
NOT_NOW = "not-now"  # for what should pass by itself: likewise
RETURNED = (GIVEN_BACK, HANDED_BACK, NOT_HERE, NOT_NOW)  # in the place of a script's process
LEFT = "left"  # the link of an attempt that is no longer ours
ENDED = ".ended"  # at the end of a link's name: its attempt needs it no longer
SHELL_SAID = "shell"  # what the shell above a script has to say: the signal that ended it ("Killed")
_RECORD = re.compile(r"[1-9][0-9]{0,6} [0-9]{1,18} \S{1,64}", re.ASCII)
_NOBODY = "0 0 unknown"  # of no boot
_EXIT = re.compile(r"exit\.(0|[1-9][0-9]{0,2})")


def create(task: str) -> str:
    """A new directory for an attempt at `task`: the next N, by exclusive mkdir; its path."""
    home = paths.state("tasks")
    try:
        os.makedirs(home, 0o700, exist_ok=True)
        return files.new_directory(home, task)
    except OSError as error:
        raise files.unwritable(f"create {error.filename or home}", error) from None


def discard(directory: str) -> None:
    """Remove an attempt that nobody can know of yet."""
    trees.discard(directory)


def clear(directory: str) -> None:
    """Remove what was made for a script that never started here: a task that comes back each minute fills no disk. What
    was said of it stays."""
    for name in ("code", "env"):
        trees.discard(os.path.join(directory, name))


def numbers(task: str) -> list[int]:
    """The attempts at `task` that stand on this node."""
    return files.numbers(paths.state("tasks"), task)


def latest(task: str) -> str | None:
    """The directory of the highest attempt, which is the one that tools show."""
    known = numbers(task)
    return paths.state("tasks", f"{task}.{max(known)}") if known else None


def outcome(directory: str) -> str | None:
    """The end's class, once somebody has decided it; for a word that is none, what the script's status says."""
    found = _link(directory, "outcome")
    if found is None or found in ends.ENDS:
        return found
    status = exit_status(directory)
    return "lost" if status is None else ends.of_exit(status)


def strange_outcome(directory: str) -> str | None:
    """The word that stands there as the end and is none (a newer version's, or the script's own doing), as it can be
    shown; else None."""
    found = _link(directory, "outcome")
    return None if found is None or found in ends.ENDS else ascii(found)[:60]


def decide(directory: str, end: str) -> bool:
    """Make `end` the attempt's outcome; False when another process already decided (exactly one ever does)."""
    decided = _make_link(directory, "outcome", end)
    if decided:
        let_go(directory)
    return decided


def pid_record(directory: str) -> str | None:
    """ "PID START BOOT" of the script, or one of RETURNED; None before the script starts.

    What is neither, or cannot be read, was not written by us: the record of a script that is gone.
    """
    try:
        found = os.readlink(os.path.join(paths.box(directory), "pid"))
    except PermissionError:  # a container has made the folder its own, so something has started there
        return _NOBODY
    except OSError:
        return None
    return found if found in RETURNED or _RECORD.fullmatch(found) else _NOBODY


def forbid_start(directory: str, why: str) -> bool:
    """Take the name `pid`, so that no script can start here any more; False when one has started (look again)."""
    taken = _make_link(paths.box(directory), "pid", why)
    if taken and why in RETURNED:
        let_go(directory)
    return taken


def hold(directory: str, link: str) -> None:
    """Remember the link elsewhere that keeps something for this attempt: its end marks it, for those who cannot see it.

    One thing at a time; what was held before is let go.
    """
    if _link(directory, "holds") == link:
        return
    let_go(directory)
    _make_link(directory, "holds", link)


def let_go(directory: str) -> None:
    """Mark what the attempt holds as free."""
    link = _link(directory, "holds")
    try:
        # a task on this host can write here: nothing but a link to this attempt is renamed
        if link and os.readlink(link) == directory:
            os.rename(link, link + ENDED)
        os.unlink(os.path.join(directory, "holds"))
    except OSError:  # it holds nothing, or that is gone
        pass


def was_returned(directory: str) -> bool:
    """Whether this attempt was given back to its queue."""
    return pid_record(directory) in RETURNED


def leave_to_others(directory: str) -> None:
    """Mark an attempt that comes to no end here: somebody else decides about its task now."""
    try:
        _make_link(directory, LEFT, "to others")
    except FileNotFoundError:  # nothing of it is here
        return
    let_go(directory)


def is_over(directory: str) -> bool:
    """Whether nothing is to come of this attempt any more: it has its end, was given back, or left to others."""
    return bool(outcome(directory)) or was_returned(directory) or _link(directory, LEFT) is not None


def exit_status(directory: str) -> int | None:
    """The script's status as its shim recorded it (exit.N); None while it runs, or when nobody could."""
    try:
        names = os.listdir(paths.box(directory))
    except OSError:  # deleted by the script, or closed to us by its container: nobody can say how it ended
        return None
    for name in names:
        found = _EXIT.fullmatch(name)
        if found and int(found[1]) <= 255:
            return int(found[1])
    return None


def never_began(directory: str) -> bool:
    """Whether its shim ended before the script stood in `pid`: a disk without room for another file."""
    return bool(exit_status(directory)) and pid_record(directory) is None


def began_at(directory: str) -> float | None:
    """When the script was started, in seconds since the epoch; None before."""
    try:
        return os.lstat(os.path.join(paths.box(directory), "pid")).st_mtime
    except OSError:
        return None


def was_signalled(directory: str) -> bool | None:
    """Whether a signal ended the script itself, as the shell above it says of most; None where that is not known."""
    try:
        found = os.lstat(os.path.join(paths.box(directory), SHELL_SAID))
    except OSError:
        return None
    return found.st_size > 0 if stat.S_ISREG(found.st_mode) else None


def ended_at(directory: str) -> float | None:
    """When the script's status was written, in seconds since the epoch: the moment of the rename."""
    status = exit_status(directory)
    try:
        return None if status is None else os.lstat(os.path.join(paths.box(directory), f"exit.{status}")).st_ctime
    except OSError:  # what the script left behind has deleted its directory just now, or closed it
        return None


def locked_by_shim(directory: str) -> str:
    """The name of the file that the shim locks: its status, once it has written that."""
    status = exit_status(directory)
    return "running" if status is None else f"exit.{status}"


def shim_lives(directory: str, over: bool = False) -> bool:
    """Whether `running` is locked: somebody can still start the script or write its status. `over`: also once it is
    written, where somebody still reads the script's last words."""
    try:
        fd = untrusted.opened(paths.box(directory), locked_by_shim(directory) if over else "running", os.O_RDWR)
    except OSError:  # gone, none of ours, or made a container's own: the place knows whether its script lives
        return False
    try:
        return not files.try_lock(fd)
    finally:
        os.close(fd)


def note_return(directory: str, why: str) -> None:
    """Write down why this attempt goes back, for the recovery that tells the server."""
    try:
        publish(os.path.join(directory, "returned"), why.encode("utf-8", "replace"))
    except errors.Failure:  # a full disk: it goes back all the same
        pass


def return_reason(directory: str) -> str:
    """What note_return() wrote; empty where nothing was."""
    try:
        return untrusted.read(directory, "returned").decode("utf-8", "replace")
    except OSError:
        return ""


def failed_attempts(task: str) -> int:
    """How many attempts in a row recovery gave back; an attempt that came to an end starts the count anew."""
    return returned_in_a_row(task, GIVEN_BACK)


def returned_in_a_row(task: str, why: str) -> int:
    """How many of the latest attempts on this node went back for `why`, one of RETURNED; one without an end between
    them does not count."""
    count = 0
    for number in sorted(numbers(task), reverse=True):
        directory = paths.state("tasks", f"{task}.{number}")
        found = pid_record(directory)
        if outcome(directory) or found not in (why, None):
            break
        count += found == why
    return count


def lost_attempts(task: str) -> int:
    """How many attempts at `task` on this node were lost."""
    return sum(outcome(paths.state("tasks", f"{task}.{number}")) == "lost" for number in numbers(task))


def read_manifest(directory: str) -> dict[str, Any] | None:
    """The manifest as the last stage stored it."""
    from agentpipe import manifest
    try:
        return manifest.read(untrusted.read(directory, "manifest.json", untrusted.LARGE))
    except (FileNotFoundError, untrusted.NotRegular, errors.Failure):
        return None


def store_manifest(directory: str, line: bytes) -> None:
    """Publish the manifest for recovery: whole or not at all."""
    publish(os.path.join(directory, "manifest.json"), line)


def _link(directory: str, name: str) -> str | None:
    try:
        return os.readlink(os.path.join(directory, name))
    except OSError:
        return None


def _make_link(directory: str, name: str, target: str) -> bool:
    try:
        os.symlink(target, os.path.join(directory, name))
        return True
    except FileExistsError:
        return False
