"""Real git servers on loopback ports: smart http by git's own http-backend, and git daemon."""

import base64
import http.server
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class SmartServer:
    """`git http-backend` under a small CGI server.

    `doors`: the beginning of a path → the Authorization header that it wants ("" for none); `faults` are answered
    before anything else, one a request (0: the pack is cut in its middle); `asked` is (method, path, Authorization) of
    each request; `says` is the text with which a login is refused; `certificate` is a file of a key and what is signed.
    """

    def __init__(self, folder: Path, doors: dict[str, str] | None = None, says: str = "",
                 certificate: Path | None = None) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.faults: list[int] = []
        outer, environment = self, {**os.environ, "GIT_PROJECT_ROOT": str(folder), "GIT_HTTP_EXPORT_ALL": "1",
                                    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                                    "GIT_CONFIG_VALUE_0": "*"}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                # as a proxy it is asked for a whole URL
                path, _, query = re.sub(r"^http://[^/]*", "", self.path).partition("?")
                shown = self.headers.get("Authorization", "")
                outer.asked.append((self.command, self.path, shown))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                cut = outer.faults[:1] == [0] and self.command == "POST" and b"done" in body
                if cut or (outer.faults and outer.faults[0]):
                    fault = outer.faults.pop(0)
                    if fault:
                        self.send_error(fault)
                        return
                wanted = next((key for start, key in (doors or {}).items() if path.startswith(start)), "")
                if wanted and shown != wanted:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.send_header("Content-Type", "text/plain")
                    self.send_header("Content-Length", str(len(says)))
                    self.end_headers()
                    self.wfile.write(says.encode())
                    return
                self.answer(subprocess.run(["git", "http-backend"], input=body, capture_output=True, env={
                    **environment, "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}).stdout, cut)

            do_POST = do_GET

            def answer(self, said, cut):
                head, _, body = said.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[:len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = f"https://{self.host}"

    def __enter__(self) -> "SmartServer":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Daemon:
    """`git daemon` of all repositories below a folder."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"git://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            ["git", "-c", "safe.directory=*", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1",
             f"--port={self.port}", f"--base-path={folder}", str(folder)], stderr=subprocess.DEVNULL,
            start_new_session=True)

    def __enter__(self) -> "Daemon":
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert time.monotonic() < until and self.process.poll() is None
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        # the one that serves is a child of `git`
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


if __name__ == "__main__":  # FOLDER USER PASSWORD: print the address, and serve until killed
    import sys
    with SmartServer(Path(sys.argv[1]), {"/": basic(sys.argv[2], sys.argv[3])}) as served:
        print(served.url, flush=True)
        threading.Event().wait()
