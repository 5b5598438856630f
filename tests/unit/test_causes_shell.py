"""What shells say of a line of a task's own script."""

from __future__ import annotations

import shutil
from pathlib import Path

import failing
import pytest


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(("text", "line", "said"), [
    ("for x in 1 2; do\n  echo $x\nif\n", 4, "yntax error"), ("set -e\n\n. venv/bin/activate\n", 3, "activate"),
    ("set -e\ncd nowhere\n", 2, "nowhere")])
def test_the_line_of_a_shell_script(shell: str, text: str, line: int, said: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    found = failing.told({"sub/run.sh": text}, "run.sh", "sub", shell)
    assert said in found["reason"] and f", at sub/run.sh:{line} (exit" in found["reason"]
    assert f"mend sub/run.sh:{line} in your checkout" in found["advice"]


def test_what_is_said_of_another_file_or_before_the_last_words_is_not_the_line() -> None:
    found = failing.told({"run.sh": "cd nowhere\nfor x in 1 2 3 4; do echo step $x; done\n"
                                    "echo \"cannot go on\" >&2\nexit 3\n"}, "run.sh", binary="bash")
    assert found["reason"] == "cannot go on, at run.sh:3 (exit 3)"
    warned = "run.sh: line 1: warning: setlocale: LC_ALL: cannot change locale (xx)\n"
    assert ", at run.sh" not in failing.of(warned, "run.sh", status=3)["reason"]
    assert "at /etc" not in failing.of("/etc/profile: line 3: x: No such file\n", "run.sh", status=1)["reason"]


def test_the_line_ends_of_windows() -> None:
    found = failing.told({"run.sh": "set -e\r\ncd /tmp\r\nls\r\n"}, "run.sh", binary="bash")
    assert found["reason"] == "run.sh has the line ends of Windows (CRLF) (exit 127)"
    folded = ": invalid optionset: -\n: No such file or directory\n"  # as a terminal shows them, in another locale
    assert failing.of(folded, "run.sh", status=127)["reason"] == found["reason"]
    assert failing.of(folded, "t.py", status=127) == {}
    assert found["advice"].startswith("sed -i 's/\\r$//' run.sh in your checkout, and there: agent-task edit 1f3c")


@pytest.mark.parametrize("text", ["if true; then\n  echo 1\nfi\n", "for x in 1 2\ndo\n  echo 1\ndone\n",
                                  "while false; do\n  :\ndone\n"])
def test_the_line_ends_of_windows_hide_words_of_a_shell(text: str) -> None:
    for shell in filter(shutil.which, ("bash", "dash")):
        found = failing.told({"run.sh": text.replace("\n", "\r\n")}, "run.sh", binary=shell)
        assert found["reason"] == "run.sh has the line ends of Windows (CRLF) (exit 2)"
    # one that is wrong by itself, beside another with such ends
    found = failing.told({"run.sh": "if true; then\n", "t.sh": "if\r\n"}, "run.sh", binary="bash")
    assert "yntax error" in found["reason"] and "CRLF" not in found["reason"]


def test_the_line_ends_of_windows_in_a_first_line() -> None:
    files = {"t.py": "import subprocess\nsubprocess.run(['./tool.py'], check=True)\n",
             "tool.py": "#!/usr/bin/env python3\r\nprint(1)\r\n"}
    (failing.checkout(files) / "tool.py").chmod(0o755)
    assert failing.told(files, "t.py")["reason"] == "tool.py has the line ends of Windows (CRLF) (exit 1)"
    other = {**files, "also.py": files["tool.py"]}  # which?
    assert "CRLF" not in failing.told(other, "t.py")["reason"]


def test_a_program_of_the_repository_that_git_does_not_know_as_one() -> None:
    for files, entry, binary in (({"run.sh": "./tool.sh\n"}, "run.sh", "bash"),
                                 ({"t.py": "import subprocess\nsubprocess.run('./tool.sh')\n"}, "t.py", "python3")):
        found = failing.told({**files, "tool.sh": "#!/bin/sh\n"}, entry, binary=binary)
        assert found["reason"].startswith("tool.sh is not executable in git (exit ")
        assert found["advice"] == ("chmod +x tool.sh in your checkout, and there: agent-task edit 1f3c --checkout . && "
                                   "agent-task enqueue 1f3c")
    # nor is one that is, and stands where nothing may be executed
    (failing.checkout({}) / "tool.sh").chmod(0o755)
    found = failing.of("run.sh: line 1: ./tool.sh: Permission denied\n", "run.sh", status=126)
    assert "not executable" not in found["reason"]


def test_a_mistyped_python_script_in_a_shell_script() -> None:
    module = {"run.sh": "echo 1\npython3 -m pkg.trian --x\n", "pkg/train.py": ""}
    found = failing.told(module, "run.sh", binary="bash")
    assert found["reason"] == "there is no pkg.trian; pkg.train may be meant, at run.sh:2 (exit 1)"
    found = failing.told({"run.sh": "python3 -m nothing_of_this_name\n"}, "run.sh", binary="bash")
    assert "No module named nothing_of_this_name" in found["reason"]
    files = {"run.sh": "echo 1\npython3 trian.py \"$@\"\n", "train.py": "print(1)\n"}
    found = failing.told(files, "run.sh", binary="bash")
    assert found["reason"] == "there is no trian.py; train.py may be meant, at run.sh:2 (exit 2)"
    assert "mend run.sh:2" in found["advice"]


def test_the_line_of_a_program_that_says_what_it_was_given() -> None:
    text = "set -e\ntouch x\ncp nosuch.txt x\ncp x y\n"
    found = failing.told({"train.sh": text}, "train.sh", binary="bash")
    assert found["reason"] == "cp: cannot stat 'nosuch.txt': No such file or directory, at train.sh:3 (exit 1)"
    # of two calls it may be either
    found = failing.told({"train.sh": text + text}, "train.sh", binary="bash")
    assert found["reason"] == "cp: cannot stat 'nosuch.txt': No such file or directory (exit 1)"
    assert "; once it is mended, in its checkout: agent-task edit 1f3c --checkout . && " in found["advice"]


def test_the_line_of_an_exit_that_runs_no_handlers() -> None:
    assert ", at t.py:2 (exit 3)" in failing.told({"t.py": "import os\nos._exit(3)\n"}, "t.py")["reason"]
