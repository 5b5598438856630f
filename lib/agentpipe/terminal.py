"""Output as a terminal would show it: what a progress bar wrote over is gone, colours stay."""

import re

# CSI sequences; OSC (titles, links) up to BEL or ST; other two-byte escapes
_ESCAPE = re.compile(r"(\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]]|\x08)")
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?$")
# a row on a screen is not endless: what a script writes into one row beyond this is dropped
WIDEST = 1 << 16


class Fold:
    """Turns bytes into lines of text, one row of the screen at a time.

    Text without carriage returns and backspaces passes as it is, byte for byte. A row that was written over
    comes out once, as it looks when its line ends, or when snapshot() asks how it looks meanwhile.
    """

    def __init__(self) -> None:
        self.live = False  # the row has been written over: what it shows is not out yet
        self._row = _Row()
        self._open = ""  # of the last line, without its end, that passed as it is
        self._shown: str | None = None  # the last snapshot of this row

    def feed(self, data: bytes) -> str:
        """What is certain after these bytes (whole characters; what is not UTF-8 becomes U+FFFD)."""
        text = data.decode("utf-8", "replace")
        if not self.live and "\r" not in text and "\b" not in text:
            return self._plain(text)
        return "".join([self._line(line) for line in lines(text)])

    def snapshot(self) -> str:
        """How a live row looks now, as a line of its own; nothing when it looks as at the last snapshot."""
        shown = self._row.render()
        if not self.live or not shown or shown == self._shown:
            return ""
        self._shown = shown
        return shown + "\n"

    def end(self) -> str:
        """What ends the row that is there, as if its newline had come; nothing where a row begins."""
        return self.feed(b"\n") if self.live or self._open else ""

    def _plain(self, text: str) -> str:
        end = text.rfind("\n") + 1
        self._open = text[end:] if end else self._open + text
        self._open = self._open[-WIDEST:]
        return text

    def _line(self, line: str) -> str:
        ended = line.endswith("\n")
        content = line[:-1] if ended else line
        before = ""
        if not self.live:
            stripped = content.rstrip("\r") if ended else content
            if "\r" not in stripped and "\b" not in stripped:
                return self._plain(stripped + "\n" if ended else content)
            if self._open:
                # it is out already, without an end: what the row becomes starts a new line
                before = "\n"
                self._row.write(self._open)
                self._shown = self._open.rstrip()
            self.live = True
        self._row.write(content)
        if not ended:
            return before
        shown = self._row.render()
        again = shown == self._shown and bool(shown)
        self.live, self._row, self._open, self._shown = False, _Row(), "", None
        return before if again else before + shown + "\n"


class _Row:
    """One row of a screen: characters, the colours that each has, and the cursor."""

    def __init__(self) -> None:
        self._chars: list[str] = []
        self._styles: list[str] = []
        self._column = 0
        self._style = ""
        self._begun = ""  # of an escape sequence

    def write(self, text: str) -> None:
        """Write at the cursor; \\r, \\b and the sequences that move it or erase do what they say."""
        text = self._begun + text
        begun = _BEGUN.search(text)
        self._begun = begun.group() if begun and len(begun.group()) < 256 else ""
        if self._begun:
            text = text[:-len(self._begun)]
        pieces = text.split("\r")
        if "\x1b" not in text and "\b" not in text:
            pieces = _uncovered(pieces)
        for number, piece in enumerate(pieces):
            if number:
                self._column = 0
            for token in _ESCAPE.split(piece):
                if token[:1] in ("\x1b", "\b"):
                    self._control(token)
                elif token:
                    self._put(token)

    def render(self) -> str:
        """The row as text, blanks at its end left out, colours only where they change."""
        last = len(self._chars)
        while last and self._chars[last - 1] == " " and not self._styles[last - 1]:
            last -= 1
        if not any(self._styles[:last]) and not self._style:
            return "".join(self._chars[:last])
        out, style = [], ""
        for char, wanted in zip(self._chars[:last], self._styles[:last], strict=True):
            if wanted != style:
                out.append(("\x1b[0m" if style else "") + wanted)
                style = wanted
            out.append(char)
        if style != self._style:
            out.append(("\x1b[0m" if style else "") + self._style)
        return "".join(out)

    def _put(self, text: str) -> None:
        text = text[:WIDEST - self._column]
        gap = self._column - len(self._chars)
        if gap > 0:
            self._chars += " " * gap
            self._styles += [""] * gap
        end = self._column + len(text)
        self._chars[self._column:end] = text
        self._styles[self._column:end] = [self._style] * len(text)
        self._column = end

    def _control(self, token: str) -> None:
        if token == "\b":
            self._column = max(0, self._column - 1)
            return
        if not token.startswith("\x1b["):
            return
        kind, value = token[-1], token[2:-1]
        if kind == "m":
            self._style = "" if value.strip("0;") == "" else (self._style + token)[-128:]
        elif kind == "K":
            self._erase(value)
        elif kind in "CDG":
            count = min(int(value), WIDEST) if value.isdigit() and value.isascii() and int(value) else 1
            self._column = {"C": self._column + count, "D": self._column - count, "G": count - 1}[kind]
            self._column = min(max(0, self._column), WIDEST)

    def _erase(self, what: str) -> None:
        if what in ("", "0"):
            del self._chars[self._column:], self._styles[self._column:]
        elif what == "1":
            count = min(self._column + 1, len(self._chars))
            self._chars[:count] = " " * count
            self._styles[:count] = [""] * count
        elif what == "2":
            self._chars.clear()
            self._styles.clear()


def lines(text: str) -> list[str]:
    """The lines of a text with their ends: not splitlines(), which ends one at \\r, \\v, \\x85 and others too."""
    parts = text.split("\n")
    ended = [part + "\n" for part in parts[:-1]]
    return [*ended, parts[-1]] if parts[-1] else ended


def whole_characters(data: bytes) -> int:
    """How many bytes of `data` end with a whole UTF-8 character (the last three may be the begin of one)."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if needed > back else len(data)
    return len(data)


def _uncovered(pieces: list[str]) -> list[str]:
    """Leave out what a later, longer piece writes over; the first (at the cursor) and the last stay."""
    kept, longest = [pieces[-1]], len(pieces[-1])
    for piece in reversed(pieces[1:-1]):
        if len(piece) > longest:
            kept.append(piece)
            longest = len(piece)
    return ([pieces[0]] if len(pieces) > 1 else []) + kept[::-1]
