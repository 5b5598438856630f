"""200 tasks, four pullers, and one of their processes killed every second: none lost, none run twice."""

import os
import random
import threading
import time

import nodes

TASKS, PULLERS, SECONDS = 200, 4, 240
OURS = ("agent-pull", "agent-prepare", "agent-run", "dash")


def test_none_of_200_tasks_is_lost_or_doubled_while_pullers_are_killed(node):
    text = 'echo "task $AGENT_TASK_DIR"; sleep 0.1'
    waiting = {node.shell(text) for _ in range(TASKS)}
    over = threading.Event()
    pipelines = {}
    threads = [threading.Thread(target=pull, args=(node, over, pipelines, number)) for number in range(PULLERS)]
    for thread in threads:
        thread.start()
    killed, until = 0, time.monotonic() + SECONDS
    try:
        while not ended(node, waiting) and time.monotonic() < until:
            over.wait(1)
            killed += kill_one(pipelines)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    node.run()
    node.run()
    statuses = [node.status(task) for task in waiting]
    assert statuses.count("completed") == TASKS, {status: statuses.count(status) for status in statuses}
    assert len(node.runs()) == TASKS
    assert killed >= 5
    assert node.left() == []
    for task in waiting:
        assert node.stored_log(task) == node.own_log(task) != b""


def pull(node, over, pipelines, number):
    """A puller: the pipeline again and again."""
    while not over.is_set():
        pipelines[number] = process = node.start(nodes.THREE)
        process.communicate()


def kill_one(pipelines):
    """SIGKILL to any one process of a random puller, the scripts' own excepted; how many were hit."""
    victims = []
    for process in pipelines.values():
        for pid in [process.pid, *nodes.children(process.pid)]:
            words = nodes.command_line(pid).split(" ")
            if any(os.path.basename(word) in OURS for word in words[:2]):
                victims.append(pid)
    if victims:
        nodes.kill(random.choice(victims))
    return len(victims[:1])


def ended(node, tasks):
    """Whether all have ended."""
    found = node.api.call("tasks.get_all", {"status": list(nodes.ENDED), "only_fields": ["id"], "page_size": 1000,
                                            "page": 0})["tasks"]
    return {task["id"] for task in found} >= tasks
