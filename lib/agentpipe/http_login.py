"""The token that every request carries: from keys or CLEARML_AUTH_TOKEN, kept on disk, renewed before it ends."""

from __future__ import annotations

import json
import os
import time

from agentpipe import config, errors, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentpipe.http_transport import Transport

AUTH_TOKEN = "CLEARML_AUTH_TOKEN"
RENEW_BEFORE_S = 43200.0  # as the peer does; never more than half of a token's life
RENEW_GIVEN_S = 3600.0  # of a token that was given without keys


class Login:
    """Who we are to one server. The token stands in state/tokens (0600), so a stage need not log in again.

    A token's payload (JSON Web Token, not checked by us) tells the server's API version, and agent-server's its
    store's id: the key `agentpipe_server`.
    """

    def __init__(self, transport: Transport, headers: dict[str, str]) -> None:
        import threading
        self._transport, self._headers = transport, headers
        self._renewing = threading.RLock()
        self._given = os.environ.get(AUTH_TOKEN) or ""
        self._key = config.get("api.credentials.access_key", None, "CLEARML_API_ACCESS_KEY") or ""
        self._secret = config.get("api.credentials.secret_key", None, "CLEARML_API_SECRET_KEY") or ""
        self._token = self._given or self._kept()
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
        answer = self._transport.send("auth.login", headers, body, basic)
        token = _token_of(answer.body)
        if answer.status in (401, 403):
            raise self._denied(answer.body)
        if answer.status != 200 or not token:
            from agentpipe.http_api import not_an_api
            raise not_an_api(self._transport.host, answer)
        self._token, self._payload = token, payload(token)
        if self._given:
            self._given = os.environ[AUTH_TOKEN] = token  # children go on with it
        else:
            self._keep()

    def _denied(self, body: bytes) -> errors.Failure:
        try:
            said = json.loads(body)["meta"]["result_msg"]
        except (ValueError, KeyError, TypeError):
            said = "unauthorized"
        if self._given:
            return errors.Failure(f"{self._transport.host} does not accept {AUTH_TOKEN}: {said}",
                                  errors.NO_PERMISSION, remedy=f"get a new token, or unset {AUTH_TOKEN}")
        return errors.Failure(f"{self._transport.host} does not accept the key {self._key}: {said}",
                              errors.NO_PERMISSION, remedy="create new credentials in its web page (Settings, "
                                                           "Workspace), then agent-config init")

    def _left(self) -> float:
        return float(self._payload.get("exp") or float("inf")) - time.time()

    def _is_due(self) -> bool:
        before = config.number("api.auth.token_expiration_threshold_sec", RENEW_BEFORE_S)
        if self._given:
            before = min(before, RENEW_GIVEN_S)
        life = float(self._payload.get("exp") or 0) - float(self._payload.get("iat") or 0)
        return self._left() < (min(before, life / 2) if life > 0 else before)

    def _path(self) -> str:
        import binascii
        name = binascii.crc32(f"{self._transport.host}\n{self._key}".encode())
        return os.path.join(paths.state("tokens"), f"{name:08x}.json")

    def _kept(self) -> str:
        try:
            with open(self._path(), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return ""
        same = found.get("host") == self._transport.host and found.get("key") == self._key
        return found.get("token", "") if same and float(payload(found["token"]).get("exp") or 0) > time.time() else ""

    def _keep(self) -> None:
        from agentpipe import attempt
        path = self._path()
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            attempt.publish(path, json.dumps({"host": self._transport.host, "key": self._key,
                                              "token": self._token}).encode())
        except (OSError, errors.Failure):
            pass  # the next process logs in again


def payload(token: str) -> dict[str, Any]:
    """The claims that a JSON Web Token makes, unchecked; {} when it is none."""
    from binascii import a2b_base64
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        found = json.loads(a2b_base64(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _token_of(body: bytes) -> str:
    try:
        return json.loads(body)["data"]["token"]
    except (ValueError, KeyError, TypeError):
        return ""
