"""Real git repositories, and a small web server for them, for the tests of fetch and patch."""

import atexit
import base64
import functools
import http.server
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a",
       "GIT_COMMITTER_EMAIL": "a@example.com", "GIT_CONFIG_NOSYSTEM": "1"}


def run(where: Path, *words: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> str:
    """git's stdout, in a repository."""
    done = subprocess.run(["git", "-c", "protocol.file.allow=always", "-c", "maintenance.auto=false", *words],
                          cwd=where, env={**(env or os.environ), **WHO}, input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def repository(where: Path, files: dict[str, str] | None = None, *, hashes: str = "sha1") -> Path:
    """A repository with one commit on `main`."""
    files = files or {"train.py": "print('hello')\n"}
    shutil.copytree(_first_commit(tuple(files.items()), hashes), where, symlinks=True)
    return where


@functools.cache
def _first_commit(files: tuple[tuple[str, str], ...], hashes: str) -> Path:
    """Such a repository to copy: five calls of git make one, and hundreds of tests begin with the same."""
    where = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, where, True)
    run(where, "init", "-q", "-b", "main", f"--object-format={hashes}", "--template=")
    commit(where, dict(files))
    return where


def commit(where: Path, files: dict[str, str], message: str = "change") -> str:
    """One more commit with these files; its hash."""
    for name, text in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run(where, "add", "-A")
    run(where, "commit", "-q", "--allow-empty", "-m", message)
    return run(where, "rev-parse", "HEAD")


def tree(where: Path) -> dict[str, tuple[str, bytes]]:
    """Every path outside .git with its kind and content: what must be equal when two trees are."""
    found = {}
    for here, directories, names in os.walk(where):
        directories[:] = [name for name in directories if name != ".git"]
        for name in [*names, *(d for d in directories if os.path.islink(os.path.join(here, d)))]:
            path = os.path.join(here, name)
            if name == ".git":
                continue
            if os.path.islink(path):
                found[os.path.relpath(path, where)] = ("link", os.fsencode(os.readlink(path)))
            else:
                kind = "executable" if os.stat(path).st_mode & 0o100 else "file"
                found[os.path.relpath(path, where)] = (kind, Path(path).read_bytes())
    return found


class Server:
    """git over dumb http: `requests` is what was asked; while `gate` is clear every answer waits."""

    def __init__(self, folder: Path, user: str = "", password: str = "") -> None:
        self.requests: list[str] = []
        self.arrived = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        outer, wanted = self, base64.b64encode(f"{user}:{password}".encode()).decode()

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                outer.arrived.set()
                outer.gate.wait(60)
                if user and self.headers.get("Authorization") != f"Basic {wanted}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.end_headers()
                    return
                super().do_GET()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      functools.partial(Handler, directory=str(folder)))
        self.host = f"127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


def published(source: Path, folder: Path, name: str = "r.git") -> Path:
    """A bare clone that a dumb web server can serve."""
    folder.mkdir(exist_ok=True)
    run(folder, "clone", "-q", "--bare", str(source), name)
    run(folder / name, "update-server-info")
    return folder / name
