"""What of a checkout would not come along with its task, in words, and the command that helps."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe import errors
from agentpipe.capture import capture_git
from agentpipe.capture.typed_git import typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.capture.capture_git import Submodule, Warned

SHOWN = 3


def refuse_unknown(top: str, script: str) -> None:
    """Failure 66 for a script that git does not know."""
    if not capture_git.text(top, "ls-files", "--", script):
        raise errors.Failure(f"git does not know {script}: it would not come along", errors.NOT_FOUND,
                             remedy=typed(top, "add", "-N", names=[script]))


def untracked(top: str, inside: list[Submodule]) -> list[Warned]:
    """Files that git does not know, also in the submodules `inside`."""
    found = capture_git.unknown(top, inside)
    paths = capture_git.from_top(found, top)
    if not paths:
        return []
    # each by the git of the repository that it is in
    remedy = " && ".join(typed(place, "add", "-N", names=names if len(paths) <= SHOWN else ["."])
                         for place, names in found.items() if names)
    return [(f"{_some(paths)}: not known to git, stays here", remedy)]


def of_diff(top: str, text: str) -> list[Warned]:
    """What in the diff of the checkout is no change that a worker could have."""
    return [*((f"{name} is kept by Git LFS: its changes cannot go along",
               f"{typed(top, 'commit', names=[name])} && {typed(top, 'push')}") for name in in_lfs(text)),
            *((f"{name} has conflicts of a merge in it", typed(top, "status"))
              for name in _files_with(text, "\n+<<<<<<< ", "\n+>>>>>>> "))]


def in_lfs(text: str) -> list[str]:
    """The files of Git LFS that a diff changes: it only has what points to them, and that is on no server yet."""
    return _files_with(text, "\n+oid sha256:", "version https://git-lfs")


def _files_with(text: str, *signs: str) -> list[str]:
    """The files of a diff in whose part all of `signs` stand; a diff may be large, so it is only split when it must."""
    if signs[0] not in text:
        return []
    from agentpipe.code import submodule_changes
    parts = re.split(r"^diff --git ", text, flags=re.MULTILINE)[1:]
    return [submodule_changes.path_of(part.partition("\n")[0], part.partition("\n+++ ")[2].partition("\n")[0])
            for part in parts if all(sign in part for sign in signs)]


def overlooked(top: str) -> list[Warned]:
    """Files whose changes no diff shows, since git was told not to look (assume-unchanged, skip-worktree)."""
    listed = [(entry[:1], entry[2:]) for entry in capture_git.run(top, "ls-files", "-v", "-z").split("\0")]
    told = {"assume-unchanged": [name for kind, name in listed if kind.islower()],
            "skip-worktree": [name for kind, name in listed if kind in ("S", "s")]}
    there = [name for name in dict.fromkeys([*told["assume-unchanged"], *told["skip-worktree"]])
             if "\n" not in name and os.path.isfile(os.path.join(top, name))
             and not os.path.islink(os.path.join(top, name))]
    if not there:  # as in a sparse checkout
        return []
    # all of them: those that are there may be more than fit into arguments
    recorded = {about.partition("\t")[2]: about.split(" ")[1]
                for about in capture_git.run(top, "ls-files", "--stage", "-z").split("\0") if about}
    now = capture_git.run(top, "hash-object", "--stdin-paths", stdin="".join(f"{name}\n" for name in there)).split()
    changed = [name for name, found in zip(there, now, strict=True) if recorded.get(name) != found]
    if not changed:
        return []
    # git heeds only the first of several such options
    remedies = [typed(top, "update-index", f"--no-{option}", names=found) for option, names in told.items()
                if (found := [name for name in names if name in changed])]
    return [(f"{_some(changed)}: git is told to overlook what is changed there, so it stays here",
             " && ".join(remedies))]


def of_submodules(top: str, inside: list[Submodule]) -> list[Warned]:
    """What of the submodules no worker can fetch."""
    from agentpipe.capture import capture_commits
    said = [(f"{path} is a git repository of its own, but .gitmodules does not say where from: its files stay here",
             f"{typed(top, 'rm', '--cached', names=[path])}, then git submodule add URL {shlex.quote(path)}")
            for path in capture_git.strangers(top)]
    for each in capture_commits.of_submodules(inside):
        remote = capture_git.remote_of(each.root)
        branch = capture_git.text(each.root, "symbolic-ref", "--short", "--quiet", "HEAD")
        if remote:
            said.append((f"commit {each.commit[:10]} of the submodule {each.path} is not on {remote}: a worker cannot "
                         "fetch it", capture_git.pushing(each.root, remote, branch, each.commit)))
    return said


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
