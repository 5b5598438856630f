"""What the examples of ClearML's documentation under frameworks do, where neither data nor gigabytes are needed.

Each is a script of our own with the same calls. A script is run by hand, its task is cloned with a changed argument,
and run again as an agent starts it: the change must be what the script prints.
"""

import pytest


@pytest.fixture(scope="module")
def sdk_python(examples_python):
    """With what the examples import."""
    return examples_python


ARGUMENTS = {
    # examples/frameworks/click/click_multi_cmd.py (click_single_cmd.py: below)
    "click": ("""
import click
from clearml import Task
task = Task.init("examples/frameworks", "click", auto_connect_frameworks=False)
@click.group()
def cli(): pass
@cli.command("hello")
@click.option("--count", default=1)
def hello(count):
    say(id=task.id, value=count)
@cli.command("bye")
def bye(): say(id=task.id, value="bye")
cli()
""", ["hello", "--count", "2"], 7),
    # examples/frameworks/fire/*.py
    "fire": ("""
import fire
from clearml import Task
task = Task.init("examples/frameworks", "fire", auto_connect_frameworks=False)
class Calculator:
    def double(self, number): say(id=task.id, value=2 * number)
fire.Fire(Calculator)
""", ["double", "--number", "4"], 14),
    # examples/frameworks/jsonargparse/jsonargparse_nested_namespaces.py
    "jsonargparse": ("""
from jsonargparse import ArgumentParser
from clearml import Task
task = Task.init("examples/frameworks", "jsonargparse", auto_connect_frameworks=False)
parser = ArgumentParser()
parser.add_argument("--model.depth", type=int, default=1)
parser.add_argument("--model.name", default="net")
found = parser.parse_args()
say(id=task.id, value=found.model.depth)
""", ["--model.depth", "3"], 7),
    # examples/frameworks/tensorflow/absl_flags.py
    "absl": ("""
from absl import app, flags
from clearml import Task
FLAGS = flags.FLAGS
flags.DEFINE_integer("depth", 1, "how deep")
task = Task.init("examples/frameworks", "absl", auto_connect_frameworks={"tfdefines": True})
def main(_): say(id=task.id, value=FLAGS.depth)
app.run(main)
""", ["--depth", "3"], 7),
    # examples/frameworks/hydra/hydra_example.py
    "hydra": ("""
import hydra
from clearml import Task
@hydra.main(config_path=".", config_name="config", version_base=None)
def main(config):
    task = Task.init("examples/frameworks", "hydra", auto_connect_frameworks={"hydra": True})
    say(id=task.id, value=config.model.depth)
if __name__ == "__main__":
    main()
""", ["model.depth=3"], 7),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_of_a_command_line_library_is_changed_in_a_clone(run, server, tmp_path, name):
    script, arguments, expected = ARGUMENTS[name]
    (tmp_path / "config.yaml").write_text("model:\n  depth: 1\n  name: net\n")
    first = run(script, *arguments)
    clone = server("tasks.clone", task=first.id)["id"]
    if name == "hydra":
        [item] = server("tasks.get_configurations", tasks=[clone], names=["OmegaConf"])["configurations"][0][
            "configuration"]
        assert "depth: 3" in item["value"]
        # as a user who edits the configuration of a clone is told to
        server("tasks.edit_configuration", task=clone, configuration=[
            {**item, "value": item["value"].replace("depth: 3", "depth: 7")}])
        server("tasks.edit_hyper_params", task=clone, hyperparams=[
            {"section": "Hydra", "name": "_allow_omegaconf_edit_", "value": "True"}])
    else:
        parameters = server("tasks.get_hyper_params", tasks=[clone])["params"][0]["hyperparams"]
        [item] = [item for item in parameters if item["value"] == str(arguments[-1])]
        server("tasks.edit_hyper_params", task=clone, hyperparams=[{**item, "value": "7"}])
    again = run(script, CLEARML_TASK_ID=clone, CLEARML_LOG_TASK_TO_BACKEND="0")
    assert (again.id, again.value) == (clone, expected)


def test_models_curves_and_figures_are_caught_from_scikit_learn_lightgbm_and_tensorboard(run, server):
    done = run("""
import joblib, lightgbm, matplotlib, numpy as np
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from tensorboardX import SummaryWriter
from clearml import Task
task = Task.init("examples/frameworks", "caught", output_uri=True)
x, x_test, y, y_test = train_test_split(*load_iris(return_X_y=True), test_size=0.3, random_state=1)
model = LogisticRegression(max_iter=500).fit(x, y)              # scikit-learn/sklearn_joblib_example.py
joblib.dump(model, "model.pkl", compress=True)
joblib.load("model.pkl")
plt.scatter(x_test[:, 0], y_test); plt.title("sklearn"); plt.show()  # sklearn_matplotlib_example.py
data = lightgbm.Dataset(x, y)                                   # lightgbm/lightgbm_example.py
booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, 3,
                         valid_sets=[data], callbacks=[lightgbm.record_evaluation({})])
booster.save_model("booster.txt")
writer = SummaryWriter("runs")                                  # tensorboardx, pytorch_tensorboard
for i in range(4):
    writer.add_scalar("group/value", i * i, i)
writer.add_image("picture", np.zeros((3, 8, 8)), 1)
writer.close()
say(id=task.id)
task.close()
""", MPLBACKEND="Agg")
    task = server.task(done.id)
    outputs = [server("models.get_by_id", model=item["model"])["model"] for item in task["models"]["output"]]
    assert {model["framework"].lower() for model in outputs} >= {"scikitlearn", "lightgbm"}
    for model in outputs:
        assert server.session.get(model["uri"], timeout=30).status_code == 200
    assert server("events.scalar_metrics_iter_histogram", task=done.id)["group"]["value"]["y"] == [0, 1, 4, 9]
    metrics = server("events.get_task_metrics", tasks=[done.id])["metrics"][0]["metrics"]
    assert {"sklearn", "Images"} <= set(metrics)


def test_click_takes_its_arguments_from_a_clone_as_under_an_agent(run, server):
    script = """
import click
from clearml import Task
@click.command()
@click.option("--lr", default=0.1)
@click.option("--name", default="net")
def main(lr, name):
    task = Task.init("demo", "click", auto_connect_frameworks=False)
    say(id=task.id, lr=lr, name=name)
    task.close()
main()
"""
    first = run(script, "--lr", "0.5")
    assert first.lr == 0.5
    clone = server("tasks.clone", task=first.id)["id"]
    parameters = server("tasks.get_hyper_params", tasks=[clone])["params"][0]["hyperparams"]
    [lr] = [item for item in parameters if item["name"].endswith("lr")]
    assert lr["value"] == "0.5"
    server("tasks.edit_hyper_params", task=clone, hyperparams=[{**lr, "value": "0.75"}])
    again = run(script, CLEARML_TASK_ID=clone, CLEARML_LOG_TASK_TO_BACKEND="0")
    assert (again.id, again.lr, again.name) == (clone, 0.75, "net")
