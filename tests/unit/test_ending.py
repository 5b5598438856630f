"""What agent-run records of an end."""

import os

import pytest

from agentpipe import gpus, manifest
from agentpipe.run import ending


@pytest.fixture
def ended(tmp_path):
    """The directory of an attempt whose script has exited with 0."""
    (tmp_path / "exit.0").touch()
    os.symlink("1 2 boot", tmp_path / "pid")
    return str(tmp_path)


@pytest.mark.parametrize(("loaded", "pinned"), [("580.159.04\n", "580.159.04"), (None, None)])
def test_the_driver_that_a_run_had_is_pinned(ended, tmp_path, monkeypatch, loaded, pinned):
    monkeypatch.setattr(gpus, "DRIVER", str(tmp_path / "version"))
    if loaded:
        (tmp_path / "version").write_text(loaded)
    run = ending.run_key(ended, "completed", 0, "", "")
    assert manifest.pins({"run": run}).get("driver") == run.get("driver") == pinned
