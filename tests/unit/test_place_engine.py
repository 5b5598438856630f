"""What is said of an engine, its client and its images, where no engine is needed to see it."""

import hashlib
import http.server
import json
import threading
import time
from types import SimpleNamespace

import docker
import pytest
import requests

from agentpipe import errors
from agentpipe.place import beginning, engine


def test_without_a_client_containers_cannot_be_entered_and_the_package_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(errors.Failure) as caught:
        engine.client("docker", engine.DOCKER_SOCKET)
    assert caught.value.exit == errors.UNAVAILABLE and "docker.io" in caught.value.remedy
    assert caught.value.of_machine


def test_an_engine_that_goes_away_costs_no_task():
    with pytest.raises(errors.Failure, match="went away") as caught, engine.spoken_to("docker", "unix:///x"):
        raise requests.ConnectionError("gone")
    assert caught.value.of_machine


@pytest.mark.parametrize(("said", "exit"), [
    ("FATAL: unauthorized: authentication required", errors.NO_PERMISSION),
    ("manifest unknown", errors.NOT_FOUND),
    ("error: image ref syntax, char 2: a@b@c\nhint: how-do-i-specify", errors.BAD_DATA),
    ("'scratch' is a reserved name", errors.BAD_DATA),
    ("dial tcp 10.0.0.1:443: connect: connection refused", errors.UNAVAILABLE),
    ("write /var/lib/docker/tmp/x: no space left on device", errors.CANNOT_CREATE),
])
def test_a_refused_pull_is_told_by_what_the_registry_said(said, exit):
    login = "apptainer registry login --username USER docker://"
    failure = engine.no_image("registry.example:5000/team/x:1", said, login)
    assert failure.exit == exit
    if exit == errors.NO_PERMISSION:
        assert "docker://registry.example:5000, as the user" in failure.remedy


@pytest.mark.parametrize(("name", "registry"), [
    ("python:3.12", "docker.io"), ("team/python:3.12", "docker.io"), ("localhost/x", "localhost"),
    ("reg:5000/x", "reg:5000"), ("ghcr.io/a/b", "ghcr.io")])
def test_the_registry_to_log_in_at_is_that_of_the_image(name, registry):
    assert f"docker login {registry}, as" in engine.no_image(name, "denied").remedy


@pytest.mark.parametrize("said", [
    'FATAL: while searching for mksquashfs: exec: "mksquashfs": executable file not found in $PATH',
    "Traceback\nModuleNotFoundError: No module named 'lark'"])
def test_a_program_that_the_puller_lacks_is_no_missing_image(said):
    failure = engine.no_image("a:1", said)
    assert failure.exit == errors.UNAVAILABLE and said.splitlines()[-1] in failure.reason
    assert failure.remedy.startswith("install")


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A docker context `other` of a user's, and no variable that says more."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"other").hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Name": "other", "Metadata": {}, "Endpoints": {
        "docker": {"Host": "unix:///other.sock", "SkipTLSVerify": False}}}))
    return tmp_path / "config.json"


def test_the_engine_is_that_of_the_context_as_for_docker_itself(context, monkeypatch):
    assert engine.url("docker") == engine.DOCKER_SOCKET
    context.write_text("{}")
    assert engine.url("docker") == engine.DOCKER_SOCKET
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert engine.url("docker") == "unix:///other.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert engine.url("docker") == engine.DOCKER_SOCKET
    context.write_text('{"currentContext": "other"}')
    assert engine.client("docker", engine.url("docker"))[1:] == ["--host", engine.DOCKER_SOCKET]
    monkeypatch.delenv("DOCKER_CONTEXT")
    assert engine.url("docker") == "unix:///other.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///host.sock")
    assert engine.url("docker") == engine.url("podman") == "unix:///host.sock"
    monkeypatch.setenv("CONTAINER_HOST", "unix:///pod.sock")  # on a machine with both
    assert (engine.url("docker"), engine.url("podman")) == ("unix:///host.sock", "unix:///pod.sock")


def test_a_context_that_is_not_there_is_78(context, monkeypatch):
    context.write_text('{"currentContext": "none"}')
    for name in (None, "gone"):
        if name:
            monkeypatch.setenv("DOCKER_CONTEXT", name)
        with pytest.raises(errors.Failure) as caught:
            engine.url("docker")
        assert caught.value.exit == errors.BAD_CONFIG


@pytest.mark.parametrize("settings", [
    "[]", '{"auths": {"x": {"auth": "%%%"}}}', '{"auths": {"x": "y"}}', '{"currentContext": 5}'])
def test_settings_of_docker_that_cannot_be_read_are_78_and_named(context, settings):
    context.write_text(settings)
    with pytest.raises(errors.Failure) as caught:
        engine.connect("docker", "" if "currentContext" in settings else "unix:///no/such.sock")
    assert (caught.value.exit, caught.value.reason) == (
        errors.BAD_CONFIG, f"Docker's settings in {context} cannot be read")


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


@pytest.fixture
def slow_engine(monkeypatch):
    """docker-py's client of an engine that takes its time to make something, and to start it."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = {"ApiVersion": "1.44", "State": {"Running": True, "Pid": 0}}
            self.answer(200, found)

        def do_POST(self):
            time.sleep(1.3)
            self.answer(204 if self.path.endswith("/start") else 200, {"Id": "c1", "status": "done"})

        def answer(self, code, value):
            body = b"" if code == 204 else json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
    monkeypatch.setattr(engine, "TIMEOUT_S", 1.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield engine.connect("docker", f"tcp://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_what_an_engine_makes_may_take_longer_than_other_answers(slow_engine):
    """Some storage drivers copy the whole image for a container; Podman says nothing while it unpacks a layer."""
    asked = SimpleNamespace(config={"Labels": {"agentpipe.worker": ""}}, name="n", platform=None)
    job = SimpleNamespace(say=lambda line: None)
    assert beginning.create(slow_engine, asked, SimpleNamespace(image="i", own=True), job) == "c1"
    assert beginning.start(slow_engine, "c1", SimpleNamespace(image="i", own=True)) is None
    engine.image(slow_engine, job, "i:1", "--pull=always")
    assert slow_engine.timeout == 1.0


@pytest.mark.parametrize(("text", "expected"), [('{"auths":', 1), ('{"auths": {}}', 0), (None, 0)])
def test_settings_of_docker_that_are_no_json_are_said_with_a_pull(slow_engine, tmp_path, monkeypatch, text, expected):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    said = []
    engine.image(slow_engine, SimpleNamespace(say=said.append), "i:1", "--pull=always")
    assert sum(f"without the logins of {tmp_path}/config.json" in line for line in said) == expected


def test_an_engine_that_goes_away_while_a_container_stands_still_is_said(tmp_path, monkeypatch):
    import requests

    from agentpipe.job import Job
    from agentpipe.place import apart

    class Leaving:
        def pause(self, container):
            pass

        def unpause(self, container):
            raise requests.ConnectionError("broken pipe")
    monkeypatch.setattr(engine, "connect", lambda kind, at: Leaving())
    place = {"kind": "docker", "engine": "unix:///x", "container": "c1", "environments": "/e"}
    job = Job({"place": place}, str(tmp_path))
    with apart.still(job):
        pass
    job.close()
    assert "the task's container stands still: Docker at unix:///x went away" in (tmp_path / "setup.log").read_text()


def test_nothing_is_pulled_where_the_network_is_forbidden(monkeypatch):
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    here = SimpleNamespace(inspect_image=lambda name: {"Id": name})
    assert engine.image(here, None, "i:1", force="--pull always") == {"Id": "i:1"}

    def none(name):
        raise docker.errors.ImageNotFound("no")
    with pytest.raises(errors.Failure, match="AGENT_OFFLINE forbids the network"):
        engine.image(SimpleNamespace(inspect_image=none), None, "i:1")


@pytest.mark.parametrize("name", [".", "..", "/", "../containers", "a//b"])
def test_a_name_that_would_lead_elsewhere_in_the_engine_is_none_of_an_image(name):
    with pytest.raises(errors.Failure, match="is not the name of an image") as caught:
        engine.image(None, None, name)
    assert caught.value.exit == errors.BAD_DATA
