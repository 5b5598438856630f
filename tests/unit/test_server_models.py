"""models.*: what tasks learn, who uses it, and what becomes of it when they go."""

import pytest
from servertools import Server


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def model(server, name="net", **fields):
    return server("models.create", name=name, uri=fields.pop("uri", f"http://files/{name}"), **fields)["id"]


def names(server, **query):
    return [found["name"] for found in server("models.get_all", **query)["models"]]


def test_a_model_is_made_read_changed_and_removed(server):
    id = model(server, labels={"cat": 1}, framework="Keras", tags=["b", "a"], ready=False)
    found = server("models.get_by_id", model=id)["model"]
    assert (found["ready"], found["tags"], found["labels"], found["metadata"]) == (False, ["a", "b"], {"cat": 1}, {})
    assert server("models.edit", model=id, comment="words", uri="http://files/new")["updated"] == 1
    assert server("models.edit", model=id)["updated"] == 0
    assert server("models.get_by_id", model=id)["model"]["uri"] == "http://files/new"
    assert server("models.delete", model=id) == {"deleted": True, "url": "http://files/new"}
    server.refused(201, "models.get_by_id", model=id)
    server.refused(201, "models.delete", model=id)


def test_it_is_ready_unless_it_is_said_not_to_be_and_published_once(server):
    assert server("models.get_by_id", model=model(server))["model"]["ready"] is True
    draft = model(server, "draft", ready=False)
    assert server("models.set_ready", model=draft)["updated"] == 1
    server.refused(203, "models.set_ready", model=draft)


def test_publishing_a_model_publishes_its_task_and_the_other_way_round(server):
    task = server.task()
    id = model(server, task=task, ready=False)
    server("tasks.add_or_update_model", task=task, name="out", type="output", model=id)
    server.put(task, "completed")
    server("tasks.publish", task=task)
    assert server.get(task)["status"] == "published" and server.get(task)["published"]
    assert server("models.get_by_id", model=id)["model"]["ready"] is True
    other = server.task("other")
    id = model(server, "second", task=other, ready=False)
    server.put(other, "stopped")
    assert server("models.set_ready", model=id)["published_task"]["id"] == other
    assert server.get(other)["status"] == "published"


@pytest.mark.parametrize(("asked", "status"), [
    ({}, "published"), ({"publish_tasks": False}, "stopped"), ({"publish_task": False}, "stopped")])
def test_of_many_that_are_published_the_tasks_are_too_unless_that_is_not_wanted(server, asked, status):
    task = server.task()
    server.put(task, "stopped")
    draft = model(server, "draft", task=task, ready=False)
    assert server("models.publish_many", {"ids": [draft], **asked})["succeeded"][0]["updated"] == 1
    assert server.get(task)["status"] == status


def test_they_are_found_by_uri_name_task_tags_and_readiness(server):
    task = server.task()
    model(server, "one", task=task, tags=["x"])
    model(server, "two", ready=False)
    assert names(server, uri=["http://files/one"]) == ["one"]
    assert names(server, name="^two$") == ["two"]
    assert names(server, task=[task]) == ["one"]
    assert names(server, ready=False) == ["two"]
    assert names(server, tags=["x"]) == ["one"]
    assert names(server, order_by=["-name"]) == ["two", "one"]
    assert names(server, order_by=["name"]) == ["one", "two"]
    assert server("models.get_all", only_fields=["name"], name="^one$") == {"models": [{"name": "one"}]}


def test_what_it_refers_to_must_exist(server):
    server.refused(16, "models.create", name="net", uri="", project="nope")
    server.refused(16, "models.create", name="net", uri="", task="nope")
    server.refused(12, "models.create", name="net")


def test_one_that_is_used_is_not_deleted_without_force_and_then_leaves_a_mark(server):
    id, task = model(server), server.task()
    server("tasks.add_or_update_model", task=task, name="in", type="input", model=id)
    server.refused(205, "models.delete", model=id)
    server("models.delete", model=id, force=True)
    assert server.get(task)["models"]["input"][0]["model"] == "__DELETED__" + id


def test_metadata_is_set_replaced_and_removed(server):
    id = model(server)
    item = {"key": "accuracy", "type": "float", "value": "0.9"}
    server("models.add_or_update_metadata", model=id, metadata=[item])
    server("models.add_or_update_metadata", model=id, metadata=[{**item, "key": "size"}])
    found = server("models.get_by_id", model=id)["model"]["metadata"]
    assert set(found) == {"accuracy", "size"} and found["accuracy"] == item
    server("models.delete_metadata", model=id, keys=["size"])
    server("models.add_or_update_metadata", model=id, metadata=[{**item, "key": "new"}], replace_metadata=True)
    assert set(server("models.get_by_id", model=id)["model"]["metadata"]) == {"new"}


def test_many_are_archived_and_unknown_ones_told(server):
    one = model(server)
    answer = server("models.archive_many", ids=[one, "nope"])
    assert answer["succeeded"] == [{"id": one, "archived": 1}]
    assert answer["failed"][0]["id"] == "nope" and answer["failed"][0]["error"]["codes"] == [400, 201]
    assert names(server, system_tags=["-archived"]) == []
    server("models.unarchive_many", ids=[one])
    assert names(server, system_tags=["-archived"]) == ["net"]
    server.refused(12, "models.archive_many", {"ids": []})


def test_they_move_between_projects_that_exist(server):
    id = model(server)
    project = server("models.move", ids=[id], project_name="a new/place")["project_id"]
    assert server("models.get_by_id", model=id)["model"]["project"] == project
    server.refused(401, "models.move", ids=[id], project="gone")
    server("models.move", {"ids": [id], "project": None})
    assert "project" not in server("models.get_by_id", model=id)["model"]


def test_drafts_go_with_their_task_and_ready_ones_keep_it_from_being_deleted(server):
    task = server.task()
    draft, ready = model(server, "draft", task=task, ready=False), model(server, "ready", task=task)
    server.refused(123, "tasks.delete", task=task)
    answer = server("tasks.delete", task=task, force=True, return_file_urls=True)
    assert (answer["deleted_models"], answer["updated_models"]) == (1, 1)
    assert answer["urls"]["model_urls"] == ["http://files/draft"]
    server.refused(201, "models.get_by_id", model=draft)
    assert server("models.get_by_id", model=ready)["model"]["task"] == "__DELETED__" + task


def test_a_reset_removes_the_drafts_of_the_run_except_those_in_use(server):
    task, user = server.task(), server.task("user")
    model(server, "gone", task=task, ready=False)
    used = model(server, "used", task=task, ready=False)
    server("tasks.add_or_update_model", task=user, name="in", type="input", model=used)
    server.put(task, "stopped")
    assert server("tasks.reset", task=task)["deleted_models"] == 1
    assert names(server) == ["used"]


def test_curves_of_a_model_are_its_own_and_logs_are_refused(server):
    id, task = model(server), server.task()
    event = {"type": "training_stats_scalar", "model_event": True, "task": id, "metric": "m", "variant": "v",
             "iter": 3, "value": 2.5}
    assert server("events.add_batch", [event])["added"] == 1
    found = server("events.scalar_metrics_iter_histogram", task=id, model_events=True)
    assert found["m"]["v"]["y"] == [2.5]
    names = server("events.get_scalar_metrics_and_variants", task=id, model_events=True)["metrics"]
    assert names == {"m": ["v"]}
    server.refused(201, "events.scalar_metrics_iter_histogram", task=task, model_events=True)
    document = server("models.get_by_id", model=id)["model"]
    assert document["last_iteration"] == 3
    [[summary]] = [list(variants.values()) for variants in document["last_metrics"].values()]
    assert summary["value"] == 2.5
    assert "not supported" in server.refused(131, "events.add_batch", [{**event, "type": "log"}])
    assert "Invalid model id" in server.refused(131, "events.add_batch", [{**event, "task": task}])


def test_what_a_model_reported_goes_with_it(server):
    task = server.task()
    ids = [model(server, "removed"), model(server, "draft", task=task, ready=False)]
    for id in ids:
        server("events.add_batch", [
            {"type": "training_stats_scalar", "model": id, "model_event": True, "metric": "m", "value": 1},
            {"type": "plot", "model": id, "model_event": True, "metric": "p", "plot_str": "{}"}])
    server("models.delete", model=ids[0])
    server("tasks.delete", task=task)
    db = server.store.connection()
    assert [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("scalars", "shapes")] == [0, 0]


def test_references_are_objects_in_the_ex_calls(server):
    project = server("projects.create", name="demo/abc")["id"]
    task = server.task(project=project)
    id = model(server, task=task, project=project)
    [found] = server("models.get_all_ex", only_fields=["name", "task.name", "project.name", "user.name"])["models"]
    assert found == {"id": id, "name": "net", "task": {"id": task, "name": "train"},
                     "project": {"id": project, "name": "demo/abc"}, "user": {"id": "ann", "name": "ann"}}
    child = server.task("child", project=project, parent=task)
    [found] = server("tasks.get_by_id_ex", ids=[child])["tasks"]
    assert found["project"] == {"id": project} and found["parent"] == {"id": task} and found["name"] == "child"
    [found] = server("tasks.get_all_ex", id=[child], only_fields=["parent.project.name"])["tasks"]
    assert found["parent"]["project"] == {"name": "demo/abc"}
    assert server.get(child)["project"] == project
