"""Answers as the package's own classes read them: one field of another type, and it drops the whole answer."""

CALLS = """
import importlib, inspect, time
from clearml import Task
from clearml.backend_api import Session
session = Session()
task = Task.init("types/all", "all", auto_connect_frameworks=False)
task.connect({"x": 1}); task.get_logger().report_scalar("loss", "train", 0.5, 1)
task.get_logger().report_plotly("plot", "p", {"data": [], "layout": {}}, 1)
task.get_logger().report_text("line"); task.upload_artifact("a", {"x": 1}, wait_on_upload=True)
task.flush(wait_for_uploads=True)
call = lambda service, action, **body: session.send_request(service, action, json=body).json()["data"]
queue = call("queues", "get_default")["id"]
project, me = task.project, task.id
other = call("tasks", "create", name="other", type="training", project=project)["id"]
gone = call("tasks", "create", name="gone", type="training")["id"]
model = call("models", "create", name="net", uri="http://x/y", task=me)["id"]
spare = call("models", "create", name="spare", uri="http://x/z", ready=False)["id"]
call("workers", "status_report", worker="w:0", timestamp=1, queues=[queue], task=me, machine_stats={"cpu_usage": [1.0]})
span = {"from_date": time.time() - 600, "to_date": time.time(), "interval": 60}
BODIES = {
    "auth.login": {}, "auth.create_credentials": {}, "auth.get_credentials": {},
    "events.debug_images": {"metrics": [{"task": me}]}, "events.get_task_events": {"task": me},
    "events.get_task_log": {"task": me}, "events.get_task_metrics": {"tasks": [me]},
    "events.get_task_plots": {"task": me}, "events.get_multi_task_plots": {"tasks": [me]},
    "events.get_scalar_metrics_and_variants": {"task": me}, "events.plots": {"metrics": [{"task": me}]},
    "events.get_task_latest_scalar_values": {"task": me}, "events.scalar_metrics_iter_histogram": {"task": me},
    "events.multi_task_scalar_metrics_iter_histogram": {"tasks": [me]},
    "events.get_task_single_value_metrics": {"tasks": [me]}, "events.scalar_metrics_iter_raw": {
        "task": me, "metric": {"metric": "loss"}}, "events.clear_task_log": {"task": other},
    "events.get_plot_sample": {"task": me, "metric": "plot", "variant": "p"},
    "events.vector_metrics_iter_histogram": {"task": me, "metric": "m", "variant": "v"},
    "events.delete_for_task": {"task": other},
    "models.get_all": {}, "models.get_all_ex": {}, "models.get_by_id": {"model": model}, "models.get_frameworks": {},
    "models.edit": {"model": spare, "name": "spare one"}, "models.set_ready": {"model": spare},
    "models.add_or_update_metadata": {"model": model, "metadata": [{"key": "k", "type": "str", "value": "v"}]},
    "models.archive_many": {"ids": [model]}, "models.unarchive_many": {"ids": [model]},
    "models.move": {"ids": [spare], "project": project}, "models.delete": {"model": spare, "force": True},
    "organization.get_tags": {}, "projects.get_all": {}, "projects.get_all_ex": {"include_stats": True},
    "projects.get_by_id": {"project": project}, "projects.validate_delete": {"project": project},
    "projects.get_hyper_parameters": {"project": project}, "projects.get_task_parents": {"projects": [project]},
    "projects.get_unique_metric_variants": {"project": project}, "projects.get_task_tags": {},
    "projects.get_hyperparam_values": {"projects": [], "section": "General", "name": "x"},
    "projects.get_model_tags": {},
    "projects.update": {"project": project, "description": "words"},
    "queues.get_all": {}, "queues.get_all_ex": {}, "queues.get_by_id": {"queue": queue}, "queues.get_default": {},
    "queues.get_num_entries": {"queue": queue}, "queues.get_queue_metrics": {**span, "queue_ids": [queue]},
    "queues.peek_task": {"queue": queue}, "queues.update": {"queue": queue, "tags": ["x"]},
    "server.info": {}, "server.report_stats_option": {}, "tasks.get_all": {}, "tasks.get_all_ex": {},
    "tasks.get_by_id": {"task": me}, "tasks.get_types": {}, "tasks.get_hyper_params": {"tasks": [me]},
    "tasks.get_configurations": {"tasks": [me]}, "tasks.get_configuration_names": {"tasks": [me]},
    "tasks.clone": {"task": me}, "tasks.enqueue": {"task": other, "queue": queue},
    "queues.move_task_to_front": {"queue": queue, "task": other},
    "queues.move_task_backward": {"queue": queue, "task": other}, "queues.get_next_task": {"queue": queue},
    "tasks.dequeue": {"task": other}, "tasks.enqueue_many": {"ids": [other], "queue": queue},
    "tasks.dequeue_many": {"ids": [other]}, "tasks.started": {"task": other}, "tasks.ping": {"task": other},
    "tasks.stop": {"task": other}, "tasks.reset": {"task": other}, "tasks.reset_many": {"ids": [other]},
    "tasks.edit": {"task": other, "comment": "c"}, "tasks.update": {"task": other, "name": "another"},
    "tasks.edit_hyper_params": {"task": other, "hyperparams": [{"section": "s", "name": "n", "value": "v"}]},
    "tasks.delete_hyper_params": {"task": other, "hyperparams": [{"section": "s"}]},
    "tasks.edit_configuration": {"task": other, "configuration": [{"name": "c", "value": "v"}]},
    "tasks.delete_configuration": {"task": other, "configuration": ["c"]},
    "tasks.add_or_update_artifacts": {"task": other, "artifacts": [{"key": "k", "type": "t", "uri": "u"}]},
    "tasks.delete_artifacts": {"task": other, "artifacts": [{"key": "k"}]},
    "tasks.add_or_update_model": {"task": other, "name": "m", "model": model, "type": "input"},
    "tasks.delete_models": {"task": other, "models": [{"name": "m", "type": "input"}]},
    "tasks.set_requirements": {"task": other, "requirements": {"pip": "six"}},
    "tasks.move": {"ids": [other], "project_name": "types/moved"}, "tasks.stopped": {"task": other, "force": True},
    "tasks.failed": {"task": other, "force": True}, "tasks.completed": {"task": other, "force": True},
    "tasks.publish": {"task": other}, "tasks.archive_many": {"ids": [other]}, "tasks.unarchive_many": {"ids": [other]},
    "tasks.delete_many": {"ids": [gone], "force": True}, "tasks.delete": {"task": other, "force": True},
    "users.get_current_user": {}, "users.get_preferences": {}, "users.set_preferences": {"preferences": {"a": 1}},
    "users.get_all_ex": {}, "workers.get_all": {}, "workers.get_metric_keys": {},
    "workers.get_stats": {**span, "items": [{"key": "cpu_usage", "aggregation": "avg"}]},
    "workers.get_activity_report": span, "workers.unregister": {"worker": "w:0"},
    "events.get_scalar_metric_data": {"task": me, "metric": "loss"}, "events.clear_scroll": {"scroll_id": "x"},
    "events.get_vector_metrics_and_variants": {"task": me}, "tasks.validate": {"name": "other", "type": "training"},
    "queues.add_or_update_metadata": {"queue": queue, "metadata": [{"key": "k", "type": "str", "value": "v"}]},
    "queues.delete_metadata": {"queue": queue, "keys": ["k"]}, "projects.get_model_metadata_keys": {"project": project},
    "projects.get_model_metadata_values": {"key": "k"},
}
tried, lacking, dropped = [], [], {}
for name, body in BODIES.items():
    service, action = name.split(".")
    for version in ("2.23", "2.20", "2.13", "2.9"):
        try:
            module = importlib.import_module(f"clearml.backend_api.services.v{version.replace('.', '_')}.{service}")
            cls = getattr(module, "".join(word.capitalize() for word in action.split("_")) + "Response")
            break
        except (ImportError, AttributeError):
            continue
    else:
        lacking.append(name)
        continue
    answer = session.send_request(service, action, json=body, version=version).json()
    if answer["meta"]["result_code"] != 200:
        dropped[name] = answer["meta"]["result_msg"]
        continue
    try:
        response = cls(**{key: value for key, value in answer["data"].items()
                          if key in inspect.signature(cls.__init__).parameters})
        tried.append(name)
    except Exception as error:
        dropped[name] = f"{type(error).__name__}: {error}"
say(tried=len(tried), lacking=lacking, dropped=dropped)
task.close()
"""


def test_no_answer_has_a_field_of_another_type_than_the_package_expects(run, server):
    done = run(CALLS)
    # the package's class says a map, where ClearML's server answers a list, and nothing of the package asks for it
    assert list(done.dropped) == ["tasks.get_configuration_names"]
    assert done.tried > 90, done.lacking
