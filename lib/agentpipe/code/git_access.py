"""How git gets at a repository: the address that it is asked for, and whose name and password it shows there.

The keys are ClearML Agent's (agent.git_user, agent.git.extra_credentials, agent.translate_ssh, …). A password goes to
git through its environment and a credential helper that prints it: none stands in an argv, a file or a log. Where
nothing is configured for a host, this user's own helpers, ssh keys and .netrc answer as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agentpipe.settings import config, forms

EXTRA = "agent.git.extra_credentials"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    Settings = list[tuple[str, str]]

URL = re.compile(r"(?P<scheme>https?|ssh)://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^]/]*\]|[^:/]*)(?::(?P<port>\d+))?/"
                 r"(?P<path>.*)$", re.IGNORECASE | re.DOTALL)
SCP = re.compile(r"(?:(?P<user>[^@/:]+)@)?(?P<host>\[[^]/]*\]|[^@/:]+):(?P<path>[^:].*|)$", re.DOTALL)


class Login:
    """A user and a password (or token) for `host`: a host's name, or the beginning of URLs; "" for any host.

    `kind` "Bearer" or "Basic": the password is a token that goes into such a header.
    """

    __slots__ = ("host", "kind", "password", "user")

    def __init__(self, host: str, user: str, password: str, kind: str = "") -> None:
        self.host, self.user, self.password, self.kind = host.strip().rstrip("/"), user, password, kind

    def fits(self, url: str) -> bool:
        """Whether this http(s) URL gets them."""
        match = URL.match(url)
        if not match or not match["scheme"].lower().startswith("http"):
            return False
        if not self.host:
            return True
        if by_prefix():
            return _begins(url.lower(), self.host.lower())
        host = self.host.partition("://")[2] or self.host
        return host.lower() in (match["host"].lower(), f"{match['host']}:{match['port']}".lower())

    def is_for(self, url: str) -> bool:
        """Whether git may show them for this URL: it fits, or lies below one of the scopes."""
        return self.fits(url) or any(_begins(url.lower(), scope.lower()) for scope in self.scopes())

    def scopes(self) -> list[str]:
        """The URLs below which git itself is to offer them (git-config(1), credential.<url>)."""
        if not self.host:
            return []
        return [self.host] if "://" in self.host else [f"https://{self.host}", f"http://{self.host}"]


def by_prefix() -> bool:
    """Whether hosts in the configuration are the beginnings of URLs: tokens for a group, or a project."""
    return config.flag("agent.git_host_match_prefix")


def logins() -> list[Login]:
    """What is configured, in the order in which it is tried: agent.git.extra_credentials, then the one pair."""
    found = extra_logins()
    user, password = config.get("agent.git_user"), config.get("agent.git_pass")
    kind = _token_kind()
    if password and (user or kind):
        found.append(Login(config.get("agent.git_host") or "", user or "", password, kind))
    return found


def extra_logins() -> list[Login]:
    """The entries of agent.git.extra_credentials that are whole."""
    return [Login(*map(str, told)) for told in map(_told, _entries()) if all(told)]


def unused(url: str = "") -> list[tuple[str, str]]:
    """What is configured and not used, since the rest of it is missing, with what to do; with `url` what would fit it.
    """
    found = []
    user, password, host = (config.get(f"agent.git_{name}") for name in ("user", "pass", "host"))
    if bool(user) != bool(password) and not (password and _token_kind()) and _would_fit(host, url):
        there, missing = ("agent.git_user", "agent.git_pass") if user else ("agent.git_pass", "agent.git_user")
        found.append((f"{there} is set and {missing} is not: neither is used", f"set {missing} too"))
    for number, told in enumerate(map(_told, _entries()), 1):
        if not all(told) and _would_fit(told[0], url):
            lacks = " and ".join(name for name, word in zip(("host", "user", "pass"), told, strict=True) if not word)
            found.append((f"entry {number} of {EXTRA} lacks {lacks}: it is not used",
                          f"write it as {{host: HOST, user: USER, pass: TOKEN}}, in {config.origin(EXTRA)[1]}"))
    return found


def _entries() -> list[Any]:
    entries = config.value(EXTRA)
    entries = config.parsed(entries) if isinstance(entries, str) else entries
    return entries if isinstance(entries, list) else [entries] if entries else []


def _told(entry: Any) -> tuple[Any, Any, Any]:
    """Host, user and password of an entry; None for what it lacks."""
    if not isinstance(entry, dict):
        return None, None, None
    return (entry.get("host") or None, entry.get("user") or entry.get("username") or None,
            entry.get("pass") or entry.get("password") or None)


def _would_fit(host: Any, url: str) -> bool:
    return not host or not url or Login(str(host), "", "").fits(url)


def login_for(url: str) -> Login | None:
    """The first that fits this http(s) URL."""
    return next((login for login in logins() if login.fits(url)), None)


def address(url: str) -> str:
    """What git is asked for in the place of `url`: https for ssh where a login fits, ssh for https where forced."""
    match = URL.match(url)
    if match and match["scheme"].lower() != "ssh":
        return forced(url) or url
    if not match and ("://" in url or url.startswith("/")):
        return url
    match = match or SCP.match(url)
    if not match:
        return url
    path = match["path"].lstrip("/") if match.re is SCP else match["path"]
    if config.flag("agent.translate_ssh", True) and not config.flag("agent.force_git_ssh_protocol"):
        translated = f"{forms.web_scheme()}://{match['host']}/{path}"
        if login_for(translated):
            return translated
    user, port = config.get("agent.force_git_ssh_user"), forms.ssh_port()
    if not user and not port:
        return url
    # user@host:path is below the home; a server of repositories makes no difference
    return _ssh(user or match["user"] or "git", match["host"], port or match.groupdict().get("port"), path)


def variables(urls: Iterable[str], only: bool = False) -> tuple[dict[str, str], Settings]:
    """(environment, git settings) with which git gets the configured logins for these URLs.

    Those that name a host are offered to git below that as well; with `only` none that fits none of these URLs.
    """
    found, urls = logins(), list(urls)
    env: dict[str, str] = {}
    settings: Settings = []
    numbers = [(number, login) for number, login in enumerate(found) if not only or any(map(login.is_for, urls))]
    for number, login in numbers:
        env[f"AGENT_GIT_USER_{number}"], env[f"AGENT_GIT_PASSWORD_{number}"] = login.user, login.password
    # git takes the last of those that fit equally well, and the empty helper keeps this user's own from storing it
    for number, login in reversed(numbers):
        for scope in login.scopes():
            settings += offer(scope, number, login)
    for url in urls:
        for number, login in numbers:
            if login.fits(url):
                # who fits a host fits all of it: submodules, files of Git LFS
                settings += offer(url if by_prefix() and login.host else _origin(url), number, login)
                break
    return (env, settings) if settings else ({}, [])


def rewritten(urls: Iterable[str]) -> Settings:
    """git settings that make git itself ask at the address() of these URLs (url.….insteadOf).

    The whole host's, for submodules, unless logins are for parts of it.
    """
    settings: Settings = []
    for url in urls:
        other, match = address(url), URL.match(url)
        if other == url:
            continue
        if not match or by_prefix() or not other.endswith(match["path"]):
            settings.append((f"url.{other}.insteadOf", url))
            continue
        base = other[:len(other) - len(match["path"])]
        settings.append((f"url.{base}.insteadOf", url[:len(url) - len(match["path"])]))
        if match["scheme"].lower() == "ssh":
            settings.append((f"url.{base}.insteadOf", f"{match['user'] or 'git'}@{match['host']}:"))
    return settings


def _token_kind() -> str:
    if config.flag("agent.git_use_ms_entra_token"):
        return "Bearer"
    return "Basic" if config.flag("agent.git_use_azure_pat") else ""


def offer(scope: str, number: int, login: Login) -> Settings:
    """git settings that offer this login below a URL."""
    if login.kind:
        token = login.password
        if login.kind == "Basic":
            import base64
            token = base64.b64encode(f":{login.password}".encode()).decode()
        # an empty value drops what was set before
        return [(f"http.{scope}.extraHeader", ""),
                (f"http.{scope}.extraHeader", f"Authorization: {login.kind} {token}")]
    return [(f"credential.{scope}.helper", ""), (f"credential.{scope}.helper", login_helper(f"_{number}"))]


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _begins(url: str, prefix: str) -> bool:
    """Whether the URL begins so, also without its scheme; a host's name only counts whole."""
    for text in (url, url.partition("://")[2]):
        if text.startswith(prefix):
            bare = prefix.partition("://")[2] or prefix
            return "/" in bare or text[len(prefix):len(prefix) + 1] in ("", "/", ":")
    return False


def forced(url: str) -> str:
    """The ssh address of an http(s) one where agent.force_git_ssh_protocol says so, else ""."""
    match = URL.match(url)
    if not match or match["scheme"].lower() == "ssh" or not config.flag("agent.force_git_ssh_protocol"):
        return ""
    only = config.get("agent.git_host")
    if only and not Login(only, "", "").fits(match[0]):
        return ""
    return _ssh(config.get("agent.force_git_ssh_user") or "git", match["host"],
                forms.ssh_port(), match["path"])


def _ssh(user: str, host: str, port: str | None, path: str) -> str:
    return f"ssh://{user}@{host}{f':{port}' if port else ''}/{path.lstrip('/')}"


def login_helper(number: str) -> str:
    """The credential helper that prints what AGENT_GIT_USER and …_PASSWORD of that number hold; it stores nothing."""
    return ('!f() { test "$1" = get || return 0; printf "username=%s\\npassword=%s\\n" '
            f'"$AGENT_GIT_USER{number}" "$AGENT_GIT_PASSWORD{number}"; }}; f')
