"""What a stage says of a task goes to its set-up log as text that no terminal obeys."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentpipe.job import Job

LINE = {"manifest": 1, "task": {"id": "t1"}}


@pytest.mark.parametrize(("said", "written"), [
    ("cloning a … ü\n", "cloning a … ü\n"), ("two\nlines", "two\nlines\n"),
    ("from \x1b[31mred\x1b[0m\x1b]0;title\x07 a\rb", "from red\\x1b]0;title\\x07 a\\rb\n"),
    ("a\tb\nc \udcff", "a       b\nc \\udcff\n")])
def test_what_we_say_quotes_names_that_others_chose(tmp_path: Path, said: str, written: str) -> None:
    job = Job(LINE, str(tmp_path))
    job.say(said)
    job.write("\x1b[31mas a program printed it\x1b[0m\n")
    assert (tmp_path / "setup.log").read_text() == written + "\x1b[31mas a program printed it\x1b[0m\n"


@pytest.mark.parametrize(("text", "expected"), [
    ("remote: Enumerating objects: 1346        \r", b"objects: 1346\x1b[K\r\r\x1b[Kagent-fetch: told to stop\r\n"),
    ("half a line", b"half a line\r\nagent-fetch: told to stop\r\n"),
    ("whole\n", b"whole\r\nagent-fetch: told to stop\r\n")])
def test_a_line_of_ours_begins_a_row_whatever_a_program_left_on_it(text, expected):
    """And a row of git's progress has no blanks, which are a second one on a narrow terminal."""
    said = f"from agentpipe import held, stdio; held._echo({{}})({text!r}); stdio.say('agent-fetch: told to stop')"
    main, terminal = os.openpty()
    subprocess.run([sys.executable, "-c", said], stderr=terminal, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(terminal)
    assert os.read(main, 4096).endswith(expected)
    os.close(main)
