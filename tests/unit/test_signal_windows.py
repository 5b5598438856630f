"""Signals of a command: where they are raised, and what becomes of them when it executes another program."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from agentpipe import errors, lines
from agentpipe.signals import Signals


def run(code: str, **options) -> subprocess.CompletedProcess:
    """A Python of its own that does `code`."""
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30,
                          **options)


def test_given_up_handlers_mean_what_a_new_process_has_for_them():
    done = run("""
        import os, signal
        from agentpipe.signals import SIGNALS
        SIGNALS.install()
        SIGNALS.uninstall()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_what_waited_is_raised_before_the_handlers_are_given_up():
    done = run("""
        import os, signal
        from agentpipe import command
        from agentpipe.signals import SIGNALS

        def work():
            with SIGNALS.closed():
                os.kill(os.getpid(), signal.SIGTERM)
                SIGNALS.is_open = True  # as when it comes behind the last look of the interpreter
                SIGNALS.uninstall()
                print("lost")

        command.plain("agent-trial", work)
    """)
    assert (done.returncode, done.stdout) == (75, "")


@pytest.mark.parametrize(("raised", "code"), [
    ("os.kill(os.getpid(), signal.SIGTERM)", 75),
    ("SIGNALS.aborted('by a user')", 1),
    ("[SIGNALS.limited(0.001).__enter__(), time.sleep(1)]", 2),
])
def test_what_is_raised_where_python_drops_exceptions_is_raised_again(raised, code):
    done = run(f"""
        import os, signal, time, weakref
        from agentpipe import command, errors
        from agentpipe.signals import SIGNALS

        class Gone:
            pass

        def work():
            gone = Gone()
            kept = weakref.ref(gone, lambda _: {raised})
            try:
                del gone
                time.sleep(20)
            except errors.Aborted:
                return 1
            except errors.OutOfTime:
                return 2

        command.plain("agent-trial", work)
    """)
    assert (done.returncode, done.stderr) == (code, "")


IGNORED = """
    import signal
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from agentpipe.signals import SIGNALS
    SIGNALS.install()
    print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
"""


def test_what_comes_while_a_class_is_made_is_no_bug_of_ours():
    """Before Python 3.12 what __set_name__ raises is a RuntimeError: of `import ipaddress`, at a bad moment."""
    done = run("""
        import os, signal, time
        from agentpipe import command

        class Hit:
            def __set_name__(self, owner, name):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0)

        def work():
            class Made:
                value = Hit()
            time.sleep(5)
            print("lost")

        command.plain("agent-trial", work)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "")


def test_what_nohup_ignores_stays_ignored_while_there_is_a_terminal_that_can_send_it():
    ours, terminal = pty.openpty()
    done = subprocess.run(["setsid", "--ctty", "--wait", sys.executable, "-c", textwrap.dedent(IGNORED)],
                          stdin=terminal, capture_output=True, text=True, timeout=30)
    os.close(terminal)
    os.close(ours)
    assert done.stdout == "True\n", done.stderr


def test_without_a_terminal_a_hup_is_meant():
    assert run(IGNORED, start_new_session=True).stdout == "False\n"


def test_what_a_shell_ignores_in_the_background_a_script_does_not():
    done = subprocess.run(["sh", "-c", "trap '' INT QUIT; exec \"$0\" -c \"$1\"", sys.executable, textwrap.dedent("""
        import signal, subprocess, sys
        import agentpipe.signals
        code = "import signal; print(signal.getsignal(signal.SIGINT) != signal.SIG_IGN," \\
               " signal.getsignal(signal.SIGQUIT) == signal.SIG_DFL)"
        subprocess.run([sys.executable, "-c", code])
    """)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "True True\n", done.stderr


@pytest.mark.parametrize("how, line", [("source", True), ("plain", False)])
def test_only_the_first_command_of_a_pipeline_tells_the_next_one_that_it_was_stopped(how, line):
    done = run(f"""
        import os, signal
        from agentpipe import command
        from agentpipe.signals import SIGNALS

        def work():
            with SIGNALS.open():
                os.kill(os.getpid(), signal.SIGINT)

        command.{how}("agent-trial", work)
    """)
    assert done.returncode == 130
    assert ('"failed"' in done.stdout) is line


def test_a_closed_standard_stream_is_no_file_of_a_child_either(tmp_path):
    done = run(f"""
        import os
        from agentpipe import command
        command.keep_places()
        file = os.open({str(tmp_path / "file")!r}, os.O_CREAT | os.O_WRONLY)
        os.set_inheritable(file, True)
        os.execv("/bin/sh", ["sh", "-c", "exec 5>{tmp_path}/other; echo astray >&2"])
    """, preexec_fn=lambda: os.close(2))
    assert done.returncode != 0
    assert not (tmp_path / "other").read_text() + (tmp_path / "file").read_text()


def test_pipes_that_do_not_wait_are_waited_for():
    read, write = os.pipe()
    inward, outward = os.pipe()
    for fd in (inward, write):
        os.set_blocking(fd, False)
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        from agentpipe import lines, stdio
        stdio.put(next(lines.Input()) * 300_000)
    """)], stdin=inward, stdout=write)
    os.close(write)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)  # nothing has come in yet
    os.write(outward, b"x\n")
    with open(read, "rb") as printed:
        assert printed.read() == b"x" * 300_000
    assert child.wait(30) == 0


def test_told_to_stop_at_a_terminal_that_has_hung_up_is_no_error():
    ours, theirs = os.openpty()
    waiting = lines.Input(theirs)
    os.close(ours)
    with pytest.raises(errors.Interrupted):
        waiting._stop(signal.SIGTERM)
    os.close(theirs)


def test_a_part_that_is_not_entered_because_of_what_waited_leaves_all_closed():
    signals = Signals()
    signals.waiting += [signal.SIGTERM]
    with pytest.raises(errors.Interrupted), signals.open():
        pytest.fail("it was entered")
    assert not signals.is_open


def test_ctrl_c_within_the_imports_of_a_command_says_nothing(tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = run("from agentpipe.cmds.agent_config import main", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_stop_means_nothing_once_the_end_is_decided():
    done = run("""
        from agentpipe import errors
        from agentpipe.signals import SIGNALS
        SIGNALS.install()
        SIGNALS.aborted("before")
        SIGNALS.take_aborts(False)
        with SIGNALS.open():
            SIGNALS.aborted("after")
        SIGNALS.take_aborts(True)  # the next task
        try:
            with SIGNALS.open():
                SIGNALS.aborted("another's")
        except errors.Aborted as aborted:
            print(aborted.abort)
    """)
    assert done.stdout == "another's\n", done.stderr


@pytest.mark.parametrize("signum", ["SIGUSR1", "SIGALRM"])
def test_what_slurm_or_somebody_else_sends_is_not_the_servers_word_nor_a_limit(signum):
    done = run(f"""
        import os, signal
        from agentpipe import command
        from agentpipe.signals import SIGNALS

        def work():
            with SIGNALS.limited(None):
                os.kill(os.getpid(), signal.{signum})
            SIGNALS.take_aborts(True)
            SIGNALS.aborted("of the task before")
            SIGNALS.take_aborts(False)
            SIGNALS.take_aborts(True)
            os.kill(os.getpid(), signal.{signum})
            return 7

        def closed():
            with SIGNALS.closed():
                return work()

        command.plain("agent-trial", closed)
    """)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_line_that_was_read_when_the_signal_came_is_not_thrown_away():
    done = run("""
        import os, signal, threading, time
        from agentpipe import errors
        from agentpipe.lines import Input
        from agentpipe.signals import SIGNALS
        SIGNALS.install()
        read, write = os.pipe()
        lines, me = Input(read), threading.get_native_id()
        lines.give_back = lambda: print(lines._lines) or 1

        def tell():  # the kernel gives a signal to any thread that takes it: the main one is not woken by it
            while "pipe" not in open(f"/proc/self/task/{me}/wchan").read():
                time.sleep(0.01)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            os.write(write, b"one\\n")

        threading.Thread(target=tell).start()
        try:
            next(lines)
        except errors.Interrupted as told:
            print(told.signum == signal.SIGTERM)
    """)
    assert done.stdout == "[b'one']\nTrue\n", done.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_fifo_that_nobody_writes_is_waited_for_only_until_we_are_told_to_stop(tmp_path, signum, code):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = subprocess.Popen([sys.executable, "-m", "agentpipe.cmds.agent_patch", str(fifo)], stdout=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    until = time.monotonic() + 30
    while Path(f"/proc/{waiting.pid}/wchan").read_text() != "wait_for_partner":
        assert time.monotonic() < until
        time.sleep(0.01)
    waiting.send_signal(signum)
    try:
        assert waiting.wait(10) == code
        assert b'"told to stop"' in waiting.stdout.read()
    finally:
        waiting.kill()


@pytest.mark.parametrize("reader", ["terminal", "gone"])
def test_a_task_by_hand_that_is_stopped_prints_no_line_where_nobody_goes_on_with_it(tmp_path, reader):
    hook = tmp_path / "hooks" / "pre-run"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 60\n")
    hook.chmod(0o755)
    env = {**os.environ, "AGENT_HOOKS": str(hook.parent), "HOME": str(tmp_path)}
    prepared = subprocess.run(
        [sys.executable, "-m", "agentpipe.cmds.agent_prepare"], env=env, stdout=subprocess.PIPE, check=True,
        input=b'{"task": {"script": {"binary": "bash", "entry_point": "main.sh", "diff": "true\\n"}}}').stdout
    read, write = pty.openpty() if reader == "terminal" else os.pipe()
    running = subprocess.Popen([sys.executable, "-m", "agentpipe.cmds.agent_run"], stdin=subprocess.PIPE, stdout=write,
                               stderr=subprocess.PIPE, env=env)
    os.close(write)
    running.stdin.write(prepared)
    running.stdin.close()
    until = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < until and running.poll() is None
        time.sleep(0.01)
    if reader == "gone":
        os.close(read)
    running.terminate()
    try:
        assert (running.wait(20), running.stderr.read()) == (75, b"agent-run: told to stop\n")
        if reader == "terminal":
            os.set_blocking(read, False)
            with pytest.raises(OSError):  # EIO: nothing was printed, and nobody will
                os.read(read, 1)
            os.close(read)
    finally:
        running.kill()


ANEW = """
    import os, signal, sys
    from agentpipe import errors
    from agentpipe.signals import SIGNALS
    if os.environ.get("ANEW"):
        SIGNALS.install()
        assert SIGNALS.waiting == [signal.SIGTERM], SIGNALS.waiting
        sys.exit("it is known")
    SIGNALS.install()
    os.environ["ANEW"] = "1"
"""


def test_a_signal_that_comes_while_a_process_begins_anew_is_known_to_the_new_one():
    done = run(ANEW + """
    execv = os.execv
    def late(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        execv(*args)
    os.execv = late
    SIGNALS.become_ourselves()
    """)
    assert (done.stderr.strip(), done.returncode) == ("it is known", 1)


def test_a_signal_that_waited_keeps_a_process_from_beginning_anew():
    done = run(ANEW + """
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        SIGNALS.become_ourselves()
    except errors.Interrupted:
        sys.exit("told to stop")
    """)
    assert done.stderr.strip() == "told to stop"
