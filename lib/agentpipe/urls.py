"""Names and passwords in URLs: taken out before a text is shown, stored, or put into an argv."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def split_url(url: str) -> tuple[str, str | None, str | None]:
    """(URL without credentials, user, password); only http(s) has them, an ssh URL keeps its user."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if not separator or not at:
        return url, None, None
    user, _, password = userinfo.partition(":")
    if scheme.lower() in ("http", "https"):
        from urllib.parse import unquote
        return f"{scheme}://{host}{slash}{path}", unquote(user), unquote(password)
    return f"{scheme}://{user}@{host}{slash}{path}", None, None


def for_a_task(address: str, say: Callable[[str], None]) -> str:
    """A repository's address that somebody typed, as a task has it: without a login, which is said."""
    found = without_login(address)
    if found != address:
        say("the login in --repo stays out of the task: a worker takes its own (agent.git_user and agent.git_pass, or "
            "what its user's git has: agent-fetch(1))")
    return found


def without_credentials(text: str) -> str:
    """The text as it may be shown: no user:password@ (nor the token@ of an http URL), secret query values masked."""
    text = without_login(text)
    if "?" not in text or "://" not in text:
        return text
    from agentpipe.redact import without_query_secrets
    return without_query_secrets(text)


def without_login(text: str) -> str:
    """The text with user:password@ (and the token@ of an http URL) taken out of every URL in it."""
    if "@" not in text or "://" not in text:
        return text
    import re
    # up to the last @ before the path: a password may have one too
    text = re.sub(r"(?i)\b(https?://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(?i)\b([a-z][a-z0-9+.-]*://[^/:@\s]+):[^/\s'\"]*@", r"\1@", text)
