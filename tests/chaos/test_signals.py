"""A signal at every crash point: the task ends as the signal says, or the next pipeline runs it; never is it run twice.

TERM and INT to a stage before run give the task back; to agent-run they drain or abort a script that runs.
"""

import signal

import nodes
import pytest

# a pull that comes after a death passes these: signals there are no other case than those of every pull
POINTS = [point for point in nodes.crash_points() if not point.startswith(("recover:", "give-back:"))]


@pytest.mark.parametrize("point", POINTS)
def test_term(node, point):
    task, words, mark = node.task_at(point), nodes.pipeline_of(point), node.home / "told"
    node.run(words, AGENT_CRASH_AT=f"{point}={mark}", AGENT_CRASH_WITH=str(int(signal.SIGTERM)))
    assert mark.exists(), f"no process came to {point}"
    node.run_until_ended(task, words)
    node.assert_nothing_waits()
    assert node.status(task) == "completed"
    assert node.left_claims() == []
    # a script that was drained in the midst is run again from its beginning
    assert len(node.runs()) in ((1, 2) if point.startswith("run:") else (1,))


@pytest.mark.parametrize("point", POINTS)
def test_int(node, point):
    task, words, mark = node.task_at(point), nodes.pipeline_of(point), node.home / "told"
    node.run(words, AGENT_CRASH_AT=f"{point}={mark}", AGENT_CRASH_WITH=str(int(signal.SIGINT)))
    assert mark.exists(), f"no process came to {point}"
    node.run_until_ended(task, words)
    node.assert_nothing_waits()
    assert node.status(task) in ("completed", "stopped")
    assert node.left_claims() == []
    assert len(node.runs()) <= 1
    if not point.startswith("run:"):
        assert (node.status(task), len(node.runs())) == ("completed", 1)
