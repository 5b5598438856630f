"""A stage whose reader has stopped reading: its line is longer than the pipe, and a signal finds it all the same."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from agentpipe import held, place
from agentpipe.claim import attempt, claims
from agentpipe.pull import queues
from agentpipe.transport import api

LONG = "x" * 200_000


@pytest.fixture
def store():
    return api.connect()


@pytest.fixture
def task(store):
    queue = store.call("queues.get_default")["id"]
    task = store.call("tasks.create", {"name": "long", "type": "training", "script": {"diff": LONG}})["id"]
    store.call("tasks.enqueue", {"task": task, "queue": queue})
    return task


def waiting(store):
    return [entry["task"] for entry in store.call("queues.get_all")["queues"][0]["entries"]]


def stopped(command, line=b""):
    """What a command's exit code and stderr are, told to stop once its line has filled the pipe that nobody reads."""
    with subprocess.Popen([sys.executable, "-m", f"agentpipe.cmds.{command}"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(line)
        process.stdin.close()
        size, until = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ), time.monotonic() + 30
        while filled(process.stdout) < size:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(10), process.stderr.read()
        finally:
            process.kill()


def filled(pipe):
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]


def test_a_task_whose_line_nobody_reads_goes_back(store, task):
    assert stopped("agent_pull") == (75, b"")
    assert waiting(store) == [task]
    assert os.listdir(claims.active()) == []
    assert attempt.failed_attempts(task) == 0


def test_a_line_that_is_only_passed_on_keeps_nobody_either():
    failed = {"task": {"id": "a"}, "failed": {"stage": "fetch", "exit": 66, "reason": LONG}}
    assert stopped("agent_patch", json.dumps(failed).encode() + b"\n") == (75, b"")


def test_a_script_that_runs_keeps_its_place_when_nobody_reads_of_it(store, task):
    claim, line = queues.next_task(store, "host:0", queues.Queues(store, []), wait=False)
    os.symlink("1 1 boot", os.path.join(claim.directory, "pid"))
    journal = os.path.join(claim.directory, place.JOURNAL)
    with open(journal, "w") as file:
        json.dump({"kind": "host"}, file)
    held.Held(line, "pull", {}, store, claim).give_back("its line could not be handed on")
    assert os.path.exists(journal)
    assert os.listdir(claims.active()) == [claim.token]
    assert claims.lock(claim.directory, 0) is not None
