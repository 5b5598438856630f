"""What one task's login brought into a cache, and who else may have it."""

import os

import pytest
import wheelhouse
from env_machine import python
from git_servers import SmartServer, basic
from repositories import repository, run

from agentpipe import errors
from agentpipe.cmds import agent_fetch
from agentpipe.code import proofs
from agentpipe.environment import git_pins
from agentpipe.job import Job

TOKEN = "a-t0ken-of-s0me-length"


@pytest.fixture
def private(tmp_path, monkeypatch):
    """A server with /r.git for ann and her token, and what it was asked."""
    monkeypatch.setenv("HOME", str(tmp_path))
    where = repository(tmp_path / "git" / "r.git", {
        "pyproject.toml": wheelhouse.PYPROJECT.format(name="p"),
        "backend.py": wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name="p",
                                                version="7", requires=[])})
    doors = {"/": basic("ann", TOKEN)}
    with SmartServer(tmp_path / "git", doors) as server:
        server.commit, server.doors = run(where, "rev-parse", "HEAD"), doors
        server.open = f"{server.url}/r.git"
        server.own = f"http://ann:{TOKEN}@{server.host}/r.git"
        yield server


def fetch(tmp_path, url, commit, name):
    directory = tmp_path / name
    directory.mkdir()
    return agent_fetch.work(Job({"task": {"script": {"repository": url, "version_num": commit}}}, str(directory)))


@pytest.mark.parametrize("short", [40, 10])
def test_a_mirror_that_a_tasks_own_login_filled_is_for_those_who_have_one(tmp_path, private, monkeypatch, short):
    commit = private.commit[:short]
    assert not fetch(tmp_path, private.own, commit, "first")["cached"]
    for number, url in enumerate([private.open, private.own.replace(TOKEN, "an0ther"), private.open + "/"]):
        with pytest.raises(errors.Failure) as refused:
            fetch(tmp_path, url, commit, f"without-{number}")
        assert refused.value.exit == errors.NO_PERMISSION
    private.asked.clear()
    assert fetch(tmp_path, private.own, commit, "again")["cached"] and private.asked == []
    private.doors["/"] = basic("bob", "an0ther-t0ken")  # another login that works: asked for once
    other = private.own.replace(f"ann:{TOKEN}", "bob:an0ther-t0ken")
    assert fetch(tmp_path, other, commit, "other")["cached"] and private.asked
    private.asked.clear()
    assert fetch(tmp_path, other, commit, "other-again")["cached"] and private.asked == []
    monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "bob")  # and the agent's own
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "an0ther-t0ken")
    assert fetch(tmp_path, private.open, commit, "agents")["cached"]


def test_offline_it_is_for_those_whose_login_is_known(tmp_path, private, monkeypatch):
    fetch(tmp_path, private.own, private.commit, "first")
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    assert fetch(tmp_path, private.own, private.commit, "own")["cached"]
    with pytest.raises(errors.Failure) as refused:
        fetch(tmp_path, private.open, private.commit, "without")
    assert refused.value.exit == errors.UNAVAILABLE


def test_what_the_agents_login_brought_is_for_all_its_tasks(tmp_path, private, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "ann")
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", TOKEN)
    fetch(tmp_path, private.open, private.commit, "first")
    private.asked.clear()
    assert fetch(tmp_path, private.open, private.commit, "second")["cached"] and private.asked == []


@pytest.mark.parametrize("ref", ["main", "commit", "short"])
def test_an_environment_with_a_private_requirement(machine, private, ref):
    ref = {"commit": private.commit, "short": private.commit[:10]}.get(ref, ref)
    env = machine.task(f"p @ git+{private.own}@{ref}")
    assert env["packages"] == [f"p @ git+{private.open}@{private.commit}"]
    assert python(env, "import p; print(p.version)") == "7"
    for line in (f"p @ git+{private.open}@{ref}", f"p @ git+{private.open}@{private.commit}",
                 f"p @ git+{private.open.removesuffix('.git')}@{private.commit}",
                 f"p @ git+{private.own.replace(TOKEN, 'an0ther')}@{private.commit}"):
        with pytest.raises(errors.Failure) as refused:
            machine.task(line)
        assert refused.value.exit == errors.NO_PERMISSION
    assert machine.base(machine.task(f"p @ git+{private.own}@{ref}")) == machine.base(env)


@pytest.mark.parametrize("login", ["${GIT_TOKEN}", "ann:${GIT_TOKEN}", TOKEN])
@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_no_token_of_a_requirement_reaches_an_argv(machine, private, monkeypatch, tmp_path, login, tool):
    if tool == "pip":
        monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__TYPE", "pip")
    monkeypatch.setenv("GIT_TOKEN", TOKEN)
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    private.doors["/"] = basic("ann", TOKEN) if "ann" in login else basic(TOKEN, "")
    env = machine.task(f"p @ git+http://{login}@{private.host}/r.git@{private.commit}")
    assert env["packages"] == [f"p @ git+{private.open}@{private.commit}"]
    said = (tmp_path / "trace").read_text() + "".join(machine.said)
    assert "fetch" in said and TOKEN not in said


def test_a_short_token_of_a_variable_is_put_aside_too(tmp_path, monkeypatch):
    monkeypatch.setenv("T", "short")
    line = "p @ git+https://${T}@git.invalid/p.git@" + "1" * 40
    assert git_pins.without_password(line) == "p @ git+https://git.invalid/p.git@" + "1" * 40
    assert "short" in git_pins.access(Job({"task": {}}, str(tmp_path)), [git_pins._whole(line)]).values()


def test_a_second_key_is_no_way_round_a_password(machine, monkeypatch):
    """A clone asks for what is recorded, without the index's password: it must not find the environment."""
    import package_index
    server, address = package_index.serve(machine.index)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    try:
        machine.task(f"--index-url http://u:secret@{address}/private/simple\ntea")
        assert len([name for name in machine.envs() if not name.rpartition(".")[2].isdigit()
                    and not name.endswith(".lock")]) == 1
    finally:
        server.shutdown()


def test_a_key_that_a_power_failure_has_cut_short_is_made_anew_and_on_the_disk(monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    first, path = proofs._key(), os.path.join(proofs._home(), "key")
    assert proofs._key() == first and len(first) == 32
    assert [os.path.basename(each).partition(".")[0] for each in synced] == ["key", "logins"]
    with open(path, "wb") as file:
        file.write(first[:7])
    assert proofs._key() not in (first, first[:7]) and len(proofs._key()) == 32


def test_a_key_needs_no_hard_links(monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no hard links here")))
    assert len(proofs._key()) == 32


def test_a_login_that_is_refused_makes_nothing_private(machine, private, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "ann")
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", TOKEN)
    line = f"p @ git+{private.open}@{private.commit}"
    machine.task(line)
    with pytest.raises(errors.Failure) as refused:
        machine.task(f"p @ git+{private.own.replace(TOKEN, 'an0ther')}@{private.commit}")
    assert refused.value.exit == errors.NO_PERMISSION
    private.asked.clear()
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    assert machine.task(line)["cached"] and private.asked == []
