"""The token that every request carries: from keys or CLEARML_AUTH_TOKEN, kept on disk, renewed before it ends."""

from __future__ import annotations

import json
import os
import time

from agentpipe import errors, paths
from agentpipe.files import publish
from agentpipe.settings import config
from agentpipe.transport import http_transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AUTH_TOKEN = "CLEARML_AUTH_TOKEN"
RENEW_BEFORE_S = 43200.0  # as the peer does; never more than half of a token's life
RENEW_GIVEN_S = 3600.0  # of a token that was given without keys
CLAIMS: dict[str, type] = {"iat": float, "exp": float, "agentpipe_server": str, "api_version": str, "identity": dict}


class Login:
    """Who we are to one server. The token stands in state/tokens (0600), so a stage need not log in again.

    A token's payload (JSON Web Token, not checked by us) tells the server's API version, and agent-server's its
    store's id: the key `agentpipe_server`.
    """

    def __init__(self, transport: http_transport.Transport, headers: dict[str, str]) -> None:
        import threading
        self._transport, self._headers = transport, headers
        self._renewing = threading.RLock()
        # mounted secrets often end with a newline
        self._given = (os.environ.get(AUTH_TOKEN) or "").strip()
        if self._given:
            os.environ[AUTH_TOKEN] = self._given  # for children, whose clearml package takes it as it is
        self._key, self._secret = _keys()
        # when it came, by our clock; None of one that was given
        self._token, self._came = (self._given, None) if self._given else self._kept()
        self._payload = payload(self._token)

    def token(self) -> str:
        """A token that is good for now; without any network while the kept one is."""
        if not self._token:
            self.renew()
        elif self._is_due():
            try:
                self.renew()
            except errors.Failure:
                if self._left() < 5:
                    raise
                # it is still good, and the server may be back the next time
        return self._token

    def payload(self) -> dict[str, Any]:
        """What the token says: {api_version, exp, iat, identity, agentpipe_server, …}; {} of an odd one."""
        self.token()
        return self._payload

    def renew(self, refused: str = "") -> None:
        """Log in; unless another thread has replaced the `refused` token meanwhile.

        Failure 77 when the keys are not accepted, 78 when there are none.
        """
        with self._renewing:
            if not refused or refused == self._token:
                self._log_in()

    def _log_in(self) -> None:
        answer = self._asked()
        if answer.status in (401, 403) and self._has_new_keys():
            answer = self._asked()
        token = _token_of(answer.body)
        if answer.status in (401, 403):
            raise self._denied(answer)
        if answer.status >= 500:  # a server that is starting up
            raise http_transport.Away(self._transport.host, f"its login answers {answer.status}", status=answer.status)
        if answer.status != 200 or not token:
            raise http_transport.not_an_api(self._transport.host, answer)
        self._token, self._payload, self._came = token, payload(token), time.time()
        if self._given:
            self._given = os.environ[AUTH_TOKEN] = token  # children go on with it
        else:
            self._keep()

    def _asked(self) -> http_transport.Answer:
        basic = (self._key, self._secret) if self._key and self._secret and not self._given else None
        headers = dict(self._headers)
        if basic is None:
            if not self._token:
                raise errors.Failure(f"no keys for {self._transport.host}: api.credentials.access_key and secret_key",
                                     errors.BAD_CONFIG, remedy="agent-config init, or set CLEARML_API_ACCESS_KEY and "
                                                               "CLEARML_API_SECRET_KEY")
            headers["Authorization"] = f"Bearer {self._token}"
        wish = int(config.number("api.auth.request_token_expiration_sec", 0))
        body = json.dumps({"expiration_sec": wish} if wish else {}).encode()
        return self._transport.send("auth.login", headers, body, basic)

    def _has_new_keys(self) -> bool:
        """Whether clearml.conf has other keys for this server by now: they may be replaced while a task runs."""
        from agentpipe.transport import api, http_api
        config.renew()
        found, host = _keys(), api.address()
        if self._given or not all(found) or found == (self._key, self._secret) \
                or not host or http_api.normalised(host) != self._transport.host:
            return False
        self._key, self._secret = found
        return True

    def _denied(self, answer: http_transport.Answer) -> errors.Failure:
        try:
            said = json.loads(answer.body)["meta"]["result_msg"]
        except (ValueError, KeyError, TypeError, RecursionError):  # a proxy's own: no other key would help
            return http_transport.not_an_api(self._transport.host, answer)
        if self._given:
            return errors.Failure(f"{self._transport.host} does not accept {AUTH_TOKEN}: {said}",
                                  errors.NO_PERMISSION, remedy=f"get a new token, or unset {AUTH_TOKEN}")
        remedy = "create new credentials in its web page (Settings, Workspace), then agent-config init"
        if answer.headers.get("X-Agentpipe-Server"):
            remedy = "where it runs: agent-server --new-keys; give what it prints to agent-config init"
        return errors.Failure(f"{self._transport.host} does not accept the key {self._key}: {said}",
                              errors.NO_PERMISSION, remedy=remedy)

    def _left(self) -> float:
        return _seconds_left(self._payload, self._came)

    def _is_due(self) -> bool:
        before = config.number("api.auth.token_expiration_threshold_sec", RENEW_BEFORE_S)
        if self._given:
            before = min(before, RENEW_GIVEN_S)
        life = _life(self._payload)
        return self._left() < (min(before, life / 2) if life > 0 else before)

    def _path(self) -> str:
        import binascii
        # of the secret as well: with a mistyped one nobody goes on by a token that the right one got
        name = binascii.crc32(f"{self._transport.host}\n{self._key}\n{self._secret}".encode("utf-8", "surrogatepass"))
        return os.path.join(paths.state("tokens"), f"{name:08x}.json")

    def _kept(self) -> tuple[str, float | None]:
        """(the token that an earlier process got, when); ("", None) when there is none that is good."""
        try:
            with open(self._path(), encoding="utf-8") as file:
                found, came = json.load(file), os.fstat(file.fileno()).st_mtime
            host, key, token = (str(found[name]) for name in ("host", "key", "token"))
        except (OSError, ValueError, KeyError, TypeError):
            return "", None
        is_good = (host, key) == (self._transport.host, self._key) and _seconds_left(payload(token), came) > 0
        return (token, came) if is_good else ("", None)

    def _keep(self) -> None:
        path = self._path()
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            publish(path, json.dumps({"host": self._transport.host, "key": self._key,
                                              "token": self._token}).encode())
        except (OSError, errors.Failure):
            pass  # the next process logs in again


def _keys() -> tuple[str, str]:
    """(key, secret) as they are set now; "" what is not."""
    found = (config.get("api.credentials.access_key", None, "CLEARML_API_ACCESS_KEY"),
             config.get("api.credentials.secret_key", None, "CLEARML_API_SECRET_KEY"))
    return (found[0] or "").strip(), (found[1] or "").strip()


def payload(token: str) -> dict[str, Any]:
    """The claims that a JSON Web Token makes, unchecked but for the types of CLAIMS; {} when it is none."""
    from binascii import a2b_base64
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        found = json.loads(a2b_base64(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4)))
        found |= {name: float(found[name]) for name in ("iat", "exp") if found.get(name)}
        return {name: value for name, value in found.items() if isinstance(value, CLAIMS.get(name, object))}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _life(claims: dict[str, Any]) -> float:
    """For how many seconds a token was made; 0 when it does not say."""
    made, ends = float(claims.get("iat") or 0), float(claims.get("exp") or 0)
    return max(0.0, ends - made) if made else 0.0


def _seconds_left(claims: dict[str, Any], came: float | None) -> float:
    """How long a token is still good that came at `came`: what the server's clock says is not compared with ours."""
    life = _life(claims)
    if came is None or not life:
        return float(claims.get("exp") or float("inf")) - time.time()
    return life - max(0.0, time.time() - came)


def _token_of(body: bytes) -> str:
    try:
        token = json.loads(body)["data"]["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return token if isinstance(token, str) else ""
