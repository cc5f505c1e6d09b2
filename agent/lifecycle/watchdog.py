"""Sign of life for systemd, earned by a real query.

Law: the watchdog is fed only after a DNS query over UDP to one of the agent's own listen addresses got a right answer:
same id, same question, rcode as expected. A loop that turns while nothing is answered is not alive. One listen address
is enough, for a restart can't bring back an address that left the node; the others are named in the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence

from agent.config.addresses import reachable
from agent.lifecycle.systemd import Notifier

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 1.0
STATUS_NODENS = b"\x06status\x06nodens\x00\x00\x10\x00\x03"
"""Question: status.nodens. TXT CH (RFC 1035 section 4.1.2)."""
NOERROR, REFUSED = 0, 5


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.sendto(self._packet)  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] == self._packet[:2] and not self.came.done():
            self.came.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.came.done():
            self.came.set_exception(exc)


async def ask(host: str, port: int, *, rcode: int = NOERROR) -> bool:
    """Ask a DNS server on this node for status.nodens and judge the answer.

    Args:
        host: listen address; for a wildcard the loopback address is asked.
        port: of the listening socket.
        rcode: what is right (REFUSED where the configuration refuses the name).
    """
    query = os.urandom(2) + b"\0\0\0\1\0\0\0\0\0\0" + STATUS_NODENS
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            transport, protocol = await loop.create_datagram_endpoint(
                lambda: _Answer(query), remote_addr=(reachable(host), port)
            )
            try:
                reply = await protocol.came
            finally:
                transport.close()
    except (OSError, TimeoutError):
        return False
    return _is_right(query, reply, rcode)


def _is_right(query: bytes, reply: bytes, rcode: int) -> bool:
    if len(reply) < len(query) or not reply[2] & 0x80 or reply[3] & 0x0F != rcode:
        return False
    answers = int.from_bytes(reply[6:8], "big")
    return reply[12 : len(query)] == query[12:] and (answers > 0 or rcode != NOERROR)


class Watchdog:
    """Feeds systemd's watchdog.

    Args:
        notifier: its `watchdog_s` sets the pace: three tries within it.
        probes: name of each listen address → asks it.

    Attributes:
        silent: listen addresses that did not answer the last time.
    """

    def __init__(self, notifier: Notifier, probes: Sequence[tuple[str, Callable[[], Awaitable[bool]]]]) -> None:
        self.silent: set[str] = set()
        self._notifier = notifier
        self._probes = probes

    async def run(self) -> None:
        """Feed for ever."""
        while True:
            await self.feed()
            await asyncio.sleep(self._notifier.watchdog_s / 3)

    async def feed(self) -> bool:
        """Ask every listen address once; feed if one gave a right answer."""
        results = await asyncio.gather(*(probe() for _, probe in self._probes))
        silent = {name for (name, _), right in zip(self._probes, results, strict=True) if not right}
        for name in sorted(silent - self.silent):
            log.warning("no right answer from the own listen address %s", name)
        for name in sorted(self.silent - silent):
            log.info("right answers again from the own listen address %s", name)
        self.silent = silent
        if any(results):
            self._notifier.alive()
        return any(results)
