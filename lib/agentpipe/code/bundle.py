"""What a task brings along that neither its repository nor a diff has: commits that were not pushed, and files.

Artefacts of mode "input", which a reset keeps and a clone copies: a git bundle, one more for each submodule with such
commits, and a tar of files, whose first are what Git LFS keeps of those commits, by its hash. They are made by
`agent-task enqueue --bundle` (capture_bundle.py) and brought into the checkout here.
"""

from __future__ import annotations

import os
import stat

from agentpipe import errors, files, live, tools, trees
from agentpipe.code import git, lfs, mirror
from agentpipe.crash import crash_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable
    from typing import IO, Any

    from agentpipe.job import Job

COMMITS, FILES = "agentpipe-commits", "agentpipe-files"
LFS = ".agentpipe/lfs/"  # before a hash, in the tar of files: no file of the checkout
NAMES = {COMMITS: "commits.bundle", FILES: "files.tar.gz"}


def key_of(commit: str) -> str:
    """The artefact that brings a submodule's commit: whoever misses the commit finds it by that."""
    return f"{COMMITS}-{commit}"


def file_name(key: str) -> str:
    """How an artefact's file is called."""
    return NAMES.get(key) or f"commits-{key.removeprefix(COMMITS + '-')}.bundle"


def of(task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{key: artefact} of those that a task has."""
    told = (task.get("execution") or {}).get("artifacts")
    artifacts = [item for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    return {item["key"]: item for item in artifacts if _is_ours(item.get("key")) and item.get("mode") == "input"}


def _is_ours(key: Any) -> bool:
    if not isinstance(key, str):
        return False
    return key in NAMES or (key.startswith(COMMITS + "-") and git.is_whole_hash(key[len(COMMITS) + 1:]))


def bring_commits(job: Job, source: git.Source, *, distrust: bool = False) -> bool:
    """The commit of `source` into its mirror, out of the task's bundle; whether it is there now.

    Those of the remote on which the bundle stands come first. With `distrust` the mirror is made anew.
    """
    found = of(job.task)
    own = (job.task.get("script") or {}).get("version_num") == source.commit
    artifact = found.get(key_of(source.commit)) or (found.get(COMMITS) if own else None)
    if not artifact or not source.commit:
        return False
    path = _fetched(job, artifact)
    job.say(f"taking commits that were not pushed from the task's bundle ({os.path.getsize(path)} bytes)")
    hashes, needed = _head(path)
    for commit in needed:
        base = git.Source(source.url, commit=commit, branch=source.branch)
        base.user, base.password, base.mirror = source.user, source.password, source.mirror
        if distrust or not mirror.has(base, commit):
            mirror.update(job, base, distrust=distrust)
            distrust = False
    try:
        mirror.unbundle(job, source, path, hashes, needed, lambda place: _bring_lfs(job, place), distrust=distrust)
    except tools.ToolFailed as failed:
        raise errors.Failure(f"the task's bundle of commits cannot be read: {failed.reason}", errors.BAD_DATA,
                             failed.evidence, "enqueue it again with --bundle") from None
    return mirror.has(source, source.commit)


def _bring_lfs(job: Job, git_dir: str) -> None:
    """What the task brings along of Git LFS, to where that looks for it."""
    found = of(job.task).get(FILES)
    if found:
        take_lfs(_fetched(job, found), lambda name, content: lfs.put(content, name, git_dir))


def take_lfs(path: str, take: Callable[[str, IO[bytes]], None]) -> int:
    """Call `take` with hash and content of what the archive at `path` has of Git LFS; how many there are."""
    import tarfile
    import zlib
    count = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.startswith(LFS) else None
                if not content:  # the others come after them
                    break
                take(member.name[len(LFS):], content)
                count += 1
    except (tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(error) from None
    return count


def bring_files(job: Job, code: str) -> int:
    """The files into a checkout; how many. Failure 65 for one that would be written outside of it."""
    found = of(job.task).get(FILES)
    if not found:
        return 0
    count = unpack(_fetched(job, found), code)
    crash_point("fetch:unpacked")
    if count:
        job.say(f"{count} file(s) that git does not know came with the task")
    return count


def unpack(path: str, code: str) -> int:
    """The files of the archive at `path` into a folder; how many. Failure 65 for one outside of it."""
    import tarfile
    count = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                count += 0 if member.name.startswith(LFS) else _unpacked(archive, member, code)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _unreadable(error) from None
    except OSError as error:
        failure = files.unwritable("write the task's files", error)
        failure.remedy = "df -h"
        raise failure from None
    return count


def _unreadable(error: Exception) -> errors.Failure:
    return errors.Failure(f"the task's archive of files cannot be read: {error}", errors.BAD_DATA,
                          remedy="enqueue it again with --bundle")


def _fetched(job: Job, artifact: dict[str, Any]) -> str:
    """The artefact's file in the task's directory; what is there already, whole, is not brought again."""
    from agentpipe.transport import api, artifact_files
    name = file_name(artifact["key"])
    path = job.path(name)
    if not os.path.isfile(path):
        new = trees.beside(path)
        try:
            with live.Line(job, lambda: f"fetching {name}"):
                artifact_files.get(api.connect(), artifact, new)
            crash_point("fetch:brought")
            os.rename(new, path)
        except BaseException:  # on a full disk it would keep that full
            trees.discard(new)
            raise
    return path


def _head(path: str) -> tuple[str, list[str]]:
    """(kind of hashes, the commits that it stands on) of a bundle: gitformat-bundle(5)."""
    hashes, needed = "sha1", []
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        good = file.readline().startswith("# v")
        for line in file if good else ():
            if line == "\n":
                break
            if line.startswith("@object-format="):
                hashes = line[15:].strip()
            elif line.startswith("-"):
                needed.append(line[1:].partition(" ")[0].strip())
    if not good or not all(map(git.is_whole_hash, needed)):
        raise errors.Failure("the task's bundle of commits is none", errors.BAD_DATA,
                             remedy="enqueue it again with --bundle")
    return hashes, needed


def _unpacked(archive: tarfile.TarFile, member: tarfile.TarInfo, code: str) -> int:
    """One file or link of the archive, in the place of what is there; 1, or 0 for a folder. Never through a link, never
    outside."""
    root = os.path.realpath(code)
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    path = os.path.join(root, *parts)
    safe = parts and ".." not in parts and ".git" not in [part.lower() for part in parts]
    if not safe or member.name.startswith("/") or not (member.isfile() or member.issym() or member.isdir()):
        raise errors.Failure(f"the task's archive would write outside the checkout: {member.name!r}", errors.BAD_DATA)
    folders = parts if member.isdir() else parts[:-1]
    for count in range(len(folders)):  # a file or link of the commit, where its owner has a folder by now
        above = os.path.join(root, *folders[:count + 1])
        if os.path.lexists(above) and (os.path.islink(above) or not os.path.isdir(above)):
            os.unlink(above)
    os.makedirs(os.path.join(root, *folders), exist_ok=True)
    if member.isdir():
        return 0
    if os.path.lexists(path):
        trees.remove(path)
    if member.issym():
        os.symlink(member.linkname, path)
        return 1
    import shutil
    source = archive.extractfile(member)
    assert source is not None
    mode = 0o777 if member.mode & stat.S_IXUSR else 0o666
    with source, open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return 1
