"""A command of several verbs (`agent-task list`): which there are, their help, and the way to the one that is meant.

A verb's options are declared as those of a stage (options.py), so a frequent command line costs no parser.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from agentpipe import command, errors, options, stdio
from agentpipe.signals import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Run = Callable[[dict[str, Any]], int | None]


class Verb:
    """`run(values)` does it and gives the exit code (None: 0); the first sentence of `help` stands in the table."""

    __slots__ = ("declared", "examples", "help", "run")

    def __init__(self, help: str, declared: Sequence[Any], run: Run, examples: str = "") -> None:
        self.help, self.declared, self.run, self.examples = help, declared, run, examples

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return self.help.partition("\n")[0].partition(". ")[0].rstrip(".")


class Group:
    """A command whose verbs stand in modules: `modules` is {heading: (module, verbs)}, each module has VERBS.

    `also_called` are {other word: verb}: such a word is no verb, but what it means is said.
    """

    def __init__(self, name: str, doc: str, modules: Mapping[str, tuple[str, Sequence[str]]], examples: str,
                 also_called: Mapping[str, str]) -> None:
        self.name, self.doc, self.modules, self.examples = name, doc, modules, examples
        self.also_called = also_called

    def verb(self, word: str) -> Verb:
        """The verb of that name; Failure 64 names one that is like it."""
        for module, words in self.modules.values():
            if word in words:
                return import_module(f"agentpipe.cmds.{module}").VERBS[word]
        import difflib
        like = [self.also_called[word]] if word in self.also_called else \
            difflib.get_close_matches(word, self.words(), 1)
        meant = f"; `{like[0]}` may be meant" if like else ""
        raise errors.Failure(f"no command `{word}`{meant}", errors.USAGE, remedy=f"{self.name} --help")

    def words(self) -> list[str]:
        """All verbs."""
        return [word for _, words in self.modules.values() for word in words]

    def help(self) -> str:
        """What --help prints."""
        width = max(map(len, self.words()))
        lines = [f"Usage: {self.name} COMMAND [OPTIONS] …", "", f"  {self.doc.partition(': ')[2].strip()}"]
        for heading, (_, words) in self.modules.items():
            lines += ["", heading + ":", *(f"  {word:{width}}  {self.verb(word).summary}" for word in words)]
        lines += ["", "Options:", "  --version   Print the version and exit.",
                  "  -h, --help  Show this message and exit.", "", "Examples:", self.examples.strip("\n"), "",
                  f"{self.name} COMMAND --help says more of each; {self.name}(1) all of it."]
        return "\n".join(lines) + "\n"

    def run(self, argv: list[str]) -> int:
        """Do what a command line says; the exit code. Every error is one line."""
        try:
            return self._run(argv)
        except SystemExit as left:
            # 141 is how click ends where the reader of our output is gone
            return 0 if not left.code else 141
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141
        except Exception as error:
            known = isinstance(error, (errors.Failure, errors.ApiError, OSError))
            if os.environ.get("AGENT_DEBUG") and not known:
                raise
            from agentpipe import failures
            return failures.tell(self.name, failures.as_failure(self.name, error), line=False)

    def _run(self, argv: list[str]) -> int:
        if not argv or argv[0] in ("-h", "--help"):
            stdio.put(self.help().encode())
            return 0 if argv else errors.USAGE
        if argv[0] == "help":  # as git has it
            return self._run([*argv[1:2], "--help"])
        if argv[0] == "--version":
            from importlib.metadata import version
            stdio.put(f"{self.name} {version('agentpipe')}\n".encode())
            return 0
        if argv[0].startswith("-"):
            options.refuse_configuration(argv[:1])
            raise errors.Failure(f"no option {argv[0]}", errors.USAGE, remedy=f"{self.name} --help")
        verb = self.verb(argv[0])
        values = options.read(f"{self.name} {argv[0]}", verb.declared, argv[1:], verb.help, verb.examples)
        return verb.run(values) or 0


def main(group: Group) -> None:
    """The entry point of a group.

    INT, TERM and HUP (timeout(1), a terminal that was closed) break it off alike: what is half written, temporary
    folders and programs that it has started go; then it ends by that signal, since a shell that waits is to see why.
    """
    command.begin()
    try:
        with SIGNALS.open():
            code = group.run(sys.argv[1:])
        command.leave(code)
    except errors.Interrupted as told:
        import signal
        signal.signal(told.signum, signal.SIG_DFL)
        os.kill(os.getpid(), told.signum)
