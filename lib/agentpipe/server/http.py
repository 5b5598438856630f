"""The ClearML API over HTTP: an ASGI application in front of `endpoints.call` (server.md §2).

The event loop moves bytes and small JSON. Reads happen in threads; all changes in a single one (writer.py), since a
store has one writer at a time anyway.
"""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from agentpipe import stdio
from agentpipe.errors import CANNOT_CREATE, TRY_AGAIN, UNAVAILABLE, ApiError, Failure
from agentpipe.server import bodies, callers, endpoints, no_page, versions, waiting, watched
from agentpipe.server.common import new_id
from agentpipe.server.files import GUARD
from agentpipe.server.tokens import API_VERSION, Tokens
from agentpipe.server.writer import SharedStore, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starlette.types import Receive, Scope, Send

PATH = re.compile(r"/*(?:v(?P<version>\d{1,4}(?:\.\d{1,4})?)/)?(?P<name>\w{1,64}\.\w{1,64})/?")
# a batch is 15 MB at most, a task with its uncommitted changes may be more (bytes)
MOST = 128 << 20
# bytes of all requests that wait or are carried out, beside small ones: a slow disk must not fill the memory
MOST_TOGETHER = 256 << 20
TRY_AGAIN_S = 2
# what those may send who are nobody yet
MOST_OPEN = 64 << 10
COMPRESSED = 2048
# bodies that the event loop may parse itself
SMALL = 16 << 10
# ClearML's server closes each connection, and the clearml package lives on that: it forks a process to report, which
# goes on with the parent's open connection; then each reads answers to the other. Only clients of ours keep theirs
OURS = "agentpipe"
READERS = 4
AWAY = (CANNOT_CREATE, TRY_AGAIN, UNAVAILABLE)
# answered as files; what they read they read by themselves
FILES = {"events.download_task_log", "organization.download_for_get_all"}
COOKIE_SECONDS = 30 * 86400


class Call:
    """One request on its way: what was asked and by whom, as far as it is known."""

    __slots__ = ("caller", "endpoint", "headers", "id", "name", "size", "started", "version")

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.id = new_id()
        self.name = self.version = ""
        self.endpoint: endpoints.Endpoint | None = None
        self.caller: dict[str, str] = {}
        self.size = 0  # bytes of its body that count for MOST_TOGETHER
        self.started = time.monotonic()

    def header(self, name: str) -> str:
        """One of ClearML's own headers, under its old name too."""
        return self.headers.get("x-clearml-" + name) or self.headers.get("x-trains-" + name) or ""


class Api:
    """The ASGI application over one store; `verbose` writes a line a request to stderr."""

    def __init__(self, store: SharedStore, tokens: Tokens, verbose: bool = False) -> None:
        self.store, self.tokens, self.verbose = store, tokens, verbose
        store.kept["tokens"] = tokens
        self._size = 0  # of all calls; only the event loop changes it
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._writer = Writer(store)
        self.polls = {"queues.wait": waiting.Waiting(self._queues_mark, waiting.LOOK),
                      "tasks.wait": waiting.Waiting(self._tasks_marks, waiting.LOOK_AT_TASKS)}
        self._common = {"X-Agentpipe-Server": store.server_id, "Access-Control-Allow-Origin": "*",
                        "Access-Control-Allow-Headers": "*", "Access-Control-Allow-Methods": "*",
                        "Cache-Control": "no-store"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        if request.method == "OPTIONS":
            response = Response(b"", headers=self._common)
        else:
            call = Call(dict(request.headers))
            try:
                response = self._no_page(request) or await self._answer(request, call)
            except ClientDisconnect:
                return
            except Exception as problem:
                response = self._respond(call, 200, None, problem)
            finally:
                self._count(call, 0)
            self._note(call, response.status_code)
        await response(scope, receive, send)

    def _no_page(self, request: Request) -> Response | None:
        """The answer to a browser that asks for a page; None to all others."""
        path = request.scope["path"]
        told = "" if PATH.fullmatch(path) else no_page.told(request.method, path, request.headers.get("accept", ""))
        headers = {**self._common, "X-Content-Type-Options": "nosniff"}
        return Response(told, 404, headers, "text/plain") if told else None

    async def _answer(self, request: Request, call: Call) -> Response:
        find(call, request.scope["path"])
        await self._identify(call, request.method)
        if not versions.has(call.name, versions.number(call.version)):
            raise ApiError(301, 1, f"moved: {call.name} is not in version {call.version}")
        if call.header("impersonate-as") or call.header("act-as"):
            raise ApiError(400, 6, "impersonation is not allowed")
        if call.headers.get("content-encoding", "identity") != "identity":
            return self._respond(call, 415, None, ApiError(415, 0, "content encoding is not supported"))
        data = await self._received(request, call, MOST if call.caller else MOST_OPEN)
        query = request.scope["query_string"].decode("latin-1")
        call.caller["worker"] = call.header("worker")
        call.caller["address"] = request.client.host if request.client else ""
        assert call.endpoint is not None
        if call.name in self.polls:
            await self._polled(call, self._parsed(call, data, query))
        if not endpoints.writes(call.endpoint) or call.name in FILES:
            return await self._in_thread(self._read, call, data, query)
        if len(data) < SMALL:
            body = self._parsed(call, data, query)
        else:
            body = await self._in_thread(self._parsed, call, data, query)
        change = partial(endpoints.call, self.store, call.caller, call.name, body)
        answer = await asyncio.wrap_future(
            self._writer.submit(change, endpoints.durable(call.endpoint), len(data) >= SMALL))
        return self._respond(call, 200, self._translated(call, answer))

    async def _identify(self, call: Call, method: str) -> None:
        """Who calls; what everybody may call is called by nobody in particular where nothing good is shown."""
        assert call.endpoint is not None
        call.caller = callers.known(self.tokens, call.headers) or {}
        if call.caller:
            return
        link = method in ("GET", "HEAD") and endpoints.writes(call.endpoint)
        try:
            call.caller = await self._in_thread(callers.identify, self.tokens, call.headers, link)
        except ApiError:
            if call.name not in callers.OPEN or "authorization" in call.headers:
                raise

    async def _received(self, request: Request, call: Call, most: int) -> bytes:
        """The body; 503 when too much of others is in memory already (then it is read to its end, and forgotten)."""
        parts: list[bytes] = []
        size, refused = 0, False
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise ApiError(413, 0, f"the request is larger than {most} bytes")
            if refused:
                continue
            parts.append(chunk)
            if size > SMALL:
                self._count(call, size)
                if self._size > MOST_TOGETHER:
                    refused = True
                    parts.clear()
                    self._count(call, 0)
        if refused:
            raise ApiError(503, 0, "too many changes wait for the disk, try again")
        return b"".join(parts)

    def _count(self, call: Call, size: int) -> None:
        """So many bytes of this call are in memory."""
        self._size += size - call.size
        call.size = size

    async def _polled(self, call: Call, body: Any) -> None:
        task = body.get("task") if isinstance(body, dict) else None
        await self.polls[call.name].until_changed(body, task if isinstance(task, str) else "")

    async def _queues_mark(self, _: set[str]) -> dict[str, Any]:
        return {"": waiting.mark(self.store.wake_path)}

    async def _tasks_marks(self, tasks: set[str]) -> dict[str, Any]:
        return await self._in_thread(self.store.read, partial(watched.marks, tasks=tasks))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)

    def _parsed(self, call: Call, data: bytes, query: str) -> Any:
        body = bodies.parse(data, call.headers.get("content-type", ""), query)
        return versions.incoming(call.name, versions.number(call.version), body)

    def _translated(self, call: Call, answer: dict[str, Any]) -> dict[str, Any]:
        return versions.outgoing(call.name, versions.number(call.version), answer)

    def _read(self, call: Call, data: bytes, query: str) -> Response:
        """From the body's bytes to the answer's, in a thread."""
        answer = endpoints.call(self.store, call.caller, call.name, self._parsed(call, data, query))
        if isinstance(answer, endpoints.Attachment):
            return self._attached(answer)
        return self._respond(call, 200, self._translated(call, answer))

    def _respond(self, call: Call, code: int, data: Any, problem: Exception | None = None) -> Response:
        subcode, text = 0, "OK"
        if problem is not None:
            code, subcode, text = _told(problem)
        requested: Any = call.version
        actual: Any = call.version if call.endpoint else None
        if versions.number(call.version) < (2, 1) and call.endpoint:
            requested = actual = float(call.version)
        answer = {
            "meta": {"id": call.id, "trx": call.header("trx") or call.id,
                     "endpoint": {"name": call.name, "requested_version": requested, "actual_version": actual},
                     "result_code": code, "result_subcode": subcode, "result_msg": text, "error_stack": None,
                     "error_data": {}},
            "data": data if data is not None else {}}
        response = self._packed(call, bodies.dump(answer), code)
        if code == 503:
            response.headers["Retry-After"] = str(TRY_AGAIN_S)
        if call.name == "auth.login" and code == 200:
            response.set_cookie(callers.COOKIE, data["token"], max_age=COOKIE_SECONDS, httponly=True, samesite="lax")
        elif call.name.endswith(".logout") and code == 200:
            response.delete_cookie(callers.COOKIE, httponly=True, samesite="lax")
        return response

    def _attached(self, answer: endpoints.Attachment) -> Response:
        headers = {**self._common, "Connection": "close",
                   "Content-Disposition": f'attachment; filename="{answer.name}"', **GUARD}
        return StreamingResponse(iter(answer.chunks), headers=headers, media_type=answer.kind)

    def _packed(self, call: Call, content: bytes, code: int) -> Response:
        headers = self._common
        if call.header("client") and not call.header("client").startswith(OURS):
            headers = {**headers, "Connection": "close"}
        if len(content) > COMPRESSED and "gzip" in call.headers.get("accept-encoding", ""):
            import gzip
            content = gzip.compress(content, 3)
            headers = {**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(content, code, headers, "application/json")

    def _note(self, call: Call, code: int) -> None:
        if self.verbose:
            spent = (time.monotonic() - call.started) * 1000
            _say(f"{code} {call.name or '?'} {spent:.1f} ms {call.caller.get('user', '-')}")

    def stop(self) -> None:
        """The server is about to end: nobody is kept waiting for news."""
        for each in self.polls.values():
            each.stop()

    def submit(self, change: Any, durable: bool) -> Any:
        """A change that no request asked for, among those of all others."""
        return self._writer.submit(change, durable)

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.close()
        self._readers.shutdown()


def find(call: Call, path: str) -> None:
    """The endpoint that a path names; a bad one is 400/0, an unknown one 404/0."""
    found = PATH.fullmatch(path)
    if found is None:
        raise ApiError(400, 0, f"Invalid request path {path[:200]}")
    call.name, call.version = found["name"], found["version"] or API_VERSION
    call.endpoint = endpoints.find(call.name, call.version)


def _told(problem: Exception) -> tuple[int, int, str]:
    """Code, subcode and text of what went wrong."""
    if isinstance(problem, ApiError):
        return problem.code, problem.subcode, problem.msg
    if isinstance(problem, Failure):
        _say(problem.reason + (f" ({problem.remedy})" if problem.remedy else ""))
        # a locked store, a full disk: clients wait for a server that says 503, and go on where they were
        return (503, 0, problem.reason) if problem.exit in AWAY else (500, 100, problem.reason)
    import traceback
    where = traceback.extract_tb(problem.__traceback__)[-1]
    _say(f"a bug of ours: {type(problem).__name__}: {problem} ({where.filename}:{where.lineno})")
    return 500, 0, f"general error ({type(problem).__name__}: {problem})"


def _say(text: str) -> None:
    stdio.say(f"agent-server: {text}")
