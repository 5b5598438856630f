"""What the last lines of a script tell, also of causes that are hard to seed on a test's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentpipe import causes, error_lines, task_diff, task_params, task_plot


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def told(evidence: str, entry: str = "train.py", end: str = "script_failed", **task: Any) -> dict[str, Any]:
    script = {"entry_point": entry, "repository": "https://git.example.org/r.git", "working_dir": "."}
    return causes.of_script({"id": "1f3c", "script": script, **task},
                            {"class": end, "reason": "exit 1", "evidence": evidence})


@pytest.mark.parametrize(("entry", "change"), [
    ("train.py --batch-size 64", "Args/batch-size=32"), ("train.py --bs=3 --lr 1", "Args/bs=1"),
    ("train.py --train_batch_size 8", "Args/train_batch_size=4")])
def test_a_gpu_without_memory_gets_half_the_batch(entry: str, change: str) -> None:
    found = told("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", entry)
    assert found["reason"].startswith("the GPU's memory ran out")
    assert found["remedy"] == f"agent-task edit 1f3c --set {change} && agent-task enqueue 1f3c"


def test_the_batch_may_stand_among_the_hyperparameters_and_without_one_there_are_words() -> None:
    given = {"Args": {"batch_size": {"value": "10"}}}
    assert "--set Args/batch_size=5 " in told("MemoryError", hyperparams=given)["remedy"]
    assert "--set Args/batch_size=5 " in told("", end="out_of_memory", hyperparams=given)["remedy"]
    assert told("MemoryError")["remedy"] is None and "more memory" in told("MemoryError")["advice"]
    assert told("", end="out_of_memory") == {}


@pytest.mark.parametrize(("evidence", "reason", "words"), [
    ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
     "this machine lacks the library libGL.so.1", "install the system package"),
    ("main.sh: line 3: ffmpeg: command not found", "there is no program ffmpeg", "install ffmpeg there"),
    ("sh: 1: jq: not found", "there is no program jq", "--docker IMAGE"),
    ("train.py: error: the following arguments are required: --data", "the script wants --data", "-- --data"),
])
def test_what_the_machine_lacks_is_said_in_words(evidence: str, reason: str, words: str) -> None:
    found = told(evidence)
    assert found["reason"].startswith(reason) and words in found["advice"] and found["remedy"] is None


@pytest.mark.parametrize("evidence", [
    "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.",
    "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.0 as it may crash.",
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility."])
def test_code_for_the_former_numpy_gets_it(evidence: str) -> None:
    assert "--package 'numpy<2'" in told(evidence)["remedy"]


def test_what_is_not_known_is_left_alone() -> None:
    assert told("Traceback (most recent call last):\nValueError: no") == {}
    assert told("ModuleNotFoundError: No module named 'x'", end="setup_failed") == {}


def test_lines_that_tell_of_errors_and_the_whole_of_a_traceback() -> None:
    lines = [b"epoch 1\n", b"validation error: 0.21\n", b"0 errors, 3 warnings\n",
             b"Traceback (most recent call last):\n", b'  File "x.py", line 1\n', b"    f()\n", b"KeyError: 1\n",
             b"epoch 2\n", b"CUDA_ERROR_LAUNCH_FAILED error\n", b"Killed\n", b"mean_error=3\n"]
    finder = error_lines.Finder()
    assert [line for each in lines for line in finder.feed(each)] == [*lines[3:7], *lines[8:10]]


@pytest.mark.parametrize(("text", "wanted"), [
    ("Args/lr=0.1", ("Args", "lr", "0.1")), ("lr=0.1", ("Args", "lr", "0.1")), ("a/b/c=d=e", ("a", "b/c", "d=e")),
    ("General/note=", ("General", "note", ""))])
def test_a_parameter_is_its_section_its_name_and_all_behind_the_first_equals_sign(text: str, wanted: Any) -> None:
    assert task_params.parsed(text) == wanted


def test_a_value_is_given_where_the_option_stands_and_nowhere_else() -> None:
    said: list[str] = []
    task = {"script": {"entry_point": "train.py --lr 0.1 --verbose --batch-size=3 lr"}, "hyperparams": {}}
    sections, entry = task_params.changed(task, ["lr=0.2", "batch_size=4", "verbose=1", "General/x=y"], said.append)
    assert entry == "train.py --lr 0.2 --verbose --batch-size=4 lr"
    assert sections["General"]["x"] == {"section": "General", "name": "x", "type": "", "value": "y"}
    assert [line.split(" ")[0] for line in said] == ["Args/verbose", "General/x"]


def test_a_difference_is_named_by_a_package_a_file_or_an_argument_but_not_by_a_part_of_a_word() -> None:
    assert task_diff.names("numpy 1.26 → 2.1", "module 'numpy' has no attribute 'float'")
    assert task_diff.names("pkg/data.py: +1 -0 → +2 -0", 'File "/x/code/pkg/data.py", line 3')
    assert task_diff.names("--lr 0.1 → 0.2", "ValueError: lr must be positive") is False  # two letters are in too much
    assert not task_diff.names("six 1.16 → 1.17", "sixteen things went wrong")


def test_a_chart_of_one_point_and_of_a_flat_line_is_drawn() -> None:
    one = task_plot.chart("loss", {"a": {"x": [5], "y": [1.5]}}, 20, 4)
    flat = task_plot.chart("loss", {"a": {"x": [0, 9], "y": [2.0, 2.0]}}, 20, 4, dots=False)
    assert "loss: a 1.5" in one and any(char > "⠀" for char in one)
    assert flat.count("*") == 20


def test_a_version_that_the_sdk_writes_with_blanks_is_no_other_version():
    assert task_diff._packages(["clearml == 2.1.12", "six==1.16.0"], ["clearml==2.1.12", "six==1.17.0"]) == [
        ("~", "six 1.16.0 → 1.17.0")]
