"""What pages and scripts around a ClearML server ask for: numbers over time, tags, counts, tables, samples."""

import time

import pytest
from servertools import Server

from agentpipe.server import queue_metrics


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def ago(server, table, seconds):
    """Make what was just noted older."""
    server.store.connection().execute(f"UPDATE {table} SET at=at-?", (int(seconds * 1000),))


def report(server, worker="box:0", seconds=0, **fields):
    server("workers.status_report", worker=worker, timestamp=1, **fields)
    db = server.store.connection()
    db.execute("UPDATE reports SET at=at-? WHERE rowid=(SELECT max(rowid) FROM reports)", (seconds * 1000,))


def span(back, interval=60, ahead=0):
    at = time.time()
    return {"from_date": at - back, "to_date": at + ahead, "interval": interval}


@pytest.mark.parametrize("word", ["split_by_resource", "split_by_variant"])  # the package's schema has the second
def test_workers_numbers_over_time_in_buckets_split_by_resource(server, word):
    for seconds, load in ((300, 10), (290, 30), (100, 50)):
        report(server, seconds=seconds, machine_stats={"cpu_usage": [load, load * 2], "memory_used": load * 100})
    report(server, "other:0", seconds=100, machine_stats={"cpu_usage": [7]})
    keys = server("workers.get_metric_keys")["categories"]
    assert keys == [{"name": "cpu", "metric_keys": ["cpu_usage"]}, {"name": "memory", "metric_keys": ["memory_used"]}]
    asked = [{"key": "cpu_usage", "aggregation": "max"}, {"key": "memory_used", "aggregation": "avg"},
             {"key": "nothing", "aggregation": "avg"}]
    found = server("workers.get_stats", **span(600), items=asked, worker_ids=["box:0"], **{word: True})
    [worker] = found["workers"]
    assert worker["worker"] == "box:0"
    cpu, memory = worker["metrics"]
    [usage], [used] = cpu["stats"], memory["stats"]
    assert max(usage["values"]) == 100 and 0 in usage["values"]
    assert [series["name"] for series in usage["resource_series"]] == ["0", "1"]
    assert max(usage["resource_series"][0]["values"]) == 50
    assert {value for value in used["values"] if value} <= {1000.0, 2000.0, 3000.0, 5000.0}
    assert all(date % 60_000 == 0 and date + 60_000 <= time.time() * 1000 for date in usage["dates"])


def test_an_interval_is_not_shorter_than_the_reports_are_apart_and_a_span_begins_before_it_ends(server):
    server.refused(1005, "workers.get_metric_keys")
    report(server, seconds=100, machine_stats={"cpu_usage": 5})
    found = server("workers.get_stats", **span(200, 1), items=[{"key": "cpu_usage", "aggregation": "min"}])
    dates = found["workers"][0]["metrics"][0]["stats"][0]["dates"]
    assert dates[1] - dates[0] == 40_000
    server.refused(16, "workers.get_stats", from_date=9, to_date=9, interval=60, items=[])
    server.refused(16, "workers.get_stats", from_date=0, to_date=time.time(), interval=40, items=[])
    server.refused(12, "workers.get_stats", **span(9), items=[{"key": "x", "aggregation": "median"}])


def test_how_many_workers_there_were_and_how_many_had_work(server):
    task = server.task()
    report(server, seconds=100)
    report(server, "other:0", seconds=100, task=task)
    found = server("workers.get_activity_report", **span(300))
    assert max(found["total"]["counts"]) == 2 and max(found["active"]["counts"]) == 1
    assert server("workers.get_count") == {"count": 2}


def test_the_lengths_of_queues_stay_as_they_were_between_two_looks(server):
    for _ in range(3):
        server.enqueued()
    server("queues.get_queue_metrics", **span(10, 1), refresh=True)
    ago(server, "lengths", 120)
    server("queues.get_next_task", queue=server.queue)
    server("queues.get_queue_metrics", **span(10, 1), refresh=True)
    ago(server, "lengths", 60)
    [found] = server("queues.get_queue_metrics", **span(240, 10), queue_ids=[server.queue])["queues"]
    assert found["queue"] == server.queue
    lengths = found["queue_lengths"]
    assert lengths[0] == 0 and 3 in lengths and lengths[-1] == 2
    assert len([length for length in lengths if length == 3]) >= 5
    [total] = server("queues.get_queue_metrics", **span(240, 10))["queues"]
    assert total["queue"] == "total" and total["queue_lengths"] == lengths
    server.refused(701, "queues.get_queue_metrics", **span(10), queue_ids=["nope"])


def test_only_queues_that_changed_are_looked_at_again(server):
    other = server("queues.create", name="other")["id"]
    look = server.store.transaction
    assert look(queue_metrics.sample) == 2
    assert look(queue_metrics.sample) == 0
    task = server.task()
    time.sleep(0.002)
    server("tasks.enqueue", task=task, queue=other)
    assert look(queue_metrics.sample) == 1
    ago(server, "lengths", 301)
    assert look(queue_metrics.sample) == 2


def test_preferences_are_a_users_own_and_change_by_their_paths(server):
    assert server("users.get_preferences") == {"preferences": {}}
    assert server("users.set_preferences", preferences={"view.columns": ["name"], "view.dark": True})["updated"] == 1
    server("users.set_preferences", preferences={"view.dark": False, "hint": 1})
    assert server("users.get_preferences")["preferences"] == {"view": {"columns": ["name"], "dark": False}, "hint": 1}
    server.refused(12, "users.set_preferences", preferences={"x": "y" * 2_000_000})


def test_tags_counts_and_a_table_of_everything(server):
    project = server("projects.create", name="demo/one")["id"]
    first = server.task("first", project=project, tags=["blue"], hyperparams={
        "Args": {"lr": {"section": "Args", "name": "lr", "value": "0.1"}}})
    server.task("second, with a comma", project=project, tags=["red"], system_tags=["archived"])
    server("models.create", name="net", uri="", tags=["good"])
    assert server("organization.get_tags", include_system=True) == {
        "tags": ["blue", "good", "red"], "system_tags": ["archived"]}
    assert server("organization.get_entities_count", tasks={"project": [project]}, models={}, projects={},
                  pipelines={}) == {"tasks": 2, "models": 1, "projects": 2, "pipelines": 0}
    ready = server("organization.prepare_download_for_get_all", entity_type="task", project=[project],
                   order_by=["name"], field_mappings=[
                       {"field": "name", "name": "Name"}, {"field": "project.name"},
                       {"field": "hyperparams.Args.lr.value", "name": "lr"},
                       {"field": "status", "name": "Status", "values": [{"key": "created", "value": "Draft"}]}])
    table = server("organization.download_for_get_all", prepare_id=ready["prepare_id"])
    assert b"".join(table.chunks).decode().splitlines() == [
        "Name,project.name,lr,Status", "first,demo/one,0.1,Draft", '"second, with a comma",demo/one,,Draft']
    server.refused(1104, "organization.download_for_get_all", prepare_id="nope")
    server.refused(12, "organization.prepare_download_for_get_all", entity_type="queue", only_fields=["name"])
    assert server.get(first)["tags"] == ["blue"]


def test_a_pipeline_is_run_again_with_other_arguments_and_numbered(server):
    project = server("projects.create", name="demo/.pipelines/night", system_tags=["hidden", "pipeline"])["id"]
    run = server.task("night", project=project, system_tags=["pipeline"], hyperparams={
        "Args": {"n": {"section": "Args", "name": "n", "value": "1", "type": "int"}}})
    started = server("pipelines.start_pipeline", task=run, queue=server.queue,
                     args=[{"name": "n", "value": "5"}, {"name": "new", "value": 7}])
    assert started["enqueued"] is True
    again = server.get(started["pipeline"])
    assert again["name"] == "night #1" and again["status"] == "queued" and again["parent"] == run
    assert again["hyperparams"]["Args"]["n"] == {"section": "Args", "name": "n", "value": "5", "type": "int"}
    assert again["hyperparams"]["Args"]["new"]["value"] == "7"
    third = server("pipelines.start_pipeline", task=started["pipeline"])["pipeline"]
    assert server.get(third)["name"] == "night #2"
    server.refused(102, "pipelines.start_pipeline", task=server.task())
    server.refused(701, "pipelines.start_pipeline", task=run, queue="nope")
    assert len(server("tasks.get_all", project=[project], search_hidden=True)["tasks"]) == 3, "a refused start left one"


def test_runs_of_a_pipeline_go_with_their_steps_and_the_last_one_stays(server):
    project = server("projects.create", name="demo/.pipelines/day", system_tags=["hidden", "pipeline"])["id"]
    old, new = (server.task(f"day #{n}", project=project, system_tags=["pipeline"]) for n in (1, 2))
    step = server.task("step", parent=old)
    answer = server("pipelines.delete_runs", project=project, ids=[old, new, server.task("other")])
    assert [each["id"] for each in answer["succeeded"]] == [old, new]
    assert [each["error"]["codes"] for each in answer["failed"]] == [[400, 102]]
    server.refused(101, "tasks.get_by_id", task=old)
    server.refused(101, "tasks.get_by_id", task=step)
    assert "archived" in server.get(new)["system_tags"]


def test_what_stands_in_projects_for_pages_to_choose_from(server):
    project = server("projects.create", name="demo/choose", tags=["mine"])["id"]
    parent = server.task("the parent", project=project)
    task = server.task("child", project=project, parent=parent, hyperparams={
        "Args": {"lr": {"section": "Args", "name": "lr", "value": "0.1"}}})
    server.task("elsewhere", hyperparams={"Args": {"lr": {"section": "Args", "name": "lr", "value": "0.5"}}})
    server("events.add_batch", [{"type": "training_stats_scalar", "task": task, "metric": "loss", "variant": "train",
                                 "value": 1, "iter": 0}])
    assert server("projects.get_task_parents", projects=[project])["parents"] == [
        {"id": parent, "name": "the parent", "project": {"id": project, "name": "demo/choose"}}]
    assert server("projects.get_task_parents", tasks_state="archived")["parents"] == []
    assert server("projects.get_hyper_parameters", project=project) == {
        "total": 1, "remaining": 0, "parameters": [{"section": "Args", "name": "lr"}]}
    assert server("projects.get_hyperparam_values", section="Args", name="lr")["values"] == ["0.1", "0.5"]
    assert server("projects.get_hyperparam_values", section="Args", name="lr", projects=[project])["total"] == 1
    [curve] = server("projects.get_unique_metric_variants", project=project)["metrics"]
    assert (curve["metric"], curve["variant"]) == ("loss", "train")
    assert list(server.get(task)["last_metrics"]) == [curve["metric_hash"]]
    assert server("projects.get_project_tags")["tags"] == ["mine"]
    assert server("projects.get_user_names", projects=[project]) == {"users": [{"id": "ann", "name": "ann"}]}


def test_a_project_is_merged_into_another_with_what_stands_below_it(server):
    source, target = (server("projects.create", name=name)["id"] for name in ("source", "target"))
    child = server("projects.create", name="source/child")["id"]
    task = server.task(project=source)
    assert server("projects.merge", project=source, destination_project=target) == {
        "moved_entities": 1, "moved_projects": 1}
    assert server.get(task)["project"] == target
    assert server("projects.get_by_id", project=child)["project"]["name"] == "target/child"
    server.refused(401, "projects.get_by_id", project=source)
    server.refused(410, "projects.merge", project=target, destination_project=target)
    server.refused(408, "projects.merge", project=target, destination_project=child)
    server.refused(401, "projects.merge", project=target, destination_project="nope")


def test_pictures_one_after_the_other(server):
    task = server.task()
    server("events.add_batch", [
        {"type": "training_debug_image", "task": task, "metric": metric, "variant": "v", "iter": iteration,
         "url": f"http://f/{metric}{iteration}"} for metric in ("a", "b") for iteration in (1, 2)])

    def url(answer):
        return answer.get("event", {}).get("url")
    found = server("events.get_debug_image_sample", task=task, metric="a", variant="v", navigate_current_metric=False)
    assert url(found) == "http://f/a2" and (found["min_iteration"], found["max_iteration"]) == (1, 2)
    scroll = {"task": task, "scroll_id": found["scroll_id"]}
    assert [url(server("events.next_debug_image_sample", **scroll)) for _ in range(4)] == [
        "http://f/b2", "http://f/a1", "http://f/b1", None]
    assert url(server("events.next_debug_image_sample", **scroll, navigate_earlier=False)) == "http://f/a1"
    assert url(server("events.next_debug_image_sample", **scroll, next_iteration=True, navigate_earlier=False)) \
        == "http://f/a2"
    assert url(server("events.get_debug_image_sample", task=task, metric="b", variant="v", iteration=1)) == "http://f/b1"
    server.refused(1104, "events.next_debug_image_sample", task=task, scroll_id="nope")


def test_plots_of_several_tasks_side_by_side_and_one_after_the_other(server):
    tasks = [server.task(name) for name in ("one", "two")]
    server("events.add_batch", [
        {"type": "plot", "task": task, "metric": "m", "variant": "v", "iter": iteration, "plot_str": "{}"}
        for task in tasks for iteration in (1, 2)])
    found = server("events.get_multi_task_plots", tasks=tasks)
    assert found["returned"] == 2
    assert found["plots"]["m"]["v"][tasks[1]]["2"]["name"] == "two"
    sample = server("events.get_plot_sample", task=tasks[0], metric="m", variant="v")
    assert [event["iter"] for event in sample["events"]] == [2]
    following = server("events.next_plot_sample", task=tasks[0], scroll_id=sample["scroll_id"])
    assert [event["iter"] for event in following["events"]] == [1]
    assert server("events.get_multi_task_metrics", tasks=tasks)["metrics"] == [{"metric": "m", "variants": ["v"]}]
    server("events.add_batch", [{"type": "training_stats_vector", "task": tasks[0], "metric": "h", "variant": "v",
                                 "iter": 3, "values": [1, 2]}])
    assert server("events.vector_metrics_iter_histogram", task=tasks[0], metric="h", variant="v") == {
        "metric": "h", "variant": "v", "vectors": [[1, 2]], "iterations": [3]}


def test_a_log_is_downloaded_as_text_or_json_and_cleared(server):
    task = server.task()
    server("events.add_batch", [{"type": "log", "task": task, "msg": f"line {n}\n", "level": "INFO", "timestamp": n}
                                for n in range(2500)])
    file = server("events.download_task_log", task=task, line_format="{level}: {msg} {nothing} {msg.__class__}")
    lines = b"".join(file.chunks).decode().splitlines()
    assert file.name == f"task_{task}.log" and len(lines) == 2500
    assert lines[2499] == "INFO: line 2499 {nothing} {msg.__class__}"
    text = b"".join(server("events.download_task_log", task=task).chunks).decode()
    assert text.startswith("1970-01-01T00:00:00.000000+00:00 box:0 INFO line 0\n")
    json = b"".join(server("events.download_task_log", task=task, line_type="json").chunks).splitlines()
    assert b'"msg":"line 7"' in json[7]
    server.refused(101, "events.download_task_log", task="nope")
    assert server("events.clear_task_log", task=task, threshold_sec=60) == {"deleted": 2500}
    server.put(task, "published")
    server.refused(110, "events.delete_for_task", task=task)
    assert server("events.delete_for_task", task=task, allow_locked=True) == {"deleted": True}


def test_words_are_searched_in_names_comments_and_scripts_and_the_best_come_first(server):
    plain = server.task("a network", comment="nothing special")
    script = server.task("other", script={"repository": "https://example.org/Network.git", "entry_point": "train.py"})
    none = server.task("none")
    ids = [task["id"] for task in server("tasks.get_all", search_text="network")["tasks"]]
    assert ids == [plain, script]
    best = server("tasks.get_all", search_text="train network", order_by=["@text_score"], only_fields=["id"])["tasks"]
    assert [task["id"] for task in best] == [plain, script]
    assert [task["id"] for task in server("tasks.get_all", search_text='"a network"')["tasks"]] == [plain]
    assert [task["id"] for task in server("tasks.get_all", search_text="-network")["tasks"]] == [none]
    assert server("tasks.get_all", search_text=none)["tasks"][0]["id"] == none
    assert [each["name"] for each in server("projects.get_all", search_text="x")["projects"]] == []
    server.refused(12, "tasks.get_all", search_text=5)


@pytest.mark.parametrize("asked, found", [
    ("alpha-one", True), ("alpha,one", True), ("(alpha", True), ("alpha (one)", True), ("one.py", False),
    ("one-alpha", False), ("lpha-one", False), ("((", False), ("alpha.*", True), ("a.*e", False)])
def test_marks_in_a_searched_word_separate_words(server, asked, found):
    task = server.task("Alpha one")
    assert [each["id"] for each in server("tasks.get_all", search_text=asked)["tasks"]] == [task] * found


def test_a_project_with_a_pipeline_or_a_data_set_says_so_when_it_is_to_go(server):
    project = server("projects.create", name="lab")["id"]
    task = server.task("step", project=project)
    server.refused(402, "projects.delete", project=project)
    server("tasks.edit", task=task, system_tags=["dataset"])
    server.refused(406, "projects.delete", project=project)
    server("tasks.edit", task=task, system_tags=["pipeline"])
    server.refused(413, "projects.delete", project=project)
    server("tasks.archive_many", ids=[task])
    assert server("projects.delete", project=project)["deleted"] == 1
