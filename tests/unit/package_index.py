"""A package index over HTTP: a folder of wheels and sources, with and without a password."""

import http.server
import os
import threading


def serve(folder):
    """(the server, "127.0.0.1:PORT") of the files in `folder`; call its shutdown() at the end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Index,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"127.0.0.1:{server.server_port}"


class Index(http.server.BaseHTTPRequestHandler):
    """FILE, simple/NAME/, the same below private/ for those who know the password, and for nobody below closed/."""

    def do_GET(self):
        path = self.path
        if path.startswith("/private/"):
            if self.headers.get("Authorization") != "Basic dTpzZWNyZXQ=":
                self.send_response(401)
                self.end_headers()
                return
            path = path.removeprefix("/private")
        if path.startswith("/closed/"):
            self.send_response(403)
            self.end_headers()
            return
        name = path.strip("/").split("/")[-1]
        if path.startswith("/simple/"):
            files = [each for each in sorted(os.listdir(self.folder)) if each.startswith(name.replace("-", "_") + "-")]
            links = "".join(f'<a href="../../{file}">{file}</a>' for file in files if not file.endswith(".tree"))
            self.answer(f"<html>{links}</html>".encode() if links else b"", "text/html")
        elif os.path.isfile(os.path.join(self.folder, name)):
            with open(os.path.join(self.folder, name), "rb") as file:
                self.answer(file.read(), "application/octet-stream")
        else:
            self.answer(b"", "")

    do_HEAD = do_GET

    def answer(self, data, kind):
        self.send_response(200 if data else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass
