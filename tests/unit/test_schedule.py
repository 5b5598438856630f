"""Hours and days in which a worker takes tasks."""

import time

import pytest

from agentpipe import errors
from agentpipe.pull import queues, schedule, waiting
from agentpipe.transport import api


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(day, hour, minute=0):
    """A moment of the week of Sunday, 1 November 2026, local time."""
    return time.mktime((2026, 11, 1 + schedule.DAYS.index(day), hour, minute, 0, 0, 0, -1))


@pytest.mark.parametrize(("entry", "inside", "outside"), [
    ("17-20 TUE", [("TUE", 17, 0), ("TUE", 19, 59)], [("TUE", 16, 59), ("TUE", 20, 0), ("WED", 18, 0)]),
    ("17 TUE", [("TUE", 17, 0), ("TUE", 23, 59)], [("WED", 0, 0), ("TUE", 16, 0)]),
    ("8-12,14-18 MON-FRI,SUN", [("SUN", 8, 0), ("WED", 17, 0)], [("WED", 12, 0), ("SAT", 9, 0)]),
    ("0-5 MON", [("MON", 0, 0), ("MON", 4, 59)], [("MON", 5, 0)]),
    ("22-6 MON", [("MON", 22, 0), ("TUE", 5, 59)], [("TUE", 6, 0), ("MON", 5, 0), ("TUE", 22, 0)]),
    ("22-6 sat", [("SAT", 23, 0), ("SUN", 5, 0)], [("SUN", 6, 0), ("FRI", 23, 0)]),
    ("9-10 FRI-MON", [("FRI", 9, 0), ("SAT", 9, 0), ("SUN", 9, 0), ("MON", 9, 0)], [("TUE", 9, 0), ("THU", 9, 0)]),
    ("0-24 SUN-SAT", [("SUN", 0, 0), ("SAT", 23, 59)], []),
])
def test_up_and_down_are_each_others_opposite(entry, inside, outside):
    up, down = schedule.of([entry], []), schedule.of([], [entry])
    for moment in inside:
        assert up.active(at(*moment)) and not down.active(at(*moment)), moment
    for moment in outside:
        assert not up.active(at(*moment)) and down.active(at(*moment)), moment


def test_when_it_changes():
    up = schedule.of(["17-20 TUE"], [])
    assert up.next_change(at("TUE", 16, 59)) == 60
    assert up.next_change(at("TUE", 17, 0)) == 3 * 3600
    assert up.next_change(at("TUE", 20)) == 6 * 86400 + 21 * 3600
    assert schedule.of(["0-24 SUN-SAT"], []).next_change() is None


@pytest.mark.parametrize("entry", [
    "17-20", "TUE 17-20", "25 MON", "x MON", "17- MON", "17-20 TUESDAY", "", "8-9 MON-", "1 MON x"])
def test_what_cannot_be_meant_is_a_mistake(entry, monkeypatch):
    with pytest.raises(errors.Failure) as caught:
        schedule.of([entry], [])
    assert caught.value.exit == errors.USAGE
    if entry:
        monkeypatch.setenv("CLEARML_AGENT__AGENT__DOWNTIME", entry)
        with pytest.raises(errors.Failure) as caught:
            schedule.of([], [])
        assert caught.value.exit == errors.BAD_CONFIG


def test_both_are_refused_and_options_win_over_the_file(monkeypatch, tmp_path):
    assert schedule.of([], []) is None
    conf = tmp_path / "c.conf"
    conf.write_text('agent { uptime: ["9-10 MON", "9-10 TUE"] }\n')
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(conf))
    assert schedule.of([], []).active(at("TUE", 9))
    assert not schedule.of(["8-9 TUE"], []).active(at("TUE", 9))
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOWNTIME", '["1-2 MON"]')
    for options in ([], []), (["1 MON"], ["2 MON"]):
        with pytest.raises(errors.Failure) as caught:
            schedule.of(*options)
        assert caught.value.exit == errors.BAD_CONFIG


class Clock:
    """A schedule that says what it is told."""
    def __init__(self, active):
        self.is_active = active

    def active(self):
        return self.is_active

    def next_change(self):
        return None


def one(transport, hours, worker_says=None):
    """Two queues with a task each; what is pulled, by the queue's name."""
    client = api.connect()
    wanted = queues.Queues(client, ["aaa", "bbb"], create=True, schedule=Clock(hours), worker="box:0")
    if worker_says is not None:
        wanted._api, wanted._has_properties = Administered(client, worker_says), True
    for queue in wanted.ids:
        task = client.call("tasks.create", {"name": "task", "type": "training"})["id"]
        client.call("tasks.enqueue", {"task": task, "queue": queue})
    return client, wanted


class Administered:
    """A paid server: somebody has set this worker's property `force`."""
    embedded = ours = long_polls = False

    def __init__(self, client, value):
        self.client, self.value, self.asked = client, value, 0

    def call(self, endpoint, body):
        if endpoint != "workers.get_runtime_properties":
            return self.client.call(endpoint, body)
        assert body == {"worker": "box:0"}
        self.asked += 1
        if self.value is None:
            raise errors.ApiError(404, 0, "no such endpoint")
        if self.value == "none set":
            return {"runtime_properties": None}
        return {"runtime_properties": [{"key": "other", "value": "off"}, {"key": "force", "value": self.value}]}


def tagged(client, wanted, tags):
    client.call("queues.update", {"queue": wanted.ids[0], "tags": tags})
    wanted._tags = None


@pytest.mark.parametrize(("tag", "property", "hours", "order"), [
    (None, None, True, "ab"), (None, None, False, ""),
    ("force_workers:on", None, False, "a"), ("force_workers:off", None, True, "b"),
    (None, "off", True, ""), (None, "on", False, "ab"), (None, "nonsense", True, "ab"), (None, "none set", True, "ab"),
    ("force_workers:on", "off", False, "a"), ("force_workers:off", "on", False, "b"),
])
def test_tags_beat_the_workers_property_and_that_the_hours(transport, tag, property, hours, order):
    client, wanted = one(transport, hours, property)
    if tag:
        tagged(client, wanted, [tag])
    assert "".join(wanted.names[queue][0] for queue in wanted.in_order()) == order


def test_a_server_without_worker_properties_is_asked_once(transport):
    _, wanted = one(transport, True, worker_says="on")
    wanted._api.value = None
    for _ in range(3):
        assert len(wanted.in_order()) == 2
    assert wanted._api.asked == 1


def test_a_waiting_pull_takes_nothing_until_its_hours_begin(transport, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "0.1")
    monkeypatch.setattr(waiting, "LONGEST", 0.3)
    client, wanted = one(transport, False)
    clock, looked = wanted.schedule, []

    def active():
        looked.append(1)
        return len(looked) > 3
    clock.active = active
    claim, line = queues.next_task(client, "box:0", wanted, wait=True)
    assert line["pull"]["queue_name"] == "aaa"
    assert len(looked) > 3
    claim.end()
