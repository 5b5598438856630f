"""auth.*, login.*, users.*, server.*: who calls, with which keys, and what this server is (server.md §3, §9)."""

from __future__ import annotations

from agentpipe.errors import CANNOT_CREATE, ApiError, Failure
from agentpipe.server import keys
from agentpipe.server.common import COMPANY, COMPANY_NAME, error
from agentpipe.server.endpoints import OWN, READ, WRITE, Request, endpoint
from agentpipe.server.tokens import API_VERSION, SERVER_VERSION, Tokens, revoke

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@endpoint("auth.login", OWN)
def login(request: Request) -> dict[str, Any]:
    """A token for whoever calls: {token}. `expiration_sec` is when it ends."""
    caller = request.caller
    if caller.get("key") and not caller.get("session"):
        try:
            request.change(_used, durable=False)
        except Failure as problem:
            # a full disk keeps nobody out who only reads
            if problem.exit != CANNOT_CREATE:
                raise
    return {"token": _tokens(request).issue(request.user, caller.get("key", ""), request.get("expiration_sec"))}


def _used(request: Request) -> dict[str, Any]:
    keys.used(request.db, request.caller["key"], request.caller.get("address", ""))
    return {}


@endpoint("auth.validate_token", OWN, {"token": str})
def validate_token(request: Request) -> dict[str, Any]:
    """Whether a token is good: {valid, user, company}, or {valid: false, msg}."""
    try:
        payload = _tokens(request).check(request.body["token"])
    except ApiError as problem:
        return {"valid": False, "msg": problem.msg}
    return {"valid": True, "user": payload["identity"]["user"], "company": COMPANY}


@endpoint("auth.logout", WRITE)
def logout(request: Request) -> dict[str, Any]:
    """End the session of the token that calls."""
    if request.caller.get("session"):
        revoke(request.db, {"session_id": request.caller["session"]})
        _forget(request)
    return {}


@endpoint("auth.create_credentials", WRITE, {}, label=str)
def create_credentials(request: Request) -> dict[str, Any]:
    """New keys of the caller; the secret is shown this once."""
    label = request.get("label")
    key, secret = keys.make(request.db, request.user, label)
    shown = {"access_key": key, "secret_key": secret}
    return {"credentials": shown if label is None else {**shown, "label": label}}


@endpoint("auth.get_credentials", READ)
def get_credentials(request: Request) -> dict[str, Any]:
    """The caller's keys, without secrets."""
    return {"credentials": keys.listed(request.db, request.user)}


@endpoint("auth.revoke_credentials", WRITE, {"access_key": str})
def revoke_credentials(request: Request) -> dict[str, Any]:
    """Remove keys of the caller: {revoked}; unknown 400/300. Their tokens end with them."""
    gone = keys.revoke(request.db, request.user, request.body["access_key"])
    if not gone:
        raise error(300, access_key=request.body["access_key"])
    _forget(request)
    return {"revoked": gone}


@endpoint("auth.edit_credentials", WRITE, {"access_key": str}, label=str)
def edit_credentials(request: Request) -> dict[str, Any]:
    """Give keys of the caller another label: {updated}; unknown 400/75."""
    if not keys.label(request.db, request.user, request.body["access_key"], request.get("label")):
        raise error(75, access_key=request.body["access_key"])
    return {"updated": 1}


@endpoint("auth.fixed_users_mode", READ)
def fixed_users_mode(request: Request) -> dict[str, Any]:
    """There are no passwords here."""
    return {"enabled": False, "guest": {"enabled": False}}


@endpoint("login.supported_modes", READ)
def supported_modes(request: Request) -> dict[str, Any]:
    """How one can log in: with keys only."""
    return {"basic": {"enabled": False, "guest": {"enabled": False}}, "sso": {}, "sso_providers": [],
            "server_errors": {"missed_es_upgrade": False, "es_connection_error": False},
            "authenticated": bool(request.user)}


@endpoint("login.logout", WRITE)
def logout_too(request: Request) -> dict[str, Any]:
    """The same as auth.logout, also for those who are not logged in."""
    return logout(request)


@endpoint("debug.ping", READ)
def ping(request: Request) -> dict[str, Any]:
    """Whether the server answers."""
    return {"msg": "pong"}


@endpoint("server.info", READ)
def info(request: Request) -> dict[str, Any]:
    """What this server is."""
    return {"version": SERVER_VERSION, "build": "agentpipe", "commit": "", "api_version": API_VERSION}


@endpoint("server.report_stats_option", READ)
def report_stats_option(request: Request) -> dict[str, Any]:
    """Nothing is reported to anybody."""
    return {"supported": False}


@endpoint("users.get_current_user", READ)
def get_current_user(request: Request) -> dict[str, Any]:
    """Who calls."""
    return {"user": {"id": request.user, "name": request.user, "role": "user",
                     "company": {"id": COMPANY, "name": COMPANY_NAME}, "given_name": request.user,
                     "family_name": ""},
            "getting_started": {}, "settings": {"max_download_items": 1000}}


def _forget(request: Request) -> None:
    """No token is trusted unseen: one was revoked."""
    if "tokens" in request.store.kept:
        request.store.kept["tokens"].forget()


def _tokens(request: Request) -> Tokens:
    """The store's tokens; outside of a transaction, since theirs is one of its own."""
    if "tokens" not in request.store.kept:
        request.store.kept["tokens"] = Tokens(request.store)
    return request.store.kept["tokens"]
