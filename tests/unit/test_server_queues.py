"""Queues: their order, the atomic pull, and what enqueue and dequeue do to a task."""

import os
import signal
import subprocess
import sys

import pytest
from servertools import Server


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def test_tasks_are_pulled_in_the_order_in_which_they_were_enqueued(server):
    tasks = [server.enqueued(f"task {number}") for number in range(5)]
    pulled = [server("queues.get_next_task", queue=server.queue)["entry"]["task"] for _ in tasks]
    assert pulled == tasks
    assert server("queues.get_next_task", queue=server.queue) == {}


def test_a_pull_leaves_the_task_queued_and_says_when_it_was_added(server):
    task = server.enqueued()
    entry = server("queues.get_by_id", queue=server.queue)["queue"]["entries"][0]
    answer = server("queues.get_next_task", queue=server.queue, get_task_info=True)
    assert answer["entry"] == entry
    assert answer["task_info"]["user"] == "ann"
    assert "claimed" not in answer
    found = server.get(task)
    assert (found["status"], found["execution"]["queue"]) == ("queued", server.queue)
    assert "_agentpipe_claim" not in found["runtime"]


def test_a_pull_with_a_claim_writes_it(server):
    task = server.enqueued(runtime={"progress": "0"})
    answer = server("queues.get_next_task", queue=server.queue, claim="token")
    assert answer["claimed"] is True
    assert server.get(task)["runtime"] == {"progress": "0", "_agentpipe_claim": "token"}


def test_a_task_pulled_while_stopped_is_queued_again(server):
    task = server.enqueued()
    server.put(task, "stopped")
    server("queues.get_next_task", queue=server.queue)
    assert server.get(task)["status"] == "queued"


def test_only_the_asked_task_is_pulled_and_only_from_the_head(server):
    first, second = server.enqueued(), server.enqueued()
    assert server("queues.get_next_task", queue=server.queue, task=second) == {}
    assert server("queues.get_next_task", queue=server.queue, task=first)["entry"]["task"] == first


def test_an_entry_may_name_a_task_that_is_gone(server):
    task = server.enqueued()
    server.store.transaction(lambda db: db.execute("DELETE FROM tasks"))
    assert server("queues.get_next_task", queue=server.queue, claim="t")["entry"]["task"] == task


def test_an_unknown_queue_is_refused_everywhere(server):
    task = server.task()
    for endpoint in ("queues.get_next_task", "queues.get_by_id", "queues.get_num_entries"):
        assert "id=nowhere, company=" in server.refused(701, endpoint, queue="nowhere")
    for endpoint in ("queues.add_task", "queues.remove_task", "queues.move_task_to_front", "tasks.enqueue"):
        server.refused(701, endpoint, queue="nowhere", task=task)
    assert server.get(task)["status"] == "created"


def test_queue_names_are_unique_and_not_too_short(server):
    server("queues.create", name=" gpu ", tags=["b", "a", "b"])
    found = server("queues.get_all", name="^gpu$")["queues"][0]
    assert found["tags"] == ["a", "b"]
    server.refused(801, "queues.create", name="gpu")
    server.refused(800, "queues.create", name=" ab ")


def test_the_default_queue_is_the_one_with_the_tag(server):
    assert server("queues.get_default") == {"id": server.queue, "name": "default"}
    server("queues.create", name="other", system_tags=["default"])
    server.refused(708, "queues.get_default")
    server.store.transaction(lambda db: db.execute("DELETE FROM queues"))
    server.refused(707, "queues.get_default")


def test_entries_move_to_either_end(server):
    tasks = [server.enqueued() for _ in range(4)]
    assert server("queues.move_task_to_front", queue=server.queue, task=tasks[2]) == {"position": 0}
    assert server("queues.move_task_to_back", queue=server.queue, task=tasks[0]) == {"position": 3}
    assert server.entries() == [tasks[2], tasks[1], tasks[3], tasks[0]]
    server.refused(703, "queues.move_task_to_front", queue=server.queue, task=server.task())


def test_add_and_remove_do_not_touch_the_status(server):
    task = server.task()
    assert server("queues.add_task", queue=server.queue, task=task) == {"added": 1}
    server.refused(706, "queues.add_task", queue=server.queue, task=task)
    assert server("queues.get_num_entries", queue=server.queue) == {"num": 1}
    assert server("queues.remove_task", queue=server.queue, task=task) == {"removed": 1}
    server.refused(703, "queues.remove_task", queue=server.queue, task=task)
    assert server.get(task)["status"] == "created"


def test_remove_may_put_the_status_back(server):
    task = server.enqueued()
    server("queues.remove_task", queue=server.queue, task=task, update_task_status=True)
    found = server.get(task)
    assert found["status"] == "created"
    assert "queue" not in found["execution"]


def test_a_named_task_is_pulled_out_of_the_middle(server):
    _, second = server.enqueued(), server.enqueued()
    answer = server("queues.remove_task", queue=server.queue, task=second, claim="token")
    assert answer == {"removed": 1, "claimed": True}
    assert server.get(second)["runtime"] == {"_agentpipe_claim": "token"}
    assert server.get(second)["status"] == "queued"


class TestEnqueue:
    def test_what_it_answers_and_changes(self, server):
        task = server.task(system_tags=["development", "x"])
        answer = server("tasks.enqueue", task=task, queue=server.queue)
        assert (answer["queued"], answer["updated"]) == (1, 1)
        assert answer["fields"]["execution.queue"] == server.queue
        found = server.get(task)
        assert (found["status"], found["system_tags"]) == ("queued", ["x"])
        assert found["execution"]["queue"] == server.queue

    def test_a_queue_of_that_name_is_made(self, server):
        task = server.task()
        server("tasks.enqueue", task=task, queue_name="brand new")
        queue = server("queues.get_all", name="^brand new$")["queues"][0]
        assert queue["entries"][0]["task"] == task
        server("tasks.enqueue", task=(other := server.task()), queue_name=" brand new ")
        assert server.entries(queue["id"]) == [task, other]
        server.refused(12, "tasks.enqueue", task=task, queue_name="brand new", queue=server.queue)

    def test_it_leaves_every_other_queue(self, server):
        task = server.enqueued()
        server("tasks.enqueue", task=task, queue_name="other")
        assert server.entries() == []

    def test_twice_in_one_queue_is_refused(self, server):
        task = server.enqueued()
        server.refused(706, "tasks.enqueue", task=task)
        assert server.entries() == [task]

    def test_a_watched_queue(self, server):
        task = server.task()
        server("workers.register", worker="box:0", queues=[server.queue])
        assert server("tasks.enqueue", task=task, verify_watched_queue=True)["queue_watched"] is True

    def test_the_execution_queue_may_stay_for_a_queued_task_only(self, server):
        task = server.task()
        server.refused(12, "tasks.enqueue", task=task, update_execution_queue=False)
        server("tasks.enqueue", task=task)
        server("tasks.enqueue", task=task, queue_name="other", update_execution_queue=False)
        assert server.get(task)["execution"]["queue"] == server.queue


class TestDequeue:
    def test_a_queued_task_becomes_what_it_was(self, server):
        task = server.task()
        server.put(task, "stopped")
        server("tasks.enqueue", task=task)
        answer = server("tasks.dequeue", task=task)
        assert (answer["dequeued"], answer["updated"], answer["fields"]["enqueue_status"]) == (1, 1, None)
        assert server.get(task)["status"] == "stopped"
        assert server.get(task)["execution"]["queue"] == server.queue
        assert server.entries() == []

    def test_one_that_its_agent_gave_back_runs_nowhere_and_is_stopped(self, server):
        task = server.enqueued()
        server("queues.get_next_task", queue=server.queue)
        server("tasks.started", task=task)
        for leaves in ("tasks.dequeue", "queues.clear_queue"):
            server("tasks.enqueue", task=task, force=True)
            server(leaves, **({"task": task} if leaves == "tasks.dequeue" else {"queue": server.queue}))
            assert server.get(task)["status"] == "stopped"

    def test_a_running_task_is_thrown_back_unless_told_otherwise(self, server):
        task = server.enqueued()
        server("queues.get_next_task", queue=server.queue)
        server("tasks.started", task=task)
        server("tasks.dequeue", task=task, new_status="in_progress")
        assert server.get(task)["status"] == "in_progress"
        server("tasks.dequeue", task=task)
        assert server.get(task)["status"] == "created"

    @pytest.mark.parametrize("leaves", [{"tasks.dequeue": "task"}, {"tasks.archive_many": "ids"}])
    def test_who_has_pulled_it_and_not_begun_is_refused_from_then_on(self, server, leaves):
        task = server.pulled("token")
        [(endpoint, field)] = leaves.items()
        server(endpoint, {field: [task] if field == "ids" else task})
        server.refused(121, "tasks.started", task=task, claim="token")
        assert server.get(task)["status"] == "created"

    def test_any_other_task_stays_as_it_is(self, server):
        task = server.task()
        assert server("tasks.dequeue", task=task) == {"dequeued": 1, "updated": 0}
        server.refused(12, "tasks.dequeue", {"task": server.enqueued(), "new_status": "no such"})


PULLER = """
import os, sys
from agentpipe.server.store import Store
from agentpipe.server.endpoints import call
path, queue, out = sys.argv[1:]
store, log = Store(path), open(out, "a", buffering=1)
number = 0
while True:
    number += 1
    token = f"{os.getpid()}.{number}"
    log.write(f"ask {token}\\n")
    answer = call(store, {"user": "ann"}, "queues.get_next_task", {"queue": queue, "claim": token})
    if not answer:
        break
    log.write(f"got {token} {answer['entry']['task']}\\n")
"""


def test_four_pullers_of_which_some_are_killed_neither_lose_nor_double_a_task(server, tmp_path):
    tasks = {server.enqueued(f"task {number}") for number in range(400)}
    logs, running = [], []

    def start():
        logs.append(tmp_path / f"puller.{len(logs)}")
        logs[-1].touch()
        argv = [sys.executable, "-c", PULLER, server.path, server.queue, str(logs[-1])]
        running.append(subprocess.Popen(argv))

    for _ in range(4):
        start()
    for victim in range(4):
        # kill each in the middle of its work and replace it
        while running[victim].poll() is None and "got" not in logs[victim].read_text():
            os.sched_yield()
        running[victim].send_signal(signal.SIGKILL)
        start()
    for puller in running[4:]:
        assert puller.wait(timeout=120) == 0
    for puller in running[:4]:
        puller.wait()

    words = [line.split() for log in logs for line in log.read_text().splitlines()]
    asked = {word[1] for word in words if word[0] == "ask"}
    got = [(word[1], word[2]) for word in words if word[0] == "got" and len(word) == 3]
    found = server("tasks.get_all", only_fields=["id", "runtime"])["tasks"]
    claims = {task["id"]: task["runtime"]["_agentpipe_claim"] for task in found}
    assert set(claims) == tasks, "each task was pulled"
    assert len(set(claims.values())) == len(tasks), "no two tasks share a token"
    assert set(claims.values()) <= asked, "what a killed puller took is found by the token of its intent"
    assert len({task for _, task in got}) == len(got), "no task was handed out twice"
    assert all(claims[task] == token for token, task in got)


def test_a_list_of_queues_has_no_more_entries_than_were_asked_for(server):
    tasks = [server.enqueued(f"task {number}") for number in range(5)]
    for most, there in ((2, tasks[:2]), (0, []), (None, tasks), (9, tasks)):
        found = server("queues.get_all", {"max_task_entries": most})["queues"][0]
        assert [entry["task"] for entry in found["entries"]] == there
        one = server("queues.get_by_id", {"queue": server.queue, "max_task_entries": most})["queue"]
        assert one["entries"] == found["entries"]
