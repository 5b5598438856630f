"""Access keys: made once, their secret kept only as a hash."""

from __future__ import annotations

import secrets
import sqlite3

from agentpipe.server.common import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
KEY_LENGTH = 30
SECRET_BYTES = 48


def make(db: sqlite3.Connection, user: str, label: str | None = None) -> tuple[str, str]:
    """A new access key and its secret, which is never shown again; inside a transaction."""
    key = "".join(secrets.choice(KEY_LETTERS) for _ in range(KEY_LENGTH))
    secret = secrets.token_urlsafe(SECRET_BYTES)
    db.execute("INSERT INTO credentials (key, secret, user, label, created) VALUES (?, ?, ?, ?, ?)",
               (key, _hash(secret), user, label, now()))
    return key, secret


def user_of(db: sqlite3.Connection, key: str, secret: str) -> str | None:
    """Whose key that is; None when it is unknown or its secret is another one (found in the same time)."""
    row = db.execute("SELECT secret, user FROM credentials WHERE key=?", (key,)).fetchone()
    fits = secrets.compare_digest(row[0] if row else _hash(""), _hash(secret))
    return row[1] if row and fits else None


def exists(db: sqlite3.Connection, key: str | None = None) -> bool:
    """Whether there is that key, or any."""
    condition, values = (" WHERE key=?", [key]) if key else ("", [])
    return db.execute(f"SELECT 1 FROM credentials{condition} LIMIT 1", values).fetchone() is not None


def used(db: sqlite3.Connection, key: str, address: str) -> None:
    """Note that a key was used, and from where."""
    db.execute("UPDATE credentials SET last_used=?, last_used_from=? WHERE key=?", (now(), address, key))


def listed(db: sqlite3.Connection, user: str) -> list[dict[str, Any]]:
    """A user's keys, without secrets."""
    rows = db.execute("SELECT key, label, last_used, last_used_from FROM credentials WHERE user=? "
                      "ORDER BY created, key", (user,))
    names = ("access_key", "label", "last_used", "last_used_from")
    return [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows]


def revoke(db: sqlite3.Connection, user: str, key: str) -> int:
    """Remove a user's key; how many that were. Its tokens end with it (tokens.py)."""
    return db.execute("DELETE FROM credentials WHERE key=? AND user=?", (key, user)).rowcount


def label(db: sqlite3.Connection, user: str, key: str, text: str | None) -> int:
    """Give a user's key another label."""
    return db.execute("UPDATE credentials SET label=? WHERE key=? AND user=?", (text, key, user)).rowcount


def _hash(secret: str) -> str:
    # the secrets are random and long: nothing slower than a plain hash is needed
    from hashlib import sha256
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
