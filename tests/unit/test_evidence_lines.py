"""The lines that a screen shows of the evidence are those of the error, with the task's own among them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import failing
import pytest

from agentpipe.task import why


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def shown(files: dict[str, str]) -> list[str]:
    failing.checkout(files)
    status, printed = failing.run("t.py")
    found: dict[str, Any] = {"evidence": printed, **failing.of(printed, "t.py", status=status)}
    return re.findall(r"^  \| (.*)", why.text({"task": failing.ID, "class": "script_failed", **found}), re.MULTILINE)


def test_what_is_printed_as_a_script_ends_does_not_hide_its_exception() -> None:
    lines = shown({"t.py": "import atexit\natexit.register(lambda: print('wandb: done\\n' * 30))\n{}['val_loss']\n"})
    assert "KeyError: 'val_loss'" in lines and "Traceback (most recent call last):" in lines
    assert len([line for line in lines if line.startswith("wandb")]) == 2


def test_an_exception_that_was_outlived_is_not_what_ended_a_script() -> None:
    lines = shown({"t.py": "import sys, traceback\ntry: {}['a']\nexcept KeyError: traceback.print_exc()\n"
                           "print('more\\n' * 30 + 'cannot go on', file=sys.stderr)\nsys.exit(3)\n"})
    assert lines[-1] == "cannot go on" and not any("KeyError" in line for line in lines)


def test_the_line_of_the_script_stands_among_those_of_a_library() -> None:
    library = str(Path(failing.paths.state("library")))
    Path(library).mkdir(parents=True)
    Path(library, "lib.py").write_text("def f(n):\n    if n == 0: return 1 / 0\n    return g(n)\ndef g(n):\n"
                                       "    return h(n)\ndef h(n):\n    return f(n - 1)\n")
    lines = shown({"t.py": f"import sys\nsys.path.insert(0, {library!r})\nimport lib\nlib.f(5)\n"})
    assert lines[0].endswith('code/t.py", line 4, in <module>') and lines[1].strip() == "lib.f(5)"
    assert lines[2] == "  …" and lines[-1] == "ZeroDivisionError: division by zero" and len(lines) == 12
