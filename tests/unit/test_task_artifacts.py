"""agent-task artifacts --get: the whole file, or none."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from agentpipe import errors, paths
from agentpipe.task import artifacts
from agentpipe.transport import api, artifact_files, http_retry


class Api:
    embedded = True


@pytest.mark.parametrize("below", ["../../else/x", "1/../../../else/x", "..%2f..%2felse", "%2e%2e/x", "..\\x"])
def test_an_address_that_leads_out_of_our_folder_is_asked_for_nowhere(tmp_path, below):
    """With the agent's token the files server gives what the task's owner may not see."""
    with pytest.raises(errors.Failure, match="not one of agentpipe's"):
        artifact_files.get(object(), {"key": "x", "uri": f"http://127.0.0.1:9/agentpipe/{below}"}, str(tmp_path / "x"))


@pytest.fixture
def cut():
    """The address of a file of 100 bytes whose server goes away after ten of them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/task/weights.bin"
        listening.shutdown(socket.SHUT_RDWR)


def test_a_model_is_got_by_the_tasks_name_for_it_or_by_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    store = api.connect()
    (tmp_path / "stored").write_bytes(b"weights")
    uri = f"file://{tmp_path}/stored"
    model = store.call("models.create", {"name": "m1", "uri": uri, "framework": "PyTorch"})["id"]
    task = store.call("tasks.create", {"name": "train", "type": "training"})["id"]
    store.call("tasks.add_or_update_model", {"task": task, "model": model, "name": "w", "type": "output"})
    for name in ("w", "m1"):
        artifacts.artifacts(task, name, name, False, False)
        assert (tmp_path / name).read_bytes() == b"weights"
    with pytest.raises(errors.Failure) as caught:
        artifacts.artifacts(task, "other", None, False, False)
    assert caught.value.reason.endswith("there are: w")


def test_a_download_that_was_cut_is_no_file(tmp_path, monkeypatch, cut):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    (tmp_path / "before.bin").write_text("before")
    for name in ("before.bin", "new.bin"):
        with pytest.raises(errors.Failure) as failure:
            artifacts.copy(Api(), {"name": "weights", "uri": cut}, str(tmp_path / name))
        assert failure.value.exit == errors.UNAVAILABLE and "90 bytes are missing" in failure.value.reason
    assert (tmp_path / "before.bin").read_text() == "before"
    assert [path.name for path in tmp_path.glob("*.bin*")] == ["before.bin"]


@pytest.mark.parametrize("home", [None, "agentpipe", "agentpipe/agentpipe/x"])
def test_what_a_task_brings_along_is_found_and_removed_in_a_store_of_our_own_name(tmp_path, monkeypatch, home):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if home:
        monkeypatch.setenv("AGENT_HOME", str(tmp_path / home))
    else:
        monkeypatch.delenv("AGENT_HOME")
    (tmp_path / "files.tar.gz").write_bytes(b"brought along")
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    uri = artifact_files.put(Api(), "1f3c", str(tmp_path / "files.tar.gz"), "files.tar.gz")
    artifact_files.get(Api(), {"key": "agentpipe-files", "uri": uri}, str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == b"brought along"
    # the task that tells of it survives a power failure, and so does the file
    folder = os.path.dirname(uri.removeprefix("file://"))
    assert [os.path.dirname(path) for path in synced[-2:]] == [folder, os.path.dirname(folder)]
    artifact_files.discard([uri])
    assert not list(tmp_path.rglob("1f3c*"))


@pytest.mark.parametrize(("uri", "exit", "said"), [
    ("", errors.NOT_FOUND, "has no address"), (None, errors.NOT_FOUND, "has no address"),
    ("http://[1/x", errors.NOT_FOUND, "Invalid IPv6"), ("http:///x", errors.UNAVAILABLE, "http:///x: "),
    ("http://{}/drop", errors.UNAVAILABLE, "closed connection"), ("http://{}/none", errors.NOT_FOUND, "answers 404")])
def test_what_cannot_be_had_is_said(tmp_path, monkeypatch, odd, uri, exit, said):
    with pytest.raises(errors.Failure, match=said) as caught:
        artifacts.copy(Api(), {"name": "weights", "uri": uri and uri.format(odd)}, str(tmp_path / "got"))
    assert caught.value.exit == exit and list(tmp_path.glob("got*")) == []


@pytest.mark.parametrize("name", ["my model", "m%C3%B6del", "möd~l", "packed", "elsewhere"])
def test_a_file_comes_as_it_is_stored_whatever_its_address(tmp_path, odd, name):
    artifacts.copy(Api(), {"name": "weights", "uri": f"http://{odd}/{name}"}, str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == STORED


STORED = b"\x1f\x8b stored so"


@pytest.fixture
def odd():
    """Host and port of a server that answers in all ways that one may."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path in ("/drop", "/elsewhere"):
                if self.path == "/drop":
                    return
                self.send_response(302)
                self.send_header("Location", "/found")
                self.end_headers()
                return
            self.send_response(404 if self.path == "/none" else 200)
            if self.path == "/packed":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(STORED)

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_files_server_is_known_by_its_own_authority_and_alone_gets_the_token(tmp_path, monkeypatch, odd):
    asked = []
    get = requests.get

    def noted(uri, **more):
        asked.append((more["verify"], more["headers"]))
        return get(uri, **more)
    monkeypatch.setattr(requests, "get", noted)
    authority = tmp_path / "ca.pem"
    authority.touch()
    monkeypatch.setenv("CLEARML_API_HOST_VERIFY_CERT", str(authority))
    monkeypatch.setenv("CLEARML_FILES_HOST", f"http://{odd}")
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", "token")
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:8008")
    for address in (f"http://{odd}/x", f"http://localhost:{odd.partition(':')[2]}/x"):
        artifacts.copy(api.connect(), {"name": "weights", "uri": address}, str(tmp_path / "got"))
    (own, with_token), (other, without) = asked
    assert (own, with_token["Authorization"]) == (str(authority), "Bearer token")
    assert other is True and "Authorization" not in without


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_stop_leaves_nothing_of_it_behind(tmp_path, monkeypatch, told):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    store = api.connect()
    task = store.call("tasks.create", {"name": "made one", "type": "training"})["id"]
    os.mkfifo(tmp_path / "slow")
    store.call("tasks.add_or_update_artifacts", {"task": task, "artifacts": [
        {"key": "weights", "type": "custom", "uri": f"file://{tmp_path}/slow"}]})
    folder = tmp_path / "here"
    folder.mkdir()
    get = [sys.executable, "-m", "agentpipe.cmds.agent_task", "artifacts", task, "--get", "weights"]
    copying = subprocess.Popen(get, cwd=folder, stderr=subprocess.PIPE)
    with open(tmp_path / "slow", "wb") as fifo:  # opened once the copy has begun to read
        fifo.write(b"x" * (3 << 20))  # and taken once it writes
        assert [path.suffix for path in folder.iterdir()] == [".part"]
        copying.send_signal(told)
        assert copying.wait(20) == -told and copying.stderr.read() == b""
    copying.stderr.close()
    assert list(folder.iterdir()) == []


def test_a_file_that_the_disk_does_not_take_leaves_nothing_there(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    large = tmp_path / "large"
    large.write_bytes(bytes(100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(errors.Failure, match="cannot keep large") as caught:
            artifact_files.put(Api(), "1f3c", str(large), "large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit == errors.CANNOT_CREATE
    assert [name for _, _, names in os.walk(paths.state("files")) for name in names] == []


@pytest.mark.parametrize("failing", [[503, 502], ["drop"] * 6, ["cut"]])
def test_a_files_server_that_is_away_for_a_moment_is_waited_for(tmp_path, monkeypatch, failing):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            plan = failing.pop(0) if failing else 200
            if plan == "drop":
                return
            self.send_response(200 if plan == "cut" else plan)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"con" if plan == "cut" else b"content")

        def log_message(self, *words):
            pass

    monkeypatch.setattr(http_retry, "back_off", lambda pause, away: pause)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:8008")
        monkeypatch.setenv("CLEARML_FILES_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("CLEARML_AUTH_TOKEN", "token")
        uri = f"http://127.0.0.1:{server.server_port}/agentpipe/1f3c/artifacts/x"
        artifact_files.get(api.connect(), {"key": "x", "uri": uri}, str(tmp_path / "x"))
        failing[:] = [404, 200]
        with pytest.raises(errors.Failure, match="answers 404") as caught:
            artifact_files.get(api.connect(), {"key": "x", "uri": uri}, str(tmp_path / "x"))
        server.shutdown()
    assert (tmp_path / "x").read_bytes() == b"content"
    assert (caught.value.exit, failing) == (errors.NOT_FOUND, [200])


def test_a_files_server_that_stays_away_is_told_as_that(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:8008")
    monkeypatch.setenv("CLEARML_FILES_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", "token")
    with pytest.raises(errors.Failure, match=r"the files server at http://127\.0\.0\.1:9 cannot be reached") as caught:
        artifact_files.get(api.connect(patience=0.3), {"key": "x", "uri": "http://127.0.0.1:9/agentpipe/1f3c/artifacts/x"},
                           str(tmp_path / "x"))
    assert (caught.value.exit, "api.files_server" in caught.value.remedy) == (errors.UNAVAILABLE, True)
