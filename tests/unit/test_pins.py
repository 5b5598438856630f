"""A receipt's pins: the very same files again, whatever an index has become meanwhile."""

import hashlib
import json
import os
import shutil
import subprocess

import package_index
import pytest
import wheelhouse
from env_machine import python
from git_servers import SmartServer, basic
from repositories import repository

from agentpipe import errors, manifest
from agentpipe.cmds import agent_env
from agentpipe.environment import pins, requirements


def git(folder, *words):
    """git's output there, as somebody."""
    return subprocess.check_output(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], cwd=folder,
                                   text=True).strip()


def again(machine, env, monkeypatch, name="other"):
    """The receipt of `env` on a machine that has nothing yet."""
    home = os.path.join(machine.folder, name)
    monkeypatch.setenv("AGENT_HOME", home)
    line = json.loads(json.dumps({"packages": env["pins"], "python": env["version"]}))
    return machine.task("tea\nmilk\n-e .", pins=line, files=project())


def project():
    backend = wheelhouse.BACKEND.format(here=os.path.dirname(os.path.abspath(__file__)), hook="pass", name="own",
                                        version="1.0", requires=["leaf"])
    return {"pyproject.toml": wheelhouse.PYPROJECT.format(name="own"), "backend.py": backend, "own.py": "it = 1\n"}


@pytest.fixture
def env(machine):
    """A task of a wheel, a source, and a package of its own."""
    wheelhouse.source(machine.index, "leaf", "1.0")
    return machine.task("tea<2\nmilk\n-e .", files=project())


def test_every_package_is_pinned_by_version_source_and_hash(machine, env):
    path = os.path.join(machine.index, "tea-1.0-py3-none-any.whl")
    assert [pin if isinstance(pin, str) else pin["name"] for pin in env["pins"]] == ["leaf", "milk", "tea", "-e ."]
    assert env["pins"][2] == {"name": "tea", "version": "1.0", "source": f"file://{path}",
                              "sha256": wheelhouse.sha256(path)}
    assert env["pins"][0]["sha256"] == wheelhouse.sha256(os.path.join(machine.index, "leaf-1.0.tar.gz"))


@pytest.mark.parametrize("files", [
    {"requirements.txt": "--index-url {index}\ntea==1.0\n"},
    {"pyproject.toml": "[project]\nname = 'own'\nversion = '1'\ndependencies = ['tea==1.0']\n"
                       "[[tool.uv.index]]\nurl = '{index}'\ndefault = true\n"}])
def test_a_receipt_asks_the_indexes_that_the_repository_names(machine, monkeypatch, files):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    server, address = package_index.serve(machine.index)
    try:
        there = {name: text.format(index=f"http://{address}/simple") for name, text in files.items()}
        env = machine.task(files=there)
        assert env["packages"] == ["tea==1.0"] and env["options"] == [f"--index-url http://{address}/simple"]
        line = manifest.pins({"task": {"script": {}}, "env": env})
        monkeypatch.setenv("AGENT_HOME", os.path.join(machine.folder, "other"))
        monkeypatch.setenv("UV_CACHE_DIR", os.path.join(machine.folder, "another-cache"))
        assert machine.task(pins=line, files=there)["packages"] == ["tea==1.0"]
        # a login that the record has is not left behind
        job = machine.job(f"-i http://u:secret@{address}/simple\ntea", pins=line)
        assert requirements.option_lines(job) == [f"-i http://u:secret@{address}/simple"]
    finally:
        server.shutdown()


def test_two_fresh_machines_get_the_same_though_newer_releases_came(machine, env, monkeypatch):
    wheelhouse.wheel(machine.index, "tea", "1.5")
    wheelhouse.wheel(machine.index, "milk", "1.1", requires=["sugar"])
    one, two = again(machine, env, monkeypatch, "one"), again(machine, env, monkeypatch, "two")
    assert one["packages"] == two["packages"] == env["packages"]
    assert one["pins"] == two["pins"] == env["pins"]
    assert not one["cached"] and not two["cached"]
    assert python(two, "import tea, milk, leaf, own; print(tea.version)") == "1.0"


def test_a_file_that_was_replaced_is_refused(machine, env, monkeypatch):
    wheelhouse.wheel(machine.index, "tea", "1.0", files={"tea/evil.py": ""})
    with pytest.raises(errors.Failure) as caught:
        again(machine, env, monkeypatch)
    assert (caught.value.exit, "tea" in caught.value.reason) == (errors.BAD_DATA, True)
    assert "hash" in caught.value.reason


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("others", [False, True])
def test_what_nobody_has_any_more_is_not_replaced_by_another_version(machine, env, monkeypatch, offline, others):
    os.unlink(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"))
    if not others:
        os.unlink(os.path.join(machine.index, "tea-2.0-py3-none-any.whl"))
    if offline:
        monkeypatch.setenv("AGENT_OFFLINE", "1")
        monkeypatch.setenv("AGENT_WHEELHOUSE", machine.index)
    with pytest.raises(errors.Failure) as caught:
        again(machine, env, monkeypatch)
    assert caught.value.reason.startswith("tea==1.0 of the receipt is not in the ")
    assert "sha256" not in caught.value.reason + caught.value.remedy
    assert (caught.value.exit, caught.value.change) == (errors.NOT_FOUND, ())
    assert ("--stage-only" if offline else "PIP_EXTRA_INDEX_URL") in caught.value.remedy


def test_a_source_that_was_replaced_is_refused(machine, env, monkeypatch):
    shutil.rmtree(os.path.join(machine.index, "leaf-1.0.tree"))
    wheelhouse.source(machine.index, "leaf", "1.0", hook="print('evil')")
    with pytest.raises(errors.Failure) as caught:
        again(machine, env, monkeypatch)
    assert (caught.value.exit, "leaf" in caught.value.reason) == (errors.BAD_DATA, True)


def test_what_is_pinned_is_what_was_installed_though_the_file_changed_before(machine, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", os.path.join(machine.folder, "uv"))
    first = machine.task("tea==1.0")
    wheelhouse.wheel(machine.index, "tea", "1.0", files={"tea/more.py": "it = 1\n"})
    second = machine.task("tea==1.0\nmilk")
    path = os.path.join(machine.index, "tea-1.0-py3-none-any.whl")
    assert second["pins"][1]["sha256"] == wheelhouse.sha256(path) != first["pins"][0]["sha256"]
    assert python(second, "import tea.more; print(tea.more.it)") == "1"


def test_on_the_same_machine_a_receipt_finds_its_environment(machine, env, monkeypatch):
    receipt = {"packages": env["pins"], "python": env["version"]}
    found = machine.task("tea\nmilk\n-e .", pins=receipt, files=project())
    assert machine.task("tea\nmilk\n-e .", pins=receipt, files=project())["cached"]
    assert found["packages"] == env["packages"]


def test_a_list_that_was_resolved_by_hand_is_pinned_as_well(machine, monkeypatch):
    digest = wheelhouse.sha256(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"))
    env = machine.task(f"tea==1.0 --hash=sha256:{digest}")
    assert [pin["sha256"] for pin in env["pins"]] == [digest]


@pytest.mark.parametrize("line", ["./tea.whl", "tea @ file://{}", './tea.whl ; python_version > "3"'])
def test_a_packages_file_of_the_task_is_pinned_by_its_hash(machine, line):
    def again(content, **more):
        job = machine.job(line.format(path), **more)
        for target in (os.path.join(job.manifest["fetch"]["code"], name), path):
            with open(target, "wb") as file:
                file.write(content)
        return agent_env.work(job)

    with open(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"), "rb") as file:
        wheel = file.read()
    name = "tea-1.0-py3-none-any.whl"
    line, path = line.replace("tea.whl", name), os.path.join(machine.folder, name)
    env = again(wheel)
    assert env["pins"] == [f"{line.format(path)} --hash=sha256:{hashlib.sha256(wheel).hexdigest()}"]
    assert env["packages"] == [line.format(path)]
    same = again(wheel, pins={"packages": env["pins"]})
    assert (same["pins"], same["packages"], python(same, "import tea")) == (env["pins"], env["packages"], "")
    with pytest.raises(errors.Failure, match=f"line 1 of the receipt's pins: .*{name} has another SHA-256") as caught:
        again(wheel + b"x", pins={"packages": env["pins"]})
    assert caught.value.exit == errors.BAD_DATA


def test_a_receipt_of_before_whose_files_have_no_hashes_is_taken(machine):
    shutil.copy(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"), machine.folder)
    line = f"tea @ file://{machine.folder}/tea-1.0-py3-none-any.whl"
    assert machine.task("tea", pins={"packages": [line]})["packages"] == [line]


def test_a_repository_is_pinned_by_its_commit(machine):
    repository = wheelhouse.project(os.path.join(machine.folder, "drift"), "drift", "1.0")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "a state"]):
        git(repository, *words)
    env = machine.task(f"drift @ git+file://{repository}@main")
    commit = git(repository, "rev-parse", "HEAD")
    assert env["pins"] == [{"name": "drift", "version": "1.0", "source": f"git+file://{repository}@{commit}"}]
    wheelhouse.project(repository, "drift", "2.0")
    git(repository, "commit", "-qam", "next")
    assert machine.task("drift", pins={"packages": env["pins"]})["packages"] == env["packages"]


@pytest.mark.parametrize(("pin", "line"), [
    ({"name": "six", "version": "1.16.0", "source": "https://example.org/six.whl", "sha256": "00"},
     "six==1.16.0 --hash=sha256:00"),
    ({"name": "six", "version": "1.16.0", "source": "git+https://example.org/six@abc"},
     "six @ git+https://example.org/six@abc"),
    ({"name": "six", "version": "1.16.0", "source": "https://example.org/six.whl", "sha256": "00", "direct": True},
     "six @ https://example.org/six.whl --hash=sha256:00"),
    ("-e .", "-e ."), ("six==1.16.0", "six==1.16.0"),
])
def test_a_pin_as_a_line(pin, line):
    assert pins.lines([pin]) == [line]


def test_what_is_no_pin_is_refused(machine):
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea", pins={"packages": [{"package": "tea"}]})
    assert caught.value.exit == errors.BAD_DATA


class Guarded(package_index.Index):
    """Files for those who show a token in the query."""

    def do_GET(self):
        self.path, _, query = self.path.partition("?")
        if query == "private_token=s3cret-t0ken":
            super().do_GET()
        else:
            self.send_error(403)

    do_HEAD = do_GET


def test_a_secret_of_an_address_stays_a_variable_and_a_receipt_without_it_says_so(machine, monkeypatch):
    monkeypatch.setattr(package_index, "Index", Guarded)
    server, address = package_index.serve(machine.index)
    monkeypatch.setenv("TEA_TOKEN", "s3cret-t0ken")
    line = f"tea @ http://{address}/tea-1.0-py3-none-any.whl?private_token=${{TEA_TOKEN}}"
    job, told = machine.job(line), []
    job.tell = lambda *call: told.append(call)
    try:
        env = agent_env.work(job)
        assert env["packages"] == [line.replace("${TEA_TOKEN}", "[REDACTED]")]
        assert told == []  # a clone could not install what is shown
        receipt = {"packages": env["pins"], "python": env["version"]}
        assert "s3cret" not in json.dumps(env) + "".join(machine.said)
        monkeypatch.setenv("AGENT_HOME", os.path.join(machine.folder, "other"))
        assert machine.task(line, pins=receipt)["packages"] == env["packages"]
        with pytest.raises(errors.Failure, match="lacks a secret, which no receipt holds") as refused:
            machine.task("tea", pins=receipt)
        assert refused.value.exit == errors.NO_PERMISSION
    finally:
        server.shutdown()


def test_a_repositorys_login_is_the_tasks_own_in_a_receipt_too(machine, monkeypatch, tmp_path):
    repository(tmp_path / "served" / "p.git", {
        "pyproject.toml": wheelhouse.PYPROJECT.format(name="p"),
        "backend.py": wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name="p",
                                                version="7", requires=[])})
    monkeypatch.setenv("P_TOKEN", "s3cret-t0ken")
    with SmartServer(tmp_path / "served", {"/": basic("anna", "s3cret-t0ken")}) as server:
        line = f"p @ git+http://anna:${{P_TOKEN}}@{server.host}/p.git@main"
        env = machine.task(line)
        monkeypatch.setenv("AGENT_HOME", os.path.join(machine.folder, "other"))
        again = machine.task(line, pins={"packages": env["pins"], "python": env["version"]})
    assert again["packages"] == env["packages"] and "s3cret" not in json.dumps(again) + "".join(machine.said)
