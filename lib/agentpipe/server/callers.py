"""Who sends a request: the Authorization header, or the cookie that auth.login set (server.md §3)."""

from __future__ import annotations

import binascii
from base64 import b64decode

from agentpipe.errors import ApiError
from agentpipe.server import keys
from agentpipe.server.tokens import Tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

COOKIE = "clearml_token_basic"
# endpoints that anybody may call
OPEN = {"login.supported_modes", "login.logout", "auth.fixed_users_mode", "debug.ping"}


def identify(tokens: Tokens, headers: Mapping[str, str], link: bool = False) -> dict[str, str]:
    """The caller that these headers prove: {user, key, session}; else 401 as ClearML says it.

    `link`: the request changes something, and a mere link makes its like.
    """
    given = headers.get("authorization")
    if given is None:
        token = _cookie(headers, link)
        if not token:
            raise refused(20, "missing credentials")
        return _of_token(tokens, token)
    scheme, _, value = given.partition(" ")
    if scheme.lower() == "bearer":
        return _of_token(tokens, value.strip())
    if scheme.lower() == "basic":
        return _of_keys(tokens, value.strip())
    raise refused(10, "bad authentication header type")


def known(tokens: Tokens, headers: Mapping[str, str]) -> dict[str, str] | None:
    """The caller, when the token was seen a moment ago; takes no time."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    payload = tokens.trusted(value.strip()) if scheme == "Bearer" else None
    return _caller(payload) if payload else None


def refused(subcode: int, text: str) -> ApiError:
    """401 in ClearML's words."""
    return ApiError(401, subcode, f"unauthorized ({text})")


def _of_token(tokens: Tokens, token: str) -> dict[str, str]:
    return _caller(tokens.check(token))


def _caller(payload: dict[str, Any]) -> dict[str, str]:
    return {"user": payload["identity"]["user"], "key": payload.get("agentpipe_key", ""),
            "session": payload["session_id"]}


def _of_keys(tokens: Tokens, value: str) -> dict[str, str]:
    try:
        key, colon, secret = b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        key = colon = secret = ""
    if not colon:
        raise refused(21, "malformed credentials")
    user = tokens.store.read(lambda db: keys.user_of(db, key, secret))
    if user is None:
        raise refused(22, "invalid credentials) (failed to locate provided credentials")
    return {"user": user, "key": key}


def _cookie(headers: Mapping[str, str], link: bool) -> str:
    """The cookie's token, unless a page of another site may have sent it in the name of who is logged in."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        own = site in ("none", "same-origin")
    else:  # browsers tell it over https and to this machine only; over http an Origin, but not with a link
        own = origin.partition("://")[2] == headers.get("host") if origin is not None else not link
    if not own:
        return ""
    from http.cookies import CookieError, SimpleCookie
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
