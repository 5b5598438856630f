"""The files server: artefacts, models and pictures in one folder, over HTTP (server.md §10).

Nothing outside the folder is ever read or written, also not through links in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from agentpipe import stdio, trees
from agentpipe.errors import CANNOT_CREATE, ApiError, Failure
from agentpipe.server import callers
from agentpipe.server.tokens import Tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starlette.types import Receive, Scope, Send

# where uploads grow; no path of a request leads there
GROWING = ".agentpipe-uploads"
MOST_LEVELS = 256
MOST_JSON = 16 << 20
# served files may be anybody's: scripts in them get no origin of ours
GUARD = {"Content-Security-Policy": "sandbox allow-scripts", "X-Content-Type-Options": "nosniff",
         "Cache-Control": "private, no-cache"}
OPEN_TO_ALL = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*",
               "Access-Control-Allow-Methods": "*"}


class Refused(Exception):
    """An answer that is no success: HTTP status and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Files:
    """The ASGI application over the folder `root`, which is made (0700) when it is missing."""

    def __init__(self, root: str, tokens: Tokens) -> None:
        self.tokens = tokens
        # a file that is to go, and one that takes its place
        self.placing = threading.Lock()
        try:
            os.makedirs(root, 0o700, exist_ok=True)
            self.root = os.path.realpath(root)
            self.growing = os.path.join(self.root, GROWING)
            trees.remove(self.growing)
            os.mkdir(self.growing, 0o700)
        except OSError as error:
            there = isinstance(error, FileExistsError)
            reason = "it is no directory" if there else error.strerror or error
            raise Failure(f"cannot write to {root}: {reason}", CANNOT_CREATE,
                          remedy="choose another --files-dir") from None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except ApiError as problem:
            response = PlainTextResponse(problem.msg, problem.code)
        except Refused as problem:
            response = PlainTextResponse(str(problem), problem.code)
        except OSError as problem:
            response = _failed(problem)
        response.headers.update(OPEN_TO_ALL)
        # the clearml package uses connections on after a fork (http.py)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path, method = request.url.path, request.method
        if method == "OPTIONS" or (path == "/" and method in ("GET", "HEAD")):
            return PlainTextResponse("" if method == "OPTIONS" else "OK")
        await run_in_threadpool(callers.identify, self.tokens, request.headers)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "content encoding is not supported")
        if method == "POST" and path == "/":
            from agentpipe.server.uploads import Upload
            return JSONResponse(await Upload(self).receive(request))
        if method == "POST" and path.strip("/") == "delete_many":
            return JSONResponse(await run_in_threadpool(self._delete_many, await _json(request)))
        name = request.scope["path"]
        if method in ("GET", "HEAD"):
            return await run_in_threadpool(self._file, name, request)
        if method == "DELETE":
            return JSONResponse(await run_in_threadpool(self._delete, name))
        raise Refused(405, "method not allowed")

    def located(self, name: str) -> str:
        """The absolute path of a name relative to the root; 404 where it leads out of it, or through a link, 400 where
        it is too deep.

        A quote and %22 are one: in a form (browsers, requests) both look alike, and the clearml package writes %22
        for a quote in the name of a task.
        """
        parts = [part for part in name.replace("%22", '"').split("/") if part not in ("", ".")]
        if not parts or ".." in parts or parts[0] == GROWING or "\0" in name:
            raise Refused(404, "no such file")
        if len(parts) > MOST_LEVELS:
            raise Refused(400, f"a path has {MOST_LEVELS} levels at most")
        path = os.path.join(self.root, *parts)
        if os.path.realpath(path) != path:
            raise Refused(404, "no such file")
        return path

    def discard(self, name: str, written_before: float) -> bool:
        """Remove a file that is as old as that, and the folders that are empty without it; whether it was there."""
        try:
            path = self.located(name)
            with self.placing:
                found = os.lstat(path)
                if not stat.S_ISREG(found.st_mode) or found.st_mtime > written_before:
                    return False
                self._unlink(path)
        except (OSError, Refused):
            return False
        return True

    def _unlink(self, path: str) -> None:
        """Remove a file, and the folders that are empty without it; nothing must take its place meanwhile."""
        os.unlink(path)
        above = os.path.dirname(path)
        with contextlib.suppress(OSError):
            while above != self.root:
                os.rmdir(above)
                above = os.path.dirname(above)

    def _remove_folder(self, path: str) -> None:
        """Remove a folder with all in it: at once for everybody else, however long that takes."""
        gone = os.path.join(self.growing, secrets.token_hex(16))
        with self.placing:
            os.rename(path, gone)
        trees.remove(gone)

    def _file(self, name: str, request: Request) -> Response:
        path = self.located(name)
        if not os.path.isfile(path):
            raise Refused(404, "no such file")
        download = "download" in request.query_params
        kind = "application/octet-stream" if path.endswith(".gz") else None
        found = FileResponse(path, headers=GUARD, media_type=kind, stat_result=os.stat(path),
                             filename=os.path.basename(path) if download else None)
        if _is_among(found.headers["etag"], request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers={"ETag": found.headers["etag"]})
        return found

    def _delete(self, name: str) -> str:
        path = self.located(name)
        if not os.path.isfile(path):
            raise Refused(404, "no such file")
        try:
            with self.placing:
                self._unlink(path)
        except FileNotFoundError:  # somebody else was quicker
            raise Refused(404, "no such file") from None
        return name.strip("/")

    def _delete_many(self, body: Any) -> dict[str, Any]:
        names = body.get("files") if isinstance(body, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Refused(400, "files must be a list of paths")
        deleted: dict[str, str] = {}
        errors: dict[str, list[str]] = {}
        for name in names:
            try:
                path = self.located(name)
                if os.path.isdir(path):
                    self._remove_folder(path)
                else:
                    with self.placing:
                        self._unlink(path)
                deleted[name] = name.strip("/")
            except (OSError, Refused) as problem:
                text = problem.strerror if isinstance(problem, OSError) else str(problem)
                errors.setdefault(text or "error", []).append(name)
        return {"deleted": deleted, "errors": errors}


async def _json(request: Request) -> Any:
    data, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_JSON:
            raise Refused(413, f"the request is larger than {MOST_JSON} bytes")
        data.append(chunk)
    from agentpipe.server.bodies import parse
    return parse(b"".join(data), "application/json")


def _is_among(etag: str, known: str) -> bool:
    """Whether a client has that version: If-None-Match lists those that it has, or is *."""
    return known.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in known.split(",")]


def _failed(problem: OSError) -> Response:
    stdio.say(f"agent-server: files: {problem.strerror}")
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return PlainTextResponse("the disk is full", 507)
    if problem.errno in (errno.ENAMETOOLONG, errno.EINVAL):
        return PlainTextResponse("no good file name", 400)
    if problem.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return PlainTextResponse("a folder and a file cannot have one name", 409)
    return PlainTextResponse(f"cannot do this: {problem.strerror}", 500)
