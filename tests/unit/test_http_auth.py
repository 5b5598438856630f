"""Who may call: keys, tokens, cookies; what strangers get is 401, and always the same 401."""

import base64
import json
import time

import pytest
import requests

from agentpipe.server import keys
from agentpipe.server.endpoints import ENDPOINTS, MODULES, find


def refusal(answer):
    """(HTTP status, subcode, text) of a refusal, whose data is empty."""
    found = answer.json()
    assert found["data"] == {}
    assert found["meta"]["result_code"] == answer.status_code
    return answer.status_code, found["meta"]["result_subcode"], found["meta"]["result_msg"]


def bearer(token):
    return {"Authorization": "Bearer " + token}


def payload(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def every_endpoint():
    """The names of all endpoints that there are."""
    for service, modules in MODULES.items():
        for module in modules:
            __import__("agentpipe.server." + module)
        assert any(name.startswith(service + ".") for name in ENDPOINTS), service
    return sorted(ENDPOINTS)


def test_nothing_but_four_calls_is_open_to_strangers(http):
    answers = {name: http.post(name, {}).status_code for name in every_endpoint()}
    assert len(answers) > 100
    assert {name for name, code in answers.items() if code != 401} == {
        "login.supported_modes", "login.logout", "auth.fixed_users_mode", "debug.ping"}


def test_a_token_says_what_the_clearml_package_reads_and_of_which_server_it_is(http):
    found = payload(http.token())
    assert found["identity"]["user"] == "ann" and found["auth_type"] == "Bearer"
    assert (found["api_version"], found["server_version"], found["feature_set"]) == ("2.34", "2.3.0", "basic")
    assert found["exp"] - found["iat"] == 30 * 86400
    assert found["agentpipe_server"] == http.ready["server_id"]


@pytest.mark.parametrize(("header", "subcode", "text"), [
    (None, 20, "unauthorized (missing credentials)"),
    ("Digest abc", 10, "unauthorized (bad authentication header type)"),
    ("Basic !!!", 21, "unauthorized (malformed credentials)"),
    ("Basic " + base64.b64encode(b"no colon").decode(), 21, "unauthorized (malformed credentials)"),
    ("Basic " + base64.b64encode(b"key:secret").decode(), 22,
     "unauthorized (invalid credentials) (failed to locate provided credentials)"),
    ("Bearer nonsense", 30, "invalid token (invalid jwt token): reason=Not enough segments"),
    ("Bearer ", 30, "invalid token (invalid jwt token): reason=Not enough segments"),
])
def test_what_is_wrong_is_told_in_clearmls_words(http, header, subcode, text):
    headers = {"Authorization": header} if header else {}
    assert refusal(http.post("queues.get_all", {}, headers=headers)) == (401, subcode, text)


def test_a_wrong_secret_and_an_unknown_key_look_the_same(http):
    key, secret = http.keys
    wrong = refusal(http.post("auth.login", auth=(key, secret[:-1])))
    assert wrong == refusal(http.post("auth.login", auth=("K" * 30, secret)))
    assert wrong[:2] == (401, 22)


def test_a_token_that_was_changed_or_signed_by_nobody_is_refused(http):
    head, body, signature = http.token().split(".")
    changed = payload(f"{head}.{body}.")
    changed["identity"]["user"] = "root"
    forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for token in (f"{head}.{forged}.{signature}", f"{head}.{body}.", f"{none}.{forged}.", f"{none}.{body}."):
        assert refusal(http.post("queues.get_all", {}, headers=bearer(token)))[:2] == (401, 30), token


def test_a_token_ends_when_it_was_asked_to(http):
    token = http.token(params={"expiration_sec": 1})
    assert payload(token)["exp"] - payload(token)["iat"] == 1
    until = time.monotonic() + 10
    while time.monotonic() < until:
        answer = http.post("queues.get_all", {}, headers=bearer(token))
        if answer.status_code == 401:
            break
    assert refusal(answer) == (401, 30, "invalid token (invalid jwt token): reason=Signature has expired")
    assert refusal(http.post("auth.login?expiration_sec=99999999", auth=http.keys))[:2] == (400, 12)


def test_a_token_renews_itself(http):
    one = http.token()
    two = http.post("auth.login", headers=bearer(one)).json()["data"]["token"]
    assert payload(two)["session_id"] != payload(one)["session_id"]
    assert http.post("queues.get_all", {}, headers=bearer(two)).status_code == 200


def test_the_cookie_of_a_login_serves_its_own_pages_and_no_other_site(http):
    session = requests.Session()
    answer = session.post(http.api + "/auth.login", auth=http.keys, timeout=30)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("clearml_token_basic=") and "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert session.get(http.api + "/queues.get_all", timeout=30).status_code == 200
    for site in ("cross-site", "same-site"):
        answer = session.get(http.api + "/queues.get_all", headers={"Sec-Fetch-Site": site}, timeout=30)
        assert answer.status_code == 401
    session.post(http.api + "/auth.logout", timeout=30)
    assert session.get(http.api + "/queues.get_all", timeout=30).status_code == 401


def test_over_plain_http_no_link_and_no_other_page_changes_anything_by_the_cookie(http):
    """Where browsers do not tell the site that a request comes from."""
    session = requests.Session()
    token = session.post(http.api + "/auth.login", auth=http.keys, timeout=30).json()["data"]["token"]
    link = session.get(http.api + "/queues.create?name=by-a-link", timeout=30)
    other = [session.post(http.api + "/queues.create", json={"name": "by-a-form"}, headers={"Origin": origin},
                          timeout=30) for origin in ("http://127.0.0.1:9", "http://elsewhere", "null")]
    upload = session.post(http.files, files={"x": ("x", b"x")}, headers={"Origin": "http://elsewhere"}, timeout=30)
    assert [answer.status_code for answer in (link, *other, upload)] == [401] * 5
    own = session.post(http.api + "/queues.create", json={"name": "by its own page"}, headers={"Origin": http.api},
                       timeout=30)
    assert own.status_code == 200
    assert [queue["name"] for queue in http.call("queues.get_all")["queues"] if "by" in queue["name"]] == [
        "by its own page"]
    http.call("queues.delete", queue=own.json()["data"]["id"])
    # the one that anybody may call ends the session all the same
    session.post(http.api + "/login.logout", timeout=30)
    assert http.post("queues.get_all", {}, headers=bearer(token)).status_code == 401


def test_a_logout_ends_a_token(http):
    token = http.token()
    assert http.post("auth.validate_token", {"token": token}, auth=http.keys).json()["data"]["valid"] is True
    assert http.post("auth.logout", headers=bearer(token)).status_code == 200
    assert refusal(http.post("queues.get_all", {}, headers=bearer(token)))[:2] == (401, 30)
    told = http.post("auth.validate_token", {"token": token}, auth=http.keys).json()["data"]
    assert told["valid"] is False and "revoked" in told["msg"]


def test_keys_are_made_listed_without_secrets_and_revoked_with_their_tokens(http):
    made = http.call("auth.create_credentials", label="laptop")["credentials"]
    assert len(made["access_key"]) == 30 and made["access_key"].isalnum() and made["access_key"].isupper()
    login = http.post("auth.login", auth=(made["access_key"], made["secret_key"]))
    token = login.json()["data"]["token"]
    listed = http.call("auth.get_credentials")["credentials"]
    [mine] = [each for each in listed if each["access_key"] == made["access_key"]]
    assert mine["label"] == "laptop" and mine["last_used_from"] == "127.0.0.1" and "last_used" in mine
    assert made["secret_key"] not in json.dumps(listed)
    assert http.call("auth.edit_credentials", access_key=made["access_key"], label="desk") == {"updated": 1}
    assert http.call("auth.revoke_credentials", access_key=made["access_key"]) == {"revoked": 1}
    assert http.post("auth.login", auth=(made["access_key"], made["secret_key"])).status_code == 401
    assert http.post("queues.get_all", {}, headers=bearer(token)).status_code == 401
    assert refusal(http.post("auth.revoke_credentials", {"access_key": "none"}, auth=http.keys))[:2] == (400, 300)


def test_the_store_has_no_secret_in_the_clear(http):
    import pathlib
    store = pathlib.Path(http.ready["store"])
    for path in store.parent.glob("agent.db*"):
        assert http.keys[1].encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o77 == 0


def test_secrets_are_compared_in_constant_time(monkeypatch, tmp_path):
    from agentpipe.server.store import Store
    store = Store(str(tmp_path / "agent.db"))
    key, secret = store.transaction(lambda db: keys.make(db, "ann"))
    compared = []
    real = keys.secrets.compare_digest
    monkeypatch.setattr(keys.secrets, "compare_digest", lambda a, b: compared.append(1) or real(a, b))
    assert store.read(lambda db: keys.user_of(db, key, secret)) == "ann"
    assert store.read(lambda db: keys.user_of(db, "unknown", secret)) is None
    assert store.read(lambda db: keys.user_of(db, key, "other")) is None
    assert len(compared) == 3


def test_impersonation_is_refused(http):
    answer = http.post("queues.get_all", {}, auth=http.keys, headers={"X-Clearml-Impersonate-As": "root"})
    assert refusal(answer)[:2] == (400, 6)


def test_another_users_keys_are_another_user(http):
    import subprocess
    import sys
    command = [sys.executable, "-m", "agentpipe.cmds.agent_server", "--new-keys", "--user", "bob", "--json"]
    made = json.loads(subprocess.check_output(command, env={"AGENT_HOME": http.home, "PATH": ""}, timeout=30))
    answer = http.post("users.get_current_user", {}, auth=(made["access_key"], made["secret_key"]))
    assert answer.json()["data"]["user"]["name"] == "bob"
    assert http.call("users.get_current_user")["user"]["name"] == "ann"


def test_find_knows_only_endpoints():
    from agentpipe.errors import ApiError
    for name in ("tasks.__init__", "common.now", "store.Store", "http.Api"):
        with pytest.raises(ApiError) as caught:
            find(name)
        assert caught.value.code == 404
