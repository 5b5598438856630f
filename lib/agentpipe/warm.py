"""What a stage does while it waits for its first line: import what it will need, so that the line need not wait."""

from __future__ import annotations

import os

# an agent-pull that finds nothing in the embedded store is over before, so an empty pipeline does not pay for this
AFTER_S = 0.15

STAGES = ("stages", "redact", "secrets", "report.reporter", "report.shipping", "server.store", "server.endpoints")
OF_COMMAND = {"agent-run": ("run.ending", "report.finish", "run.monitor", "run.launch", "run.script", "run.script_env",
                            "place.memory"),
              "agent-prepare": ("code.checkout", "environment.overlay", "environment.python_env")}


def up_while_waiting(name: str, fd: int) -> None:
    """Import what command `name` needs, when nothing can be read from `fd` for a moment. What fails is said later."""
    import select
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(int(AFTER_S * 1000)):
        return
    try:
        from agentpipe.claim import namespaces
        namespaces.hold()
        load(name)
    except Exception:
        if os.environ.get("AGENT_DEBUG"):
            raise


def load(name: str) -> None:
    """Import it; the HTTP transport only where a server is configured."""
    from agentpipe.settings import config
    for module in (*STAGES, *OF_COMMAND.get(name, ())):
        __import__("agentpipe." + module)
    if config.value("api.api_server") or config.value("api.host"):
        for module in ("agentpipe.transport.http_api", "requests", "random"):
            __import__(module)
