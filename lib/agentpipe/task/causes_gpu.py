"""What the last lines of a script tell of GPUs: none there, too few, their memory, a kernel that went wrong, a build
that does not fit. The words are those of PyTorch, CuPy, JAX and Lightning on a real one."""

from __future__ import annotations

import re

from agentpipe.task.remedies import again, edit, in_container, smaller, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.task.remedies import Known

SIZE = r"([\d.]+) ([KMGT]i?B)"
UNITS = {"K": 2 ** -20, "M": 2 ** -10, "G": 1.0, "T": 2 ** 10}  # in GiB
BLOCKING = "CUDA_LAUNCH_BLOCKING=1"
NO_MEMORY = re.compile(r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
                       r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|RESOURCE_EXHAUSTED: Out of memory"
                       r"|ResourceExhaustedError.* OOM when allocating")
NO_GPU = re.compile(
    r"No CUDA GPUs are available|no CUDA-capable device|No supported gpu backend found|libcuda\.so[.\d]*: cannot open"
    r"|torch\.cuda\.is_available\(\) is False|Found no NVIDIA driver|Unknown backend:? '?(?:gpu|cuda)"
    r"|^ *assert torch\.cuda\.is_available\(\)"
    r"|^\w*(?:Error|Exception): .*\bCUDA (?:is )?(?:not |un)available", re.MULTILINE)
FOR_CPUS = re.compile(r"Torch not compiled with CUDA enabled|not compiled with CUDA support|built without CUDA")
ON_GPU = re.compile(r"(?:cuda|gpu)(?::\d+)?$")
TOO_FEW = re.compile(
    r"invalid device ordinal|You requested gpu: (\[[\d, ]+\])\s+But your machine only has: (\[[\d, ]*\])")
WRONG_ADDRESS = re.compile(r"illegal memory access was encountered|CUDA_ERROR_ILLEGAL_ADDRESS"
                           r"|unspecified launch failure|CUDA error: misaligned address")
ASSERTION = re.compile(r": (\w+): block: \[.* Assertion `(.+?)` failed")
# a kernel's name has the left in it: what its assertion is about
MEANT = {"nll_loss": "a label is below 0, or not below the number of classes",
         "index": "an index is outside of what it looks into (an embedding, a gather)",
         "scatter": "an index is outside of what it looks into (an embedding, a gather)"}


def cause(task: dict[str, Any], evidence: str) -> Known | None:
    """What went wrong with a GPU, if anything did."""
    for look in (_memory, _none_there, _too_few, _assertion, _address, _build, _driver):
        known = look(task, evidence)
        if known:
            return known
    return None


def _memory(task: dict[str, Any], evidence: str) -> Known | None:
    if not NO_MEMORY.search(evidence):
        return None
    reason, advice = "the GPU's memory ran out", "less at a time, or a GPU with more memory"
    remedy = (smaller(task, reason) or {}).get("remedy")
    asked = re.search(rf"Tried to allocate {SIZE}\. GPU \d+ has a total capacity of {SIZE} of which {SIZE} is free",
                      evidence)
    if asked:
        more, total, free = (_gib(*asked.group(place, place + 1)) for place in (1, 3, 5))
        reason += f": {more:.1f} GiB were asked for, {free:.1f} of {total:.1f} GiB were free"
        others = sum(_gib(*each) for each in re.findall(rf"Process \d+ has {SIZE} memory in use", evidence))
        idle = re.search(rf"and {SIZE} is reserved by PyTorch but unallocated", evidence)
        if others > 0.05 * total:
            reason += f"; other processes had {others:.1f} GiB"
            advice = "give it a GPU of its own (agent-supervisor --gpus), or run it when those have ended"
        elif idle and _gib(*idle.groups()) > max(0.1 * total, more):
            advice = "what PyTorch holds is in pieces: set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
        elif remedy:
            advice = ""
    return {"reason": reason, "remedy": remedy, "advice": None if remedy and not (asked and advice) else advice}


def _none_there(task: dict[str, Any], evidence: str) -> Known | None:
    if not NO_GPU.search(evidence):
        return None
    worker = task.get("last_worker") or "its worker"
    runtime = task.get("runtime") or {}
    shown = re.search(r":gpu([^:]+)", worker)
    advice = _elsewhere(task)
    if ":cpu" in worker:
        reason = f"and {worker} shows its tasks none (--cpu-only)"
    elif shown:
        reason = f"and {worker} shows its tasks GPU {shown[1]} only"
        advice = f"agent-config check gpu on that worker says what is there; {advice}"
    elif runtime.get("gpu_count"):
        reason = f"and sees none, though {worker} has {runtime.get('gpu_type') or 'some'}"
        advice = "look for CUDA_VISIBLE_DEVICES in the script and its settings, and at agent-config check gpu there"
    else:
        reason = "and this worker has none, or shows it none (--gpus, --cpu-only, CUDA_VISIBLE_DEVICES)"
        advice = f"agent-config check gpu on {worker} says what is there; {advice}"
    if "map_location" in evidence:
        advice += "; or load it with map_location='cpu'"
    return {"reason": f"it wants a GPU, {reason}", "remedy": _on_cpu(task), "advice": advice}


def _elsewhere(task: dict[str, Any]) -> str:
    return f"a queue whose workers have GPUs: agent-task enqueue --queue QUEUE {task['id']}"


def _on_cpu(task: dict[str, Any]) -> str | None:
    """The same without a GPU, when the task names its device."""
    from itertools import pairwise
    given = words(task)
    for option, value in (*pairwise(given), *(word.split("=", 1) for word in given if "=" in word)):
        if option.startswith("--") and ON_GPU.match(value):
            return edit(task, "--set", f"Args/{option[2:]}=cpu")
    return None


def _too_few(task: dict[str, Any], evidence: str) -> Known | None:
    found = TOO_FEW.search(evidence)
    if not found:
        return None
    named = re.findall(r"\bcuda:(\d+)\b", evidence)
    if found[1]:
        reason = f"it wants the GPUs {found[1]} and sees {found[2]}"
    else:
        reason = f"it wants GPU {named[-1]}, which it does not see" if named else \
            "it wants a GPU by a number that it does not see"
    return {"reason": reason, "advice": "it sees those of agent-supervisor --gpus, numbered from 0 whatever they are: "
                                        "let it use fewer, or run it where more are"}


def _assertion(task: dict[str, Any], evidence: str) -> Known | None:
    if "device-side assert triggered" not in evidence:
        return None
    reason, said = "an assertion failed on the GPU", ASSERTION.search(evidence)
    if said:
        meant = next((words for part, words in MEANT.items() if part in said[1].lower()), "")
        reason += f": {meant or said[2]}" + (f" ({said[2]})" if meant else f" in {said[1]}")
    return {"reason": reason, **_located(task)}


def _address(task: dict[str, Any], evidence: str) -> Known | None:
    if not WRONG_ADDRESS.search(evidence):
        return None
    known = {"reason": "a kernel on the GPU used memory that is not its own", **_located(task)}
    known["advice"] += "; compute-sanitizer finds the kernel"
    return known


def _located(task: dict[str, Any]) -> Known:
    """How to see the line: a kernel's failure is told by whatever is called next."""
    advice = f"the traceback may name a later line: with {BLOCKING} it names the right one"
    if (task.get("container") or {}).get("image"):
        return {"advice": f"{advice}; in its container: {in_container(task, f'-e {BLOCKING}')}"}
    id = task["id"]
    return {"remedy": f"{again(task)} && agent-pull --id {id} | agent-prepare | {BLOCKING} agent-run", "advice": advice}


def _build(task: dict[str, Any], evidence: str) -> Known | None:
    if FOR_CPUS.search(evidence):
        return {"reason": "it wants a GPU, and the package that was installed cannot use one", "remedy": _on_cpu(task),
                "advice": "that build is taken where no GPU is seen, or where the requirements ask for it (+cpu, an "
                          f"index for CPUs); {_elsewhere(task)}"}
    if re.search(r"no kernel image is available for execution on the device|CUDA_ERROR_NO_BINARY_FOR_GPU", evidence):
        gpu = (task.get("runtime") or {}).get("gpu_type") or "this GPU"
        return {"reason": f"a package that was installed is not built for {gpu}", "advice":
                f"another version of it (agent-task edit {task['id']} --package …), or {_elsewhere(task)}; what the "
                "task compiles itself: TORCH_CUDA_ARCH_LIST"}
    return None


def _driver(task: dict[str, Any], evidence: str) -> Known | None:
    if re.search(r"NVIDIA driver on your system is too old|CUDA driver version is insufficient for CUDA", evidence):
        return {"reason": "the NVIDIA driver of the worker is older than the CUDA that the script brings", "advice":
                "a newer driver there (agent-config check gpu names its CUDA), or packages for that CUDA"}
    return None


def _gib(number: str, unit: str) -> float:
    return float(number) * UNITS[unit[0]]
