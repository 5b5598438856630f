"""Deaths and signals that no crash point stands for: scripts, shims, stages and supervisors killed from outside."""

import os
import signal

import nodes
import pytest

from agentpipe import processes
from agentpipe.claim import attempt

# prints, and ends as the test tells it; waits for the file `go` in the test's own folder
WAITING = 'echo begun; until [ -e "$SIDE.go" ]; do sleep 0.05; done; echo over'


@pytest.fixture
def running(node):
    """A pipeline whose script runs and waits: the node, the task, the pipeline's process, the script's pid."""
    task = node.shell(WAITING)
    pipeline = node.start(nodes.THREE)
    script = nodes.wait_for(lambda: node.runs())[0]
    nodes.wait_for(lambda: node.own_log(task))
    yield node, task, pipeline, script
    nodes.kill(pipeline.pid)


def go(node):
    """Let the script go on to its end."""
    (node.home / "runs.go").touch()


def stage(pipeline, name):
    """The pid of this command of the pipeline."""
    return next(pid for pid in nodes.children(pipeline.pid) if f"/{name} " in nodes.command_line(pid) + " ")


def shim_of(node, task):
    """The pid of the shell that keeps the script's status."""
    found = processes.holding_open(str(node.directory(task) / "running"))
    return min(found)


def test_term_to_the_scripts_whole_process_group(running):
    node, task, pipeline, script = running
    os.killpg(os.getpgid(script), signal.SIGTERM)
    pipeline.communicate(timeout=30)
    assert pipeline.returncode == 143
    assert attempt.exit_status(str(node.directory(task))) == 143
    assert node.status(task) == "failed"
    assert node.stored_log(task) == b"begun\n"


def test_a_script_that_traps_term_ends_as_it_likes(node):
    task = node.shell("trap 'echo saved; exit 3' TERM; echo begun; while :; do sleep 0.05; done")
    pipeline = node.start(nodes.THREE)
    nodes.wait_for(lambda: node.runs() and node.own_log(task))
    os.kill(node.runs()[0], signal.SIGTERM)
    pipeline.communicate(timeout=30)
    assert pipeline.returncode == 3
    assert node.stored_log(task) == b"begun\nsaved\n"


def test_the_shim_killed_from_outside_costs_nothing(running):
    node, task, pipeline, _ = running
    os.kill(shim_of(node, task), signal.SIGKILL)
    go(node)
    pipeline.communicate(timeout=30)
    assert pipeline.returncode == 0
    node.assert_ran_once(task)


def test_shim_and_agent_run_killed_together_is_lost_and_said_so(running):
    node, task, pipeline, script = running
    os.kill(stage(pipeline, "agent-run"), signal.SIGSTOP)
    os.kill(shim_of(node, task), signal.SIGKILL)
    os.kill(stage(pipeline, "agent-run"), signal.SIGKILL)
    os.kill(script, signal.SIGKILL)
    pipeline.communicate(timeout=30)
    node.run_until_ended(task)
    assert node.status(task) == "failed"
    assert attempt.outcome(str(node.directory(task))) == "lost"
    assert len(node.runs()) == 1


def test_hup_leaves_the_script_running_and_the_next_pipeline_watches_it(running):
    node, task, pipeline, script = running
    os.kill(stage(pipeline, "agent-run"), signal.SIGHUP)
    pipeline.communicate(timeout=30)
    assert pipeline.returncode == 129
    assert processes.start_time(script) is not None
    second = node.start(nodes.THREE)
    nodes.wait_for(lambda: "taking over" in (node.directory(task) / "setup.log").read_text())
    go(node)
    second.communicate(timeout=30)
    assert second.returncode == 0
    node.assert_ran_once(task)


def test_every_process_of_the_pipeline_killed_while_the_script_runs(running):
    node, task, pipeline, script = running
    for pid in [pipeline.pid, *(stage(pipeline, name) for name in ("agent-run",))]:
        os.kill(pid, signal.SIGKILL)
    assert processes.start_time(script) is not None
    go(node)
    node.run_until_ended(task)
    node.assert_ran_once(task)


def test_killed_while_the_script_ends_meanwhile(running):
    node, task, pipeline, _ = running
    os.kill(stage(pipeline, "agent-run"), signal.SIGKILL)
    go(node)
    nodes.wait_for(lambda: attempt.exit_status(str(node.directory(task))) is not None)
    assert node.run_until_ended(task) == 1
    node.assert_ran_once(task)


def test_term_to_agent_run_puts_the_task_back_and_ends_what_it_started(running):
    node, task, pipeline, script = running
    os.kill(stage(pipeline, "agent-run"), signal.SIGTERM)
    pipeline.communicate(timeout=30)
    assert pipeline.returncode == 75
    assert processes.start_time(script) is None
    assert node.status(task) == "queued"


def test_int_to_the_whole_foreground_group_aborts_it_without_a_traceback(running):
    node, task, pipeline, script = running
    os.killpg(pipeline.pid, signal.SIGINT)
    _, err = pipeline.communicate(timeout=30)
    assert "Traceback" not in err
    assert processes.start_time(script) is None
    assert node.status(task) == "stopped"
    assert node.left() == []


def test_what_the_script_leaves_behind_is_ended(node):
    task = node.shell('setsid sh -c \'echo "$$" >"$SIDE.child"; exec sleep 600\' & '
                      'until [ -s "$SIDE.child" ]; do sleep 0.05; done; echo over')
    assert node.run()[0] == 0
    child = int((node.home / "runs.child").read_text())
    assert processes.start_time(child) is None
    node.assert_ran_once(task)


def test_no_descriptor_of_ours_reaches_the_script(node):
    task = node.shell("ls -l /proc/$$/fd | grep -c agent.db; ls -l /proc/$$/fd | grep -E 'lock|running|active'; true")
    assert node.run()[0] == 0
    assert node.own_log(task) == b"0\n"


def test_a_second_pipeline_beside_a_running_one_leaves_its_task_alone(running):
    node, task, pipeline, _ = running
    assert node.run() == (0, "", "")
    go(node)
    pipeline.communicate(timeout=30)
    node.assert_ran_once(task)


def test_what_a_task_installs_while_it_runs_is_not_there_for_the_next(node, tmp_path):
    wheel = make_wheel(tmp_path)
    first = node.python(f"import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', '-q', "
                        f"'--no-index', '--no-deps', {wheel!r}])\nimport chaosmodule\nprint('here')\n", "pip")
    second = node.python("import importlib.util\nprint('there' if importlib.util.find_spec('chaosmodule') "
                         "else 'not there')\n", "pip")
    assert node.run()[0] == 0
    assert node.run()[0] == 0
    assert node.own_log(first).endswith(b"here\n")
    assert node.own_log(second) == b"not there\n"
    bases = {attempt.read_manifest(str(node.directory(task)))["env"]["base"] for task in (first, second)}
    assert len(bases) == 1


def make_wheel(folder):
    """A wheel with one empty module, written by hand."""
    import zipfile
    path = folder / "chaosmodule-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("chaosmodule.py", "")
        info = "chaosmodule-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: chaosmodule\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\n"
                                          "Root-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"chaosmodule.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return str(path)


