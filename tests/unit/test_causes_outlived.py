"""Words of an error that stand in a log, and that the script has outlived, are no cause of its end."""

from __future__ import annotations

import time
from pathlib import Path

import failing
import pytest

from agentpipe.task import causes, code_lines

FRAME = 'Traceback (most recent call last):\n  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>\n    f()\n'
END = f"{FRAME}ValueError: bad learning rate"
TOLD = "ValueError: bad learning rate, at t.py:2 (exit 1)"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


@pytest.mark.parametrize("before", [
    "run.sh: line 2: nvidia-smi: command not found", "run.sh: line 1: ./tool.sh: Permission denied",
    "run.sh: line 3: DEBUG: unbound variable", "cat: cache.txt: No such file or directory",
    "CUDA out of memory. Tried to allocate 2.00 GiB; half the batch now", "UserWarning: Found no NVIDIA driver",
    "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.2", "no cache: No space left on device",
    "the DataLoader may run out of shared memory", "ModuleNotFoundError: No module named 'apex'",
    "PermissionError: [Errno 13] Permission denied: '/root/.cache'", "MemoryError",
    "usage: other [-h]\nother: error: unrecognized arguments: --fast", "ERROR: Cannot find key: x\nUsage: other"])
def test_what_was_printed_before_an_exception_is_not_its_cause(before: str) -> None:
    failing.checkout({"t.py": "", "tool.sh": ""})
    assert failing.of(f"{before}\nand on\n{END}\n", "t.py")["reason"] == TOLD


def test_what_was_printed_before_an_exception_that_speaks_of_it_is_the_cause() -> None:
    found = failing.of("i.cu:9: nll_loss: block: [0,0,0] Assertion `t >= 0` failed.\n"
                       f"{FRAME}RuntimeError: CUDA error: device-side assert triggered", "t.py")
    assert "a label is below 0" in found["reason"]
    found = failing.of(f"sh: 1: jq: not found\n{FRAME}RuntimeError: Command `jq .` failed: exit status 127", "t.py")
    assert found["reason"].startswith("there is no program jq")
    ignored = "Exception ignored in: <function f>\nTraceback (most recent call last):\n  File \"x\", line 1\nOSError: 1"
    found = failing.of(f"ModuleNotFoundError: No module named 'six'\n{ignored}\n", "t.py")
    assert found["reason"] == "the module six is not installed (exit 1)"


def test_an_exception_long_before_an_end_of_another_kind_is_not_it() -> None:
    epochs = "".join(f"epoch {number}\n" for number in range(9))
    printed = (f"{FRAME}ConnectionError: HTTPSConnectionPool(host='a.b', port=443): Max retries exceeded\n"
               f"{epochs}diverged\n")
    assert failing.of(printed, "t.py", status=3)["reason"] == "diverged (exit 3)"
    assert failing.of(printed, "t.py")["reason"].startswith("a.b:443 does not answer")  # lines of what runs at the end
    for word in ("curl: (6) Could not resolve host: a.b", "python3: can't open file 'warm.py': [Errno 2] No such file "
                 "or directory", "run.sh: line 1: jq: command not found"):
        failing.checkout({"run.sh": "python3 warm.py\n"})
        found = failing.of(f"{word}\n{epochs}{epochs}cannot go on\n", "run.sh", status=3)
        assert found["reason"] == "cannot go on (exit 3)"


@pytest.mark.parametrize("said", [
    "ValueError: model: resnet51: not found", "AssertionError: Read timed out is to be tried again",
    "ValueError: Connection refused is no answer"])
def test_an_exception_of_the_code_is_no_program_and_no_network(said: str) -> None:
    assert failing.of(FRAME + said, "t.py")["reason"] == f"{said}, at t.py:2 (exit 1)"


def test_a_line_of_any_length_is_read_at_once() -> None:
    failing.checkout({"t.py": "", "c.json": "{"})
    began = time.process_time()
    text = FRAME + "ValueError: '" + "\\'a" * 100_000
    task = {"id": failing.ID, "script": {"entry_point": "t.py", "repository": "https://git.example.org/r.git"}}
    # of clearml-agent's tasks it comes from the server, whole
    found = causes.of_script(task, {"class": "script_failed", "reason": "exit 1", "evidence": text})
    assert found["reason"].startswith("ValueError: ") and found["reason"].endswith(" …, at t.py:2 (exit 1)")
    assert code_lines.texts("'" + "\\'a" * 100_000) == []
    assert time.process_time() - began < 5  # s; it was minutes
