"""Output reads in the log as it read on a screen."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe import errors, failures
from agentpipe.terminal import Fold, whole_characters


def folded(*chunks: bytes) -> str:
    fold = Fold()
    return "".join(fold.feed(chunk) for chunk in chunks)


@pytest.mark.parametrize(("printed", "seen"), [
    (b"plain\n\n\ttabs \n", "plain\n\n\ttabs \n"),
    (b"dos\r\nlines\r\n", "dos\nlines\n"),
    (b"\r  0%|  |\r 50%|# |\r100%|##|\n", "100%|##|\n"),
    (b"downloading\rdone\n", "doneloading\n"),
    (b"downloading\r\x1b[Kdone\n", "done\n"),
    (b"downloading\x1b[2K\rdone\n", "done\n"),
    (b"\r 99%\r     \rsaved\n", "saved\n"),
    (b"abc\b\b\bxy\n", "xyc\n"),
    (b"\x1b[31mred\x1b[0m stays\n", "\x1b[31mred\x1b[0m stays\n"),
    (b"\r\x1b[32m 10%\x1b[0m\r\x1b[32m100%\x1b[0m\n", "\x1b[32m100%\x1b[0m\n"),
    (b"\x1b[32mgreen\x1b[0m\rno\n", "no\x1b[32meen\x1b[0m\n"),
    (b"\x1b]0;title\x07\x1b[?25l\rspin\n", "spin\n"),
    (b"bytes \xff\xfe\n", "bytes \ufffd\ufffd\n"),
    ("übung: ✓\n".encode(), "übung: ✓\n"),
])
def test_a_line_reads_as_on_a_screen(printed: bytes, seen: str) -> None:
    assert folded(printed) == seen


def test_what_a_task_holds_does_not_move_the_cursor_of_who_reads_an_error(capfd):
    failures.tell("agent-env", errors.Failure("line 1 is no requirement: \x1b[2Jté\x00a", 65), line=False)
    assert capfd.readouterr().err == "agent-env: line 1 is no requirement: \ufffd[2Jté\ufffda\n"


def test_a_live_bar_shows_its_state_when_asked_and_its_end_once() -> None:
    fold = Fold()
    assert fold.feed(b"\r 10%\r 20%") == ""
    assert fold.snapshot() == " 20%\n"
    assert fold.snapshot() == "", "nothing has changed"
    assert fold.feed(b"\r100%\n") == "100%\n"
    assert fold.feed(b"next\n") == "next\n"


def test_a_bar_that_ends_as_it_was_last_shown_is_not_shown_twice() -> None:
    fold = Fold()
    fold.feed(b"\r100%")
    assert fold.snapshot() == "100%\n"
    assert fold.feed(b"\n") == ""


def test_a_line_that_is_out_without_its_end_and_then_written_over_begins_anew() -> None:
    assert folded(b"loading", b"\rdone   \n") == "loading\ndone\n"


class Screen:
    """The plainest terminal there is: one row, a cursor, no escapes."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.row, self.column = "", 0

    def write(self, text: str) -> str:
        for char in text:
            if char == "\n":
                self.rows.append(self.row.rstrip(" "))
                self.row, self.column = "", 0
            elif char == "\r":
                self.column = 0
            elif char == "\b":
                self.column = max(0, self.column - 1)
            else:
                row = self.row.ljust(self.column)
                self.row = row[:self.column] + char + row[self.column + 1:]
                self.column += 1
        return "\n".join([*self.rows, ""])


@given(st.text("ab \r\b\n", max_size=60))
def test_whole_output_reads_as_on_the_plainest_terminal(text: str) -> None:
    text += "\n"
    seen = "".join(line.rstrip(" ") + "\n" for line in folded(text.encode()).split("\n")[:-1])
    assert seen == Screen().write(text)


@given(st.lists(st.lists(st.text("abé✓ \b", max_size=5), min_size=1, max_size=8), min_size=1, max_size=5),
       st.lists(st.integers(0, 300), max_size=6))
def test_a_bar_may_be_read_in_any_pieces(bars: list[list[str]], cuts: list[int]) -> None:
    text = "".join("\r" + "\r".join(states) + "\n" for states in bars).encode()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    fold, rest, seen = Fold(), b"", ""
    for begin, end in pairwise(edges):
        rest += text[begin:end]
        whole = whole_characters(rest)
        seen += fold.feed(rest[:whole])
        rest = rest[whole:]
    assert seen == folded(text)


def test_of_a_million_states_the_last_is_seen() -> None:
    states = b"".join(b"\rstep %d" % step for step in range(1_000_000)) + b"\n"
    assert folded(states) == "step 999999\n"


@pytest.mark.parametrize("text", ["a", "é", "✓", "🙂"])
def test_a_character_is_never_cut(text: str) -> None:
    data = b"x" + text.encode()
    for length in range(1, len(data)):
        assert whole_characters(data[:length]) == 1
    assert whole_characters(data) == len(data)
