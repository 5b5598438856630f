"""What this machine and its GPUs are doing, under the names and in the units that ClearML uses.

Read straight from /proc: psutil would be a third of an idle agent's memory. GPUs by gpu_reader.py.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping

from agentpipe import units
from agentpipe.report import gpu_reader
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECTOR = 512  # of /proc/diskstats, whatever the disk's own are (Documentation/admin-guide/iostats.rst)
_MIG = re.compile(r"nvidia\.com/mig-\d+g\.(\d+)gb")
_NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")


class Sampler:
    """Samples of this machine; rates are means since the sample before (the first: since now, so 0).

    `inside`: the driver's library is loaded into this process, for a program that looks once a second.
    """

    def __init__(self, disk: str | None = None, inside: bool = False) -> None:
        self._disk = disk or os.path.expanduser("~")
        self._inside = inside
        self._gpus: dict[str, Any] = {}
        self._gpus_at = 0.0  # when they were asked (monotonic), and from when on they are looked at (by the clock)
        self._gpus_since = 0.0
        self._last = _Counters()
        self._stats: dict[str, Any] = {}
        self._ticks: dict[int, int] = {}
        self._ticks_at = 0.0

    def sample(self) -> dict[str, Any]:
        """`machine_stats` of workers.status_report: %, MB, MB/s; disk_free_home is % free. One a second."""
        if self._stats and time.monotonic() - self._last.at < 1:
            return self._stats
        before, now = self._last, _Counters()
        self._last = now
        self._stats = self._between(before, now)
        return self._stats

    def _between(self, before: _Counters, now: _Counters) -> dict[str, Any]:
        seconds = max(now.at - before.at, 1e-3)
        free, total = memory()
        stats: dict[str, Any] = {
            "cpu_usage": [_share(now.busy - before.busy, now.total - before.total)],
            "memory_free": round(free / units.MIB, 3),
            "memory_used": round((total - free) / units.MIB, 3),
            "disk_free_home": self._disk_free(),
            "disk_read": round((now.read - before.read) / units.MIB / seconds, 3),
            "disk_write": round((now.written - before.written) / units.MIB / seconds, 3),
            "network_rx": round((now.received - before.received) / units.MIB / seconds, 3),
            "network_tx": round((now.sent - before.sent) / units.MIB / seconds, 3),
        }
        temperature = cpu_temperature()
        if temperature is not None:
            stats["cpu_temperature"] = [temperature]
        gpus = self.gpus()
        if gpus:
            if all(gpu["utilization"] is not None for gpu in gpus):
                stats["gpu_usage"] = [gpu["utilization"] for gpu in gpus]
            shares = fractions(os.environ.get("CLEARML_AGENT_GPU_FRACTIONS", ""), [gpu["total"] for gpu in gpus])
            if shares:
                stats["gpu_fraction"] = shares
            stats |= {"gpu_temperature": [gpu["temperature"] or 0.0 for gpu in gpus],
                      "gpu_memory_free": [round(gpu["free"] / units.MIB, 3) for gpu in gpus],
                      "gpu_memory_used": [round(gpu["used"] / units.MIB, 3) for gpu in gpus]}
        return stats

    def gpus(self) -> list[dict[str, Any]]:
        """Per GPU what gpu_reader.read() gives; [] without a driver. Asked once a second, or a minute after silence."""
        now = time.monotonic()
        if not self._gpus_at or now - self._gpus_at >= (1 if self._gpus else 60):
            since, self._gpus_since = self._gpus_since, time.time()
            self._gpus = self._ask(since)
            self._gpus_at = now
            # cards that sleep while nobody has them open would be woken each time
            self._inside = self._inside or self._gpus.get("persistent") is False
        default = default_utilization()
        return [{**gpu, "utilization": default if gpu["utilization"] is None else gpu["utilization"]}
                for gpu in self._gpus.get("gpus", ())]

    def _ask(self, since: float) -> dict[str, Any]:
        if not self._inside:
            return gpu_reader.ask(since)
        try:
            return gpu_reader.read(since) if os.path.exists(gpu_reader.DEVICE) else {}
        except Exception:  # NVMLError, or no libnvidia-ml: no GPU is to be seen, and nothing else may suffer
            return {}

    def machine(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """machine() with the GPUs of the last sample."""
        self.gpus()
        return machine(manifest, self._gpus)

    def processes(self, pids: Iterable[int]) -> list[tuple[str, str, float]]:
        """(metric, variant, value) of a script's processes together: CPU in % of one core, memory in GB."""
        resident, ticks = 0, {}
        for pid in pids:
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if len(fields) > 21:
                ticks[pid] = int(fields[11]) + int(fields[12])
                resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        now = time.monotonic()
        used = sum(count - self._ticks.get(pid, 0) for pid, count in ticks.items())
        seconds = now - self._ticks_at
        found = [(":monitor:machine", "task_memory_gb", resident / units.GIB)]
        if self._ticks_at:
            percent = 100 * used / os.sysconf("SC_CLK_TCK") / max(seconds, 1e-3)
            found.append((":monitor:machine", "task_cpu_usage", max(0.0, percent)))
        self._ticks, self._ticks_at = ticks, now
        return found

    def _disk_free(self) -> float:
        try:
            found = os.statvfs(self._disk)
        except OSError:
            return 0.0
        usable = found.f_blocks - found.f_bfree + found.f_bavail
        return round(100 * found.f_bavail / usable, 3) if usable else 0.0


def scalars(stats: dict[str, Any], gpus: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    """(metric, variant, value) of a sample, as the SDK's resource monitor names them."""
    machine = {
        "cpu_usage": stats["cpu_usage"][0],
        "memory_used_gb": stats["memory_used"] / 1024,
        "memory_free_gb": stats["memory_free"] / 1024,
        "disk_free_percent": stats["disk_free_home"],
        "io_read_mbs": stats["disk_read"],
        "io_write_mbs": stats["disk_write"],
        "network_rx_mbs": stats["network_rx"],
        "network_tx_mbs": stats["network_tx"],
    }
    if "cpu_temperature" in stats:
        machine["cpu_temperature"] = stats["cpu_temperature"][0]
    found = [(":monitor:machine", name, float(value)) for name, value in machine.items()]
    for gpu in gpus:
        values = {"utilization": gpu["utilization"], "temperature": gpu["temperature"],
                  "mem_usage": 100 * gpu["used"] / gpu["total"], "mem_used_gb": gpu["used"] / units.GIB,
                  "mem_free_gb": gpu["free"] / units.GIB, "power_draw": gpu["power"]}
        found += [(":monitor:gpu", f"gpu_{gpu['index']}_{name}", float(value))
                  for name, value in values.items() if value is not None]
    return found


def memory() -> tuple[int, int]:
    """(available, total) bytes of this machine."""
    values = {}
    for line in _read("/proc/meminfo").splitlines()[:8]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return values.get("MemAvailable", values.get("MemFree", 0)), values.get("MemTotal", 0)


def cpu_temperature() -> float | None:
    """The CPU package's temperature in °C, where the kernel tells it."""
    base = "/sys/class/hwmon"
    try:
        chips = sorted(os.listdir(base))
    except OSError:
        return None
    for chip in chips:
        if _read(f"{base}/{chip}/name").strip() in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
            value = _read(f"{base}/{chip}/temp1_input").strip()
            if value.lstrip("-").isdigit():
                return int(value) / 1000
    return None


class _Counters:
    """The kernel's running totals at one moment: CPU in ticks, the rest in bytes."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        ticks = [int(value) for value in _read("/proc/stat").partition("\n")[0].split()[1:9]]
        self.total = sum(ticks)
        self.busy = self.total - sum(ticks[3:5])  # without idle and iowait
        self.read = self.written = self.received = self.sent = 0
        for line in _read("/proc/diskstats").splitlines():
            fields = line.split()
            # whole disks only: a partition's numbers are in its disk's already
            if not fields[2].startswith(_NO_DISKS) and os.path.isdir(f"/sys/block/{fields[2]}"):
                self.read += int(fields[5]) * SECTOR
                self.written += int(fields[9]) * SECTOR
        for line in _read("/proc/net/dev").splitlines()[2:]:
            name, _, rest = line.partition(":")
            numbers = rest.split()
            if name.strip() != "lo":
                self.received += int(numbers[0])
                self.sent += int(numbers[8])


def default_utilization() -> float | None:
    """agent.resource_monitoring.default_gpu_utilization, for what tells none; None (null there): leave it out."""
    found = config.section("agent.resource_monitoring", whole=True).get("default_gpu_utilization", 100)
    try:
        return None if found is None else float(found)
    except (TypeError, ValueError):
        return 100.0


def fractions(text: str, totals: list[int]) -> list[float]:
    """What share of each GPU (of `totals` bytes) is ours, by CLEARML_AGENT_GPU_FRACTIONS; [] when it says nothing.

    `0.5,0.25` are shares, `nvidia.com/mig-1g.5gb:2` is two slices of 5 GB; the last one counts for the GPUs after it.
    """
    found = []
    for number, item in enumerate(filter(None, (part.strip() for part in text.split(",")))):
        name, colon, count = item.partition(":")
        mig = _MIG.fullmatch(name)
        try:
            if mig and colon:
                found.append(round(int(mig[1]) * int(count) * units.GIB / totals[min(number, len(totals) - 1)], 3))
            else:
                found.append(float(item))
        except ValueError:
            return []
    return [found[min(number, len(found) - 1)] for number in range(len(totals))] if found else []


def machine(manifest: Mapping[str, Any], told: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a task's runtime tells of the machine, by the keys of the `clearml` package's resource monitor.

    `told` is an answer of gpu_reader; without one it is asked.
    """
    system, env = os.uname(), manifest.get("env") or {}
    found: dict[str, Any] = {
        "platform": "linux", "OS": f"{system.sysname}-{system.release}-{system.machine}", "processor": system.machine,
        "hostname": system.nodename, "cpu_cores": os.cpu_count() or 1, "memory_gb": round(memory()[1] / units.GIB, 1),
        "gpu_count": 0}
    if env.get("python"):
        found |= {"python_exec": env["python"], "python_version": env.get("version") or ""}
    told = gpu_reader.ask() if told is None else told
    if told.get("gpus"):
        found |= {"gpu_count": len(told["gpus"]), "gpu_type": ", ".join(gpu["name"] for gpu in told["gpus"]),
                  "gpu_memory": ", ".join(f"{round(gpu['total'] / units.GIB)}GB" for gpu in told["gpus"]),
                  "gpu_driver_version": told["driver"], "gpu_driver_cuda_version": told["cuda"]}
    return found


def _share(part: int, whole: int) -> float:
    return round(min(max(100 * part / whole, 0.0), 100.0), 3) if whole > 0 else 0.0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
