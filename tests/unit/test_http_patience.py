"""Clients that are slow, silent or gone, and a stop while clients wait: nobody holds the server up."""

import contextlib
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import time

import pytest
import requests
from http_server import HttpServer

# the waits of agentpipe.server.patience, shortened, and less memory than its servers have
IMPATIENT = """
from agentpipe.server import http, patience
http.MOST_TOGETHER = 2 << 20
patience.HEAD_SECONDS = patience.BODY_SECONDS = 1
patience.LOOK_SECONDS = 0.1
from agentpipe.cmds.agent_server import main
main()
"""

FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from agentpipe.cmds.agent_server import main
main()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = HttpServer(tmp_path_factory.mktemp("patience") / "home", start=("-c", IMPATIENT))
    yield found
    assert found.stop() == 0
    assert "bug of ours" not in found.said()


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 30)


def closed(connection, seconds=20):
    """Whether the server ends the connection."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("port", ["api", "files"])
def test_who_connects_and_says_nothing_is_let_go(server, port):
    with connected(getattr(server, port)) as connection:
        assert closed(connection)


def test_who_sends_a_head_byte_by_byte_is_let_go(server):
    with connected(server.api) as connection:
        until = time.monotonic() + 20
        with pytest.raises(OSError, match=r"(reset|pipe)"):
            while time.monotonic() < until:
                connection.sendall(b"X")
                time.sleep(0.2)


CHUNKED = ("POST /debug.ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
           "2\r\n{{}}\r\n")


@pytest.mark.parametrize(
    "begins", ["GET /", "GET / HTTP/1.1\r\nX-Long: ", "GET / HTTP/1.1\r\n", CHUNKED + "0\r\nX-Long: "],
    ids=["line", "header", "headers", "trailer"])
def test_what_has_no_end_and_is_no_body_fills_no_memory(server, begins):
    more = b"a: b\r\n" * 2000 if begins.endswith("1.1\r\n") else b"a" * 10_000
    with connected(server.api) as connection:
        connection.sendall(begins.format(token=server.token()).encode())
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 8 << 20:
                sent += connection.send(more)
    assert server.post("debug.ping").json()["data"]["msg"] == "pong"


def test_what_stands_behind_a_body_is_passed_over(server):
    with connected(server.api) as connection:
        connection.sendall((CHUNKED + "0\r\nX-Late: 1\r\n\r\n").format(token=server.token()).encode())
        connection.sendall(asked(server, "/debug.ping", close=True))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.count(b"pong") == 2, answer


@pytest.mark.parametrize(("port", "path"), [("api", "/debug.ping"), ("files", "/")])
def test_who_stops_in_the_middle_of_a_body_is_let_go_and_leaves_nothing(server, port, path):
    with connected(getattr(server, port)) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
                           "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"
                           "--b\r\nContent-Disposition: form-data; name=\"half\"; filename=\"f\"\r\n\r\nx".encode())
        assert closed(connection)
    growing = os.path.join(server.ready["files_dir"], ".agentpipe-uploads")
    until = time.monotonic() + 20
    while os.listdir(growing) and time.monotonic() < until:
        time.sleep(0.05)
    assert os.listdir(growing) == [] and not os.path.exists(os.path.join(server.ready["files_dir"], "half"))


def test_many_clients_that_stay_need_more_files_than_a_login_shell_allows(tmp_path):
    server = HttpServer(tmp_path / "home", start=("-c", FEW_FILES))
    with contextlib.ExitStack() as stay:
        for _ in range(100):
            stay.enter_context(connected(server.api))
        assert server.post("debug.ping").json()["data"]["msg"] == "pong"
        assert server.call("tasks.get_all")["tasks"] == []
    assert server.stop() == 0


def test_a_slow_client_that_goes_on_is_served(server):
    body = json.dumps({"name": "^default$"}).encode()
    with connected(server.api) as connection:
        connection.sendall(f"POST /queues.get_all HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
                           f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for byte in body:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200") and b'"default"' in answer


def test_many_silent_clients_keep_nobody_out(server):
    silent = [connected(server.api) for _ in range(300)]
    try:
        assert server.call("queues.get_all")["queues"]
    finally:
        for each in silent:
            each.close()


def asked(server, path, body="{}", close=False):
    """The text of a request."""
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
            f"{'Connection: close' if close else 'X-Kept: 1'}\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()


def test_who_keeps_a_connection_between_calls_keeps_it(server):
    with connected(server.api) as connection:
        for _ in range(2):
            connection.sendall(asked(server, "/debug.ping"))
            answer = b""
            while b"pong" not in answer:
                piece = connection.recv(65536)
                assert piece, "the server closed it"
                answer += piece
            time.sleep(2)


def test_a_stop_answers_those_who_wait_and_keeps_what_was_written(tmp_path):
    one = HttpServer(tmp_path / "home")
    mark = one.call("queues.wait")["mark"]
    waiting = [connected(one.api) for _ in range(5)]
    for each in waiting:
        each.sendall(asked(one, "/queues.wait", json.dumps({"mark": mark, "seconds": 60}), close=True))
    task = one.call("tasks.create", name="kept", type="training")["id"]
    began = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - began < 8, "the long polls were waited for"
    for each in waiting:
        assert each.recv(65536).startswith(b"HTTP/1.1 200")
        each.close()
    two = HttpServer(tmp_path / "home")
    try:
        two.keys = one.keys
        assert two.call("tasks.get_by_id", task=task)["task"]["name"] == "kept"
    finally:
        assert two.stop() == 0


def test_nobody_else_of_this_machine_can_read_what_it_keeps(tmp_path):
    old = os.umask(0)
    try:
        server = HttpServer(tmp_path / "home")
    finally:
        os.umask(old)
    try:
        assert requests.post(server.files, files={"a/b": ("f", b"x")}, headers=server.bearer(), timeout=30).ok
        modes = {}
        for folder, folders, files in os.walk(server.home):
            for name in [*folders, *files]:
                path = os.path.join(folder, name)
                modes[path] = stat.S_IMODE(os.stat(path).st_mode)
        assert any(path.endswith("/b") for path in modes)
        assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    finally:
        assert server.stop() == 0


def test_a_body_that_is_nested_deeply_is_refused_and_numbers_that_are_none_are_taken(server):
    for depth in (400, 900, 1000, 100_000):
        body = '{"name": "deep", "type": "training", "runtime": {"x": ' + "[" * depth + "]" * depth + "}}"
        answer = requests.post(server.api + "/tasks.create", data=body, headers=server.bearer(), timeout=30)
        assert answer.status_code in (200, 400), (depth, answer.text[:200])
        if answer.status_code == 200:
            task = answer.json()["data"]["id"]
            assert server.post("tasks.get_by_id", {"task": task}, headers=server.bearer()).status_code == 200
    odd = '{"name": "odd", "type": "training", "runtime": {"x": NaN, "y": -Infinity, "n": ' + "9" * 400 + "}}"
    answer = requests.post(server.api + "/tasks.create", data=odd, headers=server.bearer(), timeout=30)
    assert answer.status_code == 200, answer.text[:300]
    found = server.post("tasks.get_by_id", {"task": answer.json()["data"]["id"]}, headers=server.bearer())
    assert found.status_code == 200 and found.json()["data"]["task"]["runtime"]


# how long SQLite waits for a lock, shortened
HASTY = """
from agentpipe.server import store
store.BUSY_SECONDS = 0.2
from agentpipe.cmds.agent_server import main
main()
"""


def test_while_the_store_cannot_be_written_clients_are_told_to_wait_and_then_go_on(tmp_path):
    server = HttpServer(tmp_path / "home", start=("-c", HASTY))
    try:
        headers, body = server.bearer(), {"name": "later", "type": "training"}
        other = sqlite3.connect(server.ready["store"], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = server.post("tasks.create", body, headers=headers)
        assert refused.status_code == 503 and "locked" in refused.json()["meta"]["result_msg"]
        assert server.post("tasks.get_all", {}, headers=headers).status_code == 200, "reading goes on"
        other.execute("ROLLBACK")
        other.close()
        assert server.post("tasks.create", body, headers=headers).status_code == 200
    finally:
        assert server.stop() == 0


# fills the disk of a server, asks it, and prints what its clients say; argv: a folder that is a small disk
FULL = """
import os, sys
from http_server import HttpServer
from agentpipe import errors
from agentpipe.configure import config_check
from agentpipe.transport import api
server = HttpServer(sys.argv[1] + "/home")
os.environ |= {"AGENT_HOME": sys.argv[2], "CLEARML_API_HOST": server.api, "CLEARML_API_ACCESS_KEY": server.keys[0],
               "CLEARML_API_SECRET_KEY": server.keys[1], "CLEARML_FILES_HOST": server.files}
def look():
    found = [each for each in config_check.server() if each.subject == "store"]
    print([f"{each.level} {each.text} ({each.remedy})" for each in found])
look()
with open(sys.argv[1] + "/filler", "wb", 0) as file:
    try:
        while file.write(b"x" * 4096):
            pass
    except OSError:
        pass
try:
    while True:
        api.connect(patience=0).call("tasks.create", {"name": "n" * 4000, "type": "training"})
except errors.Failure as failure:
    print(failure)
look()
server.stop()
"""


def test_a_server_whose_disk_is_full_is_quoted_by_its_clients_and_by_the_check(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=2m none {disk} && exec "$0" "$@"', sys.executable, "-c",
         FULL, disk, tmp_path / "client"], text=True, capture_output=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)})
    before, said, after, *_ = [*done.stdout.splitlines(), done.stderr, "", ""]
    why = f"the disk is full: cannot write the store {disk}/home/state/agent.db"
    assert before == "[]", done.stderr
    assert said.endswith(f": it answers 503: {why} (try again later)")
    assert after.startswith("['wrong ") and why in after and "make room" in after


def test_what_would_fill_the_memory_is_to_come_later(server):
    task = server.call("tasks.create", name="train", type="training")["id"]
    lines = [{"type": "log", "task": task, "msg": "x" * (1 << 20)}]
    answer = server.post("events.add_batch", 3 * lines, auth=server.keys)
    assert answer.status_code == 503 and float(answer.headers["Retry-After"]) > 0
    for _ in range(3):  # each is forgotten once it is answered
        assert server.call("events.add_batch", lines)["added"] == 1
