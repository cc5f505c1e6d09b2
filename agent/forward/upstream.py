"""One upstream: asked over UDP, over TCP where that is needed, or over a connection alone.

Law: whatever matches is a sign of life, whatever it says. A query gets one answer: the first that `matches`; what
does not is counted and dropped, and after `MAX_MISMATCHES` of them that query goes over TCP. What is in flight is
bounded.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

from agent.forward.ports import Ports, draw_id
from agent.forward.question import Question, query
from agent.forward.reply import is_truncated, matches
from agent.forward.stream import Stream, UpstreamError
from agent.forward.target import TLS, UDP, Target

MAX_MISMATCHES = 3
MAX_READS = 16
"""Datagrams read of one socket before the loop gets its turn."""
MAX_FAILS = 2
"""Probes without an answer that make an upstream count as lost."""
PLAIN_S = 300.0
"""A server that knows no EDNS is asked without it for this long."""
MAX_DATAGRAM_BYTES = 4096
"""A longer one, which nobody was promised that we take, counts as truncated."""
FAILURES = ("timeout", "network", "closed", "busy", "unreadable", "spoofed")
"""Why a try failed."""


class UpstreamCounters:
    """What is counted of one upstream: plain integers.

    Attributes:
        tries: questions sent to it.
        replies: answers taken, by rcode.
        failures: tries without one, by reason (`FAILURES`).
        mismatches: packets and messages that matched no question.
        truncated: UDP replies with TC, asked again over TCP.
        streams: connections opened.
        probes: probes sent.
        losses: times it was found lost.
        latency_s: sum over replies.
    """

    __slots__ = ("failures", "latency_s", "losses", "mismatches", "probes", "replies", "streams", "tries", "truncated")

    def __init__(self) -> None:
        self.tries = self.mismatches = self.truncated = self.streams = self.probes = self.losses = 0
        self.replies: dict[int, int] = {}
        self.failures = dict.fromkeys(FAILURES, 0)
        self.latency_s = 0.0


class Upstream:
    """One upstream server.

    Args:
        target: where it is.
        ports: opens sockets.
        tls: checks certificates; None where TLS is not used.
        max_in_flight: questions in flight.

    Attributes:
        in_flight: questions in flight now.
        fails: tries and probes without an answer since the last one.
        is_lost: it counts as lost: asked only if there is no other.
        is_loop: it leads back to this agent, and is not asked.
        recoveries: times that it was found again.
        counters: see there.
    """

    def __init__(self, target: Target, ports: Ports, tls: ssl.SSLContext | None, max_in_flight: int) -> None:
        self.target = target
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.fails = 0
        self.is_lost = False
        self.is_loop = False
        self.recoveries = 0
        self.counters = UpstreamCounters()
        self._ports = ports
        self._tls = tls
        self._stream: Stream | None = None
        self._connecting = asyncio.Lock()
        self._plain_until_s = 0.0

    async def ask(self, question: Question, timeout_s: float) -> bytes:
        """Ask one question; gives the reply's octets, which match.

        Raises:
            UpstreamError: there was none.
        """
        if self.in_flight >= self.max_in_flight:
            self.counters.failures["busy"] += 1
            raise UpstreamError("busy", f"{self.target} has {self.in_flight} questions in flight")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.in_flight += 1
        self.counters.tries += 1
        try:
            packet = await self._ask(question, began_s + timeout_s, loop)
        except UpstreamError as error:
            self.counters.failures[error.reason] += 1
            raise
        finally:
            self.in_flight -= 1
        self.fails = 0
        if self.is_lost:
            self.is_lost = False
            self.recoveries += 1
        rcode = packet[3] & 0xF
        self.counters.replies[rcode] = self.counters.replies.get(rcode, 0) + 1
        self.counters.latency_s += loop.time() - began_s
        return packet

    def close(self) -> None:
        """Close the connection to it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _ask(self, question: Question, deadline_s: float, loop: asyncio.AbstractEventLoop) -> bytes:
        if self.target.via != UDP:
            return await self._over_stream(question, deadline_s, loop)
        plain = loop.time() < self._plain_until_s
        packet = await self._over_udp(question, deadline_s, loop, plain=plain)
        if packet is not None and not plain and packet[3] & 0xF in {1, 4} and packet[10:12] == b"\x00\x00":
            # It knows no EDNS (RFC 6891 section 6.2.2).
            self._plain_until_s = loop.time() + PLAIN_S
            packet = await self._over_udp(question, deadline_s, loop, plain=True)
        if packet is None:
            return await self._over_stream(question, deadline_s, loop)
        if is_truncated(packet) or len(packet) > MAX_DATAGRAM_BYTES:
            self.counters.truncated += 1
            return await self._over_stream(question, deadline_s, loop)
        return packet

    async def _over_udp(
        self, question: Question, deadline_s: float, loop: asyncio.AbstractEventLoop, *, plain: bool
    ) -> bytes | None:
        """Ask over UDP; None: somebody is guessing, ask over TCP."""
        ident = draw_id()
        try:
            sock = self._ports.connect((self.target.host, self.target.port))
        except OSError as error:
            raise self._network(error) from None
        answer = _Answer(sock, question, ident, loop)
        timer = loop.call_at(deadline_s, answer.expire)
        try:
            sock.send(query(question, ident, plain=plain))
            # By number: told of the socket itself, the selector would write its name out for an error that it swallows.
            loop.add_reader(sock.fileno(), answer.read)
            return await answer.future
        except TimeoutError:
            raise UpstreamError("timeout", f"{self.target} gave no answer") from None
        except OSError as error:
            raise self._network(error) from None
        finally:
            timer.cancel()
            loop.remove_reader(sock.fileno())
            sock.close()
            self.counters.mismatches += answer.mismatches

    async def _over_stream(self, question: Question, deadline_s: float, loop: asyncio.AbstractEventLoop) -> bytes:
        stream, is_new = await self._connected(deadline_s, loop)
        try:
            return await stream.ask(question, deadline_s - loop.time())
        except UpstreamError as error:
            # A connection that was idle may have been closed at the other end just now.
            if is_new or error.reason != "closed":
                raise
        stream, _ = await self._connected(deadline_s, loop)
        return await stream.ask(question, deadline_s - loop.time())

    async def _connected(self, deadline_s: float, loop: asyncio.AbstractEventLoop) -> tuple[Stream, bool]:
        """Give the connection, a new one if there is none."""
        host, port, via, name = self.target
        try:
            async with asyncio.timeout_at(deadline_s), self._connecting:
                if self._stream is not None and self._stream.is_open:
                    return self._stream, False
                self.counters.streams += 1
                _, stream = await loop.create_connection(
                    lambda: Stream(str(self.target), self._mismatch),
                    host,
                    port,
                    ssl=self._tls if via == TLS else None,
                    server_hostname=(name or host) if via == TLS else None,
                )
        except TimeoutError:
            raise UpstreamError("timeout", f"{self.target} took no connection in time") from None
        except OSError as error:  # ssl.SSLError is one
            raise self._network(error) from None
        self._stream = stream
        return stream, True

    def _mismatch(self) -> None:
        self.counters.mismatches += 1

    def _network(self, error: OSError) -> UpstreamError:
        words = os.strerror(error.errno) if error.errno and not isinstance(error, ssl.SSLError) else str(error)
        return UpstreamError("network", f"{self.target}: {words}")


class _Answer:
    """The wait for one datagram."""

    __slots__ = ("_ident", "_question", "_sock", "future", "mismatches")

    def __init__(self, sock: socket.socket, question: Question, ident: int, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._question = question
        self._ident = ident
        self.future: asyncio.Future[bytes | None] = loop.create_future()
        self.mismatches = 0

    def read(self) -> None:
        """Read what has come; the first that matches is the answer."""
        for _ in range(MAX_READS):
            if self.future.done():
                return
            try:
                packet = self._sock.recv(MAX_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:
                self.future.set_exception(error)
                return
            if matches(packet, self._question, self._ident):
                self.future.set_result(packet)
            else:
                self.mismatches += 1
                if self.mismatches >= MAX_MISMATCHES:
                    self.future.set_result(None)

    def expire(self) -> None:
        """Time is over."""
        if not self.future.done():
            self.future.set_exception(TimeoutError())
