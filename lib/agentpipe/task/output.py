"""What agent-task prints: lines for people on stderr, what was asked for on stdout."""

from agentpipe import stdio


def say(line: str) -> None:
    """A line for people, on stderr."""
    stdio.say(f"agent-task: {line}")


def put(text: str) -> None:
    """Text on stdout."""
    stdio.put(text.encode("utf-8", "surrogateescape"))
