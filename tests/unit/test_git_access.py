"""Logins and addresses: who gets which password, over real servers, and that no password is ever left anywhere."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from git_servers import SmartServer, basic
from repositories import commit, repository, run

from agentpipe import errors
from agentpipe.cmds import agent_fetch
from agentpipe.code import git, git_access, git_transfer
from agentpipe.environment import git_pins
from agentpipe.job import Job
from agentpipe.settings import config


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """A home without settings; a `git` that notes all words that it is given."""
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    config.reload()
    tools = tmp_path / "bin"
    tools.mkdir()
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True).stdout.strip()
    (tools / "git").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/words\nexec {real} "$@"\n')
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(git_transfer, "PAUSES", (0.01, 0.01))
    yield home
    config.reload()


@pytest.fixture
def repositories(tmp_path):
    """Two teams' repositories in one folder."""
    for team in ("team-a", "team-b"):
        repository(tmp_path / "git" / team / "r.git", {"train.py": f"print('{team}')\n"})
    return tmp_path / "git"


def settings(home: Path, text: str) -> None:
    (home / "clearml.conf").write_text(text)
    config.reload()


def fetch(directory, url, **script):
    directory.mkdir(exist_ok=True)
    return agent_fetch.work(Job({"task": {"script": {"repository": url, **script}}}, str(directory)))


def refused(directory, url, **script):
    with pytest.raises(errors.Failure) as failure:
        fetch(directory, url, **script)
    return failure.value


def left_behind(tmp_path: Path, secret: str) -> str:
    """Files in which the secret stands, but for clearml.conf and what config.py keeps of it (0600)."""
    found = subprocess.run(["grep", "-rlF", secret, str(tmp_path)], capture_output=True, text=True).stdout
    return "".join(line for line in found.splitlines() if "/clearml.conf" not in line and "/cache/config/" not in line)


def test_a_user_and_a_token_of_the_environment_are_used_and_left_nowhere(tmp_path, repositories, monkeypatch):
    with SmartServer(repositories, {"/": basic("anna", "t0p-s3cret")}) as server:
        url = f"{server.url}/team-a/r.git"
        without = refused(tmp_path / "without", url)
        monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "anna")
        monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "wr0ng-s3cret")
        wrong = refused(tmp_path / "wrong", url)
        monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "t0p-s3cret")
        found = fetch(tmp_path / "job", url)
    assert (Path(found["code"]) / "train.py").read_text() == "print('team-a')\n"
    assert without.exit == wrong.exit == errors.NO_PERMISSION
    assert "CLEARML_AGENT_GIT_USER=USER" in without.remedy
    assert "does not accept" in wrong.reason and "the user there is 'anna'" in wrong.remedy
    assert left_behind(tmp_path, "s3cret") == ""
    assert "fetch" in (tmp_path / "words").read_text()


def test_half_a_login_is_named_where_it_would_have_been_used(tmp_path, user, repositories):
    with SmartServer(repositories, {"/": basic("anna", "t0p-s3cret")}) as server:
        settings(user, f"""agent {{ git_user: anna
            git.extra_credentials: [{{user: a, pass: t0p-s3cret, host: elsewhere}}, {{user: b, host: elsewhere}}
                                    {{pass: t0p-s3cret, host: "{server.host}"}}] }}""")
        failure = refused(tmp_path / "job", f"{server.url}/team-a/r.git")
        assert failure.exit == errors.NO_PERMISSION and "t0p" not in failure.reason
        assert "agent.git_user is set and agent.git_pass is not" in failure.reason
        assert "entry 3 of agent.git.extra_credentials lacks user" in failure.reason and "entry 2" not in failure.reason
        assert [reason.split(":")[0] for reason, _ in git_access.unused()][1:] == [
            "entry 2 of agent.git.extra_credentials lacks pass", "entry 3 of agent.git.extra_credentials lacks user"]
        settings(user, "agent { git_pass: t0p-s3cret, git_use_azure_pat: true }")
        assert git_access.unused() == []


def test_an_askpass_that_is_gone_is_no_ssh_that_cannot_be_started(tmp_path, repositories, monkeypatch):
    """An editor names one of its own in its terminals; a session of tmux outlives it."""
    monkeypatch.setenv("GIT_ASKPASS", "/nonexistent/askpass.sh")
    with SmartServer(repositories, {"/": basic("anna", "t0p-s3cret")}) as server:
        failure = refused(tmp_path / "job", f"{server.url}/team-a/r.git")
    assert failure.exit == errors.NO_PERMISSION
    assert "CLEARML_AGENT_GIT_USER=USER" in failure.remedy


@pytest.mark.parametrize("only, works", [("127.0.0.1", True), ("127.0.0.1:{port}", True), ("elsewhere", False)])
def test_a_host_limits_who_gets_them(tmp_path, repositories, monkeypatch, only, works):
    with SmartServer(repositories, {"/": basic("anna", "t0p-s3cret")}) as server:
        for name, value in (("USER", "anna"), ("PASS", "t0p-s3cret"),
                            ("HOST", only.format(port=server.host.split(":")[1]))):
            monkeypatch.setenv(f"CLEARML_AGENT_GIT_{name}", value)
        if works:
            fetch(tmp_path / "job", f"{server.url}/team-a/r.git")
        else:
            assert refused(tmp_path / "job", f"{server.url}/team-a/r.git").exit == errors.NO_PERMISSION
            assert {shown for *_, shown in server.asked} == {""}


def test_each_group_has_a_token_of_its_own(tmp_path, user, repositories):
    doors = {"/team-a/": basic("a", "t0ken-a"), "/team-b/": basic("b", "t0ken-b"), "/": basic("c", "t0ken-c")}
    repository(repositories / "other.git")
    with SmartServer(repositories, doors) as server:
        settings(user, f"""agent {{ git_user: c, git_pass: t0ken-c, git_host_match_prefix: true
            git_host: "{server.url}"
            git.extra_credentials: [{{user: a, pass: t0ken-a, host: "{server.url}/Team-A"}},
                                    {{username: b, password: t0ken-b, host: "{server.host}/team-b/"}},
                                    {{user: x, pass: y}}] }}""")
        for name in ("team-a/r.git", "team-b/r.git", "other.git"):
            fetch(tmp_path / name.replace("/", "-"), f"{server.url}/{name}")
        # the one that is refused is named by where it stands, also where there is no other pair
        settings(user, f"agent {{ git.extra_credentials: [{{user: a, pass: 0ld, host: '{server.host}'}}] }}".replace(
            "'", '"'))
        wrong = refused(tmp_path / "wrong", f"{server.url}/team-a/r.git")
    assert wrong.remedy == "correct its entry of agent.git.extra_credentials: the user there is 'a'"
    assert left_behind(tmp_path, "t0ken") == ""


def test_a_prefix_that_names_a_host_is_no_other_host(monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__GIT_HOST_MATCH_PREFIX", "1")
    login = git_access.Login("https://git.corp", "u", "p")
    assert login.fits("https://git.corp/x") and login.fits("https://GIT.corp:8443/x")
    assert not login.fits("https://git.corp.evil.example/x") and not login.fits("ssh://git.corp/x")
    assert git_access.Login("https://git.corp/team", "u", "p").fits("https://git.corp/Team/r.git")
    assert not git_access.Login("https://git.corp/team", "u", "p").fits("https://git.corp/other/r.git")


@pytest.mark.parametrize("variable, header", [
    ("CLEARML_AGENT_GIT_USE_AZURE_PAT", basic("", "p4t-value")),
    ("CLEARML_AGENT_GIT_USE_MS_ENTRA_TOKEN", "Bearer p4t-value")])
def test_azures_tokens_go_into_the_header_that_it_wants(tmp_path, repositories, monkeypatch, variable, header):
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "p4t-value")
    monkeypatch.setenv(variable, "1")
    with SmartServer(repositories, {"/": header}) as server:
        fetch(tmp_path / "job", f"{server.url}/team-a/r.git")
        # as Azure's own pages give the address
        fetch(tmp_path / "named", f"http://team@{server.host}/team-b/r.git")
    assert left_behind(tmp_path, "p4t-value") == left_behind(tmp_path, header.split()[1]) == ""


def test_a_token_in_the_users_place_of_a_url_comes_before_what_is_configured(tmp_path, repositories, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "anna")
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "t0p-s3cret")
    token = "glpat-0123456789abcdef"
    with SmartServer(repositories, {"/team-a": basic(token, ""), "/": basic("anna", "t0p-s3cret")}) as server:
        fetch(tmp_path / "token", f"http://{token}@{server.host}/team-a/r.git")
        fetch(tmp_path / "name", f"http://somebody@{server.host}/team-b/r.git")


def test_a_password_without_a_user_in_a_url_is_shown(tmp_path, repositories):
    with SmartServer(repositories, {"/": basic("", "p4t-value")}) as server:
        fetch(tmp_path / "job", f"http://:p4t-value@{server.host}/team-a/r.git")
    assert left_behind(tmp_path, "p4t-value") == ""


def test_where_nothing_is_configured_netrc_answers(tmp_path, user, repositories):
    (user / ".netrc").write_text("machine 127.0.0.1 login anna password n3trc\n")
    with SmartServer(repositories, {"/": basic("anna", "n3trc")}) as server:
        fetch(tmp_path / "job", f"{server.url}/team-a/r.git")


def test_this_users_own_helper_answers_and_is_not_written(tmp_path, user, repositories, monkeypatch):
    (user / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    with SmartServer(repositories, {"/": basic("anna", "st0red")}) as server:
        (user / ".git-credentials").write_text(f"http://anna:st0red@{server.host.replace(':', '%3a')}\n")
        before = {path.name: path.read_text() for path in user.iterdir()}
        fetch(tmp_path / "job", f"{server.url}/team-a/r.git")
        # a login of the configuration is not stored with it either
        monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "anna")
        monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "st0red")
        fetch(tmp_path / "again", f"{server.url}/team-b/r.git")
    assert {path.name: path.read_text() for path in user.iterdir()} == before


def test_a_submodule_gets_the_login_of_its_own_address(tmp_path, user, repositories):
    outer = repository(repositories / "outer.git")
    for place, url in (("near", "./../team-a/r.git"), ("far", "../team-b/r.git")):
        run(outer, "submodule", "add", "-q", str(repositories / ("team-a" if place == "near" else "team-b") / "r.git"),
            place)
        run(outer, "config", "-f", ".gitmodules", f"submodule.{place}.url", url)
    run(outer, "commit", "-qam", "submodules")
    with SmartServer(repositories, {"/team-b": basic("b", "t0ken-b"), "/": basic("c", "t0ken-c")}) as server:
        settings(user, f"""agent {{ git_user: c, git_pass: t0ken-c, git_host_match_prefix: true
            git_host: "{server.url}"
            git.extra_credentials: [{{user: b, pass: t0ken-b, host: "{server.url}/team-b"}}] }}""")
        code = Path(fetch(tmp_path / "job", f"{server.url}/outer.git")["code"])
    assert (code / "near/train.py").read_text() == "print('team-a')\n"
    assert (code / "far/train.py").read_text() == "print('team-b')\n"


def test_ssh_addresses_become_https_where_there_is_a_login(tmp_path, user, repositories):
    with SmartServer(repositories, {"/": basic("anna", "t0p-s3cret")}) as server:
        # the port of a test server cannot be said in an ssh address
        (user / ".gitconfig").write_text(f'[url "{server.url}/"]\n\tinsteadOf = http://git.example/\n')
        settings(user, """agent { git_user: anna, git_pass: t0p-s3cret, translate_ssl_replacement_scheme: http }""")
        found = fetch(tmp_path / "job", "git@git.example:team-a/r.git")
        assert found["repository"] == "git@git.example:team-a/r.git"
        assert run(Path(found["code"]), "remote", "get-url", "origin") == "git@git.example:team-a/r.git"
        assert fetch(tmp_path / "again", "git@git.example:team-a/r.git", version_num=found["commit"])["cached"]


LOGIN = {"AGENT__GIT_USER": "u", "AGENT__GIT_PASS": "p"}
HTTPS, SSH = "https://h/t/r.git", "ssh://git@h/t/r.git"


@pytest.mark.parametrize("given, expected, keys", [
    (HTTPS, HTTPS, {}), (SSH, SSH, {}), ("git@h:t/r.git", "git@h:t/r.git", {}), ("/t/r.git", "/t/r.git", LOGIN),
    ("git@h:t/r.git", HTTPS, LOGIN), ("git@h:/t/r.git", HTTPS, LOGIN), ("ssh://git@h:2222/t/r.git", HTTPS, LOGIN),
    ("ssh://hg@h/t/r.git", HTTPS, LOGIN), ("h:t/r.git", HTTPS, LOGIN), ("file:///t/r.git", "file:///t/r.git", LOGIN),
    ("git@h:t/r.git", "git@h:t/r.git", {**LOGIN, "AGENT__TRANSLATE_SSH": "false"}),
    ("git@h:t/r.git", "git@h:t/r.git", {**LOGIN, "AGENT__GIT_HOST": "other"}),
    ("git@h:t/r.git", HTTPS, {**LOGIN, "AGENT__GIT_HOST": "h"}),
    ("git@h:t/r.git", "git@h:t/r.git", {"AGENT__GIT_USER": "u"}),
    ("git@h:t/r.git", "http://h/t/r.git", {**LOGIN, "AGENT__TRANSLATE_SSL_REPLACEMENT_SCHEME": "http"}),
    (HTTPS, SSH, {"AGENT__FORCE_GIT_SSH_PROTOCOL": "true"}),
    ("https://me@h:8443/t/r.git", SSH, {"AGENT__FORCE_GIT_SSH_PROTOCOL": "true"}),
    (HTTPS, "ssh://me@h:2222/t/r.git", {"AGENT__FORCE_GIT_SSH_PROTOCOL": "true", "AGENT__FORCE_GIT_SSH_PORT": "2222",
                                        "AGENT__FORCE_GIT_SSH_USER": "me"}),
    ("https://me:t0ken@h/t/r.git", SSH, {"AGENT__FORCE_GIT_SSH_PROTOCOL": "true"}),
    (HTTPS, HTTPS, {"AGENT__FORCE_GIT_SSH_PROTOCOL": "true", "AGENT__GIT_HOST": "other"}),
    (HTTPS, SSH, {"AGENT__FORCE_GIT_SSH_PROTOCOL": "true", "AGENT__GIT_HOST": "h"}),
    ("git@h:t/r.git", "git@h:t/r.git", {**LOGIN, "AGENT__FORCE_GIT_SSH_PROTOCOL": "true"}),
    (SSH, "ssh://git@h:2222/t/r.git", {"AGENT__FORCE_GIT_SSH_PORT": "2222"}),
    ("git@h:t/r.git", "ssh://me@h/t/r.git", {"AGENT__FORCE_GIT_SSH_USER": "me"}),
    ("ssh://a@h:22/t/r.git", "ssh://me@h:22/t/r.git", {"AGENT__FORCE_GIT_SSH_USER": "me"}),
])
def test_the_address_that_git_is_asked_for(monkeypatch, given, expected, keys):
    for key, value in keys.items():
        monkeypatch.setenv(f"CLEARML_AGENT__{key}", value)
    assert git_access.address(given) == expected
    assert git.Source(given).address == expected


def test_the_peers_variable_names_the_scheme(monkeypatch):
    for name, value in (("USER", "u"), ("PASS", "p")):
        monkeypatch.setenv(f"CLEARML_AGENT_GIT_{name}", value)
    monkeypatch.setenv("CLEARML_AGENT_SSH_URL_REPLACEMENT_SCHEME", "http")
    assert git_access.address("git@h:t/r.git") == "http://h/t/r.git"


@pytest.mark.parametrize("line, asked, expected", [
    ("git+ssh://git@h/t/r.git@v1#egg=x", "ssh://git@h/t/r.git", HTTPS),
    ("-e git+ssh://git@h:2222/t/r.git", "ssh://git@h:2222/t/r.git", HTTPS),
    ("x[a] @ git+ssh://git@h/t/r.git ; python_version > '3'", "git@h:t/submodule.git", "https://h/t/submodule.git"),
    ("git+ssh://git@h/t/r.git", "ssh://git@other/t/r.git", "ssh://git@other/t/r.git"),
    ("git+https://h/t/r.git", HTTPS, HTTPS), ("numpy", SSH, SSH),
    ("git+https://me:t0ken@h/t/r.git", HTTPS, HTTPS),
])
def test_an_installers_git_asks_at_the_same_address(tmp_path, monkeypatch, line, asked, expected):
    for key, value in {**LOGIN, "AGENT__GIT_HOST": "h"}.items():
        monkeypatch.setenv(f"CLEARML_AGENT__{key}", value)
    env = {**os.environ, **git_pins.access(Job({}, str(tmp_path)), [line])}
    assert run(Path("/"), "ls-remote", "--get-url", asked, env=env) == expected


def test_where_ssh_is_forced_a_requirements_own_login_is_neither_used_nor_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__FORCE_GIT_SSH_PROTOCOL", "true")
    line = "x @ git+https://me:t0ken@h/t/r.git@v1"
    env = {**os.environ, **git_pins.access(Job({}, str(tmp_path)), [line])}
    assert git_pins.without_password(line) == "x @ git+https://h/t/r.git@v1"
    assert run(Path("/"), "ls-remote", "--get-url", HTTPS, env=env) == SSH
    assert "t0ken" not in env.values()


def test_uv_gets_a_private_requirement_and_its_submodule_with_the_same_login(tmp_path, user, repositories):
    package = repository(repositories / "package.git", {"pyproject.toml": '[project]\nname = "p"\nversion = "7"\n'})
    run(package, "submodule", "add", "-q", str(repositories / "team-a" / "r.git"), "inner")
    run(package, "config", "-f", ".gitmodules", "submodule.inner.url", "../team-a/r.git")
    commit(package, {})
    uv = Path(sys.executable).with_name("uv")
    with SmartServer(repositories, {"/": basic("anna", "t0p-s3cret")}) as server:
        settings(user, 'agent { git_user: anna, git_pass: t0p-s3cret, git_host: "127.0.0.1" }')
        line = f"p @ git+{server.url}/package.git"
        (tmp_path / "list").write_text(line + "\n")
        done = subprocess.run(
            [uv, "pip", "compile", "--cache-dir", tmp_path / "uv", tmp_path / "list"], capture_output=True, text=True,
            env={**os.environ, **git_pins.access(Job({}, str(tmp_path)), [line])})
        assert done.returncode == 0, done.stderr
        assert f"p @ git+{server.url}/package.git@{run(package, 'rev-parse', 'HEAD')}" in done.stdout
        assert any("/team-a/r.git/" in path for _, path, _ in server.asked)
    assert git_pins.access(Job({}, str(tmp_path)), []) == {}
    assert left_behind(tmp_path, "t0p-s3cret") == ""


def test_a_server_that_fails_for_a_moment_is_asked_again(tmp_path, repositories):
    with SmartServer(repositories) as server:
        server.faults = [503, 500]
        fetch(tmp_path / "job", f"{server.url}/team-a/r.git")
        assert (tmp_path / "job" / "setup.log").read_text().count("asking again in") == 2
        server.faults = [503, 500, 502]
        failure = refused(tmp_path / "other", f"{server.url}/team-b/r.git")
    assert failure.exit == errors.UNAVAILABLE
    # an address where nothing is would not get better
    assert "asking again" not in (tmp_path / "job" / "setup.log").read_text().split("checked out")[1]


def test_a_pack_that_is_cut_in_its_middle_is_fetched_again(tmp_path, repositories):
    (repositories / "team-a" / "r.git" / "large.bin").write_bytes(os.urandom(300_000))
    commit(repositories / "team-a" / "r.git", {})
    with SmartServer(repositories) as server:
        server.faults = [0]
        found = fetch(tmp_path / "job", f"{server.url}/team-a/r.git")
        assert server.faults == []
    assert (Path(found["code"]) / "large.bin").stat().st_size == 300_000
    assert "asking again in" in (tmp_path / "job" / "setup.log").read_text()


def test_a_repository_that_is_not_there_is_not_asked_for_again(tmp_path, repositories):
    with SmartServer(repositories) as server:
        failure = refused(tmp_path / "job", f"{server.url}/none.git")
        assert len(server.asked) == 1
    assert failure.exit == errors.NOT_FOUND


@pytest.mark.parametrize("fault, exit, words", [
    (403, errors.NO_PERMISSION, "no access, or no such repository"),
    (404, errors.NOT_FOUND, "no such repository"),
    (500, errors.UNAVAILABLE, "cannot be reached"), (503, errors.UNAVAILABLE, "cannot be reached"),
    (429, errors.UNAVAILABLE, "cannot be reached"), (410, errors.NOT_FOUND, "no such repository")])
def test_what_a_server_answers_is_told_in_words(tmp_path, repositories, fault, exit, words):
    with SmartServer(repositories) as server:
        server.faults += [fault] * 3
        failure = refused(tmp_path / "job", f"{server.url}/team-a/r.git")
    assert failure.exit == exit and words in failure.reason and failure.remedy


@pytest.mark.parametrize("login, words", [("", "'anna' may not see it"), ("bob:b@", "the login in its address may")])
def test_what_is_not_found_with_a_login_may_be_there_for_others(tmp_path, user, repositories, login, words):
    settings(user, "agent { git_user: anna, git_pass: t0p-s3cret }")
    with SmartServer(repositories) as server:
        failure = refused(tmp_path / "job", f"{server.url}/none.git".replace("://", f"://{login}"))
    assert failure.exit == errors.NOT_FOUND and "no such repository, or" in failure.reason and words in failure.reason


def test_a_server_without_tls_is_said_to_have_none(tmp_path, repositories):
    with SmartServer(repositories) as server:
        failure = refused(tmp_path / "job", server.url.replace("http:", "https:") + "/team-a/r.git")
    assert failure.exit == errors.UNAVAILABLE and "does not speak TLS" in failure.reason


def test_why_a_token_is_refused_is_told_as_the_server_says_it(tmp_path, repositories, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "anna")
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "t0p-s3cret")
    with SmartServer(repositories, {"/": "Basic none"}, says="HTTP Basic: your token has expired") as server:
        failure = refused(tmp_path / "job", f"{server.url}/team-a/r.git")
    assert failure.exit == errors.NO_PERMISSION and "your token has expired" in failure.reason
    assert "CLEARML_AGENT_GIT_PASS" in failure.remedy


class LogIn(http.server.BaseHTTPRequestHandler):
    """Leads to a page to log in, as a single sign-on does."""

    def do_GET(self):
        self.send_response(200 if self.path == "/login" else 302)
        self.send_header("Location", "/login")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_that_leads_to_its_log_in_is_said_to(tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), LogIn) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        failure = refused(tmp_path / "job", f"http://127.0.0.1:{server.server_port}/team-a/r.git", branch="main")
        server.shutdown()
    assert failure.exit == errors.NO_PERMISSION and "as one to log in" in failure.reason
    assert failure.reason.endswith("/login)") and "CLEARML_AGENT_GIT_USER" in failure.remedy


@pytest.fixture
def certificate(tmp_path):
    """A file of a key and its certificate for 127.0.0.1, which is in .pem alone too."""
    made = tmp_path / "certificate"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made, "-out", f"{made}.pem"], check=True,
                   capture_output=True)
    made.write_bytes(made.read_bytes() + Path(f"{made}.pem").read_bytes())
    return made


def test_the_authority_of_a_certificate_goes_where_the_environment_names(tmp_path, repositories, monkeypatch,
                                                                        certificate):
    known = tmp_path / "known authorities.pem"
    with SmartServer(repositories, certificate=certificate) as server:
        url = f"{server.url}/team-a/r.git"
        monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "none"))
        failure = refused(tmp_path / "job", url)
        assert failure.exit == errors.BAD_CONFIG and "GIT_SSL_CAINFO" in failure.remedy
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=other",
                        "-keyout", "/dev/null", "-out", known], check=True, capture_output=True)
        monkeypatch.setenv("GIT_SSL_CAINFO", str(known))
        failure = refused(tmp_path / "job", url)
        assert "certificate is not trusted" in failure.reason
        command = failure.remedy.partition(": ")[2].replace("FILE", f"{certificate}.pem")
        subprocess.run(["sh", "-c", command], check=True)
        fetch(tmp_path / "job", url)
        failure = refused(tmp_path / "other", url.replace("127.0.0.1", "localhost"))
    assert failure.exit == errors.UNAVAILABLE and "certificate is of another host" in failure.reason


def test_a_certificate_that_is_not_trusted_is_said_and_the_remedy_works(tmp_path, repositories, monkeypatch,
                                                                       certificate):
    with SmartServer(repositories, certificate=certificate) as server:
        failure = refused(tmp_path / "job", f"{server.url}/team-a/r.git")
        assert failure.exit == errors.UNAVAILABLE and "certificate is not trusted" in failure.reason
        monkeypatch.setenv("GIT_SSL_NO_VERIFY", "1")
        fetch(tmp_path / "unverified", f"{server.url}/team-b/r.git")
        monkeypatch.delenv("GIT_SSL_NO_VERIFY")
        command = failure.remedy.partition(": ")[2].replace("FILE", f"{certificate}.pem")
        subprocess.run(["sh", "-c", command], check=True)
        fetch(tmp_path / "job", f"{server.url}/team-a/r.git")


@pytest.mark.parametrize("url", ["https://nohost.invalid/r.git", "ssh://git@nohost.invalid/r.git"])
def test_a_host_that_is_not_there_is_said(tmp_path, url):
    failure = refused(tmp_path / "job", url)
    assert failure.exit == errors.UNAVAILABLE and "no host of that name" in failure.reason


@pytest.mark.parametrize("by_prefix, url, passwords", [
    ("false", "https://one/t/r.git", {"p1"}), ("false", "https://two/team/r.git", {"p2"}),
    ("false", "https://two/other/r.git", set()), ("false", "https://public/t/r.git", set()),
    ("true", "https://two/team/r.git", {"p2"}), ("true", "https://two/other/r.git", set()),
    ("true", "https://one.evil/t/r.git", set())])
def test_a_container_gets_no_login_of_another_host(tmp_path, user, by_prefix, url, passwords):
    settings(user, f"""agent {{ git_host_match_prefix: {by_prefix}, git_user: u3, git_pass: p3, git_host: three
        git.extra_credentials: [{{host: one, user: u1, pass: p1}}
                                {{host: "https://two/team/", user: u2, pass: p2}}] }}""")
    line = f"p @ git+{url}@main"
    place = {"kind": "docker", "container": "c", "prefix": ["docker", "exec", "c"]}
    found = git_pins.access(Job({"place": place}, str(tmp_path)), [line])
    assert {value for name, value in found.items() if name.startswith("AGENT_GIT_PASSWORD_")} == passwords
    assert "u3" not in found.values()
    every = git_pins.access(Job({}, str(tmp_path)), [line]).values()
    assert {"p1", "p2", "p3"} <= set(every)
