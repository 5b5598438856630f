"""`git+URL@branch` in a requirement list: the commit it means today, so that the cache's key can hold it."""

from __future__ import annotations

import os
import re
import shlex

from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentpipe.code.git import Source
    from agentpipe.environment.requirements import Requirements
    from agentpipe.job import Job

# git+https://host/repository.git@ref#egg=…; the user part of ssh://git@host is no ref
LINE = re.compile(r"(?P<head>.*?\bgit\+)(?P<url>\w+://[^/\s]*[^@#\s]*)(?:@(?P<ref>[^#\s]+))?(?P<tail>.*)$", re.DOTALL)
SHORT = re.compile(r"[0-9a-f]{7,39}")  # the beginning of a hash
COMMIT = re.compile(r"[0-9a-f]{4,40}")  # or what may be one, for the installer to find
OWN = re.compile(r"\bgit\+git://(?:[^/@\s]*@)?([^/:@\s]+)(?::\d+)?/")


def settle(job: Job, asked: Requirements) -> None:
    """Put a commit into every line of a repository, and its password aside: what is installed is then one thing.

    Variables (`${TOKEN}`) have their values for git alone: what is recorded keeps their names.
    """
    if not any("git+" in line for line in [*asked.packages, *asked.constraints]):
        return

    def settled(lines: list[str]) -> list[str]:
        # git's own transport knows no login and has been switched off by those who host; the peer asks by ssh too
        lines = [OWN.sub(r"git+ssh://git@\1/", line) for line in lines]
        asked.secrets += [_whole(line) for line in lines if "git+" in line]
        return [without_password(pinned(job, line, asked.variables)) if "git+" in line else line for line in lines]

    asked.secrets = []
    asked.packages, asked.constraints = settled(asked.packages), settled(asked.constraints)


def unsettled(asked: Requirements) -> bool:
    """Whether a line of a repository names no commit: what it means today, another day it need not."""
    found = (LINE.match(line) for line in [*asked.packages, *asked.constraints] if "git+" in line)
    return any(match and not COMMIT.fullmatch(match["ref"] or "") for match in found)


def pinned(job: Job, line: str, variables: Mapping[str, str] | None = None) -> str:
    """The line with a commit in place of a branch, a tag or nothing; git gets the installers' `variables` (a proxy).

    When the server cannot be reached, the commit of last time is taken and said so; without one the line stays as it
    is and the installer will say what is wrong. Failure 66 for what a server does not have, 77 for a login it refuses.
    """
    from agentpipe.code import git, proofs
    match, whole = LINE.match(line), LINE.match(_whole(line))
    if not match or not whole:
        return line
    url, ref = whole["url"], whole["ref"] or "HEAD"
    source = git.Source(url)
    source.variables = variables or {}
    if re.fullmatch(r"[0-9a-f]{40}", ref):
        proofs.check(job, source)
        return line
    memory = _memory(url, ref)
    known = _remembered(memory) if SHORT.fullmatch(ref) else ""
    if known.startswith(ref) and known:  # what learn() has seen stays what it is
        proofs.check(job, source)
        return f"{match['head']}{match['url']}@{known}{match['tail']}"
    commit = _asked(job, source, ref)
    if commit:
        if not job.option("dry_run"):
            _remember(memory, commit)
    else:
        from agentpipe.environment import wheelhouse_repositories
        commit = _remembered(memory) or wheelhouse_repositories.commit_of(url, ref)
        if not commit or not proofs.known(source):
            return line
        job.say(f"cannot ask {without_credentials(url)}, its commit of last time is taken: {commit}")
    return f"{match['head']}{match['url']}@{commit}{match['tail']}"


def learn(job: Job, asked: Requirements, packages: list[str]) -> list[str]:
    """The list's lines with whole hashes for beginnings of some, by the packages that came of them
    ("name @ git+URL@…"); they are remembered, so that the next task need not ask: but not what a container says."""
    from agentpipe.place import apart
    lines = list(asked.packages)
    places = [place for place, line in enumerate(lines) if "git+" in line]
    for place, secret in zip(places, asked.secrets, strict=False):
        match, whole = LINE.match(lines[place]), LINE.match(secret)
        ref = (whole and whole["ref"]) or ""
        commit = next((found[1] for package in packages if match and SHORT.fullmatch(ref)
                       and (found := re.search(rf"git\+{re.escape(match['url'])}@({ref}[0-9a-f]+)", package))), "")
        if match and whole and commit:
            if not apart.folder(job):
                _remember(_memory(whole["url"], ref), commit)
            lines[place] = f"{match['head']}{match['url']}@{commit}{match['tail']}"
    return lines


def _asked(job: Job, source: Source, ref: str) -> str:
    """The commit, from the server; "" when it does not answer (the installer's own words say why)."""
    from agentpipe import errors, tools
    from agentpipe.code import git_failures, proofs
    from agentpipe.settings.offline import offline
    if offline():
        return ""
    names = _names(ref)
    try:
        answer = job.run(["git", "ls-remote", "--", source.address, *names], env=source.asking(), timeout=60)
    except tools.ToolFailed as failed:
        failure = git_failures.explained(failed, source)
        # a variable in a login is the installer's to fill in; a disk that is not mounted is as a server that is away
        refused = failure and (failure.exit == errors.NO_PERMISSION
                               or (failure.exit == errors.NOT_FOUND and not source.local))
        if failure and refused and "${" not in f"{source.user}{source.password}{source.url}":
            raise failure from None
        return ""
    except errors.Failure:
        return ""
    proofs.keep(job, source)
    # git takes a name as the end of one: a/refs/heads/main is also an answer to refs/heads/main
    found = {name: commit for commit, _, name in (line.partition("\t") for line in answer.splitlines())}
    commit = next((found[name] for name in names if name in found), "")
    # the beginning of a hash, which no server looks up, is the installer's to find
    if commit or COMMIT.fullmatch(ref):
        return commit
    raise errors.Failure(
        f"there is no branch or tag {ref} in {source.url}" if ref != "HEAD" else f"{source.url} is empty",
        errors.NOT_FOUND, remedy=f"push it there, or name another one in the requirements: "
                                 f"git ls-remote {shlex.quote(source.url)}")


def _names(ref: str) -> list[str]:
    """What `ref` may mean, as the installer tries it: a branch, then a tag (the commit that it names)."""
    if ref == "HEAD" or ref.startswith("refs/"):
        return [f"{ref}^{{}}", ref]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]


def _memory(url: str, ref: str) -> str:
    import hashlib

    from agentpipe import paths
    name = hashlib.sha256(f"{url}\0{ref}".encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return paths.cache("git-pins", name)


def _remember(path: str, commit: str) -> None:
    from agentpipe import files
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.publish(path, commit.encode())


def _remembered(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def without_password(line: str) -> str:
    """The line as it may stand in an argv, where uv and pip put a repository's URL: with a user's name at most."""
    from agentpipe.code import git
    match = LINE.match(line)
    if not match:
        return line
    source = git.Source(match["url"])
    if source.url == match["url"] or not (source.brought_login() or source.user is None
                                          or "${" in _userinfo(match["url"])):
        return line
    return f"{match['head']}{source.url}{'@' + match['ref'] if match['ref'] else ''}{match['tail']}"


def _whole(line: str) -> str:
    """The line with the values of its variables; what a variable brings before the @ alone is a token."""
    from agentpipe.environment.requirements import filled
    match = LINE.match(line)
    userinfo = _userinfo(match["url"]) if match else ""
    if "${" in userinfo and ":" not in userinfo:
        line = line.replace(f"//{userinfo}@", f"//{userinfo}:@", 1)
    return filled(line)


def _userinfo(url: str) -> str:
    from agentpipe.urls import login_of
    return login_of(url).removesuffix("@")


def access(job: Job, lines: list[str]) -> dict[str, str]:
    """What git needs to get at the repositories of these lines, as environment of the installer that runs it.

    It may hold passwords; where the task runs in a place that our environment does not reach, none that fits none of
    these repositories. An address that is asked for otherwise (ssh for https) is rewritten by git itself, so that what
    is recorded stays as the task has it.
    """
    from agentpipe.code import git, git_access
    from agentpipe.place import inside
    if not lines:
        return {}
    env: dict[str, str] = {}
    settings: list[tuple[str, str]] = []
    urls = []
    for number, line in enumerate(lines):
        match = LINE.match(line)
        source = git.Source(match["url"] if match else "")
        if source.has_login():
            env[f"AGENT_GIT_USER_R{number}"] = source.user or ""
            env[f"AGENT_GIT_PASSWORD_R{number}"] = source.password or ""
            helper = git_access.login_helper(f"_R{number}")
            settings += [(f"credential.{source.url}.helper", ""), (f"credential.{source.url}.helper", helper)]
        elif source.url:
            urls.append(source.url)
    more, configured = git_access.variables(map(git_access.address, urls), inside.isolated(job))
    rewritten = git_access.rewritten(urls)
    whole = git.with_ssh(git.environment(env | more, [*rewritten, *configured, *settings], local=True))
    del whole["GIT_LITERAL_PATHSPECS"]
    return {name: value for name, value in whole.items() if os.environ.get(name) != value}
