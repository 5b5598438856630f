"""Whose process is a container's script: asked of the host, without an engine."""

import os
import signal
import subprocess
import time
import types

import docker
import pytest

from agentpipe import errors, place, processes
from agentpipe.job import Job
from agentpipe.place import beginning, create, decide, image_programs
from agentpipe.place import docker as docker_place
from agentpipe.place.docker import Container

OTHERS = "0123456789abcdef" * 4


def test_a_process_of_this_machine_is_not_the_containers_for_its_number_and_start(tmp_path):
    """The record is the script's own to write, and two containers may start a process at the same tick."""
    record = processes.identity(os.getpid())
    value = {"kind": "docker", "container": OTHERS, "keeper": record, "prefix": ["docker", "exec", OTHERS]}
    container = Container(value, str(tmp_path))
    assert container.pid(record) is None
    assert container.alive(record) is False


@pytest.mark.parametrize("said", ["limit \u00b2\noom_kill \u00b2", "peak " + "9" * 5000, "limit max\noom_kill"])
def test_what_a_containers_shell_says_of_its_memory_may_be_anything(tmp_path, monkeypatch, said):
    monkeypatch.setattr(Container, "_asked", lambda *words: (0, said, ""))
    assert Container({"prefix": ["x"]}, str(tmp_path))._memory() == (0, None, None)


def test_a_script_whose_engine_is_away_gets_its_signals_from_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(docker_place, "holds", lambda container, pid: pid in (script.pid, keeper.pid))
    keeper = subprocess.Popen(["sleep", "60"])
    script = subprocess.Popen(["sh", "-c", "sleep 61 & wait"])
    try:
        value = {"kind": "docker", "container": OTHERS, "keeper": processes.identity(keeper.pid),
                 "prefix": ["false", OTHERS]}
        record = processes.identity(script.pid)
        container = Container(value, str(tmp_path))
        while not processes.descendants(script.pid):
            time.sleep(0.01)
        assert container.signal(record, 0) == 2
        assert container.signal(record, signal.SIGTERM) == 2
        assert script.wait(10) == -signal.SIGTERM
        assert container.signal(record, signal.SIGTERM) == 0 and keeper.poll() is None
    finally:
        keeper.kill()
        keeper.wait()


def test_a_container_that_hangs_is_69_not_a_bug(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "ANSWER_S", 0.1)
    job = Job({"task": {"id": "t1"}}, str(tmp_path))
    value = {"prefix": ["sh", "-c", "exec sleep 60", "prefix"], "image": "i:1", "image_id": "sha256:1", "decides": ""}
    with pytest.raises(errors.Failure) as caught:
        image_programs.check(job, value)
    job.close()
    assert (caught.value.exit, caught.value.reason) == (
        errors.UNAVAILABLE, "the task's place gives no answer for 0.1 s")


@pytest.mark.parametrize(("first", "end"), [("exit.0", ""), ("stopped", "lost")])
def test_what_had_ended_when_its_container_was_stopped_has_ended_by_itself(tmp_path, first, end):
    """agent-run had been killed, and the machine is shut down before the next one looks."""
    box = tmp_path / "box"
    box.mkdir()
    for name in (first, *{"exit.0", "stopped"} - {first}):
        (box / name).touch()
        time.sleep(0.02)  # a file's time is the last tick's
    value = {"kind": "docker", "engine": f"unix://{tmp_path}/none", "prefix": ["docker", "exec", OTHERS]}
    assert Container(value, str(tmp_path)).evidence(0)[0] == end


def test_a_place_that_answers_without_end_is_65(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "ANSWER_MOST", 1 << 20)
    job = Job({"task": {"id": "t1"}}, str(tmp_path))
    value = {"prefix": ["sh", "-c", "yes"], "image": "i:1", "image_id": "sha256:1", "decides": ""}
    with pytest.raises(errors.Failure) as caught:
        image_programs.check(job, value)
    job.close()
    assert caught.value.exit == errors.BAD_DATA and "printed more than" in caught.value.reason


@pytest.mark.parametrize(("user", "ours", "host", "stranger"), [
    ("", "0:0", {}, ""), ("root", "0:0", {"CapDrop": ["ALL"]}, ""), ("0:0", "12:12", {}, ""),
    ("12:12", "12:12", {}, ""), ("1234", "12:12", {}, "1234"), ("app:app", "0:0", {}, "app"),
    ("", "12:12", {"CapDrop": ["CAP_NET_RAW"]}, ""), ("", "12:12", {"CapDrop": ["ALL"]}, "root"),
    ("0", "12:12", {"CapDrop": ["CAP_DAC_OVERRIDE"]}, "0"), ("", "12:12", {"CapDrop": ["ALL"], "Privileged": True}, ""),
    ("", "12:12", {"CapDrop": ["ALL"], "CapAdd": ["CAP_DAC_OVERRIDE"]}, ""),
])
def test_who_needs_our_folders_opened(user, ours, host, stranger):
    assert create._stranger(user, ours, host) == stranger


@pytest.mark.parametrize(("has", "left"), [
    ({"Memory": 0, "NanoCpus": 0, "PidsLimit": 0}, ["--memory, --cpus"]),  # Podman 4.3 of a plain user, cgroups v1
    ({"Memory": 64 << 20, "CpuQuota": 100_000}, []),
])
def test_limits_that_the_engine_leaves_out_without_a_word_are_said(has, left):
    said = []
    engine = types.SimpleNamespace(inspect_container=lambda _: {"HostConfig": has})
    asked = types.SimpleNamespace(config={"HostConfig": {"Memory": 64 << 20, "NanoCpus": 10 ** 9, "PidsLimit": 0}})
    beginning.say_unlimited(engine, asked, types.SimpleNamespace(say=said.append), "1")
    assert [each.partition("left out: ")[2] for each in said] == left


@pytest.mark.parametrize(("said", "remedy"), [
    ('could not select device driver "" with capabilities: [[gpu]]', "install the NVIDIA Container Toolkit"),
    ("failed to create task for container: error running hook #0: stderr: nvidia-container-cli: initialization error: "
     "nvml error: driver/library version mismatch", "mend the driver")])
def test_an_engine_without_gpus_to_give_is_the_machines_fault(said, remedy):
    def start(_):
        raise docker.errors.APIError("500", explanation=said)
    wanted = decide.Container("docker", "i:1")
    wanted.own = True
    with pytest.raises(errors.Failure, match="no way to give GPUs") as caught:
        beginning.start(types.SimpleNamespace(start=start, timeout=1), "1", wanted)
    assert caught.value.of_machine and caught.value.remedy.startswith(remedy)
