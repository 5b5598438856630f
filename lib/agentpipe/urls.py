"""Names and passwords in URLs: taken out before a text is shown, stored, or put into an argv."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def split_url(url: str) -> tuple[str, str | None, str | None]:
    """(URL without credentials, user, password); only http(s) has them, an ssh URL keeps its user."""
    scheme, _, rest = url.partition("://")
    login = login_of(url)
    if not login:
        return url, None, None
    user, _, password = login[:-1].partition(":")
    if scheme.lower() in ("http", "https"):
        from urllib.parse import unquote
        return f"{scheme}://{rest[len(login):]}", unquote(user), unquote(password)
    return f"{scheme}://{user}@{rest[len(login):]}", None, None


def login_of(url: str) -> str:
    """What stands before the host of an address, behind its "://" and with the @; "" when nothing does."""
    scheme, separator, rest = url.partition("://")
    if not separator or "@" not in rest:
        return ""
    import re

    from agentpipe.redact import LOGIN_WITH_SLASH
    start = len(scheme + separator)
    slashed = re.compile(LOGIN_WITH_SLASH).match(url, start)
    begin = slashed.end() - start if slashed else 0
    return rest[:begin + rest[begin:].partition("/")[0].rfind("@") + 1]


def for_a_task(address: str, say: Callable[[str], None], whose: str = "in --repo") -> str:
    """A repository's address as a task has it: without the login `whose` it is, which is said."""
    found = without_login(address)
    if found != address:
        say(f"the login {whose} stays out of the task: a worker takes its own (agent.git_user and agent.git_pass, or "
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

    from agentpipe.redact import LOGIN_WITH_SLASH
    # up to the last @ before the path: a password may have one too
    text = re.sub(rf"(?i)\b(https?://)(?:{LOGIN_WITH_SLASH})?(?:[^/\s'\"]*@)?", r"\1", text)
    text = re.sub(r"(?i)\b([a-z][a-z0-9+.-]{0,40}://[^/:@\s\[]*):[^/\s'\"]*@", r"\1@", text)
    return re.sub(rf"(?i)\b([a-z][a-z0-9+.-]{{0,40}}://(?={LOGIN_WITH_SLASH})[^:]*):[^@]*@", r"\1@", text)
