"""A machine with an NVIDIA H200, as far as this project can tell (tests/unit/h200)."""

import os
import sys
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).parent / "h200")


@pytest.fixture
def h200(monkeypatch):
    """The driver's library is the recorded one, here and in processes of gpu_reader; no variable hides the card."""
    from agentpipe.report import gpu_reader
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(gpu_reader, "DEVICE", "/dev/null")
    monkeypatch.setattr(gpu_reader, "_ready", False)
    for name in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "CLEARML_AGENT_GPU_FRACTIONS"):
        monkeypatch.delenv(name, raising=False)
    yield os.environ
    sys.modules.pop("pynvml", None)
