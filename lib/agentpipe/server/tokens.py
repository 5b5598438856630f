"""Tokens: JWT that the server signs, as the clearml package reads them (server.md §3)."""

from __future__ import annotations

import secrets
import time

from agentpipe.errors import ApiError
from agentpipe.server import keys
from agentpipe.server.common import COMPANY, COMPANY_NAME, error
from agentpipe.server.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

API_VERSION = "2.34"
SERVER_VERSION = "2.3.0"
MONTH, YEAR = 30 * 86400, 365 * 86400
# how long a token that was found good is not looked at again (s): a revoked key or session ends after it
TRUSTED_SECONDS = 10
MOST_TRUSTED = 10_000


class Tokens:
    """Makes and checks a store's tokens; safe for several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._secret = store.read(_secret) or store.transaction(_new_secret)
        self._trusted: dict[str, tuple[float, dict[str, Any] | None]] = {}

    def issue(self, user: str, key: str = "", seconds: Any = None, session: str = "") -> str:
        """A token of a user, made by that access key; `seconds` until it ends: 30 days, at most a year (400/12)."""
        import jwt
        if seconds is not None and (not isinstance(seconds, int) or not 0 < seconds <= YEAR):
            raise error(12, f"expiration_sec is 1 to {YEAR}", expiration_sec=seconds)
        at = int(time.time())
        return jwt.encode({
            "identity": {"user": user, "company": COMPANY, "role": "user", "user_name": user,
                         "company_name": COMPANY_NAME},
            "auth_type": "Bearer", "iat": at, "exp": at + (seconds or MONTH), "env": "agentpipe",
            "session_id": session or secrets.token_hex(16), "api_version": API_VERSION,
            "server_version": SERVER_VERSION, "server_build": "agentpipe", "feature_set": "basic",
            "agentpipe_server": self.store.server_id, "agentpipe_key": key}, self._secret, algorithm="HS256")

    def trusted(self, token: str) -> dict[str, Any] | None:
        """What a token says that was found good a moment ago: no look at the store."""
        until, payload = self._trusted.get(token, (0.0, None))
        return payload if time.time() < until else None

    def check(self, token: str) -> dict[str, Any]:
        """What a good token says; any other is 401/30."""
        payload = self.trusted(token)
        if payload is not None:
            return payload
        at = time.time()
        payload = self._decoded(token)
        if not self.store.read(lambda db: _lives(db, payload)):
            raise bad_token("the token was revoked")
        if len(self._trusted) >= MOST_TRUSTED:
            self._trusted.clear()
        self._trusted[token] = (min(at + TRUSTED_SECONDS, payload["exp"]), payload)
        return payload

    def forget(self) -> None:
        """Look at every token again: something was revoked."""
        self._trusted.clear()

    def _decoded(self, token: str) -> dict[str, Any]:
        import jwt
        try:
            return jwt.decode(token, self._secret, algorithms=["HS256"],
                              # a clock that was set back must not end the tokens of the last minutes
                              options={"verify_iat": False, "require": ["exp", "iat", "session_id", "identity"]})
        except jwt.InvalidTokenError as problem:
            raise bad_token(str(problem)) from None


def bad_token(reason: str) -> ApiError:
    """401/30 in ClearML's words."""
    return ApiError(401, 30, f"invalid token (invalid jwt token): reason={reason}")


def revoke(db: sqlite3.Connection, payload: dict[str, Any]) -> None:
    """End a token's session, in a transaction."""
    db.execute("DELETE FROM revoked WHERE expires<?", (time.time(),))
    db.execute("INSERT OR REPLACE INTO revoked VALUES (?, ?)", (payload["session_id"], time.time() + YEAR))


def _lives(db: sqlite3.Connection, payload: dict[str, Any]) -> bool:
    if db.execute("SELECT 1 FROM revoked WHERE session=?", (payload["session_id"],)).fetchone():
        return False
    key = payload.get("agentpipe_key")
    return not key or keys.exists(db, key)


def _secret(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key='token_secret'").fetchone()
    return row[0] if row else None


def _new_secret(db: sqlite3.Connection) -> str:
    # another process may have been quicker
    db.execute("INSERT OR IGNORE INTO meta VALUES ('token_secret', ?)", (secrets.token_hex(32),))
    return _secret(db) or ""
