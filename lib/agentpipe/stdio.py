"""What goes to standard output and error: whole, unbuffered, and harmless to a terminal."""

import os
import stat

from agentpipe.signals import SIGNALS

PIECE = 4096  # bytes that whatever poll(2) calls ready takes without blocking (PIPE_BUF)
CLEAR = "\r\033[K"
_row = ""  # what ends the row that stands on stderr: CLEAR for a progress bar, a newline for any other, "" for none
CONTROLS = {**dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd"), 10: "\\n"}


def say(text: str) -> None:
    """One line for people; a stderr that is gone is no error. What a task holds must not move a terminal's cursor, nor
    make two lines of one."""
    global _row
    try:
        os.write(2, (_row + text.rstrip("\n").translate(CONTROLS) + "\n").encode("utf-8", "replace"))
    except OSError:
        pass
    _row = ""


def shown(text: str) -> None:
    """Remember how what was written to stderr ends, a program's words: the next line of ours begins a row."""
    global _row
    if text:
        last = text.rpartition("\n")[2]
        _row = "" if not last else CLEAR if last.endswith("\r") and os.isatty(2) else "\n"


def put(data: bytes) -> None:
    """All of `data` to stdout, unbuffered: a line is out when this returns. A reader that is gone: BrokenPipeError.

    While it takes nothing we are open to signals: errors.Interrupted, and a part may be out that no later word mends.
    """
    from agentpipe import errors
    # what poll(2) calls ready takes so much at once, and no signal finds us in a write
    piece = len(data) if stat.S_ISREG(os.fstat(1).st_mode) else PIECE
    view = memoryview(data)
    while view:
        try:
            if not takes(1, 0):
                with SIGNALS.open():
                    takes(1)
            view = view[os.write(1, view[:piece]):]
        except BlockingIOError:  # whoever shares it (ssh, node) has made it one that does not wait
            continue
        except errors.Interrupted as told:
            told.silent = True
            raise


def takes(fd: int, seconds: float | None = None) -> bool:
    """Whether a descriptor takes something without blocking; waits for that, or for up to so many seconds."""
    import select
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
