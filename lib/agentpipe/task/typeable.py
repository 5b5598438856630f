"""A command on a screen as it can be typed: what no line of a terminal holds stands in it as bash and zsh quote it."""

from __future__ import annotations

import re

# as shlex.quote makes it, which leaves no blank or control character outside; its own quotes stand in the others
QUOTED = re.compile(r""""'"|'[^']*'""")


def line(text: str) -> str | None:
    """The same command in printable characters ($'…' for a word with others); None where there is no such one.

    A word of prose in `text` stays as it is.
    """
    found = QUOTED.sub(lambda match: match[0] if match[0].isprintable() else _escaped(match[0][1:-1]), text)
    return found if found.isprintable() else None


def _escaped(word: str) -> str:
    return "$'" + "".join(_of(character) for character in word) + "'"


def _of(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return {"\n": r"\n", "\t": r"\t"}.get(character) or "".join(
        f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
