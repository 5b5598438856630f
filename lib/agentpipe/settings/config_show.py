"""agent-config show: every value that is set, where it came from, and nothing that is secret."""

from __future__ import annotations

import os
import re

from agentpipe import redact, shell_secrets, stdio, urls
from agentpipe.secret_names import is_secret_name
from agentpipe.settings import config, config_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MASK = "********"
# as clearml-agent has them in agent.sanitize_config_printout, which its users may have extended
HIDDEN = ["secret", "pass", "token", "account_key", "contents", "credentials_json"]
SHOWN = ["^enable_git_ask_pass$", "token_expiration"]
WHOLE = ["^environment$"]  # of these sections only the names are shown
# of these the values are words of `docker run`; an image may have some behind it
DOCKER = ["^extra_docker_arguments$", "^arguments$", "^image$"]
# of these scripts that containers run
SCRIPTS = ["^docker_preprocess_bash_script$", "^docker_init_bash_script$", "^extra_docker_shell_script$",
           "^setup_shell_script$"]
ENV = re.compile("--env|-[diPqt]*e")  # short switches may stand before it; the variable is the next word, or behind it
ENV_BEGUN = re.compile("--env=|-[diPqt]*e=?")


def show(key: str, all_values: bool = False, as_json: bool = False) -> int:
    """Print KEY VALUE ORIGIN lines (or JSON, one object a line); 1 when nothing is set there."""
    import json
    rows = found(key, all_values)
    for name, value, origin in rows:
        line = f"{name} = {config.as_text(value)}  ({origin})"
        if as_json:
            line = json.dumps({"key": name, "value": value, "origin": origin})
        stdio.put(line.encode("utf-8", "replace") + b"\n")
    if rows:
        return 0
    stdio.say(f"agent-config: {key + ' is' if key else 'nothing is'} not set{_why(key)}" if key else
              "agent-config: nothing is set: the embedded store of this machine is used")
    return 1 if key else 0


def found(key: str = "", all_values: bool = False) -> list[tuple[str, Any, str]]:
    """(key, masked value, origin) of all that is set at or below `key`, in order."""
    tree = config.section("", whole=all_values)
    keys = {".".join(names) for names, _ in config_file.leaves(tree)}
    keys |= {name for name in config.NAMED if config.origin(name)[0] is not None}
    dropped = set(_dropped()) if all_values else set()
    rows = []
    for name in sorted(keys):
        if not (not key or name == key or name.startswith(key + ".")):
            continue
        value, origin = config.origin(name)
        if value is None:
            value, origin = config.at(tree, name.split(".")), "clearml-agent's default: counts as not set"
            if name not in dropped:
                origin = "empty: counts as not set"
        rows.append((name, masked(name, value), origin))
    return rows


def masked(key: str, value: Any) -> Any:
    """The value as it may be shown: secrets by their keys' names, passwords in addresses."""
    if isinstance(value, dict):
        return {name: masked(f"{key}.{name}", each) for name, each in value.items()}
    if is_secret(key) and value not in ("", None, [], {}) and not isinstance(value, bool):
        return MASK
    if _fits(key.split(".")[-1], [*DOCKER, *_patterns("docker_commands")]):
        value = _of_docker(value)
    if isinstance(value, str | list) and _fits(key.split(".")[-1], SCRIPTS):
        value = [shell_secrets.script_shown(str(line)) for line in value] if isinstance(value, list) \
            else shell_secrets.script_shown(value)
    if isinstance(value, list):
        return [masked(key, each) if isinstance(each, dict | list) else _without_passwords(each) for each in value]
    return _without_passwords(value)


def _without_passwords(value: Any) -> Any:
    """A text without what is secret in its addresses: a password, a token, a value in a query; another value as it is.
    """
    if not isinstance(value, str):
        return value
    return urls.masked(value, MASK)


def _of_docker(value: Any) -> Any:
    """Words of `docker run`, a list or a text: of a variable whose name looks secret only the name."""
    if not isinstance(value, str | list):
        return value
    import shlex
    try:
        words = config.words(value) if isinstance(value, str) else value
    except ValueError:
        words = None
    if not isinstance(words, list):  # a quote or a bracket too many: where a word ends nobody knows
        return MASK
    shown = [_word_of_docker(str(before), word) if isinstance(word, str) else word
             for before, word in zip(["", *words], words, strict=False)]
    if isinstance(value, list):
        return shown
    return value if shown == words else shlex.join(map(str, shown))


def _word_of_docker(before: str, word: str) -> str:
    begun = re.match("" if ENV.fullmatch(before) else ENV_BEGUN, word)
    if begun is None:
        return word
    name, given, _ = word[begun.end():].partition("=")
    return f"{begun[0]}{name}={MASK}" if given and is_secret_name(name) else word


def is_secret(key: str) -> bool:
    """Whether the value of a key must not be shown."""
    names = key.split(".")
    if _fits(names[-1], [*SHOWN, *_patterns("dont_hide_secrets")]):
        return False
    return _fits(names[-1], [*HIDDEN, *_patterns("hide_secrets")]) \
        or any(_fits(name, [*WHOLE, *_patterns("hide_secrets_recursive")]) for name in names[:-1])


def holds_secrets(tree: dict[str, Any]) -> bool:
    """Whether anything of it would be masked."""
    return any(masked(name, value) != value for name, value in tree.items())


def secret_values() -> set[str]:
    """The secrets that the configuration files hold, for masking what a task prints."""
    if not config.files():
        return set()
    tree, _ = config.trees()
    return set(_secrets("", tree))


def _secrets(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _secrets(f"{key}.{name}" if key else name, each)
    elif isinstance(value, str | list) and _fits(key.split(".")[-1], [*DOCKER, *_patterns("docker_commands")]):
        yield from redact.secrets_in(shell_secrets.argument_variables(value))
    elif isinstance(value, str | list) and _fits(key.split(".")[-1], SCRIPTS):
        yield from redact.secrets_in(shell_secrets.script_variables(value))
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(key, each)
    elif isinstance(value, str) and is_secret(key):
        yield value
    # to HOCON digits alone are a number; of a whole section most numbers are no secrets, which logs may print
    elif isinstance(value, int | float) and not isinstance(value, bool) and is_secret(key.split(".")[-1]):
        yield config.as_text(value)


def _fits(name: str, patterns: list[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _patterns(name: str) -> list[str]:
    return config.get_list("agent.sanitize_config_printout." + name)


def _dropped() -> list[str]:
    files = config.files()
    return config_file.load(files, trees_of=2)[1] if files else []


def _why(key: str) -> str:
    if key in _dropped():
        return f": {os.path.basename(config.files()[-1])} has clearml-agent's default, which is no choice (--all)"
    return ""
