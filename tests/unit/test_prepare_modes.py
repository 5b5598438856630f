"""agent-prepare for another place or time: --target, --stage-only and --offline, --dry-run."""

import json
import os
import shutil
import subprocess
import sys

import package_index
import pytest
import wheelhouse
from git_servers import SmartServer
from repositories import repository

from agentpipe import errors
from agentpipe.environment import targets

BIN = os.path.dirname(sys.executable)
TRAIN = "import sys, tea, milk\nprint('tea', tea.version, *sys.argv[1:])\n"


class World:
    """An index and a repository on servers that can be shut down, and a task that needs both."""

    def __init__(self, folder):
        self.folder = folder
        self.index = str(folder / "index")
        for version in ("1.0", "2.0"):
            wheelhouse.wheel(self.index, "tea", version)
        wheelhouse.wheel(self.index, "milk", "1.0", requires=["leaf", "tea<2"])
        wheelhouse.source(self.index, "leaf", "1.0")
        repository(folder / "served" / "r.git", {"src/train.py": TRAIN})
        self.packages, address = package_index.serve(self.index)
        self.code = SmartServer(folder / "served").__enter__()
        self.task = {"task": {"name": "x", "script": {
            "repository": f"{self.code.url}/r.git", "entry_point": "train.py", "working_dir": "src",
            "requirements": {"pip": "milk"}}}}
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith(("PIP_", "UV_", "CLEARML_", "AGENT_", "PYTHON"))}
        self.environment = {**kept, "HOME": str(folder), "AGENT_HOME": str(folder / "home"),
                            "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://{address}/simple",
                            "UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0",
                            "PATH": BIN + os.pathsep + os.environ["PATH"]}

    def gone(self):
        """Without a network."""
        self.packages.shutdown()
        self.packages.server_close()
        self.code.__exit__()

    def run(self, name, *words, line=None, status=0, **more):
        done = subprocess.run([os.path.join(BIN, name), *map(str, words)], input=json.dumps(line or self.task).encode(),
                              env={**self.environment, **more}, capture_output=True)
        assert done.returncode == status, done.stderr.decode()
        self.said = done.stderr.decode()
        return json.loads(done.stdout or "null")


@pytest.fixture
def world(tmp_path, no_shims, seeds):
    seeds(tmp_path / "home")
    made = World(tmp_path)
    yield made
    made.gone()


def test_a_target_runs_by_itself_without_us(world, tmp_path):
    target = tmp_path / "built"
    line = world.run("agent-prepare", "--target", target)
    assert line["env"]["python"] == str(target / "env/bin/python")
    shutil.rmtree(tmp_path / "home")
    env = {"PATH": os.environ["PATH"]}
    assert subprocess.check_output([target / "run", "--lr", "3"], env=env, text=True) == "tea 1.0 --lr 3\n"


def test_a_target_again_is_made_anew_and_other_folders_are_left_alone(world, tmp_path):
    target = tmp_path / "built"
    world.run("agent-prepare", "--target", target)
    world.run("agent-prepare", "--target", target)
    (target / "mine").write_text("x")
    world.run("agent-prepare", "--target", target, status=73)
    assert "holds other things: mine" in world.said
    assert (target / "mine").exists()
    project = tmp_path / "project"  # of a user, and looks like one of ours
    (project / "code").mkdir(parents=True)
    (project / "code" / "model.py").write_text("x")
    world.run("agent-prepare", "--target", project, status=73)
    assert (project / "code" / "model.py").exists()


def test_a_target_takes_one_task_and_has_a_name(world, tmp_path):
    two = json.dumps({"task": {"script": {"diff": "print(1)", "entry_point": "one.py"}}}).encode() + b"\n"
    done = subprocess.run([os.path.join(BIN, "agent-prepare"), "--target", str(tmp_path / "built")], input=two * 2,
                          env=world.environment, capture_output=True)
    assert done.returncode == 123
    assert b"--target takes one task" in done.stderr
    world.run("agent-prepare", "--target", "", status=64)


def test_a_task_s_name_of_several_lines_is_no_command_of_a_target(world, tmp_path):
    target = tmp_path / "built"
    line = {"task": {**world.task["task"], "name": "x\ntouch injected"}}
    world.run("agent-prepare", "--target", target, line=line)
    subprocess.check_call([target / "run"], cwd=tmp_path)
    assert not list(tmp_path.rglob("injected"))


def test_staged_here_and_prepared_where_there_is_no_network(world):
    staged = world.run("agent-prepare", "--stage-only", "--verbose")
    assert set(staged) == {"manifest", "task"}
    assert "3 of 3 packages fetched" in world.said
    world.gone()
    line = world.run("agent-prepare", "--offline", line=staged)
    assert line["fetch"]["cached"] and line["env"]["cached"]
    assert world.run("agent-run", line=line)["run"]["exit"] == 0


def test_the_wheelhouse_alone_does_on_another_machine(world, tmp_path):
    house = tmp_path / "wheels"
    world.run("agent-prepare", "--stage-only", "--wheelhouse", house)
    assert sorted(os.listdir(house)) == ["leaf-1.0-py3-none-any.whl", "milk-1.0-py3-none-any.whl",
                                         "tea-1.0-py3-none-any.whl"]
    world.gone()
    line = {"task": {"script": {**world.task["task"]["script"], "repository": None, "working_dir": ".", "diff": TRAIN}}}
    other = str(tmp_path / "other")
    found = world.run("agent-prepare", "--offline", "--wheelhouse", house, line=line, AGENT_HOME=other)
    assert found["env"]["packages"] == ["leaf==1.0", "milk==1.0", "tea==1.0"]
    assert not found["env"]["cached"]


@pytest.mark.parametrize("variables, file", [
    ({"UV_DEFAULT_INDEX": "INDEX", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}, ""),
    ({"UV_INDEX_URL": "INDEX"}, ""),
    ({"UV_INDEX": "mine=INDEX", "UV_DEFAULT_INDEX": "INDEX/none"}, ""),
    ({}, 'index-url = "INDEX"'),
    ({}, '[[index]]\nname = "mine"\nurl = "INDEX"\ndefault = true'),
    ({"UV_NO_INDEX": "1", "UV_FIND_LINKS": "FOLDER"}, ""),
])
def test_the_wheelhouse_is_filled_from_where_uv_is_told_to_look(world, tmp_path, variables, file):
    index, house = world.environment["PIP_INDEX_URL"], tmp_path / "wheels"
    if file:
        (tmp_path / ".config/uv").mkdir(parents=True)
        (tmp_path / ".config/uv/uv.toml").write_text(file.replace("INDEX", index))
    told = {name: value.replace("INDEX", index).replace("FOLDER", world.index) for name, value in variables.items()}
    task = {"task": {"script": {"entry_point": "a.py", "diff": "pass", "requirements": {"pip": "tea<2"}}}}
    world.run("agent-prepare", "--stage-only", "--wheelhouse", house, line=task,
              **{"PIP_INDEX_URL": "", "UV_INDEX_STRATEGY": "unsafe-best-match", **told})
    assert os.listdir(house) == ["tea-1.0-py3-none-any.whl"]


def test_without_a_network_what_is_missing_is_named(world, tmp_path):
    line = {"task": {"script": {"entry_point": "a.py", "diff": "pass", "requirements": {"pip": "milk"}}}}
    world.run("agent-prepare", "--offline", line=line, status=69)
    assert "milk" in world.said and "--stage-only" in world.said


def test_a_second_staging_fetches_nothing(world):
    world.run("agent-prepare", "--stage-only")
    world.run("agent-prepare", "--stage-only", "--verbose")
    assert "0 of 3 packages fetched" in world.said


def test_a_dry_run_says_what_would_be_fetched_and_installed_and_from_where(world, tmp_path):
    world.run("agent-prepare", "--dry-run")
    assert "would fetch" in world.said or "would ask" in world.said
    assert "would be built" in world.said and "would install milk==1.0" in world.said
    assert "would install tea==1.0" in world.said
    world.run("agent-prepare")
    world.run("agent-prepare", "--dry-run")
    assert "in the cache" in world.said and "has milk==1.0" in world.said


def test_a_dry_run_fails_where_the_list_cannot_be_installed(world):
    line = {"task": {"script": {"entry_point": "a.py", "diff": "pass", "requirements": {"pip": "milk\ntea>2"}}}}
    world.run("agent-prepare", "--dry-run", line=line, status=65)
    assert "tea>2" in world.said


@pytest.mark.parametrize("words", [["--target", "x", "--stage-only"], ["--stage-only", "--offline"]])
def test_what_cannot_be_meant_is_refused(world, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world.run("agent-prepare", *words, status=64)
    assert not (tmp_path / "x").exists()


def test_a_link_whose_end_is_not_there_is_named(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/nope/there")
    with pytest.raises(errors.Failure, match=r"cannot create .*/link: it is a link to /nope/there, which is not there"):
        targets.make(str(link))


def test_a_target_starts_with_variables_that_no_shell_knows(tmp_path):
    from agentpipe.job import Job
    from agentpipe.prepare import modes
    target, code = tmp_path / "target", tmp_path / "target" / "code"
    code.mkdir(parents=True)
    (code / "t.py").write_text("import os; print(*map(os.environ.get, ('PLAIN', 'my.var', \"x; echo '\")), sep=',')\n")
    variables = {"PLAIN": "a b", "my.var": "it's", "x; echo '": "c"}
    line = {"task": {"name": "x", "script": {"entry_point": "t.py"}}, "fetch": {"code": str(code)},
            "patch": {"working_dir": ".", "entry_point": "t.py"},
            "env": {"python": sys.executable, "path": [], "variables": variables}}
    modes.write_start(Job(line, str(tmp_path), {"target": str(target)}))
    done = subprocess.run([target / "run"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("a b,it's,c\n", "")
