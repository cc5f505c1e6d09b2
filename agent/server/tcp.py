"""DNS over TCP (RFC 7766): a length, a message, and the same back, many at a time.

Law: a peer gets only so much of everything: connections, time without a whole message, queries, unread replies. What
is over a bound is closed and counted. (What one connection may hold: `connection`.)
"""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from agent.server.connection import Connection
from agent.server.responder import Responder

BACKLOG = 128


class TcpOptions(NamedTuple):
    """Bounds of DNS over TCP.

    Attributes:
        max_connections: in total; a new one beyond them is closed.
        max_per_client: of one client address; the same.
        max_queries: on one connection, then it is closed; 0: no bound.
        idle_timeout_ms: a connection without a whole message for this long is closed.
    """

    max_connections: int = 1024
    max_per_client: int = 64
    max_queries: int = 0
    idle_timeout_ms: int = 10_000


class TcpEndpoint:
    """Serves one listening TCP socket from the event loop.

    Args:
        sock: bound; closed by `stop`.
        responder: answers; may be replaced at any time (`responder`).
        options: bounds; may be replaced at any time (`options`) and count from the next message.
        connections: open connections, one list for all endpoints whose bounds are common.
    """

    def __init__(
        self, sock: socket.socket, responder: Responder, options: TcpOptions, connections: Connections | None = None
    ) -> None:
        self.responder = responder
        self.options = options
        self.sock = sock
        self.connections = connections if connections is not None else Connections()
        self._own: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, loop), sock=self.sock, backlog=BACKLOG)

    async def stop(self, deadline_s: float) -> None:
        """Accept no more, answer what has arrived, let replies out until the deadline, then cut what is left."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._own):
            connection.finish()
        try:
            await asyncio.wait_for(self._is_empty.wait(), deadline_s)
        except TimeoutError:
            for connection in list(self._own):
                connection.abort("drain")

    def opened(self, connection: Connection) -> None:
        """Count a connection in."""
        self._own.add(connection)
        self._is_empty.clear()
        self.connections.add(connection.client_ip)
        self.responder.counters.tcp_open = self.connections.total

    def closed(self, connection: Connection, reason: str) -> None:
        """Count a connection out."""
        self._own.discard(connection)
        if not self._own:
            self._is_empty.set()
        self.connections.remove(connection.client_ip)
        counters = self.responder.counters
        counters.tcp_open = self.connections.total
        counters.tcp_closed[reason] += 1

    def refusal(self, client_ip: str) -> str:
        """Say why one more connection is too many; empty if it isn't."""
        if self.connections.total >= self.options.max_connections:
            return "too_many"
        if self.connections.of(client_ip) >= self.options.max_per_client:
            return "too_many_of_client"
        return ""


class Connections:
    """How many connections are open, in total and by client; never more entries than connections."""

    def __init__(self) -> None:
        self.total = 0
        self._by_client: dict[str, int] = {}

    def of(self, client_ip: str) -> int:
        """Count one client's connections."""
        return self._by_client.get(client_ip, 0)

    def add(self, client_ip: str) -> None:
        """One more."""
        self.total += 1
        self._by_client[client_ip] = self.of(client_ip) + 1

    def remove(self, client_ip: str) -> None:
        """One less."""
        self.total -= 1
        left = self.of(client_ip) - 1
        if left:
            self._by_client[client_ip] = left
        else:
            del self._by_client[client_ip]
