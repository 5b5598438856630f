"""Trees that are replaced: there is always one of them, whenever the process that does it is killed."""

import contextlib
import os
import subprocess
import sys

import pytest

from agentpipe import trees

# replaces a tree, and is killed right after its Nth rename; without an exchange in one step as on some file systems
KILLED = """
import os, sys
from agentpipe import trees
path, number, exchange = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "exchange"
count, rename, swap = 0, os.rename, trees._exchange
def counted(work):
    def done(*args):
        global count
        result = work(*args)
        count += 1
        if count == number:
            os._exit(9)
        return result
    return done
os.rename = counted(rename)
trees._exchange = counted(swap) if exchange else lambda *args: False
new = trees.beside(path)
os.mkdir(new)
with open(new + "/file", "w") as file:
    file.write("new")
trees.replace(new, path)
"""


def deep(path, levels):
    """A folder with so many in each other below it, as `mkdir d && cd d` makes them; each has a file."""
    os.mkdir(path)
    here = os.open(path, os.O_PATH)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    return str(path)


@pytest.fixture
def path(tmp_path):
    os.mkdir(tmp_path / "tree")
    (tmp_path / "tree" / "file").write_text("old")
    return str(tmp_path / "tree")


def text(path):
    with open(os.path.join(path, "file")) as file:
        return file.read()


def killed(path, number, how):
    return subprocess.run([sys.executable, "-c", KILLED, path, str(number), how], timeout=30).returncode


def test_a_tree_is_replaced_and_nothing_of_it_stays(path, tmp_path):
    new = trees.beside(path)
    os.rename(path, new)
    trees.replace(new, path)
    assert text(path) == "old"
    new = trees.beside(path)
    os.mkdir(new)
    trees.replace(new, path)
    assert os.listdir(path) == [] and os.listdir(tmp_path) == ["tree"]


def test_between_two_trees_there_is_no_moment_without(path, tmp_path):
    assert killed(path, 1, "exchange") == 9
    assert text(path) == "new"
    trees.beside(path)
    assert os.listdir(tmp_path) == ["tree"], "the old one has gone"


@pytest.mark.parametrize("number, left", [(1, "old"), (2, "new")])
def test_where_two_cannot_be_exchanged_the_old_one_is_put_back(path, tmp_path, number, left):
    assert killed(path, number, "renames") == 9
    trees.beside(path)
    assert text(path) == left and os.listdir(tmp_path) == ["tree"]


def test_what_another_user_keeps_closed_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "tree" / "theirs").mkdir(parents=True)
    (tmp_path / "tree" / "ours").touch(0o600)
    theirs, listdir = os.stat(tmp_path / "tree" / "theirs").st_ino, os.listdir

    def refused(path):  # as of a folder of root's, 0700
        if os.stat(path).st_ino == theirs:
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refused)
    trees.open_to_all(str(tmp_path / "tree"), 0o666)
    assert os.stat(tmp_path / "tree" / "ours").st_mode & 0o777 == 0o666


@pytest.mark.parametrize("levels", [1000, 5000])  # calls in each other that Python allows; longer than a path can be
def test_a_tree_of_any_depth_goes(tmp_path, levels):
    trees.remove(deep(tmp_path / "deep", levels))
    assert os.listdir(tmp_path) == []


def test_a_link_is_removed_and_what_it_leads_to_stays(path, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "folder").symlink_to(path)
    (made / "closed").mkdir()
    (made / "closed" / "file").symlink_to(os.path.join(path, "file"))
    (made / "closed").chmod(0o500)
    (tmp_path / "top").symlink_to(path)
    for each in ("made", "top", "nothing", "nothing/at/all"):
        trees.remove(str(tmp_path / each))
    assert os.listdir(tmp_path) == ["tree"] and text(path) == "old"


def test_what_cannot_be_removed_does_not_keep_the_rest(tmp_path, monkeypatch):
    for name in ("a", "stays", "z"):
        (tmp_path / "made" / name).mkdir(parents=True)
    rmdir = os.rmdir

    def refused(name, *, dir_fd):
        if name == "stays":
            raise PermissionError(13, "Permission denied", name)
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refused)
    with pytest.raises(PermissionError, match=f"'{tmp_path}/made/stays'"):
        trees.remove(str(tmp_path / "made"))
    assert os.listdir(tmp_path / "made") == ["stays"]
    trees.discard(str(tmp_path / "made"))
    assert os.listdir(tmp_path / "made") == ["stays"]


def test_a_folder_that_is_moved_away_meanwhile_leads_nowhere(path, tmp_path, monkeypatch):
    made, away = tmp_path / "made", tmp_path / "away"
    (made / "folder").mkdir(parents=True)
    away.mkdir()
    (away / "folder").mkdir()
    listdir = os.listdir

    def moved(fd):
        if os.path.exists(made / "folder") and os.stat(made / "folder").st_ino == os.fstat(fd).st_ino:
            os.rename(made / "folder", away / "other")
        return listdir(fd)

    monkeypatch.setattr(os, "listdir", moved)
    with pytest.raises(OSError, match="moved"):
        trees.remove(str(made))
    assert sorted(listdir(away)) == ["folder", "other"]


def test_a_deep_tree_is_walked_as_far_as_a_path_leads(tmp_path):
    top = deep(tmp_path / "deep", 5000)
    found = [(folders, names) for _, folders, names in trees.walk(top)]
    assert len(found) > 1000 and all(each == (["d"], ["file"]) for each in found)
    trees.remove(top)


def test_a_walk_goes_behind_no_link_and_not_where_it_is_told_not_to(tmp_path):
    for name in ("a/b", "skipped/c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    found = []
    for here, folders, _ in trees.walk(str(tmp_path)):
        found.append((os.path.relpath(here, tmp_path), sorted(folders)))
        with contextlib.suppress(ValueError):
            folders.remove("skipped")
    assert found == [(".", ["a", "skipped"]), ("a", ["b", "link"]), ("a/b", [])]


def test_what_another_process_writes_meanwhile_goes_too(path, monkeypatch):
    """As a git whose stage was killed goes on with its pack."""
    os.makedirs(os.path.join(path, "a", "b"))
    rmdir, written = os.rmdir, []

    def late(name, dir_fd):
        if len(written) < 3:
            written.append(name)
            os.close(os.open(f"{name}/late", os.O_CREAT | os.O_WRONLY, dir_fd=dir_fd))
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", late)
    trees.remove(path)
    assert len(written) == 3 and not os.path.exists(path)


@pytest.mark.parametrize("target", ["link", "file/x", "gone", "/proc/1/root/x" if os.getuid() else "link/x"])
def test_a_link_that_leads_nowhere_is_a_name_as_for_os_walk(path, target):
    os.symlink(target, os.path.join(path, "link"))
    [(here, folders, names)] = trees.walk(path)
    assert (here, folders, sorted(names)) == (path, [], ["file", "link"])
