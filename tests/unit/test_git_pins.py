"""A branch in a requirement list becomes the commit that it means, and no other branch's."""

import pytest
from repositories import commit, repository, run

from agentpipe import git_pins
from agentpipe.job import Job


@pytest.fixture
def job(tmp_path):
    (tmp_path / "job").mkdir()
    return Job({"task": {}}, str(tmp_path / "job"))


@pytest.fixture
def source(tmp_path):
    """main, and beside it a branch and a tag whose names end like those that are asked for."""
    where = repository(tmp_path / "source")
    run(where, "tag", "-a", "-m", "one", "v1")
    for name in ("a/main", "refs/heads/main", "a/v1"):
        run(where, "checkout", "-q", "-b", name)
        commit(where, {"train.py": f"# {name}\n"})
    run(where, "checkout", "-q", "main")
    return where


@pytest.mark.parametrize("ref", ["main", "v1", "refs/heads/main"])
def test_a_name_is_that_branch_or_tag(job, source, ref):
    wanted = run(source, "rev-parse", "main")
    assert git_pins.pinned(job, f"x @ git+file://{source}@{ref}") == f"x @ git+file://{source}@{wanted}"


def test_what_is_not_there_stays_for_the_installer_to_say(job, source):
    line = f"x @ git+file://{source}@none"
    assert git_pins.pinned(job, line) == line


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_nobody_is_asked(job, source, monkeypatch, value):
    line = f"x @ git+file://{source}@main"
    pinned = git_pins.pinned(job, line)
    commit(source, {"train.py": "# newer\n"})
    monkeypatch.setenv("AGENT_OFFLINE", value)
    assert git_pins.pinned(job, line) == pinned
