"""Clients that say nothing, or a byte now and then: how long a connection may be held without a request.

Imported by a running server only: uvicorn is an extra.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# from a connection, or the first byte of its next request, until the head of the request is complete (s)
HEAD_SECONDS = 30
# between two pieces of a body (s)
BODY_SECONDS = 60
# for which a client may take nothing of an answer (s)
ANSWER_SECONDS = 120
LOOK_SECONDS = 5
# of a head, or between two pieces of a body (bytes): the parser keeps all of a line until its end
MOST_UNREAD = 64 << 10
# what of a request a connection is in the midst of
HEAD, BODY = "head", "body"


class Patient(HttpToolsProtocol):
    """A connection that remembers what it is in the midst of, and when it was last heard."""

    def connection_made(self, transport: Any) -> None:
        """From now on a request is awaited."""
        super().connection_made(transport)
        self.since = self.last = self.loop.time()
        self.within, self.unread = HEAD, 0

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        self.last = self.loop.time()
        if self.timeout_keep_alive_task is not None:
            self.since, self.within = self.last, HEAD
        self.unread += len(data)
        super().data_received(data)
        if not self.within:
            self.unread = 0
        elif self.unread > MOST_UNREAD and not self.transport.is_closing():
            self.send_400_response("The head of a request is too long.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.within = HEAD
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head; what stands behind a body nobody reads."""
        if self.within == HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body follows, which may be empty."""
        self.within, self.unread = BODY, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self.unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self.within = ""
        super().on_message_complete()

    def too_slow(self, at: float) -> bool:
        """Whether what is awaited of this client takes too long."""
        if self.within == BODY:
            if self.flow.read_paused:  # it is us
                self.last = at
            return at - self.last > BODY_SECONDS
        waits = self.within == HEAD and self.timeout_keep_alive_task is None
        return waits and (self.cycle is None or self.cycle.response_complete) and at - self.since > HEAD_SECONDS


async def watch(servers: Iterable[Any]) -> None:
    """Close the connections of clients that are too slow, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for server in servers:
            for connection in list(server.server_state.connections):
                if isinstance(connection, Patient) and connection.too_slow(loop.time()):
                    connection.transport.close()


def prepare(listening: socket.socket) -> None:
    """Connections of this socket end when the client is gone, or reads nothing of its answer."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ANSWER_SECONDS * 1000)
