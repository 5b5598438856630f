"""Which services run again, and how often."""

import time

import pytest

from agentpipe import errors, manifest
from agentpipe.claim import attempt
from agentpipe.held import Held
from agentpipe.pull import queues
from agentpipe.report import finish
from agentpipe.run import services
from agentpipe.transport import api

TASK = {"id": "t", "container": {"image": "i:1"}, "hyperparams": {"a": {"n": 3, "yes": True}}}


@pytest.mark.parametrize("setting, end, runs, expected", [
    ("always", "completed", 9, True), ("unless-stopped", "script_failed", 1, True), ("no", "script_failed", 1, False),
    ("on-failure", "completed", 1, False), ("on-failure", "script_failed", 99, True), ("on-failure", "lost", 1, True),
    ("on-failure:2", "script_failed", 2, True), ("on-failure:2", "script_failed", 3, False),
    ("always", "aborted", 1, False), ("always", "drained", 1, False), ("sometimes", "script_failed", 1, False),
    ("always;container.image", "completed", 1, True), ("always;container.nothing", "completed", 1, False),
    ("always;container.image=i:1", "completed", 1, True), ("always;container.image=i:2", "completed", 1, False),
    ("always;hyperparams.a.n=3.0", "completed", 1, True), ("always;hyperparams.a.n=x", "completed", 1, False),
    ("always;hyperparams.a.yes=true", "completed", 1, True), ("always;hyperparams.a.yes=no", "completed", 1, False),
    ("on-failure:1;container.image=i:1", "out_of_memory", 1, True),
])
def test_a_policy_and_the_tasks_that_it_is_for(setting, end, runs, expected):
    assert services.runs_again(TASK, end, runs, setting) is expected


@pytest.mark.parametrize("setting", ["", "no", "always", "unless-stopped", "on-failure", "on-failure:2",
                                     "always;container.image=i:1", " on-failure:3;a=b:c;d"])
def test_what_is_a_policy_is_taken(setting, monkeypatch):
    monkeypatch.setenv(services.SETTING, setting)
    services.check_setting()


@pytest.mark.parametrize("setting", ["rubbish;;;", "sometimes", "always:2", "on-failure:", "on-failure:x",
                                     ";container.image"])
def test_what_is_no_policy_is_refused_with_those_that_are(setting, monkeypatch):
    monkeypatch.setenv(services.SETTING, setting)
    with pytest.raises(errors.Failure, match="is no policy") as caught:
        services.check_setting()
    assert caught.value.exit == errors.BAD_CONFIG and "on-failure[:N]" in caught.value.remedy


def test_a_service_is_known_by_its_worker():
    assert manifest.is_service({"pull": {"worker": "host:0:service:t"}, "task": {"id": "t"}})
    assert not manifest.is_service({"pull": {"worker": "host:0"}, "task": {"id": "t"}})
    assert not manifest.is_service({"task": {"id": "t"}})


@pytest.fixture
def held(monkeypatch, transport):
    """A service that has failed, as agent-run has told it."""
    monkeypatch.setenv("CLEARML_AGENT_SERVICES_DOCKER_RESTART", "always")
    store = api.connect("tester")
    task = store.call("tasks.create", {"name": "a service", "type": "service"})["id"]
    store.call("tasks.enqueue", {"task": task, "queue": store.call("queues.get_default")["id"]})
    return run_again(store)


def run_again(store):
    """It is pulled, and fails, as agent-run tells it."""
    claim, line = queues.next_task(store, "tester:0", queues.Queues(store, []), wait=False)
    line = {**line, "pull": {**line["pull"], "worker": f"tester:0:service:{line['task']['id']}"},
            "run": {"exit": 1, "end": "script_failed", "reason": "exit 1"}}
    store.call("tasks.started", {"task": line["task"]["id"], "claim": claim.token})
    attempt.store_manifest(claim.directory, manifest.write(line))
    attempt.decide(claim.directory, "script_failed")
    finish.finish(store, claim.directory)
    claim.end()
    found = Held(line, "run", api=store, claim=claim)
    found.release()
    return found


def status(held):
    return held.api.call("tasks.get_by_id", {"task": held.id})["task"]["status"]


def test_a_service_is_queued_again_when_its_end_is_told(held):
    services.again(held)
    assert status(held) == "queued"


@pytest.mark.parametrize("meanwhile, expected", [
    (("tasks.reset", {}), "created"), (("tasks.publish", {"force": True}), "published"),
    (("tasks.enqueue", {"queue_name": "mine"}), "queued")])
def test_what_a_user_does_in_the_pause_stands(held, monkeypatch, meanwhile, expected):
    endpoint, body = meanwhile
    mine = held.api.call("queues.create", {"name": "mine"})["id"]
    monkeypatch.setattr(time, "sleep", lambda _: held.api.call(endpoint, {**body, "task": held.id}))
    services.again(held)
    assert status(held) == expected
    entries = held.api.call("queues.get_by_id", {"queue": mine})["queue"]["entries"]
    assert [entry["task"] for entry in entries] == ([held.id] if expected == "queued" else [])


def test_of_a_service_that_has_run_a_thousand_times_only_the_last_runs_are_looked_at(held, monkeypatch):
    line = attempt.read_manifest(held.claim.directory)
    line["task"]["status_reason"] = f"{services.AGAIN} (always)"
    for _ in range(30):
        attempt.store_manifest(attempt.create(held.id), manifest.write(line))
    looked, paused, read = [], [], attempt.read_manifest
    monkeypatch.setattr(attempt, "read_manifest", lambda directory: looked.append(directory) or read(directory))
    monkeypatch.setattr(time, "sleep", paused.append)
    services.again(held)
    assert (status(held), paused, len(looked)) == ("queued", [60.0], 10)


def test_what_a_user_queues_again_has_all_its_runs_before_it(held, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_SERVICES_DOCKER_RESTART", "on-failure:2")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    counted = []
    for _ in range(2):
        for _ in range(4):
            services.again(held)
            counted.append(status(held))
            if counted[-1] != "queued":
                break
            held = run_again(held.api)
        held.api.call("tasks.enqueue", {"task": held.id, "force": True, "status_reason": "by hand"})
        held = run_again(held.api)
    assert counted == ["queued", "queued", "failed"] * 2
