"""What a task brings along (bundle.py) as diffs of git, which a plain shell script can carry and git alone can read."""

from __future__ import annotations

import os

from agentpipe import errors, tools, trees
from agentpipe.code import bundle
from agentpipe.transport import artifact_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BIGGEST = 64 << 20  # bytes of a diff in a script
DIFF = ["git", "diff", "--no-index", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/",
        "--dst-prefix=b/"]


def as_diffs(server: Any, brought: dict[str, dict[str, Any]]) -> dict[str, str]:
    """{key: a diff that makes that bundle of commits, FILES: one that makes the files in the checkout}."""
    found = {}
    with trees.temporary("agentpipe-script.") as place:
        for key, artifact in brought.items():
            name = bundle.file_name(key)
            path = os.path.join(place, name)
            artifact_files.get(server, artifact, path)
            if key == bundle.FILES:
                if bundle.take_lfs(path, lambda *_: None):
                    raise errors.Failure("the task brings files of Git LFS along, which no plain script can",
                                         errors.BAD_DATA, remedy="push the commits, and enqueue it anew")
                new = os.path.join(place, "files")
                bundle.unpack(path, new)
                # named as the files of the checkout: nothing is changed, all is new
                found[key] = "".join(_diff(new, path) for path in _paths(new))
            else:
                found[key] = _diff(place, name)
    return found


def _paths(folder: str) -> list[str]:
    return sorted(os.path.relpath(os.path.join(here, name), folder) for here, folders, names in trees.walk(folder)
                  for name in (*names, *(each for each in folders if os.path.islink(os.path.join(here, each)))))


def _diff(folder: str, path: str) -> str:
    whole = os.path.join(folder, path)
    if os.path.islink(whole):  # git follows one that leads to a folder: what a link is to git, as a file
        target = os.readlink(whole)
        os.unlink(whole)
        with open(whole, "wb") as file:
            file.write(os.fsencode(target))
        return _diff(folder, path).replace("\nnew file mode 100644\n", "\nnew file mode 120000\n", 1)
    found = tools.run([*DIFF, "--", "/dev/null", path], cwd=folder, check=False)
    if not found.startswith("diff "):
        raise errors.Failure(f"git could not read {path} of the task's bundle", errors.BAD_DATA, found)
    if len(found) > BIGGEST:
        raise errors.Failure(f"{path}, which the task brings along, is too large for a script", errors.BAD_DATA,
                             remedy="push the commits, and give the data a place that workers reach")
    return found
