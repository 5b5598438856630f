"""Pages of a task's events: none is lost or doubled between two, and each costs what it holds."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servertools import Server

from agentpipe.server import event_pages, events, shapes

SCALAR, IMAGE = "training_stats_scalar", "training_debug_image"


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def event(kind, number, metric="m", variant="v", iteration=0, **more):
    return {"type": kind, "metric": metric, "variant": variant, "iter": iteration, "timestamp": 1, "value": 1.0,
            "msg": str(number), "number": number, **more}


def report(server, task, found):
    server("events.add_batch", [{"task": task, **each} for each in found])


def scrolled(server, endpoint, field, body):
    """The pages of a scroll up to the first empty one."""
    pages, scroll = [], None
    while True:
        answer = server(endpoint, {**body, "scroll_id": scroll})
        if not answer[field]:
            return pages
        pages.append(answer[field])
        scroll = answer["scroll_id"]


def identity(found):
    return found["type"], found.get("number"), found["msg"]


class Steps:
    """How many steps SQLite takes within the `with` block."""

    def __init__(self, server):
        self._db, self.count = server.store.connection(), 0

    def __enter__(self):
        def step():
            self.count += 1
        self._db.set_progress_handler(step, 1)
        return self

    def __exit__(self, *_):
        self._db.set_progress_handler(None, 0)


EVENTS = st.builds(
    event, st.sampled_from(["log", SCALAR, IMAGE, "plot", "training_stats_vector"]), st.integers(0, 1 << 30),
    st.sampled_from("ab"), st.sampled_from("xy"), st.integers(-2, 3), key=st.sampled_from("kl"),
    url=st.sampled_from(["u", "w"]))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(found=st.lists(EVENTS, min_size=1, max_size=40), size=st.integers(1, 9), order=st.sampled_from(["asc", "desc"]))
def test_a_scroll_gives_every_event_once_and_by_iteration(server, found, size, order):
    task = server.task()
    report(server, task, found)
    whole = server("events.get_task_events", task=task, batch_size=10_000)
    assert whole["total"] == len(whole["events"])
    expected = [identity(each) for each in whole["events"]][::1 if order == "asc" else -1]
    pages = scrolled(server, "events.get_task_events", "events", {"task": task, "batch_size": size, "order": order})
    assert [identity(each) for page in pages for each in page] == expected
    iterations = [0 if each["type"] == "log" else each["iter"] for each in whole["events"]]
    assert iterations == sorted(iterations)
    stored = {(each["metric"], each["variant"], each["iter"]) for each in found if each["type"] == SCALAR}
    assert {(each["metric"], each["variant"], each["iter"]) for each in whole["events"]
            if each["type"] == SCALAR} == stored


def test_lines_of_one_time_come_page_by_page(server):
    task = server.task()
    report(server, task, [event("log", number) for number in range(25)])
    pages = scrolled(server, "events.get_task_events", "events",
                     {"task": task, "event_type": "log", "batch_size": 10})
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [each["number"] for page in pages for each in page] == list(range(25))


def test_of_a_log_only_the_lines_of_the_metrics_that_are_asked_for_are_read(server, monkeypatch):
    task, read = server.task(), []
    report(server, task, [event("log", number, metric=metric) for number, metric in enumerate(["", "a", "", "b"])])
    monkeypatch.setattr(event_pages, "log_event", lambda row: read.append(row) or events.log_event(row))
    for metrics, found in ((["a", "c"], [1]), ([""], [0, 2]), ([{"metric": "a", "variants": ["x"]}], [])):
        read.clear()
        answer = server("events.get_task_events", task=task, metrics=metrics)
        assert [each["number"] for each in answer["events"]] == found and len(read) < 3
    assert server("events.get_task_events", task=task, metrics=["a", "b", "c"])["total"] == 2


def test_a_point_without_a_number_says_so(server):
    """Task.get_all_reported_scalars takes `value` of each."""
    task = server.task()
    report(server, task, [event(SCALAR, number, iteration=number, value=value)
                          for number, value in enumerate([float("nan"), 10**400, 1])])
    assert [each["value"] for each in server("events.get_task_events", task=task)["events"]] == [None, None, 1]


def test_a_page_of_large_events_ends_early_and_the_next_goes_on(server, monkeypatch):
    monkeypatch.setattr(event_pages, "MOST_BYTES", 1000)
    task = server.task()
    report(server, task, [event("plot", number, iteration=number, plot_str="x" * 700) for number in range(5)])
    pages = scrolled(server, "events.get_task_events", "events", {"task": task})
    assert [[each["iter"] for each in page] for page in pages] == [[0, 1], [2, 3], [4]]


def test_lines_of_one_time_that_do_not_fit_into_an_answer_are_cut_and_it_says_so(server, monkeypatch):
    monkeypatch.setattr(events, "MOST_BYTES", 2000)
    task = server.task()
    report(server, task, [event("log", number, msg="x" * 100) for number in range(100)])
    answer = server("events.get_task_log", task=task, batch_size=3)
    assert 3 < answer["returned"] < 30 and answer["more"] and answer["total"] == 100


def test_what_comes_between_two_pages_moves_none_of_the_others(server):
    task = server.task()
    report(server, task, [event(IMAGE, number, iteration=number, url=f"u{number}") for number in range(6)])
    ask = {"metrics": [{"task": task}], "iters": 2}
    answer = server("events.debug_images", ask)
    assert [each["iter"] for each in answer["metrics"][0]["iterations"]] == [5, 4]
    report(server, task, [event(IMAGE, 6, iteration=6, url="u6")])
    answer = server("events.debug_images", {**ask, "scroll_id": answer["scroll_id"]})
    assert [each["iter"] for each in answer["metrics"][0]["iterations"]] == [3, 2]
    back = {**ask, "scroll_id": answer["scroll_id"], "navigate_earlier": False}
    assert [[each["iter"] for each in server("events.debug_images", back)["metrics"][0]["iterations"]]
            for _ in range(3)] == [[5, 4], [6], []]


def test_a_picture_that_was_written_over_is_hidden_whatever_came_first(server):
    task = server.task()
    report(server, task, [event(IMAGE, 9, iteration=9, url="a")])
    report(server, task, [event(IMAGE, 1, iteration=1, url="a"), event(IMAGE, 2, iteration=2, url="b")])
    shown = server("events.debug_images", metrics=[{"task": task}], iters=9)["metrics"][0]["iterations"]
    assert [each["iter"] for each in shown] == [9, 2]
    found = server("events.get_debug_image_sample", task=task, metric="m", variant="v")
    assert (found["min_iteration"], found["max_iteration"]) == (2, 9)
    assert server("events.get_task_events", task=task, event_type=IMAGE)["total"] == 3


def test_plots_that_are_large_together_come_in_several_answers(server, monkeypatch):
    monkeypatch.setattr(shapes, "MOST_BYTES", 1000)
    tasks = [server.task(name) for name in ("one", "two")]
    for task in tasks:
        report(server, task, [event("plot", number, variant=variant, iteration=number, plot_str="x" * 600)
                              for variant in "xy" for number in range(3)])
    pages = scrolled(server, "events.get_task_plots", "plots", {"task": tasks[0], "iters": 2})
    assert [[(each["variant"], each["iter"]) for each in page] for page in pages] == [
        [("x", 2), ("x", 1)], [("y", 2), ("y", 1)]]
    assert server("events.get_task_plots", task=tasks[0], iters=2)["total"] == 4
    pages = scrolled(server, "events.get_multi_task_plots", "plots", {"tasks": tasks})
    assert [(variant, name) for page in pages for variant, of in page["m"].items() for name in of] == [
        ("x", tasks[0]), ("y", tasks[0]), ("x", tasks[1]), ("y", tasks[1])]


def test_plots_come_all_at_once_for_who_does_not_go_on(server, monkeypatch):
    monkeypatch.setattr(shapes, "MOST_BYTES", 1000)
    task = server.task()
    report(server, task, [event("plot", number, iteration=number, plot_str="x" * 600) for number in range(5)])
    asked = {"task": task, "iters": 9, "no_scroll": True}  # Task.get_reported_plots
    assert server("events.get_task_plots", asked)["returned"] == 5
    monkeypatch.setattr(shapes, "MOST_BYTES_AT_ONCE", 2000)
    found = server("events.get_task_plots", asked)
    assert found["returned"] == 3 and found["total"] == 5


def test_points_of_a_metric_page_by_page(server):
    task = server.task()
    report(server, task, [event(SCALAR, 0, variant=variant, iteration=number) for variant in "xy"
                          for number in range(5)])
    body = {"task": task, "metric": {"metric": "m"}, "batch_size": 3}
    pages = scrolled(server, "events.scalar_metrics_iter_raw", "variants", body)
    assert [{name: curve["iter"] for name, curve in page.items()} for page in pages] == [
        {"x": [0, 1, 2]}, {"x": [3, 4], "y": [0]}, {"y": [1, 2, 3]}, {"y": [4]}]
    assert server("events.scalar_metrics_iter_raw", body)["total"] == 10


@pytest.mark.parametrize(("endpoint", "body"), [
    ("events.get_task_events", {"count_total": False}), ("events.get_task_events", {"count_total": False,
                                                                                    "event_type": "log"}),
    ("events.get_task_events", {"count_total": False, "metrics": ["m"], "order": "desc"}),
    ("events.debug_images", {"iters": 2}), ("events.get_task_plots", {}),
    ("events.get_debug_image_sample", {"metric": "m", "variant": "v"}),
    ("events.scalar_metrics_iter_raw", {"metric": {"metric": "m"}, "count_total": False}),
    ("events.get_task_log", {"after": 0}), ("events.get_task_metrics", {}), ("events.get_multi_task_metrics", {})])
def test_a_page_costs_no_more_when_there_is_much_more(server, endpoint, body):
    costs = []
    for count in (50, 1000):
        task = server.task()
        report(server, task, [event(kind, number, iteration=number, url=f"u{number % 10}") for number in range(count)
                              for kind in ("log", SCALAR, IMAGE, "plot")])
        ask = {"batch_size": 10, **body, "task": task, "tasks": [task]}
        if endpoint == "events.debug_images":
            ask["metrics"] = [{"task": task}]
        with Steps(server) as steps:
            server(endpoint, ask)
        costs.append(steps.count)
    assert costs[1] < 1.2 * costs[0], costs


def test_the_last_page_costs_what_the_first_did(server):
    task = server.task()
    report(server, task, [event(kind, number, iteration=number) for number in range(500) for kind in ("log", SCALAR)])
    costs, scroll = [], None
    for _ in range(90):
        with Steps(server) as steps:
            answer = server("events.get_task_events", task=task, batch_size=10, scroll_id=scroll, count_total=False)
        scroll = answer["scroll_id"]
        costs.append(steps.count)
    assert answer["returned"] == 10 and max(costs) < 2 * min(costs), costs
