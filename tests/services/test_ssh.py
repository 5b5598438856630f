"""agent-fetch over a real sshd on a loopback port, with keys and an agent, and Git LFS where it is installed."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from git_servers import free_port
from repositories import commit, repository, run, tree

from agentpipe import errors
from agentpipe.cmds import agent_fetch
from agentpipe.code import git_transfer
from agentpipe.environment import git_pins
from agentpipe.job import Job
from agentpipe.settings import config


class Sshd:
    """sshd for this user on a port of its own; `ssh` (first on PATH) is the real one with a configuration of ours."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        for name in ("host", "user", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
        shutil.copy(root / "user.pub", root / "authorized")
        os.makedirs("/run/sshd", exist_ok=True)
        (root / "bin").mkdir()
        (root / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {root}/config "$@"\n')
        (root / "bin" / "ssh").chmod(0o755)
        self.identity("user")
        self.process = self.start()
        self.know()

    def start(self) -> "subprocess.Popen[bytes]":
        started = subprocess.Popen(
            [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", "/dev/null", "-p", str(self.port), "-h",
             str(self.root / "host"), "-o", "ListenAddress=127.0.0.1", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o",
             f"AuthorizedKeysFile={self.root}/authorized", "-o", f"PidFile={self.root}/pid"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while subprocess.run(["ssh-keyscan", "-p", str(self.port), "127.0.0.1"], capture_output=True).stdout == b"":
            assert time.monotonic() < until and started.poll() is None
        return started

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def identity(self, name: str) -> None:
        """Which key ssh offers; "" for those of the agent."""
        key = f"IdentityFile {self.root}/{name}\nIdentitiesOnly yes\n" if name else "IdentityFile none\n"
        (self.root / "config").write_text(f"UserKnownHostsFile {self.root}/known\nGlobalKnownHostsFile none\n"
                                          f"StrictHostKeyChecking yes\n{key}Host named\n  HostName 127.0.0.1\n"
                                          f"  Port {self.port}\n  HostKeyAlias [127.0.0.1]:{self.port}\n")

    def know(self) -> None:
        found = subprocess.run(["ssh-keyscan", "-p", str(self.port), "127.0.0.1"], capture_output=True, check=True)
        (self.root / "known").write_bytes(found.stdout)

    def url(self, path: Path) -> str:
        return f"ssh://{os.environ.get('USER') or 'root'}@127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    found = Sshd(tmp_path_factory.mktemp("sshd"))
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch, sshd):
    for name in list(os.environ):
        if name.startswith(("AGENT_", "CLEARML_", "GIT_SSH", "SSH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{sshd.root}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(git_transfer, "PAUSES", ())
    sshd.identity("user")
    sshd.know()
    config.reload()


@pytest.fixture
def source(tmp_path):
    return repository(tmp_path / "source")


def fetch(directory: Path, url: str, **script: str) -> dict:
    directory.mkdir(exist_ok=True)
    return agent_fetch.work(Job({"task": {"script": {"repository": url, **script}}}, str(directory)))


def refused(directory: Path, url: str) -> errors.Failure:
    with pytest.raises(errors.Failure) as failure:
        fetch(directory, url)
    assert failure.value.exit == errors.NO_PERMISSION
    return failure.value


def test_a_key_opens_the_repository_and_a_cached_commit_needs_no_server(tmp_path, sshd, source):
    head = run(source, "rev-parse", "HEAD")
    assert fetch(tmp_path / "one", sshd.url(source))["commit"] == head
    sshd.stop()
    try:
        assert fetch(tmp_path / "two", sshd.url(source), version_num=head)["cached"]
        with pytest.raises(errors.Failure) as failure:
            fetch(tmp_path / "three", sshd.url(source), branch="main")
        assert failure.value.exit == errors.UNAVAILABLE
    finally:
        sshd.process = sshd.start()


def test_the_short_form_of_an_address_works(tmp_path, sshd, source):
    user = os.environ.get("USER") or "root"
    assert (Path(fetch(tmp_path / "job", f"{user}@named:{source}")["code"]) / "train.py").exists()


def test_a_key_of_the_agent_opens_it(tmp_path, sshd, source, monkeypatch):
    sshd.identity("")
    assert "none of this user's ssh keys" in refused(tmp_path / "without", sshd.url(source)).reason
    said = subprocess.run(["ssh-agent", "-s", "-a", str(sshd.root / "agent")], capture_output=True, text=True).stdout
    pid = int(said.partition("SSH_AGENT_PID=")[2].partition(";")[0])
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sshd.root / "agent"))
        subprocess.run(["ssh-add", "-q", sshd.root / "user"], check=True)
        fetch(tmp_path / "with", sshd.url(source))
    finally:
        os.kill(pid, signal.SIGTERM)


def test_a_key_that_is_not_accepted_is_said_and_nobody_is_asked_for_a_password(tmp_path, sshd, source):
    sshd.identity("stranger")
    failure = refused(tmp_path / "job", sshd.url(source))
    assert "none of this user's ssh keys is accepted" in failure.reason
    assert f"ssh -v -p {sshd.port}" in failure.remedy


def test_a_key_that_others_may_read_is_not_tried_and_the_remedy_works(tmp_path, sshd, source):
    (sshd.root / "user").chmod(0o644)
    failure = refused(tmp_path / "job", sshd.url(source))
    assert f"{sshd.root}/user is not even tried" in failure.reason
    subprocess.run(["sh", "-c", failure.remedy.partition(";")[0]], check=True)
    fetch(tmp_path / "job", sshd.url(source))


def test_an_unknown_host_key_is_said_and_the_remedy_works(tmp_path, sshd, source):
    (sshd.root / "known").write_text("")
    failure = refused(tmp_path / "job", sshd.url(source))
    assert "ssh key is not known here" in failure.reason
    command = failure.remedy.partition("then: ")[2].replace("~/.ssh/known_hosts", str(sshd.root / "known"))
    subprocess.run(["sh", "-c", command], check=True, stderr=subprocess.DEVNULL)
    fetch(tmp_path / "job", sshd.url(source))


def test_a_host_key_that_has_changed_is_another_thing(tmp_path, sshd, source):
    other = (sshd.root / "stranger.pub").read_text().rsplit(" ", 1)[0]
    (sshd.root / "known").write_text(f"[127.0.0.1]:{sshd.port} {other}\n")
    failure = refused(tmp_path / "job", sshd.url(source))
    assert "another than before" in failure.reason and f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in failure.remedy


def test_https_is_asked_for_over_ssh_where_that_is_forced(tmp_path, sshd, source, monkeypatch):
    for key, value in (("PROTOCOL", "true"), ("PORT", str(sshd.port)), ("USER", os.environ.get("USER") or "root")):
        monkeypatch.setenv(f"CLEARML_AGENT__AGENT__FORCE_GIT_SSH_{key}", value)
    found = fetch(tmp_path / "job", f"https://127.0.0.1{source}")
    assert run(Path(found["code"]), "remote", "get-url", "origin") == f"https://127.0.0.1{source}"
    # and so does an installer's git
    env = {**os.environ, **git_pins.access(Job({}, str(tmp_path)), [f"git+https://127.0.0.1{source}"])}
    assert found["commit"] in run(tmp_path, "ls-remote", f"https://127.0.0.1{source}", env=env)


def test_submodules_come_over_ssh_too(tmp_path, sshd, source):
    outer = repository(tmp_path / "outer")
    run(outer, "submodule", "add", "-q", str(source), "inner")
    run(outer, "config", "-f", ".gitmodules", "submodule.inner.url", "../source")
    commit(outer, {})
    assert (Path(fetch(tmp_path / "job", sshd.url(outer))["code"]) / "inner" / "train.py").exists()


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A repository whose *.bin are files of Git LFS."""
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    subprocess.run(["git", "lfs", "install", "--skip-repo"], check=True, capture_output=True)
    where = repository(tmp_path / "large", {"train.py": "", ".gitattributes": "*.bin filter=lfs diff=lfs -text\n"})
    (where / "big.bin").write_bytes(bytes(range(256)) * 100)
    commit(where, {})
    assert run(where, "cat-file", "-p", "HEAD:big.bin").startswith("version https://git-lfs")
    return where


def test_files_of_git_lfs_come_with_the_users_own_filter(tmp_path, large):
    found = fetch(tmp_path / "job", f"file://{large}")
    assert (Path(found["code"]) / "big.bin").read_bytes() == bytes(range(256)) * 100


def test_files_of_git_lfs_are_fetched_once_for_all_checkouts(tmp_path, large):
    content = (large / "big.bin").read_bytes()
    found = fetch(tmp_path / "one", f"file://{large}")
    shutil.rmtree(large / ".git" / "lfs")  # the server has them no longer
    code = Path(fetch(tmp_path / "two", f"file://{large}", version_num=found["commit"])["code"])
    assert (code / "big.bin").read_bytes() == content
    shutil.rmtree(tmp_path / "home" / "cache")
    os.unlink(code / "big.bin")
    run(code, "checkout", "--", "big.bin")  # it is whole by itself
    assert (code / "big.bin").read_bytes() == content


def test_without_a_network_files_of_git_lfs_are_those_that_were_fetched_before(tmp_path, large, monkeypatch):
    first = fetch(tmp_path / "one", f"file://{large}")
    (large / "more.bin").write_bytes(b"more")
    second = commit(large, {})
    content = (large / "big.bin").read_bytes()
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    fetch(tmp_path / "two", f"file://{large}", version_num=second)  # the commit alone
    monkeypatch.delenv("GIT_LFS_SKIP_SMUDGE")
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    for number, known in enumerate((first["commit"], second)):
        job = tmp_path / f"offline{number}"
        code = Path(fetch(job, f"file://{large}", version_num=known)["code"])
        assert (code / "big.bin").read_bytes() == content
        assert run(code, "status", "--porcelain") == ""
        assert ("AGENT_OFFLINE" in (job / "setup.log").read_text()) == (known == second)
    assert (code / "more.bin").read_text().startswith("version https://git-lfs")


def test_without_git_lfs_it_is_said_that_pointers_stay(tmp_path, large):
    os.unlink(tmp_path / ".gitconfig")
    found = fetch(tmp_path / "job", f"file://{large}")
    assert (Path(found["code"]) / "big.bin").read_text().startswith("version https://git-lfs")
    assert "git lfs install" in (tmp_path / "job" / "setup.log").read_text()


def test_a_change_that_git_lfs_keeps_is_said_when_it_is_captured(tmp_path, large, monkeypatch):
    from agentpipe.capture import capture
    (large / "big.bin").write_bytes(b"new")
    monkeypatch.chdir(large)
    found = capture.capture(capture.Wish("train.py", []))
    assert found.warnings == [("big.bin is kept by Git LFS: its changes cannot go along",
                               "git commit -- big.bin && git push")]
    found = capture.capture(capture.Wish("train.py", [], bundle=True))
    assert (found.warnings, found.script["diff"], list(found.bundle.files)) == ([], "", ["big.bin"])


@pytest.fixture
def behind(tmp_path, large):
    """A bare repository, and a checkout of it whose files of Git LFS are newer, in a submodule too."""
    (tmp_path / ".gitconfig").open("a").write('[protocol "file"]\n\tallow = always\n')
    for name in ("inner.git", "bare.git"):
        run(tmp_path, "clone", "-q", "--bare", str(large), name)
        shutil.copytree(large / ".git" / "lfs", tmp_path / name / "lfs")
        if name == "inner.git":
            run(large, "submodule", "--quiet", "add", "../inner.git", "inner")
            commit(large, {})
    run(tmp_path, "clone", "-q", "--recurse-submodules", f"file://{tmp_path}/bare.git", "work")
    work = tmp_path / "work"
    (work / "inner" / "more.bin").write_bytes(b"in the submodule")
    commit(work / "inner", {})
    (work / "big.bin").write_bytes(b"newer")
    (work / "big.bin").chmod(0o755)
    commit(work, {"train.py": "print(1)\n"})
    return work


def brought(directory, work):
    """The manifest's part of a task that was enqueued there with --bundle, and what its sender is told."""
    from agentpipe.capture import capture
    found = capture.capture(capture.Wish("train.py", [], bundle=True))
    directory.mkdir()
    keys = [key for key, _, _ in found.bundle.written(lambda name: str(directory / name))]
    artifacts = [{"key": key, "mode": "input"} for key in keys]
    task = {"script": found.script, "execution": {"artifacts": artifacts}}
    return Job({"task": task}, str(directory)), found.bundle.told()


@pytest.mark.parametrize("change", ["none", "changed", "gone", "moved"])
def test_files_of_git_lfs_in_commits_that_were_not_pushed_go_along(tmp_path, behind, monkeypatch, change):
    from agentpipe.cmds import agent_patch
    monkeypatch.chdir(behind)
    if change == "changed":
        (behind / "big.bin").write_bytes(b"newest")
    elif change == "gone":
        (behind / "big.bin").unlink()
    elif change == "moved":
        run(behind, "mv", "big.bin", "moved.bin")
    job, told = brought(tmp_path / "job", behind)
    assert "2 files of Git LFS go along (21 bytes): big.bin, inner/more.bin" in told
    job.manifest["fetch"] = agent_fetch.work(job)
    agent_patch.work(job)
    code = Path(job.manifest["fetch"]["code"])
    assert tree(code) == tree(behind)
    if change == "none":
        assert run(code, "status", "--porcelain") == ""


def test_a_plain_script_of_a_task_with_files_of_git_lfs_is_refused(tmp_path, behind, monkeypatch):
    from agentpipe.code import bundle
    from agentpipe.task import bundle_diffs
    from agentpipe.transport import artifact_files
    monkeypatch.chdir(behind)
    job, _ = brought(tmp_path / "job", behind)
    monkeypatch.setattr(artifact_files, "get", lambda server, artifact, path: shutil.copyfile(
        job.path(bundle.file_name(artifact["key"])), path))
    with pytest.raises(errors.Failure, match="Git LFS along, which no plain script can"):
        bundle_diffs.as_diffs(None, bundle.of(job.task))
