"""The ClearML API over HTTP: one call(), repeated as long as that is safe and the caller has patience."""

from __future__ import annotations

import json
import time

from agentpipe import errors
from agentpipe.settings import config
from agentpipe.transport import answer_types, http_retry
from agentpipe.transport.http_login import Login
from agentpipe.transport.http_transport import Answer, Away, TooLarge, Transport, not_an_api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "2.34"  # what we speak at most: the API that the embedded store answers as
PATIENCE_S = 60.0  # of a command that somebody waits for
POLL_S = 2.0  # one request a round, however many queues: fewer than the peer makes each 5 s
LOOK_S = 0.5
LONG_POLL_S = 3.0  # short enough to notice soon that nobody needs the answer any more
TASK_POLL_S = 20.0  # well below READ_S, and what proxies let a quiet connection live
MAX_REQUEST = 15728640  # bytes, what a ClearML server takes


class HttpApi:
    """A ClearML server, or agent-server, with the face of api.StoreApi.

    `patience` is how long (seconds) a call is repeated while the server is away; what it may already have done is
    never asked for a second time (queues.get_next_task, tasks.create): then Away says `unsure`.
    """

    embedded = False

    def __init__(self, host: str, worker: str = "", patience: float = PATIENCE_S,
                 parts: tuple[Transport, Login] | None = None) -> None:
        self.worker = worker
        self.patience = patience
        asked = config.number("", 0, "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC")
        self.poll_s = asked or POLL_S
        if parts is None:
            transport = Transport(normalised(host))
            parts = transport, Login(transport, self._headers())
        self._transport, self._login = parts
        self._answered = False
        self._waits = not asked  # whether to let agent-server wait: who wants a rhythm gets it
        self._told = False

    def call(self, endpoint: str, body: Any = None) -> dict[str, Any]:
        """The `data` of an endpoint's answer ("queues.get_all"); a list is sent as JSON lines.

        ApiError when the server refuses; Failure when it is away for longer than our patience, or is no API server.
        """
        if isinstance(body, list):
            return self._batches(endpoint, body)
        data = self._call(endpoint, json.dumps(body or {}).encode(), "application/json")
        answer_types.check(self.host, endpoint, body, data)
        return data

    @property
    def host(self) -> str:
        """The address, as api.api_server gives it."""
        return self._transport.host

    @property
    def server_id(self) -> str:
        """agent-server shares its store's id (the key `agentpipe_server` of its tokens); else it is the address."""
        return self._login.payload().get("agentpipe_server") or self.host

    @property
    def ours(self) -> bool:
        """Whether it is agent-server, which knows claims."""
        return bool(self._login.payload().get("agentpipe_server"))

    def token(self) -> str:
        """What the files server wants to see as well."""
        return self._login.token()

    def changed(self, since: Any) -> Any:
        """A mark that differs from `since` once something may have changed.

        agent-server is asked to answer when it has, at the latest after some seconds; of any other server, or when
        CLEARML_AGENT_QUEUE_POLL_FREQ_SEC gives a rhythm, it is just time to ask again.
        """
        if self.long_polls:
            return self._waited(since)
        now = time.monotonic()
        return since if isinstance(since, float) and now - since < self.poll_s else now

    @property
    def look_s(self) -> float:
        """How long to pause between two looks at changed(), in seconds."""
        return 0.0 if self.long_polls else min(LOOK_S, self.poll_s)

    @property
    def long_polls(self) -> bool:
        """Whether changed() itself waits."""
        return self.ours and self._waits

    def _waited(self, since: int | None) -> Any:
        """agent-server's mark, once it is another one or some seconds are over."""
        begun = time.monotonic()
        try:
            mark = self.call("queues.wait", {} if since is None else {"mark": since, "seconds": LONG_POLL_S})["mark"]
        except errors.ApiError as error:
            if error.code != 404:
                raise
            self._waits = False
            return self.changed(since)
        # answered at once, and nothing new: it does not wait
        self._waits = mark != since or time.monotonic() - begun > LONG_POLL_S / 2
        return mark

    def log_in(self) -> dict[str, Any]:
        """What the server says of us to the very credentials that are set, whatever token is kept: its payload.

        Failure 77 when it does not accept them, 78 when there are none.
        """
        self._login.renew()
        return self._login.payload()

    def server_time(self) -> float | None:
        """What its clock says (seconds since 1970; the `Date` of an answer that needs no login), if it says so.

        Failure 69 when it is away, 78 when it is no API server.
        """
        from email.utils import parsedate_to_datetime
        answer = self._transport.send("debug.ping", self._headers(), b"{}")
        try:
            data_of(self.host, answer)
        except errors.ApiError:
            pass  # it is an API server
        try:
            return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
        except (TypeError, ValueError):
            return None

    def once(self, patience: float = 0) -> HttpApi:
        """The same server without patience, for callers that try again by themselves; or with another one."""
        return HttpApi(self.host, self.worker, patience, (self._transport, self._login))

    def close(self) -> None:
        """Let the connections go."""
        self._transport.close()

    def _batches(self, endpoint: str, items: list[Any]) -> dict[str, Any]:
        limit = int(config.number("api.http.max_req_size", MAX_REQUEST))
        lines: list[bytes] = []
        answers, size = [], 0
        for line in (json.dumps(item).encode() for item in items):
            if lines and size + len(line) >= min(limit, self._transport.most):
                answers += self._batch(endpoint, lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        answers += self._batch(endpoint, lines)
        return answers[0] if len(answers) == 1 else _together(answers)

    def _batch(self, endpoint: str, lines: list[bytes]) -> list[dict[str, Any]]:
        """The answer to one request; or to those of its halves, where a proxy takes less than its server."""
        body = b"\n".join(lines)
        try:
            return [self._call(endpoint, body, "application/json-lines")]
        except TooLarge:
            if len(lines) < 2:
                raise
        self._transport.most = len(body) // 2
        half = len(lines) // 2
        return [*self._batch(endpoint, lines[:half]), *self._batch(endpoint, lines[half:])]

    def _call(self, endpoint: str, body: bytes, kind: str) -> dict[str, Any]:
        tries = http_retry.Tries(endpoint, self.patience, lambda: self._answered)
        while True:
            try:
                data = self._once(endpoint, body, kind)
                self._answered = True
                return data
            except (Away, errors.ApiError) as error:
                away = tries.again(self.host, error)
            self._tell(away)
            tries.pause = http_retry.back_off(tries.pause, away)

    def _once(self, endpoint: str, body: bytes, kind: str) -> dict[str, Any]:
        try:
            token = self._login.token()
        except Away as away:
            away.unsure = False  # what is asked for has not been
            raise
        try:
            return self._asked(endpoint, body, kind, token)
        except errors.ApiError as error:
            if error.code != 401:
                raise
        self._login.renew(refused=token)  # revoked, or its rights have changed: once
        return self._asked(endpoint, body, kind, self._login.token())

    def _asked(self, endpoint: str, body: bytes, kind: str, token: str) -> dict[str, Any]:
        headers = self._headers() | {"Authorization": f"Bearer {token}", "Content-Type": kind}
        return data_of(self.host, self._transport.send(f"v{self._version()}/{endpoint}", headers, body))

    def _headers(self) -> dict[str, str]:
        # names of workers may be any text, headers are latin-1
        worker = self.worker.encode("utf-8", "replace").decode("latin-1")
        return {"Content-Type": "application/json", "X-Clearml-Worker": worker,
                "X-Clearml-Client": "agentpipe", "X-Clearml-Agent": "agentpipe"}

    def _version(self) -> str:
        known = [VERSION, str(self._login.payload().get("api_version") or VERSION)]
        variable = "CLEARML_AGENT_FORCE_MAX_API_VERSION"
        limit = config.get("", None, variable)
        if limit and limit != ".".join(map(str, version_number(limit))):
            raise errors.Failure(f"{variable} is no version: {limit}", errors.BAD_CONFIG, remedy=f"correct {variable}")
        return min([*known, *([limit] if limit else [])], key=version_number)

    def _tell(self, away: Away) -> None:
        import os
        if not self._told and os.isatty(2):
            from agentpipe import stdio
            stdio.say(f"{away.reason}; trying again")
        self._told = True


def data_of(host: str, answer: Answer) -> dict[str, Any]:
    """The `data` of an answer; ApiError as its `meta` says, Failure when it is not the API's."""
    try:
        # what JSON has no number for (NaN) is none: in a manifest the next stage would refuse it
        found = json.loads(answer.body, parse_constant=lambda _: None)
        meta, data = found["meta"], found.get("data") or {}
        code, subcode = int(meta["result_code"]), int(meta.get("result_subcode") or 0)
        if not isinstance(data, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        if answer.status >= 500:
            raise errors.ApiError(answer.status, 0, f"{host} answers {answer.status}") from None
        raise not_an_api(host, answer) from None
    if code != 200:
        raise errors.ApiError(code, subcode, str(meta.get("result_msg") or f"error {code}"))
    return data


def normalised(address: str) -> str:
    """An address as it is compared: scheme and host in small letters, no default port, user or last slash."""
    from urllib.parse import urlsplit
    text = address.strip()
    if "://" not in text:
        text = ("http://" if ":" in text else "https://") + text
    try:
        parts = urlsplit(text)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        name, port = "", None
    if not name or parts.scheme.lower() not in ("http", "https"):
        raise errors.Failure(f"api.api_server: {address} is no http(s) address", errors.BAD_CONFIG,
                             remedy="agent-config check")
    scheme = parts.scheme.lower()
    name = f"[{name}]" if ":" in name else name
    if port and port != {"http": 80, "https": 443}[scheme]:
        name += f":{port}"
    return f"{scheme}://{name}{parts.path.rstrip('/')}"


def version_number(text: str) -> tuple[int, ...]:
    """"2.9" → (2, 9), so that 2.13 is more."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _together(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers to the parts of a batch as one."""
    whole: dict[str, Any] = {}
    for answer in answers:
        for key, value in answer.items():
            if isinstance(value, int | list) and key in whole:
                whole[key] += value
            elif isinstance(value, dict) and key in whole:
                whole[key] |= value
            else:
                whole[key] = value
    return whole
