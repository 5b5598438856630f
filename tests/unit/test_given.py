"""Environments that are used as they are found, or that somebody else's script builds."""

import json
import os
import stat
import subprocess
import sys

import pytest
import wheelhouse
from env_machine import python, run

from agentpipe import errors
from agentpipe.environment import installed, requirements, task_env
from agentpipe.environment.installers import uv_failures


@pytest.fixture
def venv(machine):
    """A virtual environment of the user's own, with milk and its tea; its Python."""
    import virtualenv
    folder = os.path.join(machine.folder, "mine")
    virtualenv.cli_run([folder, "--without-pip", "--no-periodic-update", "--no-vcs-ignore"], setup_logging=False)
    fill(folder, machine.index, "milk")
    return os.path.join(folder, "bin", "python")


def fill(folder, index, *words):
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    subprocess.run([uv, "pip", "install", "-q", "--no-index", "-f", index, "-p", folder, *words], check=True)


def script(path, text):
    with open(path, "w") as file:
        file.write("#!/bin/sh\nset -e\n" + text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path


# ---- --as-is

def test_an_environment_that_has_everything_is_used_as_it_is(machine, venv):
    env = machine.task("milk\ntea==1.0", binary=venv)
    assert (env["base"], env["installer"], machine.builds()) == (None, "none", [])
    assert "as it is" in env["reason"] and "as it is" in "".join(machine.said)
    assert env["packages"] == ["milk==1.0", "tea==1.0"]
    assert python(env, "import milk, tea; print(tea.version)") == "1.0"


def test_what_a_task_installs_into_it_is_the_tasks_alone(machine, venv):
    env = machine.task("milk", binary=venv)
    fill(env["overlay"], machine.index, "tea==2.0")
    assert python(env, "import tea; print(tea.version)") == "2.0"
    assert subprocess.check_output([venv, "-c", "import tea; print(tea.version)"], text=True).strip() == "1.0"


def test_one_that_lacks_something_is_not_used_and_the_log_says_what(machine, venv):
    wheelhouse.wheel(machine.index, "pot", "1.0")
    env = machine.task("milk\npot", binary=venv)
    assert env["base"] and env["packages"] == ["milk==1.0", "pot==1.0", "tea==1.0"]
    assert "is not used as it is: it lacks pot==1.0\n" in "".join(machine.said)


def test_what_is_missing_without_a_network_is_the_line_that_asks_for_it():
    # uv's words where no index was ever asked
    said = ("error: No solution found when resolving dependencies\n  cause: Because torch was not found in the cache "
            "and you require torch==2.10.0, we can conclude that your requirements are unsatisfiable.\n\nhint: "
            "Packages were unavailable because the network was disabled.")
    assert uv_failures.lacking(said) == "torch==2.10.0"
    assert uv_failures.lacking("Because six was not found in the cache and all versions of tea depend on six") == "six"
    # what is known of it is there, and the file is not: another task is about to have it
    assert uv_failures.lacking("Because six==1.16.0 needs to be downloaded from a registry and you require six==1.16.0"
                               ", we can conclude that your requirements are unsatisfiable.") == "six==1.16.0"
    assert uv_failures.lacking("Because all versions of six need to be downloaded from a registry and you require six, "
                               "we can conclude that your requirements are unsatisfiable.") == "six"


def test_never_means_never(machine, venv):
    env = machine.task("milk", binary=venv, options={"as_is": "never"})
    assert env["base"] and not env["cached"]


def test_always_takes_it_though_something_is_missing_and_says_so(machine, venv, monkeypatch):
    monkeypatch.setenv("AGENT_AS_IS", "always")
    env = machine.task("milk\ntea==2.0", binary=venv)
    assert (env["base"], machine.builds()) == (None, [])
    assert "(--as-is=always), though" in "".join(machine.said)
    assert python(env, "import milk, tea; print(tea.version)") == "1.0"


def test_the_machines_own_python_is_not_looked_at_unasked(machine):
    assert machine.task("tea")["base"]


def test_another_word_is_refused(machine):
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea", options={"as_is": "often"})
    assert caught.value.exit == errors.USAGE


# ---- system packages

def test_system_packages_are_seen_where_that_is_asked_for(machine, venv, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES", "true")
    env = machine.task("tea==1.0")
    with open(os.path.join(env["overlay"], "pyvenv.cfg")) as file:
        assert "include-system-site-packages = true" in file.read()
    own = python(env, "import sys, site; print([p for p in site.getsitepackages() if p.startswith(sys.base_prefix)])")
    assert own != "[]"
    monkeypatch.delenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES")
    assert machine.task("tea==1.0")["base"] != env["base"]


def test_packages_of_the_system_that_others_need_are_recorded_too(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES", "true")
    system = [{"name": name, "version": "1.0", "requires": requires, "extras": ["sweet"]} for name, requires in
              (("tea", ["Water>0", "sugar; extra == 'sweet'"]), ("water", []), ("sugar", []), ("cup", []))]
    # this machine's own Python stays as it is
    monkeypatch.setattr("agentpipe.environment.image_packages.known", lambda job, interpreter: system)
    assert machine.task("milk")["packages"] == ["milk==1.0", "tea==1.0", "water==1.0"]


def test_an_images_packages_are_seen_unless_the_variable_says_no(tmp_path, monkeypatch):
    from agentpipe.environment.installers import policy
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

    def seen(**place):
        job = Job({"task": {"id": "t"}, **place}, str(tmp_path))
        try:
            return policy.of(job, Requirements(str(tmp_path))).system
        finally:
            job.close()
    inside = {"place": {"kind": "docker", "prefix": ["docker", "exec", "c"]}}
    assert seen(**inside) and not seen()
    monkeypatch.setenv("CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES", "0")
    assert not seen(**inside)
    monkeypatch.setenv("CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES", "1")
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES", "false")
    assert seen(**inside) and not seen()


# ---- nothing is installed, or into somebody's own

def test_nothing_is_installed_where_an_operator_says_so(machine, venv, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL", "1")
    job = machine.job("nosuchtea", binary=venv)
    told = []
    job.tell = lambda *words: told.append(words)
    from agentpipe.cmds import agent_env
    env = agent_env.work(job)
    assert (env["python"], env["overlay"], env["packages"], told) == (venv, None, [], [])
    assert python({**env, "overlay": ""}, "import milk; print(milk.version)") == "1.0"


def test_what_is_missing_goes_into_the_environment_that_is_named(machine, venv, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", venv)
    wheelhouse.wheel(machine.index, "pot", "1.0")
    env = machine.task("milk\npot")
    assert (env["python"], env["packages"], machine.envs()) == (venv, ["milk==1.0", "pot==1.0"], [])
    assert "milk" in installed.packages(os.path.dirname(os.path.dirname(venv)), set())[0]
    assert subprocess.check_output([venv, "-c", "import pot; print(pot.version)"], text=True).strip() == "1.0"


def test_one_that_is_named_as_a_command_is_looked_up(machine, venv, monkeypatch):
    os.symlink(venv, os.path.join(os.path.dirname(venv), "ownpython"))
    monkeypatch.setenv("PATH", os.path.dirname(venv), prepend=os.pathsep)
    monkeypatch.setenv("CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", "ownpython")
    env = machine.task("milk")
    assert env["python"] == os.path.join(os.path.dirname(venv), "ownpython") and env["packages"] == ["milk==1.0"]


def test_one_that_is_not_there_is_refused(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_SKIP_PIP_VENV_INSTALL", "/nosuch/python")
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea")
    assert "SKIP_PIP_VENV_INSTALL names /nosuch/python, which is not there" in caught.value.reason
    assert caught.value.exit == errors.BAD_CONFIG


# ---- a custom build

BUILD = """
test "$CLEARML_TASK_SCRIPT_ENTRY" = train.py
test -d "$CLEARML_GIT_ROOT" && test -d "$CLEARML_TASK_WORKING_DIR"
echo "$CLEARML_CUSTOM_BUILD_TASK_CONFIG_JSON" | grep -q '"binary"'
echo built in "$CLEARML_VENV_PATH"
mkdir -p "$CLEARML_VENV_PATH" && echo > "$CLEARML_VENV_PATH/main.py"
echo "{\\"binary\\": \\"BINARY\\", \\"entry_point\\": \\"$CLEARML_VENV_PATH/main.py\\",
       \\"working_dir\\": \\"$CLEARML_VENV_PATH\\"}" > "$CLEARML_CUSTOM_BUILD_OUTPUT"
"""


def test_a_custom_build_says_what_is_run(machine, venv, monkeypatch):
    monkeypatch.setenv("HERE", machine.folder)
    script(os.path.join(machine.folder, "build.sh"), BUILD.replace("BINARY", venv))
    monkeypatch.setenv("CLEARML_AGENT__AGENT__CUSTOM_BUILD_SCRIPT", "$HERE/build.sh")
    job = machine.job("nosuchtea")
    from agentpipe.cmds import agent_env
    from agentpipe.run import launch
    env = agent_env.work(job)
    assert (env["python"], env["installer"]) == (venv, "custom")
    begin = launch.of({**job.manifest, "patch": {}, "env": env}, job.directory, {})
    assert begin.argv[0] == venv and begin.argv[-1] == job.path("env", "main.py")
    assert begin.cwd == job.path("env")
    assert "built in" in "".join(machine.said)


def test_a_custom_build_that_fails_fails_the_task_with_its_code(machine, monkeypatch):
    path = script(os.path.join(machine.folder, "build.sh"), "echo no room >&2; exit 7\n")
    monkeypatch.setenv("CLEARML_AGENT_CUSTOM_BUILD_SCRIPT", path)
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea")
    assert (caught.value.exit, "no room" in caught.value.evidence) == (7, True)


@pytest.mark.parametrize("code", [errors.TRY_AGAIN, errors.BAD_CONFIG])
def test_a_custom_builds_own_codes_are_not_the_machines(machine, monkeypatch, code):
    path = script(os.path.join(machine.folder, "build.sh"), f"exit {code}\n")
    monkeypatch.setenv("CLEARML_AGENT_CUSTOM_BUILD_SCRIPT", path)
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea")
    assert (caught.value.exit, caught.value.of_machine) == (code, False)


@pytest.mark.parametrize("answer", ["", "nonsense", json.dumps({"binary": "/nosuch", "entry_point": "/", "working_dir":
                                                                "/"})])
def test_without_a_good_answer_the_build_is_ours(machine, monkeypatch, answer):
    text = f"printf %s '{answer}' > $CLEARML_CUSTOM_BUILD_OUTPUT\n" if answer else "true\n"
    monkeypatch.setenv("CLEARML_AGENT_CUSTOM_BUILD_SCRIPT", script(os.path.join(machine.folder, "build.sh"), text))
    assert machine.task("tea")["packages"] == ["tea==2.0"]
    assert "as always" in "".join(machine.said)


def test_a_custom_build_script_that_is_not_there_is_this_machines_matter(machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_CUSTOM_BUILD_SCRIPT", "/nosuch/build.sh")
    with pytest.raises(errors.Failure) as caught:
        machine.task("tea")
    assert caught.value.exit == errors.BAD_CONFIG


# ---- what is written back

def test_the_packages_are_recorded_and_never_clearml_agent(machine):
    wheelhouse.wheel(machine.index, "clearml-agent", "1.0")
    job = machine.job("tea\nclearml-agent")
    told = []
    job.tell = lambda endpoint, body: told.append(body["requirements"])
    from agentpipe.cmds import agent_env
    agent_env.work(job)
    assert [(found["pip"], found["org_pip"]) for found in told] == [(["tea==2.0"], "tea\nclearml-agent")]


def test_what_a_repositorys_file_asks_for_is_recorded_without_paths_and_passwords(machine):
    with open(os.path.join(machine.index, "tea-1.0-py3-none-any.whl"), "rb") as file:
        wheel = file.read()
    job = machine.job(None, files={"requirements.txt": "./tea-1.0-py3-none-any.whl\n-e own\n"
                                   "sugar @ https://u:s3cret@host/sugar-1.0-py3-none-any.whl\n"})
    code = job.manifest["fetch"]["code"]
    with open(os.path.join(code, "tea-1.0-py3-none-any.whl"), "wb") as file:
        file.write(wheel)
    wheelhouse.project(os.path.join(code, "own"), "own", "1.0")
    asked, told = requirements.of_task(job), []
    job.tell = lambda endpoint, body: told.append(body["requirements"])
    task_env.record(job, asked, ["tea==1.0"])
    assert told[0]["org_pip"].splitlines() == ["sugar @ https://host/sugar-1.0-py3-none-any.whl",
                                               "./tea-1.0-py3-none-any.whl", "-e own"]


def test_another_program_with_requirements_gets_them_beside_it(machine):
    env = machine.task("tea==1.0", binary="/usr/bin/env")
    assert run(env, "tea") == "tea 1.0"


# ---- an image with an environment of its own (its prefix here is env(1): the same machine, entered as a place is)

@pytest.fixture
def image(machine, venv, monkeypatch):
    """image(pip, …): a task in a place whose PATH begins with the user's environment."""
    monkeypatch.setenv("PATH", os.path.dirname(venv) + os.pathsep + os.environ["PATH"])

    def task(pip, **more):
        return machine.task(pip, place={"kind": "test", "prefix": ["env"]}, **more)
    return task


def test_an_activated_environment_of_an_image_does_as_it_is(image):
    env = image("milk")
    assert (env["base"], env["packages"]) == (None, ["milk==1.0"])
    assert python(env, "import milk; print(milk.version)") == "1.0"


def test_an_image_that_nothing_has_changed_is_asked_once(machine, venv, monkeypatch, tmp_path):
    """Each question costs a process in its container."""
    monkeypatch.setenv("PATH", os.path.dirname(venv) + os.pathsep + os.environ["PATH"])
    counted = tmp_path / "counted"
    counted.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\nexec "$@"\n')
    counted.chmod(0o755)

    def questions(pip, **place) -> int:
        (tmp_path / "asked").write_text("")
        env = machine.task(pip, place={"kind": "test", "prefix": [str(counted)], "image_id": "sha256:1", "decides": "",
                                       **place})
        assert env["packages"] == ["milk==1.0"]
        return len((tmp_path / "asked").read_text().splitlines())
    first = questions("milk")
    assert first > 2
    assert questions("milk") == 0
    assert questions("milk>=0.5") == 1  # another list
    assert questions("milk", decides="another PATH") == first
    assert questions("milk", entered="another PATH") == first
    for _ in range(2):
        assert questions("milk", decides=None) >= first  # nobody can say what is mounted
    # a set-up may have brought a Python or packages, and what is mounted may change
    mounted = os.path.dirname(os.path.dirname(venv))
    for changed in ({"setup": [{"step": "4-task"}]}, {"arguments": f"--volume /somewhere:{mounted}:ro"},
                    {"arguments": f"--mount type=bind,source=/somewhere,target={mounted}"}):
        questions("milk", **changed)
        assert questions("milk", **changed) > 2


def test_what_it_lacks_is_installed_over_it(image, machine, venv):
    wheelhouse.wheel(machine.index, "pot", "1.0")
    env = image("milk\npot")
    assert env["base"] and {"milk==1.0", "pot==1.0", "tea==1.0"} == set(env["packages"])
    where = python(env, "import milk, pot; print(milk.__file__); print(pot.__file__)").splitlines()
    assert where[0].startswith(os.path.dirname(os.path.dirname(venv))) and machine.base(env) in where[1]
    assert image("milk\npot")["cached"]


def test_unless_it_is_to_be_passed_over(image, machine, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOCKER_USE_ACTIVATED_VENV", "false")
    monkeypatch.setenv("AGENT_AS_IS", "never")
    env = image("milk")
    assert machine.base(env) in python(env, "import milk; print(milk.__file__)")


def test_an_upgrade_takes_newer_ones_than_are_there(image, machine, monkeypatch):
    wheelhouse.wheel(machine.index, "milk", "1.1")
    assert image("milk")["packages"] == ["milk==1.0"]
    monkeypatch.setenv("CLEARML_AGENT__AGENT__PACKAGE_MANAGER__FORCE_UPGRADE", "true")
    env = image("milk")
    assert "milk==1.1" in env["packages"]
    assert python(env, "import milk; print(milk.version)") == "1.1"
