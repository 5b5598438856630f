"""The doctor, where this machine is well: what it says of one that is not."""

import os
import sys
import time
import types

import pytest
from api_server import ApiServer

from agentpipe import config_check, errors, http_api, machine_check, paths


def told(look):
    """{subject: (level, text, remedy)} of a part of the report."""
    return {each.subject: (each.level, each.text, each.remedy) for each in look()}


# ---- GPUs: this machine may have none, so the library is one of ours

@pytest.fixture
def nvidia(monkeypatch):
    """A library that finds two cards and their driver."""
    library = types.ModuleType("pynvml")
    library.nvmlInit = lambda: None
    library.nvmlSystemGetDriverVersion = lambda: b"550.54.14"
    library.nvmlSystemGetCudaDriverVersion = lambda: 12040
    library.nvmlDeviceGetCount = lambda: 2
    library.nvmlDeviceGetHandleByIndex = lambda index: index
    library.nvmlDeviceGetName = lambda handle: "NVIDIA H100"
    monkeypatch.setitem(sys.modules, "pynvml", library)
    there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/nvidiactl" or there(path))
    for name in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return library


def test_cards_driver_and_cuda(nvidia, monkeypatch):
    assert told(machine_check.gpus)["gpu"][:2] == ("ok", "2 × NVIDIA H100; driver 550.54.14, CUDA up to 12.4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "of these only 1 " in told(machine_check.gpus)["gpu"][1]


@pytest.mark.parametrize(("words", "remedy"), [("Driver/library version mismatch", "restart the machine"),
                                               ("Driver Not Loaded", "reload")])
def test_a_driver_that_does_not_answer_is_wrong(nvidia, words, remedy):
    def refuse():
        raise RuntimeError(words)
    nvidia.nvmlInit = refuse
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


def test_a_web_page_in_place_of_the_api_is_said(server):
    server.failing = [404] * 9
    finding, = config_check._guarded("server", config_check.server)
    assert finding.level == "wrong" and "8008" in finding.remedy
