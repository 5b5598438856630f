"""The secrets that this process itself holds, in its environment and in clearml.conf: none stands in what it writes."""

from __future__ import annotations

import os

from agentpipe import redact, shell_secrets, urls
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def known() -> set[str]:
    """All of them, as they and others write them."""
    found = redact.secrets_in(os.environ)
    for name, value in os.environ.items():
        if "DOCKER" in name and "=" in value:  # what containers get, whose scripts see and may print it
            words = _words(value)
            found |= redact.secrets_in(shell_secrets.argument_variables(words))
            found |= redact.secrets_in(shell_secrets.script_variables(words))
    if config.files():
        from agentpipe.settings import config_show
        values = {value for value in map(str.strip, config_show.secret_values()) if len(value) >= redact.SHORTEST}
        found |= redact.spellings(values)
    return found


def _words(value: str) -> str | list[Any]:
    """Words of a setting, which may be written as a list."""
    try:
        found = config.words(value)
    except ValueError:
        return value
    return found if isinstance(found, list) else value


def hidden(text: str) -> str:
    """A text that may quote what this process holds, without any of them; the name of the server's key is none."""
    if not text:
        return text
    try:
        secrets = known()
    except Exception:  # a clearml.conf that cannot be read, however: the words of a failure must not fail themselves
        secrets = redact.secrets_in(os.environ)
    secrets.discard(os.environ.get("CLEARML_API_ACCESS_KEY", ""))
    return urls.without_query_secrets(redact.Redactor(secrets).text(text))
