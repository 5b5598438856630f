"""Regular expressions of requests, without those that never end."""

from __future__ import annotations

import math
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
# in so many ways a pattern may be tried on one text; the longest text of these with which it stays below is looked into
WAYS = math.log2(2e8)
LENGTHS = (1 << 16, 4096, 512)
# a repetition of so many rounds takes time even where each of them fits in one way only
MANY = 64
REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


class Pattern:
    """A regular expression that ends: of a text so much is looked into as can be done in time."""

    def __init__(self, compiled: re.Pattern[str], length: int) -> None:
        self._compiled, self.length = compiled, length

    def search(self, text: str) -> bool:
        """Whether it fits anywhere in (the beginning of) a text."""
        return self._compiled.search(text, 0, self.length) is not None


def compile_pattern(text: Any, flags: int = 0) -> Pattern:
    """A regular expression of a request; a malformed or endless one is 400/21.

    Nobody else would be answered while an endless one is tried, since the search holds Python's lock.
    """
    if not isinstance(text, str):
        raise error(12, f'value is wrong, expected type "str" {text!r}'[:200])
    if len(text) > MOST:
        raise error(21, f"longer than {MOST} characters")
    try:
        tokens = parser.parse(text, flags)
        for length in LENGTHS:
            if _tries(tokens, length) <= WAYS:
                return Pattern(re.compile(text, flags), length)
    except (re.error, RecursionError, OverflowError) as problem:
        raise error(21, str(problem), pattern=text[:200]) from None
    raise error(21, "repetitions and alternatives that can be tried in too many ways", pattern=text[:200])


def _tries(tokens: Any, length: int) -> float:
    """In how many ways (as a power of 2) a pattern may be tried on a text: from each of its places, but for ^."""
    first, last = (tokens[0], tokens[-1]) if len(tokens) else (("", ""), ("", ""))
    anchored = str(first[1]) in ("AT_BEGINNING", "AT_BEGINNING_STRING") and not tokens.state.flags & re.MULTILINE
    if str(last[0]) in REPEATS and int(last[1][0]) < MANY and _ways(last[1][2], length) == 0:
        tokens = tokens[:-1]  # nothing follows for whose sake it would be tried with fewer rounds
    return _ways(tokens, length) + (0 if anchored else math.log2(length))


def _ways(tokens: Any, length: int) -> float:
    """In how many ways, as a power of 2, these may fit a text of that length, one after the other."""
    found = 0.0
    for operator, argument in tokens:
        inside = [_ways(below, length) for below in _below(argument)]
        kind = str(operator)
        if kind == "BRANCH":
            found += _sum(inside)
        elif kind in REPEATS:
            most = min(int(argument[1]), length)
            rounds = most if most >= MANY else most - int(argument[0]) + 1
            # ( #[0-9]+)*: each round begins at one place only (so the clearml package looks for the runs of a pipeline)
            alone = inside[0] == 0 or _begins_alone(argument[2])
            found += math.log2(max(1, rounds)) + inside[0] * (1 if alone else most)
        else:
            found += sum(inside)
    return found


def _sum(powers: list[float]) -> float:
    most = max(powers)
    return most + math.log2(sum(2 ** (power - most) for power in powers))


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
    operator, argument = body[0] if len(body) else ("", 0)
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
