"""What a task brings along: it arrives exactly, and an archive of somebody else writes nothing outside the checkout."""

import io
import json
import os
import resource
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from repositories import commit, repository, run, tree

from agentpipe import errors, trees
from agentpipe.capture import capture, capture_bundle, capture_git, left_behind
from agentpipe.cmds import agent_fetch, agent_patch
from agentpipe.code import bundle, git, mirror
from agentpipe.job import Job
from agentpipe.task import bundle_diffs, sh_script, sources
from agentpipe.transport import api, artifact_files


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))


def job_with(directory: Path, script: dict, *keys: str) -> Job:
    """A job whose artefacts are in its directory already."""
    directory.mkdir(exist_ok=True)
    items = [{"key": key, "mode": "input"} for key in keys]
    return Job({"task": {"script": script, "execution": {"artifacts": items}}}, str(directory))


def brought(directory: Path, script: dict, found: capture_bundle.Bundle) -> Job:
    """A job whose bundle is in its directory already."""
    job = job_with(directory, script)
    keys = [key for key, _, _ in found.written(job.path)]
    return job_with(directory, script, *keys)


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w:gz") as file:
        for info, data in members:
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize("members", [
    [(member("../evil"), b"x")], [(member("/evil"), b"x")], [(member("a/../../evil"), b"x")],
    [(member(".git/hooks/post-checkout"), b"x")], [(member("sub/.GIT/config"), b"x")],
    [(member("hard", tarfile.LNKTYPE, "/etc/passwd"), b"")], [(member("pipe", tarfile.FIFOTYPE), b"")],
])
def test_an_archive_writes_nothing_outside_the_checkout(tmp_path, members):
    code = tmp_path / "code"
    code.mkdir()
    os.symlink(tmp_path, code / "link")
    job = job_with(tmp_path / "job", {}, bundle.FILES)
    archive(tmp_path / "job" / "files.tar.gz", *members)
    before = {path for path in tmp_path.rglob("*") if code not in path.parents}
    with pytest.raises(errors.Failure) as failure:
        bundle.bring_files(job, str(code))
    assert failure.value.exit == errors.BAD_DATA
    assert {path for path in tmp_path.rglob("*") if code not in path.parents} == before


@pytest.mark.parametrize("members", [
    [(member("in", tarfile.SYMTYPE, ".."), b""), (member("in/mine"), b"x")],
    [(member("link/mine"), b"x")], [(member("link/deep/er"), b"x")], [(member("link/folder", tarfile.DIRTYPE), b"")],
    [(member("train.py/mine"), b"x")],
])
def test_a_folder_of_an_archive_takes_the_place_of_a_link_or_a_file(tmp_path, members):
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("was\n")
    os.symlink(tmp_path, code / "link")
    job = job_with(tmp_path / "job", {}, bundle.FILES)
    archive(tmp_path / "job" / "files.tar.gz", *members)
    before = {path for path in tmp_path.rglob("*") if code not in path.parents}
    bundle.bring_files(job, str(code))
    name = members[-1][0].name
    assert (code / name).exists() and not (code / name.partition("/")[0]).is_symlink()
    assert {path for path in tmp_path.rglob("*") if code not in path.parents} == before


def test_of_a_file_that_does_not_fit_nothing_stays(tmp_path):
    """It is what has filled the disk, and the directory of an attempt stays for days."""
    large = tmp_path / "large.tar.gz"
    large.write_bytes(bytes(1 << 20))
    store = api.connect()
    uri = artifact_files.put(store, "1", str(large), "files.tar.gz")
    job = job_with(tmp_path / "job", {})
    job.task["execution"]["artifacts"] = [{"key": bundle.FILES, "mode": "input", "uri": uri}]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, before[1]))
    try:
        with pytest.raises(OSError):
            bundle.bring_files(job, str(tmp_path / "code"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [name for name in os.listdir(tmp_path / "job") if name.startswith("files")] == []


@pytest.mark.parametrize("odd", [(member(".agentpipe-patch", tarfile.SYMTYPE, "/dev/zero"), b""),
                                 (member(".agentpipe-patch"), b"[1]")])
def test_what_a_task_brings_in_the_place_of_our_record_is_not_read_as_that(tmp_path, odd):
    """Of /dev/zero there is no end."""
    job = job_with(tmp_path / "job", {"diff": "print(1)\n", "entry_point": "train.py"}, bundle.FILES)
    archive(tmp_path / "job" / "files.tar.gz", odd)
    job.manifest["fetch"] = agent_fetch.work(job)
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, limit[1]))
    try:
        with pytest.raises(errors.Failure, match="has another diff in it already"):
            agent_patch.work(job)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limit)


@pytest.mark.parametrize("odd", [1, "x", {"key": bundle.FILES}, [1, None, {"key": [], "mode": "input"}]])
def test_artefacts_that_are_none_bring_nothing(odd):
    assert bundle.of({"execution": {"artifacts": odd}}) == {}


@pytest.mark.parametrize("odd", [{"Args": {"epochs": "3"}}, {"Args": None}])
def test_hyperparameters_of_a_file_that_are_none_are_left_out_of_the_plain_script(tmp_path, odd):
    task = {"script": {"entry_point": "train.py", "diff": "print(1)\n"}, "hyperparams": odd}
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"manifest": 1, "task": task}))
    assert "exec" in sh_script.text(sources.of_file(str(path)))


def test_files_links_modes_and_folders_arrive(tmp_path):
    (tmp_path / "work").mkdir()
    work = tmp_path / "work"
    (work / "a b").mkdir()
    (work / "a b" / "ü.txt").write_text("text")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    os.symlink("run.sh", work / "link")
    (work / "__pycache__").mkdir()
    (work / "__pycache__" / "x.pyc").write_text("")
    found = capture_bundle.Bundle(str(work))
    capture_bundle.add(found, [str(work / name) for name in ("a b", "run.sh", "link")])
    job = job_with(tmp_path / "job", {}, bundle.FILES)
    capture_bundle.write_files(found, str(tmp_path / "job" / "files.tar.gz"))
    (tmp_path / "code").mkdir()
    assert bundle.bring_files(job, str(tmp_path / "code")) == 3
    expected = tree(work)
    del expected["__pycache__/x.pyc"]
    assert tree(tmp_path / "code") == expected


def test_a_file_that_looks_like_a_secret_is_said_unless_it_was_asked_for(tmp_path):
    source = repository(tmp_path / "source")
    for name in (".env", "deploy.key", "keys.py", ".env.example"):
        (source / name).write_text("x\n")
    head = run(source, "rev-parse", "HEAD")
    said = capture_bundle.of_checkout(str(source), "", head, True, []).told()
    assert [line.partition(": by")[0] for line in said if "secret" in line] == ["warning: .env, deploy.key"]
    asked = [str(source / name) for name in (".env", "deploy.key")]
    assert "secret" not in str(capture_bundle.of_checkout(str(source), "", head, True, asked).told())


@pytest.mark.parametrize("hashes", ["sha1", "sha256"])
def test_commits_arrive_on_what_the_remote_has(tmp_path, hashes):
    source = repository(tmp_path / "source", hashes=hashes)
    work = tmp_path / "work"
    run(tmp_path, "clone", "-q", str(source), "work")
    for number in range(3):
        head = commit(work, {"train.py": f"{number}\n"})
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [])
    assert [each.commit for each in found.commits] == [head] and not found.files
    job = brought(tmp_path / "job", {"repository": str(source), "version_num": head}, found)
    assert run(work, "for-each-ref", "refs/heads/bundle") == ""
    wanted = agent_fetch.work(job)
    assert (Path(wanted["code"]) / "train.py").read_text() == "2\n"
    assert run(Path(wanted["code"]), "rev-list", "--count", "HEAD") == "4"
    # the second time neither bundle nor remote are needed
    source.rename(tmp_path / "gone")
    other = job_with(tmp_path / "other", {"repository": str(source), "version_num": head}, bundle.COMMITS)
    assert agent_fetch.work(other)["cached"]


def test_a_remote_of_many_branches_costs_a_bundle_few_calls_of_git(tmp_path, monkeypatch):
    source = repository(tmp_path / "source")
    old = run(source, "rev-parse", "HEAD")
    new = commit(source, {"train.py": "1\n"})
    run(tmp_path, "clone", "-q", str(source), "work")
    work = tmp_path / "work"
    with open(work / ".git" / "packed-refs", "w") as file:  # more than fit into the arguments of a program
        file.writelines(f"{new if number % 2 else old} refs/remotes/origin/b{number}\n" for number in range(60000))
        file.write(f"{'1' * 40} refs/remotes/origin/its-commit-is-not-here\n")
    head = commit(work, {"train.py": "2\n"})
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [])
    assert found.told() == ["1 commit that was not pushed goes along"]
    brought(tmp_path / "job", {"repository": str(source), "version_num": head}, found)
    assert (tmp_path / "trace").read_text().count("built-in: git ") < 30
    assert run(work, "bundle", "list-heads", str(tmp_path / "job" / "commits.bundle")) == f"{head} refs/heads/bundle"
    lines = (tmp_path / "job" / "commits.bundle").read_bytes().split(b"\n\n")[0].decode().splitlines()
    assert [line[:41] for line in lines if line.startswith("-")] == [f"-{new}"]


@pytest.mark.parametrize("text", [b"", b"no bundle\n", b"# v2 git bundle\n-\n\n", b"# v2 git bundle\n-\xff x\n\n",
                                  b"# v3 git bundle\n@object-format=\xff\n\n", b"# v2 git bundle\n"])
def test_a_bundle_that_is_none_is_said(tmp_path, text):
    source = git.Source(str(repository(tmp_path / "source")), commit="1" * 40)
    job = job_with(tmp_path / "job", {"version_num": source.commit}, bundle.COMMITS)
    Path(job.path("commits.bundle")).write_bytes(text)
    with pytest.raises(errors.Failure) as failure:
        bundle.bring_commits(job, source)
    assert failure.value.exit == errors.BAD_DATA and "--bundle" in failure.value.remedy


def test_a_bundle_whose_base_is_gone_from_the_remote_says_so(tmp_path):
    source = repository(tmp_path / "source")
    run(tmp_path, "clone", "-q", str(source), "work")
    head = commit(tmp_path / "work", {"train.py": "1\n"})
    found = capture_bundle.of_checkout(str(tmp_path / "work"), "origin", head, True, [])
    job = brought(tmp_path / "job", {"repository": str(tmp_path / "new"), "version_num": head}, found)
    repository(tmp_path / "new", {"other": "1\n"})
    with pytest.raises(errors.Failure) as failure:
        agent_fetch.work(job)
    assert failure.value.exit == errors.NOT_FOUND
    (tmp_path / "job" / "commits.bundle").write_bytes(b"no bundle")
    with pytest.raises(errors.Failure) as failure:
        agent_fetch.work(job)
    assert failure.value.exit == errors.BAD_DATA


def test_another_diff_leaves_the_tasks_files_there(tmp_path):
    source = repository(tmp_path / "source")
    job = job_with(tmp_path / "job", {"repository": str(source), "entry_point": "train.py"}, bundle.FILES)
    archive(tmp_path / "job" / "files.tar.gz", (member("data/mine.txt"), b"mine"))
    job.manifest["fetch"] = agent_fetch.work(job)
    (source / "train.py").write_text("changed\n")
    code = Path(job.manifest["fetch"]["code"])
    for text in (run(source, "diff") + "\n", ""):
        job.task["script"]["diff"] = text
        agent_patch.work(job)
        assert (code / "data" / "mine.txt").read_text() == "mine"


@pytest.fixture
def replaced(tmp_path):
    """(repository, checkout, commit) of a checkout whose files that go along take the place of those of its commit."""
    (tmp_path / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
    for name in ("kept", "gone"):
        repository(tmp_path / name, {"m.py": "1\n", "n.py": "1\n"})
    source = repository(tmp_path / "source", {"data/readme": "1\n", "data/cfg": "a\n", "lib.py": "1\n", "conf/x": "1\n",
                                              "train.py": "1\n"})
    os.symlink("conf", source / "link")
    for name in ("kept", "gone"):
        run(source, "submodule", "--quiet", "add", f"../{name}")
    head = commit(source, {})
    run(tmp_path, "clone", "-q", "--recurse-submodules", str(source), "work")
    work = tmp_path / "work"
    for path in ("data/readme", "train.py", "kept/n.py"):
        (work / path).write_text((work / path).read_text() + "more\n")
    run(work, "rm", "-q", "--cached", "data/cfg", "conf/x")
    run(work / "kept", "rm", "-q", "--cached", "m.py")
    run(work, "rm", "-q", "gone")
    for path in ("lib.py", "link", "conf/x"):
        (work / path).unlink()
    (work / "conf").rmdir()
    (work / "conf").write_text("now a file\n")
    for path in ("lib.py/in.py", "link/in.py", "gone/m.py"):
        (work / path).parent.mkdir()
        (work / path).write_text("mine\n")
    return source, work, head


def test_files_that_go_along_take_the_place_of_those_of_the_commit(tmp_path, replaced):
    source, work, head = replaced
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [str(work / "data")])
    assert {"data/readme", "data/cfg", "kept/m.py", "conf", "lib.py/in.py", "link/in.py", "gone/m.py"} == {*found.files}
    script = {"repository": str(source), "version_num": head, "entry_point": "train.py",
              "diff": capture_git.diff(str(work), brought=found.files)}
    job = brought(tmp_path / "job", script, found)
    job.manifest["fetch"] = agent_fetch.work(job)
    agent_patch.work(job)
    assert tree(Path(job.manifest["fetch"]["code"])) == tree(work)


def test_so_it_is_in_the_plain_script(tmp_path, replaced):
    source, work, head = replaced
    for name, target in (("a folder", "data"), ("outside", "/etc"), ("nowhere", "no such"), ("ü", "train.py")):
        os.symlink(target, work / name)
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [str(work / "data")])
    items = [capture_bundle._sent(api.connect(), "t1", key, path, text)
             for key, path, text in found.written(lambda name: str(tmp_path / name))]
    script = {"repository": str(source), "version_num": head, "entry_point": "run.sh", "binary": "true",
              "diff": capture_git.diff(str(work), brought=found.files)}
    parts = bundle_diffs.as_diffs(api.connect(), bundle.of({"execution": {"artifacts": items}}))
    text = sh_script.text(sources.Source({"script": script}, {}, {}, ""), parts)
    done = subprocess.run(["sh", "-s", "plain"], input=text, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "plain/code") == tree(work)


def test_a_repository_in_the_checkout_stays_and_is_said_unless_it_is_included(tmp_path):
    work = repository(tmp_path / "work")
    repository(work / "nested")
    (work / "mine.txt").write_text("mine")
    head = run(work, "rev-parse", "HEAD")
    found = capture_bundle.of_checkout(str(work), "", head, True, [])
    assert list(found.files) == ["mine.txt"]
    assert "--include nested/" in found.told()[-1]
    found = capture_bundle.of_checkout(str(work), "", head, True, [str(work / "nested") + "/"])
    assert sorted(found.files) == ["mine.txt", "nested/train.py"]


@pytest.mark.parametrize("line, expected", [
    ("-e ../lib", "-e ./.agentpipe/packages/lib"), ("../lib", "./.agentpipe/packages/lib"),
    ("../lib[dev] ; python_version > '3'", "./.agentpipe/packages/lib[dev] ; python_version > '3'"),
    ("lib @ file://{root}/lib", "./.agentpipe/packages/lib"), ("{root}/lib", "./.agentpipe/packages/lib"),
    ("../x-1-py3-none-any.whl", "./.agentpipe/packages/x-1-py3-none-any.whl"),
    ("-e .", "-e ./."), ("-r more.txt", "-r ./more.txt"), ("numpy<2", "numpy<2"), ("# -e ../lib", "# -e ../lib"),
    ("x @ https://host/x.whl", "x @ https://host/x.whl"), ("git+https://host/x/y", "git+https://host/x/y"),
    ("../nosuch", "../nosuch"), ("--find-links ../lib", "--find-links ../lib"),
])
def test_local_packages_go_along_from_wherever_they_are(tmp_path, line, expected):
    for folder in ("lib", "work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lib" / "pyproject.toml").write_text("")
    (tmp_path / "x-1-py3-none-any.whl").write_text("")
    (tmp_path / "work" / "more.txt").write_text("")
    found = capture_bundle.Bundle(str(tmp_path / "work"))
    text = capture_bundle.add_packages(found, line.format(root=tmp_path) + "\n", str(tmp_path / "work"))
    assert text == expected + "\n"
    assert bool(found.files) == (".agentpipe" in expected)


def test_the_address_of_a_source_is_told_without_its_password():
    assert str(git.Source("https://me:pw@host/r.git", "1234")) == "commit 1234 of https://host/r.git"


def test_commits_arrive_on_a_base_that_is_on_no_branch_any_more(tmp_path):
    source = repository(tmp_path / "source")
    run(source, "config", "uploadpack.allowAnySHA1InWant", "true")
    lost = []
    for name in ("base", "other"):
        run(source, "checkout", "-q", "-b", name, "main")
        lost.append(commit(source, {name: "1\n"}))
    run(tmp_path, "clone", "-q", "-b", "base", str(source), "work")
    run(source, "checkout", "-q", "main")
    run(source, "branch", "-q", "-D", "base", "other")
    for number, each in enumerate(lost):
        agent_fetch.work(job_with(tmp_path / f"job{number}", {"repository": str(source), "version_num": each}))
    head = commit(tmp_path / "work", {"train.py": "new\n"})
    found = capture_bundle.of_checkout(str(tmp_path / "work"), "origin", head, True, [])
    job = brought(tmp_path / "job", {"repository": str(source), "version_num": head}, found)
    code = Path(agent_fetch.work(job)["code"])
    assert (code / "train.py").read_text() == "new\n" and (code / "base").exists()
    assert "agentpipe" not in run(code, "for-each-ref")


@pytest.fixture
def unpushed(tmp_path):
    """(repository, checkout, commit): the checkout and its submodules, one in the other, have commits of their own."""
    (tmp_path / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
    repository(tmp_path / "inner", {"inner.py": "1\n"})
    middle = repository(tmp_path / "middle", {"middle.py": "1\n"})
    run(middle, "submodule", "--quiet", "add", "../inner", "deep")
    commit(middle, {})
    outer = repository(tmp_path / "outer")
    run(outer, "submodule", "--quiet", "add", "../middle", "libs/the middle")
    commit(outer, {})
    run(tmp_path, "clone", "-q", "--recurse-submodules", str(outer), "work")
    work = tmp_path / "work"
    for folder, name in (("libs/the middle/deep", "inner.py"), ("libs/the middle", "middle.py"), (".", "train.py")):
        head = commit(work / folder, {name: "new\n"})
    return outer, work, head


def test_commits_of_submodules_arrive_also_of_nested_ones(tmp_path, unpushed):
    outer, work, head = unpushed
    (work / "libs/the middle/unknown.txt").write_text("mine\n")
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [])
    assert found.told()[:3] == ["1 commit that was not pushed goes along",
                                "1 commit of the submodule libs/the middle that was not pushed goes along",
                                "1 commit of the submodule libs/the middle/deep that was not pushed goes along"]
    job = brought(tmp_path / "job", {"repository": str(outer), "version_num": head}, found)
    assert tree(Path(agent_fetch.work(job)["code"])) == tree(work)
    # all of it is on the remotes: nothing goes along
    for folder in ("libs/the middle/deep", "libs/the middle", "."):
        run(work / folder, "push", "-q", "origin", "HEAD:refs/heads/new")
    assert capture_bundle.of_checkout(str(work), "origin", head, False, []).commits == []


def test_without_a_bundle_a_submodules_commits_and_files_are_missed_in_words(unpushed, monkeypatch):
    _, work, _ = unpushed
    (work / "libs/the middle/unknown.txt").write_text("mine\n")
    run(work, "push", "-q", "origin", "HEAD:refs/heads/new")
    found = capture.capture(capture.Wish(str(work / "train.py"), []))
    said = [what for what, _ in found.warnings]
    assert [words[:17] for words in said[:2]] == ["commit " + run(work / each, "rev-parse", "HEAD")[:10] for each in
                                                  ("libs/the middle", "libs/the middle/deep")]
    assert said[2].startswith("libs/the middle/unknown.txt: not known to git")
    monkeypatch.chdir(work)
    for _, remedy in found.warnings[:2]:
        subprocess.run(["sh", "-c", remedy], check=True)
    found = capture.capture(capture.Wish("train.py", []))
    assert [what for what, _ in found.warnings] == said[2:]
    subprocess.run(["sh", "-c", found.warnings[0][1]], check=True)
    assert capture.capture(capture.Wish("train.py", [])).warnings == []
    [(what, _)] = capture.capture(capture.Wish("train.py", [], branch="nosuch")).warnings
    assert what.startswith("there is no branch nosuch here")
    run(work, "push", "-q", "origin", "HEAD:refs/changes/34/1234/5")
    for name, known in (("refs/changes/34/1234/5", True), ("refs/heads/new", True), ("refs/changes/34/1234/6", False)):
        asked = capture.capture(capture.Wish("train.py", [], branch=name))
        assert (asked.warnings == []) is known and asked.script["branch"] == name


def test_changes_that_no_stage_could_read_are_refused_and_the_remedy_works(tmp_path, monkeypatch):
    work = repository(tmp_path / "work")
    (work / "large").write_bytes(os.urandom(5000))
    run(work, "add", "large")
    monkeypatch.setattr(capture, "LARGEST", 4 << 10)
    monkeypatch.chdir(work)
    with pytest.raises(errors.Failure, match="what is not committed is") as refused:
        capture.capture(capture.Wish("train.py", []))
    assert refused.value.exit == errors.BAD_DATA
    found = capture.capture(capture.Wish("train.py", [], bundle=True, include=["large"]))
    assert list(found.bundle.files) == ["large"] and "large" not in found.script["diff"]


def test_changes_that_git_is_told_to_overlook_are_missed_in_words(tmp_path):
    work = repository(tmp_path / "work", {"a b.py": "1\n", "c.py": "1\n", "same.py": "1\n", "sparse.py": "1\n"})
    for option, name in (("assume-unchanged", "a b.py"), ("skip-worktree", "c.py"), ("assume-unchanged", "same.py"),
                         ("skip-worktree", "sparse.py")):
        run(work, "update-index", f"--{option}", name)
    (work / "sparse.py").unlink()
    assert capture.capture(capture.Wish(str(work / "c.py"), [])).warnings == []
    (work / "a b.py").write_text("2\n")
    (work / "c.py").write_text("2\n")
    [(what, remedy)] = capture.capture(capture.Wish(str(work / "c.py"), [])).warnings
    assert what.startswith("a b.py, c.py: git is told to overlook")
    subprocess.run(["sh", "-c", remedy], check=True, cwd=work)
    found = capture.capture(capture.Wish(str(work / "c.py"), []))
    assert found.warnings == [] and found.script["diff"].count("\n+2\n") == 2


def test_a_bundle_that_the_disk_does_not_take_is_not_the_files_fault(tmp_path):
    (tmp_path / "data").write_bytes(os.urandom(200_000))
    found = capture_bundle.Bundle(str(tmp_path))
    found.files["data"] = str(tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(errors.Failure, match=r"cannot write .*files\.tar\.gz") as caught:
            capture_bundle.write_files(found, str(tmp_path / "files.tar.gz"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit == errors.CANNOT_CREATE


def test_a_folder_to_run_in_that_is_not_there_is_refused_but_of_another_branch(tmp_path, monkeypatch):
    monkeypatch.chdir(repository(tmp_path / "work"))
    with pytest.raises(errors.Failure, match="nosuch is not a directory of"):
        capture.capture(capture.Wish("train.py", [], working_dir="nosuch"))
    assert capture.capture(capture.Wish("train.py", [], working_dir="nosuch", branch="main"))


@pytest.mark.parametrize("name", ["two words.py", "trä in.py", 'a"b.py'])
def test_a_file_of_any_name_that_cannot_go_along_is_called_by_it(tmp_path, monkeypatch, name):
    work = repository(tmp_path / "work", {name: "1\n", "big.bin": "1\n"})
    (work / name).write_text("<<<<<<< ours\n1\n=======\n2\n>>>>>>> theirs\n")
    monkeypatch.chdir(work)
    assert left_behind.of_diff(str(work), capture_git.diff(str(work))) == [
        (f"{name} has conflicts of a merge in it", "git status")]
    (work / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize 1\n")
    [(what, remedy)] = left_behind.of_diff(str(work), capture_git.diff(str(work)))
    assert what.startswith(f"{name} is kept by Git LFS") and remedy.endswith(f"-- {shlex.quote(name)} && git push")


@pytest.mark.parametrize("fault", ["no cache", "a pack is gone"])
def test_a_bundle_arrives_without_a_cache_and_in_a_damaged_one(tmp_path, unpushed, monkeypatch, fault):
    outer, work, head = unpushed
    script = {"repository": str(outer), "version_num": head}
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [])
    if fault == "no cache":
        monkeypatch.setenv("CLEARML_AGENT__AGENT__VCS_CACHE__ENABLED", "false")
    else:
        agent_fetch.work(brought(tmp_path / "first", script, found))
        for name in ("outer", "middle"):
            packs = Path(mirror.path_of(git.Source(str(tmp_path / name)))) / "objects" / "pack"
            for pack in sorted(packs.glob("*.pack"), key=lambda path: path.stat().st_size)[:1]:
                pack.unlink()
    assert tree(Path(agent_fetch.work(brought(tmp_path / "job", script, found))["code"])) == tree(work)


FETCH = "import sys, json; from agentpipe.job import Job; from agentpipe.cmds import agent_fetch, agent_patch; " \
        "job = Job(json.loads(sys.argv[1]), sys.argv[2]); " \
        "job.manifest.setdefault('fetch', None) or job.manifest.update(fetch=agent_fetch.work(job)); " \
        "agent_patch.work(job); print(json.dumps(job.manifest))"


def pipeline(directory: Path, manifest: dict, **env: str) -> dict | None:
    """agent-fetch (unless that is done) and agent-patch in a process; the manifest, None when it was killed."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", FETCH, json.dumps(manifest), str(directory)], capture_output=True,
                          env={**os.environ, **env}, check=False)
    assert done.returncode == (-9 if env else 0), done.stderr
    return None if env else json.loads(done.stdout)


@pytest.fixture
def sent(tmp_path, unpushed):
    """(checkout, manifest) of a task whose bundle is in the store."""
    outer, work, head = unpushed
    (work / "unknown.txt").write_text("mine\n")
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [])
    items = [capture_bundle._sent(api.connect(), "t1", key, path, text)
             for key, path, text in found.written(lambda name: str(tmp_path / name))]
    return work, {"task": {"script": {"repository": str(outer), "version_num": head, "entry_point": "train.py"},
                           "execution": {"artifacts": items}}}


def test_files_of_any_name_arrive_and_are_told(tmp_path):
    work = repository(tmp_path / "work")
    names = [b"lat\xe9", b"two\nlines", b"-dash", b"quo\"te", "\u00fc".encode()]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(work), name))).write_text("mine")
    found = capture_bundle.of_checkout(str(work), "", run(work, "rev-parse", "HEAD"), True, [])
    said = [*found.told(), *(text for *_, text in found.written(lambda name: str(tmp_path / name)))]
    assert "lat?" in said[1] and not any("\n" in each for each in said[:2])
    json.dumps(said).encode()
    "".join(said).encode()
    bundle.unpack(str(tmp_path / "files.tar.gz"), str(tmp_path / "code"))
    assert sorted(os.listdir(os.fsencode(tmp_path / "code"))) == sorted(names)
    for word in (".git", ".git/config"):
        with pytest.raises(errors.Failure) as failure:
            capture_bundle.add(found, [str(work / word)])
        assert failure.value.exit == errors.USAGE


@pytest.mark.parametrize("point", ["brought", "unbundling", "unbundled", "unpacked"])
def test_killed_while_a_bundle_is_brought_the_next_fetch_has_all_of_it(tmp_path, sent, point):
    work, manifest = sent
    job = tmp_path / "job"
    assert pipeline(job, manifest, AGENT_CRASH_AT=f"fetch:{point}") is None
    assert not (job / "code").exists()
    code = Path(pipeline(job, manifest)["fetch"]["code"])
    assert tree(code) == tree(work)
    assert [name for name in os.listdir(job) if ".new-" in name or ".old-" in name] == []
    assert [name for name in os.listdir(Path(mirror.home())) if ".new-" in name or ".old-" in name] == []
    assert "agentpipe" not in run(code, "for-each-ref")


@pytest.mark.parametrize("diff", ["", "submodule"])
def test_killed_while_a_patch_is_undone_the_tasks_files_are_there_again(tmp_path, sent, diff):
    work, manifest = sent
    if diff:
        run(work / "libs/the middle", "checkout", "-q", "HEAD^")
        manifest["task"]["script"]["diff"] = run(work, "diff", "--submodule=short") + "\n"
        run(work, "submodule", "--quiet", "update")
    else:
        manifest["task"]["script"]["diff"] = PATCH
    job = tmp_path / "job"
    manifest = pipeline(job, manifest)
    assert tree(Path(manifest["fetch"]["code"])) != tree(work)
    manifest["task"]["script"]["diff"] = ""
    assert pipeline(job, manifest, AGENT_CRASH_AT="fetch:unpacked") is None
    manifest = pipeline(job, manifest)
    assert tree(Path(manifest["fetch"]["code"])) == tree(work)


def test_the_plain_script_of_a_task_has_the_commits_of_its_submodules(tmp_path, sent):
    work, manifest = sent
    (work / "unknown.txt").unlink()
    parts = bundle_diffs.as_diffs(api.connect(), bundle.of(manifest["task"]))
    parts.pop(bundle.FILES)
    lines = sh_script._code(sources.Source(manifest["task"], {}, {}, ""), parts)
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(["sh", "-eu"], input=f"work=$PWD\n{lines}", cwd=tmp_path / "elsewhere", text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "elsewhere/code") == tree(work)


PATCH = "diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-new\n+newer\n"


def test_what_a_checkout_has_that_cannot_run_elsewhere_is_said(tmp_path, monkeypatch):
    source = repository(tmp_path / "source")
    run(tmp_path, "clone", "-q", str(source), "work")
    work = tmp_path / "work"
    repository(work / "inner")
    head = commit(work, {})
    (work / "train.py").write_text("<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> other\n")
    run(work, "checkout", "-q", "--detach")
    monkeypatch.chdir(work)
    (detached, push), (stranger, _), (conflict, _) = capture.capture(capture.Wish("train.py", [])).warnings
    assert detached.startswith(f"commit {head[:10]} is not on origin")
    assert stranger.startswith("inner is a git repository of its own")
    assert conflict.startswith("train.py has conflicts")
    subprocess.run(["sh", "-c", push], check=True)
    assert len(capture.capture(capture.Wish("train.py", [])).warnings) == 2


def test_a_file_of_two_names_goes_along_under_both(tmp_path, monkeypatch):
    top = repository(tmp_path / "top", {"train.py": "1\n"})
    (top / "one.csv").write_text("1,2\n")
    os.link(top / "one.csv", top / "two.csv")
    found = capture_bundle.of_checkout(str(top), "", capture_git.text(str(top), "rev-parse", "HEAD"), True, [])
    capture_bundle.write_files(found, str(tmp_path / "files.tar.gz"))
    (tmp_path / "there").mkdir()
    assert bundle.unpack(str(tmp_path / "files.tar.gz"), str(tmp_path / "there")) == 2
    assert [(tmp_path / "there" / name).read_text() for name in ("one.csv", "two.csv")] == ["1,2\n"] * 2


def test_any_number_of_files_may_be_overlooked(tmp_path):
    folder = "f" * 200
    top = repository(tmp_path / "top", {f"{folder}/{number}": "1\n" for number in range(12_000)})
    listed = run(top, "ls-files")
    subprocess.run(["git", "-C", str(top), "update-index", "--assume-unchanged", "--stdin"], input=listed.encode(),
                   check=True)
    assert left_behind.overlooked(str(top)) == []
    (top / folder / "7").write_text("2\n")
    assert [what for what, _ in left_behind.overlooked(str(top))] == [
        f"{folder}/7: git is told to overlook what is changed there, so it stays here"]


def test_what_is_tried_of_a_deep_repository_leaves_nothing(tmp_path, monkeypatch):
    from agentpipe.task import enqueue_check
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    top = repository(tmp_path / "top", {"train.py": "1\n"})
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=here)
        here, above = os.open("a", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    run(top, "add", ".")
    run(top, "commit", "--quiet", "--message", "deep")
    task = {"id": "1f3c" * 8, "script": {"repository": str(top), "branch": "main", "entry_point": "train.py"}}
    with enqueue_check.fetched(task) as code:
        assert os.path.isfile(os.path.join(code, "train.py"))
    assert os.listdir(tmp_path / "tmp") == []
    trees.remove(str(top))


def test_a_checkout_whose_name_ends_with_a_blank_is_one(tmp_path):
    top = repository(tmp_path / "my code ", {"train.py": "1\n"})
    assert capture_git.root(str(top)) == str(top)
    found = capture.capture(capture.Wish(str(top / "train.py"), [], binary="python3"))
    assert found.script["repository"] == str(top) and found.script["entry_point"] == "train.py"


@pytest.fixture
def cloned(tmp_path, monkeypatch):
    """A repository's checkout, in which one stands."""
    repository(tmp_path / "source", {"lib/train.py": "1\n"})
    run(tmp_path, "clone", "-q", str(tmp_path / "source"), "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def warned(**wish: str) -> list[tuple[str, str]]:
    return capture.capture(capture.Wish("lib/train.py", [], **wish)).warnings


@pytest.mark.parametrize("how", ["amended", "not of the branch", "nested"])
def test_what_the_remote_would_refuse_is_pushed_to_a_new_branch(tmp_path, cloned, how):
    place = cloned
    if how == "nested":
        (tmp_path / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
        repository(tmp_path / "inner")
        run(cloned, "submodule", "--quiet", "add", "../inner", "inner")
        commit(cloned, {})
        run(cloned, "push", "-q", "origin", "HEAD:moved")
        place = cloned / "inner"
    run(place, "checkout", "-q", "-b", "mine")
    commit(place, {"lib/train.py": "2\n"})
    run(place, "push", "-q", "origin", "mine")
    run(place, "commit", "-q", "--amend", "-m", "better")
    wish = {}
    if how == "not of the branch":
        wish["commit"] = run(place, "rev-parse", "HEAD")
        run(place, "checkout", "-q", "main")
    if how == "nested":
        commit(cloned, {})
        run(cloned, "push", "-q", "origin", "HEAD:moved")
    [(what, push)] = warned(**wish)
    assert "is not on origin" in what
    subprocess.run(["sh", "-c", push], check=True)
    assert not warned(**wish)


def test_a_colleagues_repository_is_asked_for_a_commit_as_a_worker_asks_it(cloned, monkeypatch):
    (cloned.parent / ".gitconfig").write_text(f"[safe]\n\tdirectory = {cloned}\n")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert not warned()
    commit(cloned, {"lib/train.py": "2\n"})
    [(what, _)] = warned()
    assert "is not on origin" in what


def test_a_remote_whose_folder_is_away_is_said_and_no_push(tmp_path, cloned):
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    [(what, remedy)] = warned()
    assert what.startswith(f"origin is {tmp_path}/source, and nothing is there") and remedy == "git ls-remote origin"


def test_a_folder_of_a_checkout_that_git_does_not_trust_is_trusted_by_what_is_printed(tmp_path, cloned, monkeypatch):
    (cloned / "lib/two words").mkdir()
    monkeypatch.chdir(cloned / "lib/two words")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(errors.Failure, match="git does not trust") as failure:
        capture.capture(capture.Wish("../train.py", []))
    subprocess.run(["sh", "-c", failure.value.remedy], check=True)
    assert capture.capture(capture.Wish("../train.py", []))


@pytest.mark.parametrize("name", [f"{bundle.LFS}{'1' * 64}", f"{bundle.LFS}../../x", f"{bundle.LFS}x"])
def test_what_is_no_file_of_git_lfs_is_put_nowhere(tmp_path, unpushed, name):
    outer, work, head = unpushed
    job = brought(tmp_path / "job", {"repository": str(outer), "version_num": head},
                  capture_bundle.of_checkout(str(work), "origin", head, True, []))
    job.task["execution"]["artifacts"].append({"key": bundle.FILES, "mode": "input"})
    archive(tmp_path / "job" / "files.tar.gz", (member(name), b"another"))
    with pytest.raises(errors.Failure, match="not what its name says"):
        agent_fetch.work(job)
    kept = [each for each in (tmp_path / "home" / "cache").rglob("*") if "lfs" in each.parts and each.is_file()]
    assert not kept and not (tmp_path / "job" / "code").exists()
