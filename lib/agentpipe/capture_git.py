"""What git knows about a checkout: where it comes from, its commit, and what is not committed."""

import os
import re

from agentpipe import errors, tools
from agentpipe.git import without_credentials

# a user's settings must not change what a diff looks like, and nothing may ask for a password
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
DIFF = ["diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/",
        "--unified=3", "--inter-hunk-context=0", "--submodule=diff"]
NETWORK_TIMEOUT = 10.0
SHOWN = 3

Warned = tuple[str, str]  # what is wrong, and the command that mends it


class Source:
    """Where a worker gets the code: repository without credentials, branch ("" when detached) and commit."""

    def __init__(self, repository: str, branch: str, commit: str) -> None:
        self.repository, self.branch, self.commit = repository, branch, commit
        self.remote = ""
        self.warnings: list[Warned] = []
        self.notes: list[str] = []


def root(path: str) -> str | None:
    """The top directory of the checkout that holds `path`; None outside of any."""
    try:
        top = run(path or ".", "rev-parse", "--show-toplevel").strip()
    except tools.ToolFailed as failure:
        if "dubious ownership" in failure.output:
            raise errors.Failure(f"git does not trust {os.path.abspath(path or '.')}: it belongs to another user",
                                 errors.NO_PERMISSION, failure.output,
                                 f"git config --global --add safe.directory {os.path.abspath(path or '.')}") from None
        return None
    return os.path.realpath(top) if top else None


def is_bare(path: str) -> bool:
    """Whether that directory is itself a repository without a checkout."""
    try:
        said = run(path, "rev-parse", "--is-bare-repository", "--absolute-git-dir").splitlines()
    except tools.ToolFailed:
        return False
    return said[0] == "true" and os.path.realpath(said[1]) == os.path.realpath(path)


def source(top: str, branch: str = "", commit: str = "", pushed: bool = True) -> Source:
    """Repository, branch and commit of a checkout; what a worker cannot get becomes a warning with its remedy.

    Without `pushed` the commit goes along by itself.
    """
    head = text(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if not head:
        raise errors.Failure(f"{top} has no commit yet", errors.NOT_FOUND, remedy="git add . && git commit")
    asked = commit or branch
    current = text(top, "symbolic-ref", "--short", "--quiet", "HEAD")
    remote = _remote(top, branch or current)
    warned: list[Warned] = []
    if asked:
        head = text(top, "rev-parse", "--verify", "--quiet", f"{commit or branch}^{{commit}}")
        if not head and branch and not commit and remote:
            head = text(top, "rev-parse", "--verify", "--quiet", f"{remote}/{branch}^{{commit}}")
        if not head:
            warned += _unknown(top, remote, commit, branch)
            head = commit
    if not remote:
        found = Source(top, branch or current, head)
        if pushed:
            found.notes.append(f"the checkout has no remote: workers on this machine take it from {top}")
    else:
        found = Source(_address(top, remote), branch or ("" if commit else current), head)
        if head and pushed and not warned and not is_there(top, remote, head):
            push = f"git push {remote} {branch or current or 'HEAD'}"
            warned.append((f"commit {head[:10]} is not on {remote}: a worker cannot fetch it", push))
    found.remote = remote
    found.warnings += warned
    return found


def _unknown(top: str, remote: str, commit: str, branch: str) -> list[Warned]:
    """A commit or branch that this checkout does not have: the remote may, and what it has of that kind is named."""
    where = f"here, and not on {remote} either" if remote else "in this checkout"
    if commit and len(commit) < 40:
        return [(f"there is no commit {commit} here: a worker may not find it", "git log --oneline")]
    tips = _tips(top, remote) if remote else ""
    if tips is None:
        return [(f"{remote} cannot be asked for {commit or branch}, which is not here", f"git ls-remote {remote}")]
    if commit:
        if commit in tips:
            return []
        return [(f"there is no commit {commit[:10]} {where}: a worker cannot fetch it", "git log --oneline")]
    if f"\trefs/heads/{branch}\n" in tips + "\n":
        return []
    import difflib
    listed = text(top, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    known = [*listed, *re.findall(r"\trefs/heads/(\S+)", tips)]
    close = difflib.get_close_matches(branch, dict.fromkeys(known), 1)
    return [(f"there is no branch {branch} {where}: a worker cannot fetch it"
             + (f"; did you mean {close[0]}?" if close else ""), "git branch --all")]


def diff(top: str) -> str:
    """What is not committed, staged or not, submodules included; files that are not text go in git's binary form."""
    from agentpipe.capture_text import as_text
    return as_text(top, lambda *more: _bytes(top, *more), DIFF)


def changed_lfs(text: str) -> list[str]:
    """The files of Git LFS that a diff changes: it only has what points to them, and that is on no server yet."""
    if "\n+oid sha256:" not in text:
        return []
    parts = re.split(r"^diff --git ", text, flags=re.MULTILINE)[1:]
    return [part.partition("\n+++ b/")[2].partition("\n")[0] for part in parts
            if "\n+oid sha256:" in part and "version https://git-lfs" in part]


def untracked(top: str, script: str | None) -> list[Warned]:
    """Files that git does not know, which therefore stay here; Failure 66 when the script is one of them."""
    if script and not text(top, "ls-files", "--", script):
        raise errors.Failure(f"git does not know {script}: it would not come along", errors.NOT_FOUND,
                             remedy=f"git add -N -- {script}")
    names = unknown_files(top)
    if not names:
        return []
    import shlex
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    few = names if len(names) <= SHOWN else ["."]
    return [(f"{', '.join(names[:SHOWN])}{more}: not known to git, stays here", f"git add -N -- {shlex.join(few)}")]


def unknown_files(top: str) -> list[str]:
    """The files that git does not know and does not ignore, relative to the top."""
    return [name for name in run(top, "ls-files", "--others", "--exclude-standard", "-z").split("\0") if name]


def name_of(address: str) -> str:
    """The last part of a repository's address, without .git."""
    return re.split(r"[/:]", address.rstrip("/"))[-1].removesuffix(".git")


def _remote(top: str, branch: str) -> str:
    own = text(top, "config", "--get", f"branch.{branch}.remote") if branch else ""
    names = text(top, "remote").split()
    if own and own in names:
        return own
    return "origin" if "origin" in names else names[0] if names else ""


def _address(top: str, remote: str) -> str:
    address = text(top, "remote", "get-url", "--", remote)
    if "://" not in address and not re.match(r"[^/]+:", address):
        return os.path.normpath(os.path.join(top, os.path.expanduser(address)))
    return without_credentials(address)


def is_there(top: str, remote: str, commit: str) -> bool:
    """Whether the remote has the commit: a local one is asked, of others what was last fetched, then their tips."""
    address = _address(top, remote)
    path = address.removeprefix("file://") if address.startswith(("/", "file://")) else ""
    if path:
        return bool(text(path, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))
    if text(top, "branch", "--remotes", "--list", f"{remote}/*", "--contains", commit):
        return True
    return commit in (_tips(top, remote) or "")


def _tips(top: str, remote: str) -> str | None:
    """What the remote's branches and tags point to; None when it does not answer."""
    try:
        return run(top, "ls-remote", "--", remote, timeout=NETWORK_TIMEOUT)
    except errors.Failure:
        return None


def text(path: str, *arguments: str) -> str:
    """git's answer without blanks around it; "" when it fails."""
    try:
        return run(path, *arguments).strip()
    except tools.ToolFailed:
        return ""


def run(path: str, *arguments: str, timeout: float | None = None) -> str:
    """git's stdout, in a directory; ToolFailed when it fails."""
    own = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    env = {name: value for name, value in os.environ.items() if name not in own}
    return tools.run(["git", "-C", path, *arguments], env={**env, **ENVIRONMENT}, timeout=timeout)


def _bytes(path: str, *arguments: str) -> bytes:
    return run(path, *arguments).encode("utf-8", "surrogateescape")
