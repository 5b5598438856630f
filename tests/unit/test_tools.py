"""Other people's programs: run to their end, streamed, and never left behind."""

import os
import signal
import threading
import time

import pytest

from agentpipe import errors, processes, tools
from agentpipe.signals import SIGNALS


def streamed(argv, **more):
    said = []
    return tools.run(argv, said.append, **more), said


def wait_until_gone(group):
    """Until no process of the group lives; zombies count as gone, whoever is to bury them."""
    until = time.monotonic() + 10
    while any(lives_in(group, pid) for pid in processes.all_pids()):
        assert time.monotonic() < until, f"processes of group {group} still live"
        time.sleep(0.01)


def lives_in(group, pid):
    """Whether `pid` is a living process of this group."""
    try:
        return os.getpgid(pid) == group and processes.start_time(pid) is not None
    except ProcessLookupError:
        return False


def test_stdout_is_given_back_and_stderr_is_not():
    assert tools.run(["sh", "-c", "echo out; echo err >&2"]) == "out\n"


def test_both_streams_come_in_their_order():
    whole, said = streamed(["sh", "-c", "echo 1; echo 2 >&2; printf '10%%\\r20%%\\n'; printf end"])
    assert whole == "".join(said) == "1\n2\n10%\r20%\nend"


def test_it_is_streamed_while_the_program_runs(tmp_path):
    go = tmp_path / "go"

    def sink(text):
        assert text == "first\n"
        go.touch()

    with pytest.raises(AssertionError):  # the second piece: so the first one came before the program's end
        tools.run(["sh", "-c", f"echo first; while [ ! -e {go} ]; do sleep 0.01; done; echo second"], sink, timeout=20)
    assert go.exists()


def test_a_character_cut_in_two_is_whole_again():
    whole, _ = streamed(["sh", "-c", r"printf '\303'; sleep 0.05; printf '\251\n'"])
    assert whole == "é\n"


@pytest.mark.parametrize("run", [tools.run, lambda argv, **more: streamed(argv, **more)[0]])
class TestFailures:
    def test_a_status_is_an_error_with_the_last_line(self, run):
        with pytest.raises(tools.ToolFailed) as caught:
            run(["sh", "-c", "echo why >&2; exit 3"])
        assert caught.value.status == 3
        assert caught.value.reason == "sh ended with 3: why"

    def test_unless_nobody_checks(self, run):
        assert run(["sh", "-c", "echo out; exit 3"], check=False) == "out\n"

    def test_a_missing_program_is_69(self, run):
        with pytest.raises(errors.Failure) as caught:
            run(["no-such-program"])
        assert caught.value.exit == errors.UNAVAILABLE

    def test_a_program_that_may_not_be_executed_is_77(self, run, tmp_path):
        (tmp_path / "tool").write_text("#!/bin/sh\n")
        with pytest.raises(errors.Failure) as caught:
            run([str(tmp_path / "tool")])
        assert caught.value.exit == errors.NO_PERMISSION
        assert caught.value.reason == f"{tmp_path}/tool may not be executed here"

    def test_what_is_no_program_is_said(self, run, tmp_path):
        (tmp_path / "tool").write_bytes(b"\x7fELF nothing")
        (tmp_path / "tool").chmod(0o755)
        with pytest.raises(errors.Failure) as caught:
            run([str(tmp_path / "tool")])
        assert caught.value.exit == errors.UNAVAILABLE
        assert "Exec format error" in caught.value.reason

    def test_a_missing_folder_is_no_missing_program(self, run, tmp_path):
        with pytest.raises(errors.Failure) as caught:
            run(["cat"], cwd=str(tmp_path / "none"))
        assert caught.value.exit == errors.NOT_FOUND

    def test_what_it_left_behind_with_its_output_open_is_not_waited_for(self, run, tmp_path):
        begun = time.monotonic()
        said = run(["sh", "-c", f"echo $$ >{tmp_path}/pid; (echo $$; sleep 60) & echo done"])
        assert "done" in said
        assert time.monotonic() - begun < 30
        os.killpg(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    def test_what_takes_too_long_is_ended_with_its_children(self, run, tmp_path):
        with pytest.raises(tools.ToolFailed) as caught:
            run(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 60 & sleep 60"], timeout=0.3)
        assert caught.value.status is None
        wait_until_gone(int((tmp_path / "pid").read_text()))

    def test_an_interruption_leaves_nothing_behind(self, run, tmp_path):
        before = signal.signal(signal.SIGUSR2, SIGNALS._arrived)
        pid = tmp_path / "pid"

        def interrupt():
            while not (pid.exists() and pid.read_text().endswith("\n")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR2)

        threading.Thread(target=interrupt).start()
        try:
            with pytest.raises(errors.Interrupted), SIGNALS.open():
                run(["sh", "-c", f"echo $$ >{pid}; sleep 60"])
        finally:
            signal.signal(signal.SIGUSR2, before)
        wait_until_gone(int(pid.read_text()))

    def test_input_arrives(self, run):
        assert run(["cat"], stdin=b"x" * 200_000) == "x" * 200_000

    def test_environment_and_folder_are_as_given(self, run, tmp_path):
        assert run(["sh", "-c", "pwd; echo $NAME"], cwd=str(tmp_path),
                   env={"NAME": "v", "PATH": os.environ["PATH"]}) == f"{tmp_path}\nv\n"
