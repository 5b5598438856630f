"""Both servers of agent-server in one process: sockets, the lock of the store, start and graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from agentpipe import errors, files
from agentpipe.errors import Failure
from agentpipe.server.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# how long requests that are under way may take at a stop (s), before TERM's sender loses patience
GRACE = 10
# requests wait here while all threads work
BACKLOG = 512
MOST_CONNECTIONS = 2000
# each of them, on both servers, with a file of its own
FILES = 4 * MOST_CONNECTIONS
KEEP_ALIVE = 75
# how long the lock of a store is waited for, which others look at (s)
LOOK = 0.2
SWITCH = 0.001


def needed() -> None:
    """Refuse (69) when the extra packages are not installed."""
    try:
        import httptools
        import jwt
        import python_multipart
        import starlette
        import uvicorn
    except ImportError as error:
        raise Failure(f"agent-server needs the package {error.name}", errors.UNAVAILABLE,
                      remedy="pip install 'agentpipe[server]'") from None
    del httptools, jwt, python_multipart, starlette, uvicorn


@contextlib.contextmanager
def only_one(store: Store) -> Iterator[None]:
    """Hold the lock of a store's server; another one that runs is named (75)."""
    from filelock import FileLock, Timeout
    note = _note(store)
    lock = FileLock(_lock(store), mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire(timeout=LOOK)  # addresses() may just look
    except Timeout:
        raise Failure(f"another agent-server serves {store.path} (pid {_lines(note)[0]})", errors.TRY_AGAIN,
                      remedy="stop it first, or set AGENT_HOME") from None
    try:
        note_addresses(store, [])
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(note)
        lock.release()


def note_addresses(store: Store, urls: list[str]) -> None:
    """Write who serves a store, and where: its process id and its addresses, one a line."""
    try:
        with open(_note(store), "w", encoding="ascii", errors="replace", opener=_private) as file:
            file.write("\n".join([str(os.getpid()), *urls]))
    except OSError as error:
        raise files.unwritable(f"write {_note(store)}", error) from None


def addresses(store: Store) -> list[str]:
    """Where the server of a store is reached: the API's and the files' address; empty when none runs."""
    found = _lines(_note(store))[1:]
    return found if len(found) == 2 and _runs(store) else []


def _runs(store: Store) -> bool:
    """Whether a server of the store runs: one that was killed has left its note."""
    import fcntl
    try:
        with open(_lock(store), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def _note(store: Store) -> str:
    return os.path.join(os.path.dirname(store.path), "server.pid")


def _lock(store: Store) -> str:
    return os.path.join(os.path.dirname(store.path), "server.lock")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines() or ["?"]
    except OSError:
        return ["?"]


def listen(host: str, port: int, option: str) -> socket.socket:
    """A listening socket (port 0 takes a free one); an address that is taken or not ours is 73."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        of_host = isinstance(error, socket.gaierror | UnicodeError) or getattr(error, "errno", 0) == errno.EADDRNOTAVAIL
        raise Failure(f"cannot listen on {host}:{port}: {reason}", errors.CANNOT_CREATE,
                      remedy=f"choose another {'--host' if of_host else option}") from None
    return found


def url(host: str, port: int) -> str:
    """Where clients reach what listens on `host`."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def elsewhere(address: str, scheme: str | None, host: str | None, port: int | None) -> str:
    """That address with another scheme, host or port, where these are given."""
    from urllib.parse import urlsplit
    found = urlsplit(address)
    plain = url((host or found.hostname or "").strip("[]"), port or found.port or 0)
    return f"{scheme or found.scheme}:{plain.partition(':')[2]}"


def more_files() -> None:
    """Let this process open as many files as its connections may need; a login shell's 1024 are soon used up."""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve(apps: list[tuple[Any, socket.socket]], ready: Callable[[], None]) -> None:
    """Serve each application on its socket until INT, TERM or HUP; what is under way is finished first."""
    import uvicorn

    from agentpipe.server import patience
    more_files()
    for _, listening in apps:
        patience.prepare(listening)

    class Server(uvicorn.Server):
        """A uvicorn that leaves signals to us: two of them share this process."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    servers = [Server(uvicorn.Config(
        app, lifespan="off", access_log=False, log_level="error", server_header=False, date_header=False,
        proxy_headers=False, ws="none", timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=GRACE,
        limit_concurrency=MOST_CONNECTIONS, http=patience.Patient)) for app, _ in apps]

    async def run() -> None:
        """All servers in this thread's event loop, until a signal."""
        def stop() -> None:
            for server, (app, _) in zip(servers, apps, strict=True):
                server.should_exit = True
                if hasattr(app, "stop"):
                    app.stop()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(signum) != signal.SIG_IGN:  # nohup stays nohup
                loop.add_signal_handler(signum, stop)
        ready()
        watch = asyncio.create_task(patience.watch(servers))
        await asyncio.gather(*(server.serve([listening]) for server, (_, listening) in zip(servers, apps, strict=True)))
        watch.cancel()

    # the loop answers many while a thread writes a large batch: it must not wait for it as long as Python's 5 ms
    sys.setswitchinterval(SWITCH)
    asyncio.run(run())
