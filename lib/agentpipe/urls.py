"""Names and passwords in URLs: taken out before a text is shown, stored, or put into an argv."""

from __future__ import annotations


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


def without_credentials(text: str) -> str:
    """The text with user:password@ (and the token@ of an http URL) taken out of every URL in it."""
    if "@" not in text or "://" not in text:
        return text
    import re
    # up to the last @ before the path: a password may have one too
    text = re.sub(r"(?i)\b(https?://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(?i)\b([a-z][a-z0-9+.-]*://[^/:@\s]+):[^/\s'\"]*@", r"\1@", text)
