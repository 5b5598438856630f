"""What a diff says about submodules that stand at another commit: `git apply` passes it over, so it is done here.

Two spellings name commits: git's own (`-Subproject commit …`), and that of diff.submodule=log (`Submodule lib 1..2:`
with the commits' titles). After `--submodule=diff` the files' own changes follow, and nothing is to be done.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors, tools, trees
from agentpipe.code import bundle, checkout, git, submodules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from agentpipe.job import Job

POINTER = re.compile(r"^diff --git (?P<names>.+)\n(?:(?:deleted|new) file mode 160000\n)?"
                     r"(?:index [0-9a-f]+\.\.[0-9a-f]+(?: 160000)?\n)?--- .*\n\+\+\+ (?P<new>.*)\n@@ .*\n"
                     r"(?:-Subproject commit (?P<old>[0-9a-f]+)(?:-dirty)?\n?)?"
                     r"(?:\+Subproject commit (?P<commit>[0-9a-f]+)(?P<dirty>-dirty)?)?$", re.MULTILINE)
LOGGED = re.compile(r"^Submodule (?P<path>\S.*?) [0-9a-f]{7,64}\.{2,3}(?P<commit>[0-9a-f]{7,64})"
                    r"(?::|(?P<note> \((?:commits not present|submodule deleted)\)))?$"
                    r"(?P<titles>(?:\n  [<>] .*)*)", re.MULTILINE)


def named(text: str) -> dict[str, str]:
    """{path: commit} of every submodule that the diff moves, "" for one that it removes."""
    if "Subproject commit" not in text and not text.lstrip().startswith("Submodule ") and "\nSubmodule " not in text:
        return {}
    text = text.replace("\r\n", "\n")
    found: dict[str, str] = {}
    for match in LOGGED.finditer(text):
        if match["titles"] or match["note"]:
            found[match["path"]] = "" if "deleted" in (match["note"] or "") else match["commit"]
    for match in POINTER.finditer(text):
        old, commit = match["old"], match["commit"]
        if (old or commit) and old != commit:
            found[path_of(match["names"], match["new"])] = commit or ""
    return found


def dirty(text: str) -> list[str]:
    """The submodules of which the diff only says that they have changes, without these."""
    return [path_of(match["names"], match["new"]) for match in POINTER.finditer(text) if match["dirty"]]


def make(job: Job, source: git.Source, code: str, moves: dict[str, str]) -> None:
    """Bring the submodules to these commits, over the network if need be; Failure 66 when one is not there."""
    for path in moves:
        if not submodules.is_inside(code, path):
            raise errors.Failure(f"the diff would write outside the checkout: {path}", errors.BAD_DATA)
    gone = [path for path, commit in moves.items() if not commit]
    for path in gone:
        _remove(os.path.join(os.path.realpath(code), path))
        job.say(f"removed the submodule {path}")
    if gone:  # which may have taken the task's own files in its folder with it
        bundle.bring_files(job, code)
    checkout.move_submodules(job, source, code, {path: commit for path, commit in moves.items() if commit})


def _remove(place: str) -> None:
    """Take a submodule's own files away: the diff may have put others in their place."""
    if os.path.lexists(os.path.join(place, ".git")):
        for name in tools.run(["git", "ls-files", "-z"], cwd=place, env=git.environment()).split("\0"):
            folder = os.path.dirname(name)
            if name and (not folder or submodules.is_inside(place, folder)):  # the diff may have made it a link
                trees.remove(os.path.join(place, name))
        trees.remove(os.path.join(place, ".git"))
    for folder, _, _ in reversed(list(trees.walk(place))):
        try:
            os.rmdir(folder)
        except OSError:  # there is something in it
            pass


def path_of(names: str, new: str) -> str:
    """A path out of the first line of its part of a diff, behind `diff --git`, and its line `+++`, behind that."""
    name = new.rstrip("\t") if new != "/dev/null" else names[:len(names) // 2]
    if name.startswith('"'):
        quoted = name.strip('"').encode("latin-1", "backslashreplace")
        try:
            name = quoted.decode("unicode_escape")
        except UnicodeDecodeError:
            raise errors.Failure(f"the diff is damaged: {new}", errors.BAD_DATA) from None
        name = name.encode("latin-1", "replace").decode("utf-8", "replace")
    return name[2:] if name[:2] in ("a/", "b/") else name
