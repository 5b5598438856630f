"""search_text: words in the texts of objects, and how well they fit (server.md §4)."""

from __future__ import annotations

import re
from collections.abc import Callable

from agentpipe.server.common import error
from agentpipe.server.fieldpaths import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# the path under which a score stands in what is ordered
SCORE = "@text_score"
TERM = re.compile(r'(-?)(?:"([^"]*)"|(\S+))')
MOST = 64


def score(asked: Any, weights: dict[str, int]) -> Callable[[dict[str, Any]], int]:
    """A document's score: the weights of the fields in which words are found, 0 when it does not fit.

    Any word is enough, a "phrase" must be there, and a -word must not. Case does not matter.
    """
    if not isinstance(asked, str):
        raise error(12, f'search_text: value is wrong, expected type "str" {asked!r}'[:200])
    words: list[str] = []
    phrases: list[str] = []
    without: list[str] = []
    for minus, phrase, word in TERM.findall(asked)[:MOST]:
        found = (phrase or word).lower()
        if found:
            (without if minus else phrases if phrase else words).append(found)

    def fits(document: dict[str, Any]) -> int:
        texts = [(weight, str(text).lower()) for field, weight in weights.items() for text in values(document, field)
                 if isinstance(text, str)]
        if any(term in text for term in without for _, text in texts):
            return 0
        if not all(any(phrase in text for _, text in texts) for phrase in phrases):
            return 0
        if not words and not phrases:
            return 1
        return sum(weight for weight, text in texts for term in (*words, *phrases) if term in text)
    return fits
