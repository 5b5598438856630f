"""Which hooks there are, and what looks like one and is none."""

import grp
import os
import pwd
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentpipe import hook_files, hooks
from agentpipe.configure import config_check


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of this user's hooks, the only one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AGENT_HOOKS", raising=False)
    found = tmp_path / "agentpipe" / "hooks"
    found.mkdir(parents=True)
    monkeypatch.setattr("agentpipe.paths.hook_directories", lambda: ["/nowhere", str(found)])
    return found


def put(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("name", "meant"), [
    ("pre-fecth", "pre-fetch"), ("pre-fetch.sh", "pre-fetch"), ("post_run", "post-run"), ("on_end", "on-end"),
    ("pre-prepar.d/10-first", "pre-prepare.d"), ("pre_pull", "pre-pull")])
def test_a_misspelt_hook_is_named_with_the_one_that_may_be_meant(folder: Path, name: str, meant: str) -> None:
    put(folder / name)
    entry = folder / name.split("/")[0]
    found, odd = hook_files.look()
    assert found == []
    assert [each.text for each in odd] == [f"{entry} is no hook by its name; {meant} may be meant"]
    subprocess.run(shlex.split(odd[0].remedy), check=True)
    found, odd = hook_files.look()
    assert len(found) == 1 and not odd and hooks.find(meant.removesuffix(".d")) == found


def test_all_that_agent_hooks_names_is_one_and_what_a_hook_may_read_is_not_told_of(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "man" / "agent-hooks.5").read_text()
    for name in hook_files.NAMES:
        assert name.partition("-")[2] in page
        put(folder / name)
    put(folder / "on-end.d" / "50-webhook")
    put(folder / "README.md", 0o644)
    put(folder / "limits.conf", 0o644)
    put(folder / "pre-fecth", 0o644)
    put(folder / "pre-run.off")
    put(folder / "pre-run~")
    (folder / "lib").mkdir()
    found, odd = hook_files.look()
    assert len(found) == len(hook_files.NAMES) + 1 and not odd
    assert sorted(path for name in hook_files.NAMES for path in hooks.find(name)) == sorted(found)


def test_what_has_the_right_name_and_cannot_be_run_is_said(folder: Path) -> None:
    put(folder / "pre-env", 0o644)
    put(folder / "pre-run.d" / "10-x", 0o644)
    put(folder / "post-env.d")
    (folder / "post-run").mkdir()
    (folder / "pre-fetch").symlink_to("gone")
    put(folder / "notify")
    said = {each.text.removeprefix(f"{folder}/"): each.remedy for each in hook_files.look()[1]}
    assert said == {
        "notify is no hook by its name, so nobody runs it": "agent-hooks(5) has the names",
        "post-env.d is no folder, so it is no hook": f"mv {folder}/post-env.d {folder}/post-env",
        "post-run is a folder, so it is no hook": "a folder of hooks has .d at its name's end",
        "pre-env is not executable, so it is no hook": f"chmod +x {folder}/pre-env",
        "pre-fetch cannot be reached: No such file or directory": f"ls -l {folder}/pre-fetch",
        "pre-run.d/10-x is not executable, so it is no hook": f"chmod +x {folder}/pre-run.d/10-x"}
    assert [each.meant for each in hook_files.urgent()] == ["post-env"]


def test_the_doctor_lists_hooks_and_what_is_none(folder: Path) -> None:
    first, = config_check.hooks_there()
    assert (first.level, first.text) == ("ok", "none")
    put(folder / "pre-fetch")
    put(folder / "post-ptach")
    first, second = config_check.hooks_there()
    assert (first.level, first.text) == ("ok", f"{folder}/pre-fetch")
    assert (second.level, second.text) == (
        "warning", f"{folder}/post-ptach is no hook by its name; post-patch may be meant")


@pytest.mark.parametrize("which", [".", "pre-run.d", "pre-run.d/10-first"])
def test_a_hook_that_others_can_write_is_told(folder: Path, which: str, monkeypatch: pytest.MonkeyPatch,
                                              tmp_path: Path) -> None:
    hook = put(folder / "pre-run.d" / "10-first")
    put(folder / "pre-run")
    assert not hook_files.urgent()
    path = folder / which
    path.chmod(0o777)
    text = f"{path}: others can write it, and so decide what runs as you"
    assert [each.text for each in hook_files.urgent()] == [text]
    assert [each.text for each in config_check.hooks_there()][1:] == [text]
    said: list[str] = []
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "agent"))
    hooks.run("pre-run", {"task": {}}, SimpleNamespace(say=said.append))
    assert any(f"({path}: others can write it)" in line for line in said)
    subprocess.run(shlex.split(hook_files.urgent()[0].remedy), check=True)
    assert not hook_files.urgent() and hook in map(Path, hooks.find("pre-run"))


def test_the_group_that_is_the_users_own_is_nobody_else(folder: Path) -> None:
    hook = put(folder / "pre-run", 0o775)
    user = pwd.getpwuid(os.getuid())
    if grp.getgrgid(hook.stat().st_gid).gr_name != user.pw_name:
        pytest.skip("this user has no group of its own")
    folder.chmod(0o775)
    assert not hook_files.urgent()
    folder.chmod(0o777)
    assert [each.text for each in hook_files.urgent()] == [
        f"{folder}: others can write it, and so decide what runs as you"]
