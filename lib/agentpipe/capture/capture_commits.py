"""Commits of a checkout, and of its submodules, that no worker could fetch: found, told, and written as git bundles.

Nothing of the user's repositories is written.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator

from agentpipe import errors, tools
from agentpipe.capture import capture_git

POINTER_SIZE = 1024  # what is larger is none, says Git LFS
POINTER = re.compile(r"^([0-9a-f]{40,64})\nversion https://git-lfs\.github\.com/spec/v1\n(?:.+\n)*?"
                     r"oid sha256:([0-9a-f]{64})$", re.MULTILINE)


class Commits:
    """`commit` of the repository at `root`, as far as its remote's branches at `tips` do not have it.

    `path` is where it stands in the checkout: "" for the checkout itself.
    """

    __slots__ = ("commit", "path", "root", "tips")

    def __init__(self, root: str, commit: str, tips: list[str], path: str = "") -> None:
        self.root, self.commit, self.tips, self.path = root, commit, tips, path

    def told(self) -> str:
        """In words, that it goes along."""
        count = capture_git.text(self.root, "rev-list", "--count", "--stdin", stdin=_range(self.commit, self.tips))
        where = f" of the submodule {self.path}" if self.path else ""
        return (f"1 commit{where} that was not pushed goes along" if count == "1"
                else f"{count} commits{where} that were not pushed go along")

    def titles(self) -> str:
        """A line for each commit."""
        return capture_git.text(self.root, "log", "--oneline", "--no-decorate", "--max-count=200", "--stdin",
                                stdin=_range(self.commit, self.tips))

    def write(self, path: str) -> None:
        """A git bundle of what the remote's branches do not have."""
        with tempfile.TemporaryDirectory(prefix="agent-task-") as place:
            # in a repository that borrows the objects, since a bundle needs a ref and the user's is not to get one
            git_dir = os.path.join(self.root, capture_git.text(self.root, "rev-parse", "--git-common-dir"))
            hashes = capture_git.text(self.root, "rev-parse", "--show-object-format") or "sha1"
            capture_git.text("/", "init", "--quiet", "--bare", "--template=", f"--object-format={hashes}", place)
            with open(os.path.join(place, "objects", "info", "alternates"), "w", encoding="utf-8",
                      errors="surrogateescape") as file:
                file.write(os.path.join(git_dir, "objects") + "\n")
            if os.path.exists(os.path.join(git_dir, "shallow")):
                import shutil
                shutil.copyfile(os.path.join(git_dir, "shallow"), os.path.join(place, "shallow"))
            capture_git.run(place, "update-ref", "refs/heads/bundle", self.commit)
            # as refs: git before 2.31 reads none of a bundle's commits from standard input
            with open(os.path.join(place, "packed-refs"), "w", encoding="ascii") as file:
                file.writelines(f"{tip} refs/remotes/tips/{number}\n" for number, tip in enumerate(self.tips))
            try:
                capture_git.run(place, "bundle", "create", "--quiet", path, "refs/heads/bundle", "--not", "--remotes")
            except tools.ToolFailed as failed:
                raise errors.Failure(f"the commits cannot be bundled: {failed.reason}", errors.CANNOT_CREATE,
                                     failed.evidence) from None


def in_lfs(commits: Commits) -> Iterator[tuple[str, str, str]]:
    """(name, hash, path of its content) of the files of Git LFS that only these commits have.

    The commits only point to it: Git LFS keeps the content in a folder of its own here, and sends it with a push.
    """
    root = commits.root
    git_dir = os.path.join(root, capture_git.text(root, "rev-parse", "--git-common-dir"))
    objects = os.path.join(git_dir, capture_git.text(root, "config", "--get", "lfs.storage") or "lfs", "objects")
    pointing = _pointing(root, _range(commits.commit, commits.tips)) if os.path.isdir(objects) else {}
    listed = capture_git.run(root, "ls-tree", "-r", "-z", commits.commit).split("\0") if pointing else []
    for about, _, name in (entry.partition("\t") for entry in listed):
        kept = pointing.get(about.rpartition(" ")[2], "")
        path = os.path.join(objects, kept[:2], kept[2:4], kept)
        if kept and os.path.isfile(path):  # else it was never here, and the server may have it
            yield name, kept, path


def _pointing(root: str, wanted: str) -> dict[str, str]:
    """{blob: the hash of a content that Git LFS keeps} of the new blobs in a range of commits."""
    new = [line[:64].split(" ")[0] for line in capture_git.run(root, "rev-list", "--objects", "--stdin",
                                                               stdin=wanted).splitlines()]
    asked = "".join(f"{each}\n" for each in new)
    small = [name for name, kind, size in map(str.split, capture_git.run(
        root, "cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", stdin=asked).splitlines())
        if kind == "blob" and int(size) < POINTER_SIZE]
    told = capture_git.run(root, "cat-file", "--batch=%(objectname)", stdin="".join(f"{each}\n" for each in small))
    return {found[1]: found[2] for found in POINTER.finditer(told)}


def unpushed(root: str, remote: str, commit: str, path: str = "") -> Commits | None:
    """What `remote` ("" for none) does not have of a commit, which is there; None when it has it."""
    if not commit or (remote and capture_git.is_there(root, remote, commit)):
        return None
    tips = capture_git.text(root, "for-each-ref", "--format=%(objectname)", f"refs/remotes/{remote}/").split() \
        if remote else []
    return Commits(root, commit, _there(root, tips), path)


def of_submodules(inside: list[capture_git.Submodule]) -> list[Commits]:
    """What these submodules have that their remotes do not."""
    found = (unpushed(root, capture_git.remote_of(root), pointed, path)
             for path, root, pointed in inside if _has(root, pointed))
    return [each for each in found if each]


def _range(commit: str, tips: list[str]) -> str:
    """What git reads of --stdin: a remote may have more branches than fit into arguments."""
    return "".join(f"{word}\n" for word in (commit, *(f"^{tip}" for tip in tips)))


def _there(git_dir: str, commits: list[str]) -> list[str]:
    """Those of the commits that a repository has."""
    asked = "".join(f"{commit}^{{commit}}\n" for commit in commits)
    listed = capture_git.run(git_dir, "cat-file", "--batch-check=%(objectname)", stdin=asked).splitlines()
    return [line for line in listed if not line.endswith(" missing")]


def _has(git_dir: str, commit: str) -> bool:
    return bool(capture_git.text(git_dir, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))
