"""Logins and other secrets in URLs: found, masked, or taken out before a text is shown, stored, or put into an argv."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REDACTED = "[REDACTED]"
# as texts, compiled by who looks into one with an address

# what stands behind a login's @, or its last: host/, host:port, a name with a dot that is no version, an IP address
_HOST = (r"(?:[^/@\s'\"]*@)*(?:[^/:@?#\s'\"\\]+(?::\d+(?!\w)|/)|[\w.-]{1,253}\.[A-Za-z]{2,63}(?![\w-])"
         r"|\d+(?:\.\d+){3}(?![\w-])|\[)")
# what stands for a port: a number, or how templates (`{port}`, `<port>`), cmd and printf write one that is put in later
_PORT = r"(?:\d+|\{[^/@\s]*\}|<[^/@\s]*>|%(?:\w+%|\(\w+\)[sd]|[sd]))[/?#]"
# a login whose password has a slash that nobody has escaped, up to its @, right behind "://": behind the colon stands
# no port, nor a variable that may be one. In a repository's address a path may begin behind an empty port, and in
# ssh://host:path@version, as people write host:path. A limit, above which it is taken for a login, keeps long lines
# from taking long.
_REPOSITORY = r"(?:(?<=(?i:ssh|git)://)|(?<=(?i:http)://)|(?<=(?i:https)://))"
_LOGIN_WITH_SLASH = (rf"(?!(?<=(?i:ssh|git)://)[^@\s'\"\\]{{0,999}}(?:\.git@|@(?!{_HOST})))"
                     rf"(?!{_REPOSITORY}[^/:@\s'\"\[\\]*:[/?#][^@\s'\"\\]{{0,999}}@(?!{_HOST}))"
                     rf"[^/:@\s'\"\[\\]*:(?!{_PORT}|\$)([^/@\s'\"\\]{{0,999}}/[^@\s'\"\\]{{0,999}})@")
# a password, which may have an @, one with a slash in it, a token in the user's place
_LOGIN = (r"(://[^/@\s:]*:)(?:[^/\s'\"]+|[^/@\s]+)(?=@)|(https?://)[^/@\s:]{16,}(?=@)"
          rf"|(://(?={_LOGIN_WITH_SLASH})[^:]*:)[^@]*(?=@)")
# a URL with a query, and a value in it: a sentence may go on behind it, whose marks do not belong to it
_WITH_QUERY = r"(?i)\b[a-z][a-z0-9+.-]{0,40}://[^\s'\"\\`<>?]{0,2000}\?[^\s'\"\\`<>]*"
_VALUE = r"[?&]([^=&#?]+)=([^&#\s'\"\\`<>]+)"
_MARKS = ".,:;)}]"


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
    start = len(scheme + separator)
    slashed = re.compile(_LOGIN_WITH_SLASH).match(url, start)
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
    return without_query_secrets(without_login(text))


def without_login(text: str) -> str:
    """The text with user:password@ (and the token@ of an http URL) taken out of every URL in it."""
    if "@" not in text or "://" not in text:
        return text
    import re
    # up to the last @ before the path: a password may have one too
    text = re.sub(rf"(?i)\b(https?://)(?:{_LOGIN_WITH_SLASH})?(?:[^/\s'\"]*@)?", r"\1", text)
    text = re.sub(r"(?i)\b([a-z][a-z0-9+.-]{0,40}://[^/:@\s\[]*):[^/\s'\"]*@", r"\1@", text)
    return re.sub(rf"(?i)\b([a-z][a-z0-9+.-]{{0,40}}://(?={_LOGIN_WITH_SLASH})[^:]*):[^@]*@", r"\1@", text)


def masked(text: str, mask: str) -> str:
    """The text with `mask` for each password or token in an address, whose user stays, and without secret queries."""
    if "://" not in text:
        return text
    import re
    return without_query_secrets(re.sub(_LOGIN, lambda found: (found[1] or found[2] or found[3]) + mask, text))


def secrets_in(text: str) -> set[str]:
    """The passwords, tokens and secret values of queries in a text's addresses."""
    if "://" not in text:
        return set()
    import re
    # up to the last @ before the path, as split_url; up to the first as well, where no URL was meant that far
    passwords = re.findall(r"://[^/@\s:]*:([^/\s'\"]+)@", text) + re.findall(r"://[^/@\s:]*:([^/@\s]+)@", text)
    passwords += re.findall("://" + _LOGIN_WITH_SLASH, text)
    tokens = re.findall(r"https?://([^/@\s:]{16,})@", text)  # a token in the user's place
    queries = [value for value, _, _ in _query_secrets(text)]
    return {*passwords, *tokens, *queries}


def without_query_secrets(text: str) -> str:
    """The text with `[REDACTED]` for each value in a URL's query whose name is a secret's (`?private_token=…`)."""
    for _, begin, end in reversed(_query_secrets(text)):
        text = f"{text[:begin]}{REDACTED}{text[end:]}"
    return text


def _query_secrets(text: str) -> list[tuple[str, int, int]]:
    """(value, where it begins, where it ends) of each; none is `${NAME}`, a variable, or masked already."""
    if "://" not in text or "=" not in text or "?" not in text:
        return []
    import re

    from agentpipe.secret_names import is_secret_name
    values = [(found[2][0] + found[2][1:].rstrip(_MARKS), found.start(2))
              for url in re.finditer(_WITH_QUERY, text)
              for found in re.compile(_VALUE).finditer(text, url.start(), url.end())
              if is_secret_name(found[1].replace("-", "_")) and not found[2].startswith(("[", "${"))]
    return [(value, begin, begin + len(value)) for value, begin in values]
