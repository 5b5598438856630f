"""Mirrors: one bare repository per URL in the cache, from which checkouts are made without the network.

A mirror has the remote's branches under refs/remotes/origin, as a checkout needs them, and all that it ever fetched: it
is never pruned of objects, so a commit that a force-push left behind can still be had. It may be deleted at any time.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentpipe import errors, files, paths, tools, trees
from agentpipe.code import git, git_failures, git_transfer, revision
from agentpipe.crash import crash_point
from agentpipe.job import Job
from agentpipe.settings import config
from agentpipe.settings.offline import offline

# what one fetch of a single ref brings, whatever it is called there
TIP = "refs/agentpipe/tip"
PEER_DEFAULT = "~/.clearml/vcs-cache"
LOCK_PATIENCE = 3600  # seconds; git itself gives up on a dead connection after 60
MANY_PACKS = 40


def path_of(source: git.Source) -> str:
    """Where the mirror of this URL stands, whether it is there or not."""
    if source.mirror:
        return source.mirror
    import hashlib
    url = source.url.rstrip("/")
    name = os.path.basename(url.rpartition(":")[2]).removesuffix(".git")
    readable = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name).strip(".")[:40]
    key = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(home(), f"{readable or 'repository'}-{key}.git")


def has(source: git.Source, commit: str) -> bool:
    """Whether the mirror has this commit (one git process)."""
    mirror = path_of(source)
    if not _is_one(mirror):
        return False
    try:
        tools.run(["git", "cat-file", "-e", commit + "^{commit}"], cwd=mirror, env=source.environment())
    except (errors.Failure, OSError):
        return False
    return True


def update(job: Job, source: git.Source, *, distrust: bool = False) -> str:
    """Bring what `source` names into the mirror, over the network if need be; the commit's whole hash.

    With `distrust` the mirror is known to be broken and is cloned anew. Raises Failure: 66 nothing of that name there,
    69 not reachable (or AGENT_OFFLINE), 77 not allowed, 75 another fetch held the lock for too long.
    """
    mirror = path_of(source)
    with _locked(job, mirror, source):
        crash_point("fetch:locked")
        if distrust or not _is_one(mirror):
            return _clone(job, source, mirror, again=distrust or os.path.isdir(mirror))
        try:
            return _fetch(job, source, mirror)
        except tools.ToolFailed as failed:
            if not config.flag("agent.vcs_cache.clone_on_pull_fail", True):
                raise git_failures.unknown(failed, source) from None
            job.say(f"the cached copy of {source.url} cannot be updated ({failed.reason}); cloning it anew")
            return _clone(job, source, mirror, again=True)


def unbundle(job: Job, source: git.Source, bundle: str, hashes: str, needed: list[str],
             first: Callable[[str], None], *, distrust: bool = False) -> None:
    """Add a git bundle's objects; the commits `needed` must be there. ToolFailed when git cannot read it.

    `first` puts what the commits do not have themselves into the repository: there is no commit without it.

    With `distrust` they come into a new mirror, in the place of the one that is there.
    """
    mirror, env = path_of(source), source.environment()
    with _locked(job, mirror, source):
        place = mirror
        if distrust or not _is_one(mirror):
            place = trees.beside(mirror)
            tools.run(["git", "init", "--quiet", "--bare", "--template=", f"--object-format={hashes}", place], env=env,
                      cwd="/")
        else:
            _remove_left_behind(mirror)
        first(place)
        # since git 2.40 they must be reachable by a ref
        refs = [f"refs/agentpipe/base/{commit}" for commit in needed]
        made = "".join(f"update {ref} {commit}\n" for ref, commit in zip(refs, needed, strict=True))
        gone = "".join(f"delete {ref}\n" for ref in refs)
        tools.run(["git", "update-ref", "--stdin"], cwd=place, env=env, stdin=made.encode())
        crash_point("fetch:unbundling")
        try:
            tools.run(["git", "bundle", "unbundle", os.path.abspath(bundle)], cwd=place, env=env)
        finally:
            tools.run(["git", "update-ref", "--stdin"], cwd=place, env=env, check=False, stdin=gone.encode())
        crash_point("fetch:unbundled")
        if place != mirror:
            trees.replace(place, mirror)


def _is_one(mirror: str) -> bool:
    """Whether git takes this folder for a repository (a power failure leaves a HEAD without content).

    Else git would look for one in the folders above, and use that: this user may keep the home directory in one.
    """
    try:
        with open(os.path.join(mirror, "HEAD"), "rb") as file:
            head = file.read(100)
    except OSError:
        return False
    folders = [os.path.join(mirror, name) for name in ("objects", "refs")]
    return head.startswith(b"ref: refs/") and all(map(os.path.isdir, folders))


def home() -> str:
    """The folder of mirrors."""
    configured = config.get("agent.vcs_cache.path")
    if configured and configured != PEER_DEFAULT:
        return os.path.expanduser(configured)
    return paths.cache("git")


@contextmanager
def _locked(job: Job, mirror: str, source: git.Source) -> Iterator[None]:
    import filelock
    try:
        os.makedirs(os.path.dirname(mirror), 0o700, exist_ok=True)
        lock = filelock.FileLock(mirror + ".lock", fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            job.say(f"waiting for another fetch of {source.url}")
            lock.acquire(timeout=LOCK_PATIENCE, poll_interval=0.02)
    except filelock.Timeout:
        raise errors.Failure(f"another fetch of {source.url} has not ended for {LOCK_PATIENCE} s", errors.TRY_AGAIN,
                             remedy=f"fuser -v {mirror}.lock") from None
    except OSError as error:
        raise files.unwritable(f"use the cache {os.path.dirname(mirror)}", error) from None
    except NotImplementedError as error:  # no locks there
        raise errors.Failure(f"cannot use the cache {os.path.dirname(mirror)}: {error}", errors.CANNOT_CREATE,
                             remedy="set AGENT_HOME to a directory of yours on a local disk") from None
    try:
        trees.put_back(mirror)
        yield
    finally:
        lock.release()


def _clone(job: Job, source: git.Source, mirror: str, again: bool) -> str:
    """A new mirror, built beside and renamed into place, so that a kill at any moment leaves none or a whole one."""
    if not source.local and offline():
        raise _offline(source)
    env = source.environment()
    new = trees.beside(mirror)
    job.say(f"cloning {source.url}" + (" anew" if again else ""))
    for hashes in ("sha1", "sha256"):
        tools.run(["git", "init", "--quiet", "--bare", "--template=", f"--object-format={hashes}", new], env=env,
                  cwd="/")
        try:
            git_transfer.fetch(job, source, new, *git_transfer.everything())
            break
        except tools.ToolFailed as failed:
            trees.remove(new)
            if "mismatched algorithms" not in failed.output or hashes == "sha256":
                raise git_failures.explained(failed, source) or git_failures.unknown(failed, source) from None
    try:
        commit = _wanted(job, source, new)
    except tools.ToolFailed as failed:
        trees.remove(new)
        raise git_failures.explained(failed, source) or git_failures.unknown(failed, source) from None
    crash_point("fetch:unpublished")
    trees.replace(new, mirror)
    return commit


def _fetch(job: Job, source: git.Source, mirror: str) -> str:
    """Update a mirror that is there: the one ref first, everything when that does not do."""
    commit = revision.commit(mirror, source, source.commit) if source.commit else None
    if commit:  # another fetch brought it while we waited for the lock
        return commit
    if not source.local and offline():
        return _resolve_offline(mirror, source)
    _remove_left_behind(mirror)
    job.say(f"fetching {source}")
    try:
        commit = _fetch_one(job, source, mirror)
    except tools.ToolFailed as failed:
        meant = git_failures.explained(failed, source)
        if meant and meant.exit != errors.NOT_FOUND:
            raise meant from None
    if not commit:
        try:
            git_transfer.fetch(job, source, mirror, "--prune", *git_transfer.everything())
            commit = _wanted(job, source, mirror)
        except tools.ToolFailed as failed:
            meant = git_failures.explained(failed, source)
            if meant:
                raise meant from None
            raise
    _keep_fast(job, source, mirror)
    return commit


def _fetch_one(job: Job, source: git.Source, mirror: str) -> str | None:
    branch = f"+{revision.remote_branch(source)}:{revision.ORIGIN}{source.branch}"
    if source.commit:
        if not git.is_whole_hash(source.commit):
            return None
        # the branch as well: without it, what is fetched next would be told of no common history
        git_transfer.fetch(job, source, mirror, f"+{source.commit}:{TIP}", *([branch] if source.branch else []))
        return revision.commit(mirror, source, source.commit)
    if source.tag:
        git_transfer.fetch(job, source, mirror, f"+refs/tags/{source.tag}:refs/tags/{source.tag}")
        return revision.commit(mirror, source, f"refs/tags/{source.tag}")
    if source.branch:
        git_transfer.fetch(job, source, mirror, branch)
        return revision.commit(mirror, source, revision.ORIGIN + source.branch)
    git_transfer.fetch(job, source, mirror, f"+HEAD:{TIP}")
    return revision.commit(mirror, source, TIP)


def _wanted(job: Job, source: git.Source, mirror: str) -> str:
    """The commit in a mirror that has every branch and tag; what is in none of them is asked for by its hash or ref."""
    if not source.commit and not source.tag and revision.is_ref(source.branch):
        try:
            return _fetch_one(job, source, mirror) or ""
        except tools.ToolFailed as failed:
            if "couldn't find remote ref" not in failed.output:
                raise
            raise revision.not_there(source, mirror) from None
    asked = source.commit if git.is_whole_hash(source.commit) else "" if source.named else "HEAD"
    found = revision.find(mirror, source) if asked != "HEAD" else None
    if not found and asked:
        try:
            git_transfer.fetch(job, source, mirror, f"+{asked}:{TIP}")
            found = revision.commit(mirror, source, TIP)
        except tools.ToolFailed as failed:
            if asked != "HEAD" or "couldn't find remote ref" not in failed.output:
                raise
    found = found or revision.find(mirror, source)
    if not found:
        raise revision.not_there(source, mirror)
    return found


def _offline(source: git.Source) -> errors.Failure:
    return errors.Failure(f"{source} is not in this machine's cache, and AGENT_OFFLINE is set", errors.UNAVAILABLE,
                          remedy="run it once without AGENT_OFFLINE")


def _resolve_offline(mirror: str, source: git.Source) -> str:
    """What the mirror last saw under the name; a default branch is not remembered, so only master and main."""
    commit = None if source.commit else revision.find(mirror, source)
    if not commit:
        raise _offline(source)
    return commit


def _remove_left_behind(mirror: str) -> None:
    """Packs that a killed fetch began."""
    packs = os.path.join(mirror, "objects", "pack")
    try:
        for name in os.listdir(packs):
            if name.startswith("tmp_"):
                os.unlink(os.path.join(packs, name))
    except FileNotFoundError:
        pass


def _keep_fast(job: Job, source: git.Source, mirror: str) -> None:
    """Few files for a checkout to link and read: refs in one file, and small packs put together once they are many."""
    env = source.environment()
    tools.run(["git", "pack-refs", "--all"], cwd=mirror, env=env, check=False)
    packs = [name for name in os.listdir(os.path.join(mirror, "objects", "pack")) if name.endswith(".pack")]
    if len(packs) > MANY_PACKS:
        tools.run(["git", "repack", "-d", "-q", "--geometric=2"], cwd=mirror, env=env, check=False)
