"""While a stage waits for its line it imports what it will need, and no more than that."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from agentpipe import command, lines
stdin = lines.Input()
stdin.on_wait = lambda: command.warm_up("agent-run")
stdin.fill()
print([name for name in ("agentpipe.report.reporter", "agentpipe.run.launch", "requests") if name in sys.modules])
"""


def imported(first, **environment):
    """What is there after the first read of a stage, whose line comes `first` or once it has waited."""
    reader, writer = os.pipe()
    line = b"{}\n"
    if first:
        os.write(writer, line)
    with subprocess.Popen([sys.executable, "-X", "importtime", "-c", CODE], stdin=reader, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        os.close(reader)
        last = "agentpipe.place.memory" if not environment else "requests"
        for shown in process.stderr:
            if not first and shown.endswith(f" {last}\n"):
                os.write(writer, line)
                break
        out, _ = process.communicate(timeout=30)
        os.close(writer)
    return out.strip()


def test_a_line_that_is_there_is_not_kept_waiting():
    assert imported(first=True) == "[]"


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, "['agentpipe.report.reporter', 'agentpipe.run.launch']"),
    ({"CLEARML_API_HOST": "http://a:8008"}, "['agentpipe.report.reporter', 'agentpipe.run.launch', 'requests']")])
def test_one_that_waits_is_warm(environment, expected):
    assert imported(first=False, **environment) == expected
