"""What a task brings along: it arrives exactly, and an archive of somebody else writes nothing outside the checkout."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from repositories import commit, repository, run, tree

from agentpipe import bundle, capture_bundle, errors, git
from agentpipe.cmds import agent_fetch, agent_patch
from agentpipe.job import Job


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


def job_with(directory: Path, script: dict, *keys: str) -> Job:
    """A job whose artefacts are in its directory already."""
    directory.mkdir(exist_ok=True)
    items = [{"key": key, "mode": "input"} for key in keys]
    return Job({"task": {"script": script, "execution": {"artifacts": items}}}, str(directory))


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
    [(member("in", tarfile.SYMTYPE, ".."), b""), (member("in/evil"), b"x")],
    [(member("link/evil"), b"x")], [(member("link/deep/er"), b"x")], [(member("link/folder", tarfile.DIRTYPE), b"")],
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


@pytest.mark.parametrize("hashes", ["sha1", "sha256"])
def test_commits_arrive_on_what_the_remote_has(tmp_path, hashes):
    source = repository(tmp_path / "source", hashes=hashes)
    work = tmp_path / "work"
    run(tmp_path, "clone", "-q", str(source), "work")
    for number in range(3):
        head = commit(work, {"train.py": f"{number}\n"})
    found = capture_bundle.of_checkout(str(work), "origin", head, True, [])
    assert found.commit == head and not found.files
    job = job_with(tmp_path / "job", {"repository": str(source), "version_num": head}, bundle.COMMITS)
    capture_bundle.write_commits(found, str(tmp_path / "job" / "commits.bundle"))
    assert run(work, "for-each-ref", "refs/heads/bundle") == ""
    wanted = agent_fetch.work(job)
    assert (Path(wanted["code"]) / "train.py").read_text() == "2\n"
    assert run(Path(wanted["code"]), "rev-list", "--count", "HEAD") == "4"
    # the second time neither bundle nor remote are needed
    source.rename(tmp_path / "gone")
    other = job_with(tmp_path / "other", {"repository": str(source), "version_num": head}, bundle.COMMITS)
    assert agent_fetch.work(other)["cached"]


def test_a_bundle_whose_base_is_gone_from_the_remote_says_so(tmp_path):
    source = repository(tmp_path / "source")
    run(tmp_path, "clone", "-q", str(source), "work")
    head = commit(tmp_path / "work", {"train.py": "1\n"})
    job = job_with(tmp_path / "job", {"repository": str(tmp_path / "new"), "version_num": head}, bundle.COMMITS)
    found = capture_bundle.of_checkout(str(tmp_path / "work"), "origin", head, True, [])
    capture_bundle.write_commits(found, str(tmp_path / "job" / "commits.bundle"))
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
    job = job_with(tmp_path / "job", {"repository": str(source), "version_num": head}, bundle.COMMITS)
    capture_bundle.write_commits(found, str(tmp_path / "job" / "commits.bundle"))
    code = Path(agent_fetch.work(job)["code"])
    assert (code / "train.py").read_text() == "new\n" and (code / "base").exists()
    assert "agentpipe" not in run(code, "for-each-ref")
