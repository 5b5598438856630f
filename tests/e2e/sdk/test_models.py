"""Models and datasets: uploaded, found again, downloaded."""


def test_a_model_is_made_by_one_task_and_taken_by_another(run, server):
    done = run("""
import pathlib
from clearml import InputModel, Model, OutputModel, Task
task = Task.init("demo/models", "maker", output_uri=True, auto_connect_frameworks=False)
pathlib.Path("weights.bin").write_bytes(b"w" * 1000)
model = OutputModel(task, name="net", framework="Custom", label_enumeration={"cat": 1}, tags=["best"])
model.update_weights("weights.bin", auto_delete_file=False, async_enable=False)
model.update_design(config_dict={"layers": 3})
model.set_metadata("accuracy", "0.9", "float")
model.report_scalar("quality", "f1", 0.8, 0)
model.report_single_value("size", 3)
task.close()
found = Model.query_models(project_name="demo/models", model_name="net", only_published=False, tags=["best"])
say(maker=task.id, model=model.id, found=[m.id for m in found], metadata=found[0].get_metadata("accuracy"))
user = Task.init("demo/models", "user", auto_connect_frameworks=False, reuse_last_task_id=False)
taken = InputModel(model_id=model.id)
user.connect(taken)
say(user=user.id, weights=pathlib.Path(taken.get_local_copy()).read_bytes().decode()[:5],
    labels=taken.labels, design=taken.config_dict)
taken.publish()
say(published=Model(model.id).published)
say(outputs=[m.id for m in Task.get_task(task_id=task.id).models["output"]],
    scalars=Task._get_default_session().send_request("events", "scalar_metrics_iter_histogram", json={
        "task": model.id, "model_events": True}).json()["data"],
    single=Task._get_default_session().send_request("events", "get_task_single_value_metrics", json={
        "tasks": [model.id], "model_events": True}).json()["data"]["tasks"])
user.close()
""", CLEARML_CONFIG_FILE=str(server.forking))
    assert done.found == [done.model]
    assert done.metadata == "0.9"
    assert done.weights == "wwwww"
    assert done.labels == {"cat": 1}
    assert done.design == {"layers": 3}
    assert done.published is True
    assert done.outputs == [done.model]
    assert done.scalars["quality"]["f1"]["y"] == [0.8]
    assert [(value["variant"], value["value"]) for value in done.single[0]["values"]] == [("size", 3)]
    inputs = server.task(done.user)["models"]["input"]
    assert [item["model"] for item in inputs] == [done.model]


def test_a_model_is_removed_with_its_file(run, server):
    done = run("""
import pathlib
from clearml import Model, OutputModel, Task
task = Task.init("demo/models", "short", output_uri=True, auto_connect_frameworks=False)
pathlib.Path("short.bin").write_bytes(b"w")
model = OutputModel(task, name="short-lived")
model.update_weights("short.bin", auto_delete_file=False, async_enable=False)
url = model.url
task.close()
Model.remove(model.id, force=True, delete_weights_file=True)
say(id=model.id, url=url, left=[m.id for m in Model.query_models(model_name="short-lived")])
""")
    assert done.left == []
    assert server.session.get(done.url, timeout=30).status_code == 404


def test_a_dataset_and_its_child_come_back_file_by_file(run, server):
    done = run("""
import pathlib
from clearml import Dataset
folder = pathlib.Path("data"); folder.mkdir()
for name in "abc":
    (folder / f"{name}.txt").write_text(name)
first = Dataset.create(dataset_name="letters", dataset_project="sets")
first.add_files(folder); first.upload(show_progress=False); first.finalize()
second = Dataset.create(dataset_name="letters", dataset_project="sets", parent_datasets=[first.id])
pathlib.Path("d.txt").write_text("d")
second.add_files("d.txt"); second.remove_files("a.txt")
second.upload(show_progress=False); second.finalize()
got = Dataset.get(dataset_project="sets", dataset_name="letters")
copy = pathlib.Path(got.get_local_copy())
say(first=first.id, second=second.id, got=got.id, version=got.version, files=got.list_files(),
    read={p.name: p.read_text() for p in copy.iterdir() if p.suffix == ".txt"},
    listed=sorted(d["id"] for d in Dataset.list_datasets(dataset_project="sets", only_completed=True)))
""")
    assert done.got == done.second
    assert done.version == "1.0.1"
    assert sorted(done.files) == ["b.txt", "c.txt", "d.txt"]
    assert done.read == {"b.txt": "b", "c.txt": "c", "d.txt": "d"}
    assert done.listed == sorted([done.first, done.second])
