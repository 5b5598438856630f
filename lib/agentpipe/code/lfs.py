"""Files of Git LFS: fetched by the user's own filter, once for all checkouts of a repository.

Git LFS keeps what it has downloaded as lfs/objects/AA/BB/HASH in a git directory, and looks there first. A checkout
gets links to what the mirror has, and the mirror to what a checkout has fetched: each stays whole without the other.
"""

from __future__ import annotations

import os
import re

from agentpipe import errors, files, tools, trees
from agentpipe.code import git
from agentpipe.settings.offline import offline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from agentpipe.job import Job

NAME = re.compile(r"[0-9a-f]{64}")


def link(source: str, target: str) -> None:
    """Let the git directory `target` have what `source` has of Git LFS. Raises OSError."""
    above = os.path.join(source, "lfs", "objects")
    for here, _, names in trees.walk(above):
        place = os.path.join(target, os.path.relpath(here, source))
        for name in filter(NAME.fullmatch, names):
            path = os.path.join(place, name)
            if not os.path.lexists(path):
                os.makedirs(place, exist_ok=True)
                _link_file(os.path.join(here, name), path)


def put(content: IO[bytes], name: str, git_dir: str) -> None:
    """Let a git directory have that content. Failure 65 for one that `name` is not the hash of: others would get it."""
    import hashlib
    target = os.path.join(git_dir, "lfs", "objects", name[:2], name[2:4], name)
    digest = hashlib.sha256()
    new = ""
    try:
        if NAME.fullmatch(name):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            new = files.temporary(target)
            with open(new, "wb") as file:
                while block := content.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            os.chmod(new, 0o444)
        if digest.hexdigest() != name:
            raise errors.Failure(f"the task brings a file of Git LFS along that is not what its name says: {name!r}",
                                 errors.BAD_DATA, remedy="enqueue it again with --bundle")
        os.rename(new, target)
    except OSError as error:
        raise files.unwritable("write what the task brings along of Git LFS", error) from None
    finally:
        if new:
            trees.discard(new)


def keep(git_dir: str, mirror: str) -> None:
    """Let the mirror have what a checkout has fetched, for the next one; where that cannot be, it is fetched again."""
    try:
        link(git_dir, mirror)
    except OSError:
        pass


def _link_file(source: str, target: str) -> None:
    """Whole or not at all; no other task is in the way."""
    try:
        os.chmod(source, 0o444)  # as git's own objects: it is one file in several places
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:  # another file system, too many links, or a file of somebody else
        import shutil
        new = files.temporary(target)
        shutil.copyfile(source, new)
        os.rename(new, target)


def fill(git_dir: str, tree: str, env: dict[str, str]) -> None:
    """Without a network the filter leaves pointers: put what was fetched before in their places."""
    if offline() and os.path.isdir(os.path.join(git_dir, "lfs", "objects")):
        tools.run(["git", f"--git-dir={git_dir}", f"--work-tree={tree}", "lfs", "checkout"], cwd=tree, env=env,
                  check=False)


def tell(job: Job, source: git.Source, tree: str) -> None:
    """Say so when files of Git LFS stay pointers: filters are this user's own, and there may be none."""
    def opened(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW)  # as git: a link may lead to /dev/zero
    try:
        with open(os.path.join(tree, ".gitattributes"), encoding="utf-8", errors="replace", opener=opened) as file:
            wanted = "filter=lfs" in file.read()
    except OSError:
        return
    env = source.environment()
    if wanted and offline():
        # "HASH * PATH"; of a pointer "HASH - PATH"
        known = tools.run(["git", "lfs", "ls-files", "--long"], cwd=tree, env=env, check=False).splitlines()
        if not known or any(line[65:66] != "*" for line in known):
            job.say("files of Git LFS are not here, only what points to them: AGENT_OFFLINE forbids the network")
    elif wanted and not tools.run(["git", "config", "--get-regexp", r"^filter\.lfs\.(process|smudge)$"], env=env,
                                  cwd="/", check=False).strip():
        job.say("its files of Git LFS are not here, only what points to them: git-lfs is not set up for this user "
                "(git lfs install)")
