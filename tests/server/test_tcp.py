"""TCP over real sockets on loopback (RFC 7766): pipelines, trickles, slow readers, caps, the end."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager

import pytest

from agent.server import connection
from agent.server.connection import BUFFER_BYTES, MAX_BATCH, Connection
from agent.server.sockets import open_pairs
from agent.server.tcp import Connections, TcpEndpoint, TcpOptions
from tests.server.tables import HUGE, ask, packet, query, question, rdatas, read, responder, short

WEB = query(short("web"))


def framed(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


async def reply_of(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">H", await asyncio.wait_for(reader.readexactly(2), 10))
    return await asyncio.wait_for(reader.readexactly(length), 10)


async def ended(reader: asyncio.StreamReader) -> bool:
    """True once the server has closed, in whatever way."""
    try:
        return await asyncio.wait_for(reader.read(), 10) == b""
    except ConnectionResetError:
        return True


@asynccontextmanager
async def serving(host: str = "127.0.0.1", *, shared: Connections | None = None, **options: int):
    (pair,), _ = open_pairs([(host, 0)])
    pair.udp.close()
    endpoint = TcpEndpoint(pair.tcp, responder(), TcpOptions(**options), shared)
    await endpoint.start()
    clients: list[asyncio.StreamWriter] = []

    async def connect(**more) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*pair.address, **more)
        clients.append(writer)
        return reader, writer

    try:
        yield endpoint, connect
    finally:
        for writer in clients:
            writer.transport.abort()
        await endpoint.stop(5)
        await asyncio.sleep(0)


async def slow_client(endpoint: TcpEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Connection]:
    """A client that reads nothing, with small buffers on both sides; and the server's end of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, endpoint.sock.getsockname())
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.transport.pause_reading()
    await until(lambda: endpoint._own)
    (served,) = endpoint._own
    served._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return reader, writer, served


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
async def test_a_query_is_answered(host: str):
    async with serving(host) as (endpoint, connect):
        reader, writer = await connect()
        writer.write(framed(WEB))
        assert rdatas(read(await reply_of(reader))) == ["10.0.0.1"]
        writer.close()
        counters = endpoint.responder.counters
        await until(lambda: counters.tcp_open == 0)
        assert (counters.tcp_accepted, counters.tcp_closed["client"]) == (1, 1)
        assert counters.queries == {"udp": 0, "tcp": 1}
        assert sum(counters.latency.buckets) == 1


async def test_one_byte_segments():
    async with serving() as (_, connect):
        reader, writer = await connect()
        for octet in framed(WEB) * 2:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        for _ in range(2):
            assert rdatas(read(await reply_of(reader))) == ["10.0.0.1"]


async def test_a_pipeline_longer_than_a_batch_and_the_buffer_is_answered_whole():
    async with serving() as (endpoint, connect):
        reader, writer = await connect()
        count = 10 * MAX_BATCH
        idents = range(count)
        sent = b"".join(framed(struct.pack(">H", ident) + WEB[2:]) for ident in idents)
        assert len(sent) > 2 * BUFFER_BYTES
        writer.write(sent)
        received = {struct.unpack(">H", (await reply_of(reader))[:2])[0] for _ in idents}
        assert received == set(idents)
        assert endpoint.responder.counters.tcp_queries == count


async def test_a_batch_is_bounded_and_the_loop_gets_its_turn(monkeypatch: pytest.MonkeyPatch):
    batches = []
    answer_batch = Connection._answer_batch

    def watched(self) -> int:
        batches.append(answer_batch(self))
        return batches[-1]

    monkeypatch.setattr(Connection, "_answer_batch", watched)
    async with serving() as (_, connect):
        reader, writer = await connect()
        writer.write(framed(WEB) * 70)
        for _ in range(70):
            await reply_of(reader)
    assert sum(batches) == 70
    assert max(batches) <= MAX_BATCH
    assert len(batches) >= 3


async def test_length_and_body_leave_in_one_write(monkeypatch: pytest.MonkeyPatch):
    writes = []
    async with serving() as (endpoint, connect):
        reader, writer = await connect()
        await until(lambda: endpoint._own)
        (served,) = endpoint._own
        transport = served._transport
        write = transport.write
        monkeypatch.setattr(served, "_transport", Spy(transport, lambda octets: (writes.append(octets), write(octets))))
        writer.write(framed(WEB))
        reply = await reply_of(reader)
    assert writes == [framed(reply)]


class Spy:
    """A transport whose writes are seen."""

    def __init__(self, transport, write) -> None:
        self.transport, self.write = transport, write

    def __getattr__(self, name: str):
        return getattr(self.transport, name)


async def test_messages_of_every_length_are_taken():
    async with serving() as (_, connect):
        reader, writer = await connect()
        padding = packet(question(short("web")) + b"x" * 60_000)
        for sent in (padding, WEB, padding + b"x" * (0xFFFF - len(padding)), WEB):
            writer.write(framed(sent))
        for _ in range(4):
            assert rdatas(read(await reply_of(reader))) == ["10.0.0.1"]
        writer.write(framed(query(short("huge"))))
        assert sorted(rdatas(read(await reply_of(reader)))) == sorted(HUGE)


async def test_a_message_without_reply_does_not_end_the_connection():
    async with serving() as (endpoint, connect):
        reader, writer = await connect()
        writer.write(framed(b"") + framed(b"short") + framed(query(short("web"), flags=0x8100)) + framed(WEB))
        assert rdatas(read(await reply_of(reader))) == ["10.0.0.1"]
        assert endpoint.responder.counters.dropped["short"] == 2
        assert endpoint.responder.counters.dropped["response"] == 1


@pytest.mark.parametrize("trickle", [b"", b"\x00", framed(WEB)[:-1]])
async def test_the_idle_time_is_restarted_only_by_a_whole_message(trickle: bytes):
    async with serving(idle_timeout_ms=400) as (endpoint, connect):
        loop = asyncio.get_running_loop()
        reader, writer = await connect()
        await asyncio.sleep(0.2)
        writer.write(framed(WEB))
        await reply_of(reader)
        began = loop.time()
        for octet in trickle[:4]:
            await asyncio.sleep(0.08)
            writer.write(bytes((octet,)))
        assert await ended(reader)
        assert 0.35 <= loop.time() - began < 2
        assert endpoint.responder.counters.tcp_closed["idle"] == 1


async def test_a_client_that_closes_its_side_still_gets_its_replies():
    async with serving() as (endpoint, connect):
        reader, writer = await connect()
        writer.write(framed(WEB) * 100)
        writer.write_eof()
        for _ in range(100):
            assert rdatas(read(await reply_of(reader))) == ["10.0.0.1"]
        assert await ended(reader)
        await until(lambda: endpoint.responder.counters.tcp_closed["client"] == 1)


async def test_a_client_that_resets_is_counted():
    async with serving() as (endpoint, connect):
        _, writer = await connect()
        await until(lambda: endpoint.responder.counters.tcp_open == 1)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await until(lambda: endpoint.responder.counters.tcp_open == 0)
        assert endpoint.responder.counters.tcp_closed["broken"] == 1


async def test_a_slow_reader_is_not_answered_further_and_closed():
    async with serving(idle_timeout_ms=700) as (endpoint, _):
        _, writer, served = await slow_client(endpoint)
        most = 0
        writer.write(framed(query(short("huge"))) * 4000)
        while served._transport is not None and endpoint.responder.counters.tcp_open:
            most = max(most, served._transport.get_write_buffer_size())
            await asyncio.sleep(0.002)
        bound = connection.MAX_UNREAD_BYTES + connection.MAX_BATCH_BYTES + 0xFFFF
        assert connection.MAX_UNREAD_BYTES < most <= bound
        assert endpoint.responder.counters.tcp_queries < 400
        assert endpoint.responder.counters.tcp_closed["slow_reader"] == 1
        assert len(served._buffer) <= BUFFER_BYTES
        writer.transport.abort()


async def test_a_reader_that_was_slow_is_answered_when_it_reads_again():
    async with serving() as (endpoint, _):
        reader, writer, served = await slow_client(endpoint)
        count = 100
        writer.write(framed(query(short("huge"))) * count)
        writer.write_eof()
        await until(lambda: served._is_blocked)
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        writer.transport.resume_reading()
        for _ in range(count):
            assert len(rdatas(read(await reply_of(reader)))) == len(HUGE)
        assert await ended(reader)
        writer.transport.abort()


async def test_queries_per_connection_are_capped():
    async with serving(max_queries=5) as (endpoint, connect):
        reader, writer = await connect()
        writer.write(framed(WEB) * 9)
        for _ in range(5):
            await reply_of(reader)
        assert await ended(reader)
        await until(lambda: endpoint.responder.counters.tcp_closed["query_limit"] == 1)
        assert endpoint.responder.counters.tcp_queries == 5


async def test_connections_of_one_client_are_capped_and_the_new_one_is_closed():
    async with serving(max_per_client=2) as (endpoint, connect):
        first, second = await connect(), await connect()
        reader, _ = await connect()
        assert await ended(reader)
        other = await connect(local_addr=("127.0.0.9", 0))
        for reader, writer in (first, second, other):
            writer.write(framed(WEB))
            assert rdatas(read(await reply_of(reader))) == ["10.0.0.1"]
        counters = endpoint.responder.counters
        assert (counters.tcp_closed["too_many_of_client"], counters.tcp_open, counters.tcp_accepted) == (1, 3, 3)
        first[1].close()
        await until(lambda: counters.tcp_open == 2)
        reader, writer = await connect()
        writer.write(framed(WEB))
        await reply_of(reader)


async def test_connections_are_capped_in_total_over_all_endpoints():
    shared = Connections()
    async with (
        serving(max_connections=2, shared=shared) as (first, connect),
        serving("127.0.0.2", max_connections=2, shared=shared) as (second, connect_second),
    ):
        await connect()
        await connect_second()
        await until(lambda: shared.total == 2)
        for more in (connect, connect_second):
            reader, _ = await more()
            assert await ended(reader)
        assert first.responder.counters.tcp_closed["too_many"] == 1
        assert second.responder.counters.tcp_closed["too_many"] == 1
    await asyncio.sleep(0.01)
    assert shared.total == 0
    assert shared._by_client == {}


async def test_stopping_answers_what_has_arrived_and_accepts_no_more():
    async with serving() as (endpoint, connect):
        reader, writer = await connect()
        await until(lambda: endpoint._own)
        (served,) = endpoint._own
        writer.write(framed(WEB))
        await reply_of(reader)
        # Whole messages and half of one, in the buffer but not answered yet.
        waiting = framed(WEB) * 50 + framed(WEB)[:9]
        served._buffer[: len(waiting)] = waiting
        served._filled = len(waiting)
        await endpoint.stop(5)
        for _ in range(50):
            await reply_of(reader)
        assert await ended(reader)
        assert endpoint.responder.counters.tcp_closed["drain"] == 1
        with pytest.raises(ConnectionRefusedError):
            await connect()


async def test_stopping_waits_for_slow_readers_only_to_its_deadline():
    async with serving() as (endpoint, _):
        _, writer, served = await slow_client(endpoint)
        writer.write(framed(query(short("huge"))) * 2000)
        await until(lambda: served._is_blocked)
        began = asyncio.get_running_loop().time()
        await endpoint.stop(0.3)
        assert 0.25 <= asyncio.get_running_loop().time() - began < 3
        await until(lambda: endpoint.responder.counters.tcp_open == 0)
        assert endpoint.responder.counters.tcp_closed["drain"] == 1
        writer.transport.abort()


async def test_stopping_twice_or_before_the_start_is_quiet():
    (pair,), _ = open_pairs([("127.0.0.1", 0)])
    pair.udp.close()
    endpoint = TcpEndpoint(pair.tcp, responder(), TcpOptions())
    await endpoint.stop(1)
    await endpoint.start()
    await endpoint.stop(1)
    await endpoint.stop(1)


async def test_udp_and_tcp_answers_agree():
    async with serving() as (endpoint, connect):
        reader, writer = await connect()
        for name in ("web", "gone", "alias", "many"):
            writer.write(framed(query(short(name))))
            over_tcp = read(await reply_of(reader))
            over_udp = ask(endpoint.responder, short(name))
            assert sorted(rdatas(over_tcp)) == sorted(rdatas(over_udp))
            assert over_tcp.flags == over_udp.flags
