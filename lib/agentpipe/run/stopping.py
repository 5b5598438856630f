"""How a script is brought to its end: told, given its time, interrupted, killed; alike on this host and in a place."""

from __future__ import annotations

import os
import signal
import time

from agentpipe import processes
from agentpipe.code.entry import SHELLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentpipe.run.script import Script

    Name = tuple[int, int]  # processes.Seen.name

INT_WAIT = 3.0  # for what heeds no TERM, before KILL
COPIES_WAIT = 1.0  # after the script's end, until its copies get TERM
COPIES_LEAST = 0.5  # from then on, before KILL
STARTS = 2.0  # until a shim's script stands in `pid`: milliseconds, on a busy machine more
PARENTS_IN_PLACE = 1.0  # between two looks there for the parents of copies


def stop(script: Script, grace: float) -> None:
    """TERM to all, up to `grace` seconds for their end, INT to what heeds no TERM, then KILL until it is over.

    A process's copies, such as a data loader's workers, are its own to end while it lives: what it saves may need
    them. They are told once it is over, or shortly before KILL. What is left after the script is sweep()'s.
    """
    until = time.monotonic() + STARTS  # what has not written its name yet would not be told
    while not script.record and time.monotonic() < until and not script.wait(0):
        time.sleep(0.01)
    copies = copies_of(script.family())
    # the handler that the `clearml` package has for TERM does nothing where Python's own was there before (its
    # utilities/process/exit_hooks.py); KeyboardInterrupt ends the script with all that it has to send
    for signum, seconds in ((signal.SIGTERM, grace), (signal.SIGINT, min(INT_WAIT, grace))):
        family = script.family() if copies else []
        if family:
            script.tell([each.name for each in family if each.name not in copies], signum)
        else:  # also where the place does not say any more who is there: better all than nobody
            script.signal_all(signum)
        if _have_ended(script, copies, time.monotonic() + seconds, signum == signal.SIGINT):
            return
    if not script.wait(0):
        script.kill()


def copies_of(family: Iterable[processes.Seen]) -> dict[Name, Name]:
    """{its name: its parent's} of what a process of these has forked and that runs no other program; none of a
    shell's, for which it waits before it heeds a signal."""
    known = {each.name[0]: each for each in family}
    found = {}
    for each in known.values():
        above = known.get(each.parent)
        if above and each.words and each.words == above.words and os.path.basename(each.words[0]) not in SHELLS:
            found[each.name] = above.name
    return found


def _have_ended(script: Script, copies: dict[Name, Name], until: float, last: bool) -> bool:
    """Wait for the script's end, and that of all that it has started: a shell that ends does not. Whether nothing
    is left. A copy is told a moment after its parent's end and, before the `last` of the wait, in any case."""
    alone: dict[Name, float] = {}
    looked = float("-inf")
    while True:
        over = script.wait(0)
        if over and not script.signal_all(0):
            return True
        now = time.monotonic()
        if now >= until and not (last and copies):
            return False
        if copies and (not script.place.prefix or now - looked >= PARENTS_IN_PLACE):
            looked = now
            alone |= {name: now for name in _orphans(script, copies) if name not in alone}
        told = [name for name in copies if now - alone.get(name, now) >= COPIES_WAIT
                or (last and until - now <= COPIES_LEAST)]
        if told:
            script.tell(told, signal.SIGTERM)
            for name in told:
                del copies[name]
            if last:  # what is asked in a place takes of their time
                until = max(until, time.monotonic() + COPIES_LEAST)
        pause = min(script.look_s, until - now)
        if over:
            script.bury()
            time.sleep(pause)
        else:
            script.wait(pause)


def _orphans(script: Script, copies: dict[Name, Name]) -> list[Name]:
    """The copies whose parents have ended."""
    if script.place.prefix:
        living = {each.name for each in script.family()}
        return [name for name, parent in copies.items() if name in living and parent not in living]
    return [name for name, (pid, start) in copies.items() if processes.start_time(pid) != start]
