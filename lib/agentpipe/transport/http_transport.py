"""One HTTP request to an API server: connections, proxies, certificates, time-outs, and what it means when it fails."""

from __future__ import annotations

from agentpipe import errors
from agentpipe.settings import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import requests

CONNECT_S, READ_S, READ_BIG_S = 5.0, 30.0, 60.0
BIG = 64 << 10  # bytes of a request from which on the server gets more time
AWAY = (429, 502, 503, 504, 509)  # answers of a server that cannot work now, or of what stands before it
MAINTENANCE = 503
CERTIFICATE_REMEDY = ("set api.verify_certificate in clearml.conf to the file of its certificate authority, or "
                      "REQUESTS_CA_BUNDLE=FILE")
PROXY_REMEDY = "start the proxy, or correct its variable: env | grep -i _proxy"


class Away(errors.Failure):
    """The server cannot be reached, or says that it cannot work now: worth trying again.

    `unsure` when it may have done what was asked for all the same; `refused` when nothing answers at that address;
    `wait` the seconds that it asked for, if it did; `status` what it answered (0: nothing).
    """

    def __init__(self, host: str, reason: str, unsure: bool = False, refused: bool = False, wait: float = 0,
                 status: int = 0) -> None:
        super().__init__(f"{host}: {reason}", errors.UNAVAILABLE,
                         remedy="try again, or agent-config check" if refused else "try again later")
        self.unsure, self.refused, self.wait, self.status = unsure, refused, wait, status


class TooLarge(errors.Failure):
    """A request is larger than its server, or a proxy before it, takes; nothing of it was done."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host}: the request is larger than it, or a proxy before it, takes", errors.BAD_CONFIG,
                         remedy="set api.http.max_req_size below that limit (bytes)")
        self.of_machine = False  # a request is as large as the task makes it


class Answer:
    """Status, headers (names in any case) and body of one answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class Transport:
    """The connections to one server. Safe for the main thread and the reporting thread at once."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.method = (config.get("api.http.default_method", None, "CLEARML_API_DEFAULT_REQ_METHOD") or "post").upper()
        if self.method not in ("GET", "POST", "PUT"):
            raise errors.Failure(f"api.http.default_method is {self.method}, not get, post or put", errors.BAD_CONFIG)
        self.most = float("inf")  # bytes of a batch, as far as something has said that it takes no more
        self._session: requests.Session | None = None
        self._settings: dict[str, Any] = {}

    def send(self, path: str, headers: dict[str, str], body: bytes, basic: tuple[str, str] | None = None,
             read_s: float = 0) -> Answer:
        """The server's answer, whatever it is; Away when there is none, Failure when trying again is no use."""
        import requests
        session = self._opened()
        read_s = read_s or (READ_BIG_S if len(body) > BIG else READ_S)
        try:
            request = session.prepare_request(requests.Request(
                self.method, f"{self.host}/{path}", headers, data=body, auth=basic or _as_it_is))
        except (requests.exceptions.RequestException, UnicodeError):
            raise _cannot_be_sent() from None
        try:
            # a redirected POST loses its body, and a redirected login its secrecy: _checked() says where to go
            found = session.send(request, timeout=(CONNECT_S, read_s), allow_redirects=False, **self._settings)
        except requests.exceptions.SSLError as error:
            raise self._no_tls(innermost(error)) from None
        except requests.exceptions.ProxyError as error:
            away = Away(self.host, f"the proxy does not let us through: {innermost(error)}", refused=True)
            away.remedy = PROXY_REMEDY
            raise away from None
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ConnectionError) as error:
            unsure = not never_reached(error)
            raise Away(self.host, innermost(error), unsure, refused=not unsure) from None
        except requests.exceptions.Timeout:
            raise Away(self.host, f"no answer within {read_s:g} s", unsure=True) from None
        except UnicodeError:  # headers are encoded as late as this
            raise _cannot_be_sent() from None
        except requests.exceptions.InvalidProxyURL:
            raise errors.Failure("http_proxy, https_proxy or all_proxy holds no address", errors.BAD_CONFIG,
                                 remedy="set it to http://HOST:PORT, or unset it") from None
        except requests.exceptions.RequestException as error:
            if isinstance(error, ValueError):
                raise errors.Failure(f"api.api_server: {error}", errors.BAD_CONFIG,
                                     remedy="agent-config check") from None
            raise Away(self.host, innermost(error), unsure=True) from None
        return self._checked(Answer(found.status_code, found.headers, found.content))

    def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            self._session.close()

    def _no_tls(self, text: str) -> errors.Failure:
        """Why there is no encrypted connection; one that was cut off is tried again."""
        if "EOF" in text:
            return Away(self.host, text, unsure=True)
        if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
            return errors.Failure(f"{self.host} answers, but without TLS", errors.BAD_CONFIG,
                                  remedy="write http:// in api.api_server")
        remedy = CERTIFICATE_REMEDY
        if "not valid for" in text:
            remedy = "name it in api.api_server as its certificate does"
        return errors.Failure(f"{self.host}: its certificate is not accepted: {text}", errors.BAD_CONFIG,
                              remedy=remedy)

    def _checked(self, answer: Answer) -> Answer:
        if answer.status in (301, 302, 303, 307, 308):
            target = answer.headers.get("Location", "elsewhere").partition("?")[0]
            raise errors.Failure(f"{self.host} sends us on to {target}: this is not the address of the API",
                                 errors.BAD_CONFIG, remedy="set api.api_server to that of the API server")
        if answer.status == 407:
            raise errors.Failure(f"{self.host}: the proxy wants a name and a password", errors.NO_PERMISSION,
                                 remedy="put them into https_proxy: http://NAME:PASSWORD@HOST:PORT")
        if answer.status == 413:
            raise TooLarge(self.host)
        if answer.status in AWAY:
            raise Away(self.host, _why_not_now(answer), unsure=answer.status in (502, 504), wait=_seconds(answer),
                       status=answer.status)
        return answer

    def _opened(self) -> requests.Session:
        if self._session is None:
            import requests
            session = requests.Session()
            verify = certificate()
            if not verify:
                import urllib3
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            # proxies and bundles of the environment: looked up once, not for each request
            settings = dict(session.merge_environment_settings(self.host, {}, None, verify, None))
            settings.pop("stream")
            self._settings, self._session = settings, session  # this last: another thread may be at it too
        return self._session


def certificate() -> bool | str:
    """Whether certificates are checked, or the file of the authorities that count."""
    found = config.get("api.verify_certificate")  # or its variable; both may be a path
    if found is None or found.lower() in config.YES:
        return True
    if found.lower() in config.NO:
        return False
    import os
    path = os.path.expanduser(found)
    if not os.path.exists(path):
        raise errors.Failure(f"api.verify_certificate: there is no file {path}", errors.BAD_CONFIG)
    return path


def _cannot_be_sent() -> errors.Failure:
    """Of what stands in the headers, or of a host that is no name: the errors' own words would show the secret."""
    return errors.Failure("api.api_server, the keys or the worker's name hold a character that no request can carry",
                          errors.BAD_CONFIG, remedy="agent-config show api")


def _as_it_is(request: Any) -> Any:
    """An auth of requests that adds nothing: without any it would take ~/.netrc's over our own header."""
    return request


def never_reached(error: Exception) -> bool:
    """Whether it failed before anything of the request was sent."""
    import urllib3.exceptions as kinds
    cause: Any = error.args[0] if error.args else None
    cause = getattr(cause, "reason", cause)
    return isinstance(cause, kinds.NewConnectionError | kinds.ConnectTimeoutError | kinds.NameResolutionError)


def innermost(error: Exception) -> str:
    """The innermost words of a pile of exceptions, without addresses of objects."""
    cause: Any = error
    for _ in range(6):
        inner = getattr(cause, "reason", None) or (cause.args[-1] if getattr(cause, "args", None) else None)
        cause = inner if isinstance(inner, Exception) else cause.__cause__ or cause
    text = getattr(cause, "strerror", None) or str(cause)
    return text.rpartition(">: ")[2].rpartition("): ")[2] or type(cause).__name__


def _why_not_now(answer: Answer) -> str:
    """In a server's own words (a full disk, say), where it is one of ClearML's API that has some."""
    import json
    known = {429: "too many requests", MAINTENANCE: "it is being maintained"}.get(
        answer.status, f"the server behind it does not answer ({answer.status})")
    try:
        said = json.loads(answer.body)["meta"]["result_msg"]
    except (ValueError, KeyError, TypeError):
        return known
    return f"it answers {answer.status}: {said}" if isinstance(said, str) and said.strip() else known


def _seconds(answer: Answer) -> float:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def not_an_api(host: str, answer: Answer) -> errors.Failure:
    """What to say of an answer that no ClearML API gives."""
    kind = (answer.headers.get("Content-Type") or "no type").partition(";")[0]
    return errors.Failure(f"{host} answers ({answer.status}, {kind}), but not as a ClearML API server",
                          errors.BAD_CONFIG, remedy="api.api_server must name the API server: its port is 8008, or its "
                                                    "name begins with api.")
