"""A real HTTP server over the embedded store, in a thread of the test: agent-server's, or one that knows no claims.

    with ApiServer(path) as server: …                  # http://127.0.0.1:PORT, keys KEY and SECRET
    server.failing = [503, "drop", 200]                # what becomes of the next requests
"""

import base64
import gzip
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agentpipe.errors import ApiError, Failure
from agentpipe.server.endpoints import call
from agentpipe.server.store import Store

KEY, SECRET = "TESTKEY", "a-secret-of-tests"
EXTENSION_ENDPOINTS = ("events.get_log_position", "queues.wait", "tasks.wait")
# what a server that is not ours does not read
EXTENSION_FIELDS = ("claim", "host", "front", "after", "was")


def jwt(payload: dict[str, Any]) -> str:
    """A token as the client reads it: nobody checks the signature."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
             for part in ({"alg": "HS256"}, payload)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


class ApiServer:
    """`ours` tells the store's id and takes our extensions; otherwise they are stripped from every request."""

    def __init__(self, path: str, ours: bool = True, life_s: float = 86400 * 30, version: str = "2.34") -> None:
        self.store = Store(path)
        self.ours, self.life_s, self.version = ours, life_s, version
        self.failing: list[Any] = []
        self.logins = 0
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []  # method, path, headers, body
        self.tokens: set[str] = set()
        server = self

        class Handler(_Handler):
            api = server
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "ApiServer":
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What a client has to set."""
        return {"CLEARML_API_HOST": self.url, "CLEARML_API_ACCESS_KEY": KEY, "CLEARML_API_SECRET_KEY": SECRET}

    def asked(self) -> list[str]:
        """The endpoints in the order of their requests."""
        return [path.rpartition("/")[2] for _, path, _, _ in self.requests]

    def answer(self, endpoint: str, headers: Any, body: Any) -> dict[str, Any]:
        said = headers.get("Authorization", "")
        if endpoint == "auth.login":
            return {"token": self.login(said, body)}
        if said.removeprefix("Bearer ") not in self.tokens:
            raise ApiError(401, 30, "invalid token (invalid jwt token): reason=Signature has expired")
        if not self.ours:
            if endpoint in EXTENSION_ENDPOINTS:
                raise ApiError(404, 0, f"Unable to find endpoint for name {endpoint}")
            body = _stripped(endpoint, body)
        if endpoint in ("queues.wait", "tasks.wait"):
            self.wait(endpoint, body)
        caller = {"user": "ann", "worker": headers.get("X-Clearml-Worker", "")}
        kept = None if self.ours or endpoint != "tasks.enqueue" else self._runtime(body.get("task"))
        found = call(self.store, caller, endpoint, body)
        if kept:  # ours forgets the claim with it
            call(self.store, caller, "tasks.edit", {"task": body["task"], "runtime": kept, "force": True})
        return found if self.ours else _unmarked(found)

    def _runtime(self, task: Any) -> Any:
        found = call(self.store, {}, "tasks.get_all", {"id": [task], "only_fields": ["runtime"]})["tasks"]
        return found[0].get("runtime") if found else None

    def wait(self, endpoint: str, body: Any) -> None:
        """As agent-server does, one thread each."""
        until, seen = time.monotonic() + body.get("seconds", 0), None
        while True:
            now = self.store.data_version()  # cheap; the mark is not
            if now != seen and call(self.store, {}, endpoint, body)["mark"] != body.get("mark"):
                return
            if time.monotonic() >= until:
                return
            seen = now
            time.sleep(0.02)

    def login(self, said: str, body: Any) -> str:
        good = "Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        if said != good and said.removeprefix("Bearer ") not in self.tokens:
            raise ApiError(401, 22, "unauthorized (invalid credentials) (failed to locate provided credentials)")
        self.logins += 1
        now = time.time()
        payload = {"iat": now, "exp": now + (body.get("expiration_sec") or self.life_s), "n": self.logins,
                   "api_version": self.version, "identity": {"user": "ann"}, "pid": os.getpid()}
        token = jwt(payload | ({"agentpipe_server": self.store.server_id} if self.ours else {}))
        self.tokens.add(token)
        return token


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one segment: in two, the second waits 40 ms for the first one's ACK
    api: ApiServer

    def handle_any(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        lines = self.headers.get("Content-Type") == "application/json-lines"
        body = [json.loads(line) for line in raw.splitlines()] if lines else json.loads(raw or b"{}")
        self.api.requests.append((self.command, self.path, dict(self.headers), body))
        plan = self.api.failing.pop(0) if self.api.failing else 200
        if plan == "drop":
            self.close_connection = True
            self.connection.close()
            return None
        if callable(plan):
            plan = plan(self) or 200
        if plan == "answered":
            return None
        if isinstance(plan, int) and plan != 200:
            return self._plain(plan, b"<html>out of order</html>", "text/html")
        meta: dict[str, Any] = {"result_code": 200, "result_subcode": 0, "result_msg": "OK"}
        data: dict[str, Any] = {}
        try:
            data = self.api.answer(self.path.rpartition("/")[2], self.headers, body)
        except ApiError as error:
            meta = {"result_code": error.code, "result_subcode": error.subcode, "result_msg": error.msg}
        except Failure as failure:
            meta = {"result_code": 500, "result_subcode": 0, "result_msg": failure.reason}
        if plan == "done, then dropped":
            self.close_connection = True
            self.connection.close()
            return None
        return self._plain(meta["result_code"], json.dumps({"meta": meta, "data": data}).encode(), "application/json")

    do_GET = do_POST = do_PUT = handle_any

    def _plain(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 500:
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _stripped(endpoint: str, body: Any) -> Any:
    if isinstance(body, list):
        # every server keeps unknown keys of events, but only ours knows a repeated one by them
        return [{**event, "claim": f"{event['claim']}/{os.urandom(4).hex()}"} if "claim" in event else event
                for event in body]
    return {key: value for key, value in body.items() if key not in EXTENSION_FIELDS}


def _unmarked(answer: dict[str, Any]) -> dict[str, Any]:
    for event in answer.get("events", []):
        if "claim" in event:
            event["claim"] = event["claim"].partition("/")[0]
    return answer


def main() -> None:
    """api_server.py STORE ours|clearml PARENT: serve until process PARENT is gone; the first line is the address."""
    import sys
    path, kind, parent = sys.argv[1:4]
    with ApiServer(path, ours=kind == "ours") as server:
        print(server.url, flush=True)
        while os.path.exists(f"/proc/{parent}"):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
