"""Endpoints that only APIClient and older clients of ClearML call."""

import pytest
from servertools import Server


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def report(server, owner, kind, metric="loss", **more):
    server("events.add_batch", [{"type": kind, "task": owner, "metric": metric, "variant": "v", "iter": number,
                                 "value": number, **more} for number in range(3)])


def test_the_scalars_of_one_metric_by_a_scroll_that_is_closed(server):
    task = server.task()
    report(server, task, "training_stats_scalar")
    report(server, task, "training_stats_scalar", "other")
    ask = {"task": task, "metric": "loss", "batch_size": 2}
    first = server("events.get_scalar_metric_data", ask)
    assert [event["iter"] for event in first["events"]] == [0, 1] and first["total"] == 3
    ask["scroll_id"] = first["scroll_id"]
    assert [event["iter"] for event in server("events.get_scalar_metric_data", ask)["events"]] == [2]
    assert server("events.clear_scroll", scroll_id=ask["scroll_id"]) == {}
    server.refused(1104, "events.get_scalar_metric_data", ask)


def test_vectors_by_name(server):
    task = server.task()
    report(server, task, "training_stats_vector", values=[1])
    report(server, task, "training_stats_scalar", "other")
    assert server("events.get_vector_metrics_and_variants", task=task)["metrics"] == [
        {"metric": "loss", "variants": ["v"]}]


def test_the_events_of_a_model_are_removed_unless_it_is_ready(server):
    model = server("models.create", name="net", uri="", ready=False)["id"]
    report(server, model, "training_stats_scalar", model_event=True)
    ready = server("models.create", name="ready", uri="")["id"]
    assert server("events.delete_for_model", model=model) == {"deleted": True}
    assert server("events.scalar_metrics_iter_histogram", task=model, model_events=True) == {}
    server.refused(203, "events.delete_for_model", model=ready)


def test_metadata_of_queues_and_of_models(server):
    items = [{"key": key, "type": "str", "value": value} for key, value in (("a", "1"), ("b", "2"))]
    server("queues.add_or_update_metadata", queue=server.queue, metadata=items)
    server("queues.delete_metadata", queue=server.queue, keys=["a"])
    assert server("queues.get_by_id", queue=server.queue)["queue"]["metadata"] == {"b": items[1]}
    server("queues.add_or_update_metadata", queue=server.queue, metadata=items[:1], replace_metadata=True)
    assert server("queues.get_by_id", queue=server.queue)["queue"]["metadata"] == {"a": items[0]}
    server.refused(701, "queues.delete_metadata", queue="nope", keys=["a"])
    project = server("projects.create", name="lab")["id"]
    model = server("models.create", name="net", uri="", project=project)["id"]
    server("models.add_or_update_metadata", model=model, metadata=items)
    assert server("projects.get_model_metadata_keys", project=project) == {
        "total": 2, "remaining": 0, "keys": ["a", "b"]}
    assert server("projects.get_model_metadata_values", key="b", projects=[project]) == {"total": 1, "values": ["2"]}


def test_what_create_would_refuse_is_refused_and_nothing_is_made(server):
    assert server("tasks.validate", name="train", type="training") == {}
    server.refused(12, "tasks.validate", name="train", type="no")
    server.refused(16, "tasks.validate", name="train", type="training", project="nope")
    assert server("tasks.get_all")["tasks"] == []
