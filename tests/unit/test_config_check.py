"""The doctor, where this machine is well: what it says of one that is not."""
# ruff: noqa: F811

import importlib
import os
import subprocess
import sys
import time

import pytest
from api_server import ApiServer
from gpu_machine import h200  # noqa: F401  (a fixture)

from agentpipe import errors, paths
from agentpipe.configure import config_check, machine_check
from agentpipe.transport import api, http_api


def told(look):
    """{subject: (level, text, remedy)} of a part of the report."""
    return {each.subject: (each.level, each.text, each.remedy) for each in look()}


# ---- GPUs: this machine may have none, so the library has the answers of one that has

@pytest.fixture
def nvidia(h200, monkeypatch):
    """A driver that answers for one H200."""
    there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/nvidiactl" or there(path))
    return importlib.import_module("pynvml")


@pytest.mark.parametrize(("variables", "level", "more"), [
    ({}, "ok", ""), ({"NVIDIA_VISIBLE_DEVICES": "0"}, "ok", ""), ({"NVIDIA_VISIBLE_DEVICES": "all"}, "ok", ""),
    ({"CUDA_VISIBLE_DEVICES": ""}, "ok", "; CUDA_VISIBLE_DEVICES hides them: tasks run on the CPU"),
    ({"CUDA_VISIBLE_DEVICES": "0,7"}, "warning", "; CUDA_VISIBLE_DEVICES names 7, which is not there")])
def test_cards_driver_and_cuda(nvidia, monkeypatch, variables, level, more):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert told(machine_check.gpus)["gpu"][:2] == (level, f"1 × NVIDIA H200; driver 580.159.04, CUDA up to 13.0{more}")


def test_which_of_several_are_ours_is_said(nvidia, monkeypatch):
    monkeypatch.setattr(nvidia, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(nvidia, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}")
    monkeypatch.setattr(nvidia, "nvmlDeviceGetSamples", lambda *_: (0, []))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    text = told(machine_check.gpus)["gpu"][1]
    assert text.startswith("2 × NVIDIA H200") and text.endswith("; of these only 1 (CUDA_VISIBLE_DEVICES)")


def test_amds_driver_without_its_devices_is_said(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/kfd")
    assert told(machine_check.gpus)["gpu"][:2] == ("warning", "AMD: 0")


@pytest.mark.parametrize(("words", "remedy"), [("Driver/library version mismatch", "restart the machine"),
                                               ("Driver Not Loaded", "reload")])
def test_a_driver_that_does_not_answer_is_wrong(nvidia, monkeypatch, words, remedy):
    def refuse():
        raise RuntimeError(words)
    monkeypatch.setattr(nvidia, "nvmlInit", refuse)
    finding, = machine_check.gpus()
    assert (finding.level, finding.exit) == ("wrong", errors.UNAVAILABLE)
    assert words in finding.text and remedy in finding.remedy


def test_a_card_without_a_driver_is_seen(monkeypatch, tmp_path):
    for name, text in (("vendor", "0x10de\n"), ("class", "0x030200\n")):
        (tmp_path / name).write_text(text)
    there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path not in ("/dev/nvidiactl", "/dev/kfd") and there(path))
    monkeypatch.setattr(machine_check, "_pci", lambda: [str(tmp_path), "/nowhere"])
    level, text, remedy = told(machine_check.gpus)["gpu"]
    assert level == "warning" and "no driver" in text and "install" in remedy


# ---- disks

def test_little_space_few_files_and_a_network_are_warnings(monkeypatch, agent_home):
    assert {level for level, _, _ in told(machine_check.directories).values()} == {"ok"}
    monkeypatch.setattr(machine_check, "LOW_FILES", 1 << 60)
    level, text, remedy = told(machine_check.directories)["cache"]
    if os.statvfs(agent_home).f_files:  # btrfs has no fixed number
        assert level == "warning" and "files only" in text and "--prune" in remedy
    monkeypatch.setattr(machine_check, "LOW_SPACE", 1 << 60)
    assert told(machine_check.directories)["state"][0] == "warning"


def test_a_cache_on_a_network_is_slow_and_a_state_there_is_refused(monkeypatch, agent_home):
    paths.state(), paths.cache()
    monkeypatch.setattr(machine_check, "LOW_FILES", 0)
    monkeypatch.setattr(paths, "file_system", lambda path: "nfs4")
    assert "slow over a network" in told(machine_check.directories)["cache"][1]
    monkeypatch.setattr(paths, "_checked", {})
    finding, = config_check._guarded("disk", machine_check.directories)
    assert (finding.level, finding.exit) == ("wrong", errors.BAD_CONFIG)
    assert "network file system" in finding.text and "/var/tmp" in finding.remedy


def test_a_store_that_others_with_the_same_home_cannot_see_is_said_when_it_is_made_and_when_asked(
        monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("AGENT_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "shared"))
    monkeypatch.setattr(paths, "_checked", {})
    monkeypatch.setattr(paths, "file_system", lambda path: "nfs4" if "shared" in path else "ext4")
    monkeypatch.setattr(paths, "_owned", lambda path: str(tmp_path / "local"))
    for said in ("other machines that share this home see none of its queues", ""):
        api.connect().close()
        assert said in (printed := capfd.readouterr().err) and bool(said) == bool(printed)
    finding = next(config_check.server())
    assert finding.level == "warning" and "agent-server" in finding.remedy
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))  # of another home nothing is said
    assert not paths.of_one_machine()


# ---- the server

@pytest.fixture
def server(tmp_path, monkeypatch):
    with ApiServer(str(tmp_path / "server.db")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize(("seconds", "word"), [(-3600, "ahead of the server"), (3600, "behind the server")])
def test_a_clock_that_differs_is_said(server, seconds, word, monkeypatch):
    assert told(config_check.server)["clock"][0] == "ok"
    monkeypatch.setattr(http_api.HttpApi, "server_time", lambda self: time.time() + seconds)
    level, text, remedy = told(config_check.server)["clock"]
    assert level == "warning" and word in text and "set the clock" in remedy


def test_an_old_server_and_a_missing_key(server, monkeypatch):
    server.version = "2.9"
    assert told(config_check.server)["server"][0] == "warning"
    monkeypatch.delenv("CLEARML_API_SECRET_KEY")
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "OTHER")
    found = told(config_check.server)
    assert found["server"][0] == "ok" and "queues" not in found
    level, text, remedy = found["credentials"]
    assert level == "wrong" and "secret_key" in text and "agent-config init" in remedy


def test_a_given_token_is_named_as_what_it_is(server, monkeypatch):
    told(config_check.server)
    monkeypatch.setenv("CLEARML_AUTH_TOKEN", next(iter(server.tokens)))
    assert "the token in CLEARML_AUTH_TOKEN is accepted" in told(config_check.server)["credentials"][1]


def test_a_server_that_tells_no_web_server_is_a_warning(server, monkeypatch):
    level, text, remedy = told(config_check.server)["web"]
    assert level == "warning" and "Task.init" in text and f"to {server.url}/" in remedy
    monkeypatch.setenv("CLEARML_WEB_HOST", f"{server.url}/")
    assert "web" not in told(config_check.server)


def test_a_proxy_that_is_away_is_what_is_to_be_mended(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(config_check, "PATIENCE_S", 0.1)
    finding, = config_check._guarded("server", config_check.server)
    assert finding.level == "wrong" and "proxy" in finding.text and "_proxy" in finding.remedy


def test_a_web_page_in_place_of_the_api_is_said(server):
    server.failing = [404] * 9
    finding, = config_check._guarded("server", config_check.server)
    assert finding.level == "wrong" and "8008" in finding.remedy


def test_a_server_that_says_that_it_is_maintained_needs_no_start(server, monkeypatch):
    server.failing = [503] * 99
    monkeypatch.setattr(config_check, "PATIENCE_S", 0.1)
    finding, = config_check._guarded("server", config_check.server)
    assert (finding.exit, finding.remedy) == (69, "try again later")


@pytest.mark.parametrize("text", [
    "api.credentials { access_key: K, secret_key: S }", "agent.git_pass: p", "environment { A: b }",
    'agent.package_manager.extra_index_url: ["https://u:password@h/simple"]',
    'agent.extra_docker_arguments: ["-e", "HF_TOKEN=t"]', 'include "more.conf"'])
@pytest.mark.parametrize(("mode", "words"), [(0o600, ""), (0o644, "others can read it"), (0o666, "others can write it"),
                                             (0o602, "others can write it")])
def test_a_file_with_secrets_is_its_owners_alone(tmp_path, monkeypatch, text, mode, words):
    path = tmp_path / "clearml.conf"
    path.write_text(text + "\n")
    (tmp_path / "more.conf").write_text("agent.git_pass: p\n")
    for each in (path, tmp_path / "more.conf"):
        each.chmod(mode)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))
    said = [(each.level, each.remedy) for each in config_check.files() if words and words in each.text]
    assert said == [("warning", f"chmod 600 {each}") for each in (path, *([tmp_path / "more.conf"] if "include" in text
                                                                         else [])) if words]
    assert words or {each.level for each in config_check.files()} == {"ok"}


@pytest.mark.parametrize(("mode", "level"), [(0o755, "ok"), (0o700, "ok"), (0o777, "warning")])
def test_a_folder_of_included_files_stays_one_that_can_be_entered(tmp_path, monkeypatch, mode, level):
    (tmp_path / "clearml.conf").write_text('include "conf.d/*.conf"\n')
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "a.conf").write_text("agent.git_pass: p\n")
    for path in (tmp_path / "clearml.conf", folder / "a.conf"):
        path.chmod(0o600)
    folder.chmod(mode)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "clearml.conf"))
    said = {each.level: each.remedy for each in config_check.files()}
    assert said == {"ok": ""} | ({"warning": f"chmod go-w {folder}"} if level == "warning" else {})


def test_a_file_without_secrets_may_be_read_by_others_and_not_be_theirs(tmp_path, monkeypatch):
    path = tmp_path / "clearml.conf"
    path.write_text("agent.git_user: me\n")
    path.chmod(0o644)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(path))
    assert told(config_check.files)["configuration"][0] == "ok"
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
        assert "somebody else's" in told(config_check.files)["configuration"][1]


def test_a_clearml_conf_that_cannot_be_read_is_told_once(tmp_path, monkeypatch, capfd):
    (tmp_path / "clearml.conf").write_text("agent { oops")
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "clearml.conf"))
    config_check.check(["configuration", "server", "containers"])
    said = capfd.readouterr().out.splitlines()
    assert len([line for line in said if "clearml.conf" in line]) == 1


@pytest.mark.parametrize(("script", "level", "words"), [
    ("echo apptainer version 1.4.5", "ok", "apptainer version 1.4.5 ("),
    ("printf '\\033[31mFATAL:\\033[0m no such user\\n' >&2; exit 255", "warning",
     "apptainer ended with 255: FATAL: no such user: tasks that ask for an image fail here")])
def test_a_program_of_places_that_fails_already_at_its_version_is_not_ok(tmp_path, monkeypatch, script, level, words):
    (tmp_path / "apptainer").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("AGENT_PLACE", "apptainer")
    found = told(machine_check.containers)["apptainer"]
    assert found[0] == level and words in found[1]


@pytest.mark.parametrize(("output", "status", "words"), [("gone", 141, ""), ("/dev/full", 73, "cannot write")])
def test_an_output_that_takes_nothing_is_told_by_the_exit_code(output, status, words):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing if output == "gone" else output, "wb") as out:
        done = subprocess.run([sys.executable, "-m", "agentpipe.cmds.agent_config", "check", "configuration"],
                              stdout=out, stderr=subprocess.PIPE, text=True)
    assert done.returncode == status and words in done.stderr and bool(words) == bool(done.stderr)


# ---- variables of ours

@pytest.mark.parametrize(("variable", "value", "level", "text"), [
    ("AGENT_HOOK_TIMEOUT", "soon", "wrong", "AGENT_HOOK_TIMEOUT is no number: soon"),
    ("AGENT_NEED_DISK", "lots", "wrong", "AGENT_NEED_DISK is no size: lots"),
    ("AGENT_HOOKS", "/nowhere", "wrong", "AGENT_HOOKS names /nowhere, which is no directory"),
    ("AGENT_STAGE_ENV", "nosuch --fast", "warning", "AGENT_STAGE_ENV: there is no nosuch"),
    *((f"AGENT_STAGE_{stage}", "cat", "warning", f"AGENT_STAGE_{stage} stands in the place of no stage")
      for stage in ("FTECH", "fetch"))])
def test_nonsense_in_a_variable_is_said_before_a_task_meets_it(monkeypatch, agent_home, variable, value, level, text):
    for name, each in ((variable, value), ("AGENT_ON_LOST", "maybe"), ("AGENT_STAGE_FETCH", "exec cat")):
        monkeypatch.setenv(name, each)
    found = [(each.level, each.text) for each in config_check.files() if each.level != "ok"]
    assert sorted(found) == sorted([(level, text), ("wrong", "AGENT_ON_LOST is fail or requeue, not 'maybe'")])
