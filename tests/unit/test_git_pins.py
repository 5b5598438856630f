"""A branch in a requirement list becomes the commit that it means, and no other branch's."""


import os
import subprocess

import pytest
import wheelhouse
from env_machine import python
from git_servers import SmartServer, basic
from repositories import commit, repository, run

from agentpipe import errors
from agentpipe.cmds import agent_env
from agentpipe.code import git_access
from agentpipe.environment import env_cache, git_pins, wheelhouse_repositories
from agentpipe.environment import wheelhouse as wheelhouse_files
from agentpipe.environment.installers import policy
from agentpipe.environment.requirements import Requirements
from agentpipe.job import Job
from agentpipe.place import apart


@pytest.fixture
def job(tmp_path):
    (tmp_path / "job").mkdir()
    return Job({"task": {}}, str(tmp_path / "job"))


@pytest.fixture
def source(tmp_path):
    """main, and beside it a branch and a tag whose names end like those that are asked for."""
    where = repository(tmp_path / "source")
    run(where, "tag", "-a", "-m", "one", "v1")
    for name in ("a/main", "refs/heads/main", "a/v1"):
        run(where, "checkout", "-q", "-b", name)
        commit(where, {"train.py": f"# {name}\n"})
    run(where, "checkout", "-q", "main")
    return where


@pytest.mark.parametrize("ref", ["main", "v1", "refs/heads/main"])
def test_a_name_is_that_branch_or_tag(job, source, ref):
    wanted = run(source, "rev-parse", "main")
    assert git_pins.pinned(job, f"x @ git+file://{source}@{ref}") == f"x @ git+file://{source}@{wanted}"


def test_a_branch_that_was_deleted_is_not_taken_from_last_time(job, source):
    line = f"x @ git+file://{source}@a/main"
    assert git_pins.pinned(job, line) != line
    run(source, "branch", "-D", "a/main")
    with pytest.raises(errors.Failure, match="no branch or tag a/main") as refused:
        git_pins.pinned(job, line)
    assert refused.value.exit == errors.NOT_FOUND


def test_the_beginning_of_a_hash_stays_for_the_installer_to_find(job, source):
    line = f"x @ git+file://{source}@{run(source, 'rev-parse', 'main')[:8]}"
    assert git_pins.pinned(job, line) == line


def test_the_beginning_of_a_hash_is_asked_for_once(machine, monkeypatch):
    folder = committed(wheelhouse.project(f"{machine.folder}/lib", "lib", "1.0"))
    head = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    line = f"lib @ git+file://{folder}@{head[:9]}"
    first = machine.task(line)
    assert first["packages"] == [f"lib @ git+file://{folder}@{head}"]
    os.rename(folder, folder + ".away")
    again = machine.task(line)
    assert (again["cached"], again["packages"]) == (True, first["packages"])
    assert "cannot ask" not in "".join(machine.said)


def test_no_container_says_which_commit_the_host_takes(machine, monkeypatch):
    """Neither for the beginning of a hash, nor, in the wheelhouse, for a branch."""
    folder = committed(wheelhouse.project(f"{machine.folder}/lib", "lib", "1.0"))
    head = subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()
    forged = head[:9] + "0" * 31
    monkeypatch.setenv("AGENT_WHEELHOUSE", f"{machine.folder}/carried")
    box, client = apart.make(), os.path.join(machine.folder, "client")

    def contained(ref, hostile, options=None):
        with open(client, "w") as file:
            file.write(f"""#!/bin/sh
shift; [ "$1" != -u ] || shift 2; shift
"$@"; status=$?
{hostile}
exit $status
""")
        os.chmod(client, 0o755)
        place = {"kind": "docker", "prefix": [client, "exec", "c"], "container": "c", "image": "i",
                 "image_id": "sha256:i", "environments": box}
        job = machine.job(f"lib @ git+file://{folder}@{ref}", place=place, options=options)
        for name in ("box", "env"):
            os.mkdir(job.path(name))
        return agent_env.work(job)["packages"]
    forge = f"find {box} -name direct_url.json -exec sed -i s/{head}/{forged}/ {{}} +"
    assert contained(head[:9], forge) == [f"lib @ git+file://{folder}@{forged}"]
    assert machine.task(f"lib @ git+file://{folder}@{head[:9]}")["packages"] == [f"lib @ git+file://{folder}@{head}"]
    machine.task(f"lib @ git+file://{folder}@{head}", options={"stage_only": True})
    assert contained("main", "", {"stage_only": True}) == [f"lib @ git+file://{folder}@{head}"]
    assert not wheelhouse_repositories.commit_of(f"file://{folder}", "main")


def test_a_login_that_is_refused_now_is_not_done_without(job, tmp_path):
    repository(tmp_path / "served" / "package.git")
    doors = {"/": basic("anna", "t0ken")}
    with SmartServer(tmp_path / "served", doors) as server:
        line = f"p @ git+http://anna:t0ken@{server.host}/package.git@main"
        assert git_pins.pinned(job, line) != line
        doors["/"] = basic("anna", "an0ther")
        with pytest.raises(errors.Failure, match="does not accept the user and password") as refused:
            git_pins.pinned(job, line)
    assert refused.value.exit == errors.NO_PERMISSION
    assert "t0ken" not in str(refused.value.reason) + refused.value.evidence + refused.value.remedy


def test_a_server_that_cannot_be_reached_is_done_without(job, tmp_path):
    repository(tmp_path / "served" / "package.git")
    with SmartServer(tmp_path / "served") as server:
        line = f"p @ git+{server.url}/package.git@main"
        pinned = git_pins.pinned(job, line)
    assert git_pins.pinned(job, line) == pinned != line


def repository_of_package(where, version="7"):
    return repository(where, {
        "pyproject.toml": wheelhouse.PYPROJECT.format(name="p"),
        "backend.py": wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name="p",
                                                version=version, requires=[])})


def test_a_branch_that_only_the_installer_could_ask_for_is_nobody_elses(machine, tmp_path):
    """What it means is not known: a base of that key would stay when the branch goes on."""
    package = repository_of_package(tmp_path / "served" / "package.git")
    with SmartServer(tmp_path / "served") as server:
        line = f"p @ git+{server.url}/package.git@main"
        server.faults = [503]
        first = machine.task(line)
        assert env_cache.PRIVATE in first["base"]
        commit(package, {"more": ""})
        server.faults = [503]
        second, = machine.task(line)["packages"]
        assert second == f"p @ git+{server.url}/package.git@{run(package, 'rev-parse', 'HEAD')}"
        assert env_cache.PRIVATE not in machine.task(line)["base"]


def test_a_branch_is_asked_for_through_the_proxy_of_pips_flags(machine, monkeypatch, tmp_path):
    package = repository_of_package(tmp_path / "served" / "package.git")
    with SmartServer(tmp_path / "served") as server:
        monkeypatch.setenv("CLEARML_EXTRA_PIP_INSTALL_FLAGS", f"--proxy {server.url}")
        asked = Requirements("")
        asked.packages = ["p @ git+http://git.invalid/package.git@main"]
        job = machine.job()
        policy.of(job, asked)
        git_pins.settle(job, asked)
    assert asked.packages == [f"p @ git+http://git.invalid/package.git@{run(package, 'rev-parse', 'HEAD')}"]
    assert not git_pins.unsettled(asked)


@pytest.mark.parametrize("line, expected", [
    ("x @ git+git://h/t/r.git@%s#egg=x", "x @ git+ssh://git@h/t/r.git@%s#egg=x"),
    ("-e git+git://git@h:9418/t/r.git@%s", "-e git+ssh://git@h/t/r.git@%s")])
def test_gits_own_transport_is_asked_for_over_ssh(job, line, expected):
    asked = Requirements("")
    asked.packages = [line % ("1" * 40)]
    git_pins.settle(job, asked)
    assert asked.packages == [expected % ("1" * 40)] == asked.secrets


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_nobody_is_asked(job, source, monkeypatch, value):
    line = f"x @ git+file://{source}@main"
    pinned = git_pins.pinned(job, line)
    commit(source, {"train.py": "# newer\n"})
    monkeypatch.setenv("AGENT_OFFLINE", value)
    assert git_pins.pinned(job, line) == pinned


def test_a_password_in_a_line_reaches_the_server_and_no_argv(machine, monkeypatch, tmp_path):
    package = repository(tmp_path / "served" / "package.git", {
        "pyproject.toml": wheelhouse.PYPROJECT.format(name="p"),
        "backend.py": wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name="p",
                                                version="7", requires=[])})
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    with SmartServer(tmp_path / "served", {"/": basic("anna", "t0p/s3cret")}) as server:
        env = machine.task(f"p @ git+http://anna:t0p%2Fs3cret@{server.host}/package.git@main")
    assert env["packages"] == [f"p @ git+{server.url}/package.git@{run(package, 'rev-parse', 'HEAD')}"]
    assert python(env, "import p; print(p.version)") == "7"
    assert "fetch" in trace.read_text() and "s3cret" not in trace.read_text() + "".join(machine.said)


def test_a_variable_in_a_line_is_filled_for_the_server_alone(job, monkeypatch, tmp_path):
    package = repository(tmp_path / "served" / "package.git")
    monkeypatch.setenv("GITLAB_TOKEN", "gl-s3cret")
    asked = Requirements("")
    with SmartServer(tmp_path / "served", {"/": basic("oauth2", "gl-s3cret")}) as server:
        asked.packages = [f"p @ git+http://oauth2:${{GITLAB_TOKEN}}@{server.host}/package.git@main"]
        git_pins.settle(job, asked)
        assert asked.packages == [f"p @ git+{server.url}/package.git@{run(package, 'rev-parse', 'HEAD')}"]
    assert "gl-s3cret" in git_pins.access(job, asked.secrets).values()
    # a user's name alone is no password that could be put aside
    asked.packages = ["p @ git+https://${GITLAB_TOKEN}@git.invalid/package.git@" + "1" * 40]
    git_pins.settle(job, asked)
    assert "gl-s3cret" not in str(asked.packages)


def test_an_address_that_is_asked_for_otherwise_is_recorded_as_the_task_has_it(machine, monkeypatch, tmp_path):
    package = repository(tmp_path / "served" / "package.git", {
        "pyproject.toml": wheelhouse.PYPROJECT.format(name="p"),
        "backend.py": wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name="p",
                                                version="7", requires=[])})
    with SmartServer(tmp_path / "served", {"/": basic("anna", "t0ken")}) as server:
        monkeypatch.setattr(git_access, "address", lambda url: url.replace("ssh://git@example.org", server.url))
        monkeypatch.setenv("CLEARML_AGENT__AGENT__GIT_USER", "anna")
        monkeypatch.setenv("CLEARML_AGENT__AGENT__GIT_PASS", "t0ken")
        head = run(package, "rev-parse", "HEAD")
        env = machine.task(f"p @ git+ssh://git@example.org/package.git@{head}")
    assert env["packages"] == [f"p @ git+ssh://git@example.org/package.git@{head}"]


def committed(folder):
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    return folder


def test_the_wheelhouse_carries_repositories_to_another_machine(machine, monkeypatch):
    # lib needs another repository, which lies on no machine but the first either
    deep = committed(wheelhouse.project(f"{machine.folder}/deep", "deep", "3.0"))
    folder = committed(wheelhouse.project(f"{machine.folder}/lib", "lib", "1.0",
                                          requires=["tea", f"deep @ git+file://{deep}@main"]))
    line = f"lib @ git+file://{folder}@main"
    monkeypatch.setenv("AGENT_WHEELHOUSE", f"{machine.folder}/carried")
    online = machine.task(line)
    machine.task(line, options={"stage_only": True})
    for each in (folder, deep):
        os.rename(each, each + ".away")
    os.rename(machine.index, machine.index + ".away")
    monkeypatch.setenv("AGENT_HOME", f"{machine.folder}/other")
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    offline = machine.task(line)
    assert offline["packages"] == online["packages"]
    assert [pin for pin in offline["pins"] if pin["name"] == "lib"] == [
        pin for pin in online["pins"] if pin["name"] == "lib"]
    assert python(offline, "import lib, tea, deep; print(lib.version, tea.version, deep.version)") == "1.0 2.0 3.0"
    monkeypatch.setenv("AGENT_HOME", f"{machine.folder}/third")  # from its receipt too
    assert machine.task("", pins={"packages": offline["pins"]})["packages"] == online["packages"]
    own = {"pyproject.toml": wheelhouse.PYPROJECT.format(name="own"),  # and where the task's own folder needs it
           "backend.py": wheelhouse.BACKEND.format(here=os.path.dirname(wheelhouse.__file__), hook="pass", name="own",
                                                   version="1", requires=[line])}
    assert machine.task("-e .", files=own)["packages"] == [*online["packages"], "-e ."]


@pytest.mark.parametrize("tag, fits", [
    ("py3-none-any", True), ("cp311-cp311-linux_{}", True), ("cp38-abi3-manylinux_2_5_{}", True),
    ("cp310-cp310-linux_{}", False), ("cp311-cp311-win_amd64", False), ("cp311-cp311-manylinux_2_99_{}", False),
    ("cp311-cp311-linux_armv7l", False)])
def test_a_wheel_of_another_python_or_platform_does_not_count_as_there(machine, monkeypatch, tag, fits):
    monkeypatch.setenv("AGENT_WHEELHOUSE", f"{machine.folder}/carried")
    this = {"version": "3.11.4", "implementation": "CPython"}
    name = f"brew-1.0-{tag.format(os.uname().machine)}.whl"

    def carried(folder):
        wheelhouse.wheel(folder, "brew", "1.0")
        os.rename(os.path.join(folder, "brew-1.0-py3-none-any.whl"), os.path.join(folder, name))
    carried(f"{machine.folder}/carried")
    own = wheelhouse_files.fitting(this)
    built = {"name": "brew", "version": "1.0", "source": "https://host/brew-1.0.tar.gz"}
    assert wheelhouse_files._is_there(built, own) == fits
    pin = {"name": "brew", "version": "1.0", "source": "git+https://host/brew@" + "1" * 40}
    carried(wheelhouse_repositories.folder(pin))
    assert bool(wheelhouse_repositories.wheel(pin, own)) == fits
