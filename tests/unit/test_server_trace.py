"""What clearml-agent and the clearml package asked of a real server, asked of ours: the answers look alike.

The requests and answers in data/api_trace.ndjson were recorded between clearml-agent 3.0.3, clearml 2.1.12
and a ClearML API server 2.x, long lists cut.
"""

import json
import os

import pytest
from servertools import Server

TRACE = os.path.join(os.path.dirname(__file__), "data", "api_trace.ndjson")


def recorded(name):
    with open(TRACE, encoding="utf-8") as lines:
        return [line for line in map(json.loads, lines) if line["trace"] == name]


def differences(real, ours, path=""):
    """Where an answer of ours lacks a field of the real one, has another type, or a field too many."""
    if isinstance(real, dict) and isinstance(ours, dict):
        for key in real.keys() | ours.keys():
            below = f"{path}.{key}".strip(".")
            if key not in ours:
                yield f"{below} is missing"
            elif key not in real:
                yield f"{below} is too much: {ours[key]!r}"
            else:
                yield from differences(real[key], ours[key], below)
    elif isinstance(real, list) and isinstance(ours, list):
        if bool(real) != bool(ours):
            yield f"{path}: {real!r} became {ours!r}"
        elif real:
            yield from differences(real[0], ours[0], path + "[]")
    elif type(real) is not type(ours) and {type(real), type(ours)} != {int, float}:
        yield f"{path}: {real!r} became {ours!r}"


class Replay:
    """A recorded conversation, with its ids replaced by ours."""

    def __init__(self, server, lines):
        self.server, self.lines, self.ids = server, lines, {}

    def run(self):
        found = []
        for line in self.lines:
            answer = self.server(line["endpoint"], self.translated(line["request"]))
            found += [f"{line['endpoint']}: {text}" for text in differences(line["data"], answer)]
        return found

    def translated(self, value):
        text = json.dumps(value)
        for real, ours in self.ids.items():
            text = text.replace(real, ours)
        return json.loads(text)


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "agent.db")


def test_a_task_from_pull_to_end_as_clearml_agent_and_the_sdk_do_it(server):
    lines = recorded("warm-sdk-task")
    task = next(line for line in lines if line["endpoint"] == "tasks.get_by_id")["data"]["task"]
    replay = Replay(server, lines)
    project = server("projects.create", name="peer")["id"]
    ours = server.task(task["name"], project=project, parent=server.task("parent"), comment=task["comment"],
                       script=task["script"], hyperparams=task["hyperparams"])
    server("tasks.enqueue", task=ours)
    replay.ids = {task["id"]: ours, task["project"]: project, lines[0]["request"]["id"][0]: server.queue}
    assert replay.run() == []
    assert server.get(ours)["status"] == "completed"


def test_an_abort_as_clearml_agent_sees_it(server):
    lines = recorded("abort-plain")
    ours = server.enqueued()
    server("queues.get_next_task", queue=server.queue)
    server("tasks.started", task=ours)
    server("workers.status_report", worker="peer:0", timestamp=1, task=ours)
    server("tasks.stop", task=ours)
    replay = Replay(server, lines)
    replay.ids = {lines[0]["request"][0]["task"]: ours, lines[-1]["request"]["queue"]: server.queue}
    assert replay.run() == []
    assert server.get(ours)["status"] == "stopped"
