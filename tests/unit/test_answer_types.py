"""A server that answers with wrong types, or leaves something out: its fault, and said so, whichever command asks."""

import json
import os
import types

import pytest

from agentpipe import errors
from agentpipe.claim import claims
from agentpipe.cmds import agent_pull, agent_status, agent_task
from agentpipe.pull import queues, recovery
from agentpipe.report import reporter
from agentpipe.transport import answer_types, api, http_api

HOST = "http://odd:8008"
MISSING = object()
STORY = {
    "list": lambda _: agent_task.GROUP.run(["list"]),
    "show": lambda _: agent_task.GROUP.run(["show", "ran"]),
    "log": lambda _: agent_task.GROUP.run(["log", "ran"]),
    "plot": lambda _: agent_task.GROUP.run(["plot", "ran"]),
    "why": lambda _: agent_task.GROUP.run(["why", "waits"]),
    "diff": lambda _: agent_task.GROUP.run(["diff", "ran", "waits"]),
    "move": lambda _: agent_task.GROUP.run(["move", "--front", "waits"]),
    "status": lambda _: agent_status.show({"interval": None, "json": False, "once": True}),
    "queues": lambda client: queues.Queues(client, ["gpu"], worker="w").in_order(),
}


class Odd(http_api.HttpApi):
    """A client over HTTP of a store in this process; `odd` is (endpoint, path, value) of what is wrong there."""

    def __init__(self, store, ours=False):
        said = {"agentpipe_server": store.server_id} if ours else {}
        super().__init__(HOST, parts=(types.SimpleNamespace(host=HOST), types.SimpleNamespace(payload=lambda: said)))
        self.store, self.odd, self.seen = store, None, {}

    def once(self, patience=0):
        return self

    def _call(self, endpoint, body, kind):
        answer = json.loads(json.dumps(self.store.call(endpoint, json.loads(body))))
        self.seen |= dict.fromkeys((endpoint, path) for path in places(answer))
        if self.odd and self.odd[0] == endpoint:
            change(answer, *self.odd[1:])
        return answer


def places(value, at=()):
    """All places in an answer; of a list its first item stands for all."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*at, key)
        yield from places(item, (*at, key))


def change(answer, path, value):
    """Put another value there, if there is such a place."""
    *above, last = path
    try:
        for key in above:
            answer = answer[key]
        answer[last]
    except (LookupError, TypeError):
        return
    if value is MISSING:
        del answer[last]
    else:
        answer[last] = value


@pytest.fixture
def store():
    """Of a task that ran and reported, and one that waits."""
    found = api.connect()
    queue = found.call("queues.create", {"name": "gpu"})["id"]
    ran, waits = (
        found.call(
            "tasks.create", {"name": name, "type": "training", "tags": ["t"], "script": {"entry_point": "t.py"}}
        )["id"]
        for name in ("ran", "waits")
    )
    found.call("tasks.started", {"task": ran})
    found.call(
        "events.add_batch",
        [
            {"type": "log", "task": ran, "msg": "hello\n"},
            *(
                {
                    "type": "training_stats_scalar",
                    "task": ran,
                    "metric": "loss",
                    "variant": "v",
                    "iter": number,
                    "value": value,
                }
                for number, value in enumerate([2.0, 1.0])
            ),
        ],
    )
    found.call(
        "workers.status_report",
        {"worker": "w", "timestamp": 1, "task": ran, "queues": [queue], "machine_stats": {"cpu_usage": [1.0]}},
    )
    found.call("tasks.enqueue", {"task": waits, "queue": queue})
    return found


@pytest.mark.parametrize(("command", "ours"), [*((name, False) for name in STORY), ("status", True), ("log", True)])
def test_nothing_odd_in_an_answer_is_taken_for_a_bug_of_ours(store, monkeypatch, command, ours):
    client = Odd(store, ours)
    monkeypatch.setattr(api, "connect", lambda *_, **__: client)
    STORY[command](client)
    monkeypatch.setenv("AGENT_DEBUG", "1")  # a bug comes through
    for endpoint, path in list(client.seen):
        for value in ([7], MISSING):
            if value is MISSING and (ours or path[-1] == "last"):
                continue  # only other servers may leave something out
            client.odd = endpoint, path, value
            try:
                STORY[command](client)
            except errors.Failure:
                pass


def test_a_real_server_answers_so():
    checked = set()
    with open(os.path.join(os.path.dirname(__file__), "data", "api_trace.ndjson"), encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            answer_types.check(HOST, line["endpoint"], line["request"], line["data"])
            checked.add(line["endpoint"])
    assert checked >= {"queues.get_all", "tasks.get_all", "tasks.get_by_id", "queues.get_next_task", "tasks.dequeue"}


def test_a_time_may_have_a_fraction_and_must_be_there():
    def check(value):
        answer_types.check(HOST, "events.get_task_log", {}, {"events": [{"timestamp": value}]})
    check(1.5)
    with pytest.raises(errors.OddAnswer, match=r"events\[0\].timestamp is not there, and should be a number"):
        check(None)


@pytest.mark.parametrize(
    ("endpoint", "path", "value", "said"),
    [
        ("tasks.get_all", ("tasks", 0, "status"), 5, "tasks[0].status is a whole number, and should be text"),
        ("tasks.get_all", ("tasks", 1, "id"), None, "tasks[1].id is not there, and should be text"),
        ("tasks.get_all", ("tasks", 0), None, "tasks[0] is not there, and should be an object"),
        ("tasks.get_all", ("tasks",), MISSING, "tasks is not there, and should be a list"),
        ("queues.get_all", ("queues", 0, "name"), ["s3cret"], "queues[0].name is a list, and should be text"),
    ],
)
def test_it_is_said_where_an_answer_is_odd_and_no_value_is_shown(
    store, monkeypatch, capfd, endpoint, path, value, said
):
    client = Odd(store)
    client.odd = endpoint, path, value
    monkeypatch.setattr(api, "connect", lambda *_, **__: client)
    assert agent_task.GROUP.run(["list"]) == errors.UNAVAILABLE
    assert capfd.readouterr().err == (
        f"agent-task: {HOST} answers {endpoint} as no ClearML API does: {said} (tell whoever runs that server)\n"
    )


def test_a_server_that_answers_oddly_is_not_waited_for_and_hides_no_other_task(store, monkeypatch, capfd):
    client = Odd(store)
    asked = []

    def odd(task):
        asked.append(task)
        raise errors.OddAnswer("tasks[0].runtime is a list")

    monkeypatch.setattr(recovery, "_recover_entry", lambda api, token, *_: odd(token))
    for token in ("a" * 32, "b" * 32):
        os.symlink("/gone", claims.active(token))
    assert recovery.recover(client) is None
    assert asked == ["a" * 32, "b" * 32]
    assert not errors.is_away(errors.OddAnswer("")) and errors.OddAnswer("").of_machine
    client.odd = "queues.get_num_entries", ("num",), "many"
    with pytest.raises(errors.OddAnswer):
        queues.next_task(client, "w", queues.Queues(client, ["gpu"]), True, lambda: True)


def test_an_odd_answer_holds_up_no_other_duty_of_who_reports_a_task(store, capfd):
    by, done = reporter.Reporter(store, "w", []), []

    def odd():
        raise errors.OddAnswer("http://odd:8008 answers oddly")
    by._do([reporter.Duty(odd, 3), reporter.Duty(lambda: done.append("ping"), 60)])
    assert done == ["ping"]
    assert capfd.readouterr().err == "agent-report: http://odd:8008 answers oddly (tell whoever runs that server)\n"


@pytest.mark.parametrize(("path", "said"), [
    (("script",), "task.script must be object or null"),
    (("script", "diff"), "task.script.diff must be string or null")])
def test_a_task_that_is_no_manifest_is_pulled_and_fails(store, path, said):
    client = Odd(store)
    task, = store.call("tasks.get_all", {"name": "waits"})["tasks"]
    store.call("tasks.edit", {"task": task["id"], "script": {"diff": "+"}, "force": True})
    client.odd = "tasks.get_by_id", ("task", *path), 7
    _, line = queues.next_task(client, "w", queues.Queues(client, ["gpu"]), False)
    assert agent_pull.readable(line)["failed"]["reason"].endswith(said)


def test_a_loss_that_became_infinite_is_drawn_over_http_too(store, monkeypatch, capfd):
    client = Odd(store)
    client.odd = "events.scalar_metrics_iter_histogram", ("loss", "v", "y", 1), None
    monkeypatch.setattr(api, "connect", lambda *_, **__: client)
    assert agent_task.GROUP.run(["plot", "--width", "20", "ran"]) == 0
    assert capfd.readouterr().out.startswith("loss: v nan\n")
    assert agent_task.GROUP.run(["plot", "--json", "ran"]) == 0
    assert json.loads(capfd.readouterr().out, parse_constant=pytest.fail)["y"] == [2.0, None]
