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
    from agentpipe.settings import own_secrets
    codes = []
    for word in listed(words):
        try:
            if isinstance(word, errors.Failure):
                raise word
            do(word)
            codes.append(0)
        except (errors.Failure, errors.ApiError) as error:
            failure = failures.as_failure("agent-task", error)
            say(own_secrets.hidden(str(failure)))
            codes.append(failure.exit)
    return errors.combined(codes)


def listed(words: list[str]) -> Iterator[str | errors.Failure]:
    """The words, with those of standard input in the place of a "-"; of a line that names none what is wrong."""
    for word in words:
        if word == "-":
            yield from _from_input()
        else:
            yield word


def _from_input() -> Iterator[str | errors.Failure]:
    """A task a line: an id or a name, or JSON of `agent-task … --json`, a manifest or a receipt."""
    import os

    from agentpipe.plain_lines import Lines
    if os.isatty(0):
        output.say("waiting for tasks, an id or a name a line (Ctrl-D ends)")
    lines = Lines("a task a line: its id, its name, or JSON that names it")
    for line in lines:
        text = line.decode("utf-8", "surrogateescape").strip()
        yield _of_json(text, lines.number) if text.startswith("{") else text


def _of_json(text: str, number: int) -> str | errors.Failure:
    """The task that a line of JSON names."""
    import json
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return errors.Failure(f"line {number} of standard input is no JSON", errors.BAD_DATA)
    task = found.get("task", found.get("id"))
    named = str((task.get("id") if isinstance(task, dict) else task) or "")
    return named or errors.Failure(f"line {number} of standard input names no task", errors.BAD_DATA)
