"""What `agent-task enqueue --bundle` takes along: unpushed commits, files that git does not know, local packages.

They become artefacts of the task (bundle.py says which, and brings them into the checkout). Nothing of the user's
repository is written.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator

from agentpipe import errors, files, trees
from agentpipe.capture import capture_commits, capture_git
from agentpipe.capture.secret_files import looks_secret
from agentpipe.code import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.capture.capture_commits import Commits

LARGE = 100 << 20
SHOWN = 10
PACKAGES = ".agentpipe/packages"
# of a local package that is in no git repository
LEFT_OUT = {".git", "__pycache__", ".venv", "venv", ".tox", ".nox", "node_modules", ".mypy_cache", ".ruff_cache",
            ".pytest_cache", ".ipynb_checkpoints"}
LOCAL = re.compile(r"(?P<head>(?:-e|--editable)[\s=]*|[A-Za-z0-9._-]+\s*(?:\[[^]]*\])?\s*@\s*|)(?:file://)?"
                   r"(?P<path>[./~][^\s;\[#]*|[^\s;\[#/]+/[^\s;\[#]*|[^\s;\[#]+\.(?:whl|tar\.gz|zip))(?P<tail>.*)$")
OTHER_LIST = re.compile(r"(?P<head>-r|--requirement|-c|--constraint)[\s=]*(?P<path>\S+)\s*$")


class Bundle:
    """What a checkout at `root` brings along: `commits` that no remote has, `files` as {name: path}.

    `asked_for` are those of them that --include names; `in_lfs` is {hash: (name, path)} of what Git LFS keeps of the
    commits.
    """

    def __init__(self, root: str, commits: Iterable[Commits] = ()) -> None:
        self.root, self.commits = root, list(commits)
        self.files: dict[str, str] = {}
        self.left_out: list[str] = []
        self.asked_for: set[str] = set()
        self.in_lfs = {kept: (os.path.join(each.path, name), path)
                       for each in self.commits for name, kept, path in capture_commits.in_lfs(each)}

    def told(self) -> list[str]:
        """In words, what goes along."""
        said = [each.told() for each in self.commits]
        if self.in_lfs:
            said.append(_of_files(dict(self.in_lfs.values()), " of Git LFS"))
        if self.files:
            names = sorted(self.files)
            said.append(_of_files(self.files))
            if _size(self.files) > LARGE:
                said.append("that is much for each worker to fetch: .gitignore keeps files out of it")
            secret = [_shown(name) for name in names if looks_secret(name) and name not in self.asked_for]
            if secret:
                more = f" and {len(secret) - SHOWN} more" if len(secret) > SHOWN else ""
                said.append(f"warning: {', '.join(secret[:SHOWN])}{more}: by the name a secret, which everybody "
                            "can read who can read the task (.gitignore keeps it out)")
        said += [f"{name} is a git repository of its own and stays here: --include {name} takes its files along"
                 for name in self.left_out]
        return said

    def written(self, place: Callable[[str], str]) -> Iterator[tuple[str, str, str]]:
        """Write all of it, each to `place(its file's name)`: (the artefact's key, path, what is in it as text)."""
        for each in self.commits:
            key = bundle.key_of(each.commit) if each.path else bundle.COMMITS
            path = place(bundle.file_name(key))
            each.write(path)
            yield key, path, (f"{each.path}:\n" if each.path else "") + each.titles()
        if self.files or self.in_lfs:
            path = place(bundle.file_name(bundle.FILES))
            write_files(self, path)
            names = sorted([*self.files, *(name for name, _ in self.in_lfs.values())])
            yield bundle.FILES, path, "\n".join(map(_shown, names))


def _of_files(files: dict[str, str], what: str = "") -> str:
    names = sorted(files)
    count = f"1 file{what} goes" if len(names) == 1 else f"{len(names)} files{what} go"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{count} along ({_size(files):,} bytes): {', '.join(map(_shown, names[:SHOWN]))}{more}"


def _size(files: dict[str, str]) -> int:
    return sum(os.lstat(path).st_size for path in files.values())


def _shown(name: str) -> str:
    """A file's name as people and JSON can have it: it may be no UTF-8, or of several lines."""
    return "".join(character if character.isprintable() else "?" for character in name)


def of_checkout(root: str, remote: str, commit: str, whole: bool, include: list[str]) -> Bundle:
    """The bundle of a checkout at `commit`; `whole`: with its untracked files, since its changes go along too."""
    own = capture_commits.unpushed(root, remote, commit)
    inside = capture_git.submodules(root, commit)
    found = Bundle(root, [*([own] if own else []), *capture_commits.of_submodules(inside)])
    if whole:
        for name in capture_git.from_top(capture_git.unknown(root, inside), root):
            if name.endswith("/"):  # as git lists a repository in the repository
                found.left_out.append(name)
            else:
                found.files[name] = os.path.join(root, name)
    add(found, include)
    return found


def add(found: Bundle, include: list[str]) -> None:
    """The files and folders that --include names; 66 for one that is not in the checkout."""
    root = os.path.realpath(found.root)
    for word in include:
        bare = word.rstrip("/") or "/"
        path = os.path.join(os.path.realpath(os.path.dirname(bare) or "."), os.path.basename(bare))
        if not os.path.lexists(path):
            raise errors.Failure(f"--include {word}: there is no such file", errors.NOT_FOUND)
        if not path.startswith(root.rstrip("/") + "/"):
            raise errors.Failure(f"--include {word} is not in {root}: a task's files keep their place there",
                                 errors.NOT_FOUND, remedy=f"cp -r {word} {root}")
        name = os.path.relpath(path, root)
        if ".git" in name.lower().split("/"):
            raise errors.Failure(f"--include {word}: nothing of .git goes along", errors.USAGE,
                                 remedy="--bundle takes the commits along")
        below = _below(path, name)
        found.files.update(below)
        found.asked_for.update(below)
        found.left_out = [each for each in found.left_out if each != name + "/"]


def add_packages(found: Bundle, text: str, folder: str) -> str:
    """A requirement list whose local packages outside the checkout go along; their lines name their new place.

    `folder` is where the list stands, from which its paths are meant.
    """
    lines = []
    root = os.path.realpath(found.root)
    for line in text.splitlines():
        listed = OTHER_LIST.match(line.strip())
        match = listed or LOCAL.match(line.strip())
        path = os.path.realpath(os.path.join(folder, os.path.expanduser(match["path"]))) if match else ""
        inside = (path + "/").startswith(root + "/")
        if not match or not os.path.exists(path) or line.lstrip().startswith(("#", "-f", "--find")) or (
                listed and not inside):
            lines.append(line)
            continue
        if not inside:
            place = _free(found, f"{PACKAGES}/{os.path.basename(path)}", path)
            found.files.update(_package(path, place))
        else:
            place = os.path.relpath(path, root)
        # the place is the worker's: a path, no address
        head = f"{listed['head']} " if listed else "" if "@" in match["head"] else match["head"]
        lines.append(f"{head}./{place}{'' if listed else match['tail']}")
    return "\n".join(lines) + "\n"


def attach(api: Any, task: str, found: Bundle, say: Callable[[str], None]) -> None:
    """Send it, and enter it in the task as artefacts."""
    folder = tempfile.mkdtemp(prefix="agent-task-")
    try:
        items = [_sent(api, task, key, path, preview)
                 for key, path, preview in found.written(lambda name: os.path.join(folder, name))]
        if items:
            api.call("tasks.add_or_update_artifacts", {"task": task, "artifacts": items})
            say(f"sent {sum(item['content_size'] for item in items):,} bytes")
    finally:
        trees.discard(folder)


def write_files(found: Bundle, path: str) -> None:
    """A tar of the files under their names in the checkout, after what Git LFS keeps."""
    import errno
    import tarfile

    kept = {bundle.LFS + name: file for name, (_, file) in found.in_lfs.items()}
    members = {**found.files, **kept}

    def nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        if info.islnk():  # the same file under a second name (of DVC's cache): no link comes out of an archive
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.lstat(members[info.name]).st_size
        return info
    try:
        with tarfile.open(path, "w:gz", compresslevel=3) as archive:
            for name, file in (*kept.items(), *sorted(found.files.items())):
                try:
                    archive.add(file, name, recursive=False, filter=nobody)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                        raise
                    # of a file that became shorter meanwhile tarfile says it in words
                    raise errors.Failure(f"cannot read {file}: {error.strerror or error}",
                                         errors.NO_PERMISSION) from None
    except OSError as error:
        raise files.unwritable(f"write {path}", error) from None


def _sent(api: Any, task: str, key: str, path: str, preview: str) -> dict[str, Any]:
    import time

    from agentpipe.files import file_digest
    from agentpipe.transport import artifact_files
    kind = "application/gzip" if key == bundle.FILES else "application/x-git-bundle"
    return {"key": key, "type": "archive", "mode": "input", "hash": file_digest(path),
            "content_size": os.path.getsize(path), "timestamp": int(time.time()),
            "uri": artifact_files.put(api, task, path, os.path.basename(path)),
            "type_data": {"content_type": kind, "preview": preview[:65536]}}


def _below(path: str, name: str) -> dict[str, str]:
    """{name: path} of a file, or of all files of a folder."""
    if os.path.islink(path) or not os.path.isdir(path):
        return {name: path}
    found = {}
    for here, folders, names in trees.walk(path):
        folders[:] = [each for each in folders if each not in LEFT_OUT]
        links = [each for each in folders if os.path.islink(os.path.join(here, each))]
        for each in names + links:
            file = os.path.join(here, each)
            if os.path.islink(file) or os.path.isfile(file):
                found[os.path.join(name, os.path.relpath(file, path))] = file
    return found


def _package(path: str, place: str) -> dict[str, str]:
    """A local package: what its git repository knows or does not ignore, else all but what tools leave behind."""
    if not os.path.isdir(path) or not capture_git.root(path):
        return _below(path, place)
    listed = capture_git.run(path, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    files = {os.path.join(place, name): os.path.join(path, name) for name in listed.split("\0") if name}
    return {name: file for name, file in files.items() if os.path.islink(file) or os.path.isfile(file)}


def _free(found: Bundle, place: str, path: str) -> str:
    """A place of that name that no other package has taken."""
    for number in range(1000):
        name = place if not number else f"{place}-{number}"
        # an archive keeps its name, which says what is in it
        if not number and not os.path.isdir(path):
            return name
        if not any(each == name or each.startswith(name + "/") for each in found.files):
            return name
    return place
