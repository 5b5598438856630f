"""What a task is: created, edited, cloned, reset and deleted as ClearML does it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servertools import Server

from agentpipe.server import bodies


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def test_a_new_draft_has_all_its_maps_and_lists(server):
    found = server.get(server.task(script={"repository": " https://host/r.git ", "entry_point": "a.py\n"}))
    assert found["script"] == {"binary": "python", "repository": "https://host/r.git", "entry_point": "a.py"}
    assert found["execution"] == {"test_split": 0, "parameters": {}, "model_desc": {}, "model_labels": {},
                                  "artifacts": []}
    assert found["models"] == {"input": [], "output": []}
    assert found["status"] == "created"
    assert found["created"] == found["last_update"] == found["last_change"]
    assert found["created"].endswith("000+00:00")
    for field in ("hyperparams", "configuration", "container", "runtime", "output", "last_metrics"):
        assert found[field] == {}
    for field in ("tags", "system_tags", "report_assets", "unique_metrics"):
        assert found[field] == []
    for field in ("started", "completed", "project", "parent", "last_worker", "enqueue_status"):
        assert field not in found


def test_what_create_refuses(server):
    server.refused(800, "tasks.create", name=" ab ", type="training")
    server.refused(12, "tasks.create", name="train", type="cooking")
    server.refused(16, "tasks.create", name="train", type="training", project="nowhere")
    server.refused(16, "tasks.create", name="train", type="training", parent="nobody")
    server.refused(16, "tasks.create", name="train", type="training", tags=["__$not"])
    server.refused(12, "tasks.create", name="train", type="training", hyperparams={" ": {}})
    assert server("tasks.get_all") == {"tasks": []}


def test_a_diff_keeps_its_white_space(server):
    task = server.task(script={"diff": "\n+ x\n\n"})
    assert server.get(task)["script"]["diff"] == "\n+ x\n\n"


class TestEdit:
    def test_only_drafts_unless_forced(self, server):
        task = server.enqueued()
        server.refused(110, "tasks.edit", task=task, comment="no")
        assert server("tasks.edit", task=task, comment="yes", force=True)["updated"] == 1
        assert server.get(task)["comment"] == "yes"

    def test_script_and_execution_are_merged_one_level_deep(self, server):
        task = server.task(script={"repository": "r", "branch": "main"},
                           execution={"artifacts": [{"key": "a"}], "parameters": {"x": "1"}})
        server("tasks.edit", task=task, script={"branch": "dev"}, execution={"parameters": {}})
        found = server.get(task)
        assert (found["script"]["repository"], found["script"]["branch"]) == ("r", "dev")
        assert found["execution"]["parameters"] == {}
        assert found["execution"]["artifacts"] == [{"key": "a", "mode": "output"}]

    @pytest.mark.parametrize(("field", "old", "new"), [
        *((field, {"a": {"b": {"value": "1"}}, "c": {}}, {"d": {}}) for field in ("hyperparams", "configuration",
                                                                                  "runtime")),
        ("container", {"image": "a", "arguments": "b"}, {"image": "c"})])
    def test_other_maps_are_replaced_as_a_whole(self, server, field, old, new):
        task = server.task(**{field: old})
        answer = server("tasks.edit", task=task, **{field: new})
        assert server.get(task)[field] == new
        assert answer["fields"][field] == new
        server("tasks.edit", task=task, **{field: {}})
        assert server.get(task)[field] == {}

    def test_null_leaves_a_field_and_an_empty_text_clears_it(self, server):
        task = server.task(comment="old", output_dest="s3://x")
        server("tasks.edit", task=task, comment=None, output_dest="")
        found = server.get(task)
        assert (found["comment"], found["output"]["destination"]) == ("old", "")

    def test_labels_do_not_count_as_an_update(self, server):
        task = server.task()
        server.store.transaction(lambda db: db.execute(
            "UPDATE tasks SET doc=replace(replace(doc, '\"last_update\":\"2', '\"last_update\":\"1'), "
            "'\"last_change\":\"2', '\"last_change\":\"1')"))
        server("tasks.edit", task=task, tags=["b", "a"])
        found = server.get(task)
        assert found["last_update"].startswith("1")
        assert found["last_change"].startswith("2")
        assert found["tags"] == ["a", "b"]
        server("tasks.edit", task=task, runtime={"x": "y"})
        assert server.get(task)["last_update"].startswith("2")

    def test_artifacts_come_back_sorted(self, server):
        task = server.task()
        server("tasks.edit", task=task, execution={"artifacts": [{"key": "b"}, {"key": "a"}]})
        assert [item["key"] for item in server.get(task)["execution"]["artifacts"]] == ["a", "b"]

    def test_a_short_name_is_refused(self, server):
        server.refused(800, "tasks.edit", task=server.task(), name="x")


def test_requirements_are_replaced_in_any_status(server):
    task = server.task(script={"repository": "r", "requirements": {"pip": "six"}})
    server.put(task, "completed")
    installed = {"org_pip": "six", "pip": ["six==1.17"]}
    answer = server("tasks.set_requirements", task=task, requirements=installed)
    assert answer == {"updated": 1, "fields": {}}
    assert server.get(task)["script"]["requirements"] == installed
    assert server.get(task)["script"]["repository"] == "r"


def test_single_keys_of_runtime(server):
    task = server.task(runtime={"a": "1", "b": "2"})
    server("tasks.edit_runtime", task=task, add_or_update={"c": "3", " d ": 4}, remove=["a", "zz"])
    assert server.get(task)["runtime"] == {"b": "2", "c": "3", "d": 4}
    server.put(task, "completed")
    server.refused(110, "tasks.edit_runtime", task=task, add_or_update={"x": "y"}, force=True)


class TestClone:
    def test_a_clone_is_a_draft_with_the_code_and_nothing_of_the_run(self, server):
        project = server("projects.create", name="project")["id"]
        task = server.task(project=project, tags=["t"], system_tags=["archived", "development", "kept"],
                           script={"repository": "r"}, container={"image": "i"}, runtime={"x": "y"},
                           hyperparams={"Args": {"lr": {"value": "1"}}}, output_dest="s3://bucket",
                           execution={"artifacts": [{"key": "in", "mode": "input"}, {"key": "out"}]})
        server("tasks.enqueue", task=task)
        found = server.get(server("tasks.clone", task=task)["id"])
        assert (found["name"], found["status"]) == ("train", "created")
        assert (found["parent"], found["project"]) == (task, project)
        assert (found["tags"], found["system_tags"]) == (["t"], ["kept"])
        assert found["script"]["repository"] == "r"
        assert found["container"] == {"image": "i"}
        assert found["hyperparams"] == {"Args": {"lr": {"value": "1"}}}
        assert found["output"] == {"destination": "s3://bucket"}
        assert found["execution"]["artifacts"] == [{"key": "in", "mode": "input"}]
        assert "queue" not in found["execution"]
        assert found["runtime"] == {}

    def test_a_clone_of_a_clone_is_its_sibling(self, server):
        task = server.task()
        clone = server("tasks.clone", task=task)["id"]
        assert server.get(server("tasks.clone", task=clone)["id"])["parent"] == task

    def test_given_maps_replace_and_empty_ones_do_not(self, server):
        task = server.task(hyperparams={"Args": {"lr": {"value": "1"}}}, configuration={"c": {"value": "v"}})
        clone = server("tasks.clone", task=task, new_task_name="other", new_task_hyperparams={"New": {}},
                       new_task_configuration={}, new_project_name="brand/new project")
        found = server.get(clone["id"])
        assert (found["name"], found["hyperparams"]) == ("other", {"New": {}})
        assert found["configuration"] == {"c": {"value": "v"}}
        assert clone["new_project"]["id"] == found["project"]

    def test_input_models_may_be_others(self, server):
        one, two = ({"name": name, "model": name} for name in ("one", "two"))
        task = server.task(models={"input": [one]})
        for others, found in (([two], [two]), ([], [one]), (None, [one])):
            clone = server("tasks.clone", task=task, new_task_input_models=others)["id"]
            assert server.get(clone)["models"]["input"] == found
        server.refused(12, "tasks.clone", task=task, new_task_input_models=[{"name": 5}])

    def test_an_artefact_has_a_mode(self, server):
        """The clearml package looks for it when it deletes a task."""
        item = {"key": "a", "type": "t", "uri": "u"}
        task = server.task(execution={"artifacts": [item]})
        assert server.get(task)["execution"]["artifacts"] == [{**item, "mode": "output"}]
        server("tasks.edit", task=task, execution={"artifacts": [{**item, "mode": "input"}, {**item, "mode": None}]})
        assert [each["mode"] for each in server.get(task)["execution"]["artifacts"]] == ["input", "output"]


class TestReset:
    def test_nothing_of_the_run_stays_but_the_recorded_requirements(self, server):
        task = server.task(script={"repository": "r"}, hyperparams={"Args": {}}, comment="kept")
        server("tasks.enqueue", task=task)
        server("tasks.started", task=task)
        server("workers.status_report", worker="box:0", timestamp=1, task=task)
        server("tasks.set_requirements", task=task, requirements={"pip": ["six==1.17"]})
        server("tasks.edit_runtime", task=task, add_or_update={"x": "y"})
        server("events.add_batch", [
            {"type": "log", "task": task, "msg": "line"},
            {"type": "training_stats_scalar", "task": task, "metric": "m", "variant": "v", "iter": 7,
             "value": 1}])
        answer = server("tasks.reset", task=task)
        assert answer["dequeued"] == {"removed": 1}
        found = server.get(task)
        assert found["status"] == "created"
        assert (found["status_reason"], found["status_message"]) == ("reset", "reset")
        for field in ("started", "completed", "active_duration", "last_worker", "last_worker_report"):
            assert field not in found
        assert (found["last_iteration"], found["last_metrics"], found["unique_metrics"]) == (0, {}, [])
        assert (found["runtime"], "queue" in found["execution"]) == ({}, False)
        assert found["script"]["requirements"] == {"pip": ["six==1.17"]}
        assert (found["comment"], found["hyperparams"]) == ("kept", {"Args": {}})
        assert server("events.get_task_log", task=task)["events"] == []
        assert server("events.scalar_metrics_iter_histogram", task=task) == {}

    def test_a_published_task_needs_force(self, server):
        task = server.task()
        server.put(task, "published")
        server.refused(110, "tasks.reset", task=task)
        server("tasks.reset", task=task, force=True, clear_all=True)
        made = server.get(server.task())
        assert (server.get(task)["script"], server.get(task)["execution"]) == (made["script"], made["execution"])


class TestDelete:
    def test_a_draft_goes_with_all_that_is_its(self, server):
        task, child = server.task(), None
        child = server.task(parent=task)
        server("queues.add_task", queue=server.queue, task=task)
        answer = server("tasks.delete", task=task)
        assert answer["deleted"] is True
        assert answer["updated_children"] == 1
        assert server.get(child)["parent"] == f"__DELETED__{task}"
        assert server.get(server("tasks.clone", task=child)["id"])["parent"] == child
        assert server.entries() == []
        server.refused(101, "tasks.get_by_id", task=task)
        for table in ("parts", "logs", "scalars", "shapes"):
            count = server.store.connection().execute(f"SELECT count(*) FROM {table} WHERE task=?", (task,))
            assert count.fetchone()[0] == 0

    def test_a_task_that_ran_must_be_archived_or_forced(self, server):
        task = server.task()
        server.put(task, "completed")
        server.refused(123, "tasks.delete", task=task)
        server("tasks.edit", task=task, system_tags=["archived"], force=True)
        assert server("tasks.delete", task=task)["deleted"] is True

    def test_published_children_keep_it(self, server):
        task = server.task()
        server.put(server.task(parent=task), "published")
        server.refused(123, "tasks.delete", task=task)
        server("tasks.delete", task=task, force=True)


TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXT,
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
                      max_leaves=6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(mapping=st.dictionaries(TEXT.map(lambda text: "k" + text + "k"), VALUES, max_size=4), diff=TEXT)
def test_any_json_comes_back_as_it_went_in(server, mapping, diff):
    """Keys with dots, dollars and underscores, lone surrogates, NULs, integers of any size."""
    configuration = {key: {"name": key, "value": str(value)} for key, value in mapping.items()}
    task = server.task(runtime=mapping, configuration=configuration, script={"diff": diff})
    found = server.get(task)
    assert found["runtime"] == mapping
    assert found["configuration"] == configuration
    assert found["script"]["diff"] == diff
    listed = server("tasks.get_all", id=[task], only_fields=["runtime", "script.diff"])["tasks"]
    assert listed == [{"runtime": mapping, "script": {"diff": diff}}]


def test_a_name_that_is_no_unicode_is_refused_not_a_crash(server):
    server.refused(12, "tasks.create", name="abc\ud800", type="training")


def test_a_poll_of_the_status_does_not_read_a_large_diff(server):
    task = server.task(script={"diff": "+line\n" * 200_000})
    seen = []
    db = server.store.connection()
    db.set_trace_callback(seen.append)
    server("tasks.get_all", id=[task], only_fields=["status", "status_message"])
    server("tasks.started", task=task)
    server("tasks.ping", task=task)
    db.set_trace_callback(None)
    assert seen
    assert not [statement for statement in seen if "parts" in statement]


def test_a_batch_of_updates_comes_as_lines(server):
    one, two = server.task("one"), server.task("two")
    lines = b'{"task": "%s", "comment": "x"}\n{"task": "%s", "name": "second"}\n' % (one.encode(), two.encode())
    assert server("tasks.update_batch", bodies.parse(lines, bodies.LINES)) == {"updated": 2}
    assert (server.get(one)["comment"], server.get(two)["name"]) == ("x", "second")
    assert server("tasks.update_batch", bodies.parse(lines.split(b"\n")[0], bodies.LINES)) == {"updated": 1}
    server.refused(17, "tasks.update_batch", [{"comment": "of no task"}])
    server.refused(17, "tasks.update_batch", ["x"])
    server.refused(12, "tasks.update_batch", [{"task": one, "tags": [7]}])
    server.refused(12, "tasks.update", [{"task": one}])


class TestEditOfWhatWasRead:
    def test_it_is_refused_once_another_has_changed_these_very_fields(self, server):
        task = server.task(script={"entry_point": "a.py", "branch": "main"})
        was = {"tags": [], "script": {"entry_point": "a.py"}}
        server("tasks.edit", task=task, script={"branch": "dev"}, was=was)
        server("tasks.edit", task=task, tags=["x"], was=was)
        server.refused(121, "tasks.edit", task=task, tags=["y"], was=was)
        server.refused(121, "tasks.edit", task=task, script={"entry_point": "c.py"},
                       was={"script": {"entry_point": "b.py"}})
        assert server.get(task)["tags"] == ["x"]
