"""The tasks that agent-task's words name, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agentpipe import errors
from agentpipe.task import output


def each(words: list[str], do: Callable[[str], None], say: Callable[[str], None]) -> int:
    """do(word) for each task that was named; what goes wrong with one is said and keeps no other from being done.

    The exit code: 0, that of the only one, else 123.
    """
    from agentpipe import failures
    codes = []
    for word in listed(words):
        try:
            do(word)
            codes.append(0)
        except (errors.Failure, errors.ApiError) as error:
            failure = failures.as_failure("agent-task", error)
            say(str(failure))
            codes.append(failure.exit)
    return errors.combined(codes)


def listed(words: list[str]) -> Iterator[str]:
    """The words, with those of standard input in the place of a "-"."""
    for word in words:
        if word == "-":
            yield from _from_input()
        else:
            yield word


def _from_input() -> Iterator[str]:
    """A task a line: an id or a name, or JSON of `agent-task … --json`, a manifest or a receipt."""
    import sys
    if sys.stdin.isatty():
        output.say("waiting for tasks, an id or a name a line (Ctrl-D ends)")
    for number, line in enumerate(sys.stdin, 1):
        text = line.strip()
        if text.startswith("{"):
            import json
            try:
                found = json.loads(text)
            except ValueError:
                raise errors.Failure(f"line {number} of standard input is no JSON", errors.BAD_DATA) from None
            task = found.get("task", found.get("id"))
            text = str((task.get("id") if isinstance(task, dict) else task) or "")
            if not text:
                raise errors.Failure(f"line {number} of standard input names no task", errors.BAD_DATA)
        if text:
            yield text
