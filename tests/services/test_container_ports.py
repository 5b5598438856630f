"""Published ports of a container on a real engine, where that alone sees that one is taken."""

import os
import socket
import subprocess

import pytest

from agentpipe import place
from agentpipe.claim import attempt
from agentpipe.job import Job
from agentpipe.place import create, engine, ports
from agentpipe.place.decide import Container

HERE = os.path.dirname(__file__)
IMAGE = "agentpipe-test/python:bookworm"


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    for script in ("docker-up.sh", "docker-base-image.sh"):
        subprocess.run([os.path.join(HERE, script)], check=True, capture_output=True)
    found = Job({"task": {"id": "local-1"}}, attempt.create("local-1"))
    yield found
    place.leave(found.directory, pytest.fail)
    found.close()


def test_a_port_that_another_has_taken_meanwhile_is_moved(job, monkeypatch):
    """Two tasks look at once, or the engine publishes without a program that listens."""
    monkeypatch.setattr(ports, "taken", lambda ip, port: False)
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        value = create.start(job, Container("docker", IMAGE, ["-p", f"{port}:80"]))
        found = engine.connect("docker").inspect_container(value["container"])
    [binding] = found["HostConfig"]["PortBindings"]["80/tcp"]
    assert found["State"]["Running"] and int(binding["HostPort"]) not in (0, port)
    with open(job.path("setup.log")) as file:
        said = file.read()
    assert f"--publish {port}:80 is moved: it is now {binding['HostPort']}:80/tcp" in said
    mine = engine.connect("docker").containers(all=True, filters={"label": f"agentpipe.directory={job.directory}"})
    assert len(mine) == 1
