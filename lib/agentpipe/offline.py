"""Whether the network may be used: one answer for git, for packages and for whatever else would ask a server."""

import os


def offline() -> bool:
    """Whether AGENT_OFFLINE forbids it (1, true, yes or on)."""
    return os.environ.get("AGENT_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}
