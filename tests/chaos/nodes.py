"""A node to break: a home with a store, tasks whose scripts count their runs, and pipelines as typed."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

from agentpipe.pull import queues
from agentpipe.transport import api

ROOT = Path(__file__).resolve().parents[2]
THREE = "agent-pull default | agent-prepare | agent-run"
FIVE = "agent-pull default | agent-fetch | agent-patch | agent-env | agent-run"
ENDED = ("completed", "failed", "stopped")
# what the crash points with a stage's name in them stand for: who calls them
BY_STAGE = {"held": ("pull", "prepare", "fetch", "patch", "env", "run"), "started": ("prepare", "fetch"),
            "done": ("fetch", "patch", "env"),
            **dict.fromkeys(("stored", "handed", "printed"), ("pull", "prepare", "fetch", "patch", "env"))}


def crash_points():
    """Every crash point of the source, as sorted names: none can be forgotten.

    Those of containers and of their images want an engine: tests/services (docker.bats, image tests). A task of these
    tests passes no conda, no resolver, no bundle (test_bundle.py) and (http.bats) no second home.
    """
    found = set()
    for file in (*ROOT.glob("cmds/*.py"), *ROOT.glob("lib/agentpipe/**/*.py")):
        for literal, name in re.findall(r'crash_point\((f?)"([^"]+)"\)', file.read_text()):
            if literal:
                step = name.rpartition(":")[2]
                found |= {f"{stage}:{step}" for stage in BY_STAGE[step]}
            else:
                found.add(name)
    elsewhere = ("place:", "image:", "adopt:", "env:conda", "env:resolved", "fetch:brought",
                 "fetch:unbundl", "fetch:unpacked")
    return sorted(name for name in found if not name.startswith(elsewhere))


def pipeline_of(point):
    """The pipeline whose processes pass this point."""
    stage, _, step = point.partition(":")
    apart = stage in ("fetch", "patch", "env") and step in BY_STAGE and step != "done"
    return FIVE if apart else THREE


def builds(point):
    """Whether it is passed only where an environment is made that was not there."""
    stage, _, step = point.partition(":")
    return stage == "env" and step not in BY_STAGE


def fetches(point):
    """Whether it is passed only where a repository is fetched that nobody has fetched before."""
    stage, _, step = point.partition(":")
    return stage == "fetch" and step not in BY_STAGE


def git(folder, *words):
    """What git answers, in this repository."""
    return subprocess.check_output(["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org",
                                    *words], text=True).strip()


def make_repository(folder):
    """A repository with one committed file; the commit."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "train.py").write_text("# the committed file\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return git(folder, "rev-parse", "HEAD")


class Node:
    """One machine's state in `home`, and what a test does with it; mirrors and environments in `cache`.

    `known` is (a repository that this cache has or will have a mirror of, its commit); without it python() makes one,
    and names its branch.
    """

    def __init__(self, home, cache, known=None):
        self.home = home
        self.known = known
        self.state = home / "agentpipe"
        self.side = home / "runs"  # each run of a script adds its pid
        home.mkdir(exist_ok=True)
        downloads = os.environ.get("UV_CACHE_DIR") or str(ROOT / ".cache" / "tests" / "uv")
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith(("AGENT_", "CLEARML_", "TRAINS_", "PYTHON", "XDG_", "VIRTUAL_ENV"))}
        self.env = {**kept, "XDG_STATE_HOME": str(home), "XDG_CACHE_HOME": str(cache), "HOME": str(cache),
                    "UV_CACHE_DIR": downloads, "AGENT_CLAIM_GRACE": "0", "SIDE": str(self.side),
                    "AGENT_MACHINE_DIR": str(home.parent / "machine"),
                    "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
        if "PIP_CONFIG_FILE" not in kept and (Path.home() / ".config/pip/pip.conf").exists():
            self.env["PIP_CONFIG_FILE"] = str(Path.home() / ".config/pip/pip.conf")
        os.environ["XDG_STATE_HOME"] = self.env["XDG_STATE_HOME"]
        self.api = api.connect()
        self.queue = queues.Queues(self.api, ["default"], create=True).ids[0]

    def enqueue(self, **script):
        """A task with this `script` section; its id."""
        task = self.api.call("tasks.create", {"name": "chaos", "type": "training", "script": script})["id"]
        self.api.call("tasks.enqueue", {"task": task, "queue": self.queue})
        return task

    def shell(self, text):
        """A task that is a bash script, which counts its run first; its id."""
        return self.enqueue(binary="bash", entry_point="main.sh", working_dir=".",
                            diff='echo "$$" >>"$SIDE"\n' + text + "\n")

    def python(self, text="for number in range(20):\n    print('epoch', number)\n", requirements=""):
        """A task that is a Python script in a git repository, with an uncommitted line and an environment; its id."""
        repository, commit = self.known or (self.home / "repository", "")
        if not repository.exists():
            make_repository(repository)
        count = "import os\nopen(os.environ['SIDE'], 'a').write(f'{os.getpid()}\\n')\n"
        lines = ["# the committed file", *(count + text).splitlines()]
        diff = "diff --git a/src/train.py b/src/train.py\n--- a/src/train.py\n+++ b/src/train.py\n" \
            f"@@ -1 +1,{len(lines)} @@\n {lines[0]}\n" + "".join(f"+{line}\n" for line in lines[1:])
        return self.enqueue(binary="python3", repository=str(repository), branch="main", version_num=commit,
                            entry_point="train.py", working_dir="src", diff=diff, requirements={"pip": requirements})

    def task_at(self, point):
        """A task that passes this point; with a repository and an environment only where they are at stake."""
        if point == "patch:written" or point.startswith(("pull:", "prepare:", "recover:", "report:", "run:")):
            return self.shell("for number in 1 2 3; do echo line $number; done")
        return self.python()

    def start(self, words, **env):
        """`words` under dash, in a session of its own."""
        return subprocess.Popen(["dash", "-c", words], env={**self.env, **env}, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, words=THREE, timeout=60, **env):
        """`words` under dash to their end: (exit status, stdout, stderr)."""
        process = self.start(words, **env)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"{words} did not end within {timeout} s: {out}{err}") from None
        return process.returncode, out, err

    def run_at_a_terminal(self, words=THREE, timeout=60, **env):
        """The same at a terminal of its own: (exit status, what it showed)."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(["dash", "-c", words], env={**self.env, **env}, stdin=theirs, stdout=theirs,
                                   stderr=theirs, start_new_session=True)
        os.close(theirs)
        shown, until = b"", time.monotonic() + timeout
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            while process.poll() is None or select.select([terminal], [], [], 0)[0]:
                assert time.monotonic() < until, f"{words} did not end within {timeout} s: {shown!r}"
                if select.select([terminal], [], [], 0.05)[0]:
                    try:
                        shown += terminal.read(4096)
                    except OSError:  # nobody has the other side open any more
                        process.wait(5)
                        break
        return process.returncode, shown.decode("utf-8", "replace")

    def run_until_ended(self, task, words=THREE, times=3):
        """The pipeline again, as cron would start it, until this task has ended; how often that took."""
        told = []
        for number in range(1, times + 1):
            told.append(self.run(words))
            if self.status(task) in ENDED:
                return number
        raise AssertionError(f"{task} is {self.status(task)} after {times} pipelines: {told}\n{self.files()}")

    def assert_nothing_waits(self):
        """A further pull takes nothing; what there was to recover it has recovered."""
        code, out, err = self.run("agent-pull default")
        assert (code, out) == (0, ""), err

    def status(self, task):
        """The task's status in the store."""
        return self.api.call("tasks.get_by_id", {"task": task})["task"]["status"]

    def directory(self, task):
        """The directory of its last attempt."""
        found = (self.state / "tasks").glob(f"{task}.*")
        return max(found, key=lambda path: int(path.name.rpartition(".")[2]))

    def own_log(self, task):
        """What the script printed, byte for byte, on this node's disk: of the attempt in which it ran."""
        for path in (self.state / "tasks").glob(f"{task}.*"):
            if (path / "log").exists() and (path / "log").stat().st_size:
                return (path / "log").read_bytes()
        return b""

    def stored_log(self, task):
        """What the store has of it, in the order of arrival."""
        events = self.api.call("events.get_task_log", {"task": task, "after": 0, "batch_size": 100_000})["events"]
        return "".join(event["msg"] for event in events if event.get("stream") == "log").encode()

    def runs(self):
        """The pids of the scripts that ran."""
        return [int(line) for line in self.side.read_text().split()] if self.side.exists() else []

    def left(self):
        """The claims, and the intents of waiting pulls, that are open."""
        home = self.state / "active"
        return os.listdir(home) if home.exists() else []

    def left_claims(self):
        """The claims alone."""
        home = self.state / "active"
        return [name for name in self.left() if (home / name).is_symlink()]

    def files(self):
        """What stands on the disk, for a failing test's message."""
        home = self.state
        return "\n".join(f"{path.relative_to(home)}" + (f" -> {os.readlink(path)}" if path.is_symlink() else "")
                         for path in sorted([*home.glob("active/*"), *home.glob("tasks/*/*")]))

    def assert_ran_once(self, task):
        """It is completed, ran once, and the store has what it printed; nothing is left to recover."""
        assert self.status(task) == "completed", self.files()
        assert len(self.runs()) == 1, f"the script ran {len(self.runs())} times\n{self.files()}"
        assert self.own_log(task), "nothing was printed"
        assert self.stored_log(task) == self.own_log(task)
        assert self.left() == []


def wait_for(what, seconds=30, every=0.02):
    """Until what() is true: its value."""
    until = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(every)


def children(pid):
    """The processes below `pid`."""
    from agentpipe import processes
    return processes.descendants(pid)


def command_line(pid):
    """Its words; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def kill(pid, signum=signal.SIGKILL):
    """Signal a process that may be gone."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass
