"""Which GPUs a container is asked for; that an engine without any refuses is in tests/services/docker.bats."""

import shlex

import pytest
from gpu_machine import h200  # noqa: F401  (a fixture)

from agentpipe.place import args_body, args_words, devices

ALL = {"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}


@pytest.fixture
def config():
    return {"Env": [], "HostConfig": {}}


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    return str(tmp_path)


def requests(config):
    return config["HostConfig"].get("DeviceRequests") or []


def test_a_machine_without_a_driver_asks_for_none(config, tmp_path):
    assert devices.nvidia(config, {}, root=str(tmp_path)) == ""
    assert config == {"Env": [], "HostConfig": {}}


def test_a_machine_with_gpus_gives_all(config, machine):
    devices.nvidia(config, {}, root=machine)
    assert requests(config) == [ALL]
    assert config["Env"] == ["NVIDIA_VISIBLE_DEVICES=all"]


def test_the_agents_own_gpus_and_no_others(config, machine):
    devices.nvidia(config, {"CUDA_VISIBLE_DEVICES": "2,GPU-aa"}, root=machine)
    assert requests(config) == [{**ALL, "Count": 0, "DeviceIDs": ["2", "GPU-aa"]}]
    assert config["Env"] == ["NVIDIA_VISIBLE_DEVICES=2,GPU-aa"]


@pytest.mark.parametrize("environ", [{"NVIDIA_VISIBLE_DEVICES": "none"}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_an_agent_without_gpus_gives_none(config, machine, environ):
    devices.nvidia(config, environ, root=machine)
    assert requests(config) == []
    assert config["Env"] == ["NVIDIA_VISIBLE_DEVICES=none"]


def test_what_the_task_asks_for_counts_where_the_agent_says_nothing(config, machine):
    wanted = {**ALL, "Count": 0, "DeviceIDs": ["1"]}
    config["HostConfig"]["DeviceRequests"] = [wanted]
    assert devices.nvidia(config, {}, root=machine) == ""
    assert requests(config) == [wanted]


def test_a_task_gets_no_more_than_its_agent_has(config, machine):
    other = {**ALL, "Capabilities": [["tpu"]]}
    config["HostConfig"]["DeviceRequests"] = [dict(ALL), other]
    config["Env"] = ["A=1", "NVIDIA_VISIBLE_DEVICES=all"]
    assert devices.nvidia(config, {"CUDA_VISIBLE_DEVICES": "0"}, root=machine) == \
        "--gpus of the container's arguments is left out: this agent has 0"
    assert requests(config) == [other, {**ALL, "Count": 0, "DeviceIDs": ["0"]}]
    assert config["Env"] == ["A=1", "NVIDIA_VISIBLE_DEVICES=0"]
    assert devices.nvidia(config, {}, cpu_only=True, root=machine).endswith("this agent has no GPU")
    assert requests(config) == [other]


def test_where_the_runtime_is_nvidias_only_the_variable_is_set(config, machine):
    devices.nvidia(config, {"NVIDIA_VISIBLE_DEVICES": "1", "CLEARML_DOCKER_SKIP_GPUS_FLAG": "1"}, root=machine)
    assert requests(config) == []
    assert config["Env"] == ["NVIDIA_VISIBLE_DEVICES=1"]


GPUS = ("nvidia.com/gpu=all", "amd.com/gpu=1", "/dev/dri/renderD129", "/dev/dri", "/dev//kfd", "/dev/nvidia1:/dev/x:r",
        "/dev/nvidia-caps/nvidia-cap1", "/dev", "/dev/../dev/dri/card0")


@pytest.mark.parametrize("environ", [{"NVIDIA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_no_other_gpu_comes_in_as_a_device(environ):
    words = [word for name in (*GPUS, "/dev/fuse", "vendor.com/nic=0") for word in ("--device", name)]
    config = args_body.of(args_words.parse(words)).config
    note = devices.withhold(config, environ)
    assert all(name.split(":")[0] in note for name in GPUS) and "fuse" not in note
    assert [each["PathOnHost"] for each in config["HostConfig"]["Devices"]] == ["/dev/fuse"]
    assert config["HostConfig"]["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["vendor.com/nic=0"]}]
    only = args_body.of(args_words.parse(["--device", GPUS[0]])).config
    devices.withhold(only, environ)
    assert requests(only) == []


def test_devices_are_the_tasks_business_where_the_agent_says_nothing():
    config = args_body.of(args_words.parse([word for name in GPUS for word in ("--device", name)])).config
    before = str(config)
    assert devices.withhold(config, {}) == "" and str(config) == before
    assert devices.withhold(config, {}, cpu_only=True)


@pytest.mark.parametrize("text", ["--privileged", "-v /dev:/dev", "-v /dev/../dev/nvidia1:/x", "-v /:/host",
                                  "--mount type=bind,src=/dev/dri,dst=/dev/dri", "--device-cgroup-rule 'c 195:* rwm'",
                                  "--device-cgroup-rule 'a *:* rwm'"])
@pytest.mark.parametrize(("environ", "cpu_only", "expected"), [
    ({"NVIDIA_VISIBLE_DEVICES": "GPU-2"}, False, "GPU-2"), ({"CUDA_VISIBLE_DEVICES": "2,3"}, False, "2,3"),
    ({"CUDA_VISIBLE_DEVICES": ""}, False, ""), ({}, True, "")])
def test_where_all_gpus_can_be_reached_the_variables_name_ours_and_it_is_said(
        machine, monkeypatch, text, environ, cpu_only, expected):
    monkeypatch.setattr("agentpipe.report.gpu_reader.DEVICE", "/no/driver")
    words = [*shlex.split(text), "-e", "CUDA_VISIBLE_DEVICES=7", "-e", "NVIDIA_VISIBLE_DEVICES=7"]
    config = args_body.of(args_words.parse(words)).config
    devices.nvidia(config, environ, cpu_only, machine)
    note = devices.hide(config, environ, cpu_only)
    assert config["Env"] == [f"NVIDIA_VISIBLE_DEVICES={expected or 'none'}", f"CUDA_VISIBLE_DEVICES={expected}"]
    assert "its script can change them" in note and (expected.replace(",", ", ") or "no GPU") in note


@pytest.mark.parametrize("text", ["", "-v /data:/dev", "--device-cgroup-rule 'c 42:* rwm'", "--privileged=false",
                                  "-v named:/dev"])
def test_elsewhere_a_containers_numbers_are_its_own(text):
    config = args_body.of(args_words.parse([*shlex.split(text), "-e", "CUDA_VISIBLE_DEVICES=0"])).config
    assert devices.hide(config, {"CUDA_VISIBLE_DEVICES": "3"}) == ""
    assert config["Env"] == ["CUDA_VISIBLE_DEVICES=0"]
    assert devices.hide(args_body.of(args_words.parse(["--privileged"])).config, {}) == ""


def test_ours_are_named_by_what_means_the_same_inside_and_outside(h200):  # noqa: F811
    assert devices.uuids(["0", "5", "GPU-aa"]) == ["GPU-b02e7ff8-8371-8598-5480-f66108d02754", "5", "GPU-aa"]
