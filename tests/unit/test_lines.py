"""A filter's lines: each is done, whatever goes wrong with one before it."""

import errno
import gc
import json
import os

import pytest

from agentpipe import errors, held, lines, paths, stages
from agentpipe.claim import claims

TWO = ("local-a", "local-b")


def through(steps):
    """The exit codes of two tasks by hand that go through a stage."""
    read, write = os.pipe()
    os.write(write, b"".join(json.dumps({"task": {"id": task}}).encode() + b"\n" for task in TWO))
    os.close(write)
    found, codes = lines.Input(read), []
    gc.disable()  # what is let go of is let go of at once
    try:
        lines._each_line("agent-patch", found, lambda raw, _: stages.each("patch", steps, raw, {}), {}, codes)
    finally:
        gc.enable()
        found.close()
    return codes


def fails(held):
    if held.id == TWO[0]:
        raise KeyError("of a bug")


def is_free(task):
    lock = claims.lock(paths.state("tasks", f"{task}.1"), 0)
    if lock is not None:
        os.close(lock)
    return lock is not None


def test_a_disk_without_room_for_one_task_keeps_no_later_line_from_being_done(capfd, monkeypatch):
    begin = held.Job.__init__

    def full(self, manifest, directory, *more):
        if directory.endswith(f"/{TWO[0]}.1"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), directory)
        begin(self, manifest, directory, *more)

    monkeypatch.setattr(held.Job, "__init__", full)
    assert through(lambda held: None) == [errors.CANNOT_CREATE, 0]
    told, done = map(json.loads, capfd.readouterr().out.splitlines())
    assert "task" not in told
    assert done["task"]["id"] == TWO[1]
    assert is_free(TWO[0])


def test_nor_does_a_bug_which_lets_its_task_go(capfd, monkeypatch):
    assert through(fails) == [errors.BUG, 0]
    assert is_free(TWO[0])
    monkeypatch.setenv("AGENT_DEBUG", "1")
    with pytest.raises(KeyError):
        through(fails)
