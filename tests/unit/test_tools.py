"""Other people's programs: run to their end, streamed, and never left behind."""

import os
import signal
import threading
import time

import pytest

from agentpipe import command, errors, processes, tools


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


@pytest.mark.parametrize("run", [tools.run, lambda argv: streamed(argv)[0]])
def test_a_program_is_told_that_nobody_reads_it(run):
    ignored = int(run(["grep", "SigIgn", "/proc/self/status"]).split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


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

    def test_a_word_that_is_too_long_is_told_without_a_traceback(self, run):
        with pytest.raises(errors.Failure) as caught:
            run(["true", "x" * (1 << 20)])
        assert caught.value.reason == "cannot start true: Argument list too long"
        assert "Traceback" not in caught.value.evidence and "[Errno 7]" in caught.value.evidence

    def test_what_takes_too_long_is_ended_with_its_children(self, run, tmp_path):
        with pytest.raises(tools.ToolFailed) as caught:
            run(["sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 60 & sleep 60"], timeout=0.3)
        assert caught.value.status is None
        wait_until_gone(int((tmp_path / "pid").read_text()))

    def test_an_interruption_leaves_nothing_behind(self, run, tmp_path):
        before = signal.signal(signal.SIGUSR2, command.SIGNALS._arrived)
        pid = tmp_path / "pid"

        def interrupt():
            while not (pid.exists() and pid.read_text().endswith("\n")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR2)

        threading.Thread(target=interrupt).start()
        try:
            with pytest.raises(errors.Interrupted), command.SIGNALS.open():
                run(["sh", "-c", f"echo $$ >{pid}; sleep 60"])
        finally:
            signal.signal(signal.SIGUSR2, before)
        wait_until_gone(int(pid.read_text()))

    def test_a_second_signal_does_not_break_off_what_ends_the_program(self, run, tmp_path, monkeypatch):
        pid, killpg = tmp_path / "pid", os.killpg

        def interrupt():
            while not (pid.exists() and pid.read_text().endswith("\n")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        def interrupted(*words):
            os.kill(os.getpid(), signal.SIGTERM)
            killpg(*words)

        before = {each: signal.signal(each, command.SIGNALS._arrived) for each in (signal.SIGINT, signal.SIGTERM)}
        monkeypatch.setattr(tools.os, "killpg", interrupted)
        threading.Thread(target=interrupt).start()
        try:
            with pytest.raises(errors.Interrupted) as caught, command.SIGNALS.open():
                run(["sh", "-c", f"echo $$ >{pid}; sleep 60"])
            assert (caught.value.signum, command.SIGNALS.waiting) == (signal.SIGINT, [signal.SIGTERM])
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
            command.SIGNALS.forget()
        wait_until_gone(int(pid.read_text()))

    def test_input_arrives(self, run):
        assert run(["cat"], stdin=b"x" * 200_000) == "x" * 200_000

    def test_input_arrives_however_late_it_is_read(self, run):
        assert run(["sh", "-c", "sleep 1.5; cat"], stdin=b"x" * 2_000_000) == "x" * 2_000_000

    def test_environment_and_folder_are_as_given(self, run, tmp_path):
        assert run(["sh", "-c", "pwd; echo $NAME"], cwd=str(tmp_path),
                   env={"NAME": "v", "PATH": os.environ["PATH"]}) == f"{tmp_path}\nv\n"
