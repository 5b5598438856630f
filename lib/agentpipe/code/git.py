"""git as this program calls it: which repository a task means, with what environment, and what its errors mean.

Nothing of a repository is executed: no hooks, no fsmonitor, no `ext::` transport; filters come from this user's own
configuration alone. Nothing is asked at a terminal, and this user's configuration is read but never written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from agentpipe import errors, tools
from agentpipe.settings.offline import offline
from agentpipe.urls import login_of, split_url, without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# what `git rev-parse --local-env-vars` names: they would point git at another repository (we may run in a hook)
LOCAL_VARIABLES = ("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_OBJECT_DIRECTORY",
                   "GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_INDEX_FILE",
                   "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_PREFIX", "GIT_SHALLOW_FILE",
                   "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_TEMPLATE_DIR", "GIT_INTERNAL_SUPER_PREFIX")
# what to do about a filter that fails: it is this user's own
MEND_FILTER = "mend or remove it here: git config --global --get-regexp '^filter'"

SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    # a commit is the same bytes on every machine; what its .gitattributes say holds
    "core.autocrlf": "false",
    "protocol.ext.allow": "never",
    "safe.directory": "*",
    # a mirror is one, and ours: `explicit` is meant for what stands hidden in a checkout
    "safe.bareRepository": "all",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    # one pack per fetch: a checkout links a few packs instead of thousands of loose objects
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    # parallel checkout of many files (git only does so above a hundred)
    "checkout.workers": "0",
}

# no master that stays behind for the next connection: it would outlive the task that it belongs to
SSH = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oControlMaster=no -oControlPersist=no"
REMOTE = ("https", "http", "ssh", "git")
# a user of this length without a password is no name (redact.py masks those too)
TOKEN_LENGTH = 16


class Source:
    """Which state of which repository: `url` without credentials; `user` and `password` are those that stood in it.

    `loose`: the tag may also be a branch. `mirror` is where its copy stands, "" for its place in the cache. `variables`
    are more of git's environment: a proxy.
    """

    __slots__ = ("_address", "_told", "branch", "commit", "local", "loose", "mirror", "password", "tag", "url", "user",
                 "variables")

    def __init__(self, url: str, commit: str = "", tag: str = "", branch: str = "") -> None:
        self.url, self.user, self.password = split_url(url)
        self.commit, self.tag, self.branch, self.loose = commit, tag, branch, False
        self.mirror = ""
        self.variables: Mapping[str, str] = {}
        self.local = self.url.startswith(("/", "file://"))
        self._address = ""
        # "https://user:@host": that the password is empty
        self._told = ":" in login_of(url)

    def __str__(self) -> str:
        kind = "tag or branch" if self.loose else "tag"
        wanted = ((self.commit and f"commit {self.commit}") or (self.tag and f"{kind} {self.tag}")
                  or (self.branch and f"branch {self.branch}") or "default branch")
        return f"{wanted} of {without_credentials(self.url)}"

    @property
    def named(self) -> bool:
        """Whether it says which state: without, the remote's default branch is meant."""
        return bool(self.commit or self.tag or self.branch)

    @property
    def address(self) -> str:
        """What git is asked for: the URL, or what the configuration (agent.translate_ssh …) makes of it."""
        if not self._address:
            if self.local or self.has_login():
                self._address = self.url
            else:
                from agentpipe.code import git_access
                self._address = git_access.address(self.url)
        return self._address

    def environment(self, *others: str) -> dict[str, str]:
        """git's environment for this source: the one place where logins come in; `others` are further addresses."""
        return {**self._environment(*others), **self.variables}

    def _environment(self, *others: str) -> dict[str, str]:
        if self.local:
            return environment(local=True)
        from agentpipe.code import git_access
        # a name alone (https://me@host/…) counts where no login is configured
        if not self.has_login() and (self.password is None or self.address != self.url
                                     or git_access.login_for(self.url)):
            env, settings = git_access.variables((self.address, *others))
            # what asks by itself (Git LFS) goes the same way
            return environment(env, [*git_access.rewritten([self.url]), *settings])
        host = "/".join(self.url.split("/", 3)[:3])
        if not self.user:  # of a helper's answer without a user git shows nothing
            token = git_access.Login("", "", self.password or "", "Basic")
            return environment(settings=[(f"credential.{host}.helper", ""), *git_access.offer(host, 0, token)])
        more = {"AGENT_GIT_USER": self.user, "AGENT_GIT_PASSWORD": self.password or ""}
        helper = git_access.login_helper("")
        # the empty one first: this user's own helpers must neither answer nor store what stood in the URL
        return environment(more, [(f"credential.{host}.helper", ""), (f"credential.{host}.helper", helper)])

    def brought_login(self) -> bool:
        """Whether the URL had one in it: a password, or a token in the user's place."""
        return self.password is not None and (self._told or bool(self.password)
                                              or len(self.user or "") >= TOKEN_LENGTH)

    def has_login(self) -> bool:
        """Whether it is asked for with a login that its URL had, since no ssh is forced in its place."""
        if not self.brought_login():
            return False
        from agentpipe.code import git_access
        return not git_access.forced(self.url)

    def asking(self) -> dict[str, str]:
        """The environment in which git asks the server: ssh without questions, logins also for an address that this
        user's own `url.….insteadOf` leads to."""
        if self.local:
            return environment(local=True)
        env = self.environment()
        meant = tools.run(["git", "ls-remote", "--get-url", "--", self.address], env=env, cwd="/", check=False).strip()
        if meant and meant != self.address:
            env = self.environment(without_credentials(meant))
        return with_ssh(env)


def source_of(script: dict[str, Any]) -> Source | None:
    """The source that a task's `script` names, or None without a repository. Fields that git could misread: 65."""
    url = _field(script, "repository")
    if not url:
        return None
    commit, tag, branch = (_field(script, name) for name in ("version_num", "tag", "branch"))
    tag, branch = tag.removeprefix("refs/tags/"), branch.removeprefix("refs/heads/")
    # a branch of that name is what a checkout without one records
    commit, branch = ("" if name in ("HEAD", "@") else name for name in (commit, branch))
    if commit.startswith("refs/") and not commit.startswith(("refs/heads/", "refs/tags/")):
        commit, tag, branch = "", "", commit  # the whole name of a ref (refs/pull/7/head) is no tag's
    loose = bool(commit) and not is_hash(commit) and commit != branch
    if commit and not is_hash(commit):
        # the peer hands whatever stands here to `git checkout`: a tag, or a branch
        commit, tag = "", commit.removeprefix("refs/tags/").removeprefix("refs/heads/") if loose else tag
    for name, value in (("tag", tag), ("branch", branch)):
        if any(character in " ~^:?*[\\" or character < " " for character in value) or ".." in value:
            raise errors.Failure(f"script.{name} is not a name that git allows: {value!r}", errors.BAD_DATA)
    source = Source(check_url(url), commit, tag, branch)
    source.loose = loose
    return source


def is_hash(text: str) -> bool:
    """Whether it can be a commit's hash, abbreviated or whole."""
    return 4 <= len(text) <= 64 and all(character in "0123456789abcdefABCDEF" for character in text)


def is_whole_hash(text: str) -> bool:
    """A full SHA-1 or SHA-256: what a server can be asked for."""
    return len(text) in (40, 64) and is_hash(text)


def check_url(url: str, where: str = "script.repository") -> str:
    """The URL itself, when its transport is one we use; else Failure 65 (never naming what may be a password)."""
    shown = without_credentials(url)
    scheme, separator, rest = url.partition("://")
    nowhere = scheme.lower() in REMOTE and bool(separator) and not rest.partition("/")[0].rpartition("@")[2]
    if url.startswith("-") or nowhere or any(character < " " for character in url):
        raise errors.Failure(f"{where} is not an address that git could clone: {shown!r}", errors.BAD_DATA)
    if separator and (scheme.lower() in REMOTE or (scheme == "file" and rest.startswith("/"))) and rest:
        return url
    host, colon, path = url.partition(":")
    if separator or path.startswith(":"):
        raise errors.Failure(f"{where} has a transport that is not allowed: {shown}", errors.BAD_DATA,
                             remedy="use https://, ssh://, git@host:path, or an absolute path")
    if url.startswith("/") or (colon and path and "/" not in host and not host.rpartition("@")[2].startswith("-")):
        return url
    raise errors.Failure(f"{where} is a relative path: {shown}", errors.BAD_DATA,
                         remedy="give the absolute path (realpath), or a URL")


def environment(more: dict[str, str] | None = None, settings: Iterable[tuple[str, str]] = (),
                local: bool = False) -> dict[str, str]:
    """The whole environment of a git process; `settings` come on top of ours, `local` allows the file transport."""
    env = {name: value for name, value in os.environ.items() if name not in LOCAL_VARIABLES}
    count = _settings_given(env.get("GIT_CONFIG_COUNT") or "0")
    for key, value in (*SETTINGS.items(), *settings):
        env[f"GIT_CONFIG_KEY_{count}"], env[f"GIT_CONFIG_VALUE_{count}"] = key, value
        count += 1
    env["GIT_CONFIG_COUNT"] = str(count)
    # messages are parsed, so they must be English
    env.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_ALLOW_PROTOCOL=":".join((*REMOTE, *(["file"] * local))),
               GIT_LITERAL_PATHSPECS="1", SSH_ASKPASS_REQUIRE="never",
               GIT_DEFAULT_REF_FORMAT="files")  # checkout.py lays refs out itself
    # an empty GIT_ASKPASS keeps git from opening a window through SSH_ASKPASS
    # over http: one that sends nothing at all is given up, however slow another is
    for name, value in (("GIT_ASKPASS", ""), ("GIT_HTTP_LOW_SPEED_LIMIT", "1"), ("GIT_HTTP_LOW_SPEED_TIME", "60")):
        env.setdefault(name, value)
    if offline():
        env["GIT_LFS_SKIP_SMUDGE"] = "1"  # a checkout asks the server for its files
    env.update(more or {})
    return env


def _settings_given(count: str) -> int:
    if not count.isdigit():
        raise errors.Failure(f"GIT_CONFIG_COUNT wants a number, and is {count!r}", errors.BAD_CONFIG,
                             remedy="unset GIT_CONFIG_COUNT")
    return int(count)


def with_ssh(env: dict[str, str]) -> dict[str, str]:
    """The same, with an ssh that never asks and gives up on a dead connection, unless the user has chosen one."""
    if "GIT_SSH_COMMAND" in env or "GIT_SSH" in env:
        return env
    if tools.run(["git", "config", "--get", "core.sshCommand"], env=env, cwd="/", check=False).strip():
        return env
    return {**env, "GIT_SSH_COMMAND": SSH}


def config_text(sections: Iterable[tuple[str, dict[str, str]]]) -> str:
    """A git configuration file; values are quoted as git-config(1) wants them."""
    lines = []
    for section, values in sections:
        lines.append(f"[{section}]")
        for key, value in values.items():
            quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
            lines.append(f'\t{key} = "{quoted}"')
    return "\n".join(lines) + "\n"


def _field(script: dict[str, Any], name: str) -> str:
    value = str(script.get(name) or "").strip()
    if value.startswith("-"):
        raise errors.Failure(f"script.{name} begins with a dash: {without_credentials(value)!r}", errors.BAD_DATA,
                             remedy=f"correct script.{name} of the task")
    return value
