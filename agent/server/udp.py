"""DNS over UDP: read, answer, send, at most `MAX_BATCH` times per wake-up of the loop.

Law: no task, coroutine or log line per query, and nothing here raises: what the kernel does not take is counted. On
a socket bound to a wildcard the reply leaves from the address that was asked, or the client would not know it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from functools import partial
from time import perf_counter
from typing import Any

from agent.server.outside import Pending
from agent.server.responder import Responder
from agent.server.sockets import lost

MAX_BATCH = 64
"""Queries answered before the loop gets its turn."""
MAX_QUERY_BYTES = 4096
"""A longer query is cut, and then can't be read."""
MAX_ERRNOS = 64
ECHO_PORTS = frozenset({0, 7, 19})
"""Source ports whose owner answers everything (RFC 862, RFC 864) or can't be answered; such a query is a loop made
by somebody else."""

# Linux, absent from the socket module: linux/in.h, linux/in6.h.
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_PKTINFO4 = struct.Struct("@I4s4s")
_PKTINFO6 = struct.Struct("@16sI")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_PKTINFO4.size) + socket.CMSG_SPACE(_PKTINFO6.size)
_NO_INTERFACE = 0

Ancillary = list[tuple[int, int, bytes]]


class UdpEndpoint:
    """Serves one UDP socket from the event loop.

    Args:
        sock: bound and non-blocking; closed by `close`.
        responder: answers; may be replaced at any time (`responder`).
        loop: whose reader this is.
    """

    def __init__(self, sock: socket.socket, responder: Responder, loop: asyncio.AbstractEventLoop) -> None:
        self.responder = responder
        self.sock = sock
        self._loop = loop
        self._lost = 0
        sock.setblocking(False)
        is_wildcard = ipaddress.ip_address(sock.getsockname()[0]).is_unspecified
        if is_wildcard:
            tell_queried_address(sock)
        self._drain = self._drain_wildcard if is_wildcard else self._drain_address

    def start(self) -> None:
        """Begin to answer."""
        self._loop.add_reader(self.sock, self._wake)

    def close(self) -> None:
        """Answer what has arrived, up to one batch, and close the socket."""
        self._loop.remove_reader(self.sock)
        self._wake()
        self.sock.close()

    def _wake(self) -> None:
        began_s = perf_counter()
        count = self._drain()
        if count:
            self.responder.counters.latency.observe(perf_counter() - began_s, count)
        if count > 1:  # There is a backlog before anything is lost.
            before, self._lost = self._lost, lost(self.sock)
            self.responder.counters.dropped["receive_buffer"] += self._lost - before & 0xFFFFFFFF

    def _drain_address(self) -> int:
        """Serve a socket bound to one address; gives the number of packets read."""
        receive, send, respond = self.sock.recvfrom, self.sock.sendto, self.responder.respond
        for count in range(MAX_BATCH):
            try:
                packet, client = receive(MAX_QUERY_BYTES)
            except BlockingIOError:
                return count
            except OSError as error:
                self._count(self.responder.counters.receive_errors, error)
                return count
            if client[1] in ECHO_PORTS:
                self.responder.counters.dropped["source_port"] += 1
                continue
            reply = respond(packet, client[0], tcp=False)
            if isinstance(reply, Pending):
                reply.deliver = partial(self._send_later, client, None)
            elif reply is not None:
                try:
                    send(reply, client)
                except OSError as error:
                    self._count(self.responder.counters.send_errors, error)
        return MAX_BATCH

    def _drain_wildcard(self) -> int:
        """Serve a socket bound to all addresses; gives the number of packets read."""
        receive, send, respond = self.sock.recvmsg, self.sock.sendmsg, self.responder.respond
        for count in range(MAX_BATCH):
            try:
                packet, ancillary, _, client = receive(MAX_QUERY_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return count
            except OSError as error:
                self._count(self.responder.counters.receive_errors, error)
                return count
            if client[1] in ECHO_PORTS:
                self.responder.counters.dropped["source_port"] += 1
                continue
            reply = respond(packet, client[0], tcp=False)
            if isinstance(reply, Pending):
                reply.deliver = partial(self._send_later, client, reply_from(ancillary))
            elif reply is not None:
                try:
                    send((reply,), reply_from(ancillary), 0, client)
                except OSError as error:
                    self._count(self.responder.counters.send_errors, error)
        return MAX_BATCH

    def _send_later(self, client: Any, ancillary: Ancillary | None, reply: bytes) -> None:
        """Send a reply that others had to be asked for."""
        if self.sock.fileno() < 0:
            return
        try:
            if ancillary is None:
                self.sock.sendto(reply, client)
            else:
                self.sock.sendmsg((reply,), ancillary, 0, client)
        except OSError as error:
            self._count(self.responder.counters.send_errors, error)

    @staticmethod
    def _count(counts: dict[int, int], error: OSError) -> None:
        number = error.errno or 0
        if number in counts or len(counts) < MAX_ERRNOS:
            counts[number] = counts.get(number, 0) + 1


def tell_queried_address(sock: socket.socket) -> None:
    """Have the kernel say with each packet which of our addresses it was sent to (ip(7), ipv6(7))."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def reply_from(ancillary: list[tuple[int, int, Any]]) -> Ancillary:
    """Turn what recvmsg says of the queried address into what sendmsg needs to reply from it (ip(7), ipv6(7)).

    The interface is left to routing, except for link-local addresses, which mean nothing without theirs.
    """
    for level, kind, raw in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(raw) == _PKTINFO4.size:
            _, local, _ = _PKTINFO4.unpack(raw)
            return [(level, kind, _PKTINFO4.pack(_NO_INTERFACE, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(raw) == _PKTINFO6.size:
            local, interface = _PKTINFO6.unpack(raw)
            is_link_local = local[0] == 0xFE and local[1] & 0xC0 == 0x80
            return [(level, kind, _PKTINFO6.pack(local, interface if is_link_local else _NO_INTERFACE))]
    return []
