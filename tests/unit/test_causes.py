"""What the last lines of a script tell, also of causes that are hard to seed on a test's machine."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentpipe import errors, paths
from agentpipe.code import notebook
from agentpipe.run import launch
from agentpipe.task import causes, compare, error_lines, evidence_lines, params, plot, times, typeable, view, why
from agentpipe.transport import api


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def told(evidence: str, entry: str = "train.py", end: str = "script_failed", **task: Any) -> dict[str, Any]:
    script = {"entry_point": entry, "repository": "https://git.example.org/r.git", "working_dir": "."}
    return causes.of_script({"id": "1f3c", "script": script, **task},
                            {"class": end, "reason": "exit 1", "evidence": evidence})


@pytest.mark.parametrize(("entry", "change"), [
    ("train.py --batch-size 64", "Args/batch-size=32"), ("train.py --bs=3 --lr 1", "Args/bs=1"),
    ("train.py --train_batch_size 8", "Args/train_batch_size=4"),
    ("train.py -bs 64 --lr 1", "'train.py -bs 32 --lr 1'"), ("train.py -bs=64", "'train.py -bs=32'")])
def test_a_gpu_without_memory_gets_half_the_batch(entry: str, change: str) -> None:
    option = "--set" if change.startswith("Args/") else "--entry-point"
    found = told("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", entry)
    assert found["reason"].startswith("the GPU's memory ran out")
    assert found["remedy"] == f"agent-task edit 1f3c {option} {change} && agent-task enqueue 1f3c"


def test_the_batch_may_stand_among_the_hyperparameters_and_without_one_there_are_words() -> None:
    given = {"Args": {"batch_size": {"value": "10"}}}
    assert "--set Args/batch_size=5 " in told("MemoryError", hyperparams=given)["remedy"]
    assert "--set Args/batch_size=5 " in told("", end="out_of_memory", hyperparams=given)["remedy"]
    assert told("MemoryError")["remedy"] is None and "more memory" in told("MemoryError")["advice"]
    assert told("", end="out_of_memory") == {}


@pytest.mark.parametrize(("arguments", "twice"), [
    ("-m 64m", "-m 128m"), ("--memory=64m --memory-swap 64m -e A=b", "--memory=128m --memory-swap 128m -e A=b"),
    ("-e A=b --memory 1.5g --memory-swap=-1", "-e A=b --memory 3g --memory-swap=-1"),
    ("-m64m -e X_TOKEN=secret-1", "-m128m -e 'X_TOKEN=********'"), ("--memory-reservation 64m", ""),
    ("--memory 4294967296", "--memory 8589934592")])
def test_a_container_that_ran_out_of_what_its_task_gave_it_gets_twice_as_much(arguments: str, twice: str) -> None:
    reason = "killed by the kernel for lack of memory (limit 64.0 MiB, peak 64.0 MiB)"
    found = causes.of_script({"id": "1f3c", "container": {"image": "a", "arguments": arguments}},
                             {"class": "out_of_memory", "reason": reason, "evidence": ""})
    if not twice:
        assert found.get("remedy") is None and "agent.extra_docker_arguments" in found["advice"]
    else:
        assert shlex.split(found["remedy"])[:5] == ["agent-task", "edit", "1f3c", "--docker-args", twice]
        assert found["reason"] == reason


@pytest.mark.parametrize(("evidence", "reason", "words"), [
    ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
     "this machine lacks the library libGL.so.1", "install the system package"),
    ("main.sh: line 3: ffmpeg: command not found", "there is no program ffmpeg", "install ffmpeg there"),
    ("sh: 1: jq: not found", "there is no program jq", "--docker IMAGE"),
    ("train.py: error: the following arguments are required: --data", "the script wants --data",
     "--entry-point 'train.py --data …' && agent-task enqueue 1f3c"),
    ("  File \"/py/subprocess.py\", line 1, in _execute_child\n"
     "FileNotFoundError: [Errno 2] No such file or directory: 'sox'", "there is no program sox", "install sox there"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/mnt/x/y.csv'", "there is no /mnt/x/y.csv on node:0",
     "put it there"),
    ("PermissionError: [Errno 13] Permission denied: '/mnt/x y'", "the user that it runs as may not use /mnt/x y",
     "on node:0: ls -ld '/mnt/x y'"),
    ("sh: 1: cannot create /mnt/x: Permission denied", "the user that it runs as may not use /mnt/x", "ls -ld /mnt/x"),
])
def test_what_the_machine_lacks_is_said_in_words(evidence: str, reason: str, words: str) -> None:
    found = told(evidence, last_worker="node:0")
    assert found["reason"].startswith(reason) and words in found["advice"] and found["remedy"] is None


@pytest.mark.parametrize(("evidence", "reason", "what"), [
    ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
     "the image i:1 lacks the library libGL.so.1", "the system package with libGL.so.1"),
    ("sh: exec: line 7: bash: not found", "there is no program bash in the image i:1", "bash")])
def test_what_an_image_lacks_is_no_matter_of_the_worker(evidence: str, reason: str, what: str) -> None:
    found = told(evidence, container={"image": "i:1"})
    assert found["reason"].startswith(reason)
    assert found["advice"].startswith(f"install {what} by a set-up script (agent-task edit 1f3c --setup-script TEXT), "
                                      "or run it in an image that has it: agent-task edit 1f3c --docker IMAGE; then ")


HOSTILE = "x; touch pwned; $(touch pwned)"


@pytest.mark.parametrize("evidence", [
    f"FileNotFoundError: [Errno 2] No such file or directory: '/data/{HOSTILE}/f'",
    f"ModuleNotFoundError: No module named '{HOSTILE}'",
    f"t.py: error: the following arguments are required: {HOSTILE}",
    f'  File "/x/t.py", line 1, in <module>\n    os.environ[x]\n    ~~^\nKeyError: \'{HOSTILE}\'',
])
def test_what_a_script_printed_is_one_word_of_a_command(evidence: str, tmp_path: Path) -> None:
    found = told(evidence, container={"image": "i"}, script={"entry_point": "t.py", "requirements": {"pip": HOSTILE}})
    said = f"{found['remedy'] or ''}\n{found['advice'] or ''}"
    commands = re.findall(r"agent-task (?:edit|clone) .*?(?=\), or|; then |; where other |$)", said, re.MULTILINE)
    assert commands
    for command in commands:
        subprocess.run(["sh", "-c", command], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True,
                       check=False)
    assert not (tmp_path / "pwned").exists()


def test_a_package_that_its_environment_never_got_is_told_as_that(tmp_path: Path) -> None:
    said = "ModuleNotFoundError: No module named 'numpy'"
    asked = {"requirements": {"pip": "numpy==1.26\n"}, "entry_point": "train.py"}
    directory = Path(paths.state("tasks")) / "1f3c.1"
    for packages, words in ((["numpy==1.26"], "though numpy is"), ([], "its environment was made without numpy")):
        directory.mkdir(parents=True, exist_ok=True)
        line = {"manifest": 1, "task": {"id": "1f3c"}, "env": {"packages": packages}}
        (directory / "manifest.json").write_text(json.dumps(line))
        found = causes.of_script({"id": "1f3c", "script": asked},
                                 {"class": "script_failed", "reason": "exit 1", "evidence": said})
        assert words in found["reason"]
    assert "AGENT_STAGE_ENV" in found["advice"] and found["remedy"] is None


def _attempt(**files: str) -> Path:
    """The checkout of a run of task 1f3c on this machine, with these files (`__` in a name is a slash, `_py` .py)."""
    code = Path(paths.state("tasks")) / "1f3c.1" / "code"
    for name, text in files.items():
        path = code / name.replace("__", "/").replace("_py", ".py").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return code


NO_MODULE = '  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>\nModuleNotFoundError: No module named '


@pytest.mark.parametrize(("module", "files", "meant"), [
    ("utls", ("utils",), "utils"), ("utls", ("utils", "utlas"), ""), ("utls", ("outls",), ""),
    ("utls", ("utlas_x",), ""), ("dill", ("drill",), ""), ("code", ("coder",), "")])
def test_a_short_module_is_that_of_the_tasks_own_that_has_a_letter_more(module: str, files: tuple[str, ...],
                                                                        meant: str) -> None:
    _attempt(t_py="", **{f"{name}_py": "" for name in files})
    script = {"entry_point": "t.py", "repository": "https://git.example.org/r.git"}
    reason = told(f"{NO_MODULE}'{module}'", script=script)["reason"]
    assert reason.partition(" is not installed; ")[2].partition(" may be meant")[0] == meant


@pytest.mark.parametrize(("module", "meant"), [
    ("torchh", "torch"), ("nupmy", "numpy"), ("nunpy", "numpy"), ("argprase", "argparse"),
    ("rnadom", "random"), ("pil", "PIL"), ("pyyaml", "yaml"),
    ("opencv", "cv2"), ("oursx", "ours"), ("deep.modle", "deep.model"), ("leafs", "leaf")])
def test_a_mistyped_module_is_named_and_no_stranger_is_installed_for_it(module: str, meant: str) -> None:
    _attempt(t_py="", ours_py="", deep__model_py="")
    script = {"entry_point": "t.py", "repository": "https://git.example.org/r.git", "requirements": {"pip": "leaf==1"}}
    found = told(f"{NO_MODULE}'{module}'", script=script)
    assert found["reason"] == f"the module {module} is not installed; {meant} may be meant (exit 1)"
    assert found["remedy"] is None and found["advice"].startswith("mend t.py:2 in your checkout")
    assert f"--package {module}" not in found["advice"]


@pytest.mark.parametrize(("module", "words"), [
    ("helpers", "look up first that it is called so"), ("deep.other", "though deep is"),
    ("_tkinter", "the Python that it ran with has none"), ("torch.nowhere", "though torch is"),
    ("yaml.x'; 'yaml' is not a package", "yaml.py of the repository stands in the place of the module yaml")])
def test_a_package_is_asked_for_by_a_command_only_where_its_name_is_certain(module: str, words: str) -> None:
    _attempt(t_py="", deep__model_py="", yaml_py="")
    found = told(f"{NO_MODULE}'{module}'".rstrip("'") + ("'" if "package" not in module else ""))
    assert found["remedy"] is None and words in f"{found['reason']} {found['advice']}"
    assert (("--package helpers " in found["advice"]) == (module == "helpers")
            and found["advice"].startswith("where helpers is a file of yours") == (module == "helpers"))
    assert told(f"{NO_MODULE}'six'")["remedy"] == "agent-task edit 1f3c --package six && agent-task enqueue 1f3c"
    assert "--package setuptools " in told(f"{NO_MODULE}'distutils'")["remedy"]


def test_what_is_asked_of_a_container_or_a_python_is_added_to_what_the_task_has() -> None:
    container = {"image": "i", "arguments": "--ipc=host -e 'A=b c'"}
    evidence = {"FileNotFoundError: [Errno 2] No such file or directory: '/mnt/x/y.csv'": "-v /mnt/x:/mnt/x",
                "x.sh: line 2: DATA: unbound variable": "-e DATA=…",
                "RuntimeError: CUDA error: an illegal memory access was encountered": "-e CUDA_LAUNCH_BLOCKING=1"}
    for said, more in evidence.items():
        advice = told(said, container=container)["advice"]
        command = re.search(r"agent-task edit 1f3c --docker-args ('.+') && agent-task enqueue 1f3c", advice)
        assert command and shlex.split(command[1]) == [f"--ipc=host -e 'A=b c' {more}"]
    script = {"entry_point": "t.py", "binary": "python3.10 -X dev"}
    found = told("ModuleNotFoundError: No module named 'tomllib'", script=script, runtime={"python_version": "3.10.1"})
    assert found["remedy"].startswith("agent-task edit 1f3c --binary 'python3.11 -X dev' && ")


def test_a_script_that_is_enqueued_anew_runs_as_its_task_did() -> None:
    found = told("FileNotFoundError: [Errno 2] No such file or directory: 'data/a.csv'", execution={"queue": "gpu"},
                 container={"image": "i", "arguments": "--ipc=host"},
                 script={"entry_point": "t.py --lr 1", "binary": "python3.9"})
    assert ("agent-task enqueue --queue gpu --binary python3.9 --docker i --docker-args --ipc=host --bundle --include "
            "data/a.csv t.py -- --lr 1;") in found["advice"]


USAGE = "usage: t.py [-h] --data DATA [--n N] in\nt.py: error: the following arguments are required: "


@pytest.mark.parametrize(("said", "entry", "words"), [
    (USAGE + "--data, in", "t.py --n 3", ["t.py", "--n", "3", "--data", "…", "…"]),
    (USAGE + "-d/--data", "-m t --n 'a b'", ["-m", "t", "--n", "a b", "--data", "…"]),
    (USAGE + "--data", "t.py -- x", ["t.py", "--data", "…", "--", "x"]),
    (USAGE + "--data", "t.py --date 1", ["t.py", "--data", "1"]),
    (USAGE + "--data, in", "t.py --dta=1 --n 3", ["t.py", "--data=1", "--n", "3", "…"]),
    ("t.py: error: the following arguments are required: --data", "t.py --date 1",
     ["t.py", "--date", "1", "--data", "…"]),
    ("Usage: t.py\n\nError: Missing option '--data' / '-d'.", "t.py --n 3", ["t.py", "--n", "3", "--data", "…"]),
    ("t.py: error: unrecognized arguments: --epohcs 3 --bathc=4\n[--epochs E] [--batch B]", "t.py --epohcs 3 --bathc=4",
     ["t.py", "--epochs", "3", "--batch=4"]),
    ("t.py: error: argument -o/--opt: invalid choice: 'adma' (choose from 'adam', 'sgd')", "t.py --name adma -o adma",
     ["t.py", "--name", "adma", "-o", "adam"]),
    ("t.py: error: argument --opt: invalid choice: 'adma' (choose from adam, sgd)", "t.py --opt=adma --n 1",
     ["t.py", "--opt=adam", "--n", "1"])])
def test_a_command_line_that_is_mended_keeps_all_that_was_given(said: str, entry: str, words: list[str]) -> None:
    found = told(said, entry)
    command = re.fullmatch(r"agent-task edit 1f3c (.+) && agent-task enqueue 1f3c", found["remedy"] or found["advice"])
    assert command and shlex.split(shlex.split(command[1])[1]) == words
    assert bool(found["remedy"]) == ("…" not in words)


def test_a_folder_that_is_not_there_to_write_into_is_what_is_missing() -> None:
    frame = '  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>\n    {}\n{}'
    no_file = "FileNotFoundError: [Errno 2] No such file or directory: "
    for line, said, reason, words in (
            ('open("/no/o.txt", "w")', no_file + "'/no/o.txt'",
             "there is no folder /no to write o.txt into, at t.py:2, on", "make it there, or name another place"),
            ('os.makedirs("/proc/foo")', '  File "<frozen os>", line 225, in makedirs\n' + no_file + "'/proc/foo'",
             "no folder can be made at /proc/foo, at t.py:2, on", "name another place"),
            ('plt.savefig("out/x.png")', no_file + "'out/x.png'",
             "there is no folder out to write x.png into, at t.py:2 ",
             'before that line os.makedirs("out", exist_ok=True): mend t.py:2'),
            ('d.to_csv("out/x.csv")', "OSError: Cannot save file into a non-existent directory: 'out'",
             "there is no folder out to write into, at t.py:2 ", 'os.makedirs("out", exist_ok=True)')):
        found = told("Traceback (most recent call last):\n" + frame.format(line, said))
        assert found["reason"].startswith(reason) and words in found["advice"] and "--include" not in found["advice"]


@pytest.mark.parametrize(("entry", "said", "remedy"), [
    ("t.py --data=dat/x.csv", "FileNotFoundError: [Errno 2] No such file or directory: 'dat/x.csv'",
     "--entry-point 't.py --data=data/x.csv'"),
    ("-m okk --n 1", "/s/bin/python3.11: No module named okk", "--entry-point '-m ok --n 1'"),
    ("-m deep.modle", "/s/bin/python: Error while finding module specification for 'deep.modle' (ModuleNotFoundError: "
     "No module named 'deep')", "--entry-point '-m deep.model'")])
def test_a_mistyped_word_of_the_command_line_is_corrected_there(entry: str, said: str, remedy: str) -> None:
    _attempt(data__x_csv="", ok_py="", deep__model_py="", t_py="")
    found = told(said, entry)
    assert "may be meant" in found["reason"]
    assert found["remedy"] == f"agent-task edit 1f3c {remedy} && agent-task enqueue 1f3c"


def test_a_package_that_cannot_be_started_is_told_with_its_modules() -> None:
    _attempt(deep__model_py="", deep____init___py="")
    found = told("/s/bin/python3: No module named deep.__main__; 'deep' is a package and cannot be directly executed",
                 "-m deep --n 1")
    assert found["reason"] == "the package deep cannot be started: it has no __main__.py (exit 1)"
    assert found["advice"].startswith("name a module of it, such as deep.model: agent-task edit 1f3c --entry-point "
                                      "'-m deep.… --n 1' && ")
    # what another Python says, that the script has started
    other = told("/s/bin/python3: No module named pip", "-m deep.model")
    assert other["reason"].startswith("/s/bin/python3: No module")


@pytest.mark.parametrize(("code", "evidence", "end", "line"), [
    ("x = 1\nsys.exit(3)\n", "", "exit 3", 2), ("x = 1\nif x: exit 3\n", "loading", "exit 3", 0),
    ("raise SystemExit(f'no data in {x}: stop')\n", "no data in /d: stop", "exit 1", 1),
    ('print("ok")\nsys.exit("cannot read %s" % x)\n', "ok\ncannot read y", "exit 1", 2),
    ("sys.exit(3)\nsys.exit(3)\n", "", "exit 3", 0)])
def test_the_line_that_ended_a_script_is_looked_for_in_its_code(code: str, evidence: str, end: str, line: int) -> None:
    _attempt(t_py=code)
    found = causes.of_script({"id": "1f3c", "script": {"entry_point": "t.py"}},
                             {"class": "script_failed", "reason": end, "evidence": evidence})
    assert (f", at t.py:{line} ({end})" in found["reason"]) == bool(line) and "t.py:0" not in found["reason"]
    assert f"mend t.py:{line}" in found["advice"] if line else "agent-task script 1f3c" in found["advice"]


def test_a_source_that_is_not_utf_8_is_named_with_its_line() -> None:
    found = told("SyntaxError: Non-UTF-8 code starting with '\\xe9' in file /s/tasks/1f3c.1/code/t.py on line 3, but "
                 "no encoding declared; see https://peps.python.org/pep-0263/ for details")
    assert found["reason"].startswith("t.py:3 is not UTF-8 (\\xe9)") and "save it as UTF-8" in found["advice"]
    long = told("no " + "word " * 60)
    assert long["reason"].endswith("word … (exit 1)") and len(long["reason"]) < 220


def test_a_line_of_a_notebook_is_told_by_its_cell_with_the_run_here_or_only_the_checkout(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [{"cell_type": "markdown", "source": "# x"}, {"cell_type": "code", "source": "!true \\\n  x\n\n1/0"},
             {"cell_type": "code", "source": "%time 1/0"}]
    top = tmp_path / "work"
    (top / ".git").mkdir(parents=True)
    (top / "n.ipynb").write_text(json.dumps({"cells": cells}))
    script, _ = notebook.convert(str(top / "n.ipynb"))
    text = Path(script).read_text()
    Path(script).unlink()
    number = text.split("\n").index("1/0") + 1
    frame = f'  File "/s/tasks/1f3c.1/code/n.py", line {number}, in <module>\n    1/0\nZeroDivisionError: no'
    whole = text.split("\n").index("# cell 3 of n.ipynb") + 2
    ipython = (f'  File "/s/tasks/1f3c.1/code/n.py", line {whole}, in <module>\n    __cell__(3, \'%time 1/0\')\n'
               '  File "/s/tasks/1f3c.1/code/n.py", line 15, in __cell__\n'
               '  File "<ipython-input-1-0af>", line 1, in <module>\nZeroDivisionError: no')

    def reason(evidence: str, repository: str) -> str:
        task = {"id": "1f3c", "script": {"entry_point": "n.ipynb", "repository": repository}}
        found = causes.of_script(task, {"class": "script_failed", "reason": "exit 1", "evidence": evidence})
        assert "n.py" not in f"{found['reason']} {found['advice']}" and found["remedy"] is None
        return found["reason"].removeprefix("ZeroDivisionError: no, at ")

    assert reason(frame, "https://git.example.org/r.git") == "n.ipynb (1/0) (exit 1)"  # neither is here
    assert reason(frame, str(top)) == "n.ipynb, cell 2, line 4 (1/0) (exit 1)"
    assert reason(ipython, str(top)) == "n.ipynb, cell 3, line 1 (exit 1)"
    _attempt(n_py="\n" + text)  # where a line was put above it
    moved = frame.replace(f"line {number}", f"line {number + 1}")
    assert reason(moved, "https://git.example.org/r.git") == "n.ipynb, cell 2, line 4 (1/0) (exit 1)"


def test_a_task_without_an_entry_point_is_told_one_way_that_works(tmp_path: Path) -> None:
    line = {"task": {"id": "1f3c", "script": {}}, "fetch": {"code": "/"}, "patch": {}, "env": {"python": "python3"}}
    with pytest.raises(errors.Failure) as caught:
        launch.of(line, str(tmp_path), {})
    shown = why.text({"task": "1f3c", "class": "setup_failed", "reason": str(caught.value.reason), "remedy": None,
                      "advice": caught.value.remedy})
    assert "to do: agent-task edit 1f3c --entry-point SCRIPT\n  then: agent-task enqueue 1f3c\n" in shown
    shown = why.text({"task": "1f3c", "class": "setup_failed", "reason": "it is not there", "remedy": None, "advice":
                      "push it from the checkout that has it (git push; …), or enqueue it there with --bundle"})
    assert shown.endswith("\n  then, once it is pushed: agent-task enqueue 1f3c\n")


def test_a_file_by_its_absolute_path_is_mounted_where_the_task_has_a_container() -> None:
    found = told("FileNotFoundError: [Errno 2] No such file or directory: '/mnt/x/y.csv'", container={"image": "a"})
    assert "no /mnt/x/y.csv in its container" in found["reason"] and "-v /mnt/x:/mnt/x" in found["advice"]


def test_a_pinned_package_that_cannot_be_imported_is_taken_in_another_version() -> None:
    evidence = ('  File "/s/tasks/1f3c.1/code/t.py", line 1, in <module>\n'
                '  File "/c/envs/k/lib/python3.11/site-packages/urllib3/util/x.py", line 11, in <module>\n'
                "ImportError: cannot import name 'Mapping' from 'collections'")
    found = causes.of_script({"id": "1f3c", "script": {"requirements": {"pip": "requests==2.31.0\nurllib3==1.20\n"}}},
                             {"class": "script_failed", "reason": "exit 1", "evidence": evidence})
    assert found["reason"].startswith("urllib3==1.20 does not go with")
    assert found["remedy"] == "agent-task edit 1f3c --package urllib3 && agent-task enqueue 1f3c"
    assert told(evidence)["reason"].startswith("ImportError")  # not asked for


def test_a_module_that_is_asked_for_and_yet_not_there_is_not_asked_for_again() -> None:
    for package, advice in (("six==1.16.0", "another version"), ("mine", "--bundle --include mine")):
        script = {"requirements": {"pip": package}, "entry_point": "t.py"}
        found = causes.of_script({"id": "1f3c", "script": script}, {
            "class": "script_failed", "reason": "exit 1",
            "evidence": f"ModuleNotFoundError: No module named '{package[:3] if '=' in package else package}.x'"})
        assert found["remedy"] is None and advice in found["advice"]


@pytest.mark.parametrize("evidence", [
    "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.",
    "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.0 as it may crash.",
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility."])
def test_code_for_the_former_numpy_gets_it(evidence: str) -> None:
    assert "--package 'numpy<2'" in told(evidence)["remedy"]


@pytest.mark.parametrize(("evidence", "entry", "reason", "words"), [
    ("usage: t\nt.py: error: argument -e/--epochs: invalid int value: 'three'", "t.py --epochs three",
     "the script does not take that -e/--epochs: invalid int value: 'three'", "--set Args/epochs=VALUE"),
    ("Error: Invalid value for '--lr': 'x' is not a valid float.", "t.py --lr=x", "the script does not take that --lr",
     "--set Args/lr=VALUE"),
    ("usage: t\nt.py: error: unrecognized arguments: 5", "t.py 5", "the script takes no argument 5",
     "--entry-point 't.py 5'"),
    ("usage: t [-h]\n         [--a A]\nt.py: error: --a wants --b", "t.py", "--a wants --b", "--entry-point t.py"),
    ("RuntimeError: No CUDA GPUs are available", "t.py", "it wants a GPU, and this worker has none",
     "enqueue --queue QUEUE 1f3c"),
    ("AssertionError: Torch not compiled with CUDA enabled", "t.py", "it wants a GPU, and the package",
     "--queue QUEUE"),
    ("OSError: [Errno 28] No space left on device: 'x'", "t.py", "a disk of the worker is full", "df -h"),
    ('  File "/x/t.py", line 1, in <module>\n    os.environ["DATA"]\n    ~~~^^^\n  File "<frozen os>", line 679\n'
     "KeyError: 'DATA'", "t.py", "the environment variable DATA is not set", "-e DATA=…"),
    ("x.sh: line 2: DATA: unbound variable", "x.sh", "the environment variable DATA is not set", "set DATA where"),
])
def test_what_a_command_line_or_a_worker_lacks_is_named(evidence: str, entry: str, reason: str, words: str) -> None:
    found = told(evidence, entry)
    assert found["reason"].startswith(reason) and words in found["advice"] and found["remedy"] is None


def test_a_script_that_names_its_device_can_do_without_a_gpu() -> None:
    for entry in ("t.py --device cuda:0", "t.py --device=cuda"):
        assert "--set Args/device=cpu" in told("RuntimeError: Found no NVIDIA driver", entry)["remedy"]
    assert told("RuntimeError: Found no NVIDIA driver", "t.py --data gpu.csv")["remedy"] is None


TRACEBACK = '''Traceback (most recent call last):
  File "/s/tasks/1f3c.2/code/pkg/train.py", line 7, in <module>
    fit()
  File "/s/envs/k/lib/python3.11/site-packages/lib/x.py", line 9, in fit
    raise ValueError("no")
lib.errors.ShapeError: no (3, 4)
clearml: done
'''


def test_an_exception_is_named_with_the_line_of_the_tasks_own_code() -> None:
    found = told(TRACEBACK)
    assert found["reason"] == "lib.errors.ShapeError: no (3, 4), at pkg/train.py:7 (exit 1)"
    assert "mend pkg/train.py:7" in found["advice"]
    assert "there: agent-task edit 1f3c --checkout . && agent-task enqueue 1f3c;" in found["advice"]
    chained = told(TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK
                   .replace(", line 7", ", line 9").replace("lib.errors.ShapeError", "TypeError"))
    assert chained["reason"].startswith("TypeError: no (3, 4), at pkg/train.py:9")
    for other in (TRACEBACK.replace("1f3c.2", "other"), TRACEBACK.replace("pkg/train.py", "../../x.py")):
        assert told(other)["reason"] == "lib.errors.ShapeError: no (3, 4) (exit 1)"
    # one that was caught and printed, by a script that ended itself
    caught = causes.of_script({"id": "1f3c", "script": {}}, {"class": "script_failed", "reason": "exit 3",
                                                             "evidence": TRACEBACK})
    assert caught["reason"] == "lib.errors.ShapeError: no (3, 4), at pkg/train.py:7 (exit 3)"
    assert "mend pkg/train.py:7" in caught["advice"]


@pytest.mark.parametrize("evidence", [
    # of Python 3.13 with FORCE_COLOR=1
    "Traceback (most recent call last):\n  File \x1b[35m\"/s/tasks/1f3c.1/code/t.py\"\x1b[0m, line \x1b[35m3\x1b[0m, "
    "in \x1b[35mf\x1b[0m\n    return \x1b[31m{}\x1b[0m\x1b[1;31m[\"lr\"]\x1b[0m\n"
    "\x1b[1;35mKeyError\x1b[0m: \x1b[35m'lr'\x1b[0m\n",
    # a group of exceptions; one of no usual name is no less one
    "  + Exception Group Traceback (most recent call last):\n"
    "  |   File \"/s/tasks/1f3c.1/code/t.py\", line 5, in <module>\n"
    "  | ExceptionGroup: several (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
    "    | Traceback (most recent call last):\n    |   File \"/s/tasks/1f3c.1/code/t.py\", line 3, in f\n"
    "    | KeyError: 'lr'\n"
    "    +------------------------------------\n",
    'Traceback (most recent call last):\n  File "/s/tasks/1f3c.1/code/t.py", line 3, in f\n    x\n'
    "KeyError: 'lr'\nlost: 3"])
def test_an_exception_is_told_however_it_is_drawn(evidence: str) -> None:
    assert told(evidence)["reason"] == "KeyError: 'lr', at t.py:3 (exit 1)"
    other = told(evidence.replace("KeyError", "queue.Empty"))
    assert other["reason"] == "queue.Empty: 'lr', at t.py:3 (exit 1)"


def _syntax(code: str, said: str = "invalid syntax") -> str:
    return f'  File "/s/tasks/1f3c.1/code/t.py", line 5\n    {code}\n         ^\nSyntaxError: {said}'


@pytest.mark.parametrize(("ran", "evidence", "reason", "version"), [
    ("3.11.2", _syntax("type X = int"), "its syntax (type X = int) needs Python 3.12 or newer, and it ran with 3.11",
     "3.12"),
    ("3.8.1", _syntax("match command:"), "its syntax (match command:) needs Python 3.10", "3.10"),
    ("3.11.2", _syntax('print(f"{d["a"]}")', "f-string: unmatched '['"), 'its syntax (print(f"{d["a"]}"))', "3.12"),
    ("3.11.2", _syntax('print(f"{", ".join(a)}")', "f-string: expecting '}'"), "its syntax", "3.12"),
    ("3.7.1", _syntax("if (n := 1):"), "its syntax (if (n := 1):)", "3.8"),
    ("3.10.1", "ModuleNotFoundError: No module named 'tomllib'", "the module tomllib needs Python 3.11", "3.11"),
    ("3.10.1", "ImportError: cannot import name 'Self' from 'typing' (/x.py)", "typing.Self needs Python 3.11", "3.11"),
    ("3.9.1", "TypeError: unsupported operand type(s) for |: 'type' and 'NoneType'", "a type that is written with |",
     "3.10"),
    ("3.12.1", "ModuleNotFoundError: No module named 'imp'", "Python 3.12 has no imp any more, 3.11 is the last",
     "3.11")])
def test_code_for_another_python_gets_it(ran: str, evidence: str, reason: str, version: str) -> None:
    found = told(evidence, runtime={"python_version": ran})
    assert found["reason"].startswith(reason)
    assert found["remedy"] == f"agent-task edit 1f3c --python {version} && agent-task enqueue 1f3c"
    assert f"--python {version}" not in (told(evidence, runtime={"python_version": version}).get("remedy") or "")


@pytest.mark.parametrize(("ran", "evidence"), [
    ("3.11.2", _syntax('print(f"{a", "b")', "f-string: expecting '}'")), ("3.13.0", _syntax("type X = ")),
    ("3.11.2", _syntax('print("a"', "'(' was never closed")), ("", _syntax("x := 1")),
    ("3.12.1", "TypeError: 'type' object is not subscriptable")])
def test_a_mistake_is_no_newer_syntax(ran: str, evidence: str) -> None:
    assert "--python" not in (told(evidence, runtime={"python_version": ran}).get("remedy") or "")


@pytest.mark.parametrize(("name", "reason", "remedy"), [
    ("SIGKILL", "SIGKILL ended it", "agent-task enqueue 1f3c"), ("SIGTERM", "SIGTERM ended it", "agent-task enqueue"),
    ("SIGSEGV", "a compiled part of it crashed: SIGSEGV", "--binary 'python3.11 -X faulthandler'"),
    ("SIGILL", "its program is not built for this worker's processor", None)])
def test_a_signal_is_told_from_a_crash(name: str, reason: str, remedy: str | None) -> None:
    task = {"id": "1f3c", "script": {"entry_point": "t.py", "binary": "python3.11"}}
    # what was caught before is not the end that somebody has brought
    outlived = "ModuleNotFoundError: No module named 'six'" if name in ("SIGKILL", "SIGTERM") else ""
    found = causes.of_script(task, {"class": "script_failed", "reason": f"ended by {name}", "evidence": outlived})
    assert found["reason"].startswith(reason) and (remedy in found["remedy"] if remedy else found["remedy"] is None)
    of_shell = {"class": "script_failed", "reason": f"exit 137, as a shell ends when {name} has ended a program of it",
                "evidence": f"run.sh: line 1: 15 {'Killed' if name in ('SIGKILL', 'SIGTERM') else 'Aborted'}  ./x"}
    found = causes.of_script({**task, "script": {"entry_point": "run.sh", "binary": "bash"}}, of_shell)
    assert found.get("reason") == (f"{name} ended a program of it, which no agent has sent (exit 137)"
                                   if name in ("SIGKILL", "SIGTERM") else "15 Aborted  ./x, at run.sh:1 (exit 137)")


@pytest.mark.parametrize(("entry", "words"), [
    ("t.py --lr 1", "--include data/a.csv t.py -- --lr 1"),
    ("-m pkg.t", "--include data/a.csv -m pkg.t")])
def test_data_that_git_does_not_bring_goes_along_by_a_command(entry: str, words: str) -> None:
    found = told("FileNotFoundError: [Errno 2] No such file or directory: 'data/a.csv'", entry)
    assert f"there: agent-task enqueue --bundle {words};" in found["advice"]


def test_what_a_script_printed_does_not_move_the_cursor_over_what_is_said_of_it() -> None:
    found = {"task": "1f3c", "status": "failed", "class": "script_failed", "reason": "E: \x1b[2Jno", "advice": None,
             "evidence": "\x1b[31mred\x1b[0m\tx\n\x1b]0;title\x07\u202e", "remedy": "true"}
    shown = why.text(found)
    assert "E: \\x1b[2Jno" in shown and "| red" in shown and "\\x1b]0;title\\x07\\u202e" in shown
    assert "\x1b" not in shown and "try: true\n" in shown


@pytest.mark.parametrize("word", ["a\nb", "it's\n\\n", "\t", "'\n'", "\x1b[2J \u202ex é", "a b", "$x `y`\n"])
def test_a_command_of_several_lines_is_typed_on_one(word: str) -> None:
    typed = typeable.line(shlex.join(["printf", "%s", word]))
    assert typed is not None and typed.isprintable()
    assert subprocess.run(["bash", "-c", typed], capture_output=True, check=True).stdout.decode() == word


def test_words_with_what_no_line_holds_are_told_by_where_they_stand() -> None:
    found = {"task": "1f3c", "class": "script_failed", "reason": "exit 1", "remedy": None, "advice": "its' a\nb"}
    assert "to do: agent-task why --json 1f3c | jq -r .advice\n" in why.text(found)


def test_a_line_without_end_is_shown_by_its_ends() -> None:
    shown = why.text({"task": "1f3c", "class": "script_failed", "reason": "exit 1", "remedy": None, "advice": None,
                      "evidence": "begin" + "x" * 100_000 + "end"})
    assert len(shown) < 2000 and "| begin" in shown and "xend\n" in shown and "99008 characters" in shown


def test_a_folder_that_is_opened_as_a_file_is_there() -> None:
    frame = ('Traceback (most recent call last):\n  File "/s/tasks/1f3c.1/code/t.py", line 2, in <module>\n'
             '    open("data")\n')
    found = told(frame + "IsADirectoryError: [Errno 21] Is a directory: 'data'")
    assert found["reason"] == "IsADirectoryError: [Errno 21] Is a directory: 'data', at t.py:2 (exit 1)"


def test_what_is_not_known_is_left_alone() -> None:
    known = told("Traceback (most recent call last):\nValueError: no")
    assert known["reason"] == "ValueError: no (exit 1)" and known["remedy"] is None
    assert "agent-task log 1f3c; or see it again: agent-task script 1f3c > task-1f3c.sh" in known["advice"]
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
    assert params.parsed(text) == wanted


def test_a_value_is_given_where_the_option_stands_and_nowhere_else() -> None:
    said: list[str] = []
    task = {"script": {"entry_point": "train.py --lr 0.1 --verbose --batch-size=3 lr"}, "hyperparams": {}}
    sections, entry = params.changed(task, ["lr=0.2", "batch_size=4", "verbose=1", "General/x=y"], said.append)
    assert entry == "train.py --lr 0.2 --verbose --batch-size=4 lr"
    assert sections["General"]["x"] == {"section": "General", "name": "x", "type": "", "value": "y"}
    assert [line.split(" ")[0] for line in said] == ["Args/verbose", "General/x"]
    params.changed(task, ["new=a b"], said.append)
    params.changed(task, ["Environment/SEED=7"], said.append)
    assert "Environment/SEED is new: a worker with agent.enable_task_env makes a variable of it; " in said.pop()
    assert said[2].endswith("""--entry-point 'train.py --lr 0.1 --verbose --batch-size=3 lr '"'"'--new=a b'"'"'')""")


def test_a_difference_is_named_by_a_package_a_file_or_an_argument_but_not_by_a_part_of_a_word() -> None:
    assert compare.names("numpy 1.26 → 2.1", "module 'numpy' has no attribute 'float'")
    assert compare.names("pkg/data.py: +1 -0 → +2 -0", 'File "/x/code/pkg/data.py", line 3')
    assert compare.names("--lr 0.1 → 0.2", "ValueError: lr must be positive") is False  # two letters are in too much
    assert not compare.names("six 1.16 → 1.17", "sixteen things went wrong")


def test_what_the_machine_reports_is_drawn_by_units() -> None:
    names = ["gpu_0_mem_free_gb", "gpu_0_mem_usage", "gpu_0_mem_used_gb", "gpu_0_power_draw", "gpu_0_temperature",
             "gpu_0_utilization", "gpu_1_utilization"]
    found = plot.alike(":monitor:gpu", dict.fromkeys(names))
    assert [list(group) for group in found] == [
        ["gpu_0_mem_free_gb", "gpu_0_mem_used_gb"], ["gpu_0_mem_usage", "gpu_0_utilization", "gpu_1_utilization"],
        ["gpu_0_power_draw"], ["gpu_0_temperature"]]
    assert plot.alike("loss", {"a_gb": 1, "b": 2}) == [{"a_gb": 1, "b": 2}]


def test_a_chart_of_one_point_and_of_a_flat_line_is_drawn() -> None:
    one = plot.chart("loss", {"a": {"x": [5], "y": [1.5]}}, 20, 4)
    flat = plot.chart("loss", {"a": {"x": [0, 9], "y": [2.0, 2.0]}}, 20, 4, dots=False)
    assert "loss: a 1.5" in one and any(char > "⠀" for char in one)
    assert flat.count("*") == 20


def test_a_loss_that_became_infinite_is_drawn_as_far_as_it_is_a_number(capfd: pytest.CaptureFixture[str]) -> None:
    store = api.connect()
    task = store.call("tasks.create", {"name": "diverged", "type": "training"})["id"]
    store.call("events.add_batch", [{"type": "training_stats_scalar", "task": task, "metric": "loss", "variant": "v",
                                     "iter": at, "value": value}
                                    for at, value in enumerate([1.0, 2.0, math.nan, math.inf])])
    plot.plot(task, [], 60, 5, False)
    assert capfd.readouterr().out.startswith("loss: v inf\n        2 ")
    plot.plot(task, [], 60, 5, True)
    assert json.loads(capfd.readouterr().out, parse_constant=pytest.fail)["y"] == [1.0, 2.0, None]
    alone = plot.chart("loss", {"a": {"x": [0, 1], "y": [math.inf, -math.inf]}}, 20, 4, dots=False)
    assert "*" not in alone and "loss: a -inf" in alone
    assert "*" in plot.chart("loss", {"a": {"x": [0, 1], "y": [-1.7e308, 1.7e308]}}, 20, 4, dots=False)


def test_of_a_task_that_ran_by_hand_time_says_that_no_agent_ran_it() -> None:
    task = {"id": "1f3c", "status": "completed", "started": "2026-11-29T10:00:00+00:00",
            "completed": "2026-11-29T10:12:05+00:00"}
    assert "no agent ran it" in times.text(times.of_task(task))
    assert "another agent ran it" in times.text(times.of_task({**task, "last_worker": "vm:0"}))


@pytest.mark.parametrize("status", ["queued", "stopped"])
def test_what_came_back_to_its_queue_before_its_end_is_not_said_to_run(status: str) -> None:
    task = {"id": "1f3c", "status": status, "started": "2026-11-29T10:00:00+00:00", "last_worker": "vm:0"}
    with pytest.raises(errors.Failure, match=f"task 1f3c is {status}: its last run came to no end"):
        times.of_task(task)


def test_the_newest_value_of_a_long_curve_is_the_last_one(capfd: pytest.CaptureFixture[str]) -> None:
    store = api.connect()
    task = store.call("tasks.create", {"name": "long", "type": "training"})["id"]
    store.call("events.add_batch", [{"type": "training_stats_scalar", "task": task, "metric": "m", "variant": "v",
                                     "iter": at, "value": at / 2} for at in range(5000)])
    plot.plot(task, [], 60, 5, False)
    assert capfd.readouterr().out.startswith("m: v 2500\n")  # 2499.5, in four digits
    plot.plot(task, [], 60, 5, True)
    assert json.loads(capfd.readouterr().out)["last"] == 2499.5


def test_an_exit_status_alone_is_no_reason_where_the_script_said_one() -> None:
    said = "no configuration: set MODEL_DIR"
    assert told(f"loading\n{said}\n\n")["reason"] == f"{said} (exit 1)"
    assert told("")["reason"] == "it printed nothing (exit 1)" and "agent-task log" not in told("")["advice"]


def test_a_task_that_clearml_agent_has_run_is_told_by_its_log() -> None:
    store = api.connect()
    task = store.call("tasks.create", {"name": "a task", "type": "training"})["id"]
    frame = '  File "/root/.clearml/venvs-builds/3.11/task_repository/r.git/t.py", line 3, in f\n    f()\n'
    said = "Traceback (most recent call last):\n" + frame * 20 + "ModuleNotFoundError: No module named 'six'\nbye"
    store.call("events.add_batch", [{"type": "log", "task": task, "timestamp": at, "msg": f"{line}\n"}
                                    for at, line in enumerate(said.splitlines())])
    ended = {"id": task, "status": "failed", "status_reason": "worker execution exit code 1", "script": {}}
    found = why.why(store, ended)
    assert found["reason"] == "the module six is not installed (exit 1)" and "--package six " in found["remedy"]
    assert len(re.findall(r"^  \| ", why.text(found), re.MULTILINE)) == evidence_lines.MOST
    more = f"Traceback (most recent call last):\n{frame}KeyError: 'lr'\n"
    store.call("events.add_batch", [{"type": "log", "task": task, "timestamp": 1000, "msg": more}])
    assert why.why(store, ended)["reason"] == "KeyError: 'lr', at t.py:3 (exit 1)"


def test_a_new_task_like_this_one_has_its_project_and_queue_by_name_and_its_arguments_as_they_were() -> None:
    store = api.connect()
    names = {"project": "abc$(id>&2) 'q'", "queue": "two words"}
    project, queue = (store.call(f"{kind}s.create", {"name": name})["id"] for kind, name in names.items())
    end = {"class": "script_failed", "reason": "exit 1", "evidence": "ModuleNotFoundError: No module named 'my_own'\n"}
    task = {"id": "1f3c", "status": "failed", "name": "a name", "project": project, "execution": {"queue": queue},
            "script": {"entry_point": f"t.py --lrr 1 --project {project} --queue={queue} 'in {project}'"},
            "runtime": {view.END_KEY: end}}
    advice = why.why(store, task)["advice"]
    command = advice[advice.index("agent-task enqueue"):].partition("; where a package brings it")[0]
    assert shlex.split(command) == [
        "agent-task", "enqueue", "--name", "a name", "--project", names["project"], "--queue", names["queue"],
        "--bundle", "--include", "my_own.py", "t.py", "--", "--lrr", "1", "--project", project, f"--queue={queue}",
        f"in {project}"]


def test_a_change_of_the_entry_point_keeps_the_id_of_a_project_in_it() -> None:
    store = api.connect()
    project = store.call("projects.create", {"name": "abc$(id>&2)"})["id"]
    said = "usage: t.py [-h] [--lr LR] [--project P]\nt.py: error: unrecognized arguments: --lrr 1\n"
    task = {"id": "1f3c", "status": "failed", "project": project,
            "script": {"entry_point": f"t.py --lrr 1 --project {project}"},
            "runtime": {view.END_KEY: {"class": "script_failed", "reason": "exit 2", "evidence": said}}}
    assert why.why(store, task)["remedy"] == (
        f"agent-task edit 1f3c --entry-point 't.py --lr 1 --project {project}' && agent-task enqueue 1f3c")


def test_a_step_is_mended_in_the_code_of_its_pipeline_and_a_pipeline_names_the_step_that_failed() -> None:
    store = api.connect()
    code = "from clearml import Task\n\ndef two():\n    raise ValueError('boom')\n"
    at = "/root/.clearml/venvs-builds/3.11/task_repository/r.git/two.py"
    said = f'Traceback (most recent call last):\n  File "{at}", line 4, in two\n    raise\nValueError: boom\n'

    def created(name: str, **fields: Any) -> str:
        return store.call("tasks.create", {"name": name, "type": "training", **fields})["id"]

    pipeline = created("pipe", system_tags=["pipeline"])
    end = {view.END_KEY: {"class": "script_failed", "exit": 1, "reason": "exit 1", "evidence": said}}
    script = {"entry_point": "two.py", "diff": code, "repository": "https://git.example.org/r.git"}
    steps = [created(name, parent=pipeline, script=script) for name in ("one", "two", "three")]
    step = {"id": steps[1], "status": "failed", "parent": pipeline, "script": script, "runtime": end}
    found = why.why(store, step)
    assert found["reason"].startswith("ValueError: boom, at two.py:4") and found["remedy"] is None
    assert found["advice"] == (f"mend it in the code of pipeline {pipeline}, which made two.py of a function, "
                               "and run that pipeline again")
    # what is taken from a checkout is mended there, whoever made the task
    assert "--checkout" in why.why(store, {**step, "script": {**script, "diff": ""}})["advice"]

    whole = {"id": pipeline, "status": "failed", "system_tags": ["pipeline"], "script": {"entry_point": "pipe.py"},
             "status_reason": "Pipeline aborted and failed"}
    assert "agent-task why" not in (why.why(store, whole)["remedy"] or "")
    for id in steps[1:]:
        store.call("tasks.enqueue", {"task": id})
        store.call("tasks.started", {"task": id})
        store.call("tasks.failed", {"task": id})
    found = why.why(store, whole)
    assert found["remedy"] == f"agent-task why {steps[1]}" and "its step two has failed" in found["reason"]


def test_what_the_clearml_package_prints_is_no_reason() -> None:
    at = "2026-11-30 20:31:07,123 - clearml"
    lines = ("ClearML Task: created new task id=1f3c", "ClearML results page: http://127.0.0.1:8008/projects/1/log",
             "bad config: lr must be > 0",
             "ClearML Monitor: GPU monitoring failed getting GPU reading, switching off GPU monitoring",
             f"{at}.resource_monitor - WARNING - Could not fetch GPU stats: NVML Shared Library Not Found",
             f"{at}.Task - INFO - Repository and package analysis timed out (60 sec), giving up")
    assert told("\n".join(lines))["reason"] == "bad config: lr must be > 0 (exit 1)"
    assert told("\n".join(lines[:2] + lines[3:]))["reason"] == "it printed nothing of its own (exit 1)"
    failed = f"{at}.Task - ERROR - Action failed <400/110: tasks.edit>"
    assert told("\n".join([*lines, failed]))["reason"] == f"{failed} (exit 1)"


def test_of_a_task_that_did_well_why_says_how_long_it_took() -> None:
    end = {"class": "completed", "stage": "run", "exit": 0, "reason": "worker execution done"}
    task = {"id": "1f3c", "status": "completed", "status_message": "Changed by agentpipe vm:0",
            "started": "2026-11-29T10:00:00+00:00", "completed": "2026-11-29T10:12:05+00:00",
            "runtime": {"_agentpipe_end": end}}
    head, reason = why.text(why.why(None, task)).splitlines()
    assert head == "1f3c: completed" and reason.startswith("  the script ended with 0, after 12 min 05 s, ")
    # what its set-up took, and to remove its place
    end["stages"] = [{"stage": "place", "seconds": 700.1}, {"stage": "run", "seconds": 9.5}]
    assert "the script ended with 0, after 9.5 s, " in why.text(why.why(None, task))


def test_a_version_that_the_sdk_writes_with_blanks_is_no_other_version():
    assert compare._packages(["clearml == 2.1.12", "six==1.16.0"], ["clearml==2.1.12", "six==1.17.0"]) == [
        ("~", "six 1.16.0 → 1.17.0")]
