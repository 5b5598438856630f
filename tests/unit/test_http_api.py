"""The same API over HTTP: who we are, what is tried again and what never, and what is said when nothing helps."""

import base64
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import types

import pytest
from api_server import KEY, SECRET, ApiServer, jwt

from agentpipe import errors
from agentpipe.configure import config_init
from agentpipe.settings import config
from agentpipe.signals import SIGNALS
from agentpipe.transport import api, http_api, http_login, http_retry, http_transport


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ApiServer(str(tmp_path / "server.db")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(http_retry, "back_off", lambda pause, away: pause)  # the pauses have a test of their own
        yield server


def queues(client):
    return [queue["name"] for queue in client.call("queues.get_all")["queues"]]


def refused(client, endpoint="queues.get_all", body=None):
    with pytest.raises(errors.Failure) as caught:
        client.call(endpoint, body)
    return caught.value


# --- who we are -------------------------------------------------------------------------------------------------------

def test_a_call_carries_token_worker_and_version(server):
    assert queues(api.connect("box:0")) == ["default"]
    (_, login, basic, _), (method, path, headers, _) = server.requests
    assert (login, method, path) == ("/auth.login", "POST", "/v2.34/queues.get_all")
    assert basic["Authorization"].startswith("Basic ")
    assert headers["Authorization"].startswith("Bearer ")
    assert headers["X-Clearml-Worker"] == "box:0"
    assert "agentpipe" in headers["X-Clearml-Client"]


def test_what_json_has_no_number_for_is_none():
    answer = http_transport.Answer(200, {}, b'{"meta": {"result_code": 200}, "data": {"x": NaN, "y": -Infinity}}')
    assert http_api.data_of("host", answer) == {"x": None, "y": None}


def test_the_next_process_logs_in_no_more(server, agent_home):
    queues(api.connect())
    kept, = (agent_home / "state" / "tokens").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert SECRET not in kept.read_text()
    queues(api.connect())
    assert server.logins == 1


def test_other_keys_get_a_token_of_their_own(server, monkeypatch):
    queues(api.connect())
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "another")
    failure = refused(api.connect())
    assert failure.exit == errors.NO_PERMISSION
    assert "another" in failure.reason and "agent-config" in failure.remedy
    assert SECRET not in failure.reason


def test_without_keys_it_is_said_how_to_give_them(server, monkeypatch):
    monkeypatch.delenv("CLEARML_API_SECRET_KEY")
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG
    assert "agent-config init" in failure.remedy


def test_a_revoked_token_is_renewed_once(server):
    client = api.connect()
    queues(client)
    server.tokens.clear()
    assert queues(client) == ["default"]
    assert server.logins == 2


@pytest.mark.parametrize(("address", "secret", "taken"), [
    ("URL", SECRET, True), ("http://elsewhere:8008", SECRET, False), ("URL", "another-wrong-secret", False)])
def test_keys_that_are_replaced_in_the_file_while_we_run_are_taken_up(server, monkeypatch, tmp_path, address, secret,
                                                                      taken):
    conf = tmp_path / "clearml.conf"

    def write(host, key, secret):
        conf.write_text(f'api {{ api_server: "{host}"\n credentials {{ access_key: {key}\n secret_key: {secret} }} }}')

    for name in server.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(conf))
    monkeypatch.setattr("api_server.KEY", "FIRSTKEY")
    write(server.url, "FIRSTKEY", SECRET)
    client = api.connect()
    queues(client)
    monkeypatch.setattr("api_server.KEY", KEY)
    server.tokens.clear()  # revoked, with the key
    assert "does not accept the key FIRSTKEY" in refused(client).reason
    conf.write_text("api { half")  # as it is written
    assert "does not accept the key FIRSTKEY" in refused(client).reason
    write(server.url if address == "URL" else address, KEY, secret)
    if taken:
        assert queues(client) == ["default"]
    else:
        assert refused(client).exit == errors.NO_PERMISSION
        sent = [headers["Authorization"] for _, path, headers, _ in server.requests if path == "/auth.login"]
        assert (base64.b64encode(f"{KEY}:{SECRET}".encode()).decode() in " ".join(sent)) is False


def test_one_that_stays_refused_is_no_endless_loop(server):
    client = api.connect()
    queues(client)
    server.answer = lambda endpoint, headers, body: (
        {"token": server.login(headers["Authorization"], body)} if endpoint == "auth.login" else _unauthorized())
    with pytest.raises(errors.ApiError) as caught:
        client.call("queues.get_all")
    assert caught.value.code == 401
    assert server.logins == 2


def _unauthorized():
    raise errors.ApiError(401, 20, "unauthorized")


def test_a_token_is_renewed_before_it_ends(server):
    server.life_s = 7200
    client = api.connect()
    queues(client)
    client._login._came -= 3700  # more than half of its life is over
    queues(client)
    assert server.logins == 2


@pytest.mark.parametrize("ahead", [86400 * 40, -86400 * 40])
def test_a_clock_that_is_wrong_costs_no_further_logins(server, monkeypatch, ahead):
    ours = types.SimpleNamespace(time=lambda: time.time() + ahead)
    monkeypatch.setattr(http_login, "time", ours)
    client = api.connect()
    queues(client)
    queues(client)
    os.utime(client._login._path(), (ours.time(), ours.time()))  # as this machine would have written it
    queues(api.connect())
    assert server.logins == 1


def test_how_long_before_is_the_users_choice(server, monkeypatch):
    server.life_s = 86400
    client = api.connect()
    queues(client)
    client._login._came -= 86400 - 3600  # an hour is left
    monkeypatch.setenv("CLEARML_AGENT__API__AUTH__TOKEN_EXPIRATION_THRESHOLD_SEC", "600")
    queues(client)
    assert server.logins == 1
    monkeypatch.setenv("CLEARML_AGENT__API__AUTH__TOKEN_EXPIRATION_THRESHOLD_SEC", "7200")
    queues(client)
    assert server.logins == 2


def test_a_token_still_good_outlives_a_login_that_fails(server):
    server.life_s = 7200
    client = api.connect()
    queues(client)
    client._login._came -= 3700
    server.failing = [503]
    client.patience = 0
    assert queues(client) == ["default"]


def test_a_given_token_replaces_the_keys_and_its_successor_goes_to_children(server, monkeypatch, agent_home):
    queues(api.connect())
    given = next(iter(server.tokens))
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", given)
    for name in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        monkeypatch.delenv(name)
    client = api.connect()
    assert queues(client) == ["default"]
    assert server.logins == 1
    client._login.renew()
    assert os.environ["CLEARML_AUTH_TOKEN"] != given
    assert server.requests[-1][2]["Authorization"] == f"Bearer {given}"
    server.tokens.clear()
    assert refused(client).exit == errors.NO_PERMISSION


def test_a_newline_behind_a_token_or_a_key_is_no_part_of_it(server, monkeypatch):
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", SECRET + "\n")
    assert queues(api.connect()) == ["default"]
    given = next(iter(server.tokens))
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", f" {given}\n")
    assert queues(api.connect()) == ["default"]
    assert os.environ["CLEARML_AUTH_TOKEN"] == given


@pytest.mark.parametrize(("name", "value"), [
    ("CLEARML_AUTH_TOKEN", "s3cr3t\n-token"), ("CLEARML_AUTH_TOKEN", "s3cr3t-トークン"),
    ("CLEARML_API_SECRET_KEY", "s3cr3t-鍵"), ("CLEARML_API_HOST", "http://.example.com")])
def test_what_no_request_can_carry_is_refused_and_not_quoted(server, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG
    assert "no request can carry" in failure.reason and "s3cr3t" not in str(failure)


def test_the_lifetime_of_a_token_can_be_asked_for(server, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__API__AUTH__REQUEST_TOKEN_EXPIRATION_SEC", "600")
    client = api.connect()
    payload = client._login.payload()
    assert payload["exp"] - payload["iat"] == pytest.approx(600)


def test_agent_server_has_its_stores_id_and_any_other_its_address(server):
    assert api.connect().server_id == server.store.server_id
    server.ours = False
    os.environ["CLEARML_API_HOST"] = server.url.replace("127.0.0.1", "LOCALHOST") + "/"
    client = api.connect()
    assert client.server_id == f"http://localhost:{server.port}"
    assert not client.ours


@pytest.mark.parametrize(("address", "same"), [
    ("http://Api.Example.org:80/", "http://api.example.org"), ("https://a:443/x/", "https://a/x"),
    ("HTTP://user:pass@a:8008", "http://a:8008"), ("a:8008", "http://a:8008"), ("api.example.org", "https://api.example.org"),
    ("http://[::1]:8008", "http://[::1]:8008")])
def test_addresses_are_compared_in_one_form(address, same):
    assert http_api.normalised(address) == same


@pytest.mark.parametrize("address", ["ftp://a", "http://", "http://a:port"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(errors.Failure) as caught:
        http_api.normalised(address)
    assert caught.value.exit == errors.BAD_CONFIG


# --- how it is asked --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("says", "asked"), [("2.9", "v2.9"), ("2.99", "v2.34")])
def test_no_newer_api_than_both_know(server, says, asked):
    server.version = says
    queues(api.connect())
    assert server.requests[-1][1].startswith(f"/{asked}/")


def test_an_older_server_can_be_pretended(server, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_FORCE_MAX_API_VERSION", "2.13")
    queues(api.connect())
    assert server.requests[-1][1] == "/v2.13/queues.get_all"
    monkeypatch.setenv("CLEARML_AGENT_FORCE_MAX_API_VERSION", "2.x")
    failure = refused(api.connect())
    assert (failure.exit, failure.reason) == (78, "CLEARML_AGENT_FORCE_MAX_API_VERSION is no version: 2.x")


@pytest.mark.parametrize("method", ["get", "PUT"])
def test_the_method_is_the_users(server, monkeypatch, method):
    monkeypatch.setenv("CLEARML_API_DEFAULT_REQ_METHOD", method)
    assert queues(api.connect()) == ["default"]
    assert {request[0] for request in server.requests} == {method.upper()}
    assert api.connect().call("queues.get_all", {"name": "nothing"})["queues"] == []


def test_events_go_as_lines_and_in_pieces_that_the_server_takes(server, monkeypatch):
    client = api.connect()
    task = client.call("tasks.create", {"name": "events", "type": "training"})["id"]
    monkeypatch.setenv("CLEARML_AGENT__API__HTTP__MAX_REQ_SIZE", "1000")
    events = [{"type": "log", "task": task, "msg": f"line {number} " + "x" * 200, "timestamp": number + 1}
              for number in range(10)]
    assert client.call("events.add_batch", events)["added"] == 10
    sent = [request for request in server.requests if request[1].endswith("add_batch")]
    assert len(sent) > 2
    assert all(request[2]["Content-Type"] == "application/json-lines" for request in sent)
    assert [event for request in sent for event in request[3]] == events


def test_big_answers_come_compressed(server):
    client = api.connect()
    for number in range(20):
        client.call("queues.create", {"name": f"queue {number}"})
    assert len(queues(client)) == 21
    assert "gzip" in server.requests[-1][2]["Accept-Encoding"]


def test_a_login_of_netrc_does_not_replace_ours(server, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert queues(api.connect()) == ["default"]


def test_the_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://api.example.org:8008")
    monkeypatch.setenv("http_proxy", server.url)
    assert queues(api.connect()) == ["default"]
    assert server.requests[-1][1] == "http://api.example.org:8008/v2.34/queues.get_all"


# --- what fails -------------------------------------------------------------------------------------------------------

def test_an_error_of_the_api_is_told_at_once(server):
    client = api.connect()
    with pytest.raises(errors.ApiError) as caught:
        client.call("tasks.get_by_id", {"task": "nope"})
    assert (caught.value.code, caught.value.subcode) == (400, 101)
    assert server.asked().count("tasks.get_by_id") == 1


@pytest.mark.parametrize("trouble", [503, 502, 504, 509, 429, "drop"])
def test_a_question_is_asked_again(server, trouble):
    client = api.connect()
    queues(client)
    server.failing = [trouble, trouble]
    assert queues(client) == ["default"]


@pytest.mark.parametrize("endpoint", ["queues.get_next_task", "tasks.create", "tasks.enqueue", "events.add_batch"])
@pytest.mark.parametrize("trouble", ["done, then dropped", 504])
def test_what_may_have_been_done_is_never_asked_twice(server, endpoint, trouble):
    client = api.connect()
    queue = client.call("queues.get_default")["id"]
    server.failing = [trouble]
    body = [{"type": "log", "task": "x", "msg": "y"}] if endpoint == "events.add_batch" else {"queue": queue}
    failure = refused(client, endpoint, body)
    assert failure.exit == errors.UNAVAILABLE and failure.unsure
    assert server.asked().count(endpoint) == 1


@pytest.mark.parametrize("trouble", [503, 429])
def test_what_was_surely_not_done_is_asked_again(server, trouble):
    client = api.connect()
    queues(client)
    server.failing = [trouble]
    assert client.call("queues.create", {"name": "new one"})["id"]


def test_patience_ends_with_69_and_a_remedy(server):
    client = api.connect()
    queues(client)
    client.patience = 0.2
    server.failing = [503] * 1000
    failure = refused(client)
    assert failure.exit == errors.UNAVAILABLE
    assert "maintained" in failure.reason and failure.remedy


def test_pauses_grow_vary_and_end_when_we_are_told_to_stop(monkeypatch):
    slept = []
    monkeypatch.setattr(http_retry.time, "monotonic", lambda: 100 + sum(slept))
    monkeypatch.setattr(http_retry.time, "sleep", slept.append)
    away = http_transport.Away("http://a", "gone")
    assert http_retry.back_off(2.0, away) == 4.0
    assert 1.0 <= sum(slept) <= 3.0
    assert http_retry.back_off(20.0, away) == 30.0
    slept.clear()
    http_retry.back_off(0.1, http_transport.Away("http://a", "gone", wait=7.0))
    assert sum(slept) == pytest.approx(7.0)
    slept.clear()
    monkeypatch.setattr(SIGNALS, "waiting", [15])
    with pytest.raises(http_transport.Away):
        http_retry.back_off(20.0, away)
    assert len(slept) == 1


@pytest.mark.parametrize(("trouble", "key"), [(502, "status"), (503, "total"), ("drop", "read")])
def test_the_users_number_of_retries_counts(server, trouble, key, monkeypatch):
    client = api.connect()
    queues(client)
    monkeypatch.setenv(f"CLEARML_AGENT__API__HTTP__RETRIES__{key.upper()}", "2")
    server.failing = [trouble] * 9
    before = len(server.requests)
    refused(client)
    assert len(server.requests) - before == 3
    server.failing = [trouble] * 2
    assert queues(client) == ["default"]


def test_and_so_do_the_users_pauses(server, monkeypatch):
    client = api.connect()
    queues(client)
    monkeypatch.setenv("CLEARML_AGENT__API__HTTP__RETRIES__BACKOFF_FACTOR", "3")
    pauses = []
    monkeypatch.setattr(http_retry, "back_off", lambda pause, away: pauses.append(pause) or pause)
    server.failing = [503]
    queues(client)
    assert pauses == [3.0]


def test_a_stage_waits_for_a_server_under_maintenance_without_end(server, monkeypatch):
    client = api.connect(patience=http_retry.STAGE_PATIENCE_S)
    queues(client)
    now = [0.0]
    monkeypatch.setattr(http_retry.time, "monotonic", lambda: now[0])

    def days(pause, away):
        now[0] += 86400
        return pause
    monkeypatch.setattr(http_retry, "back_off", days)
    server.failing = [503] * 20
    assert queues(client) == ["default"]
    server.failing = [502] * 20
    assert refused(client).exit == errors.UNAVAILABLE
    monkeypatch.setenv("CLEARML_AGENT__API__HTTP__WAIT_ON_MAINTENANCE_FOREVER", "false")
    server.failing = [503] * 20
    assert refused(client).exit == errors.UNAVAILABLE


@pytest.mark.parametrize(("faults", "endpoint", "asked"), [(2, "queues.get_all", 3), (9, "queues.get_all", 3),
                                                           (9, "queues.create", 1)])
def test_a_fault_within_the_server_is_tried_a_few_times(server, faults, endpoint, asked):
    client = api.connect()
    queues(client)
    server.failing = [500] * faults
    before = len(server.requests)
    if faults < asked:
        assert queues(client) == ["default"]
    else:
        with pytest.raises(errors.ApiError) as caught:
            client.call(endpoint, {"name": "a new one"})
        assert caught.value.code == 500
    assert len(server.requests) - before == asked


@pytest.mark.parametrize("code", [400, 403, 404])
def test_no_4xx_is_tried_again(server, code):
    client = api.connect()
    queues(client)
    before = len(server.requests)
    answer = server.answer

    def refuse(endpoint, headers, body):
        raise errors.ApiError(code, 0, "no")
    server.answer = refuse
    with pytest.raises(errors.ApiError):
        client.call("queues.get_all")
    assert len(server.requests) - before == 1
    server.answer = answer


def _in_body(answer, kind="application/json", code=200):
    def plan(handler):
        handler._plain(code, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), kind)
        return "answered"
    return plan


@pytest.mark.parametrize("answer", [
    b"[" * 100_000, [], {"meta": [], "data": {}}, {"meta": {"result_code": 200}, "data": [1]},
    {"meta": {"result_code": 200}, "data": "x"}, {"meta": {"result_code": 400, "result_subcode": [1]}, "data": {}},
    b'{"meta": {"result_code": 1e999}}'])
def test_what_no_api_answers_is_no_bug_of_ours(server, answer):
    client = api.connect()
    queues(client)
    server.failing = [_in_body(answer)]
    failure = refused(client)
    assert failure.exit == errors.BAD_CONFIG and "but not as a ClearML API server" in failure.reason


@pytest.mark.parametrize("token", [5, ["a"], {"a": 1}, None])
def test_a_token_that_is_no_text_is_no_bug_of_ours(server, token):
    server.failing = [_in_body({"meta": {"result_code": 200}, "data": {"token": token}})]
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG and "but not as a ClearML API server" in failure.reason


@pytest.mark.parametrize("code", [401, 403])
def test_a_login_that_a_proxy_refuses_asks_for_no_other_keys(server, code):
    server.failing = [_in_body(b"<html>who are you?</html>", "text/html", code)]
    failure = refused(api.connect())
    assert f"answers ({code}, text/html), but not as a ClearML API server" in failure.reason


def test_every_request_has_a_time_limit(server, monkeypatch):
    import requests
    seen = []
    send = requests.Session.send

    def note(self, request, **more):
        seen.append(more["timeout"])
        return send(self, request, **more)
    monkeypatch.setattr(requests.Session, "send", note)
    client = api.connect()
    client.call("tasks.create", {"name": "x" * 100_000, "type": "training"})
    queues(client)
    assert seen == [(5.0, 30.0), (5.0, 60.0), (5.0, 30.0)]


def test_who_tries_again_by_himself_is_told_at_once(server):
    client = api.connect()
    queues(client)
    server.failing = [503]
    refused(client.once())
    assert queues(client.once()) == ["default"]


def test_an_address_where_nothing_listens_is_given_up_soon(server, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:9")
    failure = refused(api.connect())
    assert failure.exit == errors.UNAVAILABLE
    assert failure.reason == "http://127.0.0.1:9: Connection refused"


@pytest.mark.parametrize(("said", "tries"), [("7", 8), ("true", 5), ("false", 13)])
def test_how_often_such_an_address_is_tried_is_the_users_choice(server, monkeypatch, said, tries):
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("CLEARML_AGENT_INITIAL_CONNECT_RETRY_OVERRIDE", said)
    client, pauses, now = api.connect(), [], [0.0]
    monkeypatch.setattr(http_retry.time, "monotonic", lambda: now[0])

    def wait(pause, away):
        pauses.append(pause)
        now[0] += 5  # of the 60 seconds of a command's patience
        return pause
    monkeypatch.setattr(http_retry, "back_off", wait)
    refused(client)
    assert len(pauses) + 1 == tries


def test_a_number_of_tries_that_is_none_is_refused(server, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("CLEARML_AGENT_INITIAL_CONNECT_RETRY_OVERRIDE", "often")
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG
    assert failure.reason == "CLEARML_AGENT_INITIAL_CONNECT_RETRY_OVERRIDE is no number: often"


def test_an_unknown_name_says_so(server, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "http://no-such-host.invalid:8008")
    assert "no-such-host.invalid:8008: " in refused(api.connect()).reason


def test_a_server_that_hangs_is_left_after_a_while(server, monkeypatch):
    monkeypatch.setattr(http_transport, "READ_S", 0.3)
    client = api.connect()
    queues(client)
    free = threading.Event()
    server.failing = [lambda handler: free.wait(20) and 200]
    failure = refused(client, "queues.get_next_task", {"queue": "x"})
    free.set()
    assert "no answer within 0.3 s" in failure.reason


def test_a_web_page_is_not_the_api(server):
    client = api.connect()
    queues(client)
    server.failing = [404]
    failure = refused(client)
    assert failure.exit == errors.BAD_CONFIG
    assert "8008" in failure.remedy


@pytest.mark.parametrize(("status", "exit", "word"), [(407, errors.NO_PERMISSION, "https_proxy"),
                                                      (413, errors.BAD_CONFIG, "max_req_size")])
def test_what_a_proxy_says_is_told_as_such(server, status, exit, word):
    client = api.connect()
    queues(client)
    server.failing = [status]
    failure = refused(client)
    assert failure.exit == exit
    assert word in failure.remedy
    assert not failure.of_machine  # a request is as large as its task makes it


def test_a_login_that_was_lost_has_done_nothing(server):
    client = api.connect()
    queue = client.call("queues.get_default")["id"]
    server.tokens.clear()
    other = api.connect()
    other._login._token = ""
    server.failing = ["done, then dropped"]
    assert other.call("queues.get_next_task", {"queue": queue}) == {}
    assert server.asked()[-3:] == ["auth.login", "auth.login", "queues.get_next_task"]


def test_a_server_that_is_starting_up_is_waited_for(server):
    server.failing = [500] * 4
    assert queues(api.connect()) == ["default"]
    client = api.connect()
    client._login._token = ""
    server.failing = [500]
    failure = refused(client.once())
    assert (failure.exit, failure.status) == (errors.UNAVAILABLE, 500) and "its login answers 500" in failure.reason


def test_a_redirect_is_named_and_not_followed(server):
    def redirect(handler):
        handler.send_response(301)
        handler.send_header("Location", "https://app.example.org/login?token=x")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        raise ConnectionAbortedError
    client = api.connect()
    server.failing = [redirect]
    failure = refused(client)
    assert failure.exit == errors.BAD_CONFIG
    assert "https://app.example.org/login:" in failure.reason


# --- certificates -----------------------------------------------------------------------------------------------------

@pytest.fixture
def secure(server, tmp_path, monkeypatch):
    """The same server behind TLS, with a certificate of its own authority; the certificate's file."""
    file = tmp_path / "ca.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key.pem", "-out", file],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, tmp_path / "key.pem")
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    monkeypatch.setenv("CLEARML_API_HOST", f"https://localhost:{server.port}")
    return str(file)


def test_an_unknown_certificate_is_refused_with_what_to_set(secure):
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG
    assert "certificate" in failure.reason and "verify_certificate" in failure.remedy


def test_a_certificate_for_another_name_is_told_as_that(secure, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", f"https://127.0.0.1:{os.environ['CLEARML_API_HOST'].rpartition(':')[2]}")
    monkeypatch.setenv("CLEARML_API_HOST_VERIFY_CERT", secure)
    failure = refused(api.connect())
    assert "certificate is not valid for '127.0.0.1'" in failure.reason and "api.api_server" in failure.remedy


@pytest.mark.parametrize("variable", ["CLEARML_API_HOST_VERIFY_CERT", "REQUESTS_CA_BUNDLE"])
def test_the_file_that_init_writes_works_without_the_variables_of_init(secure, tmp_path, monkeypatch, variable):
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "clearml.conf"))
    monkeypatch.setenv(variable, secure)
    monkeypatch.setattr(config_init, "pasted", lambda ask: {})
    config_init.init({})
    for name in (variable, "CLEARML_API_HOST", "CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        monkeypatch.delenv(name)
    config.reload()
    assert queues(api.connect()) == ["default"]


def test_an_address_of_a_proxy_that_is_none_is_told_as_that(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "nonsense:x")
    monkeypatch.setenv("no_proxy", "")
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG and "http_proxy" in failure.reason and "api_server" not in failure.reason


def test_a_server_without_tls_is_told_as_that(server, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", f"https://localhost:{server.port}")
    failure = refused(api.connect())
    assert failure.exit == errors.BAD_CONFIG
    assert "without TLS" in failure.reason and "http://" in failure.remedy


def test_a_proxy_that_hangs_up_before_it_is_up_is_tried_again(server, monkeypatch):
    with socket.create_server(("localhost", 0)) as listening:
        def hang_up():
            client, _ = listening.accept()
            client.recv(1 << 16)
            client.close()
        threading.Thread(target=hang_up, daemon=True).start()
        monkeypatch.setenv("CLEARML_API_HOST", f"https://localhost:{listening.getsockname()[1]}")
        assert refused(api.connect().once()).exit == errors.UNAVAILABLE


@pytest.mark.parametrize("variable", ["CLEARML_AGENT__API__VERIFY_CERTIFICATE", "REQUESTS_CA_BUNDLE",
                                      "CLEARML_API_HOST_VERIFY_CERT"])
def test_an_authority_of_ones_own_is_taken(secure, monkeypatch, variable):
    monkeypatch.setenv(variable, secure)
    assert queues(api.connect()) == ["default"]


@pytest.mark.parametrize("variable", ["CLEARML_AGENT__API__VERIFY_CERTIFICATE", "CLEARML_API_HOST_VERIFY_CERT"])
def test_certificates_can_be_ignored_without_a_warning_each_time(secure, monkeypatch, variable, recwarn):
    monkeypatch.setenv(variable, "false")
    assert queues(api.connect()) == ["default"]
    assert not recwarn.list


# --- the token --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("token", ["", "abc", "a.b.c", "a." + "W10" + ".c", jwt({"exp": "soon"}), jwt({"iat": [1]}),
                                   jwt({"exp": 10 ** 400}), jwt({"agentpipe_server": 7, "identity": "ann"})])
def test_an_odd_token_says_nothing(token):
    assert http_login.payload(token) == {}


def test_two_threads_renew_once(server):
    client = api.connect()
    queues(client)
    server.tokens.clear()
    threads = [threading.Thread(target=queues, args=(client,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.logins == 2


def test_a_kept_token_that_cannot_be_read_is_no_matter(server, agent_home):
    queues(api.connect())
    kept, = (agent_home / "state" / "tokens").iterdir()
    for text in ("{", "[]", "5", "{}", json.dumps({**json.loads(kept.read_text()), "token": None})):
        kept.write_text(text)
        assert queues(api.connect()) == ["default"]
    found = json.loads(kept.read_text())
    assert found["key"] == KEY
    kept.write_text(json.dumps({**found, "token": "a.b.c"}))
    assert queues(api.connect()) == ["default"]


def test_a_batch_that_is_too_large_for_a_proxy_goes_in_parts(server):
    client = api.connect()
    task = client.call("tasks.create", {"name": "a task", "type": "training"})["id"]
    sizes = []

    def proxy(handler):
        sizes.append(int(handler.headers["Content-Length"]))
        return 413 if sizes[-1] > 4000 else 200

    server.failing = [proxy] * 100
    events = [{"type": "log", "task": task, "msg": f"{each} {'x' * 500}", "timestamp": each} for each in range(20)]
    assert client.call("events.add_batch", events)["added"] == 20
    assert [size for size in sizes if size > 4000] == [sizes[0], sizes[1], sizes[-3]]
    del sizes[:]
    client.once().call("events.add_batch", events)
    assert max(sizes) <= 4000  # it is known by now
    told = client.call("events.get_task_log", {"task": task, "order": "asc", "batch_size": 100})["events"]
    assert [event["msg"].split(" ")[0] for event in told] == [str(number) for number in range(20) for _ in range(2)]
    assert "max_req_size" in refused(client, "events.add_batch", [{**events[0], "msg": "x" * 5000}]).remedy
