"""events.*: plots, pictures, single values and events of all kinds, as the clearml package reads them back."""

import pytest
from servertools import Server


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


@pytest.fixture
def task(server):
    return server.task()


def report(server, task, kind, metric="m", variant="v", iteration=0, **more):
    server("events.add_batch", [{"type": kind, "task": task, "metric": metric, "variant": variant, "iter": iteration,
                                 **more}])


def test_the_newest_plots_of_each_metric_and_variant(server, task):
    for iteration in range(3):
        report(server, task, "plot", "b", "x", iteration, plot_str=f"b{iteration}")
        report(server, task, "plot", "a", "x", iteration, plot_str=f"a{iteration}")
    report(server, task, "plot", "a", "y", 0, plot_str="y0")
    answer = server("events.get_task_plots", task=task)
    assert [plot["plot_str"] for plot in answer["plots"]] == ["a2", "y0", "b2"]
    assert answer["returned"] == answer["total"] == 3 and answer["scroll_id"]
    answer = server("events.get_task_plots", task=task, iters=2, metrics=[{"metric": "a", "variants": ["x"]}])
    assert [plot["plot_str"] for plot in answer["plots"]] == ["a2", "a1"]
    server.refused(101, "events.get_task_plots", task="nope")


def test_pictures_by_iteration_and_back_with_the_scroll(server, task):
    for iteration in range(4):
        report(server, task, "training_debug_image", "m", "v", iteration, url=f"http://files/{iteration}", key="k")
    report(server, task, "training_debug_image", "m", "none", 9, key="k")
    ask = {"metrics": [{"task": task, "metric": "m"}], "iters": 2}
    answer = server("events.debug_images", ask)
    [found] = answer["metrics"]
    assert found["task"] == task and [group["iter"] for group in found["iterations"]] == [3, 2]
    assert found["iterations"][0]["events"][0]["url"] == "http://files/3"
    answer = server("events.debug_images", {**ask, "scroll_id": answer["scroll_id"]})
    assert [group["iter"] for group in answer["metrics"][0]["iterations"]] == [1, 0]
    answer = server("events.debug_images", {**ask, "scroll_id": answer["scroll_id"]})
    assert answer["metrics"][0]["iterations"] == []
    server.refused(1104, "events.debug_images", {**ask, "scroll_id": "old"})


def test_a_url_that_is_used_again_is_shown_once(server, task):
    for iteration in (1, 2, 3):
        report(server, task, "training_debug_image", iteration=iteration, url=f"http://files/{iteration % 2}", key="k")
    found = server("events.debug_images", metrics=[{"task": task}], iters=5)["metrics"][0]["iterations"]
    assert [group["iter"] for group in found] == [3, 2]


def test_single_values_stand_apart_from_curves(server, task):
    report(server, task, "training_stats_scalar", "Summary", "accuracy", -(1 << 31), value=0.9)
    report(server, task, "training_stats_scalar", "loss", "train", 0, value=1)
    [found] = server("events.get_task_single_value_metrics", tasks=[task, server.task("other")])["tasks"]
    assert (found["task"], found["task_name"]) == (task, "train")
    assert [(value["variant"], value["value"]) for value in found["values"]] == [("accuracy", 0.9)]
    assert list(server("events.scalar_metrics_iter_histogram", task=task)) == ["loss"]
    assert server("events.get_task_metrics", tasks=[task])["metrics"] == [{"task": task, "metrics": ["loss"]}]


def test_all_events_of_a_task_page_by_page(server, task):
    for iteration in range(5):
        report(server, task, "training_stats_scalar", iteration=iteration, value=iteration)
    report(server, task, "plot", iteration=9, plot_str="{}")
    seen, scroll = [], None
    while True:
        answer = server("events.get_task_events", task=task, batch_size=2, scroll_id=scroll)
        if not answer["events"]:
            break
        assert answer["total"] == 6
        seen += [(event["type"], event["iter"]) for event in answer["events"]]
        scroll = answer["scroll_id"]
    assert seen == [*(("training_stats_scalar", iteration) for iteration in range(5)), ("plot", 9)]
    only = server("events.get_task_events", task=task, event_type="plot")
    assert only["returned"] == 1


def test_curves_of_several_tasks_side_by_side_and_raw(server, task):
    other = server.task("other")
    for each in (task, other):
        report(server, each, "training_stats_scalar", "loss", "train", 1, value=2)
    found = server("events.multi_task_scalar_metrics_iter_histogram", tasks=[task, other])["metrics"]["loss"]["train"]
    assert {id: curve["name"] for id, curve in found.items()} == {task: "train", other: "other"}
    raw = server("events.scalar_metrics_iter_raw", task=task, metric={"metric": "loss"}, count_total=True)
    assert raw["variants"]["train"]["iter"] == [1] and raw["variants"]["train"]["y"] == [2] and raw["total"] == 1
    latest = server("events.get_task_latest_scalar_values", task=task)
    assert latest["metrics"][0]["variants"][0]["last_value"] == 2 and latest["last_iter"] == 1


def test_one_event_by_itself(server, task):
    server("events.add", type="log", task=task, msg="one line")
    assert server("events.get_task_log", task=task)["events"][0]["msg"] == "one line"
