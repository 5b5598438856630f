"""What the NVIDIA driver tells of this machine's cards.

Agents ask it in a process that ends at once: the driver's library would take 20 MB of an idle agent, and a driver that
does not answer any more would hold up the log of a running task.
"""

from __future__ import annotations

import json
import os
import sys
import time

from agentpipe import gpus, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reading = dict[str, Any]

DEVICE = "/dev/nvidiactl"
PATIENCE_S = 20.0  # eight cards that sleep take some seconds to wake
READ = ("import json, sys; sys.path[:] = json.loads(sys.argv[1]); from agentpipe.report import gpu_reader; "
        "print(json.dumps(gpu_reader.read(float(sys.argv[2]), sys.argv[3] == 'True')))")
MEAN_S = 2.0  # what the first look at a card's utilization is a mean of
_ready = False


def ask(since: float = 0.0, everything: bool = False) -> Reading:
    """read() in a process of its own; {} without a driver, or one that does not answer."""
    if not os.path.exists(DEVICE):
        return {}
    import subprocess
    argv = [sys.executable, "-I", "-c", READ, json.dumps(sys.path), repr(since), str(everything)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    processes.of_ours.add(process.pid)
    try:
        answer = process.communicate(timeout=PATIENCE_S)[0]
        found: Reading = json.loads(answer) if process.returncode == 0 else {}
        return found
    except (subprocess.TimeoutExpired, ValueError):
        process.kill()  # and not waited for: within a driver that hangs it cannot die
        return {}
    finally:
        processes.of_ours.discard(process.pid)


def read(since: float = 0.0, everything: bool = False) -> Reading:
    """{driver, cuda, persistent, gpus} of the cards that are ours by the visible-devices variables, or of all.

    Per GPU: index, uuid, name, utilization (%, a mean since the time `since`, of the last 14 s at most), temperature
    (°C), power (W), used, free and total bytes as nvidia-smi has them (what the driver keeps for itself is in neither
    of the first two). What a card does not tell is None; one that tells nothing is left out. pynvml's errors pass.
    """
    import pynvml
    global _ready
    if not _ready:
        pynvml.nvmlInit()
        _ready = True
    cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())  # 13000 for 13.0
    handles = _handles(pynvml, None if everything else gpus.visible(os.environ))
    found = [{"index": index, **seen} for index, handle in handles if (seen := _card(pynvml, handle, since))]
    return {"driver": _text(pynvml.nvmlSystemGetDriverVersion()), "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "persistent": all(_or_none(pynvml, pynvml.nvmlDeviceGetPersistenceMode, handle) != 0
                              for _, handle in handles),
            "gpus": found}


def _handles(pynvml: Any, wanted: list[str] | None) -> list[tuple[int, Any]]:
    every = [(index, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount())]
    if wanted is None:
        return every
    found = [(index, handle) for index, handle in every
             if gpus.named(wanted, index, _text(pynvml.nvmlDeviceGetUUID(handle)))]
    for name in wanted:
        if name.startswith("MIG-"):  # a slice is in no card's list
            handle = _or_none(pynvml, pynvml.nvmlDeviceGetHandleByUUID, name)
            found += [(len(found), handle)] if handle else []
    return found


def _card(pynvml: Any, handle: Any, since: float) -> dict[str, Any] | None:
    held = _or_none(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle, getattr(pynvml, "nvmlMemory_v2", None)) \
        or _or_none(pynvml, pynvml.nvmlDeviceGetMemoryInfo, handle)  # before driver 510
    if held is None:
        return None
    power = _or_none(pynvml, pynvml.nvmlDeviceGetPowerUsage, handle)
    temperature = _or_none(pynvml, pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return {"uuid": _text(pynvml.nvmlDeviceGetUUID(handle)), "name": _text(pynvml.nvmlDeviceGetName(handle)),
            "utilization": _utilization(pynvml, handle, since),
            "temperature": None if temperature is None else float(temperature),
            "power": None if power is None else power // 1000,
            "used": int(held.used), "free": int(held.free), "total": int(held.total)}


def _utilization(pynvml: Any, handle: Any, since: float) -> float | None:
    """The mean of the driver's own samples, five a second; a single one would be 0 or 100 of a card half used."""
    after = int(1e6 * max(since or time.time() - MEAN_S, 0.0))
    told = _or_none(pynvml, pynvml.nvmlDeviceGetSamples, handle, pynvml.NVML_GPU_UTILIZATION_SAMPLES, after)
    if told and told[0] == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT:
        values = [sample.sampleValue.uiVal for sample in told[1] if sample.timeStamp > after]
        if values:
            return round(sum(values) / len(values), 1)
    now = _or_none(pynvml, pynvml.nvmlDeviceGetUtilizationRates, handle)
    return None if now is None else float(now.gpu)


def _or_none(pynvml: Any, ask: Any, *words: Any) -> Any:
    """The answer, or None where the card, the driver or this kind of GPU (a MIG slice) does not give it."""
    try:
        return ask(*words)
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
