"""What git knows about a checkout: where it comes from, its commit, and what is not committed."""

import os
import re
import shlex
from collections.abc import Collection

from agentpipe import errors, tools
from agentpipe.capture.typed_git import typed
from agentpipe.code.git import LOCAL_VARIABLES
from agentpipe.urls import for_a_task

# a user's settings must not change what a diff looks like or leaves out (`ignore` of a submodule), and nothing may ask
# for a password
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
DIFF = ["-c", "core.quotePath=true", "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv",
        "--unified=3", "--inter-hunk-context=0", "--submodule=diff", "--ignore-submodules=untracked"]
RAW = ["--raw", "--no-renames", "--ignore-submodules=untracked", "-z"]
SUBMODULE = re.compile(rb"^Submodule ", re.MULTILINE)
NETWORK_TIMEOUT = 10.0
DEEPEST = 20

Warned = tuple[str, str]  # what is wrong, and the command that mends it
Submodule = tuple[str, str, str]  # its path in the checkout, its directory, and the commit that it is to be at


class Source:
    """Where a worker gets the code: repository without credentials, branch ("" when detached) and commit."""

    def __init__(self, repository: str, branch: str, commit: str) -> None:
        self.repository, self.branch, self.commit = repository, branch, commit
        self.remote = ""
        self.warnings: list[Warned] = []
        self.notes: list[str] = []
        self.login_notes: list[str] = []


def root(path: str) -> str | None:
    """The top directory of the checkout that holds `path`; None outside of any."""
    try:
        top = run(path or ".", "rev-parse", "--show-toplevel").removesuffix("\n")  # "my code " may be a name
    except tools.ToolFailed as failure:
        if "dubious ownership" in failure.output:
            # of a sub-folder git wants the top, which it names, as a shell takes it
            named = re.search(r"--add safe\.directory (.+)$", failure.output, re.MULTILINE)
            top = named[1].strip() if named else shlex.quote(os.path.abspath(path or "."))
            raise errors.Failure(f"git does not trust {top}: it belongs to another user", errors.NO_PERMISSION,
                                 failure.output, f"git config --global --add safe.directory {top}") from None
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
        raise errors.Failure(f"{top} has no commit yet", errors.NOT_FOUND,
                             remedy=f"{typed(top, 'add', '.')} && {typed(top, 'commit')}")
    asked = commit or branch
    current = text(top, "symbolic-ref", "--short", "--quiet", "HEAD")
    remote = remote_of(top, branch or current)
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
        said: list[str] = []
        address = for_a_task(_address(top, remote), said.append, f"of remote {remote}")
        found = Source(address, branch or ("" if commit else current), head)
        found.login_notes = said
        folder = _folder(top, remote)
        if folder and pushed and not os.path.exists(folder):
            warned.append((f"{remote} is {folder}, and nothing is there: a worker cannot fetch from it",
                           typed(top, "ls-remote", remote)))
        elif head and pushed and not warned and not is_there(top, remote, head):
            warned.append((f"commit {head[:10]} is not on {remote}: a worker cannot fetch it",
                           pushing(top, remote, branch or current, head)))
    found.remote = remote
    found.warnings += warned
    return found


def _unknown(top: str, remote: str, commit: str, branch: str) -> list[Warned]:
    """A commit or branch that this checkout does not have: the remote may, and what it has of that kind is named."""
    where = f"here, and not on {remote} either" if remote else "in this checkout"
    if commit and len(commit) < 40:
        return [(f"there is no commit {commit} here: a worker may not find it", typed(top, "log", "--oneline"))]
    tips = _tips(top, remote) if remote else ""
    if tips is None:
        return [(f"{remote} cannot be asked for {commit or branch}, which is not here",
                 typed(top, "ls-remote", remote))]
    if commit:
        if commit in tips:
            return []
        return [(f"there is no commit {commit[:10]} {where}: a worker cannot fetch it",
                 typed(top, "log", "--oneline"))]
    # a name that begins so is a ref's whole one, of whatever kind (refs/pull/7/head)
    whole = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
    if f"\t{whole}\n" in tips + "\n":
        return []
    import difflib
    listed = text(top, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    known = [*listed, *re.findall(r"\trefs/heads/(\S+)", tips)]
    close = difflib.get_close_matches(branch, dict.fromkeys(known), 1)
    return [(f"there is no branch {branch} {where}: a worker cannot fetch it"
             + (f"; did you mean {close[0]}?" if close else ""), typed(top, "branch", "--all"))]


def diff(top: str, since: str = "HEAD", below: str = "", brought: Collection[str] = ()) -> str:
    """What is not committed, staged or not, submodules included; files that are not text go in git's binary form.

    `since` a commit, and with names below the folder `below` ("lib/"), of a submodule. What is changed at the paths of
    `brought` is left out: these files go along whole, and stand in the checkout before a diff is applied to it.
    """
    from agentpipe.capture import capture_text
    options = [*DIFF, f"--src-prefix=a/{below}", f"--dst-prefix=b/{below}", *(["--no-renames"] if below else [])]

    def git(*arguments: str) -> bytes:
        return _bytes(top, *arguments)

    found = git(*options, since)
    within = SUBMODULE.search(found)
    if within and not below:
        # git shows one that is moved without what became of it, as long as it looks for renames
        options.append("--no-renames")
        found = git(*options, since)
    if not within and not brought and capture_text.is_whole(found):
        return found.decode()
    left_out = _taken_by(top, since, brought) if brought else []
    parts: dict[str, str] = {}
    for path, place, pointed in (*_submodules(top, since), *_new_submodules(top, since)) if within else ():
        # what git itself shows of it heeds none of our options, and has no path before the names of a rename
        shown = git(*options, since, "--", f":(top,literal){path}")
        if shown and text(place, "rev-parse", "--verify", "--quiet", f"{pointed}^{{tree}}"):
            inner = [name[len(path) + 1:] for name in brought if name.startswith(f"{path}/")]
            head = shown.partition(b"diff --git ")[0].decode("utf-8", "replace")
            parts[path] = head + diff(place, pointed, f"{below}{path}/", inner)
    rest = [":(top)", *(f":(top,exclude,literal){path}" for path in (*parts, *left_out))]
    return "".join([capture_text.as_text(git, options, [since, "--", *rest]), *parts.values()])


def _taken_by(top: str, since: str, brought: Collection[str]) -> list[str]:
    """The changed paths that these files take: their own, and what was a folder there, or a file where one is now."""
    own = set(brought)
    folders = {name[:at] for name in brought for at in _slashes(name)}
    entries = run(top, "diff", *RAW, since).split("\0")
    found = []
    for about, name in zip(entries[::2], entries[1::2], strict=False):
        now_a_folder = name in folders and about.endswith(" D") and not about.startswith(":160000 ")
        if name in own or now_a_folder or any(name[:at] in own for at in _slashes(name)):
            found.append(name)
    return found


def _slashes(name: str) -> list[int]:
    return [at for at, letter in enumerate(name) if letter == "/"]


def pushing(top: str, remote: str, branch: str, commit: str) -> str:
    """The command that brings a commit to its remote: by its branch, or by a new one.

    A new one where the branch does not lead to the commit, and where the remote would refuse it: rebased since, or
    amended.
    """
    def goes_beyond(one: str, other: str) -> bool:
        return text(top, "rev-list", "--count", "--max-count=1", one, f"^{other}", "--") == "1"

    own, known = f"refs/heads/{branch}", f"refs/remotes/{remote}/{branch}"
    leads = branch and text(top, "rev-parse", "--verify", "--quiet", own) and not goes_beyond(commit, own)
    return typed(top, "push", remote, branch if leads and not goes_beyond(known, own)
                 else f"{commit}:refs/heads/task-{commit[:10]}")


def unknown(top: str, inside: list[Submodule]) -> dict[str, list[str]]:
    """{repository: its files that git does not know nor ignore}, of the checkout, the submodules `inside`, new ones."""
    places = dict.fromkeys([top, *(root for _, root, _ in (*inside, *_new_submodules(top, "HEAD")))])
    return {place: [name for name in run(place, "ls-files", "--others", "--exclude-standard", "-z").split("\0") if name]
            for place in places}


def from_top(found: dict[str, list[str]], top: str) -> list[str]:
    """What unknown() has found, by paths from the top."""
    return [os.path.relpath(place, top) + "/" + name if place != top else name
            for place, names in found.items() for name in names]


def strangers(top: str) -> list[str]:
    """Repositories that git knows here and that are no submodules, since .gitmodules does not name them."""
    links = [line.partition("\t")[2] for line in run(top, "ls-files", "--stage", "-z").split("\0")
             if line.startswith("160000 ")]
    named = _named(top, "") if links else []
    return [path for path in links if path not in named]


def _named(top: str, commit: str) -> list[str]:
    """The paths in the .gitmodules of a commit, or of the index ("")."""
    listed = text(top, "config", "--null", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"\.path$")
    return [entry.partition("\n")[2] for entry in listed.split("\0") if entry]


def submodules(top: str, commit: str, prefix: str = "", depth: int = 0) -> list[Submodule]:
    """The submodules of a commit ("" for one that is not here) that are checked out here, also nested ones."""
    found: list[Submodule] = []
    for path, place, pointed in _submodules(top, commit) if depth < DEEPEST else ():
        found += [(prefix + path, place, pointed), *submodules(place, pointed, f"{prefix}{path}/", depth + 1)]
    return found


def _submodules(top: str, commit: str) -> list[Submodule]:
    """Those of a commit itself."""
    paths = _named(top, commit) if commit else []
    found: list[Submodule] = []
    for line in run(top, "ls-tree", "-z", commit, "--", *paths).split("\0") if paths else ():
        about, _, path = line.partition("\t")
        place = os.path.join(os.path.realpath(top), path)
        if about.startswith("160000 ") and root(place) == place:
            found.append((path, place, about.split(" ")[2]))
    return found


def _new_submodules(top: str, since: str) -> list[Submodule]:
    """Those of the index that a commit does not have: all that is in them is new."""
    listed = run(top, "diff", "--cached", *RAW, since).split("\0")
    names = [name for about, name in zip(listed[::2], listed[1::2], strict=False) if about.split(" ")[1] == "160000"
             and not about.startswith(":160000 ")]
    places = [(name, os.path.join(os.path.realpath(top), name)) for name in names]
    nothing = text(top, "hash-object", "-t", "tree", "/dev/null") if places else ""
    return [(name, place, nothing) for name, place in places if root(place) == place]


def name_of(address: str) -> str:
    """The last part of a repository's address, without .git and a query."""
    path = address.partition("?")[0] if "://" in address else address
    return re.split(r"[/:]", path.rstrip("/"))[-1].removesuffix(".git")


def remote_of(top: str, branch: str = "") -> str:
    """The remote that a branch follows, else origin, else the only one; "" without any."""
    own = text(top, "config", "--get", f"branch.{branch}.remote") if branch else ""
    names = text(top, "remote").split()
    if own and own in names:
        return own
    return "origin" if "origin" in names else names[0] if names else ""


def follows(top: str, repository: str, branch: str) -> bool:
    """Whether a checkout stands on that branch, and takes it from that repository."""
    current = text(top, "symbolic-ref", "--short", "--quiet", "HEAD")
    remote = remote_of(top, current)
    return bool(remote) and current == branch and _address(top, remote) == repository


def is_on(top: str, branch: str, commit: str) -> bool:
    """Whether a checkout stands on that branch; without one, on no branch at that commit or one that follows it."""
    current = text(top, "symbolic-ref", "--short", "--quiet", "HEAD")
    if branch or current:
        return current == branch.removeprefix("refs/heads/")
    return not commit or text(top, "merge-base", commit, "HEAD") == text(top, "rev-parse", f"{commit}^{{commit}}")


def _address(top: str, remote: str) -> str:
    """As git has it, a login included; of a folder of this machine its path."""
    address = text(top, "remote", "get-url", "--", remote)
    if "://" not in address and not re.match(r"[^/]+:", address):
        return os.path.normpath(os.path.join(top, os.path.expanduser(address)))
    return address


def _folder(top: str, remote: str) -> str:
    """Where a remote of this machine stands; "" for any other."""
    address = _address(top, remote)
    return address.removeprefix("file://") if address.startswith(("/", "file://")) else ""


def is_there(top: str, remote: str, commit: str) -> bool:
    """Whether the remote has the commit: a local one is asked, of others what was last fetched, then their tips."""
    folder = _folder(top, remote)
    if folder:
        try:  # a colleague's, too, as a worker fetches from it
            asked = run(folder, "-c", "safe.directory=*", "cat-file", "--batch-check", stdin=f"{commit}^{{commit}}\n")
            return not asked.endswith(" missing\n")
        except tools.ToolFailed:  # it is away for now
            pass
    # unlike git branch --contains, this does not go through all history for a commit that is on none of them
    here = bool(text(top, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))
    if here and text(top, "rev-list", "--ignore-missing", "--count", "--max-count=1", commit, "--not",
                     f"--remotes={remote}") == "0":
        return True
    return commit in (_tips(top, remote) or "")


def _tips(top: str, remote: str) -> str | None:
    """What the remote's branches and tags point to; None when it does not answer."""
    try:
        return run(top, "ls-remote", "--", remote, timeout=NETWORK_TIMEOUT)
    except errors.Failure:
        return None


def text(path: str, *arguments: str, stdin: str = "") -> str:
    """git's answer without blanks around it; "" when it fails."""
    try:
        return run(path, *arguments, stdin=stdin).strip()
    except tools.ToolFailed:
        return ""


def run(path: str, *arguments: str, timeout: float | None = None, stdin: str = "") -> str:
    """git's stdout, in a directory; ToolFailed when it fails."""
    env = {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}
    return tools.run(["git", "-C", path, *arguments], env={**env, **ENVIRONMENT}, timeout=timeout,
                     stdin=stdin.encode("utf-8", "surrogateescape"))


def _bytes(path: str, *arguments: str) -> bytes:
    return run(path, *arguments).encode("utf-8", "surrogateescape")
