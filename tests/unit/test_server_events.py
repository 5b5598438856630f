"""What a task reports: its log in order and once, its curves, and what the task remembers of them."""

from hashlib import md5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servertools import Server

from agentpipe.errors import ApiError
from agentpipe.server import events, log_files


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


@pytest.fixture
def task(server):
    return server.task()


def line(task, text, timestamp=None, **more):
    at = {"timestamp": timestamp} if timestamp else {}
    return {"type": "log", "task": task, "msg": text, **at, **more}


def scalar(task, iteration, value, metric="loss", variant="train", **more):
    return {"type": "training_stats_scalar", "task": task, "metric": metric, "variant": variant,
            "iter": iteration, "value": value, **more}


def texts(answer):
    return [event["msg"] for event in answer["events"]]


class TestLog:
    def test_newest_first_unless_asked_otherwise(self, server, task):
        server("events.add_batch", [line(task, str(number), 100 + number) for number in range(5)])
        assert texts(server("events.get_task_log", task=task)) == ["4", "3", "2", "1", "0"]
        later = server("events.get_task_log", task=task, navigate_earlier=False)
        assert texts(later) == ["0", "1", "2", "3", "4"]
        tail = server("events.get_task_log", task=task, order="asc", batch_size=2)
        assert (texts(tail), tail["returned"], tail["total"]) == (["3", "4"], 2, 5)

    def test_equal_times_keep_the_order_of_arrival_and_are_never_split(self, server, task):
        for text in "abcdef":
            server("events.add_batch", [line(task, text, 200 if text in "bcde" else ord(text))])
        page = server("events.get_task_log", task=task, navigate_earlier=False, batch_size=3)
        assert texts(page) == ["a", "f", "b", "c", "d", "e"]
        page = server("events.get_task_log", task=task, order="asc", batch_size=1)
        assert texts(page) == ["b", "c", "d", "e"]
        older = server("events.get_task_log", task=task, order="asc", from_timestamp=200)
        assert texts(older) == ["a", "f"]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(lines=st.lists(st.sampled_from([
        {}, {"msg": "b\ud800"}, {"msg": 7}, {"msg": None}, {"timestamp": 1}, {"timestamp": "3"}, {"timestamp": True},
        {"ts": 5}, {"iter": 1}, {"iter": "2", "metric": "loss"}, {"level": "error"}, {"type": "plot"}, {"type": "no"},
        {"end": "4"}, {"end": "x"}, {"end": 1 << 70}, {"claim": "one", "stream": "log", "offset": 0},
        {"claim": "one", "stream": "log", "offset": "1"}, {"claim": "one", "stream": "log", "offset": []}]),
        min_size=1, max_size=12))
    def test_a_batch_stores_what_its_events_would_have_one_by_one(self, server, lines):
        events = [{"type": "log", "msg": "as it was", "timestamp": 9, **each} for each in lines]
        found = []
        for batches in ([events], [[each] for each in events]):
            task, added = server.task(), 0
            for batch in batches:
                try:
                    answer = server("events.add_batch", [{**each, "task": task} for each in batch])
                except ApiError:
                    continue
                added += answer["added"]
            log = server("events.get_task_log", task=task, order="asc")["events"]
            given = [{key: value for key, value in each.items() if key != "task"} for each in log]
            # what came without a time has that of its arrival
            for each in given:
                each["timestamp"] = min(each["timestamp"], 100)
            iteration = server("tasks.get_by_id", task=task)["task"].get("last_iteration")
            found.append((added, given, iteration))
        assert found[0] == found[1]

    def test_many_lines_of_one_batch_are_stored_in_their_order(self, server, task):
        server("events.add_batch", [line(task, str(number), 5, level="info") for number in range(150)])
        assert texts(server("events.get_task_log", task=task, order="asc")) == [str(number) for number in range(150)]
        stats = server("tasks.get_by_id", task=task)["task"]["metric_stats"]
        assert [each["event_stats_by_type"] for each in stats.values()] == [{"log": {"last_update": 5}}]

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(times=st.lists(st.integers(1, 6), max_size=25), size=st.integers(1, 7), earlier=st.booleans())
    def test_paging_by_time_gives_every_event_once_and_in_order(self, server, times, size, earlier):
        task = server.task()
        events = [line(task, f"{time} {number}", time) for number, time in enumerate(times)]
        if events:
            server("events.add_batch", events)
        found, start = [], 0
        while True:
            page = server("events.get_task_log", task=task, batch_size=size, navigate_earlier=earlier,
                          from_timestamp=start)
            if not page["events"]:
                break
            found += texts(page)
            start = page["events"][-1]["timestamp"]
        in_order = sorted((time, number) for number, time in enumerate(times))
        expected = [f"{time} {number}" for time, number in in_order]
        assert found == (expected[::-1] if earlier else expected)

    def test_a_follower_misses_nothing_whatever_the_times(self, server, task):
        found, after = [], 0
        for number, time in enumerate([5, 5, 3, 5, 1]):
            server("events.add_batch", [line(task, str(number), time)])
            page = server("events.get_task_log", task=task, after=after)
            found += texts(page)
            after = page["last"]
        assert found == ["0", "1", "2", "3", "4"]
        assert server("events.get_task_log", task=task, after=after)["last"] == after

    def test_what_was_read_once_is_stored_once(self, server, task):
        batch = [line(task, "one\n", claim="c", stream="log", offset=0, end=4),
                 line(task, "set up\n", claim="c", stream="setup", offset=0, end=7),
                 line(task, "two\n", claim="c", stream="log", offset=4, end=8)]
        for _ in range(2):
            assert server("events.add_batch", batch) == {"added": 3, "errors": 0, "errors_info": {}}
        found = server("events.get_task_log", task=task, navigate_earlier=False)
        assert sorted(texts(found)) == ["one\n", "set up\n", "two\n"]
        assert found["total"] == 3
        first = found["events"][0]
        assert (first["claim"], first["stream"], first["offset"], first["end"]) == ("c", "log", 0, 4)
        answer = server("events.get_log_position", task=task, claim="c")
        assert answer == {"positions": {"log": 8, "setup": 7}}
        assert server("events.get_log_position", task=task, claim="other") == {"positions": {}}

    def test_what_is_cut_elsewhere_than_what_is_stored_is_refused_whole(self, server, task):
        server("events.add_batch", [line(task, "one\n", claim="c", stream="log", offset=0, end=4)])
        more = [line(task, "two\n", claim="c", stream="log", offset=4, end=8),
                line(task, "one\ntwo\n3\n", claim="c", stream="log", offset=0, end=10)]
        assert "position=8" in server.refused(139, "events.add_batch", more)
        assert texts(server("events.get_task_log", task=task)) == ["one\n"]

    def test_what_is_stored_in_longer_pieces_is_stored_once(self, server, task):
        server("events.add_batch", [line(task, "one\ntwo\n", claim="c", stream="log", offset=0, end=8)])
        late = [line(task, "one\n", claim="c", stream="log", offset=0, end=4),
                line(task, "two\n", claim="c", stream="log", offset=4, end=8)]
        assert server("events.add_batch", late)["added"] == 2
        assert texts(server("events.get_task_log", task=task)) == ["one\ntwo\n"]

    def test_a_log_that_is_cleared_goes_on_where_it_was(self, server, task):
        for offset in (0, 4):
            server("events.add_batch", [line(task, "one\n", claim="c", stream="log", offset=offset, end=offset + 4)])
        assert server("events.clear_task_log", task=task) == {"deleted": 2}
        assert texts(server("events.get_task_log", task=task)) == [""]
        assert server("events.get_log_position", task=task, claim="c") == {"positions": {"log": 8}}
        assert server("events.clear_task_log", task=task) == {"deleted": 0}

    def test_the_same_bytes_of_another_claim_are_another_event(self, server, task):
        for claim in ("c", "d"):
            server("events.add_batch", [line(task, "x", claim=claim, stream="log", offset=0, end=1)])
        assert server("events.get_task_log", task=task)["total"] == 2

    def test_logs_without_a_position_never_overwrite(self, server, task):
        for _ in range(2):
            server("events.add_batch", [line(task, "same", 7)])
        assert texts(server("events.get_task_log", task=task)) == ["same", "same"]

    def test_defaults_and_unknown_keys(self, server, task):
        server("events.add_batch", [line(task, "é\ud800\n", level="DEBUG", mine={"a": 1})])
        found = server("events.get_task_log", task=task)["events"][0]
        assert (found["msg"], found["level"], found["mine"]) == ("é\ud800\n", "DEBUG", {"a": 1})
        assert (found["worker"], found["metric"], found["variant"]) == ("box:0", "", "")
        assert found["timestamp"] > 1_700_000_000_000

    def test_a_lone_event_is_a_batch_of_one(self, server, task):
        assert server("events.add_batch", line(task, "x"))["added"] == 1

    def test_an_unknown_task_has_no_log(self, server):
        server.refused(101, "events.get_task_log", task="nobody")

    def test_a_long_log_comes_back_byte_for_byte(self, server, task):
        whole = "".join(f"line {number} of a long run ▒\n" for number in range(20_000))
        size = 64 << 10
        chunks = [whole[start:start + size] for start in range(0, len(whole), size)]
        offset = 0
        for chunk in chunks:
            end = offset + len(chunk.encode())
            server("events.add_batch", [line(task, chunk, claim="c", stream="log", offset=offset, end=end)])
            offset = end
        assert "".join(texts(server("events.get_task_log", task=task, navigate_earlier=False))) == whole


class TestBatch:
    def test_part_may_fail(self, server, task):
        answer = server("events.add_batch", [
            line(task, "good"), {"type": "noise", "task": task}, {"task": task}, {"type": "log"},
            line("nobody", "bad"), line("nobody", "bad"), 7])
        assert answer["added"] == 1
        assert answer["errors"] == 6
        assert answer["errors_info"] == {
            "Invalid event type noise": 1, "Event must have a 'type' field": 2,
            "Event must have a 'task' field": 1, "Invalid task id nobody": 2}

    def test_nothing_added_and_nothing_given_are_errors(self, server):
        assert "Invalid task id nobody" in server.refused(131, "events.add_batch", [line("nobody", "x")])
        server.refused(17, "events.add_batch", [])

    def test_a_published_task_takes_events_only_with_allow_locked(self, server, task):
        server.put(task, "published")
        server.refused(131, "events.add_batch", [line(task, "x")])
        assert server("events.add_batch", [line(task, "x", allow_locked=True)])["added"] == 1

    @pytest.mark.parametrize("status", ["created", "stopped", "completed", "failed"])
    def test_other_tasks_take_them_and_keep_their_status(self, server, task, status):
        server.put(task, status)
        assert server("events.add_batch", [line(task, "x")])["added"] == 1
        assert server.get(task)["status"] == status

    def test_a_broken_number_fails_its_event_only(self, server, task):
        answer = server("events.add_batch", [line(task, "x", timestamp="soon"), scalar(task, 1 << 70, 1),
                                             line(task, "y")])
        assert (answer["added"], answer["errors"]) == (1, 2)

    def test_a_running_task_shows_life(self, server, task):
        server("tasks.started", task=task)
        server("events.add_batch", [line(task, "x", 1234)])
        found = server.get(task)
        assert found["active_duration"] == 0
        assert found["metric_stats"] == {md5(b"").hexdigest(): {
            "metric": "", "event_stats_by_type": {"log": {"last_update": 1234}}}}

    def test_the_last_iteration_only_grows_and_the_machine_does_not_count(self, server, task):
        server("events.add_batch", [scalar(task, 5, 1), scalar(task, 90, 1, metric=":monitor:machine")])
        assert server.get(task)["last_iteration"] == 5
        server("events.add_batch", [scalar(task, 3, 1)])
        assert server.get(task)["last_iteration"] == 5


class TestScalars:
    def test_the_same_point_is_overwritten(self, server, task):
        server("events.add_batch", [scalar(task, 1, 10), scalar(task, 2, 20)])
        server("events.add_batch", [scalar(task, 1, 11)])
        assert server("events.scalar_metrics_iter_histogram", task=task) == {
            "loss": {"train": {"name": "train", "x": [1, 2], "y": [11.0, 20.0]}}}

    def test_many_points_become_means_over_buckets(self, server, task):
        server("events.add_batch", [scalar(task, number, number) for number in range(100)])
        curve = server("events.scalar_metrics_iter_histogram", task=task, samples=10)["loss"]["train"]
        assert curve["x"] == list(range(0, 100, 10))
        assert curve["y"] == [4.5 + 10 * number for number in range(10)]
        server.refused(12, "events.scalar_metrics_iter_histogram", task=task, samples=0)

    def test_names_are_sorted_and_may_be_picked(self, server, task):
        server("events.add_batch", [scalar(task, 1, 1, metric=metric, variant=variant)
                                    for metric in "ba" for variant in "dc"])
        assert server("events.get_scalar_metrics_and_variants", task=task) == {
            "metrics": {"a": ["c", "d"], "b": ["c", "d"]}}
        found = server("events.scalar_metrics_iter_histogram", task=task,
                       metrics=[{"metric": "b", "variants": ["d"]}])
        assert {metric: list(variants) for metric, variants in found.items()} == {"b": ["d"]}

    def test_by_time(self, server, task):
        server("events.add_batch", [scalar(task, 9, 1, timestamp=2000), scalar(task, 8, 2, timestamp=1000)])
        curve = server("events.scalar_metrics_iter_histogram", task=task, key="timestamp")["loss"]["train"]
        assert (curve["x"], curve["y"]) == ([1000, 2000], [2.0, 1.0])
        curve = server("events.scalar_metrics_iter_histogram", task=task, key="iso_time")["loss"]["train"]
        assert curve["x"][0] == "1970-01-01T00:00:01.000000+00:00"

    def test_a_single_value_is_no_curve_but_remembered(self, server, task):
        server("events.add_batch", [scalar(task, -(1 << 31), 0.9, metric="Summary", variant="accuracy")])
        assert server("events.scalar_metrics_iter_histogram", task=task) == {}
        found = server.get(task)
        assert found["unique_metrics"] == ["Summary/accuracy"]
        assert found["last_iteration"] == 0

    def test_what_a_task_remembers_of_a_curve(self, server, task):
        def remembered():
            return server.get(task)["last_metrics"][md5(b"loss").hexdigest()][md5(b"train").hexdigest()]

        server("events.add_batch", [scalar(task, 2, 3.0), scalar(task, 1, 5.0)])
        assert remembered() == {
            "metric": "loss", "variant": "train", "value": 3.0, "min_value": 3.0, "min_value_iteration": 2,
            "max_value": 5.0, "max_value_iteration": 1, "first_value": 5.0, "first_value_iteration": 1,
            "count": 2, "mean_value": 4.0}
        other = scalar(task, 0, 1.0, x_axis_label="epoch", variant="x")
        server("events.add_batch", [scalar(task, 0, 3.0), other])
        found = remembered()
        assert (found["value"], found["min_value_iteration"], found["count"]) == (3.0, 2, 3)
        assert found["first_value"] == 5.0
        assert found["mean_value"] == 3.67

    def test_no_number_is_no_point(self, server, task):
        server("events.add_batch", [scalar(task, number, value)
                                    for number, value in enumerate([float("nan"), "high", None, 1])])
        assert server("events.scalar_metrics_iter_histogram", task=task)["loss"]["train"]["x"] == [3]

    def test_a_name_that_is_no_utf8_is_stored_without_what_is_not(self, server, task):
        """One such name, of a file that a script reports on, and the whole batch was refused."""
        odd = "caf\udce9"
        picture = {"type": "training_debug_image", "task": task, "metric": odd, "variant": odd, "key": odd, "url": "u"}
        assert server("events.add_batch", [scalar(task, 1, 1.0, metric=odd), picture])["added"] == 2
        assert list(server("events.scalar_metrics_iter_histogram", task=task)) == ["caf?"]
        assert server("events.get_debug_image_sample", task=task, metric="caf?", variant="caf?")["event"]["url"] == "u"

    def test_new_curves_beyond_the_limit_are_not_remembered(self, server, task):
        server("events.add_batch", [scalar(task, 1, 1, metric=f"m{number}") for number in range(2010)])
        assert len(server.get(task)["last_metrics"]) == 2000
        server("events.add_batch", [scalar(task, 2, 7, metric="m0")])
        known = server.get(task)["last_metrics"][md5(b"m0").hexdigest()]
        assert known[md5(b"train").hexdigest()]["value"] == 7


@pytest.mark.parametrize("order", [{"after": 0}, {"navigate_earlier": True}, {"navigate_earlier": False}])
def test_an_answer_has_no_more_events_and_bytes_than_fit_the_memory(server, task, monkeypatch, order):
    server("events.add_batch", [line(task, f"{number} " * 100, 1000 + number) for number in range(30)])
    asked = {"task": task, "batch_size": 10**9, **order}
    found = server("events.get_task_log", asked)
    assert found["returned"] == 30 and found.get("total") == (None if "after" in order else 30)
    monkeypatch.setattr(events, "MOST", 10)
    assert server("events.get_task_log", asked)["returned"] == 10
    monkeypatch.setattr(events, "MOST_BYTES", 1000)
    found = server("events.get_task_log", asked)
    assert 1 <= found["returned"] < 10 and found["more"]
    monkeypatch.setattr(events, "MOST_BYTES", 1)
    assert server("events.get_task_log", asked)["returned"] == 1


def test_a_log_is_downloaded_in_pieces_of_bytes_not_of_events(server, task, monkeypatch):
    monkeypatch.setattr(log_files, "AT_ONCE", 1000)
    server("events.add_batch", [line(task, f"{number:03} " + "x" * 600, 7) for number in range(9)])
    pieces = list(server("events.download_task_log", task=task, line_format="{msg}").chunks)
    assert [piece.count(b"\n") for piece in pieces] == [2, 2, 2, 2, 1]
    assert [row[:3] for row in b"".join(pieces).decode().splitlines()] == [f"{number:03}" for number in range(9)]
