"""Where things stand: one place whatever the current directory is, and none on a network file system."""

import os

import pytest

from agentpipe import errors, paths


def test_a_relative_home_is_the_same_place_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENT_HOME", "here")
    assert paths.state("tasks") == str(tmp_path / "here" / "state" / "tasks")
    assert paths.cache("git") == str(tmp_path / "here" / "cache" / "git")


def test_directories_are_private(agent_home):
    assert os.stat(paths.state()).st_mode & 0o777 == 0o700
    assert os.stat(paths.cache()).st_mode & 0o777 == 0o700


def test_the_longest_mount_point_above_a_path_says_its_file_system():
    assert paths.file_system("/proc/self/fd") == "proc"
    assert paths.file_system("/dev/null") == paths.file_system("/dev")


@pytest.mark.parametrize("home", ["/mnt/team", "/mnt/a b/c"])
def test_a_home_on_a_network_file_system_is_refused_with_what_to_do(monkeypatch, home):
    monkeypatch.setattr(paths, "file_system", lambda path: "nfs4" if path.startswith(home) else "ext4")
    monkeypatch.setenv("AGENT_HOME", home)
    with pytest.raises(errors.Failure) as caught:
        paths.state()
    assert caught.value.exit == errors.BAD_CONFIG
    assert "network file system" in caught.value.reason
    assert caught.value.remedy.startswith("AGENT_HOME=/var/tmp/")
