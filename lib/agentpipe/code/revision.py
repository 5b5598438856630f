"""Which commit of a mirror a task means, by a hash, a tag, a branch or nothing; and what is said when there is none."""

from __future__ import annotations

import shlex

from agentpipe import errors, tools
from agentpipe.code import git

ORIGIN = "refs/remotes/origin/"


def commit(mirror: str, source: git.Source, name: str) -> str | None:
    """The whole hash of a commit that the mirror has under this name, or beginning of a hash."""
    try:
        found = tools.run(["git", "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}"],
                          cwd=mirror, env=source.environment())
    except tools.ToolFailed:
        return None
    return found.split()[-1]


def find(mirror: str, source: git.Source) -> str | None:
    """What the mirror has of that which the source names."""
    return next(filter(None, (commit(mirror, source, name) for name in refs(source))), None)


def refs(source: git.Source) -> list[str]:
    """What the source may mean, in the order in which it is looked for."""
    if source.commit:
        # a branch or a tag may be called like the beginning of a hash
        short = not git.is_whole_hash(source.commit)
        return [source.commit, *([ORIGIN + source.commit] if short else [])]
    if source.tag:
        # `git checkout NAME`, which the peer runs with whatever stands for a commit, takes a branch as well
        branches = [ORIGIN + source.tag, f"refs/remotes/{source.tag}"] if source.loose else []
        return [f"refs/tags/{source.tag}", *branches]
    return [ORIGIN + source.branch] if source.branch else [ORIGIN + "master", ORIGIN + "main"]


def is_ref(branch: str) -> bool:
    """Whether this is no branch but a whole ref: refs/pull/7/head of GitHub, refs/changes/… of Gerrit."""
    return branch.startswith("refs/")


def remote_branch(source: git.Source) -> str:
    """The ref on the server that the source's branch means."""
    return source.branch if is_ref(source.branch) else f"refs/heads/{source.branch}"


def not_there(source: git.Source, mirror: str) -> errors.Failure:
    """No such commit, tag or branch in the repository."""
    if source.commit:
        from agentpipe.code import git_failures
        return errors.Failure(f"{source} is not there", errors.NOT_FOUND, remedy=(
            f"{git_failures.pushing(source)}; or give the task another: agent-task edit --commit SHA"))
    if not source.tag and is_ref(source.branch):
        # such refs are made by the server (a pull request), and nobody pushes them
        below = shlex.quote(f"refs/{source.branch.split('/', 2)[1]}/*")
        return errors.Failure(f"{source} is not there", errors.NOT_FOUND, remedy=(
            f"see which there are: git ls-remote {shlex.quote(source.address)} {below}; or give the task "
            "another: agent-task edit --branch NAME"))
    if not source.named or not (_listed(mirror, source, ORIGIN) or _listed(mirror, source, "refs/tags")):
        return _no_default(source, mirror)
    name = source.tag or source.branch
    if source.tag and _listed(mirror, source, f"refs/tags/{name}"):
        return errors.Failure(f"the tag {name} of {source.url} is at no commit", errors.BAD_DATA,
                              remedy="give the task another: agent-task edit --branch NAME")
    near = _near(source, mirror)
    return errors.Failure(f"{source} is not there" + (f"; {near} may be meant" if near else ""), errors.NOT_FOUND,
                          remedy=f"push it from the checkout that has it: git push origin {shlex.quote(name)}, "
                                 "or give the task another: agent-task edit --branch NAME",
                          change=("--branch", near) if near and (source.loose or not source.tag) else ())


def _no_default(source: git.Source, mirror: str) -> errors.Failure:
    branches = _listed(mirror, source, ORIGIN)
    if not branches:
        page = "" if source.local else ", or what answers there is no git server (a page to log in)"
        return errors.Failure(f"{source.url} has no commits{page}", errors.NOT_FOUND,
                              remedy="push them from the checkout that has them: git push origin"
                              + (f"; or correct the URL: git ls-remote {source.address}" if page else ""))
    return errors.Failure(f"{source.url} has no default branch: its HEAD names one that is not there", errors.NOT_FOUND,
                          remedy=f"give the task one: agent-task edit --branch {shlex.quote(branches[0])}",
                          change=("--branch", branches[0]) if len(branches) == 1 else ())


def _near(source: git.Source, mirror: str) -> str:
    """A branch or tag of the mirror whose name is like the one that is not there."""
    import difflib
    branch = source.loose or not source.tag
    names, name = _listed(mirror, source, ORIGIN if branch else "refs/tags"), source.tag or source.branch
    if name.removeprefix("origin/") in names:
        return name.removeprefix("origin/")
    close = difflib.get_close_matches(name, names, 1, 0.6)
    return close[0] if close else ""


def _listed(mirror: str, source: git.Source, kind: str) -> list[str]:
    """The names of the refs below one, or of that one."""
    strip = 3 if kind == ORIGIN else 2
    try:
        return tools.run(["git", "for-each-ref", f"--format=%(refname:lstrip={strip})", kind], cwd=mirror,
                         env=source.environment()).split()
    except (errors.Failure, OSError):
        return []
