"""What an installer does, as its task's owner reads it."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from agentpipe import live, units
from agentpipe.environment import progress
from agentpipe.job import Job


class Log:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def test_downloads_and_builds_are_counted_sized_and_timed():
    log = Log()
    sink = progress.Lines(log, 3)
    for piece in ("Downloading numpy (17.4MiB)\n", "   Building leaf==1.0\n Downloa", "ded numpy\n",
                  "      Built leaf==1.0\n", "Prepared 3 packages in 1.2s\n"):
        sink(piece)
    lines = re.sub(r"\d+\.\d s", "0.0 s", log.text).splitlines()
    assert lines == ["Downloading numpy (17.4MiB) …", "Building leaf==1.0 …",
                     "downloaded numpy (17.4MiB): 1 of 3 packages, 0.0 s", "built leaf==1.0: 2 of 3 packages, 0.0 s",
                     "Prepared 3 packages in 1.2s"]


@pytest.mark.parametrize(("size", "shown"), [(0, ""), (512, "512 B"), (2048, "2.0 KiB"), (5 << 30, "5.0 GiB")])
def test_a_size_for_people(size, shown):
    assert units.told(size) == shown


def test_what_is_under_way_stands_in_the_line_that_moves():
    sink = progress.Lines(Log(), 3)
    sink("Downloading torch (780.1MiB)\nDownloading numpy (17.4MiB)\n Downloaded numpy\n")
    assert sink.now() == "installing: 1 of 3 packages, torch (780.1MiB)"
    sink("   Building leaf==1.0\n Downloaded torch\n")
    assert sink.now() == "installing: 2 of 3 packages, building leaf==1.0"


def test_the_log_has_a_plain_line_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "LOGGED", 0.01)
    job = Job({"task": {}}, str(tmp_path), {}, None)
    log = tmp_path / "setup.log"
    until = time.monotonic() + 20
    with live.Line(job, lambda: "installing: 1 of 3 packages, torch (780.1MiB)"):
        job.write("45 %\r")  # a program's own line is not over: nothing comes between
        before = log.read_bytes()
        time.sleep(0.05)
        assert log.read_bytes() == before
        job.write("100 %\n")
        with open("/dev/null", "wb") as sink:
            sink.write(bytes(2 << 20))
        while "written" not in log.read_text():
            assert time.monotonic() < until
            time.sleep(0.01)
    said = log.read_text().splitlines()[-1]
    assert re.fullmatch(r"installing: 1 of 3 packages, torch \(780\.1MiB\), \d+ s, [\d.]+ MiB written", said)
    assert job.echo is None


WORK = """
import sys, threading
from agentpipe import live
from agentpipe.job import Job
job = Job({"task": {}}, sys.argv[1], {}, lambda text: sys.stderr.write(text) and sys.stderr.flush())
live.FIRST = live.STEP = 0.01
asked = threading.Event()
def told():
    asked.set()
    return "working"
with live.Line(job, told):
    asked.wait(float(sys.argv[2]))
    job.say("found something")
    asked.clear()
    asked.wait(float(sys.argv[2]))
job.say("done")
"""


@pytest.mark.parametrize(("term", "moves", "patience"), [("xterm", True, 20), ("dumb", False, 0.1)])
def test_at_a_terminal_a_line_moves_until_the_work_is_over_and_is_in_no_log(tmp_path, term, moves, patience):
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path), str(patience)], stderr=theirs,
                          env={**os.environ, "TERM": term}) as process:
        os.close(theirs)
        said = b""
        while chunk := _read(ours):
            said += chunk
    assert process.returncode == 0
    assert (b"\r\x1b[Kworking, " in said) == moves
    # what is said stands alone, and nothing of the line is left
    shown = [line.rpartition(b"\x1b[K")[2] for line in said.split(b"\r\n")]
    assert shown == [b"found something", b"done", b""]
    assert (tmp_path / "setup.log").read_text() == "found something\ndone\n"


def _read(fd):
    try:
        return os.read(fd, 4096)
    except OSError:  # the other end is closed
        return b""
