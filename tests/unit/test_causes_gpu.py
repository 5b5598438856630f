"""What is told of scripts that failed on, or for want of, a GPU: their words were recorded on an NVIDIA H200
(driver 580.159.04, CUDA 13.0, PyTorch 2.11, JAX 0.11, CuPy 14.2, Lightning 2.6)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agentpipe.task import causes

TEXTS = dict(re.findall(r"^== (\w+)\n(.*?)\n(?=\n== |\Z)",
                        (Path(__file__).parent / "data" / "gpu_failures.txt").read_text(), re.S | re.M))


def told(name: str, entry: str = "train.py", **task: Any) -> dict[str, Any]:
    script = {"entry_point": entry, "repository": "https://git.example.org/r.git", "working_dir": "."}
    return causes.of_script({"id": "1f3c", "script": script, **task},
                            {"class": "script_failed", "reason": "exit 1", "evidence": TEXTS[name]})


@pytest.mark.parametrize("name", ["nocuda", "nocuda_assert", "nocuda_bare", "load2", "cupynone", "jaxnone", "lnone"])
def test_a_script_that_sees_no_gpu(name: str) -> None:
    found = told(name, last_worker="node:0", runtime={"gpu_count": 0})
    assert found["reason"] == ("it wants a GPU, and this worker has none, or shows it none (--gpus, --cpu-only, "
                               "CUDA_VISIBLE_DEVICES) (exit 1)")
    assert "agent-task enqueue --queue QUEUE 1f3c" in found["advice"]
    assert "agent-config check gpu on node:0" in found["advice"]
    assert ("map_location" in found["advice"]) == (name == "load2")


@pytest.mark.parametrize(("worker", "words"), [
    ("node:cpu:0", "node:cpu:0 shows its tasks none (--cpu-only)"),
    ("node:gpu7", "node:gpu7 shows its tasks GPU 7 only"),
    ("node:0", "though node:0 has NVIDIA H200")])
def test_its_worker_says_why(worker: str, words: str) -> None:
    found = told("nocuda", last_worker=worker, runtime={"gpu_count": 1, "gpu_type": "NVIDIA H200"})
    assert words in found["reason"]
    assert ("CUDA_VISIBLE_DEVICES" in found["advice"]) == (worker == "node:0")


def test_a_gpu_that_is_not_among_those_it_sees() -> None:
    assert told("ordinal")["reason"].startswith("it wants GPU 1, which it does not see")
    found = told("ltwo")
    assert found["reason"].startswith("it wants the GPUs [0, 1] and sees [0]")
    assert "--gpus" in found["advice"]


@pytest.mark.parametrize("name", ["oomfill", "cublas", "cupyoom", "jaxoom"])
def test_memory_that_ran_out(name: str) -> None:
    assert told(name)["reason"].startswith("the GPU's memory ran out")
    assert told(name)["advice"] == "less at a time, or a GPU with more memory" and told(name)["remedy"] is None
    assert "--set Args/bs=4 " in told(name, "train.py --bs 8")["remedy"]
    assert told(name, "train.py --bs 8")["advice"] is None


def test_how_much_memory_there_was_and_who_had_it() -> None:
    assert "4.0 GiB were asked for, 3.3 of 139.8 GiB were free" in told("oomfill")["reason"]
    found = told("oom", "oom.py --batch-size 8")
    assert "128.0 GiB were asked for, 95.8 of 139.8 GiB were free; other processes had 43.4 GiB" in found["reason"]
    assert "--set Args/batch-size=4 " in found["remedy"] and "GPU of its own" in found["advice"]


def test_memory_in_pieces() -> None:
    text = TEXTS["oomfill"].replace("136.00 GiB is allocated by PyTorch, and 0 bytes is reserved",
                                    "96.00 GiB is allocated by PyTorch, and 40.00 GiB is reserved")
    found = causes.of_script({"id": "1f3c"}, {"class": "script_failed", "reason": "exit 1", "evidence": text})
    assert "expandable_segments:True" in found["advice"]


@pytest.mark.parametrize(("name", "words"), [
    ("assertdev", "a label is below 0, or not below the number of classes (t >= 0 && t < n_classes)"),
    ("assertidx", "an index is outside of what it looks into (an embedding, a gather) (srcIndex < srcSelectDimSize)")])
def test_an_assertion_of_a_kernel_is_named(name: str, words: str) -> None:
    found = told(name)
    assert words in found["reason"]
    assert found["remedy"] == ("agent-task enqueue 1f3c && agent-pull --id 1f3c | agent-prepare | "
                               "CUDA_LAUNCH_BLOCKING=1 agent-run")
    inside = told(name, container={"image": "pytorch/pytorch"})
    assert inside["remedy"] is None and "--docker-args '-e CUDA_LAUNCH_BLOCKING=1'" in inside["advice"]


@pytest.mark.parametrize("name", ["tritonill", "cupyill"])
def test_a_kernel_that_goes_astray(name: str) -> None:
    assert "memory that is not its own" in told(name)["reason"]
    assert "CUDA_LAUNCH_BLOCKING=1 agent-run" in told(name)["remedy"] and "compute-sanitizer" in told(name)["advice"]


@pytest.mark.parametrize("name", ["nobin", "nobinrt"])
def test_a_library_that_was_built_for_other_gpus(name: str) -> None:
    assert "is not built for NVIDIA H200" in told(name, runtime={"gpu_type": "NVIDIA H200"})["reason"]


@pytest.mark.parametrize(("said", "words"), [  # by PyTorch's sources: neither can be had on that machine
    ("AssertionError: Torch not compiled with CUDA enabled", "cannot use one"),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update", "is older")])
def test_a_build_or_a_driver_that_does_not_fit(said: str, words: str) -> None:
    found = causes.of_script({"id": "1f3c"}, {"class": "script_failed", "reason": "exit 1", "evidence": said})
    assert words in found["reason"]
