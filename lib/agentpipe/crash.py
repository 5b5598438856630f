"""Named points at which a test kills or signals this process, so that such tests need no luck."""

import os


def crash_point(name: str) -> None:
    """Die here, as by SIGKILL, when AGENT_CRASH_AT is `name` (STAGE:STEP); otherwise nothing.

    AGENT_CRASH_AT=NAME=FILE dies only once: it makes FILE, and lives on where that is there already. AGENT_CRASH_WITH
    is another signal's number.
    """
    wanted = os.environ.get("AGENT_CRASH_AT")
    if wanted:
        point, _, mark = wanted.partition("=")
        if point == name and (not mark or _made(mark)):
            os.kill(os.getpid(), int(os.environ.get("AGENT_CRASH_WITH", 9)))


def _made(mark: str) -> bool:
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return True
    except FileExistsError:
        return False
