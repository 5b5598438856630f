"""The secrets that this process itself holds, in its environment and in clearml.conf: none stands in what it writes."""

from __future__ import annotations

import os

from agentpipe import redact
from agentpipe.settings import config


def known() -> set[str]:
    """All of them, as they and others write them."""
    found = redact.secrets_in(os.environ)
    if config.files():
        from agentpipe.settings import config_show
        values = {value for value in map(str.strip, config_show.secret_values()) if len(value) >= redact.SHORTEST}
        found |= redact.spellings(values)
    return found


def hidden(text: str) -> str:
    """A text that may quote what this process holds, without any of them; the name of the server's key is none."""
    if not text:
        return text
    try:
        secrets = known()
    except Exception:  # a clearml.conf that cannot be read, however: the words of a failure must not fail themselves
        secrets = redact.secrets_in(os.environ)
    secrets.discard(os.environ.get("CLEARML_API_ACCESS_KEY", ""))
    return redact.without_query_secrets(redact.Redactor(secrets).text(text))
