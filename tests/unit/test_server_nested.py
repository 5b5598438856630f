"""What stands inside of a task's fields has the type that the clearml package wants, or is refused."""

import pytest
from servertools import Server

ITEM = {"section": "Args", "name": "x", "value": "1"}


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


WRONG = [
    {"hyperparams": {"Args": {"x": {**ITEM, "value": 5}}}}, {"hyperparams": {"Args": {"x": {**ITEM, "type": []}}}},
    {"hyperparams": {"Args": None}}, {"hyperparams": {"Args": {"x": None}}}, {"hyperparams": {"Args": {" ": ITEM}}},
    {"configuration": {"c": {"name": "c", "value": {"a": 1}}}}, {"container": {"image": 5}},
    {"script": {"entry_point": 7}}, {"script": {"diff": ["x"]}}, {"script": {"requirements": "numpy"}},
    {"execution": {"queue": {}}}, {"execution": {"model_labels": []}}, {"execution": {"dataviews": [1]}},
    {"execution": {"artifacts": [{"key": "k", "type": "t", "uri": 5}]}},
    {"execution": {"artifacts": [{"key": "k", "type": "t", "type_data": {"preview": 5}}]}},
    {"execution": {"artifacts": [{"key": "k", "type": "t", "display_data": ["a"]}]}},
    {"execution": {"artifacts": [{"key": "k", "type": "t", "content_size": 0.5}]}},
    {"output": {"destination": 5}}, {"models": {"input": [{"name": 5}]}}, {"models": {"output": [None]}}]


@pytest.mark.parametrize("fields", WRONG)
def test_a_wrong_type_inside_of_a_field_is_refused_and_nothing_is_stored(server, fields):
    task = server.task()
    before = server.get(task)
    server.refused(12, "tasks.create", name="train", type="training", **fields)
    server.refused(12, "tasks.edit", task=task, force=True, **fields)
    assert server.get(task) == before and len(server("tasks.get_all")["tasks"]) == 1


@pytest.mark.parametrize(("endpoint", "fields"), [
    ("edit_hyper_params", {"hyperparams": [{**ITEM, "value": 5}]}),
    ("edit_configuration", {"configuration": [{"name": "c", "value": {"a": 1}}]}),
    ("add_or_update_artifacts", {"artifacts": [{"key": "k", "type": "t", "uri": 5}]}),
    ("clone", {"new_task_hyperparams": {"Args": {"x": {**ITEM, "value": 5}}}}),
    ("clone", {"execution_overrides": {"queue": 5}}), ("clone", {"new_task_container": {"arguments": ["--gpus"]}})])
def test_wherever_it_comes_in(server, endpoint, fields):
    task = server.task()
    server.refused(12, "tasks." + endpoint, task=task, **fields)
    assert server.get(task)["hyperparams"] == {} and len(server("tasks.get_all")["tasks"]) == 1


def test_what_is_wrong_is_named(server):
    told = server.refused(12, "tasks.create", name="train", type="training", script={"diff": ["x"]})
    assert told == ("validation error (error for field 'script.diff'. value is wrong, expected type \"str\" ['x'])")


def test_null_unknown_fields_and_whole_numbers_are_taken(server):
    artifact = {"key": "k", "type": "t", "content_size": 5.0, "hash": None, "display_data": [["a", "b"]], "more": 1}
    task = server.task(
        hyperparams={" Args ": {" x ": {**ITEM, "description": None}}}, container={"image": None, "arguments": ""},
        execution={"artifacts": [artifact], "dataviews": [{"id": 5}]}, runtime={"anything": {"goes": [1]}},
        script={"requirements": {"pip": ["numpy"]}, "diff": "  x\n", "branch": " main ", "more": 1})
    found = server.get(task)
    assert found["hyperparams"] == {"Args": {"x": {**ITEM, "description": None}}}
    assert found["execution"]["artifacts"] == [{**artifact, "mode": "output"}]
    assert found["runtime"] == {"anything": {"goes": [1]}}
    assert (found["script"]["diff"], found["script"]["branch"]) == ("  x\n", "main")


def test_a_task_of_any_server_is_shown_and_listed_and_explained(tmp_path, monkeypatch, capfd):
    """As one of a server that checks less: what is in the store already."""
    from agentpipe import paths
    from agentpipe.server import documents
    from agentpipe.task import look
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    server = Server(paths.state("agent.db"))
    odd = {"diff": ["x"], "requirements": {"pip": 5}, "entry_point": 7, "branch": {"a": 1}}
    task = server.task()

    def spoil(db):
        found = documents.load(db, task)
        for field, value in {"script": odd, "execution": {"queue": 5, "artifacts": [1, {"key": 5}]},
                             "container": {"image": 5}, "runtime": {"_agentpipe_end": {"class": []}},
                             "hyperparams": {"Args": {"x": 5, "y": {"value": 5}}}, "status": "failed"}.items():
            found.set(field, value)
        found.save()
    server.store.transaction(spoil)
    look.show([task], as_json=False)
    shown = capfd.readouterr().out
    assert "entry point   7" in shown and "requirements  5" in shown and 'branch        {"a": 1}' in shown
    look.show([task], as_json=True)
    look.why([task], as_json=False)
    look.listing({"status": [], "limit": 0, "archived": False, "columns": "id,entry_point,image,queue",
                  "json": False, **dict.fromkeys(("name", "queue", "project", "tag", "text", "since"))})
    assert capfd.readouterr().out.splitlines()[-1].split() == [task[:8], "7", "5", "5"]
