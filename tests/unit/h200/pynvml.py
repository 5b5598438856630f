"""NVML as it answered on a machine with one NVIDIA H200 (driver 580.159.04, CUDA 13.0), for machines without a GPU.

The functions that gpu_reader.py asks, no others. H200_MIG, H200_OLD and H200_SLEEPS in the environment make a slice (no
utilization), a driver before 510 and a card without persistence of it; those three were not seen there.
"""

import os
import time
from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0
NVML_GPU_UTILIZATION_SAMPLES = 1
NVML_VALUE_TYPE_UNSIGNED_INT = 1
nvmlMemory_v2 = 33554472
# a task that computed for one second in two, as NVML's buffer had it
BUSY = (0, 0, 0, 0, 0, 100, 100, 100, 100, 100)


class NVMLError(Exception):
    """As the library's own."""


def nvmlInit():
    pass


def nvmlSystemGetDriverVersion():
    return "580.159.04"


def nvmlSystemGetCudaDriverVersion_v2():
    return 13000


def nvmlDeviceGetCount():
    return 1


def nvmlDeviceGetHandleByIndex(index):
    return index


def nvmlDeviceGetHandleByUUID(uuid):
    if "H200_MIG" not in os.environ:
        raise NVMLError("Not Found")
    return uuid


def nvmlDeviceGetUUID(handle):
    return "GPU-b02e7ff8-8371-8598-5480-f66108d02754" if handle == 0 else handle


def nvmlDeviceGetName(handle):
    return "NVIDIA H200"


def nvmlDeviceGetPersistenceMode(handle):
    return 0 if "H200_SLEEPS" in os.environ else 1


def nvmlDeviceGetMemoryInfo(handle, version=None):
    total, reserved, used = 150754820096, 644939776, 44797263872
    if version is None:
        return SimpleNamespace(total=total, used=used + reserved, free=total - used - reserved)
    if "H200_OLD" in os.environ:
        raise NVMLError("Function Not Found")
    return SimpleNamespace(total=total, reserved=reserved, used=used, free=total - used - reserved)


def nvmlDeviceGetPowerUsage(handle):
    return 377190


def nvmlDeviceGetTemperature(handle, sensor):
    return 50


def nvmlDeviceGetSamples(handle, kind, after):
    """71 of the last 14 s at most, five a second; none is an error."""
    if handle != 0:
        raise NVMLError("Not Supported")
    now = int(time.time() * 1e6)
    found = [SimpleNamespace(timeStamp=now - 200_000 * back, sampleValue=SimpleNamespace(uiVal=BUSY[back % len(BUSY)]))
             for back in reversed(range(71))]
    found = [sample for sample in found if sample.timeStamp > after]
    if not found:
        raise NVMLError("Not Found")
    return NVML_VALUE_TYPE_UNSIGNED_INT, found


def nvmlDeviceGetUtilizationRates(handle):
    if handle != 0:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=100, memory=7)
