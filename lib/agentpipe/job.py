"""One task at work in one stage: its manifest, its directory, its log, and how programs are run for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from agentpipe import untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Job:
    """What a stage's work() gets.

    `manifest` is the whole line; work() returns the value of its own key and changes nothing else. `directory` is
    the task's own (state/tasks/ID.N). `options` are the command's, by their long names with underscores.
    """

    def __init__(self, manifest: dict[str, Any], directory: str, options: Mapping[str, Any] | None = None,
                 echo: Callable[[str], None] | None = None) -> None:
        self.manifest = manifest
        self.directory = directory
        self.options = dict(options or {})
        # a call about this task to its server: tell("tasks.set_requirements", {…}); None for a task by hand
        self.tell: Callable[[str, dict[str, Any]], Any] | None = None
        self.echo = echo  # shows what is said where a person watches; None: nobody does
        if self.options.get("dry_run"):  # which changes nothing: what would be done is for whoever asks
            self._log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            return
        try:
            self._log = untrusted.opened(directory, "setup.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except untrusted.NotRegular as error:  # as with a full disk: what is said is lost, the task is not
            from agentpipe import stdio
            stdio.say(f"agentpipe: {error.filename} is not written: {error.strerror}")
            self._log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    @property
    def task(self) -> dict[str, Any]:
        """The task as the ClearML API spells it."""
        return self.manifest["task"]

    @property
    def prefix(self) -> list[str]:
        """What stands before every command that runs where the task runs; [] on the host."""
        return list((self.manifest.get("place") or {}).get("prefix") or [])

    def path(self, *parts: str) -> str:
        """A path in the task's directory."""
        return os.path.join(self.directory, *parts)

    @property
    def watched(self) -> bool:
        """Whether a person watches on stderr."""
        return self.echo is not None

    def option(self, name: str, default: Any = None) -> Any:
        """An option of this command, or `default` when it was not given (or another command composes this stage)."""
        value = self.options.get(name)
        return default if value is None else value

    def say(self, line: str) -> None:
        """A line of ours (or several) to the task's set-up log, where its owner reads it, and to stderr when a person
        watches. Whatever names it quotes, no terminal obeys them."""
        lines = line.rstrip("\n").split("\n")
        if not all(map(str.isprintable, lines)):
            from agentpipe import cells
            lines = list(map(cells.printed, lines))
        self.write("\n".join(lines) + "\n")

    def warn(self, line: str) -> None:
        """As say(), and to stderr also where nobody watches, unless --quiet: what its owner did not ask for."""
        self.say(line)
        if not self.watched and not self.option("quiet"):
            from agentpipe import stdio
            stdio.say(f"agentpipe: warning: {line}")

    def write(self, text: str) -> None:
        """Text as a program printed it (maybe part of a line, maybe a progress bar) to the task's set-up log."""
        if "?" in text and "://" in text:  # git and installers, which get an address whole, may name it
            from agentpipe import urls
            text = urls.without_query_secrets(text)
        data = text.encode("utf-8", "surrogateescape")
        while data:
            try:
                data = data[os.write(self._log, data):]
            except OSError:  # a full disk: what is said is lost, the task is not
                break
        if self.echo:
            self.echo(text)

    def run(self, argv: list[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None,
            timeout: float | None = None, loud: bool = False, check: bool = True, stdin: bytes = b"",
            sink: Callable[[str], None] | None = None, silence: float | None = None,
            most: int | None = None) -> str:
        """Run a program of ours (git, uv …) to its end; give its stdout.

        With `loud` all that it prints goes to the set-up log as it comes (progress bars too) and is given back; with
        `sink` it goes there instead. With `check` a non-zero status raises ToolFailed, which has the status and what
        it printed, also for a loud one that is still for `silence` seconds; more than `most` bytes that are
        kept for us are tools.TooMuch (tools.run). Whatever ends us ends it.
        """
        from agentpipe import tools
        return tools.run(argv, sink or (self.write if loud else None), cwd=cwd, env=env, timeout=timeout, check=check,
                         stdin=stdin, silence=silence, most=most)

    @property
    def log(self) -> int:
        """The set-up log's descriptor, for programs that write to it themselves."""
        return self._log

    def close(self) -> None:
        """Close the log; a second time is none."""
        log, self._log = getattr(self, "_log", -1), -1
        if log >= 0:
            os.close(log)

    __del__ = close  # as a file that nobody holds any more
