"""--set SECTION/NAME=VALUE: a task's hyperparameters, and the arguments of its script that are the same thing."""

from __future__ import annotations

import shlex

from agentpipe import errors, redact, secrets
from agentpipe.task import entry_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

ARGS = "Args"  # the SDK's section for the arguments of argparse


def parsed(text: str) -> tuple[str, str, str]:
    """(section, name, value); without a section it is Args."""
    path, equals, value = text.partition("=")
    section, slash, name = path.partition("/")
    if not slash:
        section, name = ARGS, path
    if not equals or not section.strip() or not name.strip():
        raise errors.Failure(f"--set {text}: no SECTION/NAME=VALUE", errors.USAGE, remedy="such as --set Args/epochs=5")
    return section.strip(), name.strip(), value


def each(task: Mapping[str, Any]) -> list[str]:
    """SECTION/NAME=VALUE of each hyperparameter."""
    return [f"{section}/{name}={(item or {}).get('value')}"
            for section, items in sorted((task.get("hyperparams") or {}).items()) for name, item in items.items()]


def changed(task: Mapping[str, Any], asked: list[str], say: Callable[[str], None]) -> tuple[dict[str, Any], str | None]:
    """(all hyperparameters as they are to be, the entry point as it is to be or None when it stays).

    A script that uses the clearml package reads the hyperparameters; any other knows only its arguments.
    """
    sections = {name: dict(items) for name, items in (task.get("hyperparams") or {}).items()}
    words = entry_words.known(task.get("script") or {})
    before = list(words)
    for text in asked:
        section, name, value = parsed(text)
        known = name in sections.get(section, {})
        old = sections.get(section, {}).get(name) or {"section": section, "name": name, "type": ""}
        sections.setdefault(section, {})[name] = {**old, "value": value}
        if not (section == ARGS and _put(words, name, value)) and not known:
            entry = shlex.quote(secrets.shown(shlex.join([*words, f"--{name}={value}"])))
            reader = "only a script that uses the clearml package reads it"
            if section == redact.ENVIRONMENT:
                reader = "a worker with agent.enable_task_env makes a variable of it; else " + reader
            say(f"{section}/{name} is new: {reader}"
                + (f" (for any other: --entry-point {entry})" if section == ARGS else ""))
    return sections, shlex.join(words) if words != before else None


def _put(words: list[str], name: str, value: str) -> bool:
    """Give the option its value where it stands among the words (`--name VALUE`, `--name=VALUE`); whether it does.

    Of several the last: that is the one that a script takes.
    """
    spellings = {"--" + name, "--" + name.replace("_", "-"), *(["-" + name] if len(name) == 1 else [])}
    for index in range(len(words) - 1, 0, -1):
        option, equals, _ = words[index].partition("=")
        if option not in spellings:
            continue
        if equals:
            words[index] = f"{option}={value}"
            return True
        if index + 1 < len(words) and not words[index + 1].startswith("--"):
            words[index + 1] = value
            return True
    return False
