"""Lists that a list or a variable names by URL (`-r URL`, PIP_CONSTRAINT=URL): what they say now, or said last time."""

from __future__ import annotations

import os

from agentpipe import errors
from agentpipe.urls import without_credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests

TIMEOUT = (15, 60)  # seconds to connect, between two pieces
MOST = 16 << 20


def read(url: str, notes: list[str]) -> bytes:
    """The content; when the server cannot be reached that of last time, which `notes` then say.

    Failure 66 where there is nothing, 69 without an answer and without a last time, 77 where a login is wanted.
    """
    from agentpipe.settings.offline import offline
    shown, memory = without_credentials(url), _memory(url)
    why = "AGENT_OFFLINE forbids the network"
    if not offline():
        try:
            data = _fetched(url, shown)
            _remember(memory, data)
            return data
        except _Away as away:
            why = str(away)
    try:
        with open(memory, "rb") as file:
            data = file.read()
    except OSError:
        raise errors.Failure(f"cannot fetch the list {shown}: {why}", errors.UNAVAILABLE,
                             remedy=f"see whether it answers there: curl -I {shown}") from None
    notes.append(f"cannot fetch {shown} ({why}), what it said last time is taken")
    return data


class _Away(Exception):
    """The server does not answer, or is ill."""


def _fetched(url: str, shown: str) -> bytes:
    import requests
    try:
        with _session(url) as session, session.get(url, timeout=TIMEOUT, stream=True) as answer:
            if answer.status_code >= 500 or answer.status_code == 429:
                raise _Away(f"it answers {answer.status_code}")
            if answer.status_code in (401, 403):
                raise errors.Failure(f"{shown} refuses access ({answer.status_code})", errors.NO_PERMISSION,
                                     remedy="give its user and password in the URL (by ${NAME}) or in ~/.netrc")
            if answer.status_code != 200:
                raise errors.Failure(f"there is no list at {shown}: it answers {answer.status_code}", errors.NOT_FOUND,
                                     remedy=f"correct the address {shown}")
            data = b""
            for piece in answer.iter_content(1 << 16):
                data += piece
                if len(data) > MOST:
                    raise errors.Failure(f"{shown} is no list of requirements: it has more than {MOST >> 20} MiB",
                                         errors.BAD_DATA, remedy=f"correct the address {shown}")
            return data
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise errors.Failure(f"{shown} is no address of a list", errors.BAD_DATA,
                             evidence=without_credentials(str(error)), remedy="use https://") from None
    except requests.exceptions.RequestException as error:
        raise _Away(f"no answer ({type(error).__name__})") from None


def _session(url: str) -> requests.Session:
    """With the certificates and the proxy that pip is told of."""
    from urllib.parse import urlsplit

    import requests

    from agentpipe.environment.installers import policy
    from agentpipe.settings import indexes
    made, told = requests.Session(), {**indexes.variables(), **policy.connection(policy.extra_flags())[0]}
    parts = urlsplit(url)
    if told.get("SSL_CERT_FILE"):
        made.verify = told["SSL_CERT_FILE"]
    if told.get("SSL_CLIENT_CERT"):
        made.cert = told["SSL_CLIENT_CERT"]
    if told.get("ALL_PROXY"):
        made.proxies = {"http": told["ALL_PROXY"], "https": told["ALL_PROXY"]}
    if {parts.hostname, f"{parts.hostname}:{parts.port}"} & set(indexes.insecure_hosts()):
        made.verify = False
    return made


def _memory(url: str) -> str:
    import hashlib

    from agentpipe import paths
    # with the login: what one may read is not for another
    return paths.cache("remote-lists", hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:24])


def _remember(path: str, data: bytes) -> None:
    from agentpipe import files
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    files.publish(path, data)
