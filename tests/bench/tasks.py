"""The tasks of the benchmarks: a git repository with one script, enqueued in process."""

import json
import os
import subprocess
import sys
import tempfile

SCRIPT = """import sys
import time
print(time.monotonic_ns(), flush=True)
"""
_api = {}


def api():
    """The store of the current AGENT_HOME."""
    from agentpipe.transport import api
    home = os.environ["AGENT_HOME"]
    if home not in _api:
        _api[home] = api.connect()
    return _api[home]


def queue(name="default"):
    """The id of this queue; made when missing."""
    from agentpipe.pull import queues
    return queues.Queues(api(), [name], create=True).ids[0]


def add(body, name="default"):
    """Create and enqueue a task; its id."""
    task = api().call("tasks.create", {"name": "bench", "type": "training", **body})["id"]
    api().call("tasks.enqueue", {"task": task, "queue": queue(name)})
    return task


def piped(argv, line=None):
    """What this command prints for that input; it must succeed."""
    done = subprocess.run(argv, input=line, stdin=subprocess.DEVNULL if line is None else None,
                          stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"bench: {argv} ended with {done.returncode}: {done.stdout[-2000:]!r}")
    return done.stdout


def prepared(line, name):
    """The manifest of this task as its last stage stored it: {…}, and its directory."""
    home = os.path.join(os.environ["AGENT_HOME"], "state", "tasks")
    directory = next(os.path.join(home, entry) for entry in os.listdir(home) if entry.startswith(name + "."))
    with open(os.path.join(directory, "manifest.json"), encoding="utf-8") as file:
        return json.load(file), directory


def first_line(task):
    """When the script of this task printed its first line: seconds of the monotonic clock."""
    home = os.path.join(os.environ["AGENT_HOME"], "state", "tasks")
    directory = max(entry for entry in os.listdir(home) if entry.startswith(task + "."))
    box = os.path.join(home, directory, "box")  # where a container writes
    with open(os.path.join(box if os.path.isdir(box) else os.path.join(home, directory), "log"), "rb") as file:
        return int(file.readline()) / 1e9


class Repository:
    """A git repository with a script, and an environment that is ready once one task has been through."""

    def __init__(self, bench, text=SCRIPT, requirements="six"):
        self.path = tempfile.mkdtemp(dir=bench.home, prefix="repo.")
        self.script = os.path.join(self.path, "train.py")
        self.requirements = requirements
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(text)
        git = ["git", "-C", self.path, "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "bench"]):
            subprocess.run([*git, *words], check=True)
        self.commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True,
                                     text=True).stdout.strip()
        self.python = sys.executable

    def enqueue(self):
        """One more task; its id."""
        return add({"script": {"binary": "python3", "repository": self.path, "branch": "main",
                               "version_num": self.commit, "entry_point": "train.py", "working_dir": ".",
                               "requirements": {"pip": self.requirements}}})

    def pipeline(self):
        """Run the next task through the pipeline of three; its receipt. The environment's Python is known then."""
        receipt = json.loads(piped(["dash", "-c", "agent-pull default | agent-prepare | agent-run"]))
        self.python = os.path.join(os.environ["AGENT_HOME"], "cache", "envs", receipt["env"]["base"], "bin", "python")
        return receipt

    def bare(self, into):
        """A bare clone and run with the ready environment: the shell's words, and where the first line goes."""
        return f"git clone -q {self.path} {into}/c && git -C {into}/c checkout -q {self.commit} && cd {into}/c && " \
               f"{self.python} train.py >{into}/log"


def printed(task):
    """What the store has of the script's output, piece by piece, in order."""
    after = 0
    while True:
        answer = api().call("events.get_task_log", {"task": task, "after": after, "batch_size": 200})
        if not answer["events"]:
            return
        after = answer["last"]
        yield from (event["msg"] for event in answer["events"] if event.get("stream") == "log")
