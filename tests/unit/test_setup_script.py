"""The steps of a container's set-up, run by a real shell (here without a container: the prefix is a bare one)."""

import os
import shutil

import pytest

from agentpipe import errors, units
from agentpipe.job import Job
from agentpipe.place import image_python, setup_script
from agentpipe.place.decide import Container
from agentpipe.settings import config


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "clearml.conf"
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))

    def write(text: str) -> None:
        path.write_text(text)
        config.reload()
    write("")
    return write


@pytest.fixture
def job(tmp_path):
    (tmp_path / "task").mkdir()
    found = Job({"task": {"id": "t1"}}, str(tmp_path / "task"))
    yield found
    found.close()


@pytest.fixture
def run(job, tmp_path, settings):
    """run("echo 1"): the set-up script of a task, after the operator's; what was done. Programs are those of `bin`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "bash", "cat", "find", "head", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or "")

    def make(text: str = "", shell: str = "bash", **env):
        if shell == "sh":
            (programs / "bash").unlink()
        prefix = ["env", "-i", f"PATH={programs}", "HOME=/root", "IMAGE=1",
                  *(f"{name}={value}" for name, value in env.items())]
        return setup_script.run(job, Container("docker", "i:1", setup_script=text), prefix, [*prefix, "ROOT=1"],
                                "CLEARML_APT_INSTALL" in env)
    make.programs = programs
    return make


def said(job: Job) -> str:
    with open(job.path("setup.log")) as file:
        return file.read()


def program(folder, name: str, text: str) -> None:
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


def test_the_steps_stand_in_the_peers_order_and_empty_ones_are_left_out(settings):
    settings('''agent { docker_preprocess_bash_script: ["echo 1", "echo 2"], extra_docker_shell_script: "echo extra"
                       docker_init_bash_script: ["{python_single_digit} -m pip", "for i in {{1..3}}; do :; done"] }''')
    found = setup_script.steps(Container("docker", setup_script="echo task\r\necho more"))
    assert [(step.name, step.text, step.as_root) for step in found] == [
        ("1-preprocess", "echo 1\necho 2", False), ("2-init", "python3 -m pip\nfor i in {1..3}; do :; done", False),
        ("3-extra", "echo extra", False), ("4-task", "echo task\necho more", False)]
    settings('agent.docker_init_bash_script: "awk {python.x}"')  # of a shell, and none of its words
    assert setup_script.steps(Container("docker"))[0].text == "awk {python.x}"
    settings("")
    assert [step.name for step in setup_script.steps(Container("docker"), False)] == []
    assert [step.name for step in setup_script.steps(Container("docker"), True)] == ["2-packages"]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_several_lines_and_conditions_mean_what_they_mean(run, job, shell):
    done = run("# a comment\nif true; then\n  echo yes\nelse\n  echo no\nfi\ncat <<EOF\nhere: $IMAGE\nEOF\n",
               shell=shell)
    assert [each["exit"] for each in done] == [0]
    assert "yes\nhere: 1\n" in said(job)
    assert "set-up: the task's set-up script: done" in said(job)


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_what_a_step_exports_is_seen_by_the_next_and_by_the_task(run, job, settings, shell):
    settings('agent.extra_docker_shell_script: ["export FIRST=\\"a \'b\'\\n$HOME\\"", "NOT_EXPORTED=1",'
             ' "export PATH=/opt/x:$PATH"]')
    run("echo got: $FIRST $NOT_EXPORTED\nexport SECOND=2\nunset IMAGE\nexit 0", shell=shell)
    assert "got: a 'b' /root\n" in said(job)
    found = setup_script.environment(job.directory)
    assert found == {"FIRST": "a 'b'\n/root", "SECOND": "2", "PATH": f"/opt/x:{run.programs}", "IMAGE": None}


def test_a_script_with_a_trap_of_its_own_or_that_leaves_early_passes_its_exports_on(run, job):
    run("trap 'echo bye' EXIT\nexport A=1\n")
    assert setup_script.environment(job.directory) == {"A": "1"}
    run("export B=1\nexit 3\n")
    assert setup_script.environment(job.directory) == {"B": "1"}


def test_nothing_was_set_up_nothing_is_passed_on(job):
    assert setup_script.environment(job.directory) == {}


def test_what_the_set_up_took_is_a_stage_of_the_waterfall(run):
    from agentpipe.report import timing
    place = {"kind": "docker", "began": units.iso(0), "seconds": 1.5, "setup": run("echo 1")}
    container, setup = timing.stages({"place": place})
    assert (container["stage"], container["seconds"]) == ("place", 1.5)
    assert setup["stage"] == "setup" and setup["began"] == place["setup"][0]["began"]
    assert setup["seconds"] == place["setup"][0]["seconds"]


def test_a_step_that_fails_is_said_loudly_and_passed_over(run, job, settings, capfd):
    settings('agent.extra_docker_shell_script: "exit 4"')
    done = run("echo one\nfalse\necho two")
    assert [(each["step"], each["exit"]) for each in done] == [("3-extra", 4), ("4-task", 0)]
    text = said(job)
    assert "agent.extra_docker_shell_script ended with 4: passed over" in text
    assert "line 2 of 4-task ended with 1: false" in text
    assert "two\n" in text
    assert "agent_folder" not in text
    settings('')
    run("echo one\nfalse")
    assert "line 2 of 4-task ended with 1: false" in said(job) and "agent_folder" not in said(job)
    assert "ended with 4" in capfd.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_or_ends_the_task_when_it_should(run, job, monkeypatch, shell):
    monkeypatch.setenv("AGENT_SETUP_ERRORS", "stop")
    with pytest.raises(errors.Failure) as caught:
        run("echo one\nfalse\necho two", shell=shell)
    assert caught.value.exit == errors.BAD_DATA
    assert "one" in caught.value.evidence and "two" not in said(job)
    assert caught.value.remedy.startswith("mend it: agent-task edit --setup-script TEXT, or unset AGENT_SETUP_ERRORS ")


def test_a_command_that_may_fail_does_not_end_it(run, job, monkeypatch):
    monkeypatch.setenv("AGENT_SETUP_ERRORS", "stop")
    assert [each["exit"] for each in run("false || true\nif false; then :; fi\necho end")] == [0]


def test_packages_are_installed_by_what_the_image_has_as_root(run, job):
    program(run.programs, "dnf", 'echo "dnf $* root=$ROOT"\n')
    done = run("", CLEARML_APT_INSTALL="one two")
    assert [(each["step"], each["exit"]) for each in done] == [("2-packages", 0)]
    assert "dnf install -y --setopt=keepcache=1 one two root=1\n" in said(job)
    # it is not the script's to see
    assert setup_script.environment(job.directory) == {"CLEARML_APT_INSTALL": None}
    (run.programs / "dnf").unlink()
    program(run.programs, "apk", 'echo "apk $*"\n')
    run("", CLEARML_APT_INSTALL="one two")
    assert "apk add --update-cache --cache-dir /var/cache/apk one two\n" in said(job)
    (run.programs / "apk").unlink()
    for name, words in (("microdnf", "install -y"), ("zypper", "--non-interactive install")):
        program(run.programs, name, f'echo "{name} $*"\n')
        run("", CLEARML_APT_INSTALL="one two")
        assert f"{name} {words} one two\n" in said(job)
        (run.programs / name).unlink()


def test_one_wrong_package_does_not_cost_the_others(run, job):
    program(run.programs, "yum", 'for each; do [ "$each" != bad ] || exit 1; done; echo "yum $*"\n')
    assert [each["exit"] for each in run("", CLEARML_APT_INSTALL="one bad two")] == [1]
    text = said(job)
    assert "yum install -y one\n" in text and "yum install -y two\n" in text
    assert "these could not be installed: bad\n" in text


def test_an_image_without_a_package_manager_says_so(run, job, monkeypatch):
    assert [each["exit"] for each in run("", CLEARML_APT_INSTALL="one")] == [66]
    assert "neither apt-get nor dnf, microdnf, yum, apk or zypper: not installed: one" in said(job)
    monkeypatch.setenv("AGENT_SETUP_ERRORS", "stop")
    with pytest.raises(errors.Failure) as caught:
        run("", CLEARML_APT_INSTALL="one")
    assert caught.value.exit == errors.NOT_FOUND
    assert caught.value.remedy.startswith("mend it, or unset AGENT_SETUP_ERRORS ")


def test_a_first_script_may_ask_for_packages(run, job, settings):
    settings('agent.docker_preprocess_bash_script: "export CLEARML_APT_INSTALL=more"')
    program(run.programs, "dnf", 'echo "dnf $*"\n')
    run("")
    assert "keepcache=1 more\n" in said(job)


def test_opencvs_libraries_are_asked_for_when_they_are_wanted(run, job, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__DOCKER_INSTALL_OPENCV_LIBS", "true")
    program(run.programs, "dnf", 'echo "dnf $*"\n')
    run("")
    assert "libsm6 libxext6" in said(job)


def test_the_packages_step_can_be_left_out(run, job, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_SKIP_CONTAINER_APT", "1")
    assert run("", CLEARML_APT_INSTALL="one") == []


def test_the_caches_of_packages_are_wanted_where_packages_are_spoken_of(settings):
    wants = setup_script.wants_packages
    assert not wants(Container("docker", setup_script="echo 1"), False)
    assert wants(Container("docker", setup_script="apt-get install x"), False)
    assert wants(Container("docker"), True)
    unknown = Container("docker")
    unknown.lacks_python = None
    assert wants(unknown, False)


def test_what_the_container_writes_can_be_written_by_any_user_and_read_by_us(run, job):
    run("echo 1")
    modes = {name: os.stat(job.path("setup", name)).st_mode & 0o777 for name in os.listdir(job.path("setup"))}
    assert modes == {"run": 0o644, "4-task": 0o644, "before": 0o666, "exports": 0o666, "environment": 0o666}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_what_a_script_does_to_its_shell_shows_nothing_of_ours(run, job, shell):
    run("set -xv\nexport FOO=1\nPATH=/nowhere\n", shell)
    lines = said(job)
    assert "export FOO=1" in lines and "agent_" not in lines and "/proc/self/environ" not in lines
    found = setup_script.environment(job.directory)
    assert found["FOO"] == "1" and found["PATH"] == "/nowhere"


def test_a_traced_script_shows_its_own_failures_alone(run, job):
    run("set -x\nfalse\ntrue\n")
    assert "line 2 of 4-task ended with 1: false" in said(job) and "agent_" not in said(job)


@pytest.mark.parametrize("binary, packages, wanted", [
    ("bash", "# nothing is to be installed\n", False), ("bash", "", False), ("sh", ["# none", ""], False),
    ("bash", "six\n", True), ("bash", ["six"], True), ("python3", "", True), ("", "# none", True)])
def test_an_image_without_python_gets_one_only_for_who_wants_it(tmp_path, binary, packages, wanted):
    task = {"id": "t1", "script": {"binary": binary, "requirements": {"pip": packages}}}
    assert image_python.wanted_by(Job({"task": task}, str(tmp_path))) is wanted
