"""What a stage says of a task goes to its set-up log as text that no terminal obeys."""

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
