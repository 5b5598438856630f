"""What a script will import is compiled ahead of it, beside the environment's packages, and nothing else is."""

import marshal
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wheelhouse

from agentpipe.environment import bytecode, compile_ahead
from agentpipe.place import own_cgroups


@pytest.mark.parametrize(("text", "package", "names"), [
    ("import a, b.c as d  # e", [], ["a", "b.c"]),
    ("    from a import b as c, d", [], ["a", "a.b", "a.d"]),
    ("from a import (b,  # first\n    c as d,\n)", [], ["a", "a.b", "a.c"]),
    ("from . import b", ["a"], ["a", "a.b"]),
    ("from ..b import c", ["a", "d"], ["a.b", "a.b.c"]),
    ("from a import *\nimport_me = 'import b'", [], ["a"]),
])
def test_what_a_text_imports(text, package, names):
    assert compile_ahead.imports(text, package) == names


@pytest.mark.parametrize("text", ["from " + "." * 60_000, "from a import (\n" * 40_000])
def test_no_text_takes_more_than_moments(text):
    begin = time.process_time()
    compile_ahead.imports(text, [])
    assert time.process_time() - begin < 4


def test_it_does_not_live_for_ever(waiting):
    assert waiting(LONGEST_S=1).wait(30) == -signal.SIGALRM


@pytest.fixture
def waiting(tmp_path):
    """waiting(**texts): a process that compiles and waits for the script's text; texts replace others in its source."""
    os.mkfifo(tmp_path / "script.py")
    with open(compile_ahead.__file__, encoding="utf-8") as file:
        source = file.read()
    started = []

    def start(**changed):
        code = source
        for name, value in changed.items():
            code, count = re.subn(f"^{name} = .*$", f"{name} = {value}", code, flags=re.M)
            assert count == 1
        started.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", code, str(tmp_path), "0",
                                         str(tmp_path / "script.py")], start_new_session=True))
        return started[0]
    yield start
    for process in started:
        process.kill()
        process.wait()


def test_it_takes_only_what_all_others_leave_idle(waiting, tmp_path):
    process = waiting()
    with open(tmp_path / "script.py", "w"):  # it has come as far as to read it
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
        if os.path.exists("/proc/self/autogroup"):  # else the kernel knows no groups of sessions
            with open(f"/proc/{process.pid}/autogroup") as file:
                assert file.read().endswith("nice 19\n")
    assert process.wait(30) == 0


@pytest.fixture
def started(machine, monkeypatch):
    """started(script, processors): the processes that compile, once they are over, and the base's folder."""
    wheelhouse.wheel(machine.index, "rich", "1.0", files={
        "rich/__init__.py": "from . import used\n", "rich/used.py": "import rich.deep\n", "rich/deep.py": "",
        "rich/unused.py": "", "rich/broken.py": "def"})
    seen = []
    real = bytecode.ahead
    monkeypatch.setattr(bytecode, "SMALL", 0)
    monkeypatch.setattr(bytecode, "ahead", lambda *words: seen.extend(real(*words)))

    def start(script, processors=2):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
        env = machine.task("milk\nrich", files={"train.py": script, "helper.py": "import rich\n"},
                           patch={"entry_point": "train.py", "working_dir": "."})
        assert all(process.wait(60) == 0 for process in seen)
        return seen, machine.base(env)
    return start


def compiled(base):
    """The modules of milk and rich that have byte-code."""
    found = subprocess.run(["find", f"{base}/lib", "-name", "*.pyc"], stdout=subprocess.PIPE,
                           check=True, text=True).stdout.split()
    names = [path.partition("site-packages/")[2].replace("__pycache__/", "").partition(".")[0] for path in found]
    return sorted(name for name in names if name.startswith(("milk/", "rich/")))


def test_what_the_script_imports_and_what_that_imports(started, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # is said to our own Python: no script gets it
    processes, base = started("import rich\nimport os, nowhere\nfrom rich import broken\n")
    assert len(processes) == 1
    assert compiled(base) == ["rich/__init__", "rich/deep", "rich/used"]


def test_a_script_that_tells_nothing_gets_what_was_asked_for(started):
    processes, base = started("print()\n", processors=3)
    assert len(processes) == 2
    assert compiled(base) == ["milk/__init__", "rich/__init__", "rich/deep", "rich/used"]


def test_nothing_of_the_packages_is_executed_and_nothing_of_ours_is_told_to_it(started, machine, monkeypatch):
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "0123456789abcdef")
    told = f"{machine.folder}/told"
    site = f"import os, sys; '-c' in sys.orig_argv and open({told!r}, 'a').write(str(os.environ))\n"
    wheelhouse.wheel(machine.index, "milk", "2.0", files={"milk.pth": site, "sitecustomize.py": site})
    _, base = started("import milk\n")
    assert "milk/__init__" in compiled(base)
    assert not os.path.exists(told)
    subprocess.run([f"{base}/bin/python", "-c", ""], check=True)
    assert os.path.exists(told), "an ordinary Python does execute it"


def test_the_checkout_stays_as_it_is(started, machine):
    _, base = started("import helper\n")
    assert "rich/used" in compiled(base)
    assert [here for here, _, _ in os.walk(machine.folder) if here.endswith("code/__pycache__")] == []


def test_the_only_processor_is_the_scripts(started):
    processes, base = started("import rich\n", processors=1)
    assert (processes, compiled(base)) == ([], [])


def test_the_only_processor_of_a_quota_is_the_scripts(started, tmp_path, monkeypatch):
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(own_cgroups, "MOUNT", str(tmp_path))
    monkeypatch.setattr(own_cgroups, "OWN", str(tmp_path / "cgroup"))
    processes, base = started("import rich\n", processors=64)
    assert (processes, compiled(base)) == ([], [])


@pytest.fixture
def site(tmp_path):
    """A folder with two modules, of which the script's imports the other."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "first.py").write_text(f"import second\n{LONG}")
    (folder / "second.py").write_text(LONG)
    return folder


LONG = "words = [" + "'word', 1, " * 2000 + "]\n"


def compile_in(site, *words, **options):
    """Compile `first` and what it imports, by a process of its own; what stands in __pycache__ then."""
    subprocess.run([sys.executable, "-I", "-S", "-c", Path(compile_ahead.__file__).read_text(), str(site), "0", "",
                    "first", *words], check=True, **options)
    folder = site / "__pycache__"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_what_cannot_be_written_to_its_end_is_not_put_into_place(site):
    limit = len(marshal.dumps(compile(LONG, "", "exec"))) // 2  # of a file, as a full disk: a write comes back short

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    assert compile_in(site, preexec_fn=full) == []
    assert [name.partition(".")[0] for name in compile_in(site)] == ["first", "second"]


def test_a_disk_with_little_room_is_left_to_others(site, monkeypatch):
    monkeypatch.setattr(compile_ahead, "ROOM", 1 << 70)
    compile_ahead.main(str(site), "0", "", "first")
    assert sorted(os.listdir(site)) == ["first.py", "second.py"]
