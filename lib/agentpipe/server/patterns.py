"""Regular expressions of requests, without those that never end."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
# (.*a){10} is .*a ten times: what repeats without an end may be repeated so often
FEW = 3
REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


def compile_pattern(text: Any, flags: int = 0) -> re.Pattern[str]:
    """A regular expression of a request; a malformed or endless one is 400/21."""
    if not isinstance(text, str):
        raise error(12, f'value is wrong, expected type "str" {text!r}'[:200])
    if len(text) > MOST:
        raise error(21, f"longer than {MOST} characters")
    try:
        if text.count("*") + text.count("+") + text.count("{") > 1 and _endless(parser.parse(text, flags), 1):
            raise error(21, "a repetition inside of a repetition", pattern=text[:200])
        return re.compile(text, flags)
    except (re.error, RecursionError, OverflowError) as problem:
        raise error(21, str(problem), pattern=text[:200]) from None


def _endless(tokens: Any, times: int) -> bool:
    """Whether a repetition stands inside of others, `times` of them: (a+)+ takes exponential time on what does not fit.

    Nobody else would be answered meanwhile, since the search holds Python's lock. ( #[0-9]+)* is none of these: each
    of its rounds can begin at one place only (so the clearml package looks for the runs of a pipeline).
    """
    for operator, argument in tokens:
        often = int(argument[1]) if str(operator) in REPEATS else 1
        if often >= MANY and times > FEW:
            return True
        inside = times * min(often, MANY) if often > 1 and not _begins_alone(argument[2]) else times
        if any(_endless(below, inside) for below in _below(argument)):
            return True
    return False


def _below(argument: Any) -> Iterator[Any]:
    """The patterns inside of an operator."""
    for part in argument if isinstance(argument, tuple | list) else [argument]:
        for each in part if isinstance(part, list) else [part]:
            if isinstance(each, parser.SubPattern):
                yield each


def _begins_alone(body: Any) -> bool:
    """Whether a pattern begins with a character that nothing else of it fits."""
    while len(body) == 1 and str(body[0][0]) == "SUBPATTERN":
        body = body[0][1][-1]
    operator, argument = body[0]
    if str(operator) != "LITERAL":
        return False
    letter = chr(argument)
    return not _fits({ord(each) for each in (letter.lower() + letter.upper())}, body[1:])


def _fits(letters: set[int], tokens: Any) -> bool:
    """Whether one of these characters may fit a part of a pattern; true where that is not easily seen."""
    for operator, argument in tokens:
        kind = str(operator)
        if kind == "LITERAL":
            found = argument in letters
        elif kind == "RANGE":
            found = any(argument[0] <= letter <= argument[1] for letter in letters)
        elif kind == "IN":
            found = _fits(letters, argument)
        elif kind in (*REPEATS, "SUBPATTERN"):
            found = any(_fits(letters, below) for below in _below(argument))
        else:
            found = True
        if found:
            return True
    return False
