"""What the examples of ClearML's documentation under examples/reporting do, in scripts of our own.

The package on PyPI carries no example, so these use the same calls as the documented ones, on data of their own.
"""

import json

import pytest


@pytest.fixture(scope="module")
def sdk_python(examples_python):
    """With what the examples import."""
    return examples_python


REPORTS = """
import io, os, pathlib
import matplotlib; matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np, pandas as pd, plotly.express as px
from clearml import Logger, OutputModel, Task
def begin(name):
    task = Task.init("examples/reporting", name, auto_connect_frameworks={"matplotlib": name == "matplotlib automatic"},
                     reuse_last_task_id=False)
    say(**{name.replace(" ", "_"): task.id})
    return task, task.get_logger()

task, log = begin("scalars")                                   # scalar_reporting, single_scalar_reporting
for i in range(10):
    log.report_scalar("unified graph", "series A", iteration=i, value=1.0 / (i + 1))
    log.report_scalar("unified graph", "series B", iteration=i, value=10.0 / (i + 1))
log.report_single_value("best", 0.97)
task.close()

task, log = begin("text")                                      # text_reporting
print("from standard output"); log.report_text("from the logger")
import logging; logging.getLogger().warning("from logging")
task.close()

task, log = begin("plots")                                     # scatter_hist_confusion_mat, 3d_plots, plotly, pandas
log.report_histogram("histogram", "h", iteration=1, values=[1, 2, 3], xlabels=["a", "b", "c"], mode="stack")
log.report_confusion_matrix("confusion", "c", iteration=1, matrix=np.eye(3), xaxis="x", yaxis="y")
log.report_scatter2d("scatter2d", "s", iteration=1, scatter=[[0, 1], [1, 2]], mode="markers", labels=["p", "q"])
log.report_scatter3d("scatter3d", "s", iteration=1, scatter=[[0, 1, 2], [1, 2, 3]])
log.report_surface("surface", "s", iteration=1, matrix=np.ones((3, 3)), xaxis="x", yaxis="y", zaxis="z")
log.report_line_plot("line", series=[dict(name="l", data=[[0, 0], [1, 1]])], iteration=1, xaxis="x", yaxis="y")
log.report_vector("vector", "v", values=[1, 2, 3], iteration=1)
log.report_plotly("plotly", "p", iteration=1, figure=px.scatter(x=[1, 2], y=[3, 4]))
log.report_table("table", "pandas", iteration=1, table_plot=pd.DataFrame({"n": [1, 2]}, index=["a", "b"]))
pathlib.Path("table.csv").write_text("a,b\\n1,2\\n")
log.report_table("table", "csv", iteration=1, csv="table.csv")
task.close()

task, log = begin("pictures")                                  # image_reporting, media_reporting, html_reporting
log.report_image("image", "float", iteration=1, image=np.linspace(0, 1, 64).reshape(8, 8))
log.report_image("image", "colour", iteration=1, image=np.zeros((8, 8, 3), dtype=np.uint8))
log.report_media("audio", "tone", iteration=1, stream=io.BytesIO(b"ID3"), file_extension="mp3")
log.report_media("html", "page", iteration=1, stream=io.StringIO("<h1>a page</h1>"), file_extension="html")
log.report_media("html", "elsewhere", iteration=1, url="https://example.org/report.html")
task.close()

task, log = begin("matplotlib automatic")                      # matplotlib_automatic_reporting
plt.plot([1, 2, 3]); plt.title("by itself"); plt.show()
task.close()
task, log = begin("matplotlib manual")                         # matplotlib_manual_reporting
figure = plt.figure(); plt.plot([1, 2, 3])
log.report_matplotlib_figure("by hand", "as it is", iteration=0, figure=figure)
log.report_matplotlib_figure("by hand", "as a picture", iteration=0, figure=figure, report_image=True)
task.close()
"""


def test_scalars_text_plots_pictures_and_figures(run, server):
    done = run(REPORTS, MPLBACKEND="Agg")

    def names(endpoint, task, key="plots"):
        return sorted({(event["metric"], event["variant"]) for event in server(f"events.{endpoint}", task=task)[key]})
    curves = server("events.scalar_metrics_iter_histogram", task=done.scalars)
    assert sorted(curves["unified graph"]) == ["series A", "series B"]
    assert curves["unified graph"]["series B"]["y"][:2] == [10, 5]
    [single] = server("events.get_task_single_value_metrics", tasks=[done.scalars])["tasks"]
    assert single["values"][0]["value"] == 0.97
    text = "\n".join(event["msg"] for event in server("events.get_task_log", task=done.text)["events"])
    assert all(part in text for part in ("from standard output", "from the logger", "from logging"))
    assert {metric for metric, _ in names("get_task_plots", done.plots)} == {
        "histogram", "confusion", "scatter2d", "scatter3d", "surface", "line", "vector", "plotly", "table"}
    plots = server("events.get_task_plots", task=done.plots)["plots"]
    assert all(json.loads(plot["plot_str"])["data"] for plot in plots)
    shown = server("events.debug_images", metrics=[{"task": done.pictures}])["metrics"][0]["iterations"][0]["events"]
    found = {event["metric"] + "/" + event["variant"]: event["url"] for event in shown}
    assert sorted(found) == ["audio/tone", "html/elsewhere", "html/page", "image/colour", "image/float"]
    assert server.session.get(found["html/page"], timeout=30).text == "<h1>a page</h1>"
    assert server.session.get(found["audio/tone"], timeout=30).content == b"ID3"
    assert found["html/elsewhere"] == "https://example.org/report.html"
    automatic = server("events.get_task_metrics", tasks=[done.matplotlib_automatic])["metrics"][0]["metrics"]
    assert "by itself" in automatic
    assert ("by hand", "as it is") in names("get_task_plots", done.matplotlib_manual)


SETTINGS = """
import json, pathlib, enum
import pandas as pd
from clearml import InputModel, OutputModel, Task, TaskTypes
def begin(name):
    task = Task.init("examples/settings", name, task_type=TaskTypes.data_processing, auto_connect_frameworks=False,
                     reuse_last_task_id=False, output_uri=True)
    say(**{name.replace(" ", "_"): task.id})
    return task

task = begin("hyper parameters")                               # hyper_parameters
class Base:
    depth = 3
class Config(Base):
    rate = 0.5
config = task.connect(Config, name="class")
task.connect({"n": 1, "flag": True, "none": None, "list": [1, "a"], "nested": {"x": 0.1}}, name="dictionary")
task.update_parameters({"Other/late": 5}); task.set_parameter("Other/described", "x", description="what it is")
say(parameters=task.get_parameters_as_dict(cast=True), class_rate=config.rate)
task.close()

task = begin("configuration")                                  # config_files, model_config
pathlib.Path("config.json").write_text(json.dumps({"batch": 8}))
pathlib.Path("config.yaml").write_text("layers: [1, 2]\\n")
say(path=open(task.connect_configuration("config.json", name="json file")).read())
task.connect_configuration(pathlib.Path("config.yaml"), name="yaml file", description="of a network")
task.set_model_config(config_dict={"activation": "relu"})
task.connect_label_enumeration({"background": 0, "person": 1})
say(model_config=task.get_model_config_dict())
task.close()

task = begin("artefacts")                                      # artifacts, artifacts_retrieval, using_artifacts_example
frame = pd.DataFrame({"num_legs": [2, 4], "num_wings": [2, 0]}, index=["falcon", "dog"])
task.register_artifact("train", frame, metadata={"counting": "legs"})
frame.loc["spider"] = [8, 0]
task.upload_artifact("frame", frame); task.upload_artifact("dictionary", {"a": 1}, metadata={"k": "v"})
samples = pathlib.Path("samples"); samples.mkdir()
(samples / "a.json").write_text("{}"); (samples / "b.txt").write_text("b")
task.upload_artifact("wildcard", "samples/*.json"); task.upload_artifact("folder", "samples")
task.flush(wait_for_uploads=True)
task.close()
other = begin("retrieval")
found = Task.get_task(task_id=task.id).artifacts
say(legs=found["frame"].get()["num_legs"].tolist(), registered=found["train"].get().shape[0],
    dictionary=found["dictionary"].get(), metadata=found["dictionary"].metadata,
    kinds={k: a.type for k, a in found.items()}, hash=len(found["frame"].hash),
    local=[p.name for p in sorted(pathlib.Path(found["folder"].get_local_copy()).iterdir())])
other.close()

task = begin("models")                                         # model_reporting, model_reporting_plots
pathlib.Path("weights.bin").write_bytes(b"w")
model = OutputModel(task, framework="PyTorch", name="reported")
model.report_scalar("scalar", "s", iteration=1, value=3)
model.report_histogram("hist", "h", values=[1, 2], iteration=1)
model.report_confusion_matrix("confusion", "c", matrix=[[1, 0], [0, 1]], iteration=1)
model.report_table("table", "t", iteration=1, table_plot=[["a"], [1]])
model.update_weights("weights.bin", auto_delete_file=False, async_enable=False)
imported = InputModel.import_model("https://example.org/weights.bin", name="imported", framework="Keras")
task.connect(imported)
say(model=model.id, imported=imported.id)
task.close()
"""


def test_parameters_configuration_artefacts_and_models(run, server):
    done = run(SETTINGS)
    assert done.parameters["dictionary"]["n"] == 1 and done.parameters["dictionary"]["nested"]["x"] == 0.1
    assert done.parameters["class"] == {"depth": 3, "rate": 0.5} and done.class_rate == 0.5
    described = server.task(done.hyper_parameters)["hyperparams"]["Other"]["described"]
    assert described["description"] == "what it is"
    configuration = server.task(done.configuration)["configuration"]
    assert json.loads(configuration["json file"]["value"]) == {"batch": 8}
    assert configuration["yaml file"]["description"] == "of a network"
    assert done.model_config == {"activation": "relu"}
    assert server.task(done.configuration)["execution"]["model_labels"] == {"background": 0, "person": 1}
    assert done.legs == [2, 4, 8] and done.registered == 3
    assert done.dictionary == {"a": 1} and done.metadata == {"k": "v"} and done.hash == 64
    assert done.kinds["frame"] == "pandas" and done.kinds["dictionary"] == "dict"
    assert done.local == ["a.json", "b.txt"]
    plots = server("events.get_task_plots", task=done.model, model_events=True)["plots"]
    assert {plot["metric"] for plot in plots} == {"hist", "confusion", "table"}
    models = server.task(done.models)["models"]
    assert [item["model"] for item in models["output"]] == [done.model]
    assert [item["model"] for item in models["input"]] == [done.imported]
