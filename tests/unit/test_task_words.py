"""What a person types to name a task or a time, and what a task's script says of a container."""

from __future__ import annotations

import io
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agentpipe import complete, errors, find, units
from agentpipe.server import tasks
from agentpipe.task import listing, named, sh_script, sources
from agentpipe.transport import api


def test_the_beginning_of_an_id_is_that_of_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    store = api.connect()
    ids = iter([one := "abcd" * 8, two := "abce" * 8, short := "abcea"])
    monkeypatch.setattr(tasks, "new_id", lambda: next(ids))
    for name in ("one", "two", "short"):
        store.call("tasks.create", {"name": name, "type": "training"})
    for word, meant in (("abcda", one), (one, one), ("abceabce", two), (short, short), ("nope", "nope"), ("abc", "abc"),
                        ("fffff", "fffff"), ("-abcd", "-abcd")):
        assert find.whole_id(store, word) == meant
    with pytest.raises(errors.Failure, match="fits 2 tasks") as caught:
        find.whole_id(store, "abce")
    assert caught.value.exit == errors.BAD_DATA


def test_a_name_that_is_the_beginning_of_another_id_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    store = api.connect()
    ids = iter([other := "2024abcd" * 4, named := "bcde" * 8, alone := "7777" * 8])
    monkeypatch.setattr(tasks, "new_id", lambda: next(ids))
    for name in ("other", "2024", "2025"):
        store.call("tasks.create", {"name": name, "type": "training"})
    with pytest.raises(errors.Failure, match="fits 2 tasks") as caught:
        find.task(store, "2024")
    assert caught.value.exit == errors.BAD_DATA
    assert {other, named} == set(caught.value.evidence.splitlines())
    assert [find.task(store, word)["id"] for word in ("2024a", "2025", named)] == [other, alone, named]


def test_an_old_task_is_completed_by_the_beginning_of_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))
    store = api.connect()
    old = store.call("tasks.create", {"name": "the old one", "type": "training"})["id"]
    for number in range(complete.MOST):
        store.call("tasks.create", {"name": f"new {number}", "type": "training"})
    assert complete.main(["tasks", old[:12]]) == 0
    assert capfd.readouterr().out == f"{old}\tcreated, the old one\n"
    for beginning in ("zz", "^", "ffffffffffffffff"):
        assert complete.main(["tasks", beginning]) == 0
        assert capfd.readouterr().out == ""


def test_days_have_names() -> None:
    today, yesterday = (find.moment(word, "--since") or 0 for word in ("today", "yesterday"))
    assert datetime.fromtimestamp(today).hour == 0 and 0 <= time.time() - today < 25 * 3600
    assert 23 * 3600 <= today - yesterday <= 25 * 3600


def test_times_are_shown_to_the_second() -> None:
    for text in ("2026-11-29T19:35:56.342000+00:00", "2026-11-29T19:35:56Z", "2026-11-29T19:35:56.342000"):
        assert units.clock(text) == "2026-11-29T19:35:56Z"
    assert units.clock(None) == ""


@pytest.mark.parametrize(("container", "left"), [
    ({"image": "a/b:1"}, "without the image's own packages and Python."),
    ({"image": "a/b:1", "arguments": "-e SECRET=x", "setup_shell_script": "apt-get update"},
     "without the image's own packages and Python, its arguments of docker run, its set-up script.")])
def test_a_script_says_what_of_a_container_it_does_not_do(container: dict[str, Any], left: str) -> None:
    task = {"id": "1f3c", "container": container, "script": {"entry_point": "./-x.py", "diff": "print(1)\n"}}
    text = sh_script.text(sources.Source(task, {}, {}, ""))
    assert f"# It asks for the container image a/b:1. This runs on the machine as it is, {left}\n" in text
    assert '# In an image that has git and uv as well:  docker run --rm -it -v "$PWD:/w" -w /w a/b:1 sh' in text
    assert "SECRET" not in text and "cat >-x.py <<" in text and "mkdir -p" not in text


def test_nothing_that_a_receipt_says_is_a_command_of_its_script() -> None:
    task = {"id": "1f3c\nid", "name": "x\nid", "script": {"repository": "/r", "entry_point": "'a`id` $x\"/t.py'"}}
    end = {"class": "completed\nid", "exit": 0}
    text = sh_script.text(sources.Source(task, {"commit": "c; id", "python": "3.11; id"}, end, ""))
    assert "\nid" not in text and "--python '3.11; id'" in text and "--detach 'c; id'" in text
    export = next(line for line in text.splitlines() if line.startswith("export PYTHONPATH"))
    said = subprocess.run(["sh", "-c", export + '; printf %s "$PYTHONPATH"'], cwd="/", capture_output=True, check=True)
    assert said.stdout == b'/://a`id` $x"'


def test_a_word_of_another_tool_is_told_what_it_is_here() -> None:
    from agentpipe.cmds.agent_task import GROUP
    assert set(GROUP.also_called.values()) <= set(GROUP.words()) and not set(GROUP.also_called) & set(GROUP.words())
    for word, verb in (("rerun", "enqueue"), ("logs", "log"), ("cancel", "stop")):
        with pytest.raises(errors.Failure, match=f"no command `{word}`; `{verb}` may be meant"):
            GROUP.verb(word)


def test_at_a_terminal_it_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch,
                                                 capfd: pytest.CaptureFixture[str]) -> None:
    for terminal in (False, True):
        typed = io.StringIO("1f3c\n\n two words \n")
        typed.isatty = lambda terminal=terminal: terminal  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", typed)
        assert list(named.listed(["a", "-"])) == ["a", "1f3c", "two words"]
        said = capfd.readouterr().err
        assert said == ("agent-task: waiting for tasks, an id or a name a line (Ctrl-D ends)\n" if terminal else "")


def test_one_name_without_end_makes_no_wide_table_of_a_list_in_a_pipe() -> None:
    row = dict.fromkeys(("worker", "queue", "created", "end"), None) | {"id": "1f3c" * 8, "status": "created"}
    found = listing.text([{**row, "name": "x" * 10_000}, {**row, "name": "train.py"}], ("id", "name", "status"))
    long, short = found.splitlines()[1:]
    assert "x" * 10_000 + "  created" in long and len(short) < 110


def test_help_is_a_verb_too(capfd: pytest.CaptureFixture[str]) -> None:
    from agentpipe.cmds.agent_task import GROUP
    for words, of in ((["help"], "COMMAND"), (["help", "list"], "list")):
        assert GROUP.run(words) == 0
        assert f"Usage: agent-task {of}" in capfd.readouterr().out


@pytest.mark.parametrize("verb", ["enqueue", "create"])
def test_a_name_that_no_server_takes_is_refused_and_one_of_ours_made_longer(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], verb: str) -> None:
    from agentpipe.cmds.agent_task import GROUP
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("#!/bin/sh\n")
    queue = ["--queue", "default"] if verb == "enqueue" else []
    assert GROUP.run([verb, *queue, "--binary", "sh", "--name", "S1", "a"]) == errors.USAGE
    assert "the name `S1` is too short" in capfd.readouterr().err
    store = api.connect()
    assert store.call("tasks.get_all", {})["tasks"] == []
    assert GROUP.run([verb, *queue, "--binary", "sh", "a"]) == 0
    assert "its name is `a task`" in capfd.readouterr().err
    assert [task["name"] for task in store.call("tasks.get_all", {"only_fields": ["name"]})["tasks"]] == ["a task"]


def test_a_task_without_artefacts_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    from agentpipe.cmds.agent_task import GROUP
    task = api.connect().call("tasks.create", {"name": "none", "type": "training"})["id"]
    assert GROUP.run(["artifacts", task]) == 0
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == f"agent-task: task {task} has neither artefacts nor models\n"
    assert GROUP.run(["plot", "--width", "-3", task]) == errors.USAGE
    assert capfd.readouterr().err == "agent-task: --width -3: it wants 20 or more\n"
