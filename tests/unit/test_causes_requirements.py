"""Where in the repository a line of a task's list stands that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import failing
import pytest

from agentpipe.task import causes

URL = "http://127.0.0.1:9/simple"
END = {"class": "setup_failed", "reason": f"cannot reach {URL}/six/, which line 2 of the task's requirements names",
       "advice": f"check the network; a task that is to do without it: agent-task edit 1f3c --drop-package "
                 f"'--index-url {URL}'"}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_HOME", str(tmp_path))


def told(files: dict[str, str]) -> dict[str, Any]:
    failing.checkout(files)
    return causes.of_setup({"id": failing.ID, "script": {"repository": "https://git.example.org/r.git"}}, END)


@pytest.mark.parametrize(("files", "place"), [
    ({"requirements.txt": f"six\n--index-url {URL}\n"}, "requirements.txt:2"),
    ({"requirements.txt": "-r requirements/base.txt\n", "requirements/base.txt": f"# x\n\n-i={URL}  # ours\nsix\n"},
     "requirements/base.txt:3"),
    ({"requirements.txt": f"--index-url http://me:secret@{URL[7:]}\nsix\n"}, "requirements.txt:1")])
def test_an_index_that_nobody_reaches_is_mended_in_its_file(files: dict[str, str], place: str) -> None:
    found = told(files)
    assert found["reason"] == f"cannot reach {URL}/six/, which {place} names" and found["remedy"] is None
    assert found["advice"] == (f"{END['advice']}; or mend {place} in your checkout, and there: agent-task edit 1f3c "
                               "--requirements requirements.txt && agent-task enqueue 1f3c")


@pytest.mark.parametrize("files", [
    {}, {"requirements.txt": "six\n"}, {"requirements.txt": f"six\n--index-url {URL}/other\n"},
    # all of them together are the task's list
    {"requirements.txt": f"--index-url {URL}\n", "sub/requirements.txt": "six\n"}])
def test_of_a_line_that_is_not_there_or_of_several_lists_nothing_is_changed(files: dict[str, str]) -> None:
    assert told(files) == {}
