"""A kill at every crash point: the next pipeline runs the task, or takes over its script; it ran once."""

import nodes
import pytest

POINTS = nodes.crash_points()
# points that only a pull after a death passes: where the first death was
BEFORE = {"recover:intent": "pull:popped", "recover:forbidden": "fetch:done", "recover:enqueued": "fetch:done",
          "recover:decided": "run:over"}
GIVING_BACK = [point for point in POINTS if point.startswith("give-back:")]


def broken(node, point, run):
    """A node whose first pipeline died at `point`; the task, and the pipeline's words."""
    task = node.task_at(point)
    words, mark = nodes.pipeline_of(point), node.home / "died"
    if point in BEFORE:
        run(words, AGENT_CRASH_AT=BEFORE[point])
    more = {"AGENT_HOOKS": str(terminating_hook(node))} if point in GIVING_BACK else {}
    for _ in range(3):  # after a death a shim may still hold the task for a moment, as cron's next pull would find it
        run(words, AGENT_CRASH_AT=f"{point}={mark}", **more)
        if mark.exists():
            break
    assert mark.exists(), f"no process came to {point}"
    return task, words


def terminating_hook(node):
    """A hook that tells the stage to stop, while it has the task."""
    folder = node.home / "hooks"
    folder.mkdir()
    hook = folder / "pre-fetch"
    hook.write_text('#!/bin/sh\nkill -TERM "$PPID"\n')
    hook.chmod(0o755)
    return folder


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_next_pipeline_brings_the_task_to_its_end(node, point):
    task, words = broken(node, point, node.run)
    node.run_until_ended(task, words)
    node.assert_nothing_waits()
    node.assert_ran_once(task)


@pytest.mark.parametrize("point", POINTS)
def test_at_a_terminal(node, point):
    task, words = broken(node, point, node.run_at_a_terminal)
    for _ in range(3):
        node.run_at_a_terminal(words)
        if node.status(task) in nodes.ENDED:
            break
    node.assert_nothing_waits()
    node.assert_ran_once(task)


@pytest.mark.parametrize("point", [point for point in POINTS if point not in BEFORE and point not in GIVING_BACK
                                   and nodes.pipeline_of(point) == nodes.THREE])
def test_under_the_supervisor(node, point):
    task = node.task_at(point)
    mark = node.home / "died"
    supervisor = node.start("exec agent-supervisor default", AGENT_CRASH_AT=f"{point}={mark}")
    try:
        nodes.wait_for(lambda: mark.exists(), 60)
        nodes.wait_for(lambda: node.status(task) in nodes.ENDED and node.left_claims() == [], 60, 0.1)
    finally:
        supervisor.terminate()
        supervisor.communicate(timeout=60)
    node.assert_nothing_waits()
    node.assert_ran_once(task)
