"""A table of code as tasks name it: kinds of servers × what is wanted of them × changes; each is fetched and patched.

(ssh and Git LFS need packages of the machine: tests/services/test_ssh.py.)
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from git_servers import Daemon, SmartServer, basic
from repositories import Server, commit, published, repository, run, tree

from agentpipe import errors
from agentpipe.cmds import agent_fetch, agent_patch
from agentpipe.job import Job

LINES = "".join(f"line {number}\n" for number in range(1, 31))
FILES = {"train.py": LINES, "lib/util.py": "x = 1\n", "team/project/run.py": "print(1)\n", "old.txt": "old\n"}


class Place:
    """A repository, its clone to work in, and the addresses at which real servers have it."""

    def __init__(self, root: Path, urls: dict[str, str]) -> None:
        self.root, self.urls = root, urls
        self.work = root / "work"
        self.first = run(self.work, "rev-parse", "v1^{commit}")
        self.head = run(self.work, "rev-parse", "main")
        self.lost = run(self.work, "rev-parse", "lost")
        self.wanted = {
            "commit": ({"version_num": self.first}, self.first), "short": ({"version_num": self.first[:9]}, self.first),
            "tag": ({"tag": "v1"}, self.first), "branch": ({"branch": "feature/x"}, run(self.work, "rev-parse", "x")),
            "default": ({}, self.head), "tag as commit": ({"version_num": "v1"}, self.first),
            "branch and commit": ({"version_num": self.head, "branch": "main"}, self.head),
            "on no branch": ({"version_num": self.lost}, self.lost)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("table")
    work = repository(root / "work", FILES)
    (work / "data.bin").write_bytes(bytes(range(256)) * 20)
    (work / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    commit(work, {})
    run(work, "tag", "-a", "v1", "-m", "one")
    run(work, "checkout", "-q", "-b", "x")
    commit(work, {"x.py": "1\n"})
    run(work, "checkout", "-q", "-b", "gone")
    commit(work, {"lost.py": "1\n"})
    run(work, "tag", "lost")
    run(work, "checkout", "-q", "main")
    commit(work, {"later.py": "1\n"})
    bare = published(work, root / "www")
    run(bare, "update-ref", "refs/heads/feature/x", "refs/heads/x")
    for gone in ("refs/heads/x", "refs/heads/gone", "refs/tags/lost"):
        run(bare, "update-ref", "-d", gone)
    run(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    run(bare, "update-server-info")
    run(root, "clone", "-q", "--depth=1", "--no-single-branch", f"file://{bare}", "shallow.git", "--bare")
    with SmartServer(root / "www", {}) as smart, Daemon(root / "www") as daemon, Server(root / "www") as dumb, \
            SmartServer(root / "www", {"/": basic("me", "pw0rd")}) as closed:
        yield Place(root, {
            "path": str(bare), "file": f"file://{bare}", "http": f"{smart.url}/r.git",
            "dumb": f"http://{dumb.host}/r.git", "login": f"{closed.url}/r.git",
            "url login": f"http://me:pw0rd@{closed.host}/r.git",
            "git": f"{daemon.url}/r.git", "shallow": f"file://{root}/shallow.git"})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the table, as on a worker that has run for a while."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGENT_HOME", str(cache))
    monkeypatch.setenv("CLEARML_AGENT_GIT_USER", "me")
    monkeypatch.setenv("CLEARML_AGENT_GIT_PASS", "pw0rd")


class Run:
    """agent-fetch and agent-patch for one task."""

    def __init__(self, directory: Path, script: dict) -> None:
        directory.mkdir(exist_ok=True)
        self.manifest: dict = {"task": {"script": script}}
        job = Job(self.manifest, str(directory))
        self.manifest["fetch"] = agent_fetch.work(job)
        self.manifest["patch"] = agent_patch.work(job)
        self.code = Path(self.manifest["fetch"]["code"])


KINDS = ["path", "file", "http", "dumb", "login", "url login", "git"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wish", ["commit", "short", "tag", "branch", "default", "tag as commit", "branch and commit"])
def test_every_way_to_name_a_state_works_at_every_server(tmp_path, place, kind, wish):
    script, expected = place.wanted[wish]
    done = Run(tmp_path / "job", {"repository": place.urls[kind], **script})
    assert run(done.code, "rev-parse", "HEAD") == expected == done.manifest["fetch"]["commit"]
    assert run(done.code, "status", "--porcelain") == ""


@pytest.mark.parametrize("kind", ["path", "file", "http", "login", "git"])
def test_a_commit_on_no_branch_is_given_by_a_server_that_allows_it(tmp_path, place, kind):
    script, expected = place.wanted["on no branch"]
    assert Run(tmp_path / "job", {"repository": place.urls[kind], **script}).manifest["fetch"]["commit"] == expected


@pytest.mark.parametrize("script, exit", [({}, 0), ({"branch": "main"}, 0), ({"tag": "v1"}, 0),
                                          ({"version_num": "0" * 40}, errors.NOT_FOUND)])
def test_a_shallow_server_gives_what_it_has(tmp_path, place, script, exit):
    wanted = {"repository": place.urls["shallow"], **script}
    if exit:
        with pytest.raises(errors.Failure) as failure:
            Run(tmp_path / "job", wanted)
        assert failure.value.exit == exit
    else:
        assert (Run(tmp_path / "job", wanted).code / "train.py").read_text() == LINES


# --- changes ----------------------------------------------------------------------------------------------------------

def text(where):
    (where / "train.py").write_text(LINES.replace("line 7\n", "line seven\n"))


def several_hunks(where):
    (where / "train.py").write_text(LINES.replace("line 3\n", "").replace("line 25\n", "line 25\nmore\n"))


def new_file(where):
    (where / "new" / "deep").mkdir(parents=True)
    (where / "new" / "deep" / "file.py").write_text("new\n")
    run(where, "add", "-N", "new")


def deleted(where):
    shutil.rmtree(where / "lib")


def renamed(where):
    run(where, "mv", "old.txt", "team/moved.txt")


def copied(where):
    shutil.copy(where / "train.py", where / "copy.py")
    text(where)
    run(where, "add", "copy.py")


def binary(where):
    (where / "data.bin").write_bytes(bytes(reversed(range(256))) * 20)
    (where / "new.bin").write_bytes(b"\0\1\2")
    run(where, "add", "-N", "new.bin")


def mode(where):
    (where / "train.py").chmod(0o755)


def dos(where):
    (where / "dos.txt").write_bytes(b"one\r\nTWO\r\nthree\r\nfour\n")


def no_newline(where):
    (where / "train.py").write_text(LINES.rstrip("\n"))
    (where / "old.txt").write_text("old")


def staged(where):
    text(where)
    run(where, "add", "-A")
    (where / "lib" / "util.py").write_text("x = 2\n")


def link(where):
    (where / "old.txt").unlink()
    (where / "old.txt").symlink_to("train.py")


def names(where):
    for name in ("sp ace.py", "ümläut.py", 'quo"te', "-dash"):
        (where / name).write_text("x\n")
    run(where, "add", "-A")


def latin1(where):
    (where / "train.py").write_bytes(b"# caf\xe9\n" + LINES.encode())


def empty(where):
    (where / "empty.py").write_text("")
    (where / "old.txt").write_text("")
    run(where, "add", "-N", "empty.py")


CHANGES = [text, several_hunks, new_file, deleted, renamed, copied, binary, mode, dos, no_newline, staged, link, names,
           latin1, empty]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", ["path", "http"])
def test_every_change_that_is_captured_arrives_byte_for_byte(tmp_path, place, kind, change):
    from agentpipe.capture import capture_git
    run(tmp_path, "clone", "-q", str(place.work), "mine")
    mine = tmp_path / "mine"
    change(mine)
    done = Run(tmp_path / "job", {"repository": place.urls[kind], "version_num": place.head,
                                  "diff": capture_git.diff(str(mine))})
    assert tree(done.code) == tree(mine)


@pytest.mark.parametrize("style", [["-U0"], ["-U1"], ["-U20"], ["--no-prefix"], ["--full-index"], ["--minimal"],
                                   ["-M", "-C"], ["--patience"], ["--no-renames"], ["--word-diff=none"]], ids=" ".join)
def test_a_diff_of_any_style_applies(tmp_path, place, style):
    run(tmp_path, "clone", "-q", str(place.work), "mine")
    mine = tmp_path / "mine"
    for change in (several_hunks, renamed, new_file):
        change(mine)
    said = run(mine, "diff", "--binary", *style, "HEAD")
    done = Run(tmp_path / "job", {"repository": place.urls["path"], "version_num": place.head, "diff": said})
    assert tree(done.code) == tree(mine)


# --- where it runs ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("script, folder, entry", [
    ({"working_dir": "team/project", "entry_point": "run.py"}, "team/project", None),
    ({"working_dir": "team/project/", "entry_point": "./run.py --x 1"}, "team/project", None),
    ({"working_dir": "team", "entry_point": "project/run.py"}, "team", None),
    ({"entry_point": "team/project/run.py"}, ".", None),
    ({"entry_point": "run.py:team/project"}, "team/project", "run.py"),
    ({"working_dir": "lib", "entry_point": "-m util"}, "lib", None),
])
def test_a_folder_of_a_monorepo_is_where_it_runs(tmp_path, place, script, folder, entry):
    done = Run(tmp_path / "job", {"repository": place.urls["path"], "version_num": place.head, **script})
    assert done.manifest["patch"]["working_dir"] == folder and done.manifest["patch"]["entry_point"] == entry


# --- refused ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, script, exit, words", [
    ("http", {"version_num": "1" * 40}, errors.NOT_FOUND, "is not there"),
    ("dumb", {"version_num": "1" * 40}, errors.NOT_FOUND, "is not there"),
    ("git", {"branch": "nosuch"}, errors.NOT_FOUND, "is not there"),
    ("login", {"tag": "nosuch"}, errors.NOT_FOUND, "is not there"),
    ("path", {"version_num": "123456789"}, errors.NOT_FOUND, "is not there"),
    ("path", {"entry_point": "nosuch.py"}, errors.NOT_FOUND, "no nosuch.py in the checkout"),
    ("path", {"working_dir": "nosuch"}, errors.NOT_FOUND, "no folder nosuch"),
    ("path", {"working_dir": "../.."}, errors.BAD_DATA, "outside the checkout"),
    ("path", {"diff": "diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n"
                      "-nothing like it\n+x\n"}, errors.BAD_DATA, "does not apply to train.py: hunk 1"),
    ("path", {"diff": "diff --git a/../x b/../x\nnew file mode 100644\n--- /dev/null\n+++ b/../x\n"
                      "@@ -0,0 +1 @@\n+x\n"},
     errors.BAD_DATA, "outside the checkout"),
    ("path", {"diff": "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/tmp\n"
                      "\\ No newline at end of file\ndiff --git a/l/x b/l/x\nnew file mode 100644\n--- /dev/null\n"
                      "+++ b/l/x\n@@ -0,0 +1 @@\n+x\n"}, errors.BAD_DATA, ""),
    ("path", {"diff": "diff --git a/.git/x b/.git/x\nnew file mode 100644\n--- /dev/null\n+++ b/.git/x\n"
                      "@@ -0,0 +1 @@\n+x\n"}, errors.BAD_DATA, "outside the checkout"),
])
def test_what_cannot_be_is_refused_in_clear_words(tmp_path, place, kind, script, exit, words):
    with pytest.raises(errors.Failure) as failure:
        Run(tmp_path / "job", {"repository": place.urls[kind], "entry_point": "train.py", **script})
    assert failure.value.exit == exit and words in failure.value.reason
    assert subprocess.run(["git", "-C", tmp_path / "job" / "code", "status", "--porcelain"],
                          capture_output=True).stdout == b""
