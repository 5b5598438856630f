"""Whether the network may be used: one answer for git, for packages and for whatever else would ask a server."""


def offline() -> bool:
    """Whether AGENT_OFFLINE forbids it, a yes or no as any setting's; Failure 78 for what is neither."""
    from agentpipe.settings import config
    return config.flag("", False, "AGENT_OFFLINE")
