"""The files of a task's artefacts: in the store's own folder, or on the ClearML files server (server.md §10).

agent-server serves that same folder, so what one side has put there the other finds: by its path below the folder,
which is the path of its URL.
"""

from __future__ import annotations

import os

from agentpipe import errors, files, paths
from agentpipe.settings import config
from agentpipe.transport.http_transport import AWAY, Away, certificate, never_reached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

CONNECT_S, READ_S = 10.0, 120.0
PIECE = 1 << 20


def put(api: Any, task: str, path: str, name: str) -> str:
    """Keep a file for a task under `name`; its address for the artefact's `uri`. Failure 69, 73 or 77."""
    below = f"agentpipe/{task}/artifacts/{name}"
    if not api.embedded:
        return _upload(api, path, below)
    import contextlib
    import shutil
    target = os.path.join(paths.state("files"), below)
    fresh = files.temporary(target)
    try:
        files.make_directories(os.path.dirname(target))
        try:
            shutil.copyfile(path, fresh)
            with open(fresh, "rb") as file:  # before the store says that it is there: that survives a power failure
                os.fsync(file.fileno())
            os.rename(fresh, target)
            files.sync_directory(os.path.dirname(target))
        except BaseException:  # on a full disk it would keep that full
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
    except OSError as error:
        raise files.unwritable(f"keep {name} in {paths.state('files')}", error) from None
    return f"file://{target}"


def get(api: Any, artifact: dict[str, Any], target: str) -> None:
    """Bring an artefact's file to `target`; Failure 66 when it is not there, 65 when its SHA-256 is another.

    Only what put() has kept: whatever else an address says, nothing else of this machine or its network is read.
    """
    uri, key = str(artifact.get("uri") or ""), artifact.get("key")
    below = _below(uri)
    if not below:
        raise errors.Failure(f"the artefact {key} is not one of agentpipe's: {uri}", errors.BAD_DATA)
    if not api.embedded:
        _download(api, f"{server(api)}/agentpipe/{below}", target)
    else:
        import shutil
        path = _here(below)
        if not os.path.isfile(path):
            raise errors.Failure(f"the artefact {key} is not in {paths.state('files')}: {uri}", errors.NOT_FOUND,
                                 remedy="enqueue it again with --bundle")
        shutil.copyfile(path, target)
    from agentpipe.files import file_digest
    if artifact.get("hash") and file_digest(target) != artifact["hash"]:
        os.unlink(target)
        raise errors.Failure(f"the artefact {key} is not what was sent: its SHA-256 differs", errors.BAD_DATA, uri,
                             "enqueue it again with --bundle")


def discard(addresses: list[str]) -> None:
    """Remove of these files those that the store of this machine keeps, and folders that are empty without them."""
    for address in addresses:
        path = _here(_below(address))
        try:
            os.unlink(path)
            os.removedirs(os.path.dirname(path))
        except OSError:  # it is gone already, or others are there
            pass


def _below(address: str) -> str:
    """What stands in an address below the last folder of our name: the store's own path usually has that name too. ""
    also where it leads out of that again: on the way to a server, or there."""
    from urllib.parse import unquote
    below = address.rpartition("/agentpipe/")[2] if "/agentpipe/" in address else ""
    return "" if ".." in unquote(below).replace("\\", "/").split("/") else below


def _here(below: str) -> str:
    """A file of the store's folder by the path in its address; nothing outside."""
    from urllib.parse import unquote
    folder = os.path.realpath(paths.state("files"))
    path = os.path.realpath(os.path.join(folder, "agentpipe", unquote(below)))
    return path if path.startswith(folder + "/agentpipe/") else ""


def server(api: Any) -> str:
    """The files server's address: api.files_server, else where one usually stands beside this API server."""
    found = config.get("api.files_server")
    if not found:
        host = api.host.rstrip("/")
        found = host[:-5] + ":8081" if host.endswith(":8008") else host.replace("://api.", "://files.", 1)
    return found.rstrip("/")


def reach(api: Any) -> str:
    """The files server's address, once it has answered anything at all; Failure 69 when it cannot be reached."""
    import requests
    address = server(api)
    if address.startswith(("http://", "https://")):  # not a bucket's
        try:
            requests.get(address + "/", timeout=(CONNECT_S, READ_S), allow_redirects=False, verify=certificate(),
                         auth=lambda request: request, stream=True).close()
        except requests.exceptions.RequestException as error:
            raise errors.Failure(f"the files server at {address} cannot be reached", errors.UNAVAILABLE,
                                 str(error), "start it, or correct api.files_server: what scripts upload is lost"
                                 ) from None
    return address


class _FilesAway(Away):
    """The files server cannot be reached, or says that it cannot work now."""

    def __init__(self, reason: str, evidence: str = "", remedy: str = "", refused: bool = False,
                 status: int = 0) -> None:
        super().__init__("", reason, refused=refused, status=status)
        self.reason, self.evidence, self.remedy = reason, evidence, remedy


def _patiently(api: Any, work: Callable[[], None]) -> None:
    """Do it, again and again while the files server is away and the calls of `api` would be made again."""
    from agentpipe.transport import http_retry
    tries = http_retry.Tries("files", api.patience, lambda: False)
    while True:
        try:
            return work()
        except Away as error:
            away = tries.again("", error)
        tries.pause = http_retry.back_off(tries.pause, away)


class _Part:
    """One file as the only part of a multipart body, read as it is sent: gigabytes cost no memory."""

    def __init__(self, file: IO[bytes], name: str, boundary: str) -> None:
        head = (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{os.path.basename(name)}"'
                "\r\nContent-Type: application/octet-stream\r\n\r\n").encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        import io
        self._left: list[Any] = [io.BytesIO(head), file, io.BytesIO(tail)]
        self._size = len(head) + os.fstat(file.fileno()).st_size + len(tail)

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        while self._left:
            data = self._left[0].read(size)
            if data:
                return data
            self._left.pop(0)
        return b""


def _upload(api: Any, path: str, below: str) -> str:
    import secrets
    host, boundary = server(api), secrets.token_hex(16)

    def send() -> None:
        with open(path, "rb") as file:
            _answer(api, "POST", host + "/", data=_Part(file, below, boundary),
                    headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})

    _patiently(api, send)
    return f"{host}/{below}"


def _download(api: Any, url: str, target: str) -> None:
    _patiently(api, lambda: _write(_answer(api, "GET", url, stream=True), url, target))


def _write(answer: Any, url: str, target: str) -> None:
    try:
        with open(target, "wb") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
    except OSError as error:
        if getattr(error, "response", None) is not None or not error.strerror:  # requests' are OSErrors too
            raise _FilesAway(f"the download of {url} was cut", str(error), "try again later") from None
        raise errors.Failure(f"cannot write {target}: {error.strerror}", errors.CANNOT_CREATE, remedy="df -h") from None


def _answer(api: Any, method: str, url: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """A successful answer of the files server; the token goes to that alone."""
    import requests
    headers = dict(headers or {})
    own = None if api.embedded else server(api)
    if own and (url + "/").startswith(own + "/"):
        headers["Authorization"] = f"Bearer {api.token()}"
    try:
        answer = requests.request(method, url, headers=headers, timeout=(CONNECT_S, READ_S), allow_redirects=False,
                                  verify=certificate(), auth=lambda request: request, **more)
    except requests.exceptions.RequestException as error:
        where = url.rpartition("/agentpipe/")[0] or url
        told = (f"the files server at {where} cannot be reached", str(error),
                "set api.files_server in clearml.conf to its address (port 8081), or try again later")
        if isinstance(error, requests.exceptions.SSLError | ValueError):  # a certificate, or no address at all
            raise errors.Failure(told[0], errors.UNAVAILABLE, *told[1:]) from None
        raise _FilesAway(*told, refused=never_reached(error)) from None
    if answer.status_code == 200:
        return answer
    if answer.status_code in AWAY:
        raise _FilesAway(f"the files server answers {answer.status_code} for {url}", answer.text[:2000],
                         "agent-config check", status=answer.status_code)
    exit = {401: errors.NO_PERMISSION, 403: errors.NO_PERMISSION, 404: errors.NOT_FOUND,
            507: errors.CANNOT_CREATE}.get(answer.status_code, errors.UNAVAILABLE)
    raise errors.Failure(f"the files server answers {answer.status_code} for {url}", exit, answer.text[:2000],
                         "agent-config check")
