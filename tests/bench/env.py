"""agent-env: a warm environment as a process and inside agent-prepare; a cold one against pip and against uv alone."""

import json
import os
import shutil
import subprocess

from measure import interleaved, median, seconds

PACKAGES = ["numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "clearml", "seaborn", "statsmodels", "requests",
            "pyyaml", "tqdm", "pillow", "joblib", "rich", "click", "attrs", "jsonschema", "psutil", "networkx", "sympy"]
IMPORTS = ("import numpy, scipy.stats, pandas, sklearn.ensemble, matplotlib.pyplot, clearml, seaborn, "
           "statsmodels.api, requests, yaml, tqdm, PIL.Image, joblib, rich.table, jsonschema, networkx, sympy")


def rows(bench):
    """Cold rows first: they fill the caches that the warm ones use."""
    names = ("cold environment, 30 packages", "warm environment")
    if not any(bench.wants(name) for name in names):
        return
    bench.fresh("env")
    bench_of = Environments(bench)
    if bench.wants(names[0]):
        bench_of.cold(names[0])
    if bench.wants(names[1]):
        bench_of.warm(names[1])


class Environments:
    """The same 20 requirements (they bring more than 30 packages), by us, by pip and by uv."""

    def __init__(self, bench):
        self.bench, self.home = bench, os.environ["AGENT_HOME"]
        self.list = os.path.join(self.home, "requirements.txt")
        with open(self.list, "w") as file:
            file.write("".join(f"{name}\n" for name in PACKAGES))
        self.line = json.dumps({"task": {"script": {"requirements": {"pip": "\n".join(PACKAGES)}}}}).encode()
        self.small = json.dumps({"task": {"script": {"requirements": {"pip": "six"}}}}).encode()
        self.uv = ["--cache-dir", os.path.join(self.home, "cache", "uv")]
        os.environ["PIP_CACHE_DIR"] = os.path.join(self.home, "pip")

    def ours(self, line=None, stage="agent-env"):
        """The manifest that a stage prints for this line."""
        done = subprocess.run([stage], input=line or self.line, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def cold_ours(self):
        """From nothing but downloads to the end of the imports."""
        shutil.rmtree(os.path.join(self.home, "cache", "envs"), ignore_errors=True)
        found = {}
        return timed(lambda: found.update(self.ours()["env"])) + seconds([found["python"], "-c", IMPORTS])

    def cold_pip(self):
        """python -m venv, pip install, the same imports."""
        folder = self.new("pip-env")
        return (seconds([self.bench.python, "-m", "venv", folder])
                + seconds([f"{folder}/bin/python", "-m", "pip", "install", "-q", "-r", self.list])
                + seconds([f"{folder}/bin/python", "-c", IMPORTS]))

    def cold_uv(self):
        """uv venv, uv pip install, the same imports."""
        folder = self.new("uv-env")
        return (seconds(["uv", "venv", "-q", *self.uv, "-p", self.bench.python, folder])
                + seconds(["uv", "pip", "install", "-q", *self.uv, "-p", folder, "-r", self.list])
                + seconds([f"{folder}/bin/python", "-c", IMPORTS]))

    def new(self, name):
        folder = os.path.join(self.home, name)
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def cold(self, name):
        """Each in turn, after one unmeasured turn that fills the download caches."""
        repeats = self.bench.times(3, 1)
        ours, pip, uv = interleaved(repeats, self.cold_ours, self.cold_pip, self.cold_uv)
        self.bench.row(f"{name}, to the end of its imports: × faster than venv + pip", median(ours), "s", median(pip),
                       median(pip) / median(ours), 3.5, at_least=True)
        over = median(ours) - median(uv)
        self.bench.row(f"{name}: s over bare uv", over, "s", median(uv), target=1.0)

    def warm(self, name):
        """With everything in the cache, for a small and a large environment."""
        for line in (self.line, self.small):
            self.ours(line)
        repeats = self.bench.times(20, 6)
        large, small, bare = interleaved(
            repeats, lambda: timed(self.ours), lambda: timed(lambda: self.ours(self.small)),
            lambda: seconds([self.bench.python, "-c", "pass"]))
        self.bench.row(f"{name}: agent-env, {self.count()} packages", median(large), "s", median(bare), target=0.2)
        self.bench.row(f"{name}: agent-env, 1 package", median(small), "s", median(bare), target=0.2)
        inside = [self.ours(self.prepared(), "agent-prepare")["env"]["seconds"] for _ in range(repeats)]
        self.bench.row(f"{name}: ours inside agent-prepare", median(inside), "s", target=0.06)
        self.imports(name)

    def imports(self, name):
        """First imports in an overlay against an ordinary environment that has its byte-code."""
        python = self.ours()["env"]["python"]
        plain = self.new("plain-env")
        subprocess.run(["uv", "venv", "-q", *self.uv, "-p", self.bench.python, plain], check=True)
        subprocess.run(["uv", "pip", "install", "-q", *self.uv, "-p", plain, "-r", self.list], check=True)
        ours, theirs = interleaved(self.bench.times(5, 2), lambda: seconds([python, "-c", IMPORTS]),
                                   lambda: seconds([f"{plain}/bin/python", "-c", IMPORTS]))
        self.bench.row(f"{name}: its imports", median(ours), "s", median(theirs), median(ours) / median(theirs), 1.1)

    def count(self):
        return len(self.ours()["env"]["packages"])

    def prepared(self):
        return self.line.replace(b'"script": {', b'"script": {"entry_point": "main.py", "diff": "pass\\n", ')


def timed(work):
    """Seconds that a function takes."""
    import time
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
