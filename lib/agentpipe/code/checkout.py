"""Checkouts: a working tree at one commit, made from a mirror by hard links and a single git process.

The `.git` directory is laid out here as gitrepository-layout(5) describes it: objects are linked, never borrowed, so
the checkout stays whole when the mirror is pruned or deleted. Submodules are checked out the same way, each from a
mirror of its own, with their git directories where git keeps them (.git/modules/NAME).
"""

from __future__ import annotations

import os
import re
import signal

from agentpipe import errors, live, tools, trees
from agentpipe.code import bundle, git, lfs, mirror, proofs, submodules
from agentpipe.crash import crash_point
from agentpipe.job import Job
from agentpipe.settings import config
from agentpipe.settings.offline import offline
from agentpipe.urls import without_credentials

DEEPEST = 20


class _Missing(Exception):
    """The mirror is not there, or does not have the commit."""


class _Broken(Exception):
    """The mirror has the commit, but not all that belongs to it."""


def make(job: Job, source: git.Source, path: str) -> tuple[str, bool]:
    """The tree of `source` at `path`, with the task's own files, in place of what is there.

    (The commit's whole hash, no network was used.)
    """
    new = trees.beside(path)
    try:
        commit, cached = _populate(job, source, new, os.path.join(new, ".git"), 0)
        lfs.tell(job, source, new)
        bundle.bring_files(job, new)
    except errors.Failure:
        trees.remove(new)  # it may be what has filled the disk
        raise
    crash_point("fetch:built")
    trees.replace(new, path)
    return commit, cached


def _populate(job: Job, source: git.Source, tree: str, git_dir: str, depth: int) -> tuple[str, bool]:
    commit, cached = _one(job, source, tree, git_dir)
    modules = os.path.join(tree, ".gitmodules")
    if os.path.lexists(modules):
        for name, path, submodule in submodules.of(job, source, tree):
            if depth == DEEPEST:
                raise errors.Failure(f"submodules of {source.url} are nested more than {DEEPEST} deep", errors.BAD_DATA)
            inner = os.path.join(git_dir, "modules", name)
            try:
                cached &= _populate(job, submodule, os.path.join(tree, path), inner, depth + 1)[1]
            except errors.Failure as failure:
                failure.reason = f"submodule {path}: {failure.reason}"
                raise
    return commit, cached


def move_submodules(job: Job, source: git.Source, tree: str, commits: dict[str, str]) -> None:
    """Bring submodules of a checkout, new ones of its .gitmodules too, to other commits: {path: commit}."""
    for path, commit in commits.items():
        name, submodule = submodules.at(source, tree, path, commit)
        trees.remove(os.path.join(tree, path))
        _populate(job, submodule, os.path.join(tree, path), os.path.join(tree, ".git", "modules", name), 1)
        job.say(f"submodule {path} is at {commit}")


def _one(job: Job, source: git.Source, tree: str, git_dir: str) -> tuple[str, bool]:
    """One repository without its submodules: straight from the mirror when that has the commit, and the task may have
    it; else, or without a cache, from its own copy, for which the server or the task's bundle decides."""
    if not config.flag("agent.vcs_cache.enabled", True) or not proofs.may_have(job, source):
        return _uncached(job, source, tree, git_dir), False
    distrust = False
    if source.commit:
        try:
            return _check_out(job, source, tree, git_dir, source.commit), True
        except _Missing:
            pass
        except _Broken as broken:
            job.say(f"the cached copy of {source.url} is damaged ({broken})")
            distrust = True
    commit = _bring(job, source, distrust=distrust)
    crash_point("fetch:mirrored")
    cached = not source.commit and not source.local and offline()
    try:
        return _check_out(job, source, tree, git_dir, commit), cached
    except (_Missing, _Broken) as broken:
        job.say(f"the cached copy of {source.url} is damaged ({broken})")
    commit = _bring(job, source, distrust=True)
    try:
        return _check_out(job, source, tree, git_dir, commit), False
    except (_Missing, _Broken) as broken:
        raise _damaged(source, broken) from None


def _uncached(job: Job, source: git.Source, tree: str, git_dir: str) -> str:
    """The same through a mirror of this task alone, which does not stay."""
    source.mirror = job.path("uncached.git")
    try:
        return _check_out(job, source, tree, git_dir, _bring(job, source, distrust=True))
    except (_Missing, _Broken) as broken:
        raise _damaged(source, broken) from None
    finally:
        trees.remove(source.mirror)
        trees.remove(source.mirror + ".lock")


def _bring(job: Job, source: git.Source, distrust: bool) -> str:
    """What `source` names into its mirror, from the task's bundle or the remote; the commit's whole hash."""
    if source.commit and bundle.bring_commits(job, source, distrust=distrust):
        return source.commit
    return mirror.update(job, source, distrust=distrust)


def _damaged(source: git.Source, broken: _Broken | _Missing) -> errors.Failure:
    return errors.Failure(f"{source.url} itself is damaged: {broken}", errors.BAD_DATA,
                          remedy="see what is damaged where the repository is kept: git fsck")


def _check_out(job: Job, source: git.Source, tree: str, git_dir: str, commit: str) -> str:
    _lay_out(git_dir, mirror.path_of(source), without_credentials(source.url), tree)
    try:
        with live.Line(job, lambda: f"checking out {source.url}"):
            tools.run(["git", f"--git-dir={git_dir}", f"--work-tree={tree}", "checkout", "--quiet", "--detach",
                       "--force", commit, "--"], cwd=tree, env=source.environment())
    except tools.ToolFailed as failed:
        raise _why(failed, source, commit) from None
    lfs.fill(git_dir, tree, source.environment())
    lfs.keep(git_dir, mirror.path_of(source))
    with open(os.path.join(git_dir, "HEAD"), encoding="ascii") as head:
        return head.read().strip()


def _why(failed: tools.ToolFailed, source: git.Source, commit: str) -> Exception:
    output = failed.output.strip()
    last = output.rpartition("\n")[2]
    if failed.status is not None and failed.status < 0:
        name = signal.strsignal(-failed.status) or f"signal {-failed.status}"
        full = failed.status == -signal.SIGXFSZ
        return errors.Failure(f"cannot check out {source}: git was killed ({name})",
                              errors.CANNOT_CREATE if full else errors.TRY_AGAIN, output,
                              "ulimit -f" if full else "is there memory enough: free -m; dmesg | tail")
    # whole phrases of git: it also prints names of files, which may be quota.py and filter.py
    if re.search(r"No space left on device|[Dd]isk quota exceeded|unable to write ", output):
        # git does not say why; it has other words for what it cannot read
        return errors.Failure(f"cannot check out {source}: {last}: the disk is full, or no file may be as large",
                              errors.CANNOT_CREATE, output, "df -h")
    if "is ambiguous" in output:
        return errors.Failure(f"{commit} is the beginning of several commits' hashes", errors.BAD_DATA, output,
                              "give the whole hash")
    if "smudge filter lfs failed" in output:
        return errors.Failure(f"cannot check out {source}: {last}", errors.NOT_FOUND, output[-4000:],
                              "git lfs push --all origin, in the checkout that has its files; "
                              "with GIT_LFS_SKIP_SMUDGE=1 only what points to them comes")
    if re.search(r"invalid path '|(?:external|smudge|clean) filter |unable to create file ", output):
        remedy = git.MEND_FILTER if " filter " in last else ""
        return errors.Failure(f"cannot check out {source}: {last}", errors.BAD_DATA, output[-4000:], remedy)
    if "non-commit" in output:
        return errors.Failure(f"{commit} is not a commit", errors.BAD_DATA, output)
    if "error:" not in output and (f"not a tree: {commit}" in output or f"invalid reference: {commit}" in output
                                   or "unable to read tree" in output):
        return _Missing(last)
    return _Broken(last)


def _lay_out(git_dir: str, source: str, url: str, tree: str) -> None:
    """A git directory without an index: the mirror's refs and objects, `url` as its origin, `tree` as its work tree."""
    for _ in range(3):
        trees.remove(git_dir)
        try:
            with open(os.path.join(source, "config"), encoding="utf-8", errors="surrogateescape") as file:
                sha256 = "sha256" in file.read()
            _link(source, git_dir)
            break
        except FileNotFoundError:
            # the mirror was repacked or cloned anew meanwhile, or is not there
            if not os.path.isdir(source):
                raise _Missing("there is none") from None
    else:
        raise _Missing("it keeps changing")
    _write(os.path.join(git_dir, "HEAD"), "ref: refs/heads/none\n")
    core = {"repositoryformatversion": "1" if sha256 else "0", "filemode": "true", "bare": "false",
            "logallrefupdates": "true"}
    os.makedirs(tree, exist_ok=True)
    if os.path.dirname(git_dir) != tree:
        core["worktree"] = os.path.relpath(tree, git_dir)
        _write(os.path.join(tree, ".git"), f"gitdir: {os.path.relpath(git_dir, tree)}\n")
    sections = [("core", core), ('remote "origin"', {"url": url, "fetch": "+refs/heads/*:refs/remotes/origin/*"})]
    if sha256:
        sections.append(("extensions", {"objectFormat": "sha256"}))
    _write(os.path.join(git_dir, "config"), git.config_text(sections))


def _link(source: str, git_dir: str) -> None:
    # refs first: whatever they name, the objects read later have
    os.makedirs(os.path.join(git_dir, "objects", "pack"))
    os.makedirs(os.path.join(git_dir, "refs"))
    _copy_refs(source, git_dir)
    objects = os.path.join(source, "objects")
    for name in os.listdir(objects):
        if name == "pack" or len(name) == 2:
            target = os.path.join(git_dir, "objects", name)
            os.makedirs(target, exist_ok=True)
            for entry in os.scandir(os.path.join(objects, name)):
                # not multi-pack-index (it names packs that may go), nor what a fetch is just writing
                if entry.name.startswith("pack-") if name == "pack" else not entry.name.startswith("tmp"):
                    _link_file(entry.path, os.path.join(target, entry.name))
    try:
        with open(os.path.join(source, "shallow"), encoding="ascii") as shallow:
            _write(os.path.join(git_dir, "shallow"), shallow.read())
    except FileNotFoundError:
        pass
    lfs.link(source, git_dir)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, too many links, or a file of somebody else
        import shutil
        shutil.copyfile(source, target)


def _copy_refs(source: str, git_dir: str) -> None:
    try:
        with open(os.path.join(source, "packed-refs"), "rb") as file:
            packed = file.read()
    except FileNotFoundError:
        packed = b""
    tip = b" " + mirror.TIP.encode() + b"\n"
    at = packed.find(tip)
    if at >= 0:
        packed = packed[:packed.rfind(b"\n", 0, at) + 1] + packed[at + len(tip):]
    if packed:
        with open(os.path.join(git_dir, "packed-refs"), "wb") as file:
            file.write(packed)
    for kind in ("remotes", "tags"):
        for directory, _, names in trees.walk(os.path.join(source, "refs", kind)):
            for name in names:
                if not name.endswith(".lock"):
                    target = os.path.join(git_dir, os.path.relpath(directory, source))
                    os.makedirs(target, exist_ok=True)
                    with open(os.path.join(directory, name), encoding="ascii") as ref:
                        _write(os.path.join(target, name), ref.read())


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
