"""What a person who watches is shown, and what never waits for that person."""

import contextlib
import os
import signal
import types

import pytest

from agentpipe import held, job, place, processes
from agentpipe.claim import attempt
from agentpipe.run import monitor, script


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"")
    return path


@contextlib.contextmanager
def stderr_is_a_pipe():
    """What reads it; not a fixture, since pytest puts its own stderr back between those and a test."""
    kept = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(reading)


@pytest.mark.parametrize(("texts", "shown"), [
    ((b"one\n", b"one\ntwo\n"), b"one\ntwo\n"),
    ((b"before\n", b"after\n"), b"before\nafter\n"),  # it was truncated
])
def test_what_a_script_prints_is_shown_once_and_from_its_start_when_the_log_begins_anew(log, texts, shown):
    follower = monitor.Follower(str(log.parent), True)
    with stderr_is_a_pipe() as reader:
        for text in texts:
            log.write_bytes(text)
            follower.copy()
        assert os.read(reader, 100) == shown


def test_what_was_never_written_is_not_shown_but_said(log):
    os.truncate(log, 1 << 36)
    with open(log, "ab") as file:
        file.write(b"after\n")
    follower = monitor.Follower(str(log.parent), True)
    with stderr_is_a_pipe() as reader:
        follower.copy()
        assert os.read(reader, 1000) == (f"[agentpipe: {1 << 36} bytes that were never written are left out here]\n"
                                         "after\n").encode()


def test_a_terminal_that_stands_still_holds_nothing_up_and_gets_all_of_it_later(log):
    text = os.urandom(200_000)  # more than any pipe takes at once
    log.write_bytes(text)
    follower, shown = monitor.Follower(str(log.parent), True), b""
    with stderr_is_a_pipe() as reader:
        follower.copy()
        while len(shown) < len(text):
            shown += os.read(reader, 1 << 16)
            follower.copy()
    assert shown == text


def test_nobody_can_say_whether_a_script_lives_in_a_place_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "ANSWER_S", 0.1)
    hanging = place.Place({"prefix": ["sh", "-c", "exec sleep 60"]}, str(tmp_path))
    assert hanging.alive(processes.identity(os.getpid())) is None


def test_what_is_said_to_a_terminal_that_stands_still_waits_once_and_is_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(held, "ECHO_PATIENCE_S", 0.1)
    at_work = job.Job({"task": {}}, str(tmp_path), {}, held._echo({"verbose": True}))
    line = "x" * 99 + "\n"
    with stderr_is_a_pipe() as reader:
        for _ in range(2_000):
            at_work.say(line)
        assert os.read(reader, 100) == line.encode()
    at_work.close()
    assert (tmp_path / "setup.log").read_text() == line * 2_000


def test_a_log_that_was_shown_is_closed_with_its_script():
    directory = attempt.create("t1")
    found = script.start(directory, ["echo", "shown"], "/", os.environ)
    watched = types.SimpleNamespace(job=types.SimpleNamespace(watched=True, say=print))
    with stderr_is_a_pipe() as reader:
        before = len(os.listdir("/proc/self/fd"))
        monitor.watch(watched, found, {"grace": 1.0})
        assert len(os.listdir("/proc/self/fd")) == before
        assert os.read(reader, 100) == b"shown\n"
    processes.become_subreaper(False)


@pytest.mark.parametrize(("told", "how", "end"), [
    (signal.SIGTERM, "kill -TERM $$", "drained"),  # Slurm, whose time is over, tells every process of the job
    (signal.SIGINT, "kill -INT $$", "aborted"),
    (signal.SIGTERM, "exit 3", None),  # it failed by itself
    (None, "kill -TERM $$", None),  # somebody else's, and its alone
])
def test_a_script_that_got_our_signal_as_well_and_died_of_it_first_did_not_fail(monkeypatch, told, how, end):
    found = script.start(attempt.create("t1"), ["sh", "-c", how], "/", os.environ)
    found.wait(20)
    monkeypatch.setattr(monitor.SIGNALS, "told", told)
    watched = types.SimpleNamespace(job=types.SimpleNamespace(watched=False, say=print))
    assert monitor.watch(watched, found, {"grace": 1.0}).end == end
    processes.become_subreaper(False)


def test_what_such_a_script_has_started_saves_what_it_has(monkeypatch, tmp_path):
    started = "(trap 'sleep 0.3; : >saved; exit' TERM; : >ready; while :; do sleep 0.05; done) &"
    found = script.start(attempt.create("t1"), ["sh", "-c", f"{started} until [ -e ready ]; do sleep 0.01; done; "
                                                            "kill -TERM $$"], str(tmp_path), os.environ)
    found.wait(20)
    monkeypatch.setattr(monitor.SIGNALS, "told", signal.SIGTERM)
    monitor.SIGNALS.waiting.append(signal.SIGTERM)
    watched = types.SimpleNamespace(job=types.SimpleNamespace(watched=False, say=print))
    assert monitor.watch(watched, found, {"grace": 20.0}).end == "drained"
    assert (tmp_path / "saved").exists()
    processes.become_subreaper(False)
