"""Text in the columns of a terminal: nothing that a terminal would obey, and characters of two columns, or none.

Unicode's annexes #11 (East Asian width) and #44 (general category) say which.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
SHORTEST = 8  # of a name in a table, however narrow the terminal


def printed(text: str) -> str:
    """A line that some program printed, as plain(): its colours left out, tabs as blanks."""
    return plain(COLOUR.sub("", text).expandtabs())


def plain(text: str) -> str:
    """One line without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
                   for char in text)


def width(text: str) -> int:
    """How many columns a text without control characters takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    import unicodedata
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Text that is no wider than so many columns; what was cut is told by an ellipsis."""
    if width(text) <= columns:
        return text
    kept, room = "", columns - 1
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return kept.rstrip("…") + "…" if columns > 0 else ""


def padded(text: str, columns: int) -> str:
    """Text that takes exactly so many columns, cut or filled with blanks."""
    return filled(cut(text, columns), columns)


def filled(text: str, columns: int) -> str:
    """Text that takes so many columns or more, filled with blanks."""
    return text + " " * (columns - width(text))


def narrowed(widths: Sequence[int], room: int, names: Sequence[int]) -> list[int]:
    """Widths of columns that fit into `room` together: the widest of `names` gives way first, down to SHORTEST."""
    given = [min(width, max(room, SHORTEST)) if at in names else width for at, width in enumerate(widths)]
    while sum(given) > room:
        widest = max(names, key=lambda at: given[at], default=None)
        if widest is None or given[widest] <= SHORTEST:
            break
        given[widest] -= 1
    return given
