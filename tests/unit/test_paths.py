"""Where things stand: one place whatever the current directory is, and none on a network file system."""

import os

import pytest

from agentpipe import errors, paths


@pytest.mark.parametrize(("variable", "value", "remedy"), [
    ("AGENT_HOME", "here", "AGENT_HOME={}/here"), ("AGENT_HOME", "./a/../b", "AGENT_HOME={}/b"),
    ("AGENT_HOME", "~/x", "AGENT_HOME={}/home/x"), ("HOME", "", "set AGENT_HOME"), ("HOME", "here", "set AGENT_HOME")])
def test_a_home_that_depends_on_where_one_stands_is_refused(tmp_path, monkeypatch, variable, value, remedy):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("AGENT_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    for place in (paths.state, paths.cache):
        with pytest.raises(errors.Failure, match=f"^{variable} wants an absolute path, and is '{value}'") as caught:
            place()
        assert caught.value.exit == errors.BAD_CONFIG and remedy.format(tmp_path) in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_directories_are_private(agent_home):
    assert os.stat(paths.state()).st_mode & 0o777 == 0o700
    assert os.stat(paths.cache()).st_mode & 0o777 == 0o700


def test_the_longest_mount_point_above_a_path_says_its_file_system():
    assert paths.file_system("/proc/self/fd") == "proc"
    assert paths.file_system("/dev/null") == paths.file_system("/dev")


@pytest.mark.parametrize(("home", "kind"), [("/mnt/team", "nfs4"), ("/mnt/a b/c", "wekafs"), ("/home/me", "dvs"),
                                            ("/scratch", "fuse.juicefs")])
def test_a_home_on_a_network_file_system_is_refused_with_what_to_do(monkeypatch, home, kind):
    monkeypatch.setattr(paths, "file_system", lambda path: kind if path.startswith(home) else "ext4")
    monkeypatch.setenv("AGENT_HOME", home)
    with pytest.raises(errors.Failure) as caught:
        paths.state()
    assert caught.value.exit == errors.BAD_CONFIG
    assert "network file system" in caught.value.reason
    assert caught.value.remedy.startswith("AGENT_HOME=/var/tmp/")


@pytest.mark.parametrize("variable", ["AGENT_HOME", "XDG_STATE_HOME", "HOME"])
def test_a_home_that_could_stand_in_no_manifest_is_refused(monkeypatch, variable):
    for name in ("AGENT_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, os.fsdecode(b"/srv/caf\xe9"))
    with pytest.raises(errors.Failure, match=f"^{variable} is not UTF-8") as caught:
        paths.state()
    assert caught.value.exit == errors.BAD_CONFIG


def test_what_all_homes_share_stands_where_the_operator_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_MACHINE_DIR", str(tmp_path / "ours"))
    assert paths.of_this_machine("homes") == str(tmp_path / "ours" / "homes")
    monkeypatch.setenv("AGENT_MACHINE_DIR", "here")
    with pytest.raises(errors.Failure, match=r"^AGENT_MACHINE_DIR wants an absolute path"):
        paths.of_this_machine("homes")


@pytest.mark.parametrize("home", ["", "here"])
def test_a_user_without_a_home_has_no_hooks_where_agent_home_says_the_rest(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("AGENT_HOOKS", "/srv/hooks")
    monkeypatch.setenv("AGENT_HOME", "/srv/agent")
    assert paths.hook_directories() == ["/etc/agentpipe/hooks", "/srv/hooks"]
    monkeypatch.delenv("AGENT_HOME")
    with pytest.raises(errors.Failure, match="HOME wants an absolute path"):
        paths.hook_directories()
