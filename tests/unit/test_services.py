"""Which services run again, and how often."""

import pytest

from agentpipe.run import services

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


def test_a_service_is_known_by_its_worker():
    assert services.is_one({"pull": {"worker": "host:0:service:t"}, "task": {"id": "t"}})
    assert not services.is_one({"pull": {"worker": "host:0"}, "task": {"id": "t"}})
    assert not services.is_one({"task": {"id": "t"}})
