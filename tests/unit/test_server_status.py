"""How a task's status moves: ClearML's table, forced and not, and what every change leaves behind."""

import pytest
from servertools import Server

from agentpipe.errors import ApiError

# server.md §5, written once more so that the code is held against the page
TABLE = {
    "created": "queued in_progress",
    "queued": "created in_progress stopped",
    "in_progress": "created stopped failed completed",
    "stopped": "created queued in_progress completed failed closed publishing published",
    "completed": "created in_progress published",
    "failed": "created queued stopped published",
    "closed": "created stopped failed publishing published",
    "publishing": "published",
    "published": "",
}
CALLS = {"queued": "tasks.enqueue", "in_progress": "tasks.started", "stopped": "tasks.stopped",
         "completed": "tasks.completed", "failed": "tasks.failed", "created": "tasks.reset"}
# what is refused when it names another claim than the task's
CONDITIONAL = [
    ("tasks.started", {}), ("tasks.stopped", {}), ("tasks.completed", {}), ("tasks.failed", {}),
    ("tasks.ping", {}), ("tasks.dequeue", {}), ("tasks.enqueue", {}), ("tasks.stop", {}), ("tasks.reset", {}),
    ("tasks.edit_runtime", {"add_or_update": {"a": "b"}}), ("tasks.edit", {"comment": "x"}),
    ("tasks.set_requirements", {"requirements": {"pip": "six"}})]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return Server(tmp_path_factory.mktemp("status") / "agent.db")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("new", CALLS)
@pytest.mark.parametrize("old", TABLE)
def test_a_change_is_accepted_when_the_table_has_it_or_it_is_forced(server, old, new, force):
    task = server.task()
    server.put(task, old)
    allowed = force or new == old or new in TABLE[old].split()
    try:
        server(CALLS[new], task=task, force=force)
        accepted = True
    except ApiError as refusal:
        accepted = False
        assert refusal.subcode == 110
        assert f"current_status={old}, new_status={new}" in refusal.msg
    assert accepted == allowed
    assert server.get(task)["status"] == (new if allowed else old)


def test_every_change_blanks_the_reason_and_message_that_it_was_not_given(server):
    task = server.task()
    server("tasks.started", task=task, status_reason="why", status_message="what")
    assert (server.get(task)["status_reason"], server.get(task)["status_message"]) == ("why", "what")
    answer = server("tasks.started", task=task)
    assert (server.get(task)["status_reason"], server.get(task)["status_message"]) == ("", "")
    assert answer["fields"]["status_reason"] == ""
    assert answer["fields"]["last_changed_by"] == "ann"


def test_started_again_keeps_the_first_time_and_after_an_end_begins_anew(server):
    task = server.task()
    first = server("tasks.started", task=task)
    assert first["started"] == first["updated"] == 1
    assert "started" not in server("tasks.started", task=task)["fields"]
    assert server.get(task)["started"] == first["fields"]["started"]
    server("tasks.completed", task=task)
    assert "completed" in server.get(task)
    server("tasks.started", task=task)
    assert "completed" not in server.get(task)


def test_an_unknown_task(server):
    server.refused(10, "tasks.started", task="f" * 32)
    assert f"ids=({'f' * 32})" in server.refused(101, "tasks.get_by_id", task="f" * 32)
    server.refused(101, "tasks.stopped", task="f" * 32)
    assert server("tasks.ping", task="f" * 32) == {}
    assert server("tasks.dequeue", task="f" * 32) == {"dequeued": 1, "updated": 0}


def test_completed_may_publish(server):
    task = server.task()
    server("tasks.started", task=task)
    assert server("tasks.completed", task=task)["published"] == 0
    other = server.task()
    server("tasks.started", task=other)
    assert server("tasks.completed", task=other, publish=True)["published"] == 1
    assert server.get(other)["status"] == "published"


def test_a_ping_shows_life_and_work_time(server):
    task = server.task()
    server("tasks.started", task=task)
    assert server("tasks.ping", task=task) == {}
    found = server.get(task)
    assert found["active_duration"] == 0
    assert found["last_update"] >= found["started"]


class TestStop:
    def test_a_queued_task_leaves_its_queue(self, server):
        task = server.enqueued()
        server("tasks.stop", task=task)
        assert server.get(task)["status"] == "stopped"
        assert task not in server.entries()

    def test_a_task_that_nobody_reports_is_stopped_at_once(self, server):
        task = server.task()
        server("tasks.started", task=task)
        answer = server("tasks.stop", task=task, status_reason="bored", status_message="ignored")
        found = server.get(task)
        assert answer["updated"] == 1
        assert (found["status"], found["status_reason"]) == ("stopped", "bored")
        assert found["status_message"] == "Stopped by ann"
        assert "completed" not in found

    def test_a_task_that_a_worker_runs_is_asked_to_stop(self, server):
        task = server.task()
        server("tasks.started", task=task)
        server("workers.status_report", worker="box:0", timestamp=1, task=task)
        server("tasks.stop", task=task)
        found = server.get(task)
        assert (found["status"], found["status_message"]) == ("in_progress", "stopping")
        server("tasks.stopped", task=task)
        assert server.get(task)["status"] == "stopped"

    @pytest.mark.parametrize(("asked", "steps"), [
        (True, [("stopped", ""), ("in_progress", "stopping"), ("completed", "")]),
        (False, [("queued", ""), ("in_progress", ""), ("completed", "")])])
    def test_a_pipeline_stops_with_its_steps_when_that_is_asked(self, server, asked, steps):
        pipeline = server.task(system_tags=["pipeline"])
        server("tasks.started", task=pipeline)
        waits, runs, done = (server.task(parent=pipeline) for _ in range(3))
        server("tasks.enqueue", task=waits)
        server("tasks.started", task=runs)
        server("workers.status_report", worker="box:0", timestamp=1, task=runs)
        server.put(done, "completed")
        server("tasks.stop", task=pipeline, include_pipeline_steps=asked)
        found = [server.get(task) for task in (waits, runs, done)]
        assert [(task["status"], task["status_message"].removeprefix("Stopped by ann")) for task in found] == steps
        assert server.get(pipeline)["status"] == "stopped"
        assert (waits in server.entries()) != asked
        plain = server.task()
        child = server.task(parent=plain)
        server("tasks.started", task=plain)
        server("tasks.started", task=child)
        server("tasks.stop", task=plain, include_pipeline_steps=True)
        assert server.get(child)["status"] == "in_progress"

    def test_a_local_run_is_stopped_at_once_although_it_reports(self, server):
        task = server.task(system_tags=["development"])
        server("tasks.started", task=task)
        server("workers.status_report", worker="box:0", timestamp=1, task=task)
        server("tasks.stop", task=task)
        assert server.get(task)["status"] == "stopped"

    @pytest.mark.parametrize("status", ["created", "completed", "published"])
    def test_what_does_not_run_cannot_be_stopped(self, server, status):
        task = server.task()
        server.put(task, status)
        server.refused(110, "tasks.stop", task=task)
        server("tasks.stop", task=task, force=True)
        assert server.get(task)["status"] == "stopped"


class TestClaims:
    @pytest.fixture
    def server(self, tmp_path):
        return Server(tmp_path / "agent.db")

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("endpoint, body", CONDITIONAL)
    def test_with_another_claim_nothing_changes(self, server, endpoint, body, force):
        task = server.pulled("mine")
        before = server.get(task)
        body = {**body, "task": task, "claim": "theirs", **({"force": True} if force else {})}
        assert "claim" in server.refused(121, endpoint, body)
        assert server.get(task) == before
        assert task not in server.entries()

    @pytest.mark.parametrize("endpoint, body", CONDITIONAL)
    def test_a_task_without_a_claim_is_nobodys(self, server, endpoint, body):
        task = server.task()
        server.refused(121, endpoint, {**body, "task": task, "claim": "mine"})

    @pytest.mark.parametrize("endpoint, body", CONDITIONAL)
    def test_the_owner_may(self, server, endpoint, body):
        task = server.pulled("mine")
        if endpoint in ("tasks.completed", "tasks.failed"):
            server("tasks.started", task=task)
        server(endpoint, {**body, "task": task, "claim": "mine", "force": True})

    def test_giving_back_removes_the_claim_and_puts_the_task_first(self, server):
        task = server.pulled("mine")
        server("tasks.started", task=task, claim="mine")
        waiting = server.enqueued()
        server("tasks.enqueue", task=task, queue=server.queue, claim="mine", force=True, front=True)
        assert server.entries() == [task, waiting]
        assert "_agentpipe_claim" not in server.get(task)["runtime"]
        server.refused(121, "tasks.started", task=task, claim="mine")

    def test_enqueueing_again_takes_the_task_from_whoever_has_pulled_it(self, server):
        task = server.pulled("mine")
        server("tasks.enqueue", task=task, queue=server.queue)
        assert server.entries() == [task]
        assert "_agentpipe_claim" not in server.get(task)["runtime"]
        server.refused(121, "tasks.started", task=task, claim="mine")

    def test_a_task_is_found_by_its_claim(self, server):
        task = server.pulled("needle")
        found = server("tasks.get_all", {"runtime._agentpipe_claim": "needle",
                                         "only_fields": ["id", "status"]})
        assert found == {"tasks": [{"id": task, "status": "queued"}]}
        db = server.store.connection()
        plan = db.execute("EXPLAIN QUERY PLAN SELECT id FROM tasks WHERE claim=?", ("x",)).fetchall()
        assert "tasks_claim" in plan[0][3]
        server("tasks.edit_runtime", task=task, remove=["_agentpipe_claim"])
        assert server("tasks.get_all", {"runtime._agentpipe_claim": "needle"}) == {"tasks": []}
