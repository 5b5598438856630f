"""Data that did not come with a task: a link to nowhere, a folder or a large file that git does not know."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import failing
import pytest

READ = {"t.py": "import os, sys\nos.listdir(sys.argv[1]) if sys.argv[2:] else open(sys.argv[1])\n"}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))


def told(top: Path, entry: str) -> dict[str, Any]:
    """What is told of a script whose task came from a repository here."""
    top.mkdir(exist_ok=True)
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=top, check=True)
    return failing.told(READ, entry, script={"repository": str(top), "branch": "main"})


@pytest.mark.parametrize(("target", "words"), [
    ("/nowhere/data", "put it there, or name another place; then agent-task enqueue 1f3c; where other workers have it"),
    ("../data", "let it lead to what git knows, in your checkout, and there: agent-task edit 1f3c --checkout . && ")])
def test_a_link_of_the_repository_that_leads_nowhere(target: str, words: str) -> None:
    os.symlink(target, failing.checkout(READ) / "data")
    for entry in ("t.py data/train/x.csv", "t.py data/train folder", "t.py data"):
        found = failing.told(READ, entry)
        assert found["reason"].startswith(f"data is a link of the repository to {target}, which is not there")
        assert words in found["advice"]


def test_a_folder_that_git_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "top/data/train").mkdir(parents=True)
    found = told(tmp_path / "top", "t.py data/train folder")
    assert found["reason"] == "data/train is an empty folder in your checkout, and git keeps none (exit 1)"
    assert 'os.makedirs("data/train", exist_ok=True)' in found["advice"]
    (tmp_path / "top/data/train/1.png").write_bytes(b"1")
    found = told(tmp_path / "top", "t.py data/train folder")
    assert found["reason"] == "data/train is in your checkout, and git does not know it (exit 1)"
    assert f"add -N -- {tmp_path}/top/data/train && agent-task edit 1f3c --checkout {tmp_path}/top" in found["remedy"]


def test_a_large_file_that_git_does_not_know_is_for_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/w.bin").write_bytes(b"1" * (2 << 20))
    found = told(tmp_path / "top", "t.py w.bin")
    assert found["reason"] == "w.bin (2.0 MiB) is in your checkout, and git does not know it (exit 1)"
    assert found["remedy"] is None
    assert f"in {tmp_path}/top: agent-task enqueue --bundle --include w.bin t.py -- w.bin; data" in found["advice"]
