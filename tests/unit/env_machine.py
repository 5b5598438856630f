"""A machine of its own for tests of environments: a home, a local package index, tasks. No network.

Many tests start it in processes of their own: nothing is imported here that a stage has no use for.
"""

import os
import subprocess

from agentpipe.cmds import agent_env
from agentpipe.job import Job


class Machine:
    """`task(pip, …)` prepares a task's environment as agent-env does; `said` is what its log shows."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.index = os.path.join(self.folder, "index")
        self.said = []

    def job(self, pip=None, binary="python3", files=(), options=None, working_dir=".", entry_point="train.py",
            requirements=None, **line):
        directory = os.path.join(self.folder, "home", "state", "tasks", f"{os.urandom(4).hex()}.1")
        code = os.path.join(directory, "code")
        os.makedirs(code)
        for name, text in dict(files).items():
            os.makedirs(os.path.dirname(os.path.join(code, name)), exist_ok=True)
            with open(os.path.join(code, name), "w") as file:
                file.write(text)
        script = {"binary": binary, "requirements": requirements or ({} if pip is None else {"pip": pip}),
                  "working_dir": working_dir, "entry_point": entry_point}
        return Job({"task": {"script": script}, "fetch": {"code": code}, **line}, directory, options or {},
                   echo=self.said.append)

    def task(self, pip=None, **rest):
        return agent_env.work(self.job(pip, **rest))

    def envs(self):
        folder = os.path.join(self.folder, "home", "cache", "envs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def builds(self):
        return [name for name in self.envs() if name.rpartition(".")[2].isdigit()]

    def base(self, env):
        folder = os.path.join(self.folder, "home", "cache", "envs")
        return os.path.join(folder, os.readlink(os.path.join(folder, env["base"])))


def run(env, *argv, **more):
    """The output of a program in a task's environment, as agent-run would start it."""
    path = os.pathsep.join([*env["path"], os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": env["overlay"], **more}
    done = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode().strip()


def python(env, code, **more):
    return run(env, env["python"], "-c", code, **more)


def tree(folder):
    """{path: content or link} of a folder, byte-code left out."""
    found = {}
    for here, names, files in os.walk(folder):
        names[:] = [name for name in names if name not in ("__pycache__", "users")]
        for name in files:
            path = os.path.join(here, name)
            if os.path.islink(path):
                found[os.path.relpath(path, folder)] = os.readlink(path)
            else:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, folder)] = file.read()
    return found
