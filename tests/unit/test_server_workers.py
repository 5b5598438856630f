"""Workers: registered, reporting, gone; and the door of all endpoints: names, fields and types."""

import pytest
from servertools import Server

from agentpipe.errors import ApiError
from agentpipe.server import endpoints


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def expire(server):
    """Let the reports of all workers lie in the past, as the clock would."""
    server.store.transaction(lambda db: db.execute("UPDATE workers SET expires=expires-601"))


def ids(server, **asked):
    return [worker["id"] for worker in server("workers.get_all", asked)["workers"]]


def test_a_worker_is_seen_with_its_queues_until_it_leaves(server):
    task = server.enqueued("next one")
    assert server("workers.register", worker="box:0", queues=[server.queue], tags=["b", "a"]) == {}
    worker = server("workers.get_all")["workers"][0]
    assert (worker["id"], worker["tags"], worker["user"]["name"]) == ("box:0", ["a", "b"], "ann")
    assert worker["queues"] == [{"id": server.queue, "name": "default", "num_tasks": 1,
                                 "next_task": {"id": task, "name": "next one"}}]
    assert "task" not in worker
    [queue] = server("queues.get_all_ex")["queues"]
    assert [each["key"] for each in queue["workers"]] == [worker["key"]]
    assert server("workers.unregister", worker="box:0") == {}
    assert server("workers.unregister", worker="never seen") == {}
    assert ids(server) == []


def test_a_worker_is_where_its_last_report_came_from(server):
    for address in ("10.0.0.7", "10.0.0.8"):
        endpoints.call(server.store, {"user": "ann", "address": address}, "workers.status_report",
                       {"worker": "far:0", "timestamp": 1})
        assert server("workers.get_all")["workers"][0]["ip"] == address


def test_the_queues_of_two_workers_of_one_name_are_both_served_and_one_that_changes_its_own_leaves_the_old(
        server, monkeypatch):
    ours, theirs = server.queue, server("queues.create", name="theirs")["id"]
    clock = [1000000.0]
    monkeypatch.setattr("agentpipe.server.namesakes.time.time", lambda: clock[0])

    def reports(*queues):
        clock[0] += 15
        server("workers.status_report", worker="vm:0", timestamp=1, queues=list(queues))
        [worker] = server("workers.get_all")["workers"]
        assert not {"reported", "shared"} & set(worker)
        return {queue["id"] for queue in worker["queues"]}

    server("workers.register", worker="vm:0", queues=[ours])
    assert reports(ours) == {ours}
    server("workers.register", worker="vm:0", queues=[theirs])  # as by a restart with another queue
    assert [reports(theirs) for _ in range(3)] == [{theirs}] * 3
    assert [reports(ours), reports(theirs), reports(ours)] == [{ours, theirs}] * 3
    assert [reports(ours) for _ in range(8)][-1] == {ours}, "the other one is gone"


def test_an_unknown_queue_registers_nobody(server):
    server.refused(701, "workers.register", worker="box:0", queues=[server.queue, "nowhere"])
    assert ids(server) == []


def test_a_silent_worker_vanishes(server):
    server("workers.register", worker="box:0", queues=[])
    server("workers.register", worker="patient", queues=[], timeout=10_000)
    expire(server)
    assert ids(server) == ["patient"]
    server("workers.status_report", worker="box:0", timestamp=1)
    assert ids(server) == ["box:0", "patient"]


def test_a_report_registers_an_unknown_worker_and_names_it_in_its_task(server):
    project = server("projects.create", name="lab")["id"]
    task = server.task("at work", project=project)
    server("tasks.started", task=task)
    server("workers.status_report", worker="new:1", timestamp=1, task=task, queue=server.queue,
           queues=[server.queue], machine_stats={"cpu_usage": [3.5], "gpu_usage": []})
    found = server.get(task)
    assert found["last_worker"] == "new:1"
    assert found["last_worker_report"] == found["last_update"]
    worker = server("workers.get_all")["workers"][0]
    assert worker["task"] == {"id": task, "name": "at work", "running_time": 0, "last_iteration": 0}
    assert worker["project"] == {"id": project, "name": "lab"}
    assert worker["queue"]["name"] == "default"


def test_a_report_that_is_no_numbers_is_refused(server):
    for stats in ({"cpu_usage": ["x"]}, {"memory_used": "1"}, {"gpu_usage": [1, {}]}, {"cpu_usage": True}):
        server.refused(12, "workers.status_report", {"worker": "w", "timestamp": 1, "machine_stats": stats})
    server("workers.status_report", worker="w", timestamp=1, machine_stats={"cpu_usage": [1, None, 2.5], "disk": 7})


def test_a_report_without_a_task_means_idle_and_without_queues_keeps_them(server):
    task = server.task()
    server("workers.status_report", worker="w", timestamp=1, task=task, queues=[server.queue])
    server("workers.status_report", worker="w", timestamp=1, queues=[], machine_stats=None, tags=None)
    worker = server("workers.get_all")["workers"][0]
    assert "task" not in worker
    assert [queue["id"] for queue in worker["queues"]] == [server.queue]


def test_a_report_of_an_unknown_task_is_refused(server):
    server.refused(101, "workers.status_report", worker="w", timestamp=1, task="nobody")


def test_workers_by_pattern_and_tags(server):
    for name in ("box:0", "box:1", "den:0"):
        server("workers.register", worker=name, queues=[], tags=[name[0]])
    assert ids(server, worker_pattern="box:?") == ["box:0", "box:1"]
    assert ids(server, worker_pattern="*:0") == ["box:0", "den:0"]
    assert ids(server, tags=["-b"]) == ["den:0"]


def test_an_unknown_endpoint_is_404_in_clearmls_words(server):
    for name in ("workers.get_runtime_properties", "nothing.at_all", "queues", ""):
        with pytest.raises(ApiError) as caught:
            server(name)
        assert (caught.value.code, caught.value.subcode) == (404, 0)
        assert caught.value.msg == f"Unable to find endpoint for name {name} and version 2.34"


def test_required_fields_and_types(server):
    assert server.refused(12, "tasks.get_by_id", {}) == (
        "validation error (error for field 'task'. field is required!)")
    server.refused(12, "tasks.get_by_id", {"task": None})
    assert 'expected type "str" 5' in server.refused(12, "tasks.get_by_id", {"task": 5})
    server.refused(12, "tasks.started", {"task": server.task(), "force": 1})
    server.refused(12, "tasks.create", {"name": "train", "type": "training", "script": "text"})
    server.refused(12, "tasks.get_by_id", ["task"])


def test_null_is_not_given_and_unknown_fields_are_ignored(server):
    task = server.task()
    server("tasks.started", {"task": task, "force": None, "status_reason": None, "unheard_of": 1})
    assert server.get(task)["status"] == "in_progress"


@pytest.mark.parametrize("service, actions", [
    ("queues", "create get_all get_by_id get_default add_task remove_task get_next_task get_num_entries "
               "move_task_to_front move_task_to_back"),
    ("tasks", "create edit get_by_id get_all enqueue dequeue started ping stop stopped completed failed "
              "set_requirements edit_runtime reset delete clone"),
    ("events", "add_batch get_task_log get_log_position scalar_metrics_iter_histogram "
               "get_scalar_metrics_and_variants"),
    ("workers", "register unregister status_report get_all"),
    ("projects", "create get_all get_by_id")])
def test_the_endpoints_that_there_are_say_what_they_do(service, actions):
    for action in actions.split():
        assert endpoints.find(f"{service}.{action}").function.__doc__


def test_a_task_that_was_deleted_is_no_longer_its_workers(server):
    task = server.task()
    server("tasks.started", task=task)
    server("workers.status_report", worker="w", timestamp=1, task=task, queue=server.queue)
    assert [worker["task"] for worker in server("agentpipe.overview")["workers"]] == [task]
    server("tasks.delete", task=task, force=True)
    assert "task" not in server("workers.get_all")["workers"][0]
    assert [worker["task"] for worker in server("agentpipe.overview")["workers"]] == [None]
