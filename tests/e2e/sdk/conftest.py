"""The real clearml package against a real agent-server, both as processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import hung
import pytest
import requests

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# where the folder itself is: the scripts of an environment name it, and a link to it may be gone before it is
ENVIRONMENTS = (ROOT / ".cache" / "tests" / "clearml").resolve()
# of a script (s)
LIMIT = 400
# a thread reports, not a fork of the process: the package forks while another thread of it starts git, whose pipes
# the fork then keeps open for ever
CONF = """
api {{
    api_server: "{api_server}"
    web_server: "{api_server}"
    files_server: "{files_server}"
    credentials {{ "access_key" = "{access_key}", "secret_key" = "{secret_key}" }}
}}
sdk {{ development {{
    report_use_subprocess: {fork}
    vcs_repo_detect_async: {threads}
    worker {{ report_period_sec: 0.5, ping_period_sec: 1 }}
}} }}
agent {{
    venvs_dir: "{home}/venvs"
    git_clone {{ }}
    package_manager {{ type: pip, system_site_packages: true }}
}}
"""


# files whose tests take long: one of them that begins last would be waited for alone
LONG = ("test_supervisor", "test_agent", "test_pipelines", "test_models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def clean_environment() -> dict[str, str]:
    """Nothing of the caller's settings of ClearML, agents and Python; what all homes share is the tests' own."""
    return {name: value for name, value in os.environ.items() if name == "AGENT_MACHINE_DIR"
            or not name.startswith(("AGENT_", "CLEARML_", "TRAINS_", "PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture(scope="session", autouse=True)
def machine_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No home of another user's run, or of another run of ours, is seen."""
    os.environ["AGENT_MACHINE_DIR"] = str(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="session")
def sdk_python() -> str:
    """The interpreter that has the package and no more than that needs, which starts in half the time."""
    return interpreter("plain")


@pytest.fixture(scope="session")
def examples_python() -> str:
    """The one that has what ClearML's examples use too; a file of tests takes it as its sdk_python."""
    return interpreter("examples")


def interpreter(name: str) -> str:
    """Python of an environment with the packages in NAME.txt, which is kept between runs."""
    from filelock import FileLock
    folder, needed = ENVIRONMENTS / name, HERE / f"{name}.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "".join(path.read_text() for path in (HERE / "plain.txt", needed))
    with FileLock(f"{folder}.lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            packages = ["-r", str(needed)]
            uv = subprocess.run([sys.executable, "-m", "uv", "pip", "install", "-q", "-p", python, *packages])
            if uv.returncode:
                subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
            stamp.write_text(wanted)
        _put_into(next(folder.glob("lib/python*/site-packages")))
    return str(python)


def _put_into(packages: Path) -> None:
    """in_sdk_python.py, imported at the start of each process; Debian's Python has a sitecustomize.py already."""
    for name, text in (("agentpipe_sdk_tests.py", (HERE / "in_sdk_python.py").read_text()),
                       ("agentpipe_sdk_tests.pth", "import agentpipe_sdk_tests\n")):
        path = packages / name
        if not path.exists() or path.read_text() != text:
            new = packages / f"{name}.new"
            new.write_text(text)
            new.replace(path)


class Server:
    """A running agent-server, and its API as an administrator of the test sees it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.errors = home / "stderr"
        self.said: dict[str, str] = {}
        self.start()
        self.conf = home / "clearml.conf"
        self.conf.write_text(CONF.format(home=home, fork="false", threads="true", **self.said))
        # as the package reports where nothing is configured, but without the race of the comment above
        self.forking = home / "forking.conf"
        self.forking.write_text(CONF.format(home=home, fork="true", threads="false", **self.said))
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer " + self.login()

    def start(self, again: bool = False) -> None:
        """The process; `again`: at the addresses of the one before."""
        ports = [self.said[name].rpartition(":")[2] if again else "0" for name in ("api_server", "files_server")]
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agentpipe.cmds.agent_server", "--json", "--port", ports[0],
                 "--files-port", ports[1]], stdout=subprocess.PIPE, stderr=errors,
                env={**clean_environment(), "AGENT_HOME": str(self.home / "agent"), "USER": "tester"})
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        self.said |= json.loads(line)

    def login(self) -> str:
        answer = requests.post(self.said["api_server"] + "/auth.login",
                               auth=(self.said["access_key"], self.said["secret_key"]), timeout=30)
        return answer.json()["data"]["token"]

    def __call__(self, endpoint: str, **body: object) -> dict:
        answer = self.session.post(f"{self.said['api_server']}/v2.34/{endpoint}", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def task(self, id: str) -> dict:
        return self("tasks.get_by_id", task=id)["task"]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory):
    """One server for all tests of a worker."""
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    assert found.stop() == 0
    said = found.errors.read_text()
    assert "bug of ours" not in said, said
    assert found.said["secret_key"] not in said


class Finished:
    """What a script printed; `said` are its lines `name=JSON`."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.said = {name: json.loads(value) for name, value in re.findall(r"^(\w+)=(.+)$", output, re.MULTILINE)
                     if _is_json(value)}

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        assert name in self.said, f"{name} was not printed:\n{self.output}"
        return self.said[name]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


SAY = """
import json as _json
def say(**values):
    for name, value in values.items():
        print(name + "=" + _json.dumps(value, default=str), flush=True)
"""


class Hung(AssertionError):
    """A script that did not end, and what its processes waited for."""


@pytest.fixture
def run(sdk_python: str, server: Server, tmp_path: Path):
    """Run a script of a user with the real package; it must exit 0 unless `code` says otherwise.

    One that `forks` gets a second try when it hangs: a child of a process with the package's threads may have got a
    lock that nobody in it will ever give back.
    """
    def work(text: str, *arguments: str, name: str = "script.py", code: int = 0, forks: bool = False,
             **environment: str) -> Finished:
        path = tmp_path / name
        path.write_text(SAY + text)
        argv = [sdk_python, str(path), *arguments]
        if forks:
            try:
                return command(argv, code, LIMIT // 2, **environment)
            except Hung:
                pass
        return command(argv, code, LIMIT // 2 if forks else LIMIT, **environment)

    def command(argv: list[str], code: int = 0, limit: int = LIMIT, **environment: str) -> Finished:
        # files, no pipes: what the package has started may outlive the script and hold them open
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(argv, cwd=tmp_path, stdout=output, stderr=errors, env={
                **clean_environment(), "HOME": str(tmp_path), "CLEARML_CONFIG_FILE": str(server.conf),
                "PATH": f"{os.path.dirname(sdk_python)}:{os.environ['PATH']}", **environment})
            said = ""
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                said = f"it did not end within {limit} s\n{hung.tell(process.pid)}\n"
                hung.kill(process.pid)
                process.wait()
            for file in (output, errors):
                file.seek(0)
                said += file.read().decode("utf-8", "replace")
        if said.startswith("it did not end"):
            raise Hung(said)
        assert process.returncode == code, said
        return Finished(said)
    work.command = command  # type: ignore[attr-defined]
    return work
