"""A script's processes as the shells of images see them."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from agentpipe import processes
from agentpipe.place import asking

SHELLS = [words for words in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(words[0])]
ODD_NAME = """
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b"a) S\\n1 (*", 0, 0, 0)
os.fork()
os.write(1, b"%d\\n" % os.getpid())
while True:
    time.sleep(1)
"""


@pytest.fixture(params=SHELLS, ids="-".join)
def ask(request):
    """ask(script, word…): what that shell answers; also where there are no other programs."""
    found = [str(shutil.which(request.param[0])), *request.param[1:]]

    def ask(script, *words, path=os.environ["PATH"]):
        done = subprocess.run([*found, "-c", script, "sh", *map(str, words)], capture_output=True, text=True,
                              env={"PATH": path})
        assert done.stderr == ""
        return done
    return ask


@pytest.fixture
def odd():
    """The identities of a script, whose name has all that misleads, and of its copy."""
    with subprocess.Popen([sys.executable, "-c", ODD_NAME, "a\nb", ""], stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as script:
        try:
            pids = {int(script.stdout.readline()) for _ in range(2)} - {script.pid}
            yield processes.identity(script.pid), processes.identity(pids.pop())
        finally:
            os.killpg(script.pid, signal.SIGKILL)


def test_who_is_there_is_told_whatever_their_names(ask, odd):
    script, copy = ([int(each) for each in record.split()[:2]] for record in odd)
    for path in (os.environ["PATH"], "/nowhere"):
        found = asking.listed(ask(asking.LIST, script[0], "mark", path=path).stdout, "mark")
        assert [(*each.name, each.parent) for each in found] == [(*script, os.getpid()), (*copy, script[0])]
    whole = asking.listed(ask(asking.LIST, script[0], "mark").stdout, "mark")
    assert [each.words[-2:] for each in whole] == [["a\nb", ""]] * 2
    assert ask(asking.SIGNAL, script[0], 0).stdout == "2\n"


def test_a_process_is_known_by_its_start(ask, odd):
    pid, start = odd[0].split()[:2]
    assert ask(asking.ALIVE, pid, start, path="/nowhere").returncode == 0
    assert ask(asking.ALIVE, pid, int(start) + 1).returncode == ask(asking.ALIVE, 99999999, start).returncode == 3
    ask(asking.TELL, "KILL", f"{pid}:{int(start) + 1}", f"99999999:{start}", "{}:{}".format(*odd[1].split()[:2]))
    until = time.monotonic() + 10
    while processes.alive(odd[1]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert processes.alive(odd[0])
