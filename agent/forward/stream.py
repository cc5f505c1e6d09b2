"""A connection to an upstream: DNS over TCP (RFC 7766) or TLS (RFC 7858), many questions in flight at once.

Law: a reply is taken only for the question with its id on this very connection; one that matches none ends the
connection, for whoever sends such things is not to be trusted with the rest. Idle connections are closed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from agent.errors import NodensError
from agent.forward.ports import draw_id
from agent.forward.question import Question, query
from agent.forward.reply import matches

MAX_PIPELINED = 128
"""Questions in flight on one connection."""
MAX_BUFFER_BYTES = 2 + 0xFFFF
IDLE_S = 10.0


class UpstreamError(NodensError):
    """An upstream did not answer; `reason` is a word for a counter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Stream(asyncio.Protocol):
    """One connection.

    Args:
        name: of the upstream, for messages.
        on_mismatch: called when something came that matches no question.
    """

    def __init__(self, name: str, on_mismatch: Callable[[], None]) -> None:
        self._name = name
        self._on_mismatch = on_mismatch
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: dict[int, tuple[Question, asyncio.Future[bytes]]] = {}
        self._idle: asyncio.TimerHandle | None = None
        self._given_up = 0

    @property
    def is_open(self) -> bool:
        """Questions can be asked on it."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Take in octets; give out the replies that are whole."""
        self._buffer += data
        at = 0
        while len(self._buffer) >= at + 2:
            end = at + 2 + (self._buffer[at] << 8 | self._buffer[at + 1])
            if len(self._buffer) < end:
                break
            if not self._take(bytes(self._buffer[at + 2 : end])):
                self._on_mismatch()
                self.close()
                return
            at = end
        del self._buffer[:at]

    def eof_received(self) -> None:
        """The upstream closes its side; nothing can come any more."""
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._transport = None
        self._end(f"{self._name} closed the connection" + (f": {exc}" if exc else ""))

    def close(self) -> None:
        """Close it; whoever waits is told."""
        if self._transport is not None:
            self._transport.abort()
        self._end(f"the connection to {self._name} was closed")

    async def ask(self, question: Question, timeout_s: float) -> bytes:
        """Ask one question.

        Raises:
            UpstreamError: closed, busy, or no answer in time.
        """
        if not self.is_open or self._transport is None or len(self._waiting) >= MAX_PIPELINED:
            raise UpstreamError("busy", f"{self._name} has {len(self._waiting)} questions on one connection")
        ident = draw_id()
        while ident in self._waiting:
            ident = draw_id()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._waiting[ident] = (question, future)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        packet = query(question, ident)
        self._transport.write(len(packet).to_bytes(2, "big") + packet)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise UpstreamError("timeout", f"{self._name} gave no answer in {timeout_s:.1f} s") from None
        finally:
            if self._waiting.pop(ident, None) is not None:
                self._given_up += not future.done() or future.cancelled()
            self._rest()

    def _take(self, packet: bytes) -> bool:
        ident = int.from_bytes(packet[:2], "big")
        waiting = self._waiting.get(ident)
        if waiting is None:
            # What was given up may come late; nobody knows its question any more.
            self._given_up -= 1
            return self._given_up >= 0
        if not matches(packet, waiting[0], ident):
            return False
        if not waiting[1].done():
            waiting[1].set_result(packet)
        return True

    def _rest(self) -> None:
        """Close the connection if nothing is asked on it for a while."""
        if self._transport is not None and not self._waiting and self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)

    def _end(self, why: str) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(UpstreamError("closed", why))


def tls_context() -> ssl.SSLContext:
    """Make what checks an upstream's certificate: the node's trusted authorities, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
