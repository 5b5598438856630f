"""What agent-fetch does with real repositories: exact commits, a cache that survives anything, no surprises."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repositories import Server, commit, published, repository, run, tree

from agentpipe import errors, urls
from agentpipe.cmds import agent_fetch
from agentpipe.code import git, git_transfer, mirror
from agentpipe.job import Job

FETCH = "import sys, json; from agentpipe.job import Job; from agentpipe.cmds.agent_fetch import work; " \
        "print(json.dumps(work(Job({'task': {'script': json.loads(sys.argv[1])}}, sys.argv[2]))))"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr(git_transfer, "PAUSES", (0.01, 0.01))
    (tmp_path / "user").mkdir()
    for name in ("AGENT_OFFLINE", "CLEARML_AGENT_FORCE_CODE_DIR", "GIT_CONFIG_COUNT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def source(tmp_path):
    return repository(tmp_path / "source")


def job_at(directory, script, **options):
    directory.mkdir(exist_ok=True)
    return Job({"task": {"script": script}}, str(directory), options)


def fetch(directory, script, **options):
    return agent_fetch.work(job_at(directory, script, **options))


def refused(directory, script):
    with pytest.raises(errors.Failure) as failure:
        fetch(directory, script)
    assert type(failure.value) is errors.Failure
    return failure.value


def log(directory):
    return (directory / "setup.log").read_text()


def head(code):
    return run(Path(code), "rev-parse", "HEAD")


def test_a_commit_is_checked_out_exactly_and_detached(tmp_path, source):
    first = run(source, "rev-parse", "HEAD")
    commit(source, {"train.py": "print('later')\n"})
    found = fetch(tmp_path / "job", {"repository": str(source), "branch": "main", "version_num": first})
    assert (found["commit"], found["branch"], found["cached"]) == (first, "main", False)
    assert (Path(found["code"]) / "train.py").read_text() == "print('hello')\n"
    assert head(found["code"]) == first
    assert run(Path(found["code"]), "branch", "--show-current") == ""
    assert run(Path(found["code"]), "status", "--porcelain") == ""


def test_the_checkout_has_the_real_origin_its_branches_and_tags(tmp_path, source):
    run(source, "tag", "-a", "v1", "-m", "one")
    code = Path(fetch(tmp_path / "job", {"repository": str(source)})["code"])
    commit(source, {"more.py": "1\n"})
    assert run(code, "remote", "get-url", "origin") == str(source)
    assert run(code, "describe") == "v1"
    run(code, "fetch", "-q")
    assert run(code, "rev-parse", "origin/main") == head(source)
    run(code, "fsck", "--strict")


def test_a_commit_in_the_cache_needs_no_remote(tmp_path, source):
    wanted = {"repository": str(source), "version_num": head(source)}
    fetch(tmp_path / "one", wanted)
    source.rename(tmp_path / "gone")
    found = fetch(tmp_path / "two", wanted)
    assert found["cached"] is True
    assert "hello" in (Path(found["code"]) / "train.py").read_text()


def test_the_checkout_outlives_the_cache(tmp_path, source):
    code = Path(fetch(tmp_path / "job", {"repository": str(source)})["code"])
    subprocess.run(["rm", "-rf", tmp_path / "home" / "cache"], check=True)
    run(code, "fsck", "--strict")
    run(code, "gc", "-q", "--prune=now")
    assert run(code, "show", "HEAD:train.py") == "print('hello')"


def test_garbage_collection_in_a_checkout_leaves_the_cache_alone(tmp_path, source):
    wanted = {"repository": str(source), "version_num": head(source)}
    code = Path(fetch(tmp_path / "one", wanted)["code"])
    run(code, "gc", "-q", "--prune=now")
    source.rename(tmp_path / "gone")
    assert fetch(tmp_path / "two", wanted)["cached"]


@pytest.mark.parametrize("script, expected", [
    ({"version_num": "first", "tag": "v2", "branch": "dev"}, "first"),
    ({"tag": "v2", "branch": "dev"}, "second"),
    ({"branch": "dev"}, "third"),
    ({}, "fourth"),
    ({"tag": "refs/tags/v2"}, "second"),
    ({"branch": "refs/heads/dev"}, "third"),
    ({"version_num": "v2"}, "second"), ({"version_num": "dev"}, "third"), ({"version_num": "origin/dev"}, "third"),
    ({"version_num": "dev", "branch": "dev"}, "third"), ({"version_num": "refs/heads/dev"}, "third"),
    ({"version_num": "v2", "branch": "v2"}, "fifth"), ({"version_num": "bead"}, "third"),
    ({"version_num": "HEAD"}, "fourth"), ({"version_num": "HEAD", "branch": "dev"}, "third"),
])
def test_the_commit_comes_first_then_the_tag_then_the_branch(tmp_path, source, script, expected):
    hashes = {"first": commit(source, {"a": "1"}), "second": commit(source, {"a": "2"})}
    run(source, "tag", "-a", "v2", "-m", "two")
    run(source, "checkout", "-q", "-b", "dev")
    hashes["third"] = commit(source, {"a": "3"})
    run(source, "branch", "bead")
    run(source, "checkout", "-q", "-b", "v2")
    hashes["fifth"] = commit(source, {"a": "5"})
    run(source, "checkout", "-q", "main")
    hashes["fourth"] = commit(source, {"a": "4"})
    wanted = {name: hashes.get(value, value) for name, value in script.items()}
    for attempt in ("cold", "warm"):
        found = fetch(tmp_path / attempt, {"repository": str(source), **wanted})
        assert found["commit"] == head(found["code"]) == hashes[expected]


def test_an_abbreviated_commit_is_resolved(tmp_path, source):
    whole = head(source)
    for attempt in ("cold", "warm"):
        assert fetch(tmp_path / attempt, {"repository": str(source), "version_num": whole[:8]})["commit"] == whole


def test_a_commit_that_is_on_no_branch_is_asked_for_by_its_hash(tmp_path, source):
    fetch(tmp_path / "one", {"repository": str(source)})
    lost = commit(source, {"lost.py": "1"})
    run(source, "reset", "-q", "--hard", "HEAD^")
    assert fetch(tmp_path / "two", {"repository": str(source), "version_num": lost})["commit"] == lost
    subprocess.run(["rm", "-rf", tmp_path / "home" / "cache"], check=True)
    assert fetch(tmp_path / "three", {"repository": str(source), "version_num": lost})["commit"] == lost


@pytest.mark.parametrize("script", [{"branch": "refs/pull/1/head"}, {"version_num": "refs/pull/1/head"}])
@pytest.mark.parametrize("warm", [False, True])
def test_a_pull_request_is_fetched_by_its_ref_and_followed(tmp_path, source, monkeypatch, script, warm):
    if warm:
        fetch(tmp_path / "before", {"repository": str(source)})
    for number in ("1", "2"):
        run(source, "checkout", "-q", "--detach")
        run(source, "commit", "-q", "--allow-empty", "-m", f"change {number}")
        wanted = run(source, "rev-parse", "HEAD")
        run(source, "update-ref", "refs/pull/1/head", wanted)
        run(source, "checkout", "-q", "-")
        got = fetch(tmp_path / number, {"repository": str(source), **script})
        assert head(got["code"]) == wanted
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    assert fetch(tmp_path / "offline", {"repository": str(source), **script})["commit"] == wanted


@pytest.mark.parametrize("warm", [False, True])
def test_a_pull_request_that_is_not_there_is_nobodys_to_push(tmp_path, source, warm):
    if warm:
        fetch(tmp_path / "before", {"repository": str(source)})
    with pytest.raises(errors.Failure, match=r"refs/pull/7/head of .* is not there") as caught:
        fetch(tmp_path / "task", {"repository": str(source), "branch": "refs/pull/7/head"})
    assert caught.value.exit == errors.NOT_FOUND
    assert caught.value.remedy.startswith(f"see which there are: git ls-remote {source} 'refs/pull/*'; or give")


def test_a_branch_is_followed_also_when_its_history_was_rewritten(tmp_path, source):
    fetch(tmp_path / "one", {"repository": str(source), "branch": "main"})
    moved = commit(source, {"b": "1"})
    assert fetch(tmp_path / "two", {"repository": str(source), "branch": "main"})["commit"] == moved
    run(source, "checkout", "-q", "--orphan", "other")
    rewritten = commit(source, {"c": "1"})
    run(source, "branch", "-f", "main")
    run(source, "tag", "moving")
    assert fetch(tmp_path / "three", {"repository": str(source), "branch": "main"})["commit"] == rewritten
    later = commit(source, {"d": "1"})
    assert fetch(tmp_path / "four", {"repository": str(source), "tag": "moving"})["commit"] == rewritten
    run(source, "tag", "-f", "moving")
    assert fetch(tmp_path / "five", {"repository": str(source), "tag": "moving"})["commit"] == later


def test_a_branch_may_become_a_folder_of_branches(tmp_path, source):
    run(source, "branch", "dev")
    fetch(tmp_path / "one", {"repository": str(source)})
    run(source, "branch", "-D", "dev")
    run(source, "branch", "dev/one")
    found = fetch(tmp_path / "two", {"repository": str(source), "branch": "dev/one"})
    assert found["commit"] == head(source)


@pytest.mark.parametrize("wanted, words", [
    ({"version_num": "12" * 20}, "1212"), ({"tag": "nope"}, "tag nope"), ({"branch": "nope"}, "branch nope"),
    ({"version_num": "badbad1"}, "badbad1"),
])
def test_what_is_not_in_the_repository_is_named_with_a_remedy(tmp_path, source, wanted, words):
    for attempt in ("cold", "warm"):
        failure = refused(tmp_path / attempt, {"repository": str(source), **wanted})
        assert failure.exit == errors.NOT_FOUND
        assert words in failure.reason and str(source) in failure.reason
        assert failure.remedy.startswith("push it")
        fetch(tmp_path / "other", {"repository": str(source)})
    assert "anew" not in log(tmp_path / "warm")


@pytest.mark.parametrize("url, exit, words", [
    ("/no/such/repository", errors.NOT_FOUND, "no such repository"),
    ("file:///no/such/repository", errors.NOT_FOUND, "no such repository"),
    ("relative/path", errors.BAD_DATA, "relative path"),
    ("./here", errors.BAD_DATA, "relative path"),
    ("--upload-pack=touch /tmp/x", errors.BAD_DATA, "dash"),
    ("ext::sh -c 'touch pwned'", errors.BAD_DATA, "transport"),
    ("foo://host/path", errors.BAD_DATA, "transport"),
    ("https://", errors.BAD_DATA, "that git could clone"), ("https://u:p@/x", errors.BAD_DATA, "that git could clone"),
    ("git@-oProxyCommand=touch:path", errors.BAD_DATA, "relative path"),
    ("https://example.com/a\nb", errors.BAD_DATA, "address"),
    ("https://exa mple.com/r.git", errors.BAD_DATA, "no address"),
    ("https://127.0.0.1:99999/r.git", errors.BAD_DATA, "no address"),
    ("https://127.0.0.1:9/r.git", errors.UNAVAILABLE, "cannot be reached"),
    ("git@nohost.invalid:a/b.git", errors.UNAVAILABLE, "no host of that name"),
])
def test_what_cannot_be_cloned_is_refused_in_clear_words(tmp_path, url, exit, words):
    failure = refused(tmp_path / "job", {"repository": url})
    assert failure.exit == exit
    assert words in failure.reason
    assert not (tmp_path / "job" / "code").exists()


@pytest.mark.parametrize("field", ["version_num", "tag", "branch"])
def test_fields_that_git_would_take_for_options_are_refused(tmp_path, source, field):
    failure = refused(tmp_path / "job", {"repository": str(source), field: "--exec=x"})
    assert failure.exit == errors.BAD_DATA and field in failure.reason


@pytest.mark.parametrize("branch", ["a:b", "a*", "a b", "a..b", "a~1", "a\nb"])
def test_names_that_git_would_take_for_patterns_are_refused(tmp_path, source, branch):
    assert refused(tmp_path / "job", {"repository": str(source), "branch": branch}).exit == errors.BAD_DATA


def test_git_that_is_not_installed_is_named(tmp_path, source, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    failure = refused(tmp_path / "job", {"repository": str(source)})
    assert failure.exit == errors.UNAVAILABLE and "git is not installed" in failure.reason


def test_nothing_of_a_repository_or_of_this_users_hooks_is_executed(tmp_path, source, monkeypatch):
    commit(source, {".gitattributes": "*.py filter=bad\n", ".gitconfig": '[filter "bad"]\n\tsmudge = touch x\n'})
    trap = tmp_path / "hooks"
    trap.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (trap / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
        (trap / name).chmod(0o755)
    (tmp_path / "user" / ".gitconfig").write_text(f"[core]\n\thooksPath = {trap}\n[init]\n\ttemplateDir = {tmp_path}\n")
    found = fetch(tmp_path / "job", {"repository": str(source)})
    assert not (tmp_path / "pwned").exists()
    assert "hello" in (Path(found["code"]) / "train.py").read_text()
    assert not (Path(found["code"]) / ".git" / "hooks").exists()


def test_a_branch_that_is_a_command_stays_a_word_in_what_is_to_be_typed(tmp_path, source):
    """Whoever owns the repository chooses its branches' names."""
    run(source, "branch", "-m", "x;touch$IFS'pwned")
    run(source, "symbolic-ref", "HEAD", "refs/heads/gone")
    failure = refused(tmp_path / "job", {"repository": str(source)})
    assert shlex.split(failure.remedy)[-1] == "x;touch$IFS'pwned"
    failure = refused(tmp_path / "job", {"repository": str(tmp_path / "a;b"), "branch": "$(id)"})
    address, _, then = failure.remedy.partition("; then ")
    assert shlex.split(address)[-1] == str(tmp_path / "a;b") and then == "correct it: agent-task edit --repo URL"
    failure = refused(tmp_path / "job", {"repository": str(source), "branch": "refs/$(id)/x"})
    assert "'refs/$(id)/*';" in failure.remedy
    failure = refused(tmp_path / "job", {"repository": str(source), "branch": "$(id)"})
    assert "push origin '$(id)'" in failure.remedy


def test_attributes_that_are_a_link_are_not_read(tmp_path, source, monkeypatch):
    """git does not either: it may lead to /dev/zero, or to a file of this machine."""
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")  # a machine may have Git LFS for all
    (tmp_path / "elsewhere").write_text("*.bin filter=lfs\n")
    commit(source, {".gitattributes": "*.bin filter=lfs\n"})
    fetch(tmp_path / "one", {"repository": str(source)})
    (source / ".gitattributes").unlink()
    os.symlink(tmp_path / "elsewhere", source / ".gitattributes")
    commit(source, {})
    fetch(tmp_path / "two", {"repository": str(source)})
    assert "Git LFS" in log(tmp_path / "one") and "Git LFS" not in log(tmp_path / "two")


def test_offline_the_files_of_lfs_are_not_asked_for(tmp_path, source, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")  # a machine may have Git LFS for all
    said = tmp_path / "said"
    (tmp_path / "user" / ".gitconfig").write_text(
        f'[filter "lfs"]\nsmudge = "cat; echo got $GIT_LFS_SKIP_SMUDGE >> {said}"\n')
    commit(source, {".gitattributes": "*.bin filter=lfs\n", "m.bin": "points to it\n"})
    wanted = {"repository": str(source), "version_num": head(source)}
    fetch(tmp_path / "one", wanted)
    monkeypatch.setenv("AGENT_OFFLINE", "1")
    fetch(tmp_path / "two", wanted)
    assert said.read_text() == "got\ngot 1\n"
    assert "AGENT_OFFLINE" in log(tmp_path / "two") and "Git LFS" not in log(tmp_path / "one")


def test_this_users_git_configuration_is_never_written(tmp_path, source):
    fetch(tmp_path / "job", {"repository": str(source)})
    assert os.listdir(tmp_path / "user") == []


def test_a_surrounding_git_environment_does_not_mislead(tmp_path, source, monkeypatch):
    other = repository(tmp_path / "other", {"x": "1"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    found = fetch(tmp_path / "job", {"repository": str(source)})
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert os.listdir(found["code"]) != [] and head(found["code"]) == head(source)
    assert not (tmp_path / "index").exists()


def test_without_a_repository_the_code_is_an_empty_folder(tmp_path):
    (tmp_path / "job" / "code").mkdir(parents=True)
    (tmp_path / "job" / "code" / "old").write_text("x")
    found = fetch(tmp_path / "job", {"diff": "print(1)"})
    assert (found["repository"], found["commit"]) == (None, None)
    assert os.listdir(found["code"]) == []


def test_a_forced_folder_is_the_code(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_FORCE_CODE_DIR", str(source))
    assert fetch(tmp_path / "job", {"repository": "https://example.com/x"})["code"] == str(source)
    monkeypatch.setenv("CLEARML_AGENT_FORCE_CODE_DIR", str(tmp_path / "none"))
    assert refused(tmp_path / "job", {}).exit == errors.NOT_FOUND


def test_running_the_stage_again_replaces_the_checkout(tmp_path, source):
    wanted = {"repository": str(source)}
    code = Path(fetch(tmp_path / "job", wanted)["code"])
    (code / "train.py").write_text("changed")
    (code / "sealed").mkdir()
    (code / "sealed" / "file").write_text("x")
    (code / "sealed").chmod(0o500)
    fetch(tmp_path / "job", wanted)
    assert tree(code) == tree(source)
    assert sorted(os.listdir(tmp_path / "job")) == ["code", "setup.log"]


def test_a_dry_run_changes_nothing_and_knows_the_cache(tmp_path, source):
    wanted = {"repository": str(source), "version_num": head(source)}
    heard = []
    job = job_at(tmp_path / "job", wanted, dry_run=True)
    job.echo = heard.append
    agent_fetch.work(job)
    assert "would fetch" in "".join(heard) and os.listdir(tmp_path / "job") == []
    assert not (tmp_path / "job" / "code").exists() and not list(tmp_path.glob("home/cache/git/*"))
    fetch(tmp_path / "other", wanted)
    assert agent_fetch.work(job)["commit"] == head(source)
    assert "from the cache" in "".join(heard)


def test_offline_uses_the_cache_and_nothing_else(tmp_path, source, monkeypatch):
    with Server(tmp_path / "www") as server:
        published(source, tmp_path / "www")
        url = f"http://{server.host}/r.git"
        monkeypatch.setenv("AGENT_OFFLINE", "1")
        failure = refused(tmp_path / "one", {"repository": url})
        assert (failure.exit, server.requests) == (errors.UNAVAILABLE, [])
        monkeypatch.delenv("AGENT_OFFLINE")
        fetch(tmp_path / "two", {"repository": url})
        monkeypatch.setenv("AGENT_OFFLINE", "1")
        server.requests.clear()
        assert fetch(tmp_path / "three", {"repository": url, "branch": "main"})["cached"]
        assert fetch(tmp_path / "four", {"repository": url, "version_num": head(source)})["cached"]
        assert "AGENT_OFFLINE" in refused(tmp_path / "five", {"repository": url, "version_num": "12" * 20}).reason
        assert server.requests == []


def test_http_works_and_a_cached_commit_asks_nothing(tmp_path, source):
    published(source, tmp_path / "www")
    with Server(tmp_path / "www") as server:
        wanted = {"repository": f"http://{server.host}/r.git", "version_num": head(source), "branch": "main"}
        assert fetch(tmp_path / "one", wanted)["cached"] is False
        server.requests.clear()
        assert fetch(tmp_path / "two", wanted)["cached"] is True
        assert server.requests == []
        bare = tmp_path / "www" / "r.git"
        later = commit(source, {"later": "1"})
        run(bare, "fetch", "-q", str(source), "+main:main")
        run(bare, "update-server-info")
        assert fetch(tmp_path / "three", {**wanted, "version_num": later})["commit"] == later
        missing = refused(tmp_path / "four", {**wanted, "repository": f"http://{server.host}/none.git"})
        assert missing.exit == errors.NOT_FOUND


def test_a_password_in_the_url_is_used_and_never_kept(tmp_path, source):
    published(source, tmp_path / "www")
    with Server(tmp_path / "www", "anna", "s3cr3t/@x") as server:
        url = f"http://anna:s3cr3t%2F%40x@{server.host}/r.git"
        found = fetch(tmp_path / "job", {"repository": url})
        assert found["repository"] == f"http://{server.host}/r.git"
        assert head(found["code"]) == head(source)
        wrong = refused(tmp_path / "wrong", {"repository": url.replace("s3cr3t", "s3cr3tt"), "branch": "x"})
        anonymous = refused(tmp_path / "none", {"repository": f"http://{server.host}/r.git", "branch": "x"})
    assert wrong.exit == anonymous.exit == errors.NO_PERMISSION
    assert "s3cr3t" not in wrong.reason + wrong.evidence + wrong.remedy
    kept = subprocess.run(["grep", "-rl", "s3cr3t", *(tmp_path / name for name in ("job", "wrong", "home", "user"))],
                          capture_output=True)
    assert kept.stdout == b""


@pytest.mark.parametrize("text, expected", [
    ("fatal: https://u:p@host/x", "fatal: https://host/x"),
    ("https://token@host/x", "https://host/x"),
    ("ssh://git:pw@host/x and ssh://git@host/x", "ssh://git@host/x and ssh://git@host/x"),
    ("mail a@b, https://host/a@b", "mail a@b, https://host/a@b"),
    ("https://u:p@q@host/x", "https://host/x"),
    ("https://me:p@ss@word@host/x", "https://host/x"),
    ("git+https://me:p@ss@host/x", "git+https://host/x"),
    ("ssh://git:p@ss@word@host/x", "ssh://git@host/x"),
    ("see https://h/r.git?private_token=abc123&x=1#egg=y.", "see https://h/r.git?private_token=[REDACTED]&x=1#egg=y."),
    ("https://h/a?x=1&api-key=abc123 https://h/b?client_secret=q", "https://h/a?x=1&api-key=[REDACTED] "
                                                                   "https://h/b?client_secret=[REDACTED]"),
    ('["a @ https://u:p@h/a.whl?token=abc\\nsix"]', '["a @ https://h/a.whl?token=[REDACTED]\\nsix"]'),
    ("https://h/a?token=${TOKEN} https://h/token=abc ?token", "https://h/a?token=${TOKEN} https://h/token=abc ?token"),
    ("https://h/a?token=abc.d: gone (https://h/a?token=abc)", "https://h/a?token=[REDACTED]: gone "
                                                               "(https://h/a?token=[REDACTED])"),
    ("https://h/a?token=[REDACTED]", "https://h/a?token=[REDACTED]"),
    ("clone http://bob:a/b@host/x.git now", "clone http://host/x.git now"),
    ("redis://:/pw@cache amqp://u:/p+w=@rabbit", "redis://@cache amqp://u@rabbit"),
    ("git+https://bob:/s/l/@sh@host/x.git@v1 ftp://u:a/b@h/x", "git+https://host/x.git@v1 ftp://u@h/x"),
    ("https://host:8080/x@v1 http://[::1]:80/a@b https://h/a:b/c@d ssh://git@h:22/x@y",) * 2,
    ("https://host:${PORT}/x@v1 --index-url https://host:80?a=b/c@d docker://u:5000/i@sha256:a",) * 2,
    ("https://{host}:{port}/x@y/z https://<host>:<port>/x@y.com http://%HOST%:%PORT%/x@y/ http://h:%d/x@y/",) * 2,
    ("https://h:/p@v https://h:/p.git@v1.0 ssh://host:org/repo.git@v1 git+ssh://h:org/r@v1.2 ssh://h:o/r.git@a/b",) * 2,
    ("https://b:a/b@host https://b:/a@h.example. https://b:%2Fa/b@h/x https://b:/a@10.0.0.1 https://b:{a/}/@h:80",
     "https://host https://h.example. https://h/x https://10.0.0.1 https://h:80"),
    ("redis://:a/b@cache SSH://git:a/b@h.example git+ssh://git:a/b@h:22/x", "redis://@cache SSH://git@h.example "
                                                                           "git+ssh://git@h:22/x"),
])
def test_credentials_are_taken_out_of_text(text, expected):
    assert urls.without_credentials(text) == expected


@pytest.mark.parametrize(("url", "expected"), [
    ("http://bob:a/b@host/x.git", ("http://host/x.git", "bob", "a/b")),
    ("https://u:p@q@host:80/x", ("https://host:80/x", "u", "p@q")),
    ("ssh://git:a/b@host/x@y", ("ssh://git@host/x@y", None, None)),
    ("https://tok%2Fen@host", ("https://host", "tok/en", "")),
    ("https://host:8080/x@y", ("https://host:8080/x@y", None, None)),
    ("https://{host}:{port}/x@y", ("https://{host}:{port}/x@y", None, None)),
    ("ssh://host:org/repo.git@v1", ("ssh://host:org/repo.git@v1", None, None)),
    ("https://h:/p@v", ("https://h:/p@v", None, None)),
    ("https://bob:/a@host/x", ("https://host/x", "bob", "/a")),
])
def test_an_address_is_split_into_what_is_shown_and_its_login(url, expected):
    assert urls.split_url(url) == expected


@pytest.mark.parametrize(("mount", "words"), [
    ("mount --bind {0} {0} && mount -o remount,ro,bind {0}", "the disk of the cache can only be read"),
    ("mount -t tmpfs none {0}", "cannot write {0}: Device or resource busy (unmount what is mounted there")])
def test_a_mirror_on_a_mount_of_its_own_is_called_that(tmp_path, source, mount, words):
    script = {"repository": str(source), "branch": "main"}
    fetch(tmp_path / "one", script)
    commit(source, {"train.py": "print('later')\n"})
    place = mirror.path_of(git.source_of(script))
    code = ("import sys, json; from agentpipe import errors, stages; from agentpipe.job import Job\n"
            "from agentpipe.cmds.agent_fetch import work\n"
            "try: stages.timed(work, Job({'task': {'script': json.loads(sys.argv[1])}}, sys.argv[2]))\n"
            "except errors.Failure as failure: print(failure.exit, failure)")
    (tmp_path / "two").mkdir()
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount.format(place) + ' && exec "$0" "$@"', sys.executable,
                           "-c", code, json.dumps(script), str(tmp_path / "two")], text=True, capture_output=True,
                          check=False)
    assert done.stdout.startswith("73 ") and words.format(place) in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["HEAD", "@"])
def test_a_branch_that_a_detached_checkout_records_is_none(tmp_path, source, name):
    found = fetch(tmp_path / "job", {"repository": f"file://{source}", "branch": name})
    assert (found["commit"], found["branch"]) == (head(source), None)


def test_a_damaged_cache_is_cloned_anew_once(tmp_path, source):
    wanted = {"repository": str(source), "version_num": head(source)}
    fetch(tmp_path / "one", wanted)
    cached = Path(mirror.path_of(git.source_of(wanted)))
    (pack,) = (cached / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:60] + b"\0" * 40 + pack.read_bytes()[100:])
    found = fetch(tmp_path / "two", wanted)
    assert head(found["code"]) == head(source)
    assert log(tmp_path / "two").count("anew") == 1
    assert fetch(tmp_path / "three", wanted)["cached"]


def test_a_cache_without_its_configuration_is_cloned_anew(tmp_path, source):
    wanted = {"repository": str(source), "version_num": head(source)}
    fetch(tmp_path / "one", wanted)
    os.unlink(os.path.join(mirror.path_of(git.Source(str(source))), "config"))
    assert fetch(tmp_path / "two", wanted)["commit"] == head(source)


@pytest.mark.parametrize("fault", ["no HEAD", "an empty HEAD", "zeros for a HEAD", "no objects", "no refs"])
def test_a_cache_that_is_no_repository_is_cloned_anew_and_none_above_it_is_touched(tmp_path, source, fault):
    repository(tmp_path / "home", {"dotfile": "x\n"})
    wanted = {"repository": str(source), "branch": "main"}
    fetch(tmp_path / "one", wanted)
    cached = Path(mirror.path_of(git.source_of(wanted)))
    assert (tmp_path / "home") in cached.parents
    if "HEAD" in fault:
        (cached / "HEAD").write_bytes({"an": b"", "zeros": b"\0" * 21}.get(fault.split()[0], b""))
        if fault == "no HEAD":
            (cached / "HEAD").unlink()
    else:
        shutil.rmtree(cached / fault.removeprefix("no "))
    latest = commit(source, {"train.py": "new\n"})
    assert fetch(tmp_path / "two", wanted)["commit"] == latest
    assert run(tmp_path / "home", "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert fetch(tmp_path / "three", {**wanted, "version_num": latest})["cached"]


def test_a_cache_whose_pack_is_gone_is_cloned_anew(tmp_path, source):
    wanted = {"repository": str(source), "version_num": head(source)}
    fetch(tmp_path / "one", wanted)
    for pack in (Path(mirror.path_of(git.source_of(wanted))) / "objects" / "pack").glob("*.pack"):
        pack.unlink()
    assert head(fetch(tmp_path / "two", wanted)["code"]) == head(source)


def test_a_lock_that_a_killed_git_left_does_not_block_for_ever(tmp_path, source):
    fetch(tmp_path / "one", {"repository": str(source)})
    cached = Path(mirror.path_of(git.source_of({"repository": str(source)})))
    (cached / "packed-refs.lock").touch()
    run(source, "branch", "new")
    (cached / "refs" / "remotes" / "origin").mkdir(parents=True, exist_ok=True)
    (cached / "refs" / "remotes" / "origin" / "new.lock").touch()
    assert fetch(tmp_path / "two", {"repository": str(source), "branch": "new"})["commit"] == head(source)


@pytest.mark.parametrize("name", ["quota.py", "filter.py", "smudge-filter.py"])
def test_a_cache_that_lacks_a_file_is_cloned_anew_whatever_the_name_of_that(tmp_path, name):
    source = repository(tmp_path / "files", {name: "# what the cache has lost\n", "train.py": "print(1)\n"})
    wanted = {"repository": str(source), "version_num": head(source)}
    fetch(tmp_path / "one", wanted)
    cached = Path(mirror.path_of(git.source_of(wanted)))
    (pack,) = (cached / "objects" / "pack").glob("*.pack")
    packed = pack.read_bytes()
    for file in (cached / "objects" / "pack").iterdir():
        file.unlink()
    run(cached, "unpack-objects", "-q", stdin=packed)
    blob = run(source, "rev-parse", f"HEAD:{name}")
    (cached / "objects" / blob[:2] / blob[2:]).unlink()
    assert head(fetch(tmp_path / "two", wanted)["code"]) == head(source)
    assert "damaged" in log(tmp_path / "two")


def test_a_git_that_was_killed_is_no_damaged_repository_and_nothing_stays_there(tmp_path, source):
    import resource
    commit(source, {"large.txt": "x" * 300_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        failure = refused(tmp_path / "job", {"repository": str(source)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.exit == errors.CANNOT_CREATE and "File size limit exceeded" in failure.reason
    assert os.listdir(tmp_path / "job") == ["setup.log"] and "damaged" not in log(tmp_path / "job")


def test_a_cache_on_another_file_system_is_copied(tmp_path, source, monkeypatch):
    def elsewhere(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")
    monkeypatch.setattr(os, "link", elsewhere)
    code = fetch(tmp_path / "job", {"repository": str(source)})["code"]
    run(Path(code), "fsck", "--strict")


def test_sha256_repositories_work(tmp_path):
    source = repository(tmp_path / "source", hashes="sha256")
    for attempt in ("cold", "warm"):
        found = fetch(tmp_path / attempt, {"repository": str(source), "version_num": head(source)})
        assert found["commit"] == head(source) and len(found["commit"]) == 64
        assert run(Path(found["code"]), "status", "--porcelain") == ""


def test_a_shallow_repository_can_be_the_source(tmp_path, source):
    commit(source, {"a": "1"})
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{source}", "shallow")
    code = fetch(tmp_path / "job", {"repository": str(tmp_path / "shallow")})["code"]
    assert run(Path(code), "log", "--oneline").count("\n") == 0
    run(Path(code), "fsck")


def test_what_is_there_otherwise_is_said_with_what_may_be_meant(tmp_path, source):
    run(source, "tag", "text", "HEAD:train.py")
    failure = refused(tmp_path / "job", {"repository": str(source), "tag": "text"})
    assert failure.exit == errors.BAD_DATA and "at no commit" in failure.reason
    failure = refused(tmp_path / "job", {"repository": str(source), "branch": "origin/main"})
    assert failure.exit == errors.NOT_FOUND and failure.change == ("--branch", "main")
    run(source, "branch", "-m", "main", "work")
    run(source, "symbolic-ref", "HEAD", "refs/heads/none")
    failure = refused(tmp_path / "job", {"repository": str(source)})
    assert failure.exit == errors.NOT_FOUND and "no default branch" in failure.reason
    assert failure.change == ("--branch", "work")
    run(source, "branch", "master", "work")
    assert fetch(tmp_path / "job", {"repository": str(source)})["commit"] == run(source, "rev-parse", "work")


def test_an_empty_repository_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    run(tmp_path / "empty", "init", "-q")
    failure = refused(tmp_path / "job", {"repository": str(tmp_path / "empty")})
    assert failure.exit == errors.NOT_FOUND and "no commits" in failure.reason
    (tmp_path / "empty" / "info").mkdir()
    (tmp_path / "empty" / "info" / "refs").write_text("<html>Please log in</html>")
    with Server(tmp_path) as server:
        failure = refused(tmp_path / "job", {"repository": f"http://{server.host}/empty", "branch": "main"})
    assert failure.exit == errors.NOT_FOUND and "no commits, or what answers there is no git server" in failure.reason


def start(script, directory, **env):
    import json
    directory.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", FETCH, json.dumps(script), str(directory)], text=True,
                            stdout=subprocess.PIPE, env={**os.environ, **env})


@pytest.mark.parametrize("point", ["locked", "unpublished", "mirrored", "built", "cloned"])
def test_killed_at_any_step_the_next_fetch_succeeds(tmp_path, source, point):
    wanted = {"repository": str(source), "version_num": head(source)}
    killed = start(wanted, tmp_path / "job", AGENT_CRASH_AT=f"fetch:{point}")
    killed.communicate()
    assert killed.returncode == -9
    found = fetch(tmp_path / "job", wanted)
    assert tree(Path(found["code"])) == tree(source)
    assert sorted(os.listdir(tmp_path / "job")) == ["code", "setup.log"]
    assert [name for name in os.listdir(tmp_path / "home/cache/git") if ".new-" in name or ".old-" in name] == []


def test_killed_in_the_middle_of_a_clone_the_cache_stays_usable(tmp_path, source):
    published(source, tmp_path / "www")
    with Server(tmp_path / "www") as server:
        server.gate.clear()
        wanted = {"repository": f"http://{server.host}/r.git"}
        killed = start(wanted, tmp_path / "one")
        assert server.arrived.wait(60)
        killed.kill()
        killed.communicate()
        server.gate.set()
        assert fetch(tmp_path / "two", wanted)["commit"] == head(source)


def test_two_fetches_at_once_clone_once(tmp_path, source):
    published(source, tmp_path / "www")
    with Server(tmp_path / "www") as server:
        server.gate.clear()
        wanted = {"repository": f"http://{server.host}/r.git", "version_num": head(source)}
        first = start(wanted, tmp_path / "one")
        assert server.arrived.wait(60)
        second = start(wanted, tmp_path / "two")
        waits = tmp_path / "two" / "setup.log"
        while not (waits.exists() and "waiting" in waits.read_text()):
            assert second.poll() is None
            os.sched_yield()
        server.gate.set()
        assert head(source) in first.communicate()[0] and head(source) in second.communicate()[0]
    assert "cloning" in log(tmp_path / "one") and "cloning" not in log(tmp_path / "two")


@pytest.fixture
def nested(tmp_path):
    """A repository with a submodule (by a relative address) that has a submodule of its own."""
    inner = repository(tmp_path / "inner", {"inner.py": "1\n"})
    middle = repository(tmp_path / "middle", {"middle.py": "1\n"})
    run(middle, "submodule", "--quiet", "add", str(inner), "deep")
    commit(middle, {})
    outer = repository(tmp_path / "outer")
    run(outer, "submodule", "--quiet", "add", "--name", "a name", "../middle", "libs/the middle")
    commit(outer, {})
    (tmp_path / "user" / ".gitconfig").write_text("[protocol \"file\"]\n\tallow = always\n")
    return outer


def test_a_submodule_of_this_machine_needs_gits_own_permission(tmp_path, nested, monkeypatch):
    (tmp_path / "user" / ".gitconfig").unlink()
    failure = refused(tmp_path / "job", {"repository": str(nested)})
    assert failure.exit == errors.BAD_DATA and "path on this machine" in failure.reason
    assert not (tmp_path / "user" / ".gitconfig").exists()
    for name, value in re.findall(r"(GIT_CONFIG_\w+)=([\w.]+)", failure.remedy):
        monkeypatch.setenv(name, value)
    assert os.path.exists(os.path.join(fetch(tmp_path / "job", {"repository": str(nested)})["code"], "libs"))


def test_submodules_are_checked_out_recursively_and_cached(tmp_path, nested):
    wanted = {"repository": str(nested), "version_num": head(nested)}
    code = Path(fetch(tmp_path / "one", wanted)["code"])
    assert (code / "libs/the middle/deep/inner.py").read_text() == "1\n"
    status = run(code, "submodule", "status", "--recursive").splitlines()
    assert [line[0] for line in status] == [" ", " "]
    assert run(code, "status", "--porcelain") == ""
    assert run(code / "libs/the middle", "remote", "get-url", "origin") == str(tmp_path / "middle")
    for name in ("outer", "middle", "inner"):
        (tmp_path / name).rename(tmp_path / f"{name}.gone")
    found = fetch(tmp_path / "two", wanted)
    assert found["cached"] and (Path(found["code"]) / "libs/the middle/deep/inner.py").exists()


def test_a_submodule_of_this_machine_is_refused_in_a_repository_from_elsewhere(tmp_path, nested):
    inner = repository(tmp_path / "private")
    outer = repository(tmp_path / "public")
    run(outer, "submodule", "--quiet", "add", str(inner), "stolen")
    commit(outer, {})
    published(outer, tmp_path / "www")
    with Server(tmp_path / "www") as server:
        failure = refused(tmp_path / "job", {"repository": f"http://{server.host}/r.git"})
    assert failure.exit == errors.BAD_DATA and "stolen" in failure.reason


@pytest.mark.parametrize("name, path, url", [
    ("../../evil", "sub", "../middle"), ("a/../../evil", "sub", "../middle"),
    ("-x", "sub", "../middle"), ("ok", "sub", "ext::touch pwned"), ("ok", "sub", "--upload-pack=touch pwned"),
])
def test_a_hostile_submodule_is_refused(tmp_path, nested, name, path, url):
    outer = repository(tmp_path / "hostile")
    (outer / ".gitmodules").write_text(f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n')
    run(outer, "update-index", "--add", "--cacheinfo", f"160000,{head(tmp_path / 'middle')},{path}")
    run(outer, "add", ".gitmodules")
    run(outer, "commit", "-q", "-m", "x")
    assert refused(tmp_path / "job", {"repository": str(outer)}).exit == errors.BAD_DATA
    assert not (tmp_path / "job" / "code").exists()


@pytest.mark.parametrize("path", ["libs/the middle/", "./libs/the middle"])
def test_the_path_of_a_submodule_is_understood_as_people_write_it(tmp_path, nested, path):
    run(nested, "config", "--file", ".gitmodules", "submodule.a name.path", path)
    commit(nested, {})
    code = Path(fetch(tmp_path / "job", {"repository": str(nested)})["code"])
    assert (code / "libs/the middle/deep/inner.py").read_text() == "1\n"


@pytest.mark.parametrize("path", ["libs", "../elsewhere", "/etc"])
def test_an_entry_that_is_no_submodules_path_is_passed_over(tmp_path, nested, path):
    run(nested, "config", "--file", ".gitmodules", "submodule.a name.path", path)
    commit(nested, {})
    code = Path(fetch(tmp_path / "job", {"repository": str(nested)})["code"])
    assert os.listdir(code / "libs/the middle") == []


def test_a_submodule_that_is_not_there_is_named(tmp_path, nested):
    (tmp_path / "inner").rename(tmp_path / "inner.gone")
    failure = refused(tmp_path / "job", {"repository": str(nested)})
    assert failure.exit == errors.NOT_FOUND and str(tmp_path / "inner") in failure.reason
    assert failure.reason.startswith("submodule libs/the middle: submodule deep: cannot fetch")


def test_a_list_of_submodules_that_is_none_is_said(tmp_path, source):
    commit(source, {".gitmodules": '[submodule "x"\n garbage'})
    failure = refused(tmp_path / "job", {"repository": str(source)})
    assert failure.exit == errors.BAD_DATA and ".gitmodules" in failure.reason


def test_a_commit_is_the_same_bytes_whatever_this_user_has_chosen(tmp_path, source):
    commit(source, {"dos.txt": "a\r\nb\n", "unix.txt": "a\nb\n"})
    (tmp_path / "user" / ".gitconfig").write_text("[core]\n\tautocrlf = true\n")
    assert tree(Path(fetch(tmp_path / "job", {"repository": str(source)})["code"])) == tree(source)


def test_a_user_who_wants_bare_repositories_named_has_mirrors_of_them_all_the_same(tmp_path, source):
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(tmp_path / "bare.git")], check=True)
    (tmp_path / "user" / ".gitconfig").write_text("[safe]\n\tbareRepository = explicit\n")
    for made_anew in (True, False):
        found = fetch(tmp_path / "job", {"repository": str(tmp_path / "bare.git"), "branch": "main"})
        assert tree(Path(found["code"])) == tree(source)
        assert made_anew is ("cloning" in log(tmp_path / "job"))
        (tmp_path / "job" / "setup.log").unlink()


@pytest.mark.parametrize("base, url, expected", [
    ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
    ("git@h:a/b.git", "../c.git", "git@h:a/c.git"),
    ("git@h:b.git", "../c.git", "git@h:c.git"),
    ("/srv/a", "./b", "/srv/a/b"),
    ("https://h/a/b/", "../../c", "https://h/c"),
])
def test_relative_submodule_addresses_follow_gits_rule(base, url, expected):
    from agentpipe.code import submodules
    assert submodules.relative(base, url) == expected


def test_many_small_fetches_do_not_make_checkouts_slow(tmp_path, source):
    for number in range(mirror.MANY_PACKS + 2):
        commit(source, {"a": str(number)})
        fetch(tmp_path / "job", {"repository": str(source), "branch": "main"})
    packs = Path(mirror.path_of(git.source_of({"repository": str(source)}))) / "objects" / "pack"
    assert len(list(packs.glob("*.pack"))) < mirror.MANY_PACKS


def test_without_the_cache_nothing_of_it_stays(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VCS_CACHE__ENABLED", "false")
    wanted = {"repository": str(source), "version_num": head(source)}
    for name in ("one", "two"):
        found = fetch(tmp_path / name, wanted)
        assert found["cached"] is False and head(found["code"]) == head(source)
        assert sorted(os.listdir(tmp_path / name)) == ["code", "setup.log"]
    assert not (tmp_path / "home" / "cache" / "git").exists()


def test_without_the_cache_nobody_waits_for_another(tmp_path, source):
    published(source, tmp_path / "www")
    with Server(tmp_path / "www") as server:
        server.gate.clear()
        wanted = {"repository": f"http://{server.host}/r.git", "branch": "main"}
        both = [start(wanted, tmp_path / name, CLEARML_AGENT__AGENT__VCS_CACHE__ENABLED="false")
                for name in ("one", "two")]
        while len(server.requests) < 2:
            assert [each.poll() for each in both] == [None, None]
            assert not any("waiting" in path.read_text() for path in tmp_path.glob("*/setup.log"))
            os.sched_yield()
        server.gate.set()
        assert all(head(source) in each.communicate()[0] for each in both)


def test_an_update_that_fails_may_be_left_to_its_owner(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VCS_CACHE__CLONE_ON_PULL_FAIL", "false")
    wanted = {"repository": str(source), "branch": "main"}
    fetch(tmp_path / "one", wanted)
    before = head(source)
    commit(source, {"later": "1"})
    (Path(mirror.path_of(git.Source(str(source)))) / "config").write_text("[core\n")
    assert "clon" not in refused(tmp_path / "two", wanted).reason
    monkeypatch.delenv("CLEARML_AGENT__AGENT__VCS_CACHE__CLONE_ON_PULL_FAIL")
    assert fetch(tmp_path / "three", wanted)["commit"] != before


def test_git_fetch_args_choose_tags_and_more(tmp_path, source, monkeypatch):
    run(source, "tag", "moved")
    for number in range(5):
        commit(source, {"train.py": f"{number}\n"})
    monkeypatch.setenv("CLEARML_AGENT__AGENT__GIT_FETCH_ARGS", '["--all", "--depth=2", "--filter=blob:none"]')
    url = f"file://{source}"
    code = fetch(tmp_path / "job", {"repository": url, "branch": "main"})["code"]
    assert run(Path(code), "rev-list", "--count", "HEAD") == "2"
    assert run(Path(code), "tag") == ""
    # what is further back, and a tag that is named, come all the same
    first = run(source, "rev-parse", "moved")
    assert fetch(tmp_path / "old", {"repository": url, "version_num": first})["commit"] == first
    assert fetch(tmp_path / "tag", {"repository": url, "tag": "moved"})["commit"] == first


@pytest.mark.parametrize(("told", "exit", "said"), [
    ("--nosuch", errors.BAD_CONFIG, "unknown option `nosuch'"),
    ("[--tags, --jobs=4]", errors.BAD_CONFIG, "no options of git fetch"),
    ("refs/heads/main", errors.BAD_CONFIG, "no options of git fetch"),
    ("--depth=none", errors.UNAVAILABLE, "")])
def test_git_fetch_args_that_git_does_not_take_are_named(tmp_path, source, monkeypatch, told, exit, said):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__GIT_FETCH_ARGS", told)
    failure = refused(tmp_path / "job", {"repository": f"file://{source}", "branch": "main"})
    assert failure.exit == exit and said in failure.reason
    assert "CLEARML_AGENT__AGENT__GIT_FETCH_ARGS" in failure.remedy


def test_of_git_fetch_args_what_fetches_nothing_is_left_out(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__GIT_FETCH_ARGS", "--dry-run --tags")
    run(source, "tag", "v1")
    code = fetch(tmp_path / "job", {"repository": f"file://{source}", "branch": "main"})["code"]
    assert run(Path(code), "tag") == "v1"


def test_mirrors_stand_where_the_configuration_says_and_a_clone_shows_its_progress(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VCS_CACHE__PATH", str(tmp_path / "mirrors"))
    fetch(tmp_path / "job", {"repository": f"file://{source}"})
    assert any(name.startswith("source-") for name in os.listdir(tmp_path / "mirrors"))
    assert "Receiving objects: 100%" in log(tmp_path / "job")
    # ClearML Agent's own default, which clearml-agent init writes into every file, is no choice
    monkeypatch.setenv("CLEARML_AGENT__AGENT__VCS_CACHE__PATH", mirror.PEER_DEFAULT)
    fetch(tmp_path / "again", {"repository": f"file://{source}"})
    assert os.listdir(tmp_path / "home" / "cache" / "git")


def test_our_git_asks_nothing_and_trusts_for_one_command_only(monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", "mine")
    env = git.with_ssh(git.environment())
    assert env["GIT_TERMINAL_PROMPT"] == "0" and env["GIT_SSH_COMMAND"] == "mine"
    monkeypatch.delenv("GIT_SSH_COMMAND")
    env = git.with_ssh(git.environment())
    assert "-oBatchMode=yes" in env["GIT_SSH_COMMAND"]
    assert run(Path("/"), "config", "--get", "safe.directory", env=env) == "*"
    with pytest.raises(AssertionError):
        run(Path("/"), "config", "--global", "--get", "safe.directory")


def test_a_tag_that_the_remote_has_moved_is_followed(tmp_path, source):
    run(source, "tag", "latest")
    url = f"file://{source}"
    fetch(tmp_path / "one", {"repository": url, "tag": "latest"})
    moved = commit(source, {"train.py": "2\n"})
    run(source, "tag", "-f", "latest")
    assert fetch(tmp_path / "two", {"repository": url, "tag": "latest"})["commit"] == moved
    # and it does not stand in the way of another fetch of everything
    lost = commit(source, {"train.py": "3\n"})
    run(source, "tag", "-f", "-a", "-m", "x", "latest")
    assert fetch(tmp_path / "three", {"repository": url, "version_num": lost[:10]})["commit"] == lost
