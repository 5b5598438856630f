"""The numbers of this machine are what the kernel says, in ClearML's units."""

import os
import time
from pathlib import Path

import psutil
import pytest

from agentpipe import units
from agentpipe.report import metrics
from agentpipe.settings import config


def test_a_sample_has_the_peers_fields() -> None:
    stats = metrics.Sampler().sample()
    assert {"cpu_usage", "memory_used", "memory_free", "disk_free_home", "disk_read", "disk_write", "network_rx",
            "network_tx"} <= set(stats)
    assert 0 <= stats["cpu_usage"][0] <= 100


def test_memory_and_disk_agree_with_psutil(tmp_path: object) -> None:
    stats = metrics.Sampler(str(tmp_path)).sample()
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(tmp_path))
    assert stats["memory_free"] == pytest.approx(memory.available / units.MIB, rel=0.1)
    assert stats["memory_used"] + stats["memory_free"] == pytest.approx(memory.total / units.MIB, rel=0.01)
    assert stats["disk_free_home"] == pytest.approx(100 - disk.percent, abs=1)


def test_a_busy_core_is_seen() -> None:
    sampler = metrics.Sampler()
    until = time.monotonic() + 1.1
    while time.monotonic() < until:
        pass
    assert sampler.sample()["cpu_usage"][0] >= 100 / (os.cpu_count() or 1) * 0.5


def test_what_is_written_is_seen_where_the_disk_is_a_disk(tmp_path: object) -> None:
    before = psutil.disk_io_counters()
    sampler = metrics.Sampler()
    with open(os.path.join(str(tmp_path), "data"), "wb") as file:
        file.write(os.urandom(8 << 20))
        os.fsync(file.fileno())
    after = psutil.disk_io_counters()
    written = (after.write_bytes - before.write_bytes) if before and after else 0
    assert (sampler.sample()["disk_write"] > 0) == (written > 0)


def test_a_script_is_measured_with_all_its_processes() -> None:
    sampler = metrics.Sampler()
    sampler.processes([os.getpid()])
    found = {variant: value for _, variant, value in sampler.processes([os.getpid(), 2 ** 22])}
    assert found["task_memory_gb"] * units.GIB == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert found["task_cpu_usage"] >= 0


def test_scalars_have_the_names_of_the_sdk() -> None:
    gpu = {"index": 1, "utilization": 50.0, "temperature": 60.0, "used": units.GIB, "free": 3 * units.GIB,
           "total": 4 * units.GIB, "power": 300}
    found = {(metric, variant): value
             for metric, variant, value in metrics.scalars(metrics.Sampler().sample(), [gpu])}
    assert found[":monitor:gpu", "gpu_1_utilization"] == 50
    assert found[":monitor:gpu", "gpu_1_mem_usage"] == 25
    assert found[":monitor:gpu", "gpu_1_mem_used_gb"] == 1
    assert (":monitor:machine", "memory_used_gb") in found


def test_fractions_are_shares_or_slices() -> None:
    totals = [40 * units.GIB, 80 * units.GIB]
    assert metrics.fractions("0.5,0.25", totals) == [0.5, 0.25]
    assert metrics.fractions("0.5", totals) == [0.5, 0.5]
    assert metrics.fractions("nvidia.com/mig-1g.5gb:2,nvidia.com/mig-2g.20gb:1", totals) == [0.25, 0.25]
    assert metrics.fractions("", totals) == []
    assert metrics.fractions("half", totals) == []


def test_what_a_card_does_not_tell_is_the_default_or_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics.default_utilization() == 100
    conf = tmp_path / "clearml.conf"
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(conf))
    for said, meant in (("7", 7), ("null", None)):
        conf.write_text(f"agent.resource_monitoring.default_gpu_utilization: {said}\n")
        config.reload()
        assert metrics.default_utilization() == meant
    sampler = metrics.Sampler()
    gpu = {"index": 0, "utilization": None, "temperature": 30, "used": units.GIB, "free": units.GIB,
           "total": 2 * units.GIB, "power": None}
    monkeypatch.setattr(sampler, "gpus", lambda: [gpu])
    monkeypatch.setenv("CLEARML_AGENT_GPU_FRACTIONS", "0.5")
    stats = sampler.sample()
    assert "gpu_usage" not in stats
    assert (stats["gpu_fraction"], stats["gpu_memory_used"]) == ([0.5], [1024])
    assert not [name for _, name, _ in metrics.scalars(stats, [gpu]) if "utilization" in name]


def test_a_machine_is_told_as_the_clearml_package_does() -> None:
    found = metrics.machine({"env": {"python": "/env/bin/python", "version": "3.12.1"}})
    assert found["hostname"] == os.uname().nodename
    assert (found["python_exec"], found["python_version"]) == ("/env/bin/python", "3.12.1")
    assert found["cpu_cores"] == os.cpu_count()
    assert found["memory_gb"] == round(psutil.virtual_memory().total / 1024**3, 1)
    assert "python_exec" not in metrics.machine({})
