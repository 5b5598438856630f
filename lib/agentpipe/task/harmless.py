"""What a program printed, for a terminal: colours and progress bars, and nothing else that a terminal would obey."""

from __future__ import annotations

import re

# strings (OSC, DCS, SOS, PM, APC: titles, the clipboard) up to their end or that of the line; CSI; other escapes; and
# control characters but tab, newline, carriage return and backspace, those of UTF-8 (C1) among them
OBEYED = re.compile(rb"\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?"
                    rb"|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")
# to erase a line, and to go up by some
MOVES = re.compile(rb"\x1b\[(?:[0-2]?K|[0-9]{0,2}A)")
# of an escape sequence that goes on in the next piece, if it ever ends
BEGUN = re.compile(rb"\x1b(?:\[[0-?]{0,100}[ -/]{0,9}|[\]PX^_][^\x07\x1b\n]{0,4000}\x1b?|[ -/]{0,9})?\Z|\xc2\Z")


class Harmless:
    """A filter for pieces of bytes, which may end within a sequence; without `colours` these are left out too."""

    def __init__(self, colours: bool = True) -> None:
        self._colours, self._begun = colours, b""

    def feed(self, data: bytes) -> bytes:
        """What of it may be written to a terminal."""
        data = self._begun + data
        begun = BEGUN.search(data)
        self._begun = data[begun.start():] if begun else b""
        return OBEYED.sub(self._kept, data[:begun.start()] if begun else data)

    def _kept(self, found: re.Match[bytes]) -> bytes:
        text = found[0]
        return text if (self._colours and COLOUR.fullmatch(text)) or MOVES.fullmatch(text) else b""
