"""Which variables, keys and values of a query hold a secret, by their names."""

from __future__ import annotations

import re

# as Buildkite's agent names them, and what tools of this field use (they stand in agent-report(1))
_NAMES = re.compile(r"(PASSWORD|PASSWD|PASSPHRASE|(^|_)(PASS|PWD)|SECRETS?|TOKEN|CREDENTIALS?|CONNECTION_STRING"
                    r"|(PRIVATE|ACCESS|SECRET|API)_?KEY)(_\d+)?$", re.IGNORECASE)
# other keys may be names of things: of a column, a metric, a setting of git
_KEYS = re.compile(r"(?<!PUBLIC)(?<!PUB)(?<!PRIMARY)(?<!FOREIGN)(?<!SORT)(?<!CACHE)(?<!PARTITION)_KEY(_\d+)?$",
                   re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_.]{1,19}")


def is_secret_name(name: str) -> bool:
    """Whether a variable, or a value in a URL's query, of this name holds a secret."""
    return bool(_NAMES.search(name) or _KEYS.search(name))


def is_secret(name: str, value: str) -> bool:
    """Whether a variable of this name and value holds a secret, which may be too short to be looked for in a text."""
    named = _NAMES.search(name) or (_KEYS.search(name) and not _WORD.fullmatch(value))
    return bool(named and value and not value.startswith("/"))
