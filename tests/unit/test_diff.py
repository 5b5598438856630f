"""What agent-patch does to a checkout: exactly the user's changes, nothing outside, and nothing at all on failure."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repositories import commit, repository, run, tree

from agentpipe import errors, tools
from agentpipe.capture import capture, capture_git
from agentpipe.cmds import agent_fetch, agent_patch
from agentpipe.code import diff
from agentpipe.job import Job

LATIN = "gr\xfc\xdfe\n".encode("latin-1")
SCRIPT = "from agentpipe.job import Job; import sys, json; from agentpipe.cmds.agent_patch import work; " \
         "work(Job(json.load(sys.stdin), sys.argv[1]))"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLEARML_AGENT_FORCE_CODE_DIR", "CLEARML_AGENT_FORCE_EXEC_SCRIPT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def source(tmp_path):
    lines = "".join(f"line {n}\n" for n in range(1, 31))
    return repository(tmp_path / "source", {"train.py": lines, "lib/util.py": "x = 1\n"})


class Stage:
    """agent-fetch has run for a task; patch() is agent-patch on it."""

    def __init__(self, directory: Path, script: dict) -> None:
        directory.mkdir(exist_ok=True)
        self.manifest: dict = {"task": {"script": script}}
        self.job = Job(self.manifest, str(directory))
        self.manifest["fetch"] = agent_fetch.work(self.job)
        self.code = Path(self.manifest["fetch"]["code"])
        self.log = directory / "setup.log"

    def patch(self, **changes) -> dict:
        self.manifest["task"]["script"].update(changes)
        return agent_patch.work(self.job)

    def refused(self, **changes) -> errors.Failure:
        with pytest.raises(errors.Failure) as failure:
            self.patch(**changes)
        assert not isinstance(failure.value, tools.ToolFailed)
        return failure.value


@pytest.fixture
def stage(tmp_path, source):
    return Stage(tmp_path / "job", {"repository": str(source), "entry_point": "train.py"})


def everything(where: Path) -> dict:
    """The tree with .git and the index, byte for byte."""
    return {str(path): path.read_bytes() for path in where.rglob("*") if path.is_file()} | {"dirs": sorted(
        str(path) for path in where.rglob("*") if path.is_dir())}


def uncommitted(where: Path, *options: str) -> str:
    run(where, "add", "-AN")
    return run(where, "diff", "--binary", "HEAD", *options) + "\n"


@pytest.mark.parametrize("text, kind", [
    ("", "none"), ("  \n\t", "none"),
    ("diff --git a/x b/x\n", "patch"), ("\n  DIFF --git a/x b/x\n", "patch"),
    ("Submodule lib 1..2:\ndiff --git a/lib/x b/lib/x\n", "patch"),
    ("Submodule a contains modified content\nSubmodule a 1..2:\ndiff --git a/a/x b/a/x\n", "patch"),
    ("import diff\n", "script"), ("# diff \n", "script"), ("submodule is a word\nprint(1)\n", "script"),
    ("diff", "script"), ("Submodule lib 1234567..89abcde:\n  > title\n", "patch"),
    ("Submodule lib 1234567..89abcde:\n  > title\ndiff --git a/x b/x\n", "patch"),
    ("\x1b[1mdiff --git a/x b/x\x1b[m\n", "patch"), ("\ufeffdiff --git a/x b/x\n", "patch"),
    ("diff -u x y\n--- x\n", "patch"), ("diff x y\n--- x\n+++ y\n@@ -1 +1 @@\n-1\n+2\n", "patch"),
    ("diff = 3\nprint(diff)\n", "script"), ("\x1b[0m\n", "none"),
])
def test_a_diff_is_told_from_a_script(text, kind):
    assert diff.kind(text) == kind


@pytest.mark.parametrize("text", ["diff -u one two\n", "\n  DIFF --git a b\n",
                                  "Submodule lib 1234567..89abcde:\n  > 1\n"])
def test_a_script_that_reads_like_a_diff_is_captured_as_a_script(tmp_path, text):
    (tmp_path / "compare.sh").write_text(text)
    assert diff.of(capture.capture(capture.Wish(str(tmp_path / "compare.sh"), [])).script)[0] == "script"


def test_an_empty_diff_changes_nothing_and_starts_no_program(stage, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    before = everything(stage.code)
    found = stage.patch(diff="")
    assert (found["diff"], found["files"], found["entry_point"], found["working_dir"]) == (None, [], None, ".")
    assert everything(stage.code) == before


def test_a_change_is_applied_and_its_files_are_named(stage, source):
    (source / "train.py").write_text("print('new')\n")
    (source / "fresh").mkdir()
    (source / "fresh" / "new.py").write_text("1\n")
    found = stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)
    assert sorted(found["files"]) == ["fresh/new.py", "train.py"]
    assert found["diff"] == subprocess.run(["sha256sum"], input=uncommitted(source).encode(), capture_output=True,
                                           check=True).stdout.decode().split()[0]


def edit_text(where):
    (where / "train.py").write_text("changed\n")


def edit_binary(where):
    (where / "data.bin").write_bytes(bytes(range(256)) * 40)


def edit_rename(where):
    (where / "train.py").rename(where / "renamed.py")


def edit_mode(where):
    (where / "train.py").chmod(0o755)


def edit_delete(where):
    shutil.rmtree(where / "lib")


def edit_no_newline(where):
    (where / "train.py").write_text((where / "train.py").read_text() + "no newline")


def edit_crlf(where):
    (where / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\n")


def edit_names(where):
    for name in ("sp ace.py", "ümläut.py", "quo\"te.py", "tab\there.py", "back\\slash.py", "-dash.py", "b/"):
        path = where / (name + "c" if name.endswith("/") else name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("x\n")


def edit_link(where):
    os.symlink("train.py", where / "link.py")


def edit_empty(where):
    (where / "empty.py").write_text("")


@pytest.mark.parametrize("edit", [edit_text, edit_binary, edit_rename, edit_mode, edit_delete, edit_no_newline,
                                  edit_crlf, edit_names, edit_link, edit_empty])
@pytest.mark.parametrize("staged", [True, False, "half"])
def test_every_kind_of_change_arrives_exactly(stage, source, edit, staged):
    edit(source)
    if staged:
        run(source, "add", "-A")
    if staged == "half":
        (source / "lib").mkdir(exist_ok=True)
        (source / "lib" / "util.py").write_text("x = 2\n")
    stage.patch(diff=uncommitted(source, "-M", "-C", "--find-copies-harder"), entry_point="-m x")
    assert tree(stage.code) == tree(source)


def test_changes_to_dos_files_keep_their_line_ends(tmp_path):
    source = repository(tmp_path / "dos", {"a.py": ""})
    (source / "a.py").write_bytes(b"1\r\n2\r\n3\r\n")
    commit(source, {})
    stage = Stage(tmp_path / "job2", {"repository": str(source)})
    (source / "a.py").write_bytes(b"1\r\n2 changed\r\n3\r\n")
    stage.patch(diff=uncommitted(source))
    assert (stage.code / "a.py").read_bytes() == b"1\r\n2 changed\r\n3\r\n"
    again = Stage(tmp_path / "job3", {"repository": str(source)})
    again.patch(diff=uncommitted(source).strip())
    assert (again.code / "a.py").read_bytes() == b"1\r\n2 changed\r\n3\r\n"


def test_a_binary_file_without_content_is_committed_where_it_is_and_other_changes_are_not_the_first_to_drop(tmp_path):
    where = repository(tmp_path / "code", {"train.py": "x = 1\n"})
    (where / "sm" / "data").mkdir(parents=True)
    (where / "sm" / ".git").write_text("gitdir: ../.git/modules/sm\n")
    for name, command in (("sm/data/w.bin", "git -C sm add data/w.bin && git -C sm commit"),
                          ("w.bin", "git add w.bin && git commit")):
        binary = (f"diff --git a/{name} b/{name}\nindex 1234567..89abcde 100644\n"
                  f"Binary files a/{name} and b/{name} differ\n")
        (where / name).write_bytes(b"\0")
        text = ("diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n")
        for patch, drop in ((binary, ("--drop-diff",)), (text + binary, ())):
            with pytest.raises(errors.Failure) as failure:
                diff.apply(str(where), patch.encode())
            assert failure.value.reason == f"the diff has no content for the binary file {name}"
            assert failure.value.remedy == f"{command}, then enqueue again"
            assert tuple(failure.value.change) == drop


@pytest.mark.parametrize("edit", [edit_text, edit_binary, edit_no_newline])
def test_a_diff_whose_end_was_stripped_still_applies(stage, source, edit):
    edit(source)
    stage.patch(diff=uncommitted(source).strip())
    assert tree(stage.code) == tree(source)


def test_a_diff_that_ends_in_empty_context_lines_still_applies_when_stripped(tmp_path):
    source = repository(tmp_path / "s", {"a": "1\n2\n3\n\n\n\n4\n"})
    stage = Stage(tmp_path / "job2", {"repository": str(source)})
    (source / "a").write_text("1\n2\nthree\n\n\n\n4\n")
    stage.patch(diff=uncommitted(source).strip())
    assert tree(stage.code) == tree(source)


def test_changes_inside_submodules_arrive(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[protocol \"file\"]\n\tallow = always\n")
    repository(tmp_path / "inner", {"inner.py": "1\n"})
    outer = repository(tmp_path / "outer")
    run(outer, "submodule", "--quiet", "add", "../inner", "lib")
    commit(outer, {})
    stage = Stage(tmp_path / "job", {"repository": str(outer)})
    (outer / "lib" / "inner.py").write_text("2\n")
    text = run(outer, "diff", "--submodule=diff", "HEAD") + "\n"
    assert text.startswith("Submodule lib contains modified content\ndiff --git")
    for _ in range(2):
        stage.patch(diff=text)
        assert (stage.code / "lib" / "inner.py").read_text() == "2\n"
    stage.patch(diff="")
    assert (stage.code / "lib" / "inner.py").read_text() == "1\n"


@pytest.mark.parametrize("ignored", ["none", "dirty", "all"])
def test_what_is_changed_inside_submodules_goes_along_whatever_it_is(tmp_path, monkeypatch, ignored):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[protocol \"file\"]\n\tallow = always\n")
    files = {"text.py": "1\n", "bin": "a\0b\n"}
    repository(tmp_path / "deep", files)
    middle = repository(tmp_path / "middle", files)
    run(middle, "submodule", "--quiet", "add", "../deep", "the deep")
    commit(middle, {})
    outer = repository(tmp_path / "outer", files)
    run(outer, "submodule", "--quiet", "add", "../middle", "lib")
    run(outer, "config", "-f", ".gitmodules", "submodule.lib.ignore", ignored)
    run(outer, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(outer, {})
    stage = Stage(tmp_path / "job", {"repository": str(outer)})
    for place in (outer, outer / "lib", outer / "lib" / "the deep"):
        (place / "text.py").write_text("2\n")
    stage.patch(diff=capture_git.diff(str(outer)))
    assert tree(stage.code) == tree(outer)
    for place in (outer, outer / "lib", outer / "lib" / "the deep"):
        (place / "bin").write_bytes(b"a\0c\n")
        (place / "text.py").write_bytes(b"caf\xe9\n")
        (place / "new.py").write_bytes(b"caf\xe9\n")
        run(place, "add", "-N", "new.py")
    stage.patch(diff=capture_git.diff(str(outer)))
    assert tree(stage.code) == tree(outer)


@pytest.fixture
def moved(tmp_path):
    """A checkout whose submodule stands at a later, pushed commit, and which has a new submodule."""
    (tmp_path / ".gitconfig").write_text("[protocol \"file\"]\n\tallow = always\n")
    for name in ("inner", "fresh"):
        repository(tmp_path / name, {f"{name}.py": "1\n"})
    outer = repository(tmp_path / "outer")
    run(outer, "submodule", "--quiet", "add", "../inner", "lib")
    run(outer, "submodule", "--quiet", "add", "../inner", "old")
    commit(outer, {})
    commit(tmp_path / "inner", {"inner.py": "2\n", "more.py": "2\n"})
    run(outer / "lib", "pull", "-q")
    return outer


@pytest.mark.parametrize("options", [(), ("--submodule=short",), ("--submodule=log",), ("--submodule=diff",)])
def test_a_submodule_at_another_commit_arrives(tmp_path, moved, options):
    if "--submodule=log" not in options:  # whose text does not carry what is new and what is gone
        run(moved, "submodule", "--quiet", "add", "../fresh", "new")
        run(moved, "rm", "-q", "-f", "old")
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    before = tree(stage.code)
    text = run(moved, "diff", *options, "HEAD") + "\n"
    for _ in range(2):
        stage.patch(diff=text)
        assert tree(stage.code) == tree(moved)
        stage.patch(diff="")
        assert tree(stage.code) == before
    if options in ((), ("--submodule=log",)):
        stage.patch(diff=text)
        assert run(stage.code / "lib", "rev-parse", "HEAD") == run(moved / "lib", "rev-parse", "HEAD")


def test_a_submodule_at_a_commit_that_was_not_pushed_is_named_and_nothing_changes(tmp_path, moved):
    commit(moved / "lib", {"inner.py": "3\n"})
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    before = tree(stage.code)
    failure = stage.refused(diff=run(moved, "diff", "HEAD") + "\n")
    assert failure.exit == errors.NOT_FOUND and "push" in failure.remedy
    assert tree(stage.code) == before


def test_changes_in_a_submodule_that_the_diff_only_mentions_are_said(tmp_path, moved):
    (moved / "lib" / "inner.py").write_text("dirty\n")
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    stage.patch(diff=run(moved, "diff", "--submodule=short", "HEAD") + "\n")
    assert "lib has changes, but not which" in stage.log.read_text()


def test_a_folder_in_the_place_of_a_submodule_arrives_and_a_staged_submodule_too(tmp_path, moved):
    outer = tmp_path / "outer"
    head = run(outer, "rev-parse", "HEAD")
    run(outer, "rm", "-q", "-f", "lib")
    (outer / "lib").mkdir()
    (outer / "lib" / "own.py").write_text("own\n")
    run(outer, "submodule", "--quiet", "add", "--name", "second", str(tmp_path / "inner"), "more")
    run(outer, "add", "-A")
    stage = Stage(tmp_path / "job2", {"repository": str(outer), "version_num": head, "entry_point": "-c pass"})
    stage.patch(diff=capture_git.diff(str(outer)))
    assert tree(stage.code) == tree(outer)


def test_a_submodule_that_is_moved_or_new_arrives_whatever_is_in_it(tmp_path, moved):
    commit(moved, {"inner.py": "of the top\n"})
    run(moved, "config", "--file", str(tmp_path / ".gitconfig"), "diff.ignoreSubmodules", "all")
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    before = tree(stage.code)
    run(moved, "mv", "old", "a place")
    run(moved, "submodule", "--quiet", "add", "../fresh", "the fresh")
    run(moved, "mv", "lib", "lib 2")
    for place in ("a place", "the fresh"):
        (moved / place / "bin").write_bytes(b"a\0b\n")
        (moved / place / "latin.py").write_bytes(LATIN)
        run(moved / place, "add", "-A")
        (moved / place / "unknown").write_text("mine\n")
    found = capture_git.unknown(str(moved), [])
    assert capture_git.from_top(found, str(moved)) == ["a place/unknown", "the fresh/unknown"]
    for place in ("a place", "the fresh"):
        run(moved / place, "add", "-N", "unknown")
    # a rename in it names no file above it, and this user's own program shows no change
    run(moved / "lib 2", "mv", "inner.py", "renamed.py")
    run(moved, "config", "--file", str(tmp_path / ".gitconfig"), "diff.external", "true")
    text = capture_git.diff(str(moved))
    for _ in range(2):
        stage.patch(diff=text)
        assert tree(stage.code) == tree(moved)
        stage.patch(diff="")
        assert tree(stage.code) == before


def test_a_file_whose_name_is_no_utf_8_arrives_and_the_manifest_is_one(stage, source):
    Path(os.fsdecode(os.path.join(os.fsencode(source), b"lat\xe9.txt"))).write_text("new\n")
    found = stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)
    assert json.loads(json.dumps(found, ensure_ascii=False).encode())["files"] == ["lat\ufffd.txt"]


@pytest.mark.parametrize("name, attributes", [
    ("a b.csv", ""), ("*[x]\\ .csv", ""), ('quo"te.csv', ""), (" lead", ""), ("line\nend.csv", ""),
    (os.fsdecode(b"lat\xe9 in"), ""), ("a b.csv", "* diff=python\n"), ("new.csv", "* text diff=own\n"),
])
def test_a_file_that_is_no_utf_8_arrives_byte_for_byte(tmp_path, source, name, attributes):
    run(source, "config", "core.quotePath", "false")
    (source / "old.csv").write_bytes(LATIN)
    commit(source, {".gitattributes": attributes})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "train.py"})
    (source / name).write_bytes(LATIN)
    (source / "old.csv").write_bytes(LATIN * 2)
    run(source, "add", "-AN")
    stage.patch(diff=capture_git.diff(str(source)))
    assert tree(stage.code) == tree(source)


def test_a_file_that_is_no_utf_8_and_is_always_shown_as_text_is_refused(source):
    commit(source, {".gitattributes": "*.csv diff\n"})
    (source / "a b.csv").write_bytes(LATIN)
    (source / "other.txt").write_bytes(LATIN)
    run(source, "add", "-AN")
    with pytest.raises(errors.Failure, match=r"^a b\.csv: not UTF-8"):
        capture_git.diff(str(source))


def test_a_file_that_reads_like_a_submodule_is_a_file(stage, source):
    (source / "note.txt").write_text(f"Subproject commit {'1' * 40}\n")
    stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)


def test_a_submodule_cannot_be_put_outside_the_checkout(tmp_path, moved):
    os.symlink(tmp_path, moved / "link")
    commit(moved, {})
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    for path in ("../evil", "link/evil", ".git/evil", str(tmp_path / "evil")):
        hostile = (f"diff --git a/{path} b/{path}\nindex 1111111..2222222 160000\n--- a/{path}\n+++ b/{path}\n"
                   f"@@ -1 +1 @@\n-Subproject commit {'1' * 40}\n+Subproject commit {'2' * 40}\n")
        assert stage.refused(diff=hostile).exit == errors.BAD_DATA
    assert not (tmp_path / "evil").exists()


def test_a_submodule_that_a_diff_removes_is_one_of_the_checkout(tmp_path, moved):
    os.symlink(tmp_path, moved / "link")
    commit(moved, {})
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    before, fresh = tree(stage.code), everything(tmp_path / "fresh")
    for path in (str(tmp_path / "fresh"), "../../fresh", "link/fresh", ".", "lib/..", ".git"):
        failure = stage.refused(diff=f"Submodule {path} 1111111...0000000 (submodule deleted)\n")
        assert failure.exit == errors.BAD_DATA and path in failure.reason
        assert tree(stage.code) == before and everything(tmp_path / "fresh") == fresh


def test_a_submodules_name_that_cannot_be_read_changes_nothing(stage, source):
    (source / "lib" / "util.py").write_text("x = 2\n")
    before = everything(stage.code)
    failure = stage.refused(diff=uncommitted(source) + 'diff --git "a/\\x" "b/\\x"\nindex 1111111..2222222 160000\n'
                            f'--- "a/\\x"\n+++ "b/\\x"\n@@ -1 +1 @@\n-Subproject commit {"1" * 40}\n'
                            f'+Subproject commit {"2" * 40}\n')
    assert failure.exit == errors.BAD_DATA and everything(stage.code) == before


def test_no_file_of_a_removed_submodule_is_removed_through_a_link(tmp_path, moved):
    commit(tmp_path / "inner", {"sub/precious": "in git\n", "alone": "1\n"})
    run(moved / "lib", "pull", "-q")
    commit(moved, {})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("mine\n")
    stage = Stage(tmp_path / "job", {"repository": str(moved)})
    stage.patch(diff="diff --git a/lib/sub/precious b/lib/sub/precious\ndeleted file mode 100644\n"
                     "--- a/lib/sub/precious\n+++ /dev/null\n@@ -1 +0,0 @@\n-in git\n"
                     f"diff --git a/lib/sub b/lib/sub\nnew file mode 120000\n--- /dev/null\n+++ b/lib/sub\n"
                     f"@@ -0,0 +1 @@\n+{tmp_path / 'outside'}\n\\ No newline at end of file\n"
                     "Submodule lib 1111111...0000000 (submodule deleted)\n")
    assert (tmp_path / "outside" / "precious").read_text() == "mine\n"
    assert os.listdir(stage.code / "lib") == ["sub"]


def test_a_diff_without_prefixes_is_tolerated_and_said(stage, source):
    (source / "train.py").write_text("print('new')\n")
    stage.patch(diff=uncommitted(source, "--no-prefix"))
    assert tree(stage.code) == tree(source)
    assert "a/ and b/" in stage.log.read_text()


def test_hunks_without_context_are_tolerated_and_said(stage, source):
    (source / "train.py").write_text((source / "train.py").read_text().replace("line 7\n", "line seven\n"))
    stage.patch(diff=uncommitted(source, "-U0"))
    assert tree(stage.code) == tree(source)
    assert "without context" in stage.log.read_text()


def test_neither_context_nor_prefixes_are_needed(stage, source):
    (source / "train.py").write_text((source / "train.py").read_text().replace("line 7\n", "line seven\n"))
    stage.patch(diff=uncommitted(source, "-U0", "--no-prefix"))
    assert tree(stage.code) == tree(source)


def test_colours_and_foreign_line_ends_of_a_diff_do_not_matter(stage, source):
    (source / "train.py").write_text((source / "train.py").read_text().replace("line 7\n", "line seven  \n\n"))
    (source / "dos.txt").write_bytes(b"a\r\nb")
    stage.patch(diff=uncommitted(source, "--color=always"))
    assert tree(stage.code) == tree(source)
    (source / "dos.txt").unlink()
    stage.patch(diff=uncommitted(source).replace("\n", "\r\n"))
    assert tree(stage.code) == tree(source)
    assert "CRLF" in stage.log.read_text()


def test_colours_of_a_file_are_its_own(stage, source):
    (source / "train.py").write_text("print('\x1b[1mbold\x1b[0m')\n")
    stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)


def test_a_file_in_a_folders_place_is_no_full_disk_and_leaves_all_as_it_was(stage, source):
    before = tree(stage.code)
    failure = stage.refused(diff=made("aaa") + made("lib"))
    assert failure.exit == errors.BAD_DATA and "lib" in failure.reason and "--drop-diff" in failure.remedy
    assert tree(stage.code) == before


def test_a_missing_file_is_taken_for_empty_as_the_peer_does(stage):
    stage.patch(diff="diff --git a/made/new.py b/made/new.py\n--- a/made/new.py\n+++ b/made/new.py\n"
                     "@@ -0,0 +1 @@\n+1\n")
    assert (stage.code / "made" / "new.py").read_text() == "1\n"


def made(name: str, old: str = "/dev/null", mode: str = "100644", text: str = "hi\n") -> str:
    """A diff that makes (or, with `old`, changes) one file."""
    header = f"new file mode {mode}\n" if old == "/dev/null" else ""
    end = "" if text.endswith("\n") else "\n\\ No newline at end of file\n"
    return f"diff --git a/{name} b/{name}\n{header}--- {old}\n+++ b/{name}\n@@ -0,0 +1 @@\n+{text}{end}"


RENAME = "diff --git a/train.py b/../x\nsimilarity index 100%\nrename from train.py\nrename to ../x\n"
ESCAPES = {
    "..": made("../x"),
    "absolute": "diff -u /dev/null OUT/x\n--- /dev/null\n+++ OUT/x\n@@ -0,0 +1 @@\n+hi\n",
    "absolute without prefixes": "diff --git OUT/x OUT/x\n--- OUT/x\n+++ OUT/x\n@@ -0,0 +1 @@\n+hi\n",
    "link in the repository": made("link/x"),
    "missing file behind a link": made("link/x", old="a/link/x"),
    "missing file above": made("../x", old="a/../x"),
    "link of the diff": made("l", mode="120000", text="OUT") + made("l/x"),
    ".git": made(".git/hooks/x", mode="100755"),
    ".GIT": made(".GIT/x"),
    "missing file in .git": made(".git/y", old="a/.git/y"),
    "rename": RENAME,
    "copy": RENAME.replace("rename", "copy"),
    "write through a link": "diff --git a/file b/file\n--- a/file\n+++ b/file\n@@ -1 +1 @@\n-secret\n+hi\n",
}


@pytest.mark.parametrize("text", ESCAPES.values(), ids=ESCAPES.keys())
def test_nothing_outside_the_checkout_is_written(tmp_path, source, text):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    os.symlink(outside, source / "link")
    os.symlink(outside / "secret", source / "file")
    commit(source, {})
    stage = Stage(tmp_path / "job", {"repository": str(source)})
    before, around = everything(stage.code), sorted(os.listdir(tmp_path / "job"))
    failure = stage.refused(diff=text.replace("OUT", str(outside)))
    assert failure.exit == errors.BAD_DATA
    assert everything(stage.code) == before
    assert sorted(os.listdir(tmp_path / "job")) == around
    assert os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == "secret\n"


COPIED = "diff --git a/x b/y\nsimilarity index 100%\ncopy from FROM\ncopy to y\n"
SOURCES = {
    "absolute": COPIED.replace("FROM", "OUT/secret"),
    "..": COPIED.replace("FROM", "../manifest.json"),
    "quoted": COPIED.replace("FROM", '"..\\057manifest.json"'),
    "without prefixes": COPIED.replace("a/x b/y", "x y").replace("FROM", "OUT/secret"),
    "behind a tab": COPIED.replace("FROM", "tab\t/../../../outside/secret"),
    "behind what is no quote": COPIED.replace("FROM", r'"\q"/../../../outside/secret'),
    "CRLF": COPIED.replace("FROM", "OUT/secret").replace("\n", "\r\n"),
    "second file": made("z") + COPIED.replace("FROM", "OUT/secret"),
    ".git": COPIED.replace("FROM", ".git/config"),
    "behind a link": COPIED.replace("FROM", "link/secret"),
    "named by its line ---": COPIED.replace("copy from FROM\n", "") + "--- a//OUT/secret\n+++ b/y\n"
                                                                    "@@ -1 +1,2 @@\n secret\n+hi\n",
    "renamed and copied": COPIED.replace("copy from FROM", "rename from OUT/secret"),
}


@pytest.mark.parametrize("text", SOURCES.values(), ids=SOURCES.keys())
def test_nothing_outside_the_checkout_is_copied_into_it(tmp_path, source, text):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    os.symlink(outside, source / "link")
    commit(source, {"tab\t/file": "", '"\\q"/file': ""})
    stage = Stage(tmp_path / "job", {"repository": str(source)})
    before = everything(stage.code)
    failure = stage.refused(diff=text.replace("OUT", str(outside)))
    assert failure.exit == errors.BAD_DATA
    assert everything(stage.code) == before and (outside / "secret").exists()


def test_a_copy_within_the_checkout_arrives_whatever_its_lines_read_like(tmp_path, source):
    lines = [*(f"{n}\n" for n in range(50)), "-- ../x\n"]
    commit(source, {"ü/sp ace.py": "".join(lines)})
    stage = Stage(tmp_path / "job", {"repository": str(source)})
    (source / "y.py").write_text("".join(lines[:-1]))
    text = uncommitted(source, "-C", "--find-copies-harder")
    assert "copy from" in text and "--- ../x" in text
    stage.patch(diff=text, entry_point="-m x")
    assert tree(stage.code) == tree(source)


def test_a_path_outside_is_named(stage):
    assert "../x" in stage.refused(diff=ESCAPES[".."]).reason


def test_a_diff_for_a_file_whose_name_has_two_lines_is_refused_in_one(tmp_path):
    where = repository(tmp_path / "odd", {"train.py": "x\n", "two\nlines.py": "one\n"})
    odd = Stage(tmp_path / "job", {"repository": str(where), "entry_point": "train.py"})
    (where / "two\nlines.py").write_text("two\n")
    text = uncommitted(where)
    (odd.code / "two\nlines.py").write_text("three\n")
    failure = odd.refused(diff=text)
    assert (failure.exit, failure.reason) == (errors.BAD_DATA, "the diff does not apply to 'two\\nlines.py': at line 1")


def test_a_diff_that_does_not_apply_names_file_and_hunk_and_changes_nothing(stage, source):
    text = (source / "train.py").read_text()
    (source / "lib" / "util.py").write_text("x = 2\n")
    (source / "train.py").write_text(text.replace("line 3\n", "line three\n").replace("line 25\n", "line 25b\n"))
    text_of_diff = uncommitted(source)
    (stage.code / "train.py").write_text(text.replace("line 24\n", "another\n"))
    before = everything(stage.code)
    failure = stage.refused(diff=text_of_diff)
    assert failure.exit == errors.BAD_DATA
    assert "train.py: hunk 2 (@@ -22,7 +22,7 @@)" in failure.reason
    assert "+line 25b" in failure.evidence
    assert everything(stage.code) == before


@pytest.mark.parametrize("text, words", [
    ("diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1,9 +1,9 @@\n line 1\n-x\n", "line"),
    ("diff --git a/none.py b/none.py\n--- a/none.py\n+++ b/none.py\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n d\n", "none.py"),
    ("diff --git a/train.py b/train.py\nnew file mode 100644\n--- /dev/null\n+++ b/train.py\n@@ -0,0 +1 @@\n+1\n",
     "train.py"),
    ("diff --git a/w.bin b/w.bin\nindex 111..222 100644\nBinary files a/w.bin and b/w.bin differ\n", "w.bin"),
    ("diff --git nothing\n", "No valid patches"),
    ("diff --cc train.py\nindex 1,2..3\n--- a/train.py\n+++ b/train.py\n@@@ -1 -1 +1 @@@\n++x\n", "No valid patches"),
])
def test_a_damaged_diff_is_refused_in_clear_words(tmp_path, source, text, words):
    (source / "w.bin").write_bytes(b"\0\1\2")
    commit(source, {})
    stage = Stage(tmp_path / "job", {"repository": str(source)})
    before = everything(stage.code)
    failure = stage.refused(diff=text)
    assert failure.exit == errors.BAD_DATA and words in failure.reason
    assert everything(stage.code) == before


def test_patching_again_gives_the_same_tree(stage, source):
    (source / "train.py").write_text("print('new')\n")
    (source / "new.py").write_text("1\n")
    text = uncommitted(source)
    assert stage.patch(diff=text)["files"] == stage.patch(diff=text)["files"]
    assert tree(stage.code) == tree(source)


def test_another_diff_replaces_the_first(stage, source):
    (source / "new.py").write_text("1\n")
    stage.patch(diff=uncommitted(source))
    (source / "new.py").unlink()
    (source / "train.py").write_text("print('other')\n")
    run(source, "reset", "-q")
    stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)
    stage.patch(diff="")
    run(source, "checkout", "-q", ".")
    assert tree(stage.code) == tree(source)


def test_a_checkout_whose_git_is_broken_has_no_repository_above_it_reset(tmp_path, stage, source):
    above = repository(tmp_path / "above", {"dotfile": "committed\n"})
    (above / ".git").rename(tmp_path / ".git")
    (tmp_path / "dotfile").write_text("mine\n")
    (source / "train.py").write_text("print('new')\n")
    stage.patch(diff=uncommitted(source))
    (stage.code / ".git" / "HEAD").write_text("")
    failure = stage.refused(diff="")
    assert "cannot undo" in failure.reason
    assert (tmp_path / "dotfile").read_text() == "mine\n"


@pytest.mark.parametrize("point", ["begun", "applied"])
def test_killed_at_any_step_the_next_patch_is_right(tmp_path, stage, source, point):
    (source / "train.py").write_text("print('new')\n")
    (source / "new.py").write_text("1\n")
    text = uncommitted(source)
    stage.manifest["task"]["script"]["diff"] = text
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "job")],
                            input=json.dumps(stage.manifest).encode(),
                            env={**os.environ, "AGENT_CRASH_AT": f"patch:{point}"})
    assert killed.returncode == -9
    stage.patch(diff=text)
    assert tree(stage.code) == tree(source)


def test_a_checkout_that_is_no_repository_is_patched_too(tmp_path, stage, source):
    (source / "train.py").write_text("print('new')\n")
    shutil.rmtree(stage.code / ".git")
    run(tmp_path, "init", "-q")
    stage.patch(diff=uncommitted(source))
    assert (stage.code / "train.py").read_text() == "print('new')\n"
    stage.patch(diff=uncommitted(source))
    assert stage.refused(diff=uncommitted(source) + "\n").remedy == "run agent-fetch again"


def test_this_users_whitespace_settings_do_not_change_the_diff(tmp_path, stage, source):
    (source / "train.py").write_text("trailing   \n\ttabs\n")
    text = uncommitted(source)
    (tmp_path / ".gitconfig").write_text("[apply]\n\twhitespace = fix\n\tignoreWhitespace = change\n")
    stage.patch(diff=text)
    assert (stage.code / "train.py").read_text() == "trailing   \n\ttabs\n"


def test_a_large_diff_applies(stage, source):
    (source / "big.txt").write_text("".join(f"{n} {'x' * 60}\n" for n in range(300_000)))
    stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)


names = st.sampled_from(["a.py", "b.py", "d/c.py", "d/e/f", "g h", "ü"])
contents = st.one_of(st.binary(max_size=60), st.text("ab\n\r\t ", max_size=80).map(str.encode))
trees_of_files = st.dictionaries(names, st.tuples(contents, st.booleans()), min_size=1, max_size=6)


def lay(where: Path, files: dict) -> None:
    for entry in where.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name, (content, executable) in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees_of_files, trees_of_files)
def test_any_edit_makes_the_round_trip(before, after):
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        one.mkdir()
        run(one, "init", "-q")
        lay(one, before)
        commit(one, {})
        shutil.copytree(one, two, symlinks=True)
        lay(one, after)
        run(one, "add", "-A")
        text = subprocess.run(["git", "diff", "--binary", "--cached", "HEAD"], cwd=one, capture_output=True,
                              check=True).stdout
        if text:
            # as through JSON: a manifest holds text
            diff.apply(str(two), diff.encoded(json.loads(json.dumps(text.decode("utf-8", "surrogateescape")))))
        assert tree(two) == tree(one)


# --- stand-alone scripts -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("script, name, entry", [
    ({"entry_point": "train.py"}, "train.py", "train.py"),
    ({"entry_point": "scripts/train.py --epochs 3"}, "train.py", "train.py --epochs 3"),
    ({"entry_point": ""}, "untitled.py", "untitled.py"),
    ({"entry_point": "notebook"}, "untitled.py", "untitled.py"),
    ({"entry_point": "go.sh", "binary": "/bin/bash"}, "go.sh", "go.sh"),
    ({"entry_point": "go.bash", "binary": "bash"}, "go.bash", "go.bash"),
    ({"entry_point": "go.py", "binary": "bash"}, "untitled.sh", "untitled.sh"),
    ({"entry_point": "-m torch.distributed.run untitled.py"}, "untitled.py", None),
    ({"entry_point": "-c 'bash run.sh'", "binary": "bash", "working_dir": ".:run.sh"}, "run.sh", "-c 'bash run.sh'"),
    ({"entry_point": "-m pdb mine.py", "working_dir": ".:mine.py"}, "mine.py", "-m pdb mine.py"),
])
def test_a_script_in_the_diff_gets_its_name(tmp_path, script, name, entry):
    stage = Stage(tmp_path / "job", {"diff": "print('alone')\n", **script})
    for _ in range(2):
        found = stage.patch()
        assert (stage.code / name).read_text() == "print('alone')\n"
        assert os.listdir(stage.code) == [name]
        assert (found["files"], found["entry_point"], found["working_dir"]) == ([name], entry, ".")


def test_without_a_repository_the_working_directory_is_ignored_and_said(tmp_path):
    stage = Stage(tmp_path / "job", {"diff": "print(1)\n", "entry_point": "a.py", "working_dir": "some/where"})
    assert stage.patch()["working_dir"] == "."
    assert "ignored" in stage.log.read_text()


def test_with_a_repository_the_script_goes_into_its_working_directory(stage):
    for _ in range(2):
        found = stage.patch(diff="print('alone')\n", working_dir="lib/deeper", entry_point="new.py")
        assert (stage.code / "lib/deeper/new.py").read_text() == "print('alone')\n"
        assert found["files"] == ["lib/deeper/new.py"]


def test_a_script_does_not_replace_a_file_of_the_repository(stage):
    before = (stage.code / "train.py").read_text()
    assert stage.patch(diff="print('alone')\n")["files"] == []
    assert (stage.code / "train.py").read_text() == before
    assert "kept" in stage.log.read_text()


@pytest.mark.parametrize("folder", ["..", "/tmp", "lib/../..", "out", "-x"])
@pytest.mark.parametrize("text", ["", "print(1)\n"])
def test_a_working_directory_outside_the_checkout_is_refused(tmp_path, source, folder, text):
    os.symlink(tmp_path, source / "out")
    commit(source, {})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "new.py"})
    assert stage.refused(working_dir=folder, diff=text).exit == errors.BAD_DATA
    assert not (tmp_path / "new.py").exists()


def test_a_working_directory_that_is_not_there_is_named_with_its_neighbours(stage):
    failure = stage.refused(working_dir="libs")
    assert failure.exit == errors.NOT_FOUND and "did you mean lib?" in failure.reason


def test_an_entry_point_that_is_not_there_is_named_with_its_neighbours(stage):
    failure = stage.refused(entry_point="trian.py --x 1")
    assert failure.exit == errors.NOT_FOUND and "did you mean train.py?" in failure.reason
    assert "lib/util.py" in stage.refused(entry_point="util.py").reason


@pytest.mark.parametrize("entry", ["-m package.module", "-c 'import os'", "", "/opt/app/train.py",
                                   "train.py --a 'b c'"])
def test_entry_points_that_need_no_file_in_the_checkout_pass(stage, entry):
    assert stage.patch(entry_point=entry)["entry_point"] is None


def test_an_entry_point_with_a_space_in_its_name_stays_one_word(tmp_path, source):
    commit(source, {"my train.py": "1\n"})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "my train.py"})
    assert stage.patch()["entry_point"] == "'my train.py'"


@pytest.mark.parametrize("entry", ["-x", "../x.py", "a 'b"])
def test_bad_entry_points_are_refused(stage, entry):
    assert stage.refused(entry_point=entry).exit == errors.BAD_DATA


def test_file_and_folder_may_stand_in_the_entry_point(stage):
    found = stage.patch(entry_point="util.py:lib")
    assert (found["entry_point"], found["working_dir"]) == ("util.py", "lib")


def test_a_forced_script_replaces_the_entry_point(stage, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_FORCE_EXEC_SCRIPT", "lib:util.py")
    found = stage.patch(entry_point="none.py", working_dir="nowhere")
    assert (found["entry_point"], found["working_dir"]) == ("util.py", "lib")


def test_a_forced_folder_is_not_patched(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLEARML_AGENT_FORCE_CODE_DIR", str(source))
    stage = Stage(tmp_path / "job", {"entry_point": "train.py", "diff": "print('alone')\n"})
    before = everything(source)
    assert stage.patch()["diff"] is None
    assert everything(source) == before


def test_the_sdks_lines_move_below_future_imports(tmp_path, source):
    text = '"""doc"""\nfrom __future__ import (annotations,\n    division)\nimport os\n'
    ours = "from clearml import Task\n(__name__ != '__main__') or Task.init()\n"
    commit(source, {"train.py": ours + text, "plain.py": ours + "import os\n"})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "train.py"})
    stage.patch()
    moved = (stage.code / "train.py").read_text()
    assert moved == text.replace("import os\n", ours + "import os\n")
    compile(moved, "train.py", "exec")
    stage.patch(entry_point="plain.py")
    assert (stage.code / "plain.py").read_text().startswith(ours)


def notebook(*sources):
    return json.dumps({"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "markdown", "source": ["# title"]}] + [
        {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": []} for source in sources]})


def test_a_notebook_runs_as_a_script(tmp_path, source):
    cells = notebook("%matplotlib inline\nx = 20\nif x:\n    !echo $((1 + 1))", "print(x + 1)")
    commit(source, {"nb/study.ipynb": cells})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "nb/study.ipynb --flag"})
    for _ in range(2):
        assert stage.patch()["entry_point"] == "nb/study.py --flag"
    ran = subprocess.run([sys.executable, "nb/study.py"], cwd=stage.code, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["2", "21"]


def test_a_stand_alone_notebook_runs_whether_it_is_one_or_a_script_already(tmp_path):
    for number, text in enumerate((notebook("print(7)"), "print(7)\n")):
        stage = Stage(tmp_path / f"job{number}", {"diff": text, "entry_point": "study.ipynb"})
        assert stage.patch()["entry_point"] == "study.py"
        ran = subprocess.run([sys.executable, "study.py"], cwd=stage.code, capture_output=True, text=True)
        assert ran.stdout == "7\n"


@pytest.mark.parametrize("cell", ["%%cython\nx = 1", "%timeit 1", "x = !ls", "x = %who_ls", "!echo $x", "!echo {x}",
                                  "print?", "await f()", "%load_ext tensorboard", "!!ls"])
def test_a_cell_that_takes_ipython_is_given_to_it_whole(tmp_path, source, cell):
    commit(source, {"study.ipynb": notebook("x = 1", cell)})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "study.ipynb"})
    assert stage.patch()["packages"] == ["ipython"]
    text = (stage.code / "study.py").read_text()
    compile(text, "study.py", "exec")
    assert f"# cell 2 of study.ipynb\nx = 1\n\n# cell 3 of study.ipynb\n__cell__(3, {cell!r})" in text


@pytest.mark.parametrize("cell, line", [
    ("%%time\nx = 1", "x = 1"), ("%load_ext autoreload\n%autoreload 2", "pass"), ("text = '''\n%who\n!ls\n'''", "!ls"),
    ("x = (7\n%2)", "%2)"),
    ("%pip install six", "run('pip install six', shell=True)"), ("this is no Python", "this is")])
def test_a_cell_that_takes_none_stays_python(tmp_path, source, cell, line):
    commit(source, {"study.ipynb": notebook(cell)})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "study.ipynb"})
    assert "packages" not in stage.patch()
    assert line in (stage.code / "study.py").read_text()


INIT = "from clearml import Task\n(__name__ != '__main__') or Task.init()\n"


@pytest.mark.parametrize("text, expected", [
    ("print(1)\n", INIT + "print(1)\n"), ("", INIT),
    ("#!/usr/bin/python\n# -*- coding: utf-8 -*-\nx = 1\n",
     "#!/usr/bin/python\n# -*- coding: utf-8 -*-\n" + INIT + "x = 1\n"),
    ('"""doc\nmore"""\nfrom __future__ import annotations\nimport os\n',
     '"""doc\nmore"""\nfrom __future__ import annotations\n' + INIT + "import os\n"),
    ("from __future__ import annotations", "from __future__ import annotations\n" + INIT),
    ("from clearml import Task\nTask.init()\n", "from clearml import Task\nTask.init()\n"),
    ("this is no Python", "this is no Python"),
])
def test_task_init_is_put_in_once_when_an_operator_wants_it(tmp_path, source, monkeypatch, text, expected):
    commit(source, {"train.py": text})
    monkeypatch.setenv("CLEARML_AGENT_FORCE_TASK_INIT", "1")
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "train.py"})
    for _ in range(2):
        assert stage.patch()["packages"] == ["clearml"]
        assert (stage.code / "train.py").read_text() == expected


def test_patch_without_fetch_says_what_to_run(tmp_path):
    (tmp_path / "job").mkdir()
    with pytest.raises(errors.Failure) as failure:
        agent_patch.work(Job({"task": {"script": {}}}, str(tmp_path / "job")))
    assert failure.value.remedy == "agent-fetch | agent-patch"


def test_a_dry_run_changes_nothing(tmp_path, stage, source):
    (source / "train.py").write_text("print('new')\n")
    stage.job.options["dry_run"] = True
    before = everything(stage.code)
    stage.patch(diff=uncommitted(source))
    assert everything(stage.code) == before and "1 file(s)" in stage.log.read_text()


@pytest.mark.parametrize(("filter", "exit", "remedy"), [("lfs", errors.NOT_FOUND, "--bundle"),
                                                        ("other", errors.BAD_DATA, "get-regexp '^filter'")])
def test_a_filter_that_has_no_content_for_a_file_is_named_and_the_checkout_is_as_it_was(tmp_path, source, monkeypatch,
                                                                                         filter, exit, remedy):
    commit(source, {".gitattributes": f"*.bin filter={filter}\n", "m.bin": "points to it\n", "z.py": "1\n"})
    stage = Stage(tmp_path / "job", {"repository": str(source), "entry_point": "train.py"})
    before = tree(stage.code)
    for name in ("m.bin", "train.py", "a.py"):
        (source / name).write_text("points elsewhere\n")
    run(source, "add", "-N", "a.py")
    text = run(source, "diff", "HEAD") + "\n"
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")  # there Git LFS may be installed
    (tmp_path / ".gitconfig").write_text(
        f'[filter "{filter}"]\n\tsmudge = grep -v elsewhere\n\tclean = cat\n\trequired\n')
    failure = stage.refused(diff=text)
    assert failure.exit == exit and "m.bin" in failure.reason and remedy in failure.remedy
    assert tree(stage.code) == before


def test_when_writing_fails_half_way_the_checkout_is_as_it_was(stage, source):
    import resource
    (source / "a.py").write_text("small\n")
    (source / "z.bin").write_text("x" * 300_000)
    before = tree(stage.code)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        failure = stage.refused(diff=uncommitted(source))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.exit == errors.CANNOT_CREATE
    assert tree(stage.code) == before
    stage.patch(diff=uncommitted(source))
    assert tree(stage.code) == tree(source)
