"""Trees that are replaced: there is always one of them, whenever the process that does it is killed."""

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
