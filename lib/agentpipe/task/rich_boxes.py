"""The frames that rich draws around errors (of typer's programs), as click and Python write them plainly."""

from __future__ import annotations

import re

BEGIN = re.compile(r"[╭+][─-]+ (Error|Traceback \(most recent call last\)) [─-]+[╮+]$")
END = re.compile(r"[╰+][─-]+[╯+]$")
SIDES = re.compile(r"[│|] (.*) [│|]$")
PLACE = re.compile(r"(.+):(\d+) in (\S.*)$")
SHOWN = re.compile(r"[❱>]\s*\d+ (?:[│|] +)*(.*)$")  # the line of the code that ran


def plain(text: str) -> str:
    """The text with `Error: WORDS`, or a traceback of Python, in the place of each frame."""
    if "╭" not in text and "+-" not in text:
        return text
    found: list[str] = []
    inside: list[str] = []
    kind = ""
    for line in text.splitlines():
        begin, side = BEGIN.match(line), SIDES.match(line)
        if begin:
            kind, inside = begin[1], []
        elif kind and side:
            inside.append(side[1])
        elif kind and END.match(line):
            found += _error(inside) if kind == "Error" else _traceback(inside)
            kind = ""
        else:
            found.append(line)
    return "\n".join([*found, *(inside if kind else ())])  # of a frame that was cut off, what is in it


def _error(inside: list[str]) -> list[str]:
    return [f"Error: {_joined(inside)}"]


def _traceback(inside: list[str]) -> list[str]:
    found, place = ["Traceback (most recent call last):"], list[str]()
    for line in [*inside, ""]:
        shown = SHOWN.match(line)
        if shown and len(found) > 1:
            found.append(f"    {shown[1].strip()}")
        elif line.strip():
            place.append(line)
        else:
            at = PLACE.match(_joined(place))
            if at:
                found.append(f'  File "{at[1]}", line {at[2]}, in {at[3]}')
            place = []
    return found


def _joined(lines: list[str]) -> str:
    """Lines as before they were wrapped: what fills one to its end goes on in the next without a blank."""
    return "".join(line.rstrip() + " " if line.endswith(" ") else line for line in lines).strip()
