"""What agent-patch writes stays in the checkout, whatever links the repository has."""

import json
import os
import resource
import subprocess
import sys

import pytest

from agentpipe import errors, files
from agentpipe.code import entry, notebook, start_file
from agentpipe.job import Job
from agentpipe.run import launch

NOTEBOOK = json.dumps({"cells": [{"cell_type": "code", "source": ["print(1)"]}]})


@pytest.fixture
def code(tmp_path):
    """A checkout whose `data` is a link to a folder outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "code" / "inside").mkdir(parents=True)
    (tmp_path / "code" / "data").symlink_to(tmp_path / "outside")
    (tmp_path / "code" / "within").symlink_to("inside")
    return tmp_path / "code"


def test_an_entry_point_behind_a_link_out_of_the_checkout_is_refused(code):
    (code / "data" / "nb.ipynb").write_text(NOTEBOOK)
    with pytest.raises(errors.Failure) as caught:
        entry.check_there(str(code), entry.of({"entry_point": "data/nb.ipynb"}, str(code)))
    assert caught.value.exit == errors.BAD_DATA
    assert os.listdir(code / "data") == ["nb.ipynb"]


def test_what_is_not_in_the_checkout_is_told_with_the_option_that_names_another(code):
    with pytest.raises(errors.Failure, match="there is no folder zzz") as caught:
        entry.directory(str(code), "zzz")
    assert (caught.value.exit, caught.value.change) == (errors.NOT_FOUND, errors.CODE_ANEW)
    assert "agent-task edit TASK --working-dir DIR" in caught.value.remedy
    with pytest.raises(errors.Failure, match=r"there is no zzz\.py") as caught:
        entry.check_there(str(code), entry.of({"entry_point": "zzz.py"}, str(code)))
    assert "agent-task edit TASK --entry-point" in caught.value.remedy


def test_a_link_within_the_checkout_is_no_harm(code):
    (code / "within" / "nb.ipynb").write_text(NOTEBOOK)
    path = entry.check_there(str(code), entry.of({"entry_point": "within/nb.ipynb"}, str(code)))
    assert notebook.convert(path) == (str(code / "within" / "nb.py"), False)


@pytest.mark.parametrize("source", ["!echo one \\\n  two\nprint(3)", "if True:\n    !echo one \\\n  two\n    print(3)"])
def test_a_command_of_a_notebook_goes_on_behind_a_backslash(code, source):
    path = code / "nb.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": source}]}))
    script, _ = notebook.convert(str(path))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["one", "two", "3"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '{"cells": [5]}'])
def test_what_is_no_notebook_is_refused(code, text):
    (code / "nb.ipynb").write_text(text)
    with pytest.raises(errors.Failure, match="not a notebook") as caught:
        notebook.convert(str(code / "nb.ipynb"))
    assert caught.value.exit == errors.BAD_DATA


def test_half_a_character_in_a_notebook_is_a_question_mark(code):
    (code / "nb.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": "print('\ud83d')"}]}))
    script, _ = notebook.convert(str(code / "nb.ipynb"))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "?\n"


def test_a_link_in_the_place_of_the_temporary_is_not_followed(code, tmp_path):
    target = tmp_path / "outside" / "precious"
    target.write_text("precious")
    os.symlink(target, files.temporary(str(code / "train.py")))
    entry.publish(str(code / "train.py"), b"print(1)\n")
    assert target.read_text() == "precious"
    assert (code / "train.py").read_text() == "print(1)\n"
    assert not (code / "train.py").is_symlink()


def test_a_file_that_is_published_again_keeps_its_mode_if_it_is_to(tmp_path):
    path = tmp_path / "run.sh"
    path.write_text("")
    path.chmod(0o755)
    files.publish(str(path), b"x", keep_mode=True)
    assert path.stat().st_mode & 0o777 == 0o755
    files.publish(str(path), b"x")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_73_and_leaves_nothing(tmp_path):
    with pytest.raises(errors.Failure) as caught:
        files.publish(str(tmp_path / "none" / "x"), b"x")
    assert caught.value.exit == errors.CANNOT_CREATE


@pytest.mark.parametrize("shell", entry.SHELLS)
def test_every_shell_runs_without_a_python_environment(tmp_path, shell):
    program = tmp_path / shell
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    line = {"task": {"id": "t", "script": {"binary": str(program), "entry_point": "main.sh"}},
            "fetch": {"code": str(tmp_path)}, "patch": {}, "env": {"python": None}}
    assert entry.is_shell(line["task"]["script"])
    assert launch.of(line, str(tmp_path), {}).argv[0] == str(program)


def test_an_argument_with_a_nul_byte_is_bad_data(tmp_path):
    line = {"task": {"id": "t", "script": {}}, "fetch": {"code": str(tmp_path)},
            "patch": {"entry_point": "a.py x\0y"}, "env": {"python": "/usr/bin/python3"}}
    with pytest.raises(errors.Failure) as caught:
        launch.of(line, str(tmp_path), {})
    assert (caught.value.exit, "NUL" in caught.value.reason) == (errors.BAD_DATA, True)


def test_a_program_may_stand_in_the_checkout_by_its_path_from_the_working_directory(tmp_path):
    line = {"task": {"id": "t", "script": {"binary": "./tool --fast", "entry_point": "data.txt", "working_dir": "sub"}},
            "fetch": {"code": str(tmp_path)}, "patch": {}, "env": {"python": None}}
    (tmp_path / "sub").mkdir()
    with pytest.raises(errors.Failure, match=rf"program \./tool is not in {tmp_path}/sub"):
        launch.of(line, str(tmp_path), {})
    (tmp_path / "sub" / "tool").touch(0o755)
    begin = launch.of(line, str(tmp_path), {})
    assert (begin.argv, begin.cwd) == (["./tool", "--fast", "data.txt"], str(tmp_path / "sub"))


@pytest.mark.parametrize(("words", "change"), [
    ("utill.py --x 1", ("--entry-point", "util.py --x 1")), ("train.py", errors.CODE_ANEW),
    ("evil.py", errors.CODE_ANEW)])
def test_another_script_is_a_command_only_where_one_alone_can_be_meant(tmp_path, words, change):
    for name in ("a/train.py", "b/train.py", "util.py", "main.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(errors.Failure) as caught:
        entry.check_there(str(tmp_path), entry.of({"entry_point": words}, str(tmp_path)))
    assert caught.value.change == change
    assert ("a/train.py" in caught.value.reason and "b/train.py" in caught.value.reason) == (words == "train.py")


@pytest.mark.parametrize("name", ["train.py", "train.ipynb"])
def test_a_file_outside_that_the_checkout_links_to_is_not_copied_into_it(tmp_path, monkeypatch, name):
    """Its container would see there what only this machine can read."""
    monkeypatch.setenv("CLEARML_AGENT_FORCE_TASK_INIT", "1")
    code = tmp_path / "code"
    code.mkdir()
    (tmp_path / "private").write_text('{"cells": [{"cell_type": "code", "source": "token = 1"}]}')
    (code / name).symlink_to(tmp_path / "private")
    job = Job({"task": {"script": {"repository": "r"}}, "fetch": {"code": str(code)}}, str(tmp_path))
    found = entry.of({"entry_point": name}, str(code))
    if name.endswith(".py"):
        start_file.prepare(job, str(code), found)
    else:
        with pytest.raises(errors.Failure, match="outside the checkout"):
            start_file.prepare(job, str(code), found)
    assert os.listdir(code) == [name] and (code / name).is_symlink()


@pytest.mark.parametrize("text", ["print(1)\n", "# a comment\nprint(1)\n", '"""Text."""\nprint(1)\n'])
def test_a_script_that_begins_with_a_mark_of_its_encoding_still_does(tmp_path, text):
    (tmp_path / "train.py").write_text(text, encoding="utf-8-sig")
    assert entry.insert_task_init(str(tmp_path / "train.py"))
    compile((tmp_path / "train.py").read_bytes(), "train.py", "exec")
    assert "Task.init" in (tmp_path / "train.py").read_text(encoding="utf-8-sig")


@pytest.mark.parametrize("target", ["loop", "nowhere"])
def test_a_link_that_leads_nowhere_is_called_that(tmp_path, target):
    (tmp_path / "loop").symlink_to(target)
    with pytest.raises(errors.Failure) as caught:
        entry.check_there(str(tmp_path), entry.of({"entry_point": "loop"}, str(tmp_path)))
    assert caught.value.exit == errors.NOT_FOUND
    assert caught.value.reason == f"loop in the checkout is a link that leads nowhere: {target} (script.entry_point)"


@pytest.mark.parametrize("text", ["+".join(["1"] * 20_000), "-" * 100_000 + "1"])
def test_code_that_is_nested_deeper_than_we_can_read_is_left_to_its_own_python(tmp_path, text):
    """A long chain of texts, as tools write it."""
    cells = tmp_path / "deep.ipynb"
    cells.write_text(json.dumps({"cells": [{"cell_type": "code", "source": f"x = {text}\n"}]}))
    assert f"x = {text}\n" in notebook.script(str(cells))[0]
    path = tmp_path / "deep.py"
    path.write_text(f"from clearml import Task\n(__name__ != '__main__') or Task.init()\nx = {text}\n")
    assert not entry.mend_future_imports(str(path))
    path.write_text(f"x = {text}\n")
    assert not entry.insert_task_init(str(path))


def test_a_link_beside_a_notebook_is_not_read(code):
    """Of /dev/zero there is no end."""
    (code / "nb.ipynb").write_text(NOTEBOOK)
    (code / "nb.py").symlink_to("/dev/zero")
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, limit[1]))
    try:
        assert notebook.convert(str(code / "nb.ipynb"))[0] == str(code / "nb_notebook.py")
        assert notebook.convert(str(code / "nb.ipynb"))[0] == str(code / "nb_notebook.py")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limit)
    (code / "nb.py").unlink()
    assert [notebook.convert(str(code / "nb.ipynb"))[0] for _ in range(2)] == [str(code / "nb.py")] * 2
