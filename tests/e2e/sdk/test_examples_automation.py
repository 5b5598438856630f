"""What the examples of ClearML's documentation under automation, scheduler, services, datasets and pipeline do.

Scripts of our own with the same calls: tasks that make, watch, trigger and remove tasks; data sets; offline runs.
"""

BASE = """
from clearml import Task
base = Task.init("{project}", "base", auto_connect_frameworks=False, reuse_last_task_id=False)
params = base.connect({{"x": 1}})
base.get_logger().report_scalar("score", "value", int(params["x"]) ** 2, 0)
base.close()
base = base.id
"""


def test_a_search_by_hand_clones_changes_and_enqueues_tasks(run, server):
    """automation/manual_random_param_search_example.py, programmatic_orchestration.py, task_piping_example.py."""
    server("queues.create", name="search")
    done = run(BASE.format(project="examples/search") + """
template = Task.get_task(project_name="examples/search", task_name="base")
assert template.id == base
trials = []
for x in (2, 3):
    trial = Task.clone(source_task=template, name=f"trial {x}", parent=template.id)
    parameters = trial.get_parameters()
    parameters["General/x"] = x
    trial.set_parameters(parameters)
    Task.enqueue(trial, queue_name="search")
    trials.append(trial)
say(base=base, trials=[t.id for t in trials], status=[t.get_status() for t in trials])
trials[0].mark_started(force=True); trials[0].mark_completed()
trials[0].wait_for_status(check_interval_sec=0.1)
trials[1].mark_started(force=True); trials[1].mark_failed(force=True, status_reason="no luck")
try:
    trials[1].wait_for_status(check_interval_sec=0.1)
except RuntimeError as error:
    say(error=str(error))
""")
    assert done.status == ["queued", "queued"] and done.error.endswith("has status: failed.")
    found = [server.task(id) for id in done.trials]
    assert [task["hyperparams"]["General"]["x"]["value"] for task in found] == ["2", "3"]
    assert {task["parent"] for task in found} == {done.base}


def test_a_scheduler_and_a_trigger_start_tasks(run, server):
    """scheduler/cron_example.py and trigger_example.py."""
    queue = server("queues.create", name="scheduled")["id"]
    done = run(BASE.format(project="examples/schedule") + """
import os, threading, time
from clearml.automation import TaskScheduler, TriggerScheduler
scheduler = TaskScheduler(sync_frequency_minutes=1)
scheduler.add_task(schedule_task_id=base, queue="scheduled", minute=5, name="each five minutes",
                   execute_immediately=True, target_project="examples/schedule/started",
                   task_parameters={"General/x": 4})
threading.Thread(target=scheduler.start, daemon=True).start()
trigger = TriggerScheduler(pooling_frequency_minutes=0.02)
trigger.add_task_trigger(schedule_task_id=base, schedule_queue="scheduled", name="on status",
                         trigger_project="examples/schedule/started", trigger_on_status=["queued"],
                         target_project="examples/schedule/triggered")
threading.Thread(target=trigger.start, daemon=True).start()
def found(project):
    return Task.get_tasks(project_name=project) if Task.get_project_id(project) else []
until = time.time() + 120
while not (found("examples/schedule/started") and found("examples/schedule/triggered")) and time.time() < until:
    if found("examples/schedule/started"):  # a trigger sees what happens after its first look
        Task.enqueue(Task.clone(base, project=Task.get_project_id("examples/schedule/started")), queue_name="scheduled")
    time.sleep(2)
say(base=base, started=[t.id for t in found("examples/schedule/started")],
    triggered=[t.id for t in found("examples/schedule/triggered")])
os._exit(0)
""")
    assert done.started and done.triggered
    started = server.task(done.started[0])
    assert started["hyperparams"]["General"]["x"]["value"] == "4" and started["status"] == "queued"
    entries = [entry["task"] for entry in server("queues.get_by_id", queue=queue)["queue"]["entries"]]
    assert {done.started[0], done.triggered[0]} <= set(entries)


def test_services_watch_tasks_and_clean_up_after_them(run, server):
    """services/monitoring/slack_alerts.py without Slack, services/cleanup/*.py, cicd/*.py without GitHub."""
    done = run(BASE.format(project="examples/services") + """
import time
from datetime import datetime, timezone
from clearml.automation.monitor import Monitor
seen = []
class Alerts(Monitor):
    def get_query_parameters(self):
        return dict(status=["failed"], order_by=["-last_update"])
    def process_task(self, task):
        seen.append(task.id)
watch = Alerts()
watch.set_projects(project_names_re=["^examples/services$"])
watch._previous_timestamp = time.time() - 3600
failed = Task.create("examples/services", "fails", script="a.py", repo="https://example.org/r.git", commit="c" * 40)
failed.mark_started(force=True); failed.mark_failed(force=True)
watch.monitor_step()
say(failed=failed.id, seen=seen)
by_commit = Task.query_tasks(task_filter={"order_by": ["-last_update"], "_all_": dict(
    fields=["script.version_num"], pattern="c" * 40)})
say(by_commit=by_commit)
failed.set_archived(True)
old = Task.query_tasks(project_name="examples/services", task_filter={
    "system_tags": ["archived"], "status_changed": ["<" + datetime.fromtimestamp(
        time.time() + 60, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")]})
say(old=old)
for id in old:
    Task.get_task(task_id=id).delete(delete_artifacts_and_models=True, skip_models_used_by_other_tasks=True,
                                     raise_on_error=False)
say(left=Task.query_tasks(project_name="examples/services"), base=base)
""")
    assert done.seen == [done.failed]
    assert done.by_commit == [done.failed]
    assert done.old == [done.failed]
    assert done.left == [done.base]


def test_data_sets_of_files_folders_parents_and_what_is_written_about_them(run, server):
    """datasets/csv_dataset_creation, data_ingestion, dataset_folder_syncing, single_ and multi_parent_child_dataset."""
    done = run("""
import pathlib
from clearml import Dataset, Task
def write(folder, **files):
    pathlib.Path(folder).mkdir(exist_ok=True)
    for name, text in files.items():
        pathlib.Path(folder, name + ".csv").write_text(text)
    return folder
one = Dataset.create(dataset_name="one", dataset_project="examples/sets", dataset_tags=["raw"], description="first")
one.add_files(write("one", a="1", b="2"), dataset_path="data")
one.get_logger().report_table("preview", "head", table_plot=[["a"], [1]])
one.set_metadata({"source": "here"}, metadata_name="where")
one.upload(show_progress=False); one.finalize()
two = Dataset.create(dataset_name="two", dataset_project="examples/sets")
two.sync_folder(write("two", c="3"), verbose=False)
write("two", d="4")
added = two.sync_folder("two", verbose=False)
two.upload(show_progress=False); two.finalize()
both = Dataset.create(dataset_name="both", dataset_project="examples/sets", parent_datasets=[one.id, two.id])
both.remove_files("data/a.csv"); both.upload(show_progress=False); both.finalize()
copy = pathlib.Path(Dataset.get(dataset_id=both.id).get_local_copy())
writable = pathlib.Path(Dataset.get(dataset_name="one", dataset_project="examples/sets").get_mutable_local_copy("mine"))
task = Task.init("examples/sets", "user", auto_connect_frameworks=False)
used = Dataset.get(dataset_name="both", dataset_project="examples/sets", alias="training data")
say(files=sorted(str(p.relative_to(copy)) for p in copy.rglob("*.csv")), verified=both.verify_dataset_hash() == [],
    added=added[:2], metadata=Dataset.get(dataset_id=one.id).get_metadata("where"),
    writable=sorted(p.name for p in writable.rglob("*.csv")),
    graph={k: sorted(v) for k, v in used.get_dependency_graph().items()},
    one=one.id, two=two.id, both=both.id, user=task.id)
task.close()
Dataset.delete(dataset_id=both.id)
say(left=sorted(d["name"] for d in Dataset.list_datasets(dataset_project="examples/sets")))
""")
    assert done.files == ["c.csv", "d.csv", "data/b.csv"] and done.writable == ["a.csv", "b.csv"]
    assert done.metadata == {"source": "here"}
    assert done.graph[done.both] == sorted([done.one, done.two])
    assert done.left == ["one", "two"]
    assert server.task(done.user)["hyperparams"]["Datasets"]["training data"]["value"] == done.both


def test_the_command_for_data_sets(run, server, tmp_path):
    """The documentation's clearml-data walk-through."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("x")
    run.command(["clearml-data", "create", "--project", "examples/cli", "--name", "by command"])
    run.command(["clearml-data", "add", "--files", "data"])
    run.command(["clearml-data", "close"])
    [task] = server("tasks.get_all", search_hidden=True, system_tags=["dataset"], name="^by command$")["tasks"]
    assert task["status"] == "completed"
    listed = run.command(["clearml-data", "list", "--id", task["id"]])
    assert "x.txt" in listed.output
    run.command(["clearml-data", "get", "--id", task["id"], "--copy", "here"])
    assert (tmp_path / "here" / "x.txt").read_text() == "x"


def test_a_pipeline_of_existing_tasks(run, server):
    """pipeline/pipeline_from_tasks.py: each step is a task that ran before, with parameters from the step before it."""
    base = run(BASE.format(project="examples/steps") + "say(base=base)", name="base.py").base
    done = run(f"base = '{base}'" + """
from clearml import PipelineController, Task
pipe = PipelineController("from tasks", "examples/steps", "0.1", add_pipeline_tags=True, pool_frequency=0.01)
pipe.add_parameter("x", "3")
pipe.add_step(name="first", base_task_project="examples/steps", base_task_name="base",
              parameter_override={"General/x": "${pipeline.x}"})
pipe.add_step(name="second", parents=["first"], base_task_id=base,
              parameter_override={"General/x": "${first.parameters.General/x}"},
              monitor_metrics=[("score", "value")],
              pre_execute_callback=lambda p, node, overrides: True, post_execute_callback=lambda p, node: None)
pipe.start_locally(run_pipeline_steps_locally=True)
nodes = pipe.get_processed_nodes()
say(id=pipe.id, status={name: Task.get_task(task_id=node.executed).get_status() for name, node in nodes.items()},
    second=nodes["second"].executed, done=pipe.is_successful())
""")
    assert done.status == {"first": "completed", "second": "completed"} and done.done is True
    assert server.task(done.second)["hyperparams"]["General"]["x"]["value"] == "3"
    assert any(tag.startswith("pipe: ") for tag in server.task(done.second)["tags"])


def test_what_was_recorded_offline_is_imported(run, server):
    """The documentation's offline mode: a script without a server, whose session is brought to one later."""
    away = run("""
from clearml import Task
Task.set_offline(True)
task = Task.init("examples/offline", "away", auto_connect_frameworks=False)
task.connect({"x": 5}); task.get_logger().report_scalar("score", "value", 7, 0)
task.upload_artifact("answer", {"x": 5})
task.close()
say(session=str(task.get_offline_mode_folder()) + ".zip")
""", CLEARML_API_HOST="http://127.0.0.1:9")
    done = run(f"""
from clearml import Task
imported = Task.import_offline_session("{away.session}")
task = Task.get_task(task_id=imported)
say(id=imported, parameters=task.get_parameters(), answer=task.artifacts["answer"].get(),
    last=task.get_last_scalar_metrics())
""")
    assert done.parameters == {"General/x": "5"} and done.answer == {"x": 5}
    assert done.last["score"]["value"]["last"] == 7
    assert server.task(done.id)["name"].endswith("away")
