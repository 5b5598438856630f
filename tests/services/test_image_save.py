"""agent-prepare --image against a real engine: one that is slow, much that is said, and what a failure leaves."""

import contextlib
import os
import socket
import subprocess
import threading
import time

import docker
import pytest

from agentpipe import errors
from agentpipe.job import Job
from agentpipe.place import engine
from agentpipe.prepare import image

HERE = os.path.dirname(__file__)
IMAGE = "agentpipe-test/saved-slowly"
COMMIT_S = 3.0


@pytest.fixture(scope="module")
def host():
    """The engine's socket; it has the tests' image."""
    found = subprocess.run([os.path.join(HERE, "docker-up.sh")], check=True, capture_output=True, text=True)
    subprocess.run([os.path.join(HERE, "docker-base-image.sh")], check=True, capture_output=True)
    return found.stdout.strip()


@pytest.fixture
def api(host):
    found = engine.connect("docker", host)
    yield found
    with contextlib.suppress(docker.errors.ImageNotFound):
        found.remove_image(IMAGE, force=True)


@pytest.fixture
def container(api):
    made = api.create_container("agentpipe-test/python:bookworm", ["true"])["Id"]
    yield made
    api.remove_container(made, force=True)


@pytest.fixture
def job(tmp_path, container, host, monkeypatch):
    """A prepared job in the container, as far as saving looks at it."""
    folder = tmp_path
    (folder / "code").mkdir()
    line = {"task": {"id": "local-1", "script": {"entry_point": "main.sh", "binary": "bash"}},
            "place": {"kind": "docker", "engine": host, "container": container, "prefix": []},
            "fetch": {"code": str(folder / "code")}, "patch": {}, "env": {"path": []}}
    found = Job(line, str(folder), {"image": IMAGE})
    yield found
    found.close()


@pytest.fixture
def between(host, tmp_path):
    """between(seconds): a socket behind which the engine takes so long to commit; with None it goes away then."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "slow.sock"))
    listener.listen()

    def pump(source, sink, seconds):
        while data := source.recv(1 << 16):
            if data.startswith(b"POST") and b"/commit" in data.split(b"\r\n")[0]:
                if seconds is None:
                    break
                time.sleep(seconds)
            sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR if seconds is None else socket.SHUT_WR)

    def serve(seconds):
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(host.removeprefix("unix://"))
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=pump, args=(*pair, seconds), daemon=True).start()

    def make(seconds):
        threading.Thread(target=serve, args=(seconds,), daemon=True).start()
        return f"unix://{tmp_path}/slow.sock"
    yield make
    listener.close()


def nameless(api):
    return {each["Id"] for each in api.images(filters={"dangling": True})}


def test_a_commit_may_take_longer_than_other_answers(job, api, between, monkeypatch):
    monkeypatch.setattr(engine, "TIMEOUT_S", COMMIT_S / 3)
    job.manifest["place"]["engine"] = between(COMMIT_S)
    assert image.save(job)["name"] == f"{IMAGE}:latest"


def test_what_tar_says_of_thousands_of_files_does_not_stop_it(job, api, container, monkeypatch):
    folder = os.path.join(job.directory, "code")
    name = "x" * 80
    monkeypatch.chdir(folder)  # the name of a socket is short
    for number in range(1500):  # tar says of each socket that it leaves it out
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"{name}{number}")
    thread = threading.Thread(target=image._copy_in, args=(api, container, [folder], "a+rX"), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_a_failure_leaves_no_image_and_no_container(job, api, container, monkeypatch):
    before, containers = nameless(api), len(api.containers(all=True))
    monkeypatch.setattr(image, "_paths", lambda job: (["/no/such/path"], []))
    with pytest.raises(errors.Failure) as caught:
        image.save(job)
    assert caught.value.exit == errors.CANNOT_CREATE and "no/such/path" in caught.value.evidence
    assert nameless(api) == before and len(api.containers(all=True)) == containers


def test_an_engine_that_goes_away_meanwhile_is_told(job, between):
    job.manifest["place"]["engine"] = between(None)
    with pytest.raises(errors.Failure) as caught:
        image.save(job)
    assert caught.value.exit == errors.UNAVAILABLE and "went away" in caught.value.reason
