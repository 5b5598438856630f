"""Projects with uv.lock, poetry.lock or pyproject.toml alone: what is in the environment afterwards."""

import os
import subprocess
import sys

import package_index
import pytest
import wheelhouse
from env_machine import python

from agentpipe import errors
from agentpipe.cmds import agent_env
from agentpipe.environment import lock_files, poetry_lock, project_file, requirements
from agentpipe.place import apart

KEY = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__"
PROJECT = """[project]
name = "own"
version = "1.0"
requires-python = ">=3.8"
dependencies = ["milk"]
[project.optional-dependencies]
sweet = ["sugar"]
[dependency-groups]
dev = ["leafy"]
"""


@pytest.fixture
def web(machine, monkeypatch):
    """The machine's packages over HTTP, and there only."""
    for name in ("leafy", "sugar"):
        wheelhouse.wheel(machine.index, name, "1.0")
    server, address = package_index.serve(machine.index)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/simple")
    yield f"http://{address}/simple"
    server.shutdown()


def checkout(machine, files, **script):
    job = machine.job(script.pop("pip", None), files=files, **script)
    return job, job.manifest["fetch"]["code"]


def lock(folder, web):
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    subprocess.run([uv, "lock", "-q", "--no-cache", "--default-index", web], cwd=folder, check=True)


def package(name, needs):
    """The files of a project that is one."""
    backend = wheelhouse.BACKEND.format(here=os.path.dirname(os.path.abspath(__file__)), hook="pass", name=name,
                                        version="1.0", requires=needs)
    text = ('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.8"\ndependencies = {needs}\n')
    return {"pyproject.toml": text, "backend.py": backend, f"{name}_code.py": "it = 1\n"}


def versions(env):
    return [line for line in env["packages"] if not line.startswith("-e")]


# ---- uv

def test_a_uv_lock_counts_where_the_task_records_nothing(machine, web):
    job, code = checkout(machine, {"pyproject.toml": PROJECT})
    lock(code, web)
    wheelhouse.wheel(machine.index, "milk", "2.0")  # newer than the lock
    env = agent_env.work(job)
    assert versions(env) == ["leafy==1.0", "milk==1.0", "tea==1.0"]
    assert all(pin["sha256"] for pin in env["pins"])
    assert "asked for by uv.lock" in env["reason"]
    assert agent_env.work(job)["cached"]


def test_what_a_container_prints_for_a_lock_is_believed_in_its_image_alone(machine, web):
    client = os.path.join(machine.folder, "client")

    def task(image="", hostile=""):
        place = {}
        if image:
            with open(client, "w") as file:
                file.write(f"#!/bin/sh\nshift; [ \"$1\" != -u ] || shift 2; shift\n{hostile}\nexec \"$@\"\n")
            os.chmod(client, 0o755)
            place = {"place": {"kind": "docker", "prefix": [client, "exec", "c"], "container": "c", "image": image,
                               "image_id": f"sha256:{image}", "environments": apart.make()}}
        job, code = checkout(machine, {"pyproject.toml": PROJECT}, **place)
        for name in ("box", "env"):
            os.mkdir(job.path(name))
        lock(code, web)
        return versions(agent_env.work(job))
    says = "case \"$*\" in *requirements.txt*--locked*) echo sugar==1.0; exit 0;; esac"
    assert task("bad", says) == task("bad") == ["sugar==1.0"]
    assert task() == task("good") == ["leafy==1.0", "milk==1.0", "tea==1.0"]


def test_of_a_monorepo_the_nearest_project_counts(machine, web):
    job, code = checkout(machine, {"pyproject.toml": PROJECT, "model/pyproject.toml": PROJECT.replace("milk", "tea")},
                         working_dir="model")
    for folder in (code, os.path.join(code, "model")):
        lock(folder, web)
    env = agent_env.work(job)
    assert versions(env) == ["leafy==1.0", "tea==2.0"]
    assert "model/uv.lock" in env["reason"]


def test_the_project_of_a_script_that_is_run_from_above_it_counts(machine, web):
    """Its own lock, or as a member of a workspace the part of it in the workspace's."""
    member = PROJECT.replace('"milk"', '"tea"').replace('name = "', 'name = "model-')
    whole = PROJECT + '[tool.uv.workspace]\nmembers = ["model"]\n'
    job, code = checkout(machine, {"pyproject.toml": whole, "model/pyproject.toml": member, "model/run.py": ""},
                         working_dir=".", entry_point="model/run.py --out ../../../x")
    lock(code, web)
    wheelhouse.wheel(machine.index, "tea", "3.0")  # newer than the lock
    assert lock_files.named(code, os.path.join(code, "model")) == "uv.lock"
    env = agent_env.work(job)
    assert versions(env) == ["leafy==1.0", "tea==1.0"] and "asked for by uv.lock" in env["reason"]
    job, code = checkout(machine, {"pyproject.toml": PROJECT, "model/pyproject.toml": member, "model/run.py": ""},
                         working_dir=".", entry_point="model/run.py")
    lock(os.path.join(code, "model"), web)
    assert versions(agent_env.work(job)) == ["leafy==1.0", "tea==3.0"]


def test_extras_and_groups_are_chosen_by_the_arguments_of_uv_sync(machine, web, monkeypatch):
    monkeypatch.setenv(KEY + "UV_SYNC_EXTRA_ARGS", '["--extra", "sweet", "--no-dev", "--frobnicate"]')
    job, code = checkout(machine, {"pyproject.toml": PROJECT})
    lock(code, web)
    assert versions(agent_env.work(job)) == ["milk==1.0", "sugar==1.0", "tea==1.0"]
    assert "--frobnicate is passed over" in "".join(machine.said)


@pytest.mark.parametrize(("words", "built", "installed"), [
    ('["--extra", "sweet"]', False, ["sugar==1.0", "tea==2.0"]),
    ('["--extra=sweet", "--group=base", "--dev", "--no-group", "dev"]', False,
     ["leafy==1.0", "sugar==1.0", "tea==2.0"]),
    # whose dev group there is none of, names in another spelling
    ('["--extra", "Extra_Sweet", "--dev"]', False, ["sugar==1.0", "tea==2.0"]),
    ('["--all-extras", "--group", "more"]', True, ["leafy==1.0", "milk==1.0", "sugar==1.0", "tea==1.0"]),
])
def test_extras_and_groups_are_chosen_without_a_lock_too(machine, web, monkeypatch, words, built, installed):
    monkeypatch.setenv(KEY + "UV_SYNC_EXTRA_ARGS", words)
    monkeypatch.setenv("CLEARML_AGENT_FORCE_UV", "1")
    files = package("own", ["tea"]) if built else {}
    files["pyproject.toml"] = ((files["pyproject.toml"] if built else
                                '[project]\nname = "own"\nversion = "1"\ndependencies = ["tea"]\n')
                               + '[project.optional-dependencies]\nsweet = ["sugar"]\nextra-sweet = ["sugar"]\n'
                               '[dependency-groups]\n' + ('' if "Extra" in words else 'dev = ["milk"]\n')
                               + 'base = ["leafy"]\n'
                               'more = [{include-group = "Base"}, {include-group = "base"}, "milk"]\n')
    job, _ = checkout(machine, files)
    assert versions(agent_env.work(job)) == installed


@pytest.mark.parametrize("text", ['[dependency-groups]\na = "tea"\n',
                                  '[dependency-groups]\na = [{include-group = "b"}]\n'])
def test_groups_that_are_none_are_refused_where_one_is_asked_for(machine, web, monkeypatch, text):
    files = {"pyproject.toml": '[project]\nname = "own"\nversion = "1"\ndependencies = ["tea"]\n' + text}
    assert versions(agent_env.work(checkout(machine, files)[0])) == ["tea==2.0"]
    monkeypatch.setenv(KEY + "UV_SYNC_EXTRA_ARGS", '["--group", "a"]')
    with pytest.raises(errors.Failure, match=r"dependency-groups|has no group b") as refused:
        agent_env.work(checkout(machine, files)[0])
    assert refused.value.exit == errors.BAD_DATA


def test_groups_that_include_each_other_many_times_over_come_once(tmp_path):
    groups = {f"g{n}": [{"include-group": f"g{n + 1}"}] * 10 + [f"p{n}"] for n in range(30)} | {"g30": ["tea"]}
    lines = project_file._chosen({"dependency-groups": groups}, ["--group", "g0"])[1]
    assert len(lines) == 31


@pytest.mark.parametrize(("words", "named"), [("--extra", "has no extra sour"), ("--group", "has no group sour")])
@pytest.mark.parametrize("locked", [False, True])
def test_an_extra_or_a_group_that_a_project_does_not_have_is_named(machine, web, monkeypatch, words, named, locked):
    monkeypatch.setenv(KEY + "UV_SYNC_EXTRA_ARGS", f'["--no-dev", "{words}", "sour"]')
    job, code = checkout(machine, {"pyproject.toml": PROJECT})
    if locked:
        lock(code, web)
    with pytest.raises(errors.Failure, match=named) as caught:
        agent_env.work(job)
    assert (caught.value.exit, "uv_sync_extra_args" in caught.value.remedy) == (errors.NOT_FOUND, True)


def test_a_lock_that_does_not_fit_any_more_is_resolved_anew_and_stays_as_it_was(machine, web, monkeypatch):
    job, code = checkout(machine, {"pyproject.toml": PROJECT})
    lock(code, web)
    with open(os.path.join(code, "pyproject.toml"), "w") as file:
        file.write(PROJECT.replace('"milk"', '"milk", "sugar"'))
    with open(os.path.join(code, "uv.lock")) as file:
        before = file.read()
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    assert versions(agent_env.work(job)) == ["leafy==1.0", "milk==1.0", "sugar==1.0", "tea==1.0"]
    assert "does not fit" in "".join(machine.said)
    monkeypatch.setenv(KEY + "UV_SYNC_LOCKED_IF_LOCK_FILE", "false")
    machine.said.clear()
    assert versions(agent_env.work(job)) == ["leafy==1.0", "milk==1.0", "sugar==1.0", "tea==1.0"]
    assert "does not fit" not in "".join(machine.said)
    with open(os.path.join(code, "uv.lock")) as file:
        assert file.read() == before


def test_what_a_lock_depends_on_beside_its_project_decides_whether_it_fits(machine, web):
    """A project elsewhere in the checkout, and a member of the workspace that is new."""
    lib = {f"lib/{name}": text for name, text in package("lib", ["milk"]).items()}
    app = PROJECT.replace('"milk"', '"lib"') + '[tool.uv.sources]\nlib = {path = "../lib"}\n' \
        '[tool.uv.workspace]\nmembers = ["p*"]\n'
    files = {**lib, "app/pyproject.toml": app, "app/run.py": ""}
    job, code = checkout(machine, files, working_dir="app", entry_point="run.py")
    lock(os.path.join(code, "app"), web)
    with open(os.path.join(code, "app", "uv.lock")) as file:
        files["app/uv.lock"] = file.read()
    agent_env.work(job)
    for more in ({f"lib/{name}": text for name, text in package("lib", ["milk", "sugar"]).items()},
                 {"app/part/pyproject.toml": PROJECT.replace("own", "part")}):
        machine.said.clear()
        agent_env.work(checkout(machine, {**files, **more}, working_dir="app", entry_point="run.py")[0])
        assert "does not fit" in "".join(machine.said)
    machine.said.clear()
    name = os.fsdecode(b"p\xe4rt")  # which uv passes over
    agent_env.work(checkout(machine, {**files, f"app/{name}/pyproject.toml": PROJECT}, working_dir="app",
                            entry_point="run.py")[0])
    assert "does not fit" not in "".join(machine.said)


def test_all_packages_of_a_workspace_beat_the_one_of_the_script(machine, web, monkeypatch):
    member = PROJECT.replace('"milk"', '"tea"').replace('name = "', 'name = "model-')
    job, code = checkout(machine, {"pyproject.toml": PROJECT + '[tool.uv.workspace]\nmembers = ["model"]\n',
                                   "model/pyproject.toml": member}, working_dir="model")
    lock(code, web)
    assert versions(agent_env.work(job)) == ["leafy==1.0", "tea==1.0"]
    monkeypatch.setenv(KEY + "UV_SYNC_EXTRA_ARGS", '["--all-packages"]')
    assert versions(agent_env.work(job)) == ["leafy==1.0", "milk==1.0", "tea==1.0"]


def test_the_projects_package_and_its_workspace_are_the_tasks_own(machine, web):
    files = package("own", ["part", "tea<2"])
    files["pyproject.toml"] += '[tool.uv.workspace]\nmembers = ["part"]\n[tool.uv.sources]\npart = {workspace = true}\n'
    files |= {f"part/{name}": text for name, text in package("part", ["sugar"]).items()}
    job, code = checkout(machine, files)
    lock(code, web)
    env = agent_env.work(job)
    assert versions(env) == ["sugar==1.0", "tea==1.0"]
    with open(os.path.join(code, "part", "part_code.py"), "w") as file:
        file.write("it = 2\n")
    assert python(env, "import own_code as own, part_code as part; print(own.it, part.it)") == "1 2"
    # a clone of the task has these lines as its record, and finds them again in its own checkout
    own = [line for line in env["packages"] if line.startswith("-e")]
    assert own == ["-e .", "-e ./part"]
    clone, _ = checkout(machine, {**files, "src/train.py": ""}, pip="\n".join(env["packages"]))
    assert agent_env.work(clone)["packages"] == env["packages"]


def test_a_project_above_the_working_directory_is_recorded_as_it_is_seen_from_there(machine, web):
    backend = wheelhouse.BACKEND.format(here=os.path.dirname(os.path.abspath(__file__)), hook="pass", name="own",
                                        version="1.0", requires=["tea"])
    files = {"pyproject.toml": wheelhouse.PYPROJECT.format(name="own"), "backend.py": backend, "src/train.py": ""}
    job, _ = checkout(machine, files, working_dir="src")
    env = agent_env.work(job)
    assert env["packages"] == ["tea==2.0", "-e .."]
    clone, _ = checkout(machine, files, working_dir="src", pip="\n".join(env["packages"]))
    assert agent_env.work(clone)["packages"] == env["packages"]


def test_a_record_beats_a_lock_unless_uv_is_the_manager(machine, web, monkeypatch):
    job, code = checkout(machine, {"pyproject.toml": PROJECT}, pip="sugar")
    lock(code, web)
    assert versions(agent_env.work(job)) == ["sugar==1.0"]
    for variable in (KEY + "TYPE", "CLEARML_AGENT_FORCE_UV"):
        monkeypatch.setenv(variable, "uv" if variable.endswith("TYPE") else "1")
        assert versions(agent_env.work(job)) == ["leafy==1.0", "milk==1.0", "tea==1.0"]
        monkeypatch.delenv(variable)


def test_the_working_directory_comes_first_where_that_is_asked_for(machine, web, monkeypatch):
    job, code = checkout(machine, {"pyproject.toml": PROJECT, "model/pyproject.toml": PROJECT.replace("milk", "tea")},
                         working_dir="model")
    for folder in (code, os.path.join(code, "model")):
        lock(folder, web)
    monkeypatch.setenv("CLEARML_AGENT_FORCE_UV", "1")
    assert "milk==1.0" in agent_env.work(job)["packages"]
    monkeypatch.setenv(KEY + "UV_FILES_FROM_REPO_WORKING_DIR", "true")
    assert "tea==2.0" in agent_env.work(job)["packages"]


def test_a_wheel_of_the_project_is_compared_with_its_lock(machine, web):
    told = PROJECT.replace("milk", "pot") + '[tool.uv.sources]\npot = {path = "pot-1.0-py3-none-any.whl"}\n'
    job, code = checkout(machine, {"pyproject.toml": told})
    wheel = wheelhouse.wheel(code, "pot", "1.0")
    lock(code, web)
    env = agent_env.work(job)
    assert env["packages"] == ["leafy==1.0", "./pot-1.0-py3-none-any.whl"]
    assert env["pins"][1] == f"./pot-1.0-py3-none-any.whl --hash=sha256:{wheelhouse.sha256(wheel)}"
    wheelhouse.wheel(code, "pot", "1.0", files={"pot/evil.py": ""})
    with pytest.raises(errors.Failure, match=r"pot-1.0-py3-none-any\.whl has another SHA-256") as caught:
        agent_env.work(job)
    assert caught.value.exit == errors.BAD_DATA


@pytest.mark.parametrize("below", ["", "lib"])
def test_a_broken_lock_is_refused(machine, web, below):
    files = {"pyproject.toml": PROJECT + '[tool.uv.workspace]\nmembers = ["lib"]\n', "uv.lock": "<<<<<<< HEAD",
             "lib/pyproject.toml": PROJECT.replace("own", "lib")}
    job, _ = checkout(machine, files, working_dir=below or ".")
    with pytest.raises(errors.Failure) as caught:
        agent_env.work(job)
    assert (caught.value.exit, "uv lock" in caught.value.remedy) == (errors.BAD_DATA, True)


@pytest.mark.parametrize("workspace", ['members = ["*"]\nexclude = ["lib"]', 'members = ["other"]'])
def test_a_broken_lock_above_is_no_matter_for_a_project_outside_its_workspace(machine, web, workspace):
    files = {"pyproject.toml": PROJECT + f"[tool.uv.workspace]\n{workspace}\n", "uv.lock": "<<<<<<< HEAD",
             "lib/pyproject.toml": PROJECT.replace("milk", "tea")}
    assert versions(machine.task(files=files, working_dir="lib")) == ["tea==2.0"]


# ---- pyproject.toml alone

def test_a_project_without_a_lock_asks_for_its_dependencies(machine):
    assert versions(machine.task(files={"pyproject.toml": PROJECT})) == ["milk==1.0", "tea==1.0"]


SOURCES = {"pot": '{path = "lib/pot", editable = true}', "Pan_Cake": '{path = "lib/pan_cake-1.0-py3-none-any.whl"}',
           "leafy": '[{index = "one", marker = "sys_platform == 0"}]', "tea": '[{path = "x", marker = "y"}]',
           "a": '{git = "https://h/a.git", tag = "v1", subdirectory = "s"}', "b": '{git = "ssh://git@h/b"}',
           "c": '{url = "https://h/c.zip"}', "d": "{workspace = true}"}


def test_the_sources_of_a_project_that_is_not_built_count(tmp_path):
    needed = ["pot[x]>=1", "pan-cake", "leafy", "tea<2", 'a [x] >=1 ; python_version > "3"', "b", "c", "d", "milk",
              "pot @ https://h/pot.zip"]
    told = f"[project]\nname = 'own'\nversion = '1'\ndependencies = {needed[:4]}\n[dependency-groups]\nmore = "
    told += f"{needed[4:]}\n[tool.uv.sources]\n" + "".join(f"{name} = {each}\n" for name, each in SOURCES.items())
    (tmp_path / "pyproject.toml").write_text(told)
    lines, notes = project_file.lines(str(tmp_path), ["--group", "more"])
    assert lines == [
        "-e ./lib/pot[x]", "./lib/pan_cake-1.0-py3-none-any.whl", "leafy", "tea<2",
        'a[x] @ git+https://h/a.git@v1#subdirectory=s ; python_version > "3"', "b @ git+ssh://git@h/b",
        "c @ https://h/c.zip", "d", "milk", "pot @ https://h/pot.zip"]
    assert [note.split(" says of ")[1].partition(" ")[0] for note in notes] == ["tea", "d"]


@pytest.mark.parametrize("built", [True, False])
def test_a_package_comes_from_its_source_without_a_lock(machine, monkeypatch, built):
    monkeypatch.setenv(KEY + "UV_SYNC_EXTRA_ARGS", '["--group", "more"]')
    files = package("own", ["milk"]) if built else {"pyproject.toml": PROJECT.partition("[project.opt")[0]}
    files["pyproject.toml"] += '[dependency-groups]\nmore = ["pot"]\n[tool.uv.sources]\npot = {path = "lib"}\n'
    env = machine.task(files={**files, **{f"lib/{path}": text for path, text in package("pot", ["tea<2"]).items()}})
    assert env["packages"] == ["milk==1.0", "tea==1.0", *(["-e ."] if built else []), "./lib"]
    assert python(env, "from importlib import metadata; print(metadata.version('pot'))") == "1.0"


@pytest.mark.parametrize(("text", "words"), [
    ("[project\nname=", "pyproject.toml is not TOML: "),
    (f"it = {'[' * 20_000}", "pyproject.toml is not TOML: it is nested too deeply"),
    ('[project]\nname = "own"\nversion = "1"\ndependencies = "tea"\n', "project.dependencies is not a list")])
def test_a_pyproject_that_cannot_be_read_is_refused(machine, text, words):
    with pytest.raises(errors.Failure, match=words) as caught:
        machine.task(files={"pyproject.toml": text})
    assert caught.value.exit == errors.BAD_DATA


def test_a_windows_editors_mark_before_a_pyproject_is_no_matter(machine):
    assert versions(machine.task(files={"pyproject.toml": "\ufeff" + PROJECT})) == ["milk==1.0", "tea==1.0"]


@pytest.mark.parametrize("locked", [False, True])
def test_a_project_for_another_python_than_there_is_is_refused_unless_the_task_says_otherwise(machine, web, locked):
    files = {"pyproject.toml": PROJECT.replace(">=3.8", ">=3.98,<4")}
    if locked:
        files["uv.lock"] = 'version = 1\nrevision = 3\nrequires-python = ">=3.98, <4"\n'
    with pytest.raises(errors.Failure, match=r"no Python >=3\.98,<4 on this machine") as caught:
        machine.task(files=files)
    assert (caught.value.exit, caught.value.change[0]) == (errors.NOT_FOUND, "--python")
    own = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if locked:
        with pytest.raises(errors.Failure, match=r"the project needs Python>=3\.98") as caught:
            machine.task(files=files, binary=own)
        assert caught.value.remedy.endswith("agent-task edit --python VERSION")
    else:
        assert versions(machine.task(files=files, binary=own)) == ["milk==1.0", "tea==1.0"]


def test_an_image_whose_python_a_project_is_not_for_is_what_is_to_be_another(machine):
    client = os.path.join(machine.folder, "client")
    with open(client, "w") as file:
        file.write('#!/bin/sh\nshift; [ "$1" != -u ] || shift 2; shift\nexec "$@"\n')
    os.chmod(client, 0o755)
    job, _ = checkout(machine, {
        "pyproject.toml": PROJECT.replace(">=3.8", ">=3.98,<4"),
        "uv.lock": 'version = 1\nrevision = 3\nrequires-python = ">=3.98, <4"\n'},
        place={"kind": "docker", "prefix": [client, "exec", "c"], "container": "c", "image": "i",
               "image_id": "sha256:1", "environments": apart.make()})
    for name in ("box", "env"):
        os.mkdir(job.path(name))
    with pytest.raises(errors.Failure, match=r"the project needs Python>=3\.98") as caught:
        agent_env.work(job)
    assert caught.value.remedy == "use an image that has it: agent-task edit --docker IMAGE"


@pytest.mark.parametrize(("tree", "wish"), [
    ({"project": {"requires-python": ">= 3.10, < 4"}}, ">=3.10,<4"), ({"project": {}}, ""),
    ({"tool": {"poetry": {"dependencies": {"python": "^3.9"}}}}, ">=3.9,<4"),
    ({"tool": {"poetry": {"dependencies": {"python": "*"}}}}, ""),
    ({"tool": {"poetry": {"dependencies": {"python": ">=3.8 <4"}}}}, ">=3.8,<4"),
    ({"tool": {"poetry": {"dependencies": {"python": "~3.10"}}}}, "==3.10.*"),
    ({"tool": {"poetry": {"dependencies": {"python": "~3.10.2"}}}}, "~=3.10.2"),
    ({"tool": {"poetry": {"dependencies": {"python": "3.10.*"}}}}, "==3.10.*"),
    ({"project": {"requires-python": ">=3.6.*, !=3.7.*"}}, ">=3.6,!=3.7.*"),
    ({"project": {"requires-python": ">=3.8."}}, ""),
    ({"tool": {"poetry": {"dependencies": {"python": "^2.7 || ^3.6"}}}}, "")])
def test_the_pythons_that_a_project_is_for(tree, wish):
    assert project_file.python(tree) == wish


def test_a_pyproject_that_only_configures_tools_asks_for_nothing(machine):
    assert machine.task(files={"pyproject.toml": "[tool.ruff]\nline-length = 100\n"})["packages"] == []


@pytest.mark.parametrize("wish", ["tea==99", "nosuchtea"])
def test_what_a_project_asks_for_is_mended_there(machine, wish):
    files = {"pyproject.toml": f'[project]\nname = "own"\nversion = "1"\ndependencies = ["milk", "{wish}"]\n'}
    with pytest.raises(errors.Failure, match=wish) as caught:
        agent_env.work(machine.job(files=files))
    assert caught.value.change == errors.CODE_ANEW
    assert "pyproject.toml" in caught.value.remedy


# ---- the indexes that it names

@pytest.mark.parametrize("kind", ["alone", "built", "locked"])
def test_an_index_that_a_project_names_gets_the_login_that_uv_has_for_it(machine, web, monkeypatch, kind):
    private = web.replace("/simple", "/private/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    files = package("own", ["milk"]) if kind == "built" else {"pyproject.toml": PROJECT}
    files["pyproject.toml"] += f'[[tool.uv.index]]\nname = "my-own"\nurl = "{private}"\ndefault = true\n'
    job, code = checkout(machine, files)
    monkeypatch.setenv("UV_INDEX_MY_OWN_USERNAME", "u")
    monkeypatch.setenv("UV_INDEX_MY_OWN_PASSWORD", "secret")
    if kind == "locked":
        uv = os.path.join(os.path.dirname(sys.executable), "uv")
        subprocess.run([uv, "lock", "-q", "--no-cache"], cwd=code, check=True)
    env = agent_env.work(job)
    assert {"milk==1.0", "tea==1.0"} <= set(env["packages"])
    assert "secret" not in str(env)
    monkeypatch.delenv("UV_INDEX_MY_OWN_PASSWORD")
    with pytest.raises(errors.Failure) as caught:
        agent_env.work(checkout(machine, {**files, "more.py": ""})[0])
    assert caught.value.exit == errors.NO_PERMISSION


def test_a_login_of_uv_is_quoted_in_a_url(monkeypatch):
    monkeypatch.setenv("UV_INDEX_A_PASSWORD", "a/b@c")
    assert requirements.filled("https://${UV_INDEX_A_USERNAME}:${UV_INDEX_A_PASSWORD}@h") == (
        "https://${UV_INDEX_A_USERNAME}:a%2Fb%40c@h")


# ---- poetry

POETRY = """[tool.poetry]
name = "own"
version = "1.0"
package-mode = false
[tool.poetry.dependencies]
python = "^3.8"
milk = "^1.0"
sugar = {version = "*", optional = true}
[tool.poetry.extras]
sweet = ["sugar"]
[tool.poetry.group.dev.dependencies]
leafy = "*"
[tool.poetry.group.docs]
optional = true
[tool.poetry.group.docs.dependencies]
pot = "*"
"""


def poetry(machine, two=True, wrong=""):
    """A poetry.lock of poetry 2 (with groups and markers), or of poetry 1."""
    wheelhouse.wheel(machine.index, "pot", "1.0")
    told = {"milk": ("1.0", "main", "", '\n[package.dependencies]\ntea = "<2"\n'), "tea": ("1.0", "main", "", ""),
            "sugar": ("1.0", "main", 'markers = "extra == \\"sweet\\""\n', ""), "leafy": ("1.0", "dev", "", ""),
            "pot": ("1.0", "docs", "", "")}
    text = ""
    for name, (version, group, marker, rest) in told.items():
        wheel = os.path.join(machine.index, f"{name}-{version}-py3-none-any.whl")
        digest = "0" * 64 if name == wrong else wheelhouse.sha256(wheel)
        text += f'[[package]]\nname = "{name}"\nversion = "{version}"\noptional = {str(name == "sugar").lower()}\n'
        text += f'groups = ["{group}"]\n{marker}' if two else ""
        text += f'files = [{{file = "{name}.whl", hash = "sha256:{digest}"}}]\n{rest}\n'
    return text + f'[extras]\nsweet = ["sugar"]\n[metadata]\nlock-version = "{"2.1" if two else "2.0"}"\n'


@pytest.mark.parametrize("two", [True, False])
@pytest.mark.parametrize(("words", "installed"), [
    ("", ["leafy==1.0", "milk==1.0", "tea==1.0"]),
    ('["--without", "dev"]', ["milk==1.0", "tea==1.0"]),
    ('["--only=main", "--extras", "sweet"]', ["milk==1.0", "sugar==1.0", "tea==1.0"]),
    ('["--with", "docs", "--no-dev"]', ["milk==1.0", "pot==1.0", "tea==1.0"]),
])
def test_a_poetry_lock(machine, web, monkeypatch, two, words, installed):
    wheelhouse.wheel(machine.index, "milk", "1.1")
    if words:
        monkeypatch.setenv(KEY + "POETRY_INSTALL_EXTRA_ARGS", words)
    files = {"pyproject.toml": POETRY, "poetry.lock": poetry(machine, two)}
    assert versions(machine.task(files=files)) == installed


@pytest.mark.parametrize(("words", "found"), [
    (["--extras", "one"], ["a==1"]), (["-E", "two_b"], ["b==1"]), (["--all-extras"], ["a==1", "b==1"]), ([], [])])
def test_an_extra_of_a_project_with_a_lock_of_poetry_1_brings_its_own_alone(tmp_path, words, found):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\na = {version = "1", optional = true}\n'
        'b = {version = "1", optional = true}\n[tool.poetry.extras]\none = ["a"]\ntwo-b = ["b"]\n')
    (tmp_path / "poetry.lock").write_text("".join(
        f'[[package]]\nname = "{name}"\nversion = "1"\noptional = true\n' for name in "ab")
        + '[metadata]\nlock-version = "2.0"\n')
    assert poetry_lock.lines(str(tmp_path), words)[0] == found


@pytest.mark.parametrize(("words", "named"), [
    ('["--extras", "sour"]', "has no extra sour"), ('["--with", "tests"]', "has no group tests"),
    ('["--only=tests"]', "has no group tests")])
def test_an_extra_or_a_group_that_a_project_of_poetry_does_not_have_is_named(machine, web, monkeypatch, words, named):
    monkeypatch.setenv(KEY + "POETRY_INSTALL_EXTRA_ARGS", words)
    with pytest.raises(errors.Failure, match=named) as caught:
        machine.task(files={"pyproject.toml": POETRY, "poetry.lock": poetry(machine)})
    assert "poetry_install_extra_args" in caught.value.remedy


GROUPS = '[dependency-groups]\ndev = ["leafy"]\n'
PEP621 = '[project]\nname = "own"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["milk"]\n'


@pytest.mark.parametrize(("text", "told"), [
    (POETRY, "6c71b9acf223c77513daf1b3303c579b64894077741f17627b9834498c82cfe0"),
    (PEP621 + GROUPS, "959b1d59ea188b91e15148136ead665e2703d6625c2f2868faf33a7db49a9a43"),
    (PEP621 + GROUPS, "337bd13db4b6f043ddb23b29027a7ada47c63b43311de9dda233f7f15a471efe")])
def test_a_poetry_lock_that_does_not_fit_any_more_is_said(tmp_path, text, told):
    """The hashes are those of poetry itself; before its 2.3 without the groups."""
    (tmp_path / "poetry.lock").write_text(
        LOCKED.replace("main", "dev") + f'[metadata]\nlock-version = "2.1"\ncontent-hash = "{told}"\n')
    (tmp_path / "pyproject.toml").write_text(text)
    assert poetry_lock.lines(str(tmp_path), [])[1] == []
    (tmp_path / "pyproject.toml").write_text(text.replace("milk", "tea"))
    assert "does not fit" in poetry_lock.lines(str(tmp_path), [])[1][0]


def test_a_poetry_lock_compares_its_hashes(machine, web):
    with pytest.raises(errors.Failure) as caught:
        machine.task(files={"pyproject.toml": POETRY, "poetry.lock": poetry(machine, wrong="tea")})
    assert (caught.value.exit, "tea" in caught.value.reason) == (errors.BAD_DATA, True)


def test_poetry_as_the_manager_beats_the_record_also_in_a_folder(machine, web, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_FORCE_POETRY", "1")
    monkeypatch.setenv(KEY + "POETRY_FILES_FROM_REPO_WORKING_DIR", "true")
    files = {"pyproject.toml": "", "model/pyproject.toml": POETRY, "model/poetry.lock": poetry(machine)}
    assert versions(machine.task("sugar", files=files, working_dir="model")) == ["leafy==1.0", "milk==1.0", "tea==1.0"]
    assert versions(machine.task("sugar", files={"main.py": ""})) == ["sugar==1.0"]


def test_a_poetry_project_without_a_lock_says_what_to_do(machine):
    with pytest.raises(errors.Failure) as caught:
        machine.task(files={"pyproject.toml": POETRY})
    assert "poetry lock" in caught.value.remedy


@pytest.mark.parametrize(("package", "line"), [
    ({"name": "x", "version": "1", "source": {"type": "git", "url": "https://h/x", "resolved_reference": "abc",
                                              "subdirectory": "s"}}, "x @ git+https://h/x@abc#subdirectory=s"),
    ({"name": "x", "version": "1", "source": {"type": "url", "url": "https://h/x.whl"}}, "x @ https://h/x.whl"),
    ({"name": "x", "version": "1", "develop": True, "source": {"type": "directory", "url": "x"}}, "-e ./x"),
    ({"name": "x", "version": "1", "source": {"type": "file", "url": "x.whl"}}, "./x.whl"),
])
def test_where_a_locked_package_comes_from(tmp_path, monkeypatch, package, line):
    (tmp_path / "pyproject.toml").write_text('[tool.poetry.dependencies]\nx = "*"\n')
    monkeypatch.setattr(poetry_lock, "load_toml", lambda path, _load=poetry_lock.load_toml: (
        {"package": [package]} if path.endswith(".lock") else _load(path)))
    assert poetry_lock.lines(str(tmp_path), [])[0] == [line]


LOCKED = '[[package]]\nname = "a"\nversion = "1"\ngroups = ["main"]\n'
NO_LOCKS = ('package = "x"', "package = [1]", '[[package]]\nversion = "1"', LOCKED + 'source = "x"',
            LOCKED + 'files = "x"')


@pytest.mark.parametrize(("files", "word"), [
    ({"pyproject.toml": 'project = "x"'}, "project is no table"),
    ({"pyproject.toml": '[tool]\npoetry = "x"'}, "tool.poetry is no table"),
    ({"pyproject.toml": "[tool]\npoetry = []"}, "tool.poetry is no table"),
    ({"pyproject.toml": 'project = ""'}, "project is no table"),
    ({"pyproject.toml": "[tool.poetry]\ngroup = 1"}, "tool.poetry.group is no table"),
    ({"pyproject.toml": '[project]\nname = "own"\ndynamic = 1\ndependencies = "x"'}, "dependencies is not a list"),
    ({"pyproject.toml": '[tool.poetry]\nname = "x"\n[tool.poetry.group]\ndev = 1'}, "poetry.group.dev is no table"),
    ({"pyproject.toml": "[tool.uv]\nworkspace = 1", "uv.lock": "version = 1"}, "tool.uv.workspace is no table"),
    *(({"pyproject.toml": '[tool.poetry.dependencies]\na = "1"', "poetry.lock": text}, "not a lock of poetry")
      for text in NO_LOCKS),
    ({"environment.yml": "dependencies: [{pip: 5}]"}, "neither a text nor a list"),
])
def test_a_file_that_is_none_of_its_kind_is_named(machine, files, word):
    with pytest.raises(errors.Failure, match=word) as caught:
        agent_env.work(machine.job(files=files))
    assert caught.value.exit == errors.BAD_DATA


def test_a_lock_above_that_is_none_is_no_workspace(machine):
    files = {"uv.lock": "package = [1]", "pyproject.toml": "", "d/pyproject.toml": '[project]\nname = "d"'}
    assert agent_env.work(machine.job(files=files, working_dir="d"))["packages"] == []


def test_an_explicit_index_with_a_login_is_asked_for_its_own_packages_alone(machine, web, tmp_path, monkeypatch):
    """A stranger's newer package of another name, or one of ours, may stand there."""
    other = tmp_path / "other"
    other.mkdir()
    wheelhouse.wheel(str(other), "sugar", "3.0")
    wheelhouse.wheel(str(other), "leafy", "9.0")
    server, address = package_index.serve(str(other))
    files = package("own", ["sugar", "leafy"])
    files["pyproject.toml"] += ('[tool.uv.sources]\nsugar = {index = "my-own"}\n[[tool.uv.index]]\nname = "my-own"\n'
                                f'url = "http://{address}/private/simple"\nexplicit = true\n')
    monkeypatch.setenv("UV_INDEX_MY_OWN_USERNAME", "u")
    monkeypatch.setenv("UV_INDEX_MY_OWN_PASSWORD", "secret")
    try:
        env = agent_env.work(checkout(machine, files)[0])
    finally:
        server.shutdown()
    assert versions(env) == ["leafy==1.0", "sugar==3.0"]
    assert "secret" not in str(env)


def test_members_of_a_workspace_are_looked_for_behind_no_link(tmp_path):
    """Of two that lead to their own folder each has both below it, without end."""
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(".")
    (tmp_path / "packages" / "one").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["packages/**", "**", "a**", "", 1]\n'
                                             'exclude = ["packages"]\n')
    assert lock_files._members(str(tmp_path)) & {str(tmp_path / name) for name in ("packages", "packages/one")} == {
        str(tmp_path / "packages" / "one")}
    (tmp_path / "pyproject.toml").write_text("[tool.uv.workspace]\nmembers = 1\n")
    assert lock_files._members(str(tmp_path)) == set()
