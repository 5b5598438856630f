"""How the benchmarks measure: interleaved repeats of whole processes, medians, and rows with their targets."""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


class Bench:
    """A run of the benchmarks: its temporary AGENT_HOME, its rows, and which of them were asked for."""

    def __init__(self, quick, as_json, words, bin):
        self.quick, self.as_json, self.words, self.bin = quick, as_json, words, bin
        self.home = tempfile.mkdtemp(prefix="agentpipe-bench.")
        self.missed = 0
        self.name = ""
        self.python = os.path.join(bin, "python")
        for name in [name for name in os.environ if name.startswith(("AGENT_", "CLEARML_", "TRAINS_", "XDG_"))]:
            del os.environ[name]
        os.environ["PATH"] = bin + os.pathsep + os.environ["PATH"]
        os.environ["HOME"] = self.home
        self.fresh("default")

    def __enter__(self):
        if not self.as_json:
            with open("/proc/loadavg", encoding="ascii") as file:
                load = file.read().split()[0]
            print(f"{os.cpu_count()} cores, load {load}, Python {platform.python_version()}")
            print(f"{'':62}{'median':>11}  {'baseline':>9}  {'ratio':>10}  target")
        return self

    def __exit__(self, failed, *_):
        if failed is not None and issubclass(failed, Exception):
            print(f"bench: what was measured lies in {self.home}", file=sys.stderr)
        else:
            shutil.rmtree(self.home, ignore_errors=True)

    def group(self, name):
        """Begin a group of rows."""
        self.name = name
        return self

    def wants(self, name):
        """Whether a row (or, as a question of its group, any row of a prefix) was asked for."""
        return not self.words or any(word in f"{self.name}: {name}" for word in self.words)

    def times(self, full, quick):
        """How many repeats."""
        return quick if self.quick else full

    def fresh(self, name):
        """An AGENT_HOME of its own, made empty; it is the current one from now on."""
        path = os.path.join(self.home, name)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        os.environ["AGENT_HOME"] = path
        os.environ["AGENT_MACHINE_DIR"] = os.path.join(self.home, "machine")
        return path

    def row(self, name, value, unit, baseline=None, ratio=None, target=None, at_least=False, note=""):
        """Print a row; `target` is what `ratio` (or, without one, `value`) must not exceed (or reach: `at_least`)."""
        judged = value if ratio is None else ratio
        met = None if target is None else (judged >= target if at_least else judged <= target)
        self.missed += met is False
        if self.as_json:
            print(json.dumps({"group": self.name, "name": name, "median": value, "unit": unit, "baseline": baseline,
                              "ratio": ratio, "target": target, "at_least": at_least, "met": met, "note": note}),
                  flush=True)
            return
        words = "" if target is None else f"{'>=' if at_least else '<='} {target:g}{'' if met else '  MISSED'}"
        print(f"{name:62}{_shown(value, unit):>11}  {'' if baseline is None else _shown(baseline, unit):>9}  "
              f"{'' if ratio is None else f'{ratio:.2f}':>10}  {words}{'  ' + note if note else ''}", flush=True)

    def close(self):
        """The exit status."""
        if self.missed and not self.as_json:
            print(f"{self.missed} rows miss their targets")
        return 1 if self.missed else 0


def _shown(value, unit):
    if unit == "s":
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def seconds(argv, **more):
    """How long this command takes from start to end; it must succeed."""
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **more}
    began = time.perf_counter()
    status = subprocess.run(argv, **more).returncode
    took = time.perf_counter() - began
    if status:
        raise SystemExit(f"bench: {argv} ended with {status}")
    return took


def interleaved(repeats, *works):
    """Each of `works` (functions that give seconds) `repeats` times in turns, after one unmeasured turn; lists."""
    found = [[] for _ in works]
    for number in range(repeats + 1):
        for work, times in zip(works, found, strict=True):
            took = work()
            if number:
                times.append(took)
    return found


def median(values):
    """The median."""
    return statistics.median(values)


def percentile(values, percent):
    """The value that `percent` of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]
