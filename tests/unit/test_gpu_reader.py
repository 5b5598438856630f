"""Cards are told as nvidia-smi tells them, by a process that ends, and only those that are ours."""
# ruff: noqa: F811

import sys
import time

import pytest
from gpu_machine import h200  # noqa: F401  (a fixture)

from agentpipe import errors, gpus
from agentpipe.cmds import agent_supervisor
from agentpipe.report import gpu_reader, metrics
from agentpipe.status import status_view

UUID = "GPU-b02e7ff8-8371-8598-5480-f66108d02754"


def test_a_card_is_told_as_nvidia_smi_does(h200):
    told = gpu_reader.ask(time.time() - 10)
    assert (told["driver"], told["cuda"], told["persistent"]) == ("580.159.04", "13.0", True)
    card, = told["gpus"]
    assert card.pop("utilization") == pytest.approx(50, abs=2)  # a single look would say 0 or 100
    assert card == {"index": 0, "uuid": UUID, "name": "NVIDIA H200", "temperature": 50.0, "power": 377,
                    "used": 42722 << 20, "free": 150754820096 - 644939776 - (42722 << 20), "total": 150754820096}


def test_the_drivers_library_is_not_loaded_by_who_asks(h200):
    sampler = metrics.Sampler()
    assert [gpu["index"] for gpu in sampler.gpus()] == [0]
    assert "pynvml" not in sys.modules


@pytest.mark.parametrize("inside", [True, False])
def test_once_a_second_is_enough(h200, inside, monkeypatch):
    sampler = metrics.Sampler(inside=inside)
    assert sampler.gpus()
    monkeypatch.setattr(sampler, "_ask", None)
    assert sampler.gpus() and ("pynvml" in sys.modules) == inside


def test_the_first_look_is_a_mean_too(h200):
    assert metrics.Sampler().gpus()[0]["utilization"] == pytest.approx(50, abs=6)


def test_cards_that_sleep_are_kept_open(h200, monkeypatch):
    monkeypatch.setenv("H200_SLEEPS", "1")
    sampler = metrics.Sampler()
    sampler.gpus()
    sampler._gpus_at -= 5
    assert sampler.gpus() and "pynvml" in sys.modules


def test_what_was_before_the_sample_before_does_not_count(h200):
    since = time.time() - 0.9  # of the recorded second that was idle
    assert gpu_reader.read(since)["gpus"][0]["utilization"] < 50


def test_a_slice_tells_no_utilization_and_an_old_driver_counts_its_own_memory(h200, monkeypatch):
    monkeypatch.setenv("H200_MIG", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert gpu_reader.read()["gpus"][0]["utilization"] is None
    assert metrics.Sampler().gpus()[0]["utilization"] == 100  # agent.resource_monitoring.default_gpu_utilization
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("H200_OLD", "1")
    assert gpu_reader.read()["gpus"][0]["used"] == 44797263872 + 644939776


@pytest.mark.parametrize(("variables", "indices"), [
    ({}, [0]), ({"CUDA_VISIBLE_DEVICES": "0,7"}, [0]), ({"CUDA_VISIBLE_DEVICES": UUID}, [0]),
    ({"CUDA_VISIBLE_DEVICES": UUID[:12]}, [0]), ({"NVIDIA_VISIBLE_DEVICES": "all"}, [0]),
    ({"CUDA_VISIBLE_DEVICES": "7"}, []), ({"CUDA_VISIBLE_DEVICES": ""}, []), ({"NVIDIA_VISIBLE_DEVICES": "none"}, []),
    ({"CUDA_VISIBLE_DEVICES": "GPU-b02e7ff9"}, []), ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, [])])
def test_only_ours_are_told_unless_all_are_asked_for(h200, monkeypatch, variables, indices):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [card["index"] for card in gpu_reader.ask()["gpus"]] == indices
    assert len(gpu_reader.ask(everything=True)["gpus"]) == 1


def test_a_driver_that_does_not_answer_holds_nobody_up(h200, monkeypatch):
    monkeypatch.setattr(gpu_reader, "READ", "import time; time.sleep(60)")
    monkeypatch.setattr(gpu_reader, "PATIENCE_S", 0.3)
    sampler, began = metrics.Sampler(), time.monotonic()
    assert sampler.gpus() == [] and sampler.gpus() == []
    assert time.monotonic() - began < 5
    assert sampler.sample()["cpu_usage"] and "gpu_usage" not in sampler.sample()


def test_no_library_is_no_gpu(h200, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(each for each in sys.path if "h200" not in each)])
    (tmp_path / "pynvml.py").write_text("raise OSError('libnvidia-ml.so.1: cannot open shared object file')\n")
    assert gpu_reader.ask() == {} and metrics.Sampler(inside=True).gpus() == []


def test_modules_where_it_is_started_are_not_ours(h200, monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert gpu_reader.ask()["gpus"]


def test_a_worker_and_a_task_report_it(h200):
    stats = metrics.Sampler().sample()
    assert (stats["gpu_temperature"], stats["gpu_memory_used"]) == ([50.0], [42722.0])
    found = {variant: value for metric, variant, value in metrics.scalars(stats, metrics.Sampler().gpus())
             if metric == ":monitor:gpu"}
    assert set(found) == {f"gpu_0_{name}" for name in (
        "utilization", "temperature", "mem_usage", "mem_used_gb", "mem_free_gb", "power_draw")}  # the SDK's names
    assert found["gpu_0_power_draw"] == 377 and found["gpu_0_mem_used_gb"] == pytest.approx(41.72, abs=0.01)


def test_what_machine_it_is_is_told_as_the_sdk_did_there(h200):
    sdks = {"gpu_count": 1, "gpu_type": "NVIDIA H200", "gpu_memory": "140GB", "gpu_driver_version": "580.159.04",
            "gpu_driver_cuda_version": "13.0"}
    for found in (metrics.machine({}), metrics.Sampler().machine({})):
        assert {key: value for key, value in found.items() if key.startswith("gpu")} == sdks


def test_a_gpu_that_is_not_there_is_named():
    cards = [{"index": 0, "uuid": UUID}]
    assert gpus.absent(["0", "7", UUID[:9], "GPU-1", "MIG-1"], cards) == ["7", "GPU-1"]


@pytest.mark.parametrize("wanted", ["0", UUID, UUID[:12], "all", "none", "MIG-1", None])
def test_a_supervisor_serves_with_gpus_that_are_there(h200, wanted):
    assert agent_supervisor.there(wanted) == wanted


@pytest.mark.parametrize("wanted", ["7", "0,7"])
def test_a_supervisor_refuses_a_gpu_that_is_not_there(h200, wanted):
    with pytest.raises(errors.Failure) as failure:
        agent_supervisor.there(wanted)
    assert failure.value.exit == errors.USAGE
    assert failure.value.reason == f"--gpus {wanted}: 7 is not there; this machine has 0 (NVIDIA H200)"


def test_a_supervisor_without_a_driver_takes_what_it_is_told(monkeypatch):
    monkeypatch.setattr(gpu_reader, "DEVICE", "/nowhere")
    assert agent_supervisor.there("7") == "7"


def test_the_page_shows_a_card_also_one_that_tells_little(h200, monkeypatch):
    row, _ = status_view._gpu(metrics.Sampler().gpus()[0])
    assert row[:2] == ("gpu 0", "NVIDIA H200") and row[3:] == ("41.7 GiB of 140.4 GiB", "50 °C", "377 W")
    silent = {**metrics.Sampler().gpus()[0], "utilization": None, "power": None}  # default_gpu_utilization: null
    assert status_view._gpu(silent)[0][2::3] == ("–", "–")
