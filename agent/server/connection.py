"""One TCP connection: messages in, replies out, and no more kept of either than its bounds allow.

Law: length and body leave in one write. At most `MAX_BATCH` messages are answered before the loop gets its turn,
whatever has arrived. The idle time is restarted only by a whole message, so octets that trickle in keep nothing open.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, cast

from agent.server.outside import Pending

if TYPE_CHECKING:
    from agent.server.tcp import TcpEndpoint

MAX_BATCH = 32
"""Messages answered in one go on one connection."""
MAX_BATCH_BYTES = 64 * 1024
"""Replies put together in one go; with `MAX_UNREAD_BYTES` and one more reply the bound of what a client's slowness
can hold."""
MAX_PENDING = 64
"""Queries of a connection that wait for others; nothing more is read of it while there are so many."""
MAX_UNREAD_BYTES = 64 * 1024
"""Replies left unread by a client from which on it is not answered; if that lasts for the idle time, it is closed."""
BUFFER_BYTES = 4096
"""Receive buffer of a connection; it grows to a longer message for as long as that is on its way."""


class Connection(asyncio.BufferedProtocol):
    """One client's connection.

    Messages that are whole are answered in batches, and nothing is read while some are left or while the client does
    not read its replies, so that neither direction can grow.
    """

    def __init__(self, endpoint: TcpEndpoint, loop: asyncio.AbstractEventLoop) -> None:
        self.client_ip = ""
        self._endpoint = endpoint
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(BUFFER_BYTES)
        self._filled = 0
        self._queries = 0
        self._reason = ""
        self._last_message_s = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._next: asyncio.Handle | None = None
        self._is_blocked = False
        self._is_ended = False
        self._is_finishing = False
        self._pending = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or close it at once if there are too many."""
        made = cast("asyncio.Transport", transport)
        peer = made.get_extra_info("peername")
        self.client_ip = str(peer[0]) if peer else ""
        counters = self._endpoint.responder.counters
        refusal = self._endpoint.refusal(self.client_ip) if peer else "broken"
        if refusal:
            counters.tcp_closed[refusal] += 1
            made.abort()
            return
        counters.tcp_accepted += 1
        self._transport = made
        self._endpoint.opened(self)
        made.set_write_buffer_limits(high=MAX_UNREAD_BYTES)
        self._last_message_s = self._loop.time()
        self._watch()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next octets go; there is room, for reading pauses while a whole message is left."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take in octets; answer the messages that are whole."""
        self._filled += nbytes
        self._pump()

    def eof_received(self) -> bool:
        """Answer what has arrived, then close: a client that closes its side may still wait for replies."""
        self._is_ended = True
        self._pump()
        return True

    def pause_writing(self) -> None:
        """The client does not read: answer nothing more until it does."""
        self._is_blocked = True
        if self._transport is not None and not self._is_ended:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_blocked = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the end."""
        for handle in (self._idle, self._next):
            if handle is not None:
                handle.cancel()
        if self._transport is not None:
            self._transport = None
            self._endpoint.closed(self, self._reason or ("broken" if exc is not None else "client"))

    def finish(self) -> None:
        """Answer what has arrived and close once the replies are out: the server stops."""
        while self._is_open() and not self._is_blocked and self._answer_batch():
            pass
        if self._pending:
            self._is_finishing = True
        else:
            self._close("drain")

    def abort(self, reason: str) -> None:
        """Close now; replies not sent yet are lost."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _close(self, reason: str) -> None:
        """Close once the replies are out."""
        if self._transport is not None and not self._transport.is_closing():
            self._reason = self._reason or reason
            self._transport.close()

    def _watch(self) -> None:
        """Close the connection if it was idle for too long, else look again when it would be."""
        if self._pending:
            self._last_message_s = self._loop.time()  # It is we who are waited for.
        left_s = self._last_message_s + self._endpoint.options.idle_timeout_ms / 1000 - self._loop.time()
        if left_s > 0:
            self._idle = self._loop.call_later(left_s, self._watch)
        elif self._transport is not None:
            unread = self._transport.get_write_buffer_size()
            self.abort("slow_reader" if unread else "idle")

    def _pump(self) -> None:
        """Answer a batch; read on if that was all, go on in the loop's next turn if not."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        transport = self._transport
        if transport is None or transport.is_closing() or self._is_blocked:
            return
        self._answer_batch()
        limit = self._endpoint.options.max_queries
        if self._pending >= MAX_PENDING or (self._pending and self._is_ending(limit)):
            if not self._is_ended:
                transport.pause_reading()
        elif limit and self._queries >= limit:
            self._close("query_limit")
        elif self._whole_bytes():
            if not self._is_ended:
                transport.pause_reading()
            if not self._is_blocked:
                self._next = self._loop.call_soon(self._pump)
        elif self._is_ended:
            self._close("client")
        elif not self._is_blocked:
            transport.resume_reading()

    def _is_ending(self, limit: int) -> bool:
        """Tell whether the connection is closed once nothing is pending."""
        return bool(limit and self._queries >= limit) or (self._is_ended and not self._whole_bytes())

    def _send_later(self, reply: bytes) -> None:
        """Send a reply that others had to be asked for, and go on where that was waited for."""
        self._pending -= 1
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(len(reply).to_bytes(2, "big") + reply)
        if not self._is_finishing:
            self._pump()
        elif not self._pending:
            self._close("drain")

    def _whole_bytes(self, at: int = 0) -> int:
        """Give the size with length of the message at an offset of the buffer; 0 while it is not whole."""
        if self._filled < at + 2:
            return 0
        size = 2 + (self._buffer[at] << 8 | self._buffer[at + 1])
        return size if at + size <= self._filled else 0

    def _answer_batch(self) -> int:
        """Answer whole messages up to the bounds of a batch, in one write; gives their number."""
        began_s = perf_counter()
        responder, limit = self._endpoint.responder, self._endpoint.options.max_queries
        parts: list[bytes] = []
        at = count = sent_bytes = 0
        while count < MAX_BATCH and sent_bytes < MAX_BATCH_BYTES and (size := self._whole_bytes(at)):
            if (limit and self._queries >= limit) or self._pending >= MAX_PENDING:
                break
            reply = responder.respond(bytes(self._buffer[at + 2 : at + size]), self.client_ip, tcp=True)
            if isinstance(reply, Pending):
                reply.deliver = self._send_later
                self._pending += 1
            elif reply is not None:
                parts.append(len(reply).to_bytes(2, "big") + reply)
                sent_bytes += len(reply)
            at += size
            count += 1
            self._queries += 1
        if count:
            self._last_message_s = self._loop.time()
            self._keep_from(at)
            if parts and self._transport is not None:
                self._transport.write(b"".join(parts))
            responder.counters.latency.observe(perf_counter() - began_s, count)
        else:
            self._keep_from(0)
        return count

    def _keep_from(self, at: int) -> None:
        """Move what was not answered to the front of a buffer that its message fits in.

        The old buffer may still be lent out, so it is replaced, never resized.
        """
        left = self._buffer[at : self._filled]
        self._filled = len(left)
        wanted = BUFFER_BYTES if len(left) < 2 else max(BUFFER_BYTES, 2 + (left[0] << 8 | left[1]))
        if wanted != len(self._buffer):
            self._buffer = bytearray(wanted)
        elif not at:
            return
        self._buffer[: len(left)] = left
