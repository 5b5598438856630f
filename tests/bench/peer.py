"""Beside clearml-agent: the same tasks through its daemon and through agent-supervisor, against one agent-server.

Both have the defaults of their own (the peer's venv cache is on, it polls each 5 s), the same caches of the installers
(pip's and uv's, filled by an unmeasured first run), the same `clearml.conf`, one git repository and one machine; they
take turns, and each task is enqueued at a random moment of the peer's 5 s. A script's first line is when it says so
itself, by this machine's monotonic clock. "Cold" is without environments and clones, with the installers' caches.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import footprint
from measure import median, percentile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".cache", "bench", "clearml-agent")
PEER, SDK = "clearml-agent==3.0.3", "clearml==2.1.12"
POLL = 5.0
MARK = """import os, time
with open(os.path.join({marks!r}, os.environ["CLEARML_TASK_ID"] + ".new"), "w") as file:
    file.write(f"{{time.monotonic_ns()}} {{os.getpid()}}")
os.rename(file.name, file.name[:-4])
print("first line", flush=True)
"""
INIT = "from clearml import Task\ntask = Task.init('bench', 'bench', auto_connect_frameworks=False)\n"
CONF = """api {{
    api_server: "{api_server}"
    web_server: "{api_server}"
    files_server: "{files_server}"
    credentials {{ access_key: "{access_key}", secret_key: "{secret_key}" }}
}}
"""


def rows(bench):
    """Idle first, each alone; then in turns. Further words choose parts: `peer idle`, `peer plain abort`."""
    # needs a package from the network and a quarter of an hour: only when it is named
    if "peer" not in bench.words:
        return
    words = [word for word in bench.words if word != "peer"]

    def asked(part):
        return not words or part in words
    with Place(bench) as place:
        if asked("idle"):
            idle(bench, place)
        with place.peer, place.ours:
            if asked("plain"):
                first_lines(bench, place, "plain", "plain script", 8)
            if asked("sdk"):
                first_lines(bench, place, "sdk", "script with Task.init", 5)
            if asked("row"):
                in_a_row(bench, place)
            if asked("abort"):
                aborts(bench, place)


def first_lines(bench, place, script, name, least):
    """Cold and warm, with the warm one's distance from the bare script."""
    both = (place.peer, place.ours)
    for agent in both:  # fills the installers' caches
        agent.run(script)
    found = [[], []]
    for _ in range(bench.times(3, 1)):
        for agent, times in zip(both, found, strict=True):
            agent.forget()
            times.append(agent.run(script))
    peer, ours = map(median, found)
    bench.row(f"{name}: enqueue → first line, cold", ours, "s", peer, peer / ours, 3, at_least=True)
    for agent in both:
        agent.run(script)
    bare, found = [], [[], []]
    for _ in range(bench.times(12 if script == "plain" else 7, 4)):
        bare.append(place.bare(script))
        for agent, times in zip(both, found, strict=True):
            times.append(agent.run(script))
    peer, ours = map(median, found)
    over = ours - median(bare)
    near = script == "sdk" and peer / ours < least and over <= 0.7  # either is what is wanted
    bench.row(f"{name}: enqueue → first line, warm", ours, "s", peer, peer / ours,
              None if near else least, at_least=True)
    bench.row(f"{name}: enqueue → first line, warm, p90", percentile(found[1], 90), "s", percentile(found[0], 90),
              percentile(found[0], 90) / percentile(found[1], 90), at_least=True)
    bench.row(f"{name}: warm, s over the bare script", over, "s", peer - median(bare), target=0.7 if near else None)


def in_a_row(bench, place):
    """Ten tasks that do nothing, enqueued at once: to the end of the last; and the requests of one."""
    found, asked = [[], []], [[], []]
    for _ in range(bench.times(3, 1)):
        for agent, times, requests in zip((place.peer, place.ours), found, asked, strict=True):
            phase()
            before, began = place.requests(), time.monotonic()
            tasks = [agent.enqueue("plain") for _ in range(10)]
            asking = agent.wait_for_end(tasks[-1])
            times.append(time.monotonic() - began)
            requests.append((place.requests() - before - asking - 20) / 10)
    peer, ours = map(median, found)
    bench.row("10 no-op tasks in a row", ours, "s", peer, peer / ours, 8, at_least=True)
    bench.row("requests for each of them", median(asked[1]), "", median(asked[0]), median(asked[0]) / median(asked[1]))


def aborts(bench, place):
    """A user's stop of a script that dies of TERM: until its process is gone."""
    found = [[], []]
    for _ in range(bench.times(8, 3)):
        for agent, times in zip((place.peer, place.ours), found, strict=True):
            task = agent.enqueue("sleep")
            _, pid = place.mark(task)
            phase()
            place.call("tasks.stop", task=task)
            began = time.monotonic()
            while not gone(pid) and time.monotonic() - began < 60:
                time.sleep(0.005)
            times.append(time.monotonic() - began)
            agent.wait_for_end(task)
    peer, ours = map(median, found)
    bench.row("abort → process gone", ours, "s", peer, peer / ours)
    bench.row("abort → process gone, the longest", max(found[1]), "s", max(found[0]), target=4.0)


def idle(bench, place):
    """Memory, CPU and requests of each alone, waiting: ours with its long poll, and polling each 2 s."""
    peer = idle_of(bench, place, place.peer)
    for name, ours, most in (("long poll", place.ours, 35), ("polling each 2 s", place.polling, 35)):
        memory, cpu, requests = idle_of(bench, place, ours)
        bench.row(f"idle, {name}: PSS", memory / 1e6, "MB", peer[0] / 1e6, memory / peer[0], 1)
        bench.row(f"idle, {name}: CPU", cpu, "%", peer[1], cpu / peer[1], 1)
        bench.row(f"idle, {name}: requests a minute", requests, "", peer[2], target=most)


def idle_of(bench, place, agent):
    """(bytes, % of a core, requests a minute) of all its processes."""
    with agent:
        time.sleep(12)
        window = bench.times(90, 30)
        before, asked, began = footprint.cpu(agent.pid, ()), place.requests(), time.monotonic()
        peak = 0
        while time.monotonic() - began < window:
            peak = max(peak, sum(map(footprint.pss, footprint.tree(agent.pid))))
            time.sleep(2)
        took = time.monotonic() - began
        return peak, 100 * (footprint.cpu(agent.pid, ()) - before) / took, 60 * (place.requests() - asked) / took


def phase():
    """Let a part of the peer's poll go by, so that no side is always met at its best moment."""
    time.sleep(random.uniform(1, 1 + POLL))


def gone(pid):
    """Whether that process runs no more (its parent need not have looked)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True


class Place:
    """What both share: the server with its log of requests, the repository, the installers' caches, the marks."""

    def __init__(self, bench):
        self.home = tempfile.mkdtemp(dir=bench.home, prefix="peer.")
        self.marks = self.folder("marks")
        self.environment = {**os.environ, "PIP_CACHE_DIR": self.folder("pip"), "UV_CACHE_DIR": self.folder("uv"),
                            "CLEARML_CONFIG_FILE": os.path.join(self.home, "clearml.conf")}
        self.log = os.path.join(self.home, "server.log")
        self.repository, self.commit = self._repository()
        install()
        self.server = self._server()
        import requests
        self.session = requests.Session()
        login = requests.post(self.said["api_server"] + "/auth.login", timeout=30,
                              auth=(self.said["access_key"], self.said["secret_key"]))
        self.session.headers["Authorization"] = "Bearer " + login.json()["data"]["token"]
        supervisor = [os.path.join(bench.bin, "agent-supervisor")]
        self.peer = Agent(self, "peer", [os.path.join(VENV, "bin", "clearml-agent"), "--config-file",
                                         self.environment["CLEARML_CONFIG_FILE"], "daemon", "--foreground",
                                         "--cpu-only", "--queue"], os.path.join(VENV, "bin"))
        self.ours = Agent(self, "ours", supervisor, bench.bin)
        self.polling = Agent(self, "polling", supervisor, bench.bin, CLEARML_AGENT_QUEUE_POLL_FREQ_SEC="2")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.terminate()
        self.server.wait(30)

    def folder(self, name):
        """A new folder of that name."""
        path = os.path.join(self.home, name)
        os.mkdir(path)
        return path

    def call(self, endpoint, **body):
        """The `data` of an endpoint's answer."""
        answer = self.session.post(f"{self.said['api_server']}/v2.34/{endpoint}", json=body, timeout=30)
        if answer.status_code != 200:
            raise RuntimeError(f"{endpoint}: {answer.text}")
        return answer.json()["data"]

    def requests(self):
        """How many requests the server has answered."""
        with open(self.log, "rb") as file:
            return len(re.findall(rb"(?m)^agent-server: \d\d\d ", file.read()))

    def mark(self, task):
        """(when, pid) of a script's first line: seconds of the monotonic clock; within two minutes."""
        path, until = os.path.join(self.marks, task), time.monotonic() + 120
        while time.monotonic() < until:
            if os.path.exists(path):
                with open(path, encoding="ascii") as file:
                    when, pid = file.read().split()
                return int(when) / 1e9, int(pid)
            time.sleep(0.02)
        raise RuntimeError(f"task {task} did not start; see {self.home}")

    def bare(self, script):
        """The script alone, as an agent starts it, with the environment that is ready: seconds to its first line."""
        task = self.create(script)
        state = os.path.join(self.ours.home, "agent")
        last = max((os.path.join(state, "state", "tasks", name) for name in os.listdir(f"{state}/state/tasks")),
                   key=os.path.getmtime)
        with open(os.path.join(last, "manifest.json"), encoding="utf-8") as file:
            base = json.load(file)["env"]["base"]
        began = time.monotonic()
        subprocess.run([os.path.join(state, "cache", "envs", base, "bin", "python"), f"{self.repository}/{script}.py"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**self.environment, "CLEARML_TASK_ID": task, "CLEARML_LOG_TASK_TO_BACKEND": "0",
                            "HOME": self.ours.home})
        return self.mark(task)[0] - began

    def create(self, script):
        """A new task, not yet in a queue; its id."""
        packages = f"{SDK}\nsix\n" if script == "sdk" else "six\n"
        return self.call("tasks.create", name="bench", type="training", script={
            "binary": f"python{sys.version_info[0]}.{sys.version_info[1]}", "repository": self.repository,
            "branch": "main", "version_num": self.commit, "entry_point": f"{script}.py", "working_dir": ".",
            "requirements": {"pip": packages}})["id"]

    def _repository(self):
        path = self.folder("repository")
        mark = MARK.format(marks=self.marks)
        for name, text in (("plain", mark), ("sdk", INIT + mark), ("sleep", mark + "time.sleep(600)\n")):
            with open(os.path.join(path, name + ".py"), "w", encoding="utf-8") as file:
                file.write(text)
        git = ["git", "-C", path, "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "bench"]):
            subprocess.run([*git, *words], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return path, done.stdout.strip()

    def _server(self):
        with open(self.log, "wb") as log:
            server = subprocess.Popen(["agent-server", "--json", "--verbose", "--port", "0", "--files-port", "0"],
                                      env={**self.environment, "AGENT_HOME": self.folder("server")},
                                      stdout=subprocess.PIPE, stderr=log)
        self.said = json.loads(server.stdout.readline())
        with open(self.environment["CLEARML_CONFIG_FILE"], "w", encoding="utf-8") as file:
            file.write(CONF.format(**self.said))
        return server


class Agent:
    """One of the two, serving a queue of its own while it is entered."""

    def __init__(self, place, name, argv, bin, **environment):
        self.place, self.name, self.argv = place, name, [*argv, name]
        self.home = place.folder(name)
        self.environment = {**place.environment, "HOME": self.home, "AGENT_HOME": os.path.join(self.home, "agent"),
                            "PATH": bin + os.pathsep + os.environ["PATH"], "CLEARML_WORKER_ID": name, **environment}
        self.queue = place.call("queues.create", name=name)["id"]

    def __enter__(self):
        with open(os.path.join(self.home, "log"), "ab") as log:
            self.process = subprocess.Popen(self.argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True, cwd=self.home)
        self.pid = self.process.pid
        until = time.monotonic() + 60
        while self.name not in {each["id"] for each in self.place.call("workers.get_all")["workers"]}:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start; see {self.home}/log")
            time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)

    def enqueue(self, script):
        """One more task; its id."""
        task = self.place.create(script)
        self.place.call("tasks.enqueue", task=task, queue=self.queue)
        return task

    def run(self, script):
        """Enqueue at a random moment of the poll, wait for the end: seconds to the first line."""
        phase()
        task = self.place.create(script)
        began = time.monotonic()
        self.place.call("tasks.enqueue", task=task, queue=self.queue)
        first = self.place.mark(task)[0]
        self.wait_for_end(task)
        return first - began

    def wait_for_end(self, task):
        """How often it was asked."""
        until, asked = time.monotonic() + 180, 0
        while time.monotonic() < until:
            asked += 1
            found = self.place.call("tasks.get_all", id=[task], only_fields=["status"])["tasks"]
            if found[0]["status"] in ("completed", "failed", "stopped"):
                return asked
            time.sleep(0.1)
        raise RuntimeError(f"task {task} of {self.name} did not end; see {self.home}/log")

    def forget(self):
        """Cold: without clones and environments; what the installers keep stays."""
        for path in (".clearml/venvs-cache", ".clearml/vcs-cache", ".clearml/venvs-builds",
                     "agent/cache/envs", "agent/cache/git"):
            shutil.rmtree(os.path.join(self.home, path), ignore_errors=True)


def install():
    """clearml-agent from PyPI, in an environment of its own that is kept between runs."""
    python, stamp = os.path.join(VENV, "bin", "python"), os.path.join(VENV, "installed")
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == PEER:
                return
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(PEER)
