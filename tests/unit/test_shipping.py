"""What a task prints is in the store: all of it, once, in order, whatever dies in between."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from reporting import WORKER, Foreign, Late, Running, Unreliable

from agentpipe import errors
from agentpipe.redact import Redactor
from agentpipe.report import logs, shipping
from agentpipe.report.shipping import Shipper


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    return Running(tmp_path)


def shipper(task: Running, api: Any = None) -> Shipper:
    return Shipper(api or task.api, task.id, task.claim, str(task.directory), WORKER)


def test_lines_arrive_as_they_were_printed(task: Running) -> None:
    task.prints("übung ✓\n\n  tabs\tand spaces  \n".encode())
    assert shipper(task).ship() == os.path.getsize(task.directory / "log")
    assert task.log() == "übung ✓\n\n  tabs\tand spaces  \n"


def test_set_up_comes_before_the_script_and_each_has_its_level(task: Running) -> None:
    task.prints(b"epoch 1\n")
    task.prints(b"cloning\n", "setup.log")
    shipper(task).ship()
    events = task.call("events.get_task_log", task=task.id, order="asc")["events"]
    assert [(event["msg"], event["level"], event["worker"]) for event in events] == [
        ("cloning\n", "INFO", WORKER), ("epoch 1\n", "DEBUG", WORKER)]


def test_a_line_waits_for_its_end_while_it_is_written(task: Running) -> None:
    task.prints(b"done\nhalf a li")
    sender = shipper(task)
    sender.ship()
    assert task.log() == "done\n"
    task.prints(b"ne\n")
    sender.ship()
    assert task.log() == "done\nhalf a line\n"


def test_a_prompt_without_an_end_is_sent_when_it_stays(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"name? ")
    stream = logs.Stream("log", str(tmp_path / "log"), Redactor())
    assert stream.take(100.0) is None
    assert stream.take(100.9) is None
    assert stream.take(101.1) == ("name? ", 0, 6)
    (tmp_path / "log").write_bytes(b"name? Bob\n")
    assert stream.take(101.2) == ("Bob\n", 6, 10)


def test_a_live_bar_is_seen_every_few_seconds(tmp_path: Path) -> None:
    stream, seen = logs.Stream("log", str(tmp_path / "log"), Redactor()), ""
    with open(tmp_path / "log", "wb", buffering=0) as log:
        for step in range(101):
            log.write(b"\r%3d%%" % step)
            taken = stream.take(step / 10)
            seen += taken[0] if taken else ""
        log.write(b"\n")
        taken = stream.take(10.1)
        assert taken and taken[2] == os.path.getsize(tmp_path / "log")
        seen += taken[0]
    assert seen.splitlines() == [" 30%", " 60%", " 90%", "100%"]


def test_what_is_not_utf_8_is_marked_and_characters_are_not_cut(task: Running) -> None:
    task.prints("é".encode()[:1])
    sender = shipper(task)
    sender.ship()
    task.prints("é".encode()[1:] + b" \xff\n")
    sender.ship()
    assert task.log() == "é \ufffd\n"


def test_a_line_of_any_length_goes_in_pieces(task: Running) -> None:
    line = "ünendlich " * 100_000
    task.prints(line.encode())
    sender = shipper(task)
    sender.ship()
    task.prints(b"\n")
    sender.ship(final=True)
    assert task.log() == line + "\n"


def test_secrets_are_not_sent_also_when_two_writes_make_one(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    sender = shipper(task)
    task.prints(b"key 01234567")
    sender.ship()
    task.prints(b"89abcdef in use\n")
    sender.ship()
    assert task.log() == "key [REDACTED] in use\n"


def test_a_log_that_its_script_truncates_goes_on_and_says_so(task: Running) -> None:
    task.prints(b"first life\n")
    sender = shipper(task)
    sender.ship()
    (task.directory / "log").write_bytes(b"second\n")
    sender.ship(final=True)
    assert task.log() == "first life\nsecond\n"
    assert "log shrank from 11 to 7 bytes" in task.log("setup")
    task.prints(b"third\n")
    shipper(task).ship()
    assert task.log() == "first life\nsecond\nthird\n", "the next process knows of it"


def test_another_process_goes_on_where_the_first_was_killed(task: Running) -> None:
    task.prints(b"one\n")
    shipper(task).ship()
    task.prints(b"two\n")
    shipper(task).ship()
    assert task.log() == "one\ntwo\n"


def test_nothing_is_lost_or_doubled_when_answers_get_lost(task: Running) -> None:
    api = Unreliable(task.api)
    sender = shipper(task, api)
    for number in range(20):
        task.prints(b"line %d\n" % number)
        api.lost = number % 3
        until_acknowledged(sender)
    assert task.log() == "".join(f"line {number}\n" for number in range(20))


def until_acknowledged(sender: Shipper) -> None:
    while True:
        try:
            if not sender.ship():
                return
        except errors.Failure:
            pass


def test_two_that_read_the_same_position_lose_nothing(task: Running) -> None:
    first, second = shipper(task), shipper(task)
    task.prints(b"one\n")
    for sender in (first, second):
        sender.ship(0)  # both ask where to go on
    first.ship()
    task.prints(b"two\n")
    second.ship()
    assert task.log() == "one\ntwo\n"
    first.ship()
    task.prints(b"three\n")
    first.ship()
    assert task.log() == "one\ntwo\nthree\n"


def test_a_request_that_is_carried_out_late_changes_nothing(task: Running) -> None:
    late = Late(task.api)
    task.prints(b"one\n")
    with pytest.raises(errors.Failure):
        shipper(task, late).ship()
    task.prints(b"two\n")
    shipper(task).ship()
    late.carry_out()
    assert task.log() == "one\ntwo\n"


def loses_power(task: Running, offset: int) -> None:
    """What a server forgets whose last lines were not on its disk yet."""
    task.api.store.transaction(lambda db: db.execute("DELETE FROM logs WHERE task=? AND offset>=?", (task.id, offset)))


def test_what_a_server_lost_with_its_power_is_sent_again(task: Running) -> None:
    api = Unreliable(task.api)
    sender = shipper(task, api)
    for text in (b"one\n", b"two\n"):
        task.prints(text)
        sender.ship()
    loses_power(task, 4)
    api.away = 1
    task.prints(b"three\n")
    with pytest.raises(errors.Failure):
        sender.ship()
    sender.ship()
    assert task.log() == "one\ntwo\nthree\n"


def test_at_the_end_the_server_is_asked_what_it_has(task: Running) -> None:
    api = Unreliable(task.api)
    api.embedded = False
    sender = shipper(task, api)
    for text in (b"one\n", b"two\n"):
        task.prints(text)
        sender.ship()
    loses_power(task, 4)
    for _ in range(2):
        sender.ship(final=True)
    assert task.log() == "one\ntwo\n"
    assert api.calls.count("events.get_log_position") == 2, "once as it began, once at the end"


def test_an_outage_that_another_call_noticed_is_a_doubt(task: Running) -> None:
    sender = shipper(task)
    task.prints(b"one\n")
    sender.ship()
    loses_power(task, 0)
    sender.doubt()
    sender.ship()
    assert task.log() == "one\n"


def test_a_server_without_claims_is_given_time_for_a_request_of_another_process(
        task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "READ_BACK_S", 0.2)
    late = Late(Foreign(task.api))
    task.prints(b"one\n")
    with pytest.raises(errors.Failure):
        shipper(task, late).ship()
    sender = shipper(task, late.api)
    with pytest.raises(errors.Failure, match="does not show yet"):
        sender.ship()
    late.carry_out()
    sender.ship()
    assert task.log() == "one\n"


def test_a_server_without_claims_gets_no_line_twice(task: Running) -> None:
    api = Foreign(task.api)
    sender = shipper(task, api)
    task.prints(b"one\n")
    assert sender.ship() == 4
    task.prints(b"two\n")
    api.lost = 1
    with pytest.raises(errors.Failure):
        sender.ship()
    sender.ship()
    assert task.log() == "one\ntwo\n"
    task.prints(b"three\n")
    shipper(task, api).ship()
    assert task.log() == "one\ntwo\nthree\n", "the next process reads the position from the disk"


def test_a_server_without_claims_is_asked_after_a_death_in_mid_request(task: Running) -> None:
    api = Foreign(task.api)
    task.prints(b"one\n")
    api.lost = 1
    with pytest.raises(errors.Failure):
        shipper(task, api).ship()
    task.prints(b"two\n")
    shipper(task, api).ship()
    assert task.log() == "one\ntwo\n"


@pytest.mark.parametrize("server", [lambda api: api, Foreign], ids=["ours", "without claims"])
def test_a_log_whose_end_was_lost_with_this_machines_power_is_not_sent_twice(task: Running, server: Any) -> None:
    api = server(task.api)
    task.prints(b"one\n")
    shipper(task, api).ship()
    noted = shipping.read_reported(str(task.directory))
    task.prints(b"two\nthree\n")
    shipper(task, api).ship()
    os.truncate(task.directory / "log", 6)  # what was not on the disk yet is gone, and so is what was noted then
    if noted:
        shipping.note_reported(str(task.directory), noted)
    os.symlink("1 1 another-boot", task.directory / "pid")
    shipper(task, api).ship(final=True)
    assert (task.log(), task.log("setup")) == ("one\ntwo\nthree\n", "")
    task.prints(b"ended as lost\n")
    shipper(task, api).ship(final=True)
    assert task.log() == "one\ntwo\nthree\nended as lost\n"


def test_lines_keep_their_order_where_a_clock_is_set_back(task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Foreign(task.api)
    task.prints(b"one\n")
    shipper(task, api).ship()
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    task.prints(b"two\n")
    shipper(task, api).ship()
    events = task.call("events.get_task_log", task=task.id)["events"]
    assert [event["msg"] for event in sorted(events, key=lambda event: event["timestamp"])] == ["one\n", "two\n"]


def test_what_the_server_refuses_is_told(task: Running) -> None:
    task.prints(b"line\n")
    with pytest.raises(errors.ApiError, match="Invalid task id"):
        Shipper(task.api, "f" * 32, task.claim, str(task.directory), WORKER).ship()


def test_a_million_lines_are_acknowledged_a_second_after_their_end(task: Running) -> None:
    script = "for n in range(1_000_000): print('a line of output', n)"
    with open(task.directory / "log", "ab") as log:
        printing = subprocess.Popen([sys.executable, "-c", script], stdout=log)
    sender, ended = shipper(task), 0.0

    def wait() -> None:
        nonlocal ended
        printing.wait()
        ended = time.monotonic()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while waiter.is_alive():
        sender.ship()
        waiter.join(0.05)
    sender.ship(final=True)
    took = time.monotonic() - ended
    assert task.log().encode() == (task.directory / "log").read_bytes()
    assert took <= 1.0


def test_notes_survive_in_one_file(tmp_path: Path) -> None:
    shipping.note_reported(str(tmp_path), {"positions": {"log": 4}})
    shipping.note_reported(str(tmp_path), {"status": "completed"})
    assert shipping.read_reported(str(tmp_path)) == {"positions": {"log": 4}, "status": "completed"}


def test_every_state_of_a_bar_is_a_line_where_carriage_returns_are_not_suppressed(
        task: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_AGENT__AGENT__SUPPRESS_CARRIAGE_RETURN", "false")
    sender = shipper(task)
    task.prints(b"10%\r20%\r")
    sender.ship()
    assert task.log() == "10%\n"
    task.prints(b"\ndone\r\nnext")
    sender.ship()
    assert task.log() == "10%\n20%\ndone\n"
    sender.ship(final=True)
    assert task.log() == "10%\n20%\ndone\nnext"


def test_a_server_that_is_not_ours_gets_events_of_64_kib(task: Running) -> None:
    lines = b"".join(b"%06d\n" % number for number in range(30_000))
    task.prints(lines)
    shipper(task, Foreign(task.api)).ship(final=True)
    assert task.log().encode() == lines
    events = task.call("events.get_task_log", task=task.id, batch_size=1000)["events"]
    assert max(len(event["msg"]) for event in events) <= 64 << 10


def test_a_prefix_stands_where_lines_begin_and_nowhere_else(task: Running) -> None:
    task.prints("one\x0cpage\u2028and\x85more\n\nthe last".encode())
    Shipper(task.api, task.id, task.claim, str(task.directory), WORKER, prefix="RANK 1: ").ship(final=True)
    assert task.log() == "RANK 1: one\x0cpage\u2028and\x85more\nRANK 1: \nRANK 1: the last"


HOLE = 1 << 30


@pytest.mark.parametrize("server", [lambda api: api, Foreign], ids=["ours", "without claims"])
def test_what_was_never_written_is_left_out_and_counted(task: Running, server: Any) -> None:
    api, path = server(task.api), task.directory / "log"
    task.prints(b"before\nno end")
    os.truncate(path, HOLE)
    task.prints(b"after\n")
    assert shipper(task, api).ship() == os.path.getsize(path), "as far as a restart is concerned it is acknowledged"
    rest = "\0" * (4096 - len("before\nno end"))  # of the block that was written
    told = f"[agentpipe: {HOLE - 4096} bytes that were never written are left out here]\n"
    assert task.log() == f"before\nno end{rest}\n{told}after\n"
    task.prints(b"more\n")
    os.truncate(path, 2 * HOLE)
    shipper(task, api).ship(final=True)
    assert task.log().partition("after\n")[2].replace("\0", "").startswith("more\n\n[agentpipe: 10737")
    task.prints(b"last\n")
    shipper(task, api).ship(final=True)
    assert task.log().endswith("left out here]\nlast\n")


def test_a_file_of_every_size_that_there_is_is_counted(task: Running) -> None:
    path, sender = task.directory / "log", shipper(task)
    for _ in range(3):
        path.write_bytes(b"line\n")
        sender.ship()
        with open(path, "ab") as log:
            largest(log.fileno())
        sender.ship(final=True)
    assert task.log().startswith("line\n")
    assert "log shrank" in task.log("setup")
    assert all(event["end"] <= logs.LONGEST for event in task.call("events.get_task_log", task=task.id)["events"])


def largest(fd: int) -> None:
    """Make it as long as its file system lets us."""
    for bits in range(63, 30, -1):
        try:
            return os.ftruncate(fd, (1 << bits) - 1)
        except OSError:
            continue
    raise AssertionError("no file can be made longer here")


def test_zero_bytes_that_a_script_has_written_arrive(task: Running) -> None:
    data = b"one\0two\n" + bytes(1_000_000) + b"\n"
    task.prints(data)
    shipper(task).ship(final=True)
    assert task.log().encode() == data


def test_a_note_of_what_was_reported_that_a_script_has_spoilt_counts_as_none(tmp_path):
    (tmp_path / "reported").write_text("[" * 100_000)
    assert shipping.read_reported(str(tmp_path)) == {}
    shipping.note_reported(str(tmp_path), {"log": 3})
    assert shipping.read_reported(str(tmp_path)) == {"log": 3}
