"""The set-up of a container in a real one: Debian's packages, kept between containers; the user's own script."""

import os
import subprocess

import pytest

from agentpipe.job import Job
from agentpipe.place import args_words, gear, setup_script
from agentpipe.place.container_args import Args
from agentpipe.place.decide import Container

HERE = os.path.dirname(__file__)
IMAGE = "agentpipe-test/python:bookworm"


@pytest.fixture(autouse=True)
def agent_home(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AGENT_", "CLEARML_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def network():
    """The words of `docker run` by which apt inside reaches what the host reaches."""
    subprocess.run([os.path.join(HERE, "docker-up.sh")], check=True, capture_output=True)
    subprocess.run([os.path.join(HERE, "docker-base-image.sh"), IMAGE], check=True, capture_output=True)
    done = subprocess.run([os.path.join(HERE, "docker-host-args.sh")], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.fixture
def container(tmp_path):
    """container(words, script, …): a running container with its caches; the job, what was done, and its environment."""
    made = []

    def start(words: list[str], script: str = "", env: tuple[str, ...] = ()) -> tuple[Job, list]:
        folder = tmp_path / f"task{len(made)}"
        folder.mkdir()
        wanted = Container("docker", IMAGE, setup_script=script)
        args = Args(args_words.parse([word for each in env for word in ("-e", each)]), [])
        body = {"Env": [], "HostConfig": {}}
        gear.caches(body, wanted, args)
        binds = [word for each in body["HostConfig"]["Binds"] for word in ("-v", each)]
        name = subprocess.run(["docker", "run", "-d", "--init", *words, *args.words, *binds, "-v", f"{folder}:{folder}",
                               IMAGE, "sleep", "600"], check=True, capture_output=True, text=True).stdout.strip()
        job = Job({"task": {"id": "t1"}}, str(folder))
        made.append((job, name))
        done = setup_script.run(job, wanted, ["docker", "exec", name], ["docker", "exec", "-u", "0", name],
                                args.asks_for_packages)
        return job, done
    yield start
    for job, name in made:
        job.close()
        subprocess.run(["docker", "rm", "-f", "-v", name], capture_output=True)


def said(job: Job) -> str:
    with open(job.path("setup.log")) as file:
        return file.read()


def test_packages_come_from_the_network_once_and_then_from_the_shared_cache(container, network, agent_home):
    job, done = container(network, "command -v hello && hello", ("CLEARML_APT_INSTALL=hello",))
    assert [(each["step"], each["exit"]) for each in done] == [("2-packages", 0), ("4-task", 0)], said(job)
    assert "/usr/bin/hello\nHello, world!\n" in said(job)
    assert any(name.startswith("hello_") for name in os.listdir(agent_home / "cache" / "containers" / "apt"))
    # a container without a network has what the first one left
    job, done = container(["--network", "none"], "hello", ("CLEARML_APT_INSTALL=hello",))
    assert [each["exit"] for each in done] == [0, 0], said(job)
    assert "Hello, world!" in said(job)


def test_a_script_of_the_user_shares_the_cache_and_one_with_set_e_ends_itself_only(container, network, agent_home):
    job, done = container(network, "set -e\napt-get update -qq\napt-get install -y -qq hello\n"
                                   "export GREETING=$(hello)\nfalse\necho not reached\n")
    assert [each["exit"] for each in done] == [1]
    assert "ended with 1: passed over" in said(job) and "not reached" not in said(job)
    assert setup_script.environment(job.directory) == {"GREETING": "Hello, world!"}


def test_what_the_image_has_is_not_installed_again(container):
    job, done = container(["--network", "none"], "", ("CLEARML_APT_INSTALL=coreutils git",))
    assert [each["exit"] for each in done] == [0]
    assert "the image has them: coreutils git" in said(job)


def test_an_image_of_another_user_installs_as_root_and_runs_the_users_script_as_that_user(container, network):
    job, done = container([*network, "--user", "1000:1000"], "id -u; export A=$HOME", ("CLEARML_APT_INSTALL=hello",))
    assert [each["exit"] for each in done] == [0, 0], said(job)
    assert "\n1000\n" in said(job)
    assert setup_script.environment(job.directory)["A"] == "/"
