"""The script under its shim: its status is kept whatever happens to us."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agentpipe import errors, processes
from agentpipe.claim import attempt
from agentpipe.place import Place
from agentpipe.report import gpu_reader, own_end
from agentpipe.run import cgroups, ending, script


@pytest.fixture
def directory():
    """An attempt's directory; afterwards this process adopts no orphans any more, and those that it did are buried.

    What a test before left running below this process would count as the script's: it goes first.
    """
    while left := processes.descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)  # one that dies is there for a moment more
        _bury()
    made = attempt.create("t1")
    yield made
    cgroups.kill(made)
    cgroups.remove(made)
    processes.become_subreaper(False)
    _bury()


def _bury():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def start(directory, text, **more):
    return script.start(directory, ["sh", "-c", text], "/", os.environ, **more)


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def log(directory):
    with open(os.path.join(directory, "log"), "rb") as file:
        return file.read()


def test_status_and_output_are_on_disk(directory):
    found = start(directory, "echo out; echo err >&2; exit 7")
    assert found.wait(10)
    assert found.status == 7
    assert log(directory) == b"out\nerr\n"
    found.sweep()
    assert sorted(os.listdir(directory)) == ["exit.7", "log", "pid", "setup.log", "shell"]


def test_the_script_leads_a_session_of_its_own_and_reads_nothing(directory):
    found = start(directory, "cat; ps -o sid= -p $$ | tr -d ' '; echo $$")
    assert found.wait(10)
    session, pid = log(directory).split()
    assert session == pid


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_its_whole_group_is_its_status(directory, signum):
    # exec: a shell that is about to start a program leaves INT to that one, and bash passes over QUIT
    found = start(directory, "echo on; exec sleep 60")
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    pid = int(found.record.split()[0])
    wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    os.killpg(pid, signum)
    assert found.wait(10)
    assert found.status == 128 + signum
    assert log(directory) == b"on\n"  # and nothing that a shell says of it


@pytest.mark.parametrize(("command", "reason"), [
    ("kill -KILL $$", "ended by SIGKILL"), ("exec kill -SEGV $$", "ended by SIGSEGV"),
    ("kill -INT $$", "ended by SIGINT"),
    ("exit 137", "exit 137, as a shell ends when SIGKILL has ended a program of it"), ("exit 255", "exit 255"),
    ("exit 1", "exit 1")])
def test_a_signal_is_told_from_an_exit_status_that_looks_like_one(directory, command, reason):
    found = start(directory, command)
    assert found.wait(10)
    assert own_end.reason(directory, found.status) == reason


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(("command", "reason"), [
    ("kill -KILL $$", "ended by SIGKILL"),
    ("exit 137", "exit 137, as a shell ends when SIGKILL has ended a program of it")])
def test_so_it_is_in_a_place_by_the_word_of_its_own_shell(directory, tmp_path, shell, command, reason):
    (tmp_path / "sh").symlink_to(shutil.which(shell) or pytest.fail(f"no {shell} here"))
    there = Place({"kind": "mine", "prefix": ["env", f"PATH={tmp_path}:{os.environ['PATH']}"]}, directory)
    found = start(directory, command, place=there)
    assert found.wait(10)
    assert own_end.reason(directory, found.status) == reason


@pytest.mark.parametrize("prefix", [[], ["env"]])
def test_where_the_shells_word_cannot_be_kept_the_script_runs_all_the_same(directory, prefix):
    os.mkdir(os.path.join(directory, "shell"))
    found = start(directory, "echo out; exit 137", place=Place({"kind": "mine", "prefix": prefix}, directory))
    assert found.wait(10)
    assert log(directory) == b"out\n"
    assert own_end.reason(directory, found.status) == "ended by SIGKILL"  # as it looks


@pytest.mark.parametrize("more", [{}, {"my.var": "x"}])
def test_a_program_that_is_missing_is_127(directory, more):
    found = script.start(directory, ["no-such-program"], "/", {**os.environ, **more})
    assert found.wait(10)
    assert found.status == 127


@pytest.mark.parametrize("words, env, said", [
    (["true"], {"LONG": "x" * 200_000}, "the variable LONG has 200005 bytes"),
    (["true", "y" * 200_000], {}, "its argument 'yyy"),
    (["true", *["z" * 100_000] * 100], {}, "more than a program can be given")])
def test_more_than_a_program_can_be_given_is_the_tasks_fault(directory, words, env, said):
    with pytest.raises(errors.Failure, match=said) as failed:
        script.start(directory, words, "/", {**os.environ, **env})
    assert failed.value.exit == errors.BAD_DATA


def test_a_place_whose_program_is_not_there_is_no_bug_and_nobody_can_say_what_runs_in_it(directory):
    nowhere = Place({"kind": "mine", "prefix": ["/nonexistent/enter"]}, directory)
    with pytest.raises(errors.Failure, match="is not installed") as failed:
        script.start(directory, ["true"], "/", os.environ, nowhere)
    assert failed.value.exit == errors.UNAVAILABLE
    assert nowhere.alive(processes.identity(os.getpid())) is None


def test_a_place_whose_entrance_greets_is_signalled_all_the_same(directory, tmp_path):
    (tmp_path / "enter").write_text('#!/bin/sh\necho "welcome, you are guest 4"\nexec "$@"\n')
    (tmp_path / "enter").chmod(0o755)
    there = Place({"kind": "mine", "prefix": [str(tmp_path / "enter")]}, directory)
    found = start(directory, "exec sleep 60", place=there)
    wait_for(lambda: found.record)
    assert there.signal(found.record, signal.SIGKILL) == 1
    assert found.wait(10) and found.status == 137


def test_a_name_that_sh_cannot_write_reaches_the_script(directory):
    found = script.start(directory, [sys.executable, "-c", "import os; print(os.environ['my.var'])"], "/",
                         {**os.environ, "my.var": "x y"})
    assert found.wait(10)
    assert log(directory) == b"x y\n"


def test_the_status_survives_the_shim(directory):
    found = start(directory, "while [ ! -e go ]; do sleep 0.02; done; exit 5" .replace("go", f"{directory}/go"))
    wait_for(lambda: found.record)
    os.kill(found._shim.pid, signal.SIGKILL)
    # a shim that dies in the same moment as its script may take the status with it
    wait_for(lambda: processes.start_time(found._shim.pid) is None)
    open(f"{directory}/go", "w").close()
    assert found.wait(10)
    assert found.status == 5
    assert attempt.exit_status(directory) == 5


def test_a_rename_that_outlives_the_shim_is_waited_for(directory):
    found = start(directory, "exit 0")
    assert found.wait(10)
    # as if the shim had been killed while its mv was at work: it holds `running` and will rename it
    os.rename(f"{directory}/exit.0", f"{directory}/running")
    os.mkfifo(f"{directory}/go")
    with open(f"{directory}/running", "r+b") as running:
        late = subprocess.Popen(["sh", "-c", "flock 0; echo; read _ <go; mv running exit.7"], cwd=directory,
                                stdin=running, stdout=subprocess.PIPE)
    assert late.stdout.readline()
    assert not found.wait(0.2)
    with open(f"{directory}/go", "w") as go:
        go.write("on\n")
    assert found.wait(10)
    assert found.status == 7
    late.wait()


# starts a process that leaves the script's session, its environment and its log, and is nobody's child any more
ESCAPE = """
import os, sys, time
while not os.path.exists(sys.argv[1] + ".go"):
    time.sleep(0.02)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3):
            os.close(fd)
        os.execve("/bin/sleep", ["sleep", "300"], {})
    os._exit(0)
os.wait()
open(sys.argv[1], "w").close()
time.sleep(300)
"""


def test_nothing_escapes_a_takeover_where_control_groups_are_ours(directory, tmp_path):
    mark = tmp_path / "escaped"
    subprocess.run([sys.executable, "-c", LEAVER, directory,
                    f"exec {sys.executable} -c '{ESCAPE}' {mark}"], check=True)
    wait_for(lambda: script.lives(directory))

    def gathered():  # by whoever watched it, and was killed then; a systemd of another test may remove an empty group
        script.taken_over(directory).gather()
        return cgroups.pids(directory) or not cgroups.home()

    wait_for(gathered)
    (tmp_path / "escaped.go").touch()
    wait_for(mark.exists)
    found = script.taken_over(directory)
    inside = cgroups.pids(directory)
    # without control groups of ours (a container whose /sys is read-only) the walks of /proc have to do
    assert bool(cgroups.home()) == os.path.islink(f"{directory}/cgroup") == (len(inside) == 2)
    found.stop(5)
    found.sweep()
    assert [pid for pid in inside if processes.start_time(pid)] == []
    assert not os.path.lexists(f"{directory}/cgroup")


def test_a_group_is_named_by_its_link_and_goes_with_it(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "MOUNTS", (str(tmp_path.parent),))
    monkeypatch.setattr(cgroups, "home", lambda: str(tmp_path))
    cgroups.make(directory)
    path = os.readlink(f"{directory}/cgroup")
    assert os.path.dirname(path) == str(tmp_path)
    os.mkdir(f"{path}/below")
    for number, name in enumerate(("cgroup.procs", "below/cgroup.procs")):
        with open(f"{path}/{name}", "w") as file:
            file.write(f"{number + 7}\n")
    assert sorted(cgroups.pids(directory)) == [7, 8]
    for name in ("below/cgroup.procs", "cgroup.procs"):  # a real group's files go with it
        os.unlink(f"{path}/{name}")
    cgroups.remove(directory)
    assert not os.path.exists(path) and not os.path.lexists(f"{directory}/cgroup")
    monkeypatch.setattr(cgroups, "home", lambda: None)
    cgroups.make(directory)
    assert not os.path.lexists(f"{directory}/cgroup")


def test_where_the_name_pid_is_taken_nothing_starts(directory):
    assert attempt.forbid_start(directory, attempt.GIVEN_BACK)
    found = start(directory, f"touch {directory}/ran")
    assert found.wait(10)
    assert found.status == 125
    assert not os.path.exists(f"{directory}/ran")


def test_stopping_ends_what_left_the_session_too(directory):
    found = start(directory, "setsid sh -c 'trap \"\" TERM; echo on; while :; do sleep 1; done' & "
                             "trap '' TERM INT; wait; sleep 60")
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    found.stop(0.2)
    found.sweep()
    assert found.status == 137
    assert processes.holding_open(f"{directory}/log") == []


def test_a_script_that_heeds_term_is_not_killed(directory):
    found = start(directory, "trap 'echo saved; exit 3' TERM; echo on; while :; do sleep 0.05; done")
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    found.stop(10)
    assert found.status == 3
    assert log(directory).endswith(b"saved\n")


@pytest.mark.parametrize("prefix", [[], ["env"]])
def test_what_a_shell_has_started_has_the_same_time_though_the_shell_itself_ends_at_once(directory, prefix):
    child = 'trap "sleep 0.3; echo saved; exit" TERM; echo on; while :; do sleep 0.05; done'
    found = start(directory, f"sh -c '{child}'; :", place=Place({"prefix": prefix}, directory))
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    found.stop(10)
    assert found.status == 143
    assert log(directory).endswith(b"saved\n")
    assert found.sweep() == 0


FORKED = """
import os, signal, time
def told(*_):
    print("copy told", flush=True)
    os._exit(0)
def save(*_):
    time.sleep(0.3)
    print("saved", flush=True)
    os._exit(3)
if not os.fork():
    signal.signal(signal.SIGTERM, told)
    print("copy on", flush=True)
    while True:
        time.sleep(0.05)
signal.signal(signal.SIGTERM, save)
print("on", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize(("grace", "prefix"), [(10, []), (1, []), (10, ["env"])])  # 1: the script takes most of it
def test_a_scripts_own_copies_are_told_to_end_after_it(directory, grace, prefix):
    there = Place({"prefix": prefix}, directory)
    found = script.start(directory, [sys.executable, "-c", FORKED], "/", os.environ, there)
    wait_for(lambda: os.path.exists(f"{directory}/log") and len(log(directory).splitlines()) == 2)
    found.stop(grace)
    assert found.status == 3
    assert log(directory).splitlines()[2:] == [b"saved", b"copy told"]


def test_a_script_is_told_to_end_though_its_place_does_not_say_any_more_who_is_there(directory, tmp_path):
    (tmp_path / "enter").write_text(f"""#!/bin/sh
case $* in *cmdline*) [ ! -e {tmp_path}/asked ] || exit 1; : >{tmp_path}/asked ;; esac
exec "$@"
""")
    (tmp_path / "enter").chmod(0o755)
    there = Place({"prefix": [str(tmp_path / "enter")]}, directory)
    found = script.start(directory, [sys.executable, "-c", FORKED], "/", os.environ, there)
    wait_for(lambda: os.path.exists(f"{directory}/log") and len(log(directory).splitlines()) == 2)
    found.stop(10)
    assert found.status == 3


def test_a_script_that_heeds_no_term_is_interrupted_before_it_is_killed(directory):
    text = ("import atexit, signal, time; signal.signal(signal.SIGTERM, lambda *_: None); "
            "atexit.register(print, 'sent'); print('on', flush=True)\nwhile True: time.sleep(0.05)")
    found = script.start(directory, [sys.executable, "-c", text], "/", os.environ)
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    found.stop(1)
    assert found.status in (1, 130)
    assert log(directory).endswith(b"sent\n")


def test_what_heeds_no_term_below_a_shell_is_interrupted_too_and_its_copies_are_spared_till_then(directory):
    with open(f"{directory}/below.py", "w", encoding="utf-8") as file:
        file.write("""
import os, signal, time
def told(*_):
    print("copy told", flush=True)
    os._exit(0)
copy = os.fork()
signal.signal(signal.SIGTERM, (lambda *_: print("ignored", flush=True)) if copy else told)
print("on", flush=True)
try:
    while True:
        time.sleep(0.05)
except KeyboardInterrupt:
    print("sent", flush=True)
""")
    found = start(directory, f"{sys.executable} {directory}/below.py; :")
    wait_for(lambda: os.path.exists(f"{directory}/log") and len(log(directory).splitlines()) == 2)
    found.stop(1)
    found.sweep()
    assert found.status == 143
    said = log(directory).splitlines()[2:]
    assert said[:2] == [b"ignored", b"sent"]


@pytest.mark.parametrize("prefix", [[], ["env"]])
@pytest.mark.parametrize(("at_int", "end"), [
    ("raise SystemExit(4)", 4),
    ("os.waitpid(copy, 0); print('saved', flush=True); os._exit(3)", 3)])  # as multiprocessing does at its exit
def test_the_copies_of_a_script_that_heeds_no_term_are_told_before_they_are_killed(directory, at_int, end, prefix):
    text = f"""
import os, signal, time
copy = os.fork()
def told(*_):
    print("copy told", flush=True)
    os._exit(0)
def interrupted(*_):
    {at_int}
signal.signal(signal.SIGTERM, (lambda *_: None) if copy else told)
signal.signal(signal.SIGINT, interrupted)
print("on", flush=True)
while True:
    time.sleep(0.05)
"""
    there = Place({"prefix": prefix}, directory)
    found = script.start(directory, [sys.executable, "-c", text], "/", os.environ, there)
    wait_for(lambda: os.path.exists(f"{directory}/log") and len(log(directory).splitlines()) == 2)
    found.stop(3)
    assert found.status == end
    assert b"copy told" in log(directory).splitlines()


@pytest.mark.parametrize("after", [0, 0.002])
def test_a_script_that_is_just_starting_is_told_too(directory, after):
    found = start(directory, "while :; do sleep 0.05; done")
    time.sleep(after)
    found.stop(10)
    assert found.status == 143


@pytest.mark.parametrize("grace", [1e7, float("inf")])
def test_a_grace_period_may_be_of_any_length(directory, grace):
    found = start(directory, "trap 'sleep 0.2; exit 6' TERM; echo on; while :; do sleep 0.05; done")
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    found.stop(grace)
    assert found.status == 6


def test_a_shim_that_died_before_its_script_started_can_be_waited_for_again(directory):
    found = script.Script(directory, None, subprocess.Popen(["true"]))
    assert found.wait(10) and found.status is None
    assert found.sweep() == 0
    assert found.wait(0) and found.status is None


def test_a_shell_script_cannot_truncate_its_log(directory):
    found = start(directory, "echo one; echo two >/dev/stderr; echo three", piped=True)
    assert found.wait(10)
    found.sweep()
    assert log(directory) == b"one\ntwo\nthree\n"
    assert found.status == 0


def test_a_piped_scripts_status_does_not_wait_for_what_it_left_behind(directory):
    found = start(directory, "sleep 60 & exit 4", piped=True)
    assert found.wait(10)
    assert found.status == 4
    assert found.sweep() == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_pidfds_the_end_is_seen_and_stopping_works(directory, monkeypatch, number):
    def refused(pid):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refused)
    found = start(directory, "echo on; sleep 60")
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory))
    begun = time.monotonic()
    found.stop(30)
    assert found.status == 143
    assert time.monotonic() - begun < 10


def test_what_cannot_be_killed_does_not_hold_the_sweep(directory, monkeypatch):
    monkeypatch.setattr(script, "KILL_WAIT", 0.2)
    found = start(directory, "sleep 60 & exit 4", piped=True)
    assert found.wait(10)
    with monkeypatch.context() as locked:
        locked.setattr(processes, "send", lambda record, signum: False)  # as for what sudo started
        assert found.sweep() == 0
    assert found.status == 4
    assert found._shim.returncode is not None
    assert found.signal_all(signal.SIGKILL) >= 1  # the shell between may not have gone yet


def test_orphans_that_ended_are_collected_while_the_script_runs_and_its_own_status_is_not(directory):
    found = start(directory, "for one in 1 2; do (setsid sh -c 'echo $$' &); done; sleep 60")
    wait_for(lambda: os.path.exists(f"{directory}/log") and log(directory).count(b"\n") == 2)
    orphans = set(map(int, log(directory).split()))  # of other tests there may be some too
    wait_for(lambda: orphans <= set(processes.ended_children()))
    found.bury()
    assert orphans <= set(processes.ended_children())  # the first time they may be a program of ours, just over
    found.bury()
    assert not orphans & set(processes.ended_children())
    os.kill(found._shim.pid, signal.SIGKILL)
    found._shim.wait()
    processes.send(found.record, signal.SIGKILL)
    wait_for(lambda: processes.ended_children())
    found.bury()
    found.bury()
    assert found.wait(10)
    assert found.status == 137
    found.sweep()


LEAVER = """
import os, sys
from agentpipe.run import script
script.start(sys.argv[1], ["sh", "-c", sys.argv[2]], "/", os.environ)
"""


def test_another_process_takes_over(directory):
    waits = f"while [ ! -e {directory}/go ]; do sleep 0.02; done; exit 6"
    subprocess.run([sys.executable, "-c", LEAVER, directory, waits], check=True)
    wait_for(lambda: attempt.pid_record(directory))
    assert attempt.shim_lives(directory)
    assert script.lives(directory)
    found = script.taken_over(directory)
    assert not found.wait(0.2)
    open(f"{directory}/go", "w").close()
    assert found.wait(10)
    assert found.status == 6


def test_after_a_takeover_stopping_finds_every_process(directory):
    subprocess.run([sys.executable, "-c", LEAVER, directory, "setsid sleep 60 & sleep 60"],
                   check=True, env={**os.environ, "AGENT_TASK_DIR": directory})
    wait_for(lambda: script.lives(directory) and len(processes.holding_open(f"{directory}/log")) >= 3)
    found = script.taken_over(directory)
    with subprocess.Popen(["tail", "-f", f"{directory}/log"], stdout=subprocess.DEVNULL) as reader:
        wait_for(lambda: reader.pid in processes.holding_open(f"{directory}/log"))
        found.stop(5)
        found.sweep()
        assert processes.holding_open(f"{directory}/log") == [reader.pid]
        assert reader.poll() is None
        reader.kill()
    assert found.status == 143


@pytest.mark.parametrize("prefix", [[], ["env"]])
def test_after_a_takeover_the_last_words_of_a_shell_script_are_waited_for(directory, prefix):
    """Its reader may not have come to them when the status is there."""
    leaver = LEAVER.replace("os.environ)", f"os.environ, Place({{'prefix': {prefix}}}, sys.argv[1]), True)")
    text = f"while [ ! -e {directory}/go ]; do sleep 0.02; done; echo last words; exit 6"
    subprocess.run([sys.executable, "-c", f"from agentpipe.place import Place{leaver}", directory, text], check=True)
    wait_for(lambda: script.lives(directory) and len(processes.holding_open(f"{directory}/log", to_write=True)) == 1)
    reader, = processes.holding_open(f"{directory}/log", to_write=True)
    os.kill(reader, signal.SIGSTOP)
    found = script.taken_over(directory, Place({"prefix": prefix}, directory))
    open(f"{directory}/go", "w").close()
    assert found.wait(10) and found.status == 6
    threading.Timer(0.5, os.kill, (reader, signal.SIGCONT)).start()
    found.sweep()
    assert log(directory) == b"last words\n"


def test_of_a_place_that_answers_something_else_no_process_is_believed(directory, tmp_path):
    (tmp_path / "enter").write_text("#!/bin/sh\necho '1 0 7'\n")
    (tmp_path / "enter").chmod(0o755)
    assert Place({"prefix": [str(tmp_path / "enter")]}, directory).family(f"{os.getpid()} 1 boot") is None


def test_a_place_whose_shell_talks_without_end_is_one_that_gives_no_answer(directory, monkeypatch):
    from agentpipe import place
    monkeypatch.setattr(place, "ANSWER_MOST", 1 << 20)
    there = Place({"prefix": ["sh", "-c", "yes"]}, directory)
    began = time.monotonic()
    assert there.alive(processes.identity(os.getpid())) is None
    assert there.signal(processes.identity(os.getpid()), signal.SIGKILL) == 0
    assert time.monotonic() - began < 10


def test_a_script_killed_together_with_its_shim_is_lost(directory):
    subprocess.run([sys.executable, "-c", LEAVER, directory, "sleep 60"], check=True)
    wait_for(lambda: script.lives(directory) and len(processes.holding_open(f"{directory}/running")) == 1)
    shim, = processes.holding_open(f"{directory}/running")
    os.kill(shim, signal.SIGKILL)
    processes.send(attempt.pid_record(directory), signal.SIGKILL)
    found = script.taken_over(directory)
    assert found.wait(10)
    assert found.status is None


def test_how_long_it_runs_is_counted_from_its_start(directory):
    found = start(directory, "sleep 60")
    wait_for(lambda: found.record)
    ran = script.running_for(directory)
    assert ran is not None
    assert 0 <= ran < 30
    found.kill()
    assert found.status == 137


def test_how_long_it_ran_is_known_also_where_the_clock_has_jumped(directory):
    found = start(directory, "sleep 0.1")
    assert found.wait(10)
    tomorrow = time.time() + 86400
    os.utime(os.path.join(directory, "pid"), (tomorrow, tomorrow), follow_symlinks=False)
    assert 0 < ending.run_key(directory, "completed", 0, "", "")["seconds"] < 3600


def test_a_program_of_ours_is_none_of_the_scripts(directory, monkeypatch):
    monkeypatch.setattr(gpu_reader, "DEVICE", os.devnull)
    monkeypatch.setattr(gpu_reader, "READ", "import time; time.sleep(60)")
    found = start(directory, "sleep 60")
    wait_for(lambda: found.record)
    asking = threading.Thread(target=gpu_reader.ask)
    asking.start()
    wait_for(lambda: processes.of_ours)
    ours, = processes.of_ours
    assert ours in processes.descendants(os.getpid()) and ours not in found.processes()
    found.kill()
    assert found.sweep() == 0 and processes.identity(ours)
    os.kill(ours, signal.SIGKILL)
    asking.join(10)
    assert not asking.is_alive() and not processes.of_ours
