"""How many processors a group's quota leaves."""

import os

import pytest

from agentpipe.place import own_cgroups, processors


@pytest.fixture
def group(tmp_path, monkeypatch):
    """group(line of /proc/self/cgroup, {file: text}): we are in that group, on a machine of eight processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(own_cgroups, "MOUNT", str(tmp_path))
    monkeypatch.setattr(own_cgroups, "OWN", str(tmp_path / "own"))

    def make(line, files):
        (tmp_path / "own").write_text(line + "\n")
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
    return make


@pytest.mark.parametrize(("line", "files", "count"), [
    ("0::/", {}, 8),
    ("0::/pod", {"pod/cpu.max": "max 100000"}, 8),
    ("0::/pod", {"pod/cpu.max": "250000 100000"}, 2),
    ("0::/slice/pod", {"slice/cpu.max": "300000 100000", "slice/pod/cpu.max": "max 100000"}, 3),
    ("0::/", {"cpu.max": "50000 100000"}, 0),
    ("0::/pod", {"pod/cpu.max": "1600000 100000"}, 8),
    ("4:cpu,cpuacct:/pod", {"cpu/pod/cpu.cfs_quota_us": "200000", "cpu/pod/cpu.cfs_period_us": "100000"}, 2),
    ("4:cpu:/pod", {"cpu/pod/cpu.cfs_quota_us": "-1", "cpu/pod/cpu.cfs_period_us": "100000"}, 8),
    ("4:cpu:/of/the/host", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ("4:memory:/pod", {"memory/pod/cpu.max": "100000 100000"}, 8),
    ("0::/pod", {"pod/cpu.max": ""}, 8)])
def test_what_is_left(group, line, files, count):
    group(line, files)
    assert processors.count() == count


def test_without_proc_all_count(group):
    group("", {})
    os.unlink(own_cgroups.OWN)
    assert processors.count() == 8
