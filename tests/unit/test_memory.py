"""What is known of a kill for lack of memory: the limit of a group, or of one above it, and the peak there."""

import pytest

from agentpipe import units
from agentpipe.place import memory, own_cgroups

MIB = 1 << 20


@pytest.mark.parametrize(("line", "files", "told"), [
    # Slurm's: the limit is the job's, and its steps are below
    ("0::/job_1/step_0/user", {"job_1/memory.max": 300 * MIB, "job_1/memory.peak": 299 * MIB,
                               "job_1/step_0/memory.max": "max", "job_1/step_0/user/memory.max": "max",
                               "job_1/step_0/user/memory.peak": 7}, " (limit 300.0 MiB, peak 299.0 MiB)"),
    ("0::/a", {"memory.max": 9 * MIB, "a/memory.max": 5 * MIB}, " (limit 5.0 MiB)"),
    ("9:memory:/a/b", {"memory/a/memory.limit_in_bytes": 4 * MIB, "memory/a/memory.max_usage_in_bytes": 4 * MIB,
                       "memory/a/b/memory.limit_in_bytes": 0x7FFFFFFFFFFFF000}, " (limit 4.0 MiB, peak 4.0 MiB)"),
    ("0::/a", {"a/memory.max": "max"}, ""),
])
def test_the_limit_and_the_peak_are_said(tmp_path, monkeypatch, line, files, told):
    monkeypatch.setattr(own_cgroups, "MOUNT", str(tmp_path))
    monkeypatch.setattr(own_cgroups, "OWN", str(tmp_path / "own"))
    (tmp_path / "own").write_text(line + "\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / memory.MARK).write_text("-1\n")  # one more has been killed since
    monkeypatch.setattr(memory, "kills", lambda: 0)
    assert memory.said(memory.evidence_of_kill(str(tmp_path))) == told


def test_so_are_those_of_a_container():
    assert memory.said("killed for lack of memory: limit 67108864 bytes") == f" (limit {units.size(64 * MIB)})"
    assert memory.said("killed for lack of memory: no limit of its own") == ""
