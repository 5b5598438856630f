"""The ClearML API over HTTP: envelope, paths, methods, bodies, errors; as the clearml package relies on them."""

import gzip
import json
import socket

import pytest
import requests
from http_server import HttpServer

LINES = {"Content-Type": "application/json-lines"}


def meta(answer, code, subcode):
    """The meta of an answer that has this code, everywhere."""
    found = answer.json()
    assert answer.status_code == found["meta"]["result_code"] == code, answer.text
    assert found["meta"]["result_subcode"] == subcode, answer.text
    return found["meta"]


def test_an_answer_has_all_of_its_envelope(http):
    answer = http.post("v2.23/queues.get_all", {}, auth=http.keys, headers={"X-Clearml-Trx": "t" * 32})
    found = meta(answer, 200, 0)
    assert set(found) == {"id", "trx", "endpoint", "result_code", "result_subcode", "result_msg", "error_stack",
                          "error_data"}
    assert found["trx"] == "t" * 32 and len(found["id"]) == 32
    assert found["endpoint"]["name"] == "queues.get_all"
    assert found["endpoint"]["requested_version"] == "2.23"
    assert isinstance(found["endpoint"]["actual_version"], str)
    assert found["error_stack"] is None and found["error_data"] == {} and found["result_msg"] == "OK"
    assert answer.json()["data"]["queues"][0]["name"] == "default"
    assert answer.headers["X-Agentpipe-Server"] == http.ready["server_id"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["queues.get_all", "/v2.5/queues.get_all", "v2.99/queues.get_all/"])
def test_any_method_and_any_way_to_write_a_path(http, method, path):
    answer = requests.request(method, f"{http.api}/{path}", json={"name": "^default$"}, auth=http.keys, timeout=30)
    assert [queue["name"] for queue in answer.json()["data"]["queues"]] == ["default"]


def test_options_is_for_browsers_of_any_origin(http):
    answer = requests.options(http.api + "/tasks.get_all", timeout=30)
    assert answer.status_code == 200 and answer.content == b""
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_browser_is_told_that_there_is_no_web_page_and_what_to_type(http):
    task = "0123456789abcdef" * 2
    page = f"/projects/{task[::-1]}/tasks/{task}/output/log"  # as the clearml package prints it
    for path, accept, named in ((page, "*/*", task), (page.replace("tasks", "experiments"), "*/*", task),
                                ("/datasets/simple/*/experiments/<b>", "*/*", "ID"), ("/", "text/html,*/*", "ID")):
        answer = requests.get(http.api + path, headers={"Accept": accept}, timeout=30)
        assert answer.status_code == 404 and answer.headers["Content-Type"].startswith("text/plain")
        assert answer.text.count("\n") == 1 and f"agent-task show {named}, agent-task log {named}" in answer.text
    meta(requests.get(http.api + "/", timeout=30), 400, 0)
    meta(requests.get(http.api + "/queues.get_all", headers={"Accept": "text/html"}, timeout=30), 401, 20)
    meta(http.post(page), 400, 0)


def test_a_bad_path_is_400_and_an_unknown_endpoint_404_before_any_authentication(http):
    assert meta(http.post("nothing"), 400, 0)["result_msg"].startswith("Invalid request path")
    for name in ("tasks.nope", "workers.get_runtime_properties", "datasets.get_all", "users.get_vaults",
                 "os.system", "agentpipe.call"):
        found = meta(http.post("v2.9/" + name), 404, 0)
        assert found["result_msg"] == f"Unable to find endpoint for name {name} and version 2.9"
        assert found["endpoint"]["actual_version"] is None


def test_an_error_has_an_empty_object_as_its_data(http):
    answer = http.post("tasks.get_by_id", {"task": "nope"}, auth=http.keys)
    meta(answer, 400, 101)
    assert answer.json()["data"] == {}


def test_a_missing_field_and_a_wrong_type_are_told_as_clearml_does(http):
    found = meta(http.post("tasks.get_by_id", {}, auth=http.keys), 400, 12)
    assert found["result_msg"] == "validation error (error for field 'task'. field is required!)"
    meta(http.post("tasks.get_by_id", {"task": 5}, auth=http.keys), 400, 12)


@pytest.mark.parametrize(("body", "headers"), [
    (b"", {}), (b"{}", {"Content-Type": "text/plain"}), (b'{"nothing": NaN}', {}), (b'{"x": "\\ud800"}', {}),
])
def test_bodies_that_are_fine(http, body, headers):
    answer = requests.get(http.api + "/queues.get_all", data=body, headers=headers, auth=http.keys, timeout=30)
    meta(answer, 200, 0)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b'"text"', b"5"])
def test_bodies_that_are_not(http, body):
    answer = requests.post(http.api + "/queues.get_all", data=body, auth=http.keys, timeout=30)
    meta(answer, 400, 12)


def test_a_compressed_body_is_415(http):
    answer = requests.post(http.api + "/queues.get_all", data=gzip.compress(b"{}"), auth=http.keys, timeout=30,
                           headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_a_query_string_is_merged_over_the_body(http):
    answer = http.post("queues.get_all?name=%5Edefault%24&page_size=1&only_fields[]=name", {"name": "other"},
                         auth=http.keys)
    assert answer.json()["data"] == {"queues": [{"name": "default"}]}
    form = requests.post(http.api + "/queues.get_all", data={"name": "^nothing$"}, auth=http.keys, timeout=30)
    assert form.json()["data"] == {"queues": []}
    many = http.post("queues.get_all?" + "name=a&" * 1001, auth=http.keys).json()["meta"]
    assert (many["result_code"], many["result_subcode"]) == (400, 12) and "1000 fields" in many["result_msg"]


def test_events_come_as_lines_as_a_list_or_alone(http):
    task = http.call("tasks.create", name="lines", type="training")["id"]
    events = [{"type": "log", "task": task, "msg": text} for text in ("one", "two")]
    lines = "\n".join(map(json.dumps, events))
    for body, headers, added in ((lines, LINES, 2), (json.dumps(events), {}, 2), (json.dumps(events[0]), {}, 1)):
        answer = requests.post(http.api + "/events.add_batch", data=body, headers=headers, auth=http.keys,
                               timeout=30)
        assert answer.json()["data"]["added"] == added
    assert http.call("events.get_task_log", task=task)["total"] == 5


def test_a_large_answer_is_compressed_for_who_takes_it(http):
    task = http.call("tasks.create", name="large", type="training", script={"diff": "x" * 100_000})["id"]
    with requests.post(http.api + "/tasks.get_by_id", json={"task": task}, auth=http.keys, timeout=30,
                       stream=True) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert int(answer.headers["Content-Length"]) < 5000
        assert len(answer.json()["data"]["task"]["script"]["diff"]) == 100_000
    plain = requests.post(http.api + "/tasks.get_by_id", json={"task": task}, auth=http.keys, timeout=30,
                          headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers and plain.json()["data"]["task"]["id"] == task


def test_the_clearml_packages_connections_are_closed_since_it_forks_with_them_and_ours_are_kept(http):
    for client, closed in (("clearml-2.1.12", True), ("agentpipe-0.1", False), ("", False)):
        answer = http.post("debug.ping", headers={"X-Clearml-Client": client})
        assert (answer.headers.get("Connection") == "close") is closed


def test_a_body_of_15_mb_is_taken_and_one_of_a_stranger_is_not_read(http):
    task = http.call("tasks.create", name="big", type="training")["id"]
    event = {"type": "log", "task": task, "msg": "x" * (15 << 20)}
    answer = requests.post(http.api + "/events.add_batch", data=json.dumps(event), headers=LINES, auth=http.keys,
                           timeout=60)
    assert answer.json()["data"]["added"] == 1
    answer = requests.post(http.api + "/debug.ping", data=b"x" * (1 << 20), timeout=30)
    meta(answer, 413, 0)


def test_a_head_without_end_is_cut_off(http):
    host, port = http.api.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(b"GET /debug.ping HTTP/1.1\r\n")
        try:
            for _ in range(64):
                connection.sendall(b"X-Long: " + b"y" * 8192 + b"\r\n")
            answer = connection.recv(100)
        except ConnectionError:
            answer = b""
    assert b" 200 " not in answer
    assert http.call("queues.get_all")["queues"]


def test_versions_below_2_1_are_numbers_and_older_ones_see_old_fields(http):
    found = http.post("v2.0/queues.get_all", {}, auth=http.keys).json()["meta"]["endpoint"]
    assert found["requested_version"] == 2.0 and found["actual_version"] == 2.0
    task = http.call("tasks.create", name="old", type="training",
                       container={"image": "debian:12", "arguments": "--ipc host"}, system_tags=["hidden"])["id"]
    old = http.post("v2.5/tasks.get_by_id", {"task": task}, auth=http.keys).json()["data"]["task"]
    assert old["execution"]["docker_cmd"] == "debian:12 --ipc host"
    new = http.post("v2.13/tasks.get_by_id", {"task": task}, auth=http.keys).json()["data"]["task"]
    assert "docker_cmd" not in new["execution"]
    oldest = http.post("v2.2/tasks.get_by_id", {"task": task}, auth=http.keys).json()["data"]["task"]
    assert oldest["tags"] == ["hidden"]


def test_parameters_of_an_old_client_become_sections_and_are_read_back_by_it(http):
    task = http.call("tasks.create", name="old parameters", type="training")["id"]
    http.post("v2.5/tasks.edit", {"task": task, "execution": {
        "docker_cmd": "alpine -it", "parameters": {"lr": "1", "TF_DEFINE/x": "2"}}}, auth=http.keys)
    new = http.call("tasks.get_by_id", task=task)["task"]
    assert new["container"] == {"image": "alpine", "arguments": "-it"}
    assert new["hyperparams"]["Args"]["lr"]["value"] == "1" and new["hyperparams"]["TF_DEFINE"]["x"]["value"] == "2"
    old = http.post("v2.5/tasks.get_by_id", {"task": task}, auth=http.keys).json()["data"]["task"]
    assert old["execution"]["parameters"] == {"lr": "1", "TF_DEFINE/x": "2"}


def test_two_servers_of_one_store_are_refused_and_a_port_that_is_taken_is_named(http, tmp_path):
    import subprocess
    import sys
    command = [sys.executable, "-m", "agentpipe.cmds.agent_server"]
    port = http.api.rpartition(":")[2]
    environment = {"AGENT_HOME": http.home, "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 75 and f"pid {http.process.pid}" in done.stderr
    done = subprocess.run([*command, "--port", port], env={"AGENT_HOME": str(tmp_path / "other"), "PATH": ""},
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 73 and "--port" in done.stderr and len(done.stderr.splitlines()) == 1


def test_it_stops_gracefully_what_was_written_is_there_at_the_next_start_and_tokens_go_on(tmp_path):
    one = HttpServer(tmp_path / "home")
    task = one.call("tasks.create", name="kept", type="training")["id"]
    headers = one.bearer()
    keys = one.keys
    assert one.stop() == 0
    two = HttpServer(tmp_path / "home")
    try:
        assert two.keys is None, "keys are shown only at the first start"
        assert two.ready["server_id"] == one.ready["server_id"]
        answer = two.post("tasks.get_by_id", {"task": task}, headers=headers)
        assert answer.json()["data"]["task"]["name"] == "kept"
        meta(two.post("auth.login", auth=keys), 200, 0)
    finally:
        assert two.stop() == 0
