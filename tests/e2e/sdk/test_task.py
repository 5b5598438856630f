"""A script with Task.init, by hand: what it reports stands on the server, and is read back from there."""


def test_everything_a_script_reports_is_read_back(run, server):
    done = run("""
import numpy as np
from clearml import Task
task = Task.init("demo/reports", "reports", auto_connect_frameworks=False)
log = task.get_logger()
for i in range(5):
    log.report_scalar("loss", "train", 1 / (i + 1), i)
log.report_text("a line of text")
log.report_single_value("accuracy", 0.9)
log.report_image("picture", "one", 3, image=np.zeros((8, 8, 3), dtype="uint8"))
log.report_histogram("plot", "bars", [1, 2, 3], iteration=0)
log.report_table("table", "t", 0, table_plot=[["a", "b"], [1, 2]])
task.close()
task = Task.get_task(task_id=task.id)
say(id=task.id, status=task.get_status(), scalars=task.get_reported_scalars(), last=task.get_last_scalar_metrics(),
    single=task.get_reported_single_values(), plots=[plot["metric"] for plot in task.get_reported_plots()],
    images=[image["url"] for image in task.get_debug_samples("picture", "one")],
    console=task.get_reported_console_output(5), iteration=task.get_last_iteration())
""")
    assert done.status == "completed"
    assert done.scalars["loss"]["train"]["y"] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert done.last["loss"]["train"] == {"last": 0.2, "min": 0.2, "max": 1}
    assert done.single == {"accuracy": 0.9}
    assert sorted(done.plots) == ["plot", "table"]
    assert done.iteration == 4
    assert any("a line of text" in text for text in done.console)
    [url] = done.images
    picture = server.session.get(url, timeout=30)
    assert picture.content[:3] == b"\xff\xd8\xff"
    task = server.task(done.id)
    assert task["project"] == server("projects.get_all", name="^demo/reports$")["projects"][0]["id"]
    assert "from clearml import Task" in task["script"]["diff"]
    assert "clearml" in task["script"]["requirements"]["pip"]


def test_artefacts_come_back_as_they_were(run, server):
    done = run("""
import json, pathlib
import numpy as np
from clearml import Task
task = Task.init("demo", 'artefacts of "one" at 100%', auto_connect_frameworks=False)
folder = pathlib.Path("folder"); folder.mkdir()
(folder / "a b.txt").write_text("one"); (folder / "c.txt").write_text("two")
task.upload_artifact("dictionary", {"x": [1, 2]}, wait_on_upload=True)
task.upload_artifact("array", np.arange(6).reshape(2, 3), wait_on_upload=True)
task.upload_artifact("folder", folder, wait_on_upload=True)
task.upload_artifact("text", "some text", wait_on_upload=True)
task.upload_artifact("big.bin", pathlib.Path("/dev/zero").open("rb").read(3_000_000) and "big", wait_on_upload=True)
task.upload_artifact("dictionary", {"x": [3]}, wait_on_upload=True)
task.close()
found = Task.get_task(task_id=task.id).artifacts
say(id=task.id, names=sorted(found), dictionary=found["dictionary"].get(), array=found["array"].get().tolist(),
    folder=sorted(p.name for p in pathlib.Path(found["folder"].get()).iterdir()), text=found["text"].get(),
    url=found["dictionary"].url)
""")
    assert done.names == ["array", "big.bin", "dictionary", "folder", "text"]
    assert done.dictionary == {"x": [3]}
    assert done.array == [[0, 1, 2], [3, 4, 5]]
    assert done.folder == ["a b.txt", "c.txt"]
    assert done.text == "some text"
    assert server.session.get(done.url, timeout=30).json() == {"x": [3]}


def test_parameters_of_argparse_dictionaries_and_configuration_objects(run, server):
    done = run("""
import argparse
from clearml import Task
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--name", default="none")
task = Task.init("demo", "parameters", auto_connect_frameworks=False)
args = parser.parse_args()
task.connect({"lr": 0.1, "nested": {"depth": 2}}, name="Model")
task.connect_configuration({"layers": [1, 2], "opt": {"kind": "adam"}}, name="network")
task.set_user_properties(stage="first")
task.set_parameter("Other/flag", True)
task.add_tags(["blue", "alpha"])
task.set_comment("words")
say(id=task.id, epochs=args.epochs)
task.close()
task = Task.get_task(task_id=task.id)
say(parameters=task.get_parameters(), configuration=task.get_configuration_object_as_dict("network"),
    properties=task.get_user_properties()["stage"]["value"], tags=task.get_tags())
""", "--epochs", "7")
    assert done.epochs == 7
    assert done.parameters["Args/epochs"] == "7"
    assert done.parameters["Model/nested/depth"] == "2"
    assert done.parameters["Other/flag"] == "True"
    assert done.configuration == {"layers": [1, 2], "opt": {"kind": "adam"}}
    assert done.properties == "first"
    assert sorted(done.tags) == ["alpha", "blue"]
    assert server.task(done.id)["comment"] == "words"


def test_a_task_is_continued_and_used_again(run, server):
    done = run("""
from clearml import Task
task = Task.init("demo", "again", auto_connect_frameworks=False)
task.get_logger().report_scalar("loss", "train", 1.0, 4)
first = task.id
task.close()
task = Task.init("demo", "again", continue_last_task=True, auto_connect_frameworks=False)
task.get_logger().report_scalar("loss", "train", 0.5, 1)
second = task.id
task.close()
scalars = Task.get_task(task_id=second).get_reported_scalars()
other = Task.init("demo", "other", auto_connect_frameworks=False)
say(first=first, second=second, scalars=scalars, third=other.id)
other.close()
""")
    assert done.first == done.second != done.third
    assert done.scalars["loss"]["train"]["x"] == [4, 6]


def test_two_tasks_in_one_process_and_a_failing_script(run, server):
    done = run("""
from clearml import Task
one = Task.init("demo", "one", auto_connect_frameworks=False); one.close()
two = Task.init("demo", "two", auto_connect_frameworks=False)
say(one=one.id, two=two.id)
raise ValueError("no luck")
""", code=1)
    assert server.task(done.one)["status"] == "completed"
    assert server.task(done.two)["status"] == "failed"


def test_a_process_that_was_forked_to_report_shares_nothing_with_its_parent(run, server):
    done = run("""
from clearml import Task
task = Task.init("demo", "forked", auto_connect_frameworks=False)
for i in range(50):
    task.get_logger().report_scalar("loss", "train", i, i)
    assert Task.get_task(task_id=task.id).name == "forked"
task.close()
say(scalars=len(Task.get_task(task_id=task.id).get_reported_scalars()["loss"]["train"]["y"]))
""", CLEARML_CONFIG_FILE=str(server.forking))
    assert done.scalars == 50


def test_subprocesses_report_to_the_task_of_their_parent(run, server):
    done = run("""
import multiprocessing
from clearml import Task
def work(number):
    Task.current_task().get_logger().report_scalar("loss", f"worker {number}", number, 0)
    Task.current_task().upload_artifact(f"from {number}", {"number": number}, wait_on_upload=True)
if __name__ == "__main__":
    task = Task.init("demo", "subprocesses", auto_connect_frameworks=False)
    workers = [multiprocessing.Process(target=work, args=(number,)) for number in range(2)]
    [worker.start() for worker in workers]; [worker.join() for worker in workers]
    task.close()
    task = Task.get_task(task_id=task.id)
    say(curves=sorted(task.get_reported_scalars()["loss"]), artefacts=sorted(task.artifacts))
""", forks=True)
    assert done.curves == ["worker 0", "worker 1"]
    assert done.artefacts == ["from 0", "from 1"]


def test_a_dictionary_as_hydra_gives_it_is_changed_by_a_clone(run, server):
    script = """
from clearml import Task
config = {"model": {"depth": 3, "kind": "cnn"}, "seeds": [1, 2]}
task = Task.init("demo", "config", auto_connect_frameworks=False)
config = task.connect_configuration(config, name="OmegaConf")
say(id=task.id, config=config)
task.close()
"""
    first = run(script)
    clone = server("tasks.clone", task=first.id)["id"]
    found = server("tasks.get_configurations", tasks=[clone], names=["OmegaConf"])["configurations"]
    item = found[0]["configuration"][0]
    changed = item["value"].replace("depth = 3", "depth = 5")
    assert changed != item["value"]
    server("tasks.edit_configuration", task=clone, configuration=[{**item, "value": changed}])
    again = run(script, CLEARML_TASK_ID=clone, CLEARML_LOG_TASK_TO_BACKEND="0")
    assert again.config == {"model": {"depth": 5, "kind": "cnn"}, "seeds": [1, 2]}
