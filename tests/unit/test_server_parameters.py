"""tasks.*: hyperparameters, configuration objects and artefacts, one by one; and many tasks at once."""

import pytest
from servertools import Server

from agentpipe.server import scrolls, versions


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def parameter(section, name, value="1"):
    return {"section": section, "name": name, "value": value}


def sections(server, task):
    found = server("tasks.get_hyper_params", tasks=[task])["params"][0]["hyperparams"]
    return [(item["section"], item["name"], item["value"]) for item in found]


def test_parameters_are_set_replaced_by_section_and_removed(server):
    task = server.task()
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("Args", " lr "), parameter("B", "x")])
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("Args", "epochs", "3")])
    assert sections(server, task) == [("Args", "epochs", "3"), ("Args", "lr", "1"), ("B", "x", "1")]
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("Args", "only")],
           replace_hyperparams="section")
    assert sections(server, task) == [("Args", "only", "1"), ("B", "x", "1")]
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("C", "all")], replace_hyperparams="all")
    assert sections(server, task) == [("C", "all", "1")]
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("C", "two"), parameter("D", "x")])
    assert server("tasks.delete_hyper_params", task=task, hyperparams=[
        {"section": "C", "name": "two"}, {"section": "D"}]) == {"deleted": 1}
    assert sections(server, task) == [("C", "all", "1")]
    server.refused(15, "tasks.delete_hyper_params", task=task, hyperparams=[{"section": "C"}, parameter("C", "all")])
    server.refused(12, "tasks.edit_hyper_params", task=task, hyperparams=[parameter(" ", "x")])


@pytest.mark.parametrize(("field", "value"), [
    ("hyperparams", {"Args": 5}), ("hyperparams", {"Args": {"lr": "0.1"}}), ("configuration", {"model": "text"})])
def test_what_is_no_object_where_one_stands_is_refused_not_stored(server, field, value):
    task = server.task()
    server.refused(12, "tasks.create", name="train", type="training", **{field: value})
    server.refused(12, "tasks.edit", task=task, **{field: value})
    server.refused(12, "tasks.clone", task=task, **{"new_task_" + field: value})


@pytest.mark.parametrize("name", ["tasks.get_hyper_params", "tasks.get_configurations"])
def test_lists_of_parameters_are_the_same_for_clients_of_old_versions(server, name):
    task = server.task()
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("Args", "lr")])
    server("tasks.edit_configuration", task=task, configuration=[{"name": "net", "value": "{}"}])
    answer = server(name, tasks=[task])
    assert versions.outgoing(name, (2, 5), answer) == server(name, tasks=[task])


def test_they_are_open_for_drafts_with_force_for_running_ones_and_properties_always(server):
    task = server.task()
    server.put(task, "in_progress")
    change = {"task": task, "hyperparams": [parameter("Args", "lr")]}
    server.refused(110, "tasks.edit_hyper_params", change)
    server("tasks.edit_hyper_params", {**change, "force": True})
    server.put(task, "completed")
    server.refused(110, "tasks.edit_hyper_params", {**change, "force": True})
    before = server.get(task)["last_update"]
    server("tasks.edit_hyper_params", task=task, hyperparams=[parameter("Properties", "stage")])
    assert ("properties", "stage", "1") in sections(server, task)
    assert server.get(task)["last_update"] == before


def test_configuration_objects(server):
    task = server.task()
    server("tasks.edit_configuration", task=task, configuration=[
        {"name": "net", "value": "a = 1", "type": "dictionary"}, {"name": "empty", "value": ""}])
    answer = server("tasks.get_configurations", tasks=[task], names=["net"])["configurations"]
    assert answer == [{"task": task, "configuration": [{"name": "net", "value": "a = 1", "type": "dictionary"}]}]
    assert server("tasks.get_configuration_names", tasks=[task])["configurations"][0]["names"] == ["net"]
    new = [{"name": "b", "value": "1"}]
    server("tasks.edit_configuration", task=task, configuration=new, replace_configuration=True)
    assert set(server.get(task)["configuration"]) == {"b"}
    server("tasks.delete_configuration", task=task, configuration=["b"])
    assert server.get(task)["configuration"] == {}


def test_artefacts_are_known_by_key_and_mode(server):
    task = server.task()
    one = {"key": "data", "type": "json", "uri": "http://files/1"}
    assert server("tasks.add_or_update_artifacts", task=task, artifacts=[one]) == {"updated": 1}
    server("tasks.add_or_update_artifacts", task=task, artifacts=[{**one, "uri": "http://files/2"},
                                                                 {**one, "mode": "input"}, {**one, "key": "a"}])
    found = server.get(task)["execution"]["artifacts"]
    assert [(item["key"], item["mode"]) for item in found] == [("a", "output"), ("data", "output"), ("data", "input")]
    assert found[1]["uri"] == "http://files/2"
    assert server("tasks.delete_artifacts", task=task, artifacts=[{"key": "data"}]) == {"deleted": 1}
    assert len(server.get(task)["execution"]["artifacts"]) == 2
    server.put(task, "completed")
    server.refused(110, "tasks.add_or_update_artifacts", task=task, artifacts=[one])


def test_models_of_a_task_by_name(server):
    task = server.task()
    for model in ("m1", "m2", "m1"):
        server("tasks.add_or_update_model", task=task, name="best", type="output", model=model, iteration=7)
    server("tasks.add_or_update_model", task=task, name="other", type="output", model="m3", iteration=2)
    found = server.get(task)
    assert [(item["name"], item["model"]) for item in found["models"]["output"]] == [("best", "m1"), ("other", "m3")]
    assert found["last_iteration"] == 7
    server("tasks.delete_models", task=task, models=[{"name": "best", "type": "output"}])
    assert [item["name"] for item in server.get(task)["models"]["output"]] == ["other"]
    server.refused(12, "tasks.add_or_update_model", task=task, name="x", type="both", model="m")


def test_update_takes_labels_in_any_status_and_drops_the_rest(server):
    task = server.task()
    server.put(task, "published")
    answer = server("tasks.update", task=task, name="new name", tags=["b", "a"], script={"diff": "no"})
    assert answer["updated"] == 1 and answer["fields"]["tags"] == ["a", "b"]
    assert server.get(task)["name"] == "new name" and "diff" not in server.get(task)["script"]
    assert server("tasks.update", task=task, script={}) == {"updated": 0, "fields": {}}
    server.refused(800, "tasks.update", task=task, name="ab")


def test_many_at_once_each_for_itself(server):
    drafts = [server.task(f"task {number}") for number in range(3)]
    server.put(drafts[1], "completed")
    answer = server("tasks.enqueue_many", ids=[*drafts, "nope"], queue=server.queue)
    assert [item["id"] for item in answer["succeeded"]] == [drafts[0], drafts[2]]
    assert [item["error"]["codes"][1] for item in answer["failed"]] == [110, 101]
    assert server.entries() == [drafts[0], drafts[2]]
    server("tasks.archive_many", ids=[drafts[0]])
    assert server.entries() == [drafts[2]]
    found = server.get(drafts[0])
    assert found["status"] == "created" and found["system_tags"] == ["archived"]
    server("tasks.unarchive_many", ids=[drafts[0]])
    assert server.get(drafts[0])["system_tags"] == []
    assert server("tasks.dequeue_many", ids=[drafts[2]])["succeeded"][0]["dequeued"] is True
    answer = server("tasks.delete_many", ids=drafts)
    assert len(answer["succeeded"]) == 2 and answer["failed"][0]["error"]["codes"] == [400, 123]


def test_tasks_move_between_projects_and_change_their_tags(server):
    task = server.task()
    project = server("tasks.move", ids=[task], project_name="a new/place")["project_id"]
    assert server.get(task)["project"] == project
    server("tasks.move", {"ids": [task], "project": None})
    assert "project" not in server.get(task)
    server("tasks.update_tags", ids=[task], add_tags=["x", "y"])
    server("tasks.update_tags", ids=[task], remove_tags=["x"])
    assert server.get(task)["tags"] == ["y"]
    server.refused(12, "tasks.update_tags", ids=[task])


@pytest.mark.parametrize("kind", ["projects", "queues"])
def test_projects_and_queues_scroll_as_tasks_do(server, kind):
    made = [server(f"{kind}.create", name=f"name {number}")["id"] for number in range(5)]
    found, asked = [], {"size": 2, "scroll_id": None, "name": "^name", "only_fields": ["id"]}
    while page := (answer := server(f"{kind}.get_all", asked))[kind]:
        found += [each["id"] for each in page]
        asked["scroll_id"] = answer["scroll_id"]
    assert found == made


def test_a_scroll_gives_every_task_once_and_ends_empty(server):
    expected = [server.task(f"task {number}") for number in range(7)]
    found, scroll = [], None
    while True:
        answer = server("tasks.get_all", {"size": 3, "scroll_id": scroll, "only_fields": ["id"]})
        scroll = answer["scroll_id"]
        if not answer["tasks"]:
            break
        found += [task["id"] for task in answer["tasks"]]
    assert found == expected
    server.refused(1104, "tasks.get_all", {"size": 3, "scroll_id": "unknown"})
    server.refused(12, "tasks.get_all", {"scroll_id": None})


def test_positions_of_scrolls_are_a_bounded_number_and_the_oldest_goes(server, monkeypatch):
    monkeypatch.setattr(scrolls, "MOST", 3)
    ids = [server("tasks.get_all", {"size": 1, "scroll_id": None})["scroll_id"] for _ in range(6)]
    server.refused(1104, "tasks.get_all", {"size": 1, "scroll_id": ids[0]})
    assert server("tasks.get_all", {"size": 1, "scroll_id": ids[-1]})["tasks"] == []


def test_queues_are_renamed_cleared_and_deleted_and_their_tasks_moved(server):
    tasks = [server.enqueued(f"task {number}") for number in range(4)]
    move = {"queue": server.queue, "task": tasks[3]}
    assert server("queues.move_task_forward", {**move, "count": 2}) == {"position": 1}
    assert server.entries() == [tasks[0], tasks[3], tasks[1], tasks[2]]
    assert server("queues.move_task_backward", {**move, "count": 9}) == {"position": 3}
    assert server.entries() == tasks
    assert server("queues.peek_task", queue=server.queue) == {"task": tasks[0]}
    server.refused(703, "queues.move_task_forward", queue=server.queue, task="nope")
    assert server("queues.update", queue=server.queue, name="renamed")["fields"] == {"name": "renamed"}
    server("queues.create", name="other")
    server.refused(801, "queues.update", queue=server.queue, name="other")
    server.refused(702, "queues.delete", queue=server.queue)
    assert server("queues.clear_queue", queue=server.queue) == {"removed_tasks": tasks}
    assert server.get(tasks[0])["status"] == "created"
    assert server("queues.delete", queue=server.queue) == {"deleted": 1}
    server.refused(701, "queues.get_by_id", queue=server.queue)


def test_projects_count_what_stands_in_them_and_below(server):
    top = server("projects.create", name="top")["id"]
    deep = server("projects.create", name="top/one/deep")["id"]
    server.task(project=top)
    server.put(server.task(project=deep), "failed")
    found = {project["name"]: project for project in server("projects.get_all_ex", include_stats=True)["projects"]}
    assert found["top"]["stats"]["active"]["status_count"] == {"created": 1, "failed": 1}
    assert [each["name"] for each in found["top"]["sub_projects"]] == ["top/one", "top/one/deep"]
    assert found["top/one/deep"]["stats"]["active"]["total_tasks"] == 1 and not found["top/one/deep"]["sub_projects"]


def test_projects_are_renamed_with_all_below_moved_and_removed(server):
    top = server("projects.create", name="top")["id"]
    deep = server("projects.create", name="top/one/deep")["id"]
    server("projects.update", project=top, name="new top", description="words", tags=["t"])
    assert server("projects.get_by_id", project=deep)["project"]["name"] == "new top/one/deep"
    server.refused(408, "projects.update", project=deep, name="elsewhere/deep")
    server("projects.create", name="other")
    server.refused(801, "projects.update", project=top, name="other")
    assert server("projects.move", project=deep, new_location="other")["moved"] == 1
    found = server("projects.get_by_id", project=deep)["project"]
    assert found["name"] == "other/deep"
    below = server("projects.get_all", parent=found["parent"])["projects"]
    assert [project["name"] for project in below] == ["other/deep"]
    server.refused(410, "projects.move", project=deep, new_location="other")
    far = "/".join(f"level{number}" for number in range(9))
    server("projects.create", name="other/deep/deeper")
    server.refused(409, "projects.move", project=deep, new_location=far)
    assert server("projects.get_by_id", project=deep)["project"]["name"] == "other/deep"
    task = server.task(project=deep)
    server.refused(402, "projects.delete", project=deep)
    assert server("projects.delete", project=deep, force=True)["disassociated_tasks"] == 1
    assert "project" not in server.get(task)
