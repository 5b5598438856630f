"""A line to a server of this machine that is slow, or over which nothing comes any more."""

import contextlib
import socket
import threading
import time


class SlowLine:
    """Answers of the server at `port` come in pieces of `size` bytes, `pause` s apart; after `most` bytes of them the
    first `stalls` connections that come so far are silent, and stay open. `host` is where it is to be had."""

    def __init__(self, port: int, size: int = 1 << 16, pause: float = 0.0, most: int = 0, stalls: int = 0) -> None:
        self.port, self.size, self.pause, self.most, self.left = port, size, pause, most, stalls
        self.silent = 0  # how many connections have become so
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> "SlowLine":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.create_connection(("127.0.0.1", self.port))
                self._open += [client, server]
                threading.Thread(target=self._asked, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answered, args=(server, client), daemon=True).start()

    def _asked(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answered(self, server: socket.socket, client: socket.socket) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := server.recv(self.size):
                if sent + len(data) > self.most and self._stalls():
                    return
                client.sendall(data)
                sent += len(data)
                time.sleep(self.pause)
            client.shutdown(socket.SHUT_WR)

    def _stalls(self) -> bool:
        with self._lock:
            stalls = self.left > 0
            self.left -= stalls
            self.silent += stalls
            return stalls
