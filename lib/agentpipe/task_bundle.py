"""What a task brings along (bundle.py) as diffs of git, which a plain shell script can carry and git alone can read."""

from __future__ import annotations

import os

from agentpipe import artifact_files, bundle, errors, tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMITS, FILES = "commits.bundle", "files"
BIGGEST = 64 << 20  # bytes of a diff in a script
DIFF = ["git", "diff", "--no-index", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/",
        "--dst-prefix=b/"]


def as_diffs(server: Any, brought: dict[str, dict[str, Any]]) -> dict[str, str]:
    """{COMMITS: a diff that makes that file, FILES: one that makes the files in the checkout}."""
    import tempfile
    found = {}
    with tempfile.TemporaryDirectory(prefix="agentpipe-script.") as place:
        if bundle.COMMITS in brought:
            artifact_files.get(server, brought[bundle.COMMITS], os.path.join(place, COMMITS))
            found[COMMITS] = _diff(place, COMMITS)
        if bundle.FILES in brought:
            archive = os.path.join(place, "files.tar.gz")
            artifact_files.get(server, brought[bundle.FILES], archive)
            new = os.path.join(place, FILES)
            bundle.unpack(archive, new)
            # named as the files of the checkout: nothing is changed, all is new
            found[FILES] = "".join(_diff(new, path) for path in _paths(new))
    return found


def _paths(folder: str) -> list[str]:
    return sorted(os.path.relpath(os.path.join(here, name), folder) for here, folders, names in os.walk(folder)
                  for name in (*names, *(each for each in folders if os.path.islink(os.path.join(here, each)))))


def _diff(folder: str, path: str) -> str:
    found = tools.run([*DIFF, "--", "/dev/null", path], cwd=folder, check=False)
    if not found.startswith("diff "):
        raise errors.Failure(f"git could not read {path} of the task's bundle", errors.BAD_DATA, found)
    if len(found) > BIGGEST:
        raise errors.Failure(f"{path}, which the task brings along, is too large for a script", errors.BAD_DATA,
                             remedy="push the commits, and give the data a place that workers reach")
    return found
