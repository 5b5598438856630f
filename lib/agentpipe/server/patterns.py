"""Regular expressions of requests, without those that never end."""

from __future__ import annotations

import re

from agentpipe.server.common import error

try:
    from re import _parser as parser  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_parse as parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 10_000
# so often, and no more: what is inside of such a repetition is tried in more ways than anybody can wait for
MANY = 64


def compile_pattern(text: Any, flags: int = 0) -> re.Pattern[str]:
    """A regular expression of a request; a malformed or endless one is 400/21."""
    if not isinstance(text, str):
        raise error(12, f'value is wrong, expected type "str" {text!r}'[:200])
    if len(text) > MOST:
        raise error(21, f"longer than {MOST} characters")
    try:
        if text.count("*") + text.count("+") + text.count("{") > 1 and _endless(parser.parse(text, flags), False):
            raise error(21, "a repetition inside of a repetition", pattern=text[:200])
        return re.compile(text, flags)
    except (re.error, RecursionError, OverflowError) as problem:
        raise error(21, str(problem), pattern=text[:200]) from None


def _endless(tokens: Any, repeated: bool) -> bool:
    """Whether a repetition stands inside of another: (a+)+ takes exponential time on what does not fit.

    Nobody else would be answered meanwhile, since the search holds Python's lock.
    """
    for operator, argument in tokens:
        repeats = str(operator) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] >= MANY
        if repeats and repeated:
            return True
        for part in argument if isinstance(argument, tuple | list) else [argument]:
            for below in part if isinstance(part, list) else [part]:
                if isinstance(below, parser.SubPattern) and _endless(below, repeated or repeats):
                    return True
    return False
