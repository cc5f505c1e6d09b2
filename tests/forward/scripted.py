"""An upstream that does what a test says: a UDP and a TCP socket on one loopback port, in the test's own loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from agent.forward.cache import Bounds, Cache
from agent.forward.forwarder import Forwarder
from agent.forward.ports import Ports
from agent.forward.question import Question
from agent.forward.routes import Group, Routes
from agent.forward.target import TCP, UDP, Target
from agent.forward.terms import Options, Said
from agent.forward.upstream import Upstream
from agent.records.names import to_wire

OWN = to_wire("cluster.local")
Packets = Iterable[bytes]
Script = Callable[[dns.message.Message, str], Packets | Awaitable[Packets]]
"""(query, "udp" or "tcp") → packets to send back, in order."""


def reply(query: dns.message.Message, *lines: str, rcode: int = 0, soa: str = "", tc: bool = False) -> bytes:
    """A right reply: records as "name ttl type rdata", the SOA line in authority."""
    answer = dns.message.make_response(query, recursion_available=True)
    answer.set_rcode(dns.rcode.Rcode(rcode))
    for section, rows in ((answer.answer, lines), (answer.authority, (soa,) if soa else ())):
        for row in rows:
            name, ttl, rtype, rdata = row.split(None, 3)
            rrset = dns.rrset.from_text(name, int(ttl), "IN", rtype, rdata)
            same = [each for each in section if (each.name, each.rdtype) == (rrset.name, rrset.rdtype)]
            if same:
                same[0].add(rrset[0])
            else:
                section.append(rrset)
    if tc:
        answer.flags |= dns.flags.TC
    return answer.to_wire(max_size=65_535)


def always(*lines: str, **how) -> Script:
    return lambda query, _: [reply(query, *lines, **how)]


SOA = "example.com. 300 SOA ns.example.com. host.example.com. 1 7200 1800 86400 60"


class Scripted:
    """The upstream; `script` may be replaced at any time, None says nothing."""

    def __init__(self, script: Script | None) -> None:
        self.script = script
        self.asked: list[tuple[str, str, str]] = []
        self.packets: list[bytes] = []
        self.clients: list[tuple[str, int]] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._udp = socket.socket(type=socket.SOCK_DGRAM)
        self._tcp = socket.socket()

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self._udp.getsockname()[1])

    async def __aenter__(self) -> Self:
        while True:
            self._udp.bind(("127.0.0.1", 0))
            try:
                self._tcp.bind(self._udp.getsockname())
            except OSError:
                self._udp.close()
                self._udp = socket.socket(type=socket.SOCK_DGRAM)
            else:
                break
        loop = asyncio.get_running_loop()
        self._udp.setblocking(False)
        loop.add_reader(self._udp, self._read)
        self._server = await asyncio.start_server(self._serve, sock=self._tcp)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._udp)
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._udp.close()

    def send(self, packet: bytes, client: tuple[str, int]) -> None:
        """Send anything to anybody."""
        self._udp.sendto(packet, client)

    def _note(self, packet: bytes, proto: str) -> dns.message.Message:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        self.asked.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype), proto))
        self.packets.append(packet)
        return query

    def _read(self) -> None:
        while True:
            try:
                packet, client = self._udp.recvfrom(4096)
            except BlockingIOError:
                return
            query = self._note(packet, "udp")
            self.clients.append(client)
            self._spawn(self._answer(query, client))

    def _spawn(self, work) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _packets(self, query: dns.message.Message, proto: str) -> Packets:
        if self.script is None:
            return []
        packets = self.script(query, proto)
        return await packets if isinstance(packets, Awaitable) else packets

    async def _answer(self, query: dns.message.Message, client: tuple[str, int]) -> None:
        for packet in await self._packets(query, "udp"):
            self._udp.sendto(packet, client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                query = self._note(await reader.readexactly(size), "tcp")
                self._spawn(self._write(query, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _write(self, query: dns.message.Message, writer: asyncio.StreamWriter) -> None:
        for packet in await self._packets(query, "tcp"):
            writer.write(len(packet).to_bytes(2, "big") + packet)
        await writer.drain()


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Running:
    """A forwarder that asks some upstreams; an async context manager."""

    def __init__(
        self,
        targets: Sequence[Target],
        options: Options | None = None,
        *,
        policy: str = "sequential",
        bounds: Bounds | None = None,
        max_per_upstream: int = 512,
        stubs: dict[str, Target] | None = None,
    ) -> None:
        ports = Ports()
        self.clock = Clock()
        self.upstreams = [Upstream(target, ports, None, max_per_upstream) for target in targets]
        groups = [Group(b"\x00", self.upstreams, policy)] if targets else []
        for zone, target in (stubs or {}).items():
            groups.append(Group(to_wire(zone), [Upstream(target, ports, None, max_per_upstream)], policy))
        self.forwarder = Forwarder(
            Routes(groups),
            Cache(bounds),
            options or Options(),
            lambda name: name.endswith(OWN),
            self.clock,
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self.forwarder.run())
        while self.forwarder._tasks is None:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.forwarder.routes.close()

    async def ask(self, name: str, qtype: str = "A", client: str = "10.0.0.9", **how) -> Said:
        """Ask as a client does, and wait for the answer."""
        question = Question(to_wire(name), dns.rdatatype.from_text(qtype), how.get("do", False), how.get("cd", False))
        came: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        said = self.forwarder.ask(question, client, came.set_result, may_ask=how.get("rd", True))
        return said if said is not None else await came

    def asks(self, name: str, qtype: str = "A") -> Question:
        return Question(to_wire(name), dns.rdatatype.from_text(qtype))

    async def settled(self) -> None:
        """Wait until no question is in flight."""
        while self.forwarder.in_flight:
            await asyncio.sleep(0.001)


def over_tcp(target: Target) -> Target:
    assert target.via == UDP
    return target._replace(via=TCP)


def texts(said: Said, name: str, qtype: str = "A") -> list[str]:
    """The answer section as a client would read it."""
    head = bytes((0, 0, 0x80, 0)) + b"\0\1" + sum(g.records for g in said.answer).to_bytes(2, "big")
    head += sum(g.records for g in said.authority).to_bytes(2, "big") + b"\0\0"
    question = to_wire(name) + dns.rdatatype.from_text(qtype).to_bytes(2, "big") + b"\0\1"
    body = b"".join(group.body for group in said.answer + said.authority)
    message = dns.message.from_wire(head + question + body)
    return [line for rrset in (*message.answer, *message.authority) for line in rrset.to_text().splitlines()]
