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

    Any word is enough, a "phrase" must be there, and a -word must not. Case does not matter. Marks in a word separate
    as they do in ClearML's index: alpha-one finds "Alpha (one)" as well.
    """
    if not isinstance(asked, str):
        raise error(12, f'search_text: value is wrong, expected type "str" {asked!r}'[:200])
    words: list[Callable[[str], bool]] = []
    phrases: list[str] = []
    without: list[str] = []
    for minus, phrase, word in TERM.findall(asked)[:MOST]:
        found = (phrase or word).lower()
        if found and not (minus or phrase):
            words.append(_word(found))
        elif found:
            (without if minus else phrases).append(found)

    def fits(document: dict[str, Any]) -> int:
        texts = [(weight, str(text).lower()) for field, weight in weights.items() for text in values(document, field)
                 if isinstance(text, str)]
        if any(term in text for term in without for _, text in texts):
            return 0
        if not all(any(phrase in text for _, text in texts) for phrase in phrases):
            return 0
        if not words and not phrases:
            return 1
        return sum(weight * (sum(found(text) for found in words) + sum(phrase in text for phrase in phrases))
                   for weight, text in texts)
    return fits


def _word(word: str) -> Callable[[str], bool]:
    """Whether a text has this word, or what its marks leave of it, as whole words in this order."""
    parts = [part for part in re.split(r"\W+", word) if part]
    if not parts or parts == [word]:
        return lambda text: word in text
    marks = r"\W+"
    pattern = re.compile(rf"(?<!\w){marks.join(map(re.escape, parts))}(?!\w)")
    return lambda text: word in text or bool(pattern.search(text))
