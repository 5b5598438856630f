"""Named points at which a test kills this process, so that crash tests need no luck."""

import os


def crash_point(name: str) -> None:
    """Die here, as by SIGKILL, when AGENT_CRASH_AT is `name` (STAGE:STEP); otherwise nothing."""
    if os.environ.get("AGENT_CRASH_AT") == name:
        os.kill(os.getpid(), 9)
