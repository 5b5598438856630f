"""Supervisors that are killed, doubled, drained; and how soon a printed line is seen."""

import os
import signal

import nodes
import pytest

from agentpipe import processes
from agentpipe.claim import attempt

WAITING = 'echo begun; until [ -e "$SIDE.go" ]; do sleep 0.05; done; echo over'


@pytest.fixture
def supervised(node):
    """A supervisor whose script runs and waits: the node, the task, the supervisor, the script's pid."""
    task = node.shell(WAITING)
    supervisor = node.start("exec agent-supervisor --worker tester default")
    nodes.wait_for(lambda: node.runs() and node.own_log(task))
    yield node, task, supervisor, node.runs()[0]
    nodes.kill(supervisor.pid)


def go(node):
    """Let the script end."""
    (node.home / "runs.go").touch()


def ours(supervisor):
    """The supervisor and the stages below it, without shim and script."""
    return [pid for pid in [supervisor.pid, *nodes.children(supervisor.pid)] if "agent-" in nodes.command_line(pid)]


def test_a_second_supervisor_takes_over_the_script_that_a_killed_one_left(supervised):
    node, task, supervisor, script = supervised
    for pid in ours(supervisor):
        nodes.kill(pid)
    supervisor.communicate(timeout=30)
    assert processes.start_time(script) is not None
    second = node.start("exec agent-supervisor --worker tester default")
    nodes.wait_for(lambda: "taking over" in (node.directory(task) / "setup.log").read_text())
    go(node)
    nodes.wait_for(lambda: node.status(task) in nodes.ENDED and not node.left_claims())
    more = node.shell("echo next")
    nodes.wait_for(lambda: node.status(more) == "completed" and not node.left_claims())
    second.terminate()
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert attempt.outcome(str(node.directory(task))) == "completed"
    assert len(node.runs()) == 2
    assert node.stored_log(task) == b"begun\nover\n" == node.own_log(task)


def test_two_supervisors_of_one_name_are_refused(supervised):
    node, _, _, _ = supervised
    status, _, err = node.run("agent-supervisor --worker tester default")
    assert status == 75
    assert "another process serves as tester" in err


def test_the_first_term_lets_the_task_end_and_the_second_stops_it(supervised):
    node, task, supervisor, script = supervised
    os.kill(supervisor.pid, signal.SIGTERM)
    with pytest.raises(AssertionError):
        nodes.wait_for(lambda: supervisor.poll() is not None, 0.5)
    assert processes.start_time(script) is not None
    os.kill(supervisor.pid, signal.SIGTERM)
    supervisor.communicate(timeout=30)
    assert processes.start_time(script) is None
    assert node.status(task) == "queued"


def test_hup_leaves_the_script_to_the_next(supervised):
    node, task, supervisor, script = supervised
    os.kill(supervisor.pid, signal.SIGHUP)
    supervisor.communicate(timeout=30)
    assert processes.start_time(script) is not None
    go(node)
    node.run_until_ended(task)
    node.assert_ran_once(task)


def test_a_supervisor_killed_alone_leaves_no_pull_that_takes_tasks_for_nobody(node):
    supervisor = node.start("exec agent-supervisor default")
    nodes.wait_for(lambda: node.left())
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    nodes.wait_for(lambda: not [pid for pid in processes.having(f"XDG_STATE_HOME={node.env['XDG_STATE_HOME']}".encode())
                                if "agent-pull" in nodes.command_line(pid)])
    task = node.shell("echo hello")
    node.run_until_ended(task)
    node.assert_ran_once(task)


def test_a_printed_line_is_soon_in_the_log_that_somebody_follows(node):
    task = node.shell('for step in 1 2 3; do until [ -e "$SIDE.$step" ]; do sleep 0.02; done; echo "step $step"; done')
    pipeline = node.start(nodes.THREE)
    nodes.wait_for(lambda: node.runs())
    out = node.home / "followed"
    out.touch()
    follower = node.start(f"exec agent-task log -f {task} >{out}")
    for step in (1, 2, 3):
        (node.home / f"runs.{step}").touch()
        # the next step is not printed before this one was seen: nothing flushes it but time
        nodes.wait_for(lambda step=step: f"step {step}" in out.read_text(), 5)
    pipeline.communicate(timeout=30)
    follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert out.read_text().endswith("step 1\nstep 2\nstep 3\n")
