"""What is said of an engine, its client and its images, where no engine is needed to see it."""

import pytest

from agentpipe import errors
from agentpipe.place import engine


def test_without_a_client_containers_cannot_be_entered_and_the_package_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.Failure) as caught:
        engine.client("docker", engine.DOCKER_SOCKET)
    assert caught.value.exit == errors.UNAVAILABLE and "docker.io" in caught.value.remedy


@pytest.mark.parametrize(("said", "exit"), [
    ("FATAL: unauthorized: authentication required", errors.NO_PERMISSION),
    ("manifest unknown", errors.NOT_FOUND),
    ("dial tcp 10.0.0.1:443: connect: connection refused", errors.UNAVAILABLE),
    ("write /var/lib/docker/tmp/x: no space left on device", errors.CANNOT_CREATE),
])
def test_a_refused_pull_is_told_by_what_the_registry_said(said, exit):
    failure = engine.no_image("registry.example:5000/team/x:1", said, "apptainer registry login --username USER docker://")
    assert failure.exit == exit
    if exit == errors.NO_PERMISSION:
        assert "docker://registry.example:5000, as the user" in failure.remedy


@pytest.mark.parametrize(("said", "of_task", "exit", "remedy"), [
    ("bind source path does not exist: /x", True, errors.BAD_DATA, "agent-task edit --docker-args"),
    ("bind source path does not exist: /x", False, errors.BAD_CONFIG, "agent.extra_docker_arguments"),
    ("image does not match the specified platform: wanted linux/arm64", True, errors.BAD_DATA, "--platform"),
    ("mkdir /var/lib/docker/overlay2/x: no space left on device", True, errors.CANNOT_CREATE, "docker system df"),
])
def test_a_container_that_the_engine_refuses_is_told_with_who_can_mend_it(said, of_task, exit, remedy):
    failure = engine.refused(RuntimeError(said), "no container of i:1 can be made", of_task)
    assert failure.exit == exit and said in failure.reason and remedy in failure.remedy


def test_an_engine_that_hangs_up_is_69_not_a_bug():
    import requests
    with pytest.raises(errors.Failure) as caught, engine.spoken_to("docker", "unix:///x"):
        raise requests.ConnectionError("Connection aborted.")
    assert caught.value.exit == errors.UNAVAILABLE and "unix:///x went away" in caught.value.reason
