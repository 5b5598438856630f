"""Hooks: found in order, their answers merged, their vetoes named."""

import os
import pathlib
import signal
import tempfile

import pytest

from agentpipe import errors, hooks

LINE = {"manifest": 1, "task": {"id": "t1", "name": "before"}, "pull": {"server": "s", "claim": "0" * 32}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    directory = tmp_path / "hooks"
    directory.mkdir()
    monkeypatch.setenv("AGENT_HOOKS", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return directory


def hook(path, text, mode=0o755):
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/usr/bin/env python3\nimport json, sys\nline = json.loads(sys.stdin.readline())\n" + text)
    path.chmod(mode)


def test_without_hooks_nothing_changes(folder):
    assert hooks.run("pre-fetch", LINE) == LINE


def test_a_directory_that_is_named_and_not_there_is_no_policy_without_a_word(folder, monkeypatch):
    monkeypatch.setenv("AGENT_HOOKS", f"{folder}:{folder}x")
    with pytest.raises(errors.Failure, match=f"AGENT_HOOKS names {folder}x, which is no directory") as caught:
        hooks.run("pre-pull", LINE)
    assert caught.value.exit == errors.BAD_CONFIG
    assert hooks.run("on-end", LINE) == LINE


def said_to_somebody_else(name):
    """What becomes of the hooks of this moment for a user who may not look into their folder."""
    pid = os.fork()
    if pid == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            os._exit(0 if hooks.run(name, LINE) == LINE else 1)
        except errors.Failure as failure:
            os.write(2, failure.reason.encode())
            os._exit(failure.exit)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("hidden", ["hooks", "hooks/pre-env.d"])
def test_hooks_that_cannot_be_seen_are_no_hooks_that_are_not_there(monkeypatch, capfd, hidden):
    with tempfile.TemporaryDirectory() as config:  # pytest's own nobody else could enter
        monkeypatch.setenv("XDG_CONFIG_HOME", config)
        os.chmod(config, 0o755)
        home = pathlib.Path(config) / "agentpipe"
        (home / "hooks").mkdir(parents=True)
        hook(home / "hooks" / "pre-env.d" / "10-no", "sys.exit(1)")
        (home / hidden).chmod(0)
        assert said_to_somebody_else("pre-env") == errors.BAD_CONFIG
        assert f"cannot see which hooks there are: {home}/hooks/pre-env" in capfd.readouterr().err
        assert said_to_somebody_else("on-end") == 0
        (home / hidden).chmod(0o755)


def test_an_empty_answer_leaves_the_manifest(folder):
    hook(folder / "pre-fetch", "pass")
    assert hooks.run("pre-fetch", LINE) == LINE


def test_an_answer_replaces_it_and_says_what_was_changed(folder):
    hook(folder / "pre-fetch", "line['task']['name'] = 'after'; line['site'] = 1; print(json.dumps(line))")
    found = hooks.run("pre-fetch", LINE)
    assert found["task"]["name"] == "after"
    assert found["hooks"] == {f"pre-fetch {folder}/pre-fetch": ["site", "task"]}


def test_a_folder_of_hooks_runs_in_order(folder):
    hook(folder / "pre-fetch", "line['task']['name'] += ' 1'; print(json.dumps(line))")
    hook(folder / "pre-fetch.d" / "20-b", "line['task']['name'] += ' 3'; print(json.dumps(line))")
    hook(folder / "pre-fetch.d" / "10-a", "line['task']['name'] += ' 2'; print(json.dumps(line))")
    assert hooks.run("pre-fetch", LINE)["task"]["name"] == "before 1 2 3"


def test_what_is_not_executable_is_no_hook(folder):
    hook(folder / "pre-fetch", "sys.exit(1)", mode=0o644)
    assert hooks.run("pre-fetch", LINE) == LINE


@pytest.mark.parametrize(("text", "why"), [
    ("print('too big', file=sys.stderr); sys.exit(3)", "ended with 3: too big"),
    ("print('nonsense')", "its answer is not a manifest"),
    ("line['task']['id'] = 'other'; print(json.dumps(line))", "it changed task.id"),
    ("line['pull']['claim'] = '1' * 32; print(json.dumps(line))", "it changed pull"),
    ("del line['pull']; print(json.dumps(line))", "it changed pull"),
    ("line['failed'] = {'exit': 77, 'reason': 'no'}; print(json.dumps(line))", "it changed failed"),
    ("line['run'] = {'exit': 0, 'end': 'completed'}; print(json.dumps(line))", "it changed run"),
    ("del line['task']; print(json.dumps(line))", "task is missing"),
])
def test_a_veto_names_the_hook_and_the_reason(folder, text, why):
    hook(folder / "pre-env", text)
    with pytest.raises(errors.Failure) as caught:
        hooks.run("pre-env", LINE)
    assert caught.value.exit == errors.NO_PERMISSION
    assert str(folder / "pre-env") in caught.value.reason
    assert why in caught.value.reason


def test_what_a_hook_says_goes_to_the_tasks_log(folder, tmp_path):
    from agentpipe.job import Job
    hook(folder / "pre-env", "print('checked', file=sys.stderr)")
    job = Job(LINE, str(tmp_path))
    hooks.run("pre-env", LINE, job)
    assert "checked" in (tmp_path / "setup.log").read_text()


def test_a_file_that_cannot_be_run_is_a_veto(folder):
    path = folder / "pre-env"
    path.write_text("#!/no/such/interpreter\n")
    os.chmod(path, 0o755)
    with pytest.raises(errors.Failure) as caught:
        hooks.run("pre-env", LINE)
    assert "cannot be run" in caught.value.reason


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOOK_TIMEOUT", "10")
    hook(folder / "on-end", f"""
import subprocess
process = subprocess.Popen(["sleep", "600"])  # it has the hook's stdout and stderr, as `curl … &` does
open({str(tmp_path / "pid")!r}, "w").write(str(process.pid))
line["site"] = 1
print(json.dumps(line))""")
    try:
        assert hooks.run("on-end", LINE)["site"] == 1
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_one_that_takes_too_long_is_ended_and_a_veto(folder, monkeypatch):
    monkeypatch.setenv("AGENT_HOOK_TIMEOUT", "0.5")
    hook(folder / "pre-env", "import time; time.sleep(600)")
    with pytest.raises(errors.Failure, match=r"it took longer than 0\.5 s"):
        hooks.run("pre-env", LINE)


def test_a_time_limit_that_is_no_number_is_named(folder, monkeypatch):
    hook(folder / "pre-fetch", "pass")
    monkeypatch.setenv("AGENT_HOOK_TIMEOUT", "5m")
    with pytest.raises(errors.Failure, match="AGENT_HOOK_TIMEOUT is no number: 5m") as caught:
        hooks.run("pre-fetch", LINE)
    assert caught.value.exit == errors.BAD_CONFIG


def test_one_that_prints_without_end_is_ended_at_once(folder, monkeypatch):
    monkeypatch.setattr(hooks, "MOST", 1 << 20)
    hook(folder / "pre-fetch", "while True: print('x' * 1000)")
    with pytest.raises(errors.Failure, match=r"it printed more than .* bytes, which is no manifest") as caught:
        hooks.run("pre-fetch", LINE)
    assert caught.value.exit == errors.NO_PERMISSION
