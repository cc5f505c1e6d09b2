"""UDP over real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

import pytest

from agent.records.names import to_wire
from agent.server import udp
from agent.server.sockets import open_pairs
from agent.server.udp import IP_PKTINFO, MAX_BATCH, UdpEndpoint, reply_from
from agent.wire import node
from tests.server.tables import addresses, query, rdatas, read, responder, short

WEB = query(short("web"))


class Served:
    """An endpoint on a socket of its own, driven by hand: `turn` is one wake-up."""

    def __init__(self, host: str) -> None:
        pairs, _ = open_pairs([(host, 0)])
        pairs[0].tcp.close()
        self.port = pairs[0].address[1]
        self.responder = responder()
        self.loop = asyncio.new_event_loop()
        self.endpoint = UdpEndpoint(pairs[0].udp, self.responder, self.loop)
        self.endpoint.start()

    def turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def serve():
    """Makes endpoints that end with the test."""
    held: list[Served] = []

    def make(host: str) -> Served:
        held.append(Served(host))
        return held[-1]

    yield make
    for served in held:
        if served.endpoint.sock.fileno() >= 0:
            served.endpoint.close()
        served.loop.close()


@pytest.fixture
def client():
    """Makes client sockets that end with the test."""
    held: list[socket.socket] = []

    def make(host: str = "127.0.0.1") -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.settimeout(5)
        held.append(sock)
        return sock

    yield make
    for sock in held:
        sock.close()


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.3", "127.0.0.3"),
        ("::1", "::1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.77"),
        ("::", "::1"),
    ],
)
def test_the_reply_leaves_from_the_address_that_was_asked(serve, client, bound: str, asked: str):
    served = serve(bound)
    asking = client("::1" if ":" in asked else "127.0.0.1")
    for _ in range(2):
        asking.sendto(WEB, (asked, served.port))
        served.turn()
        reply, source = asking.recvfrom(4096)
        assert source[:2] == (asked, served.port)
        assert rdatas(read(reply)) == ["10.0.0.1"]


def test_an_ipv6_wildcard_leaves_ipv4_alone(serve, client):
    served = serve("::")
    asking = client()
    asking.sendto(WEB, ("127.0.0.1", served.port))
    served.turn()
    assert served.responder.counters.queries["udp"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_wake_up_is_bounded_and_what_is_left_is_answered_in_the_next(serve, client, host: str):
    served = serve(host)
    asking = client()
    for _ in range(MAX_BATCH + 10):
        asking.sendto(WEB, ("127.0.0.1", served.port))
    counts = []
    for _ in range(3):
        served.endpoint._wake()
        served.responder.settle()
        counts.append(served.responder.counters.queries["udp"])
    assert counts == [MAX_BATCH, MAX_BATCH + 10, MAX_BATCH + 10]
    assert sum(served.responder.counters.latency.buckets) == MAX_BATCH + 10
    for _ in range(MAX_BATCH + 10):
        assert rdatas(read(asking.recv(4096))) == ["10.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_what_gets_no_reply_gets_none(serve, client, host: str):
    served = serve(host)
    asking = client()
    asking.sendto(b"", ("127.0.0.1", served.port))
    asking.sendto(b"\x00" * 11, ("127.0.0.1", served.port))
    asking.sendto(WEB, ("127.0.0.1", served.port))
    served.turn()
    assert rdatas(read(asking.recv(4096))) == ["10.0.0.1"]
    asking.setblocking(False)
    with pytest.raises(BlockingIOError):
        asking.recv(4096)
    assert served.responder.counters.dropped["short"] == 2


def test_a_query_longer_than_the_buffer_is_cut_and_answered_with_an_error(serve, client):
    served = serve("127.0.0.1")
    asking = client()
    records = b"\x00" + struct.pack(">HHIH", 16, 1, 0, 5000) + bytes(5000)
    asking.sendto(WEB[:11] + b"\x01" + WEB[12:] + records, ("127.0.0.1", served.port))
    served.turn()
    assert read(asking.recv(4096)).rcode() == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_what_the_kernel_has_no_room_for_is_counted(host: str):
    with socket.socket(type=socket.SOCK_DGRAM) as sock, socket.socket(type=socket.SOCK_DGRAM) as asking:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least there can be
        sock.bind((host, 0))
        asking.connect(("127.0.0.1", sock.getsockname()[1]))
        endpoint = UdpEndpoint(sock, responder(), asyncio.get_running_loop())
        for _ in range(200):
            asking.send(query(short("web")))
        endpoint.start()
        endpoint.close()
        endpoint.responder.settle()
        counters = endpoint.responder.counters
        assert 0 < counters.dropped["receive_buffer"] < 200
        assert counters.queries["udp"] == 200


class FakeSocket:
    """A bound socket whose next packets and errors are given."""

    family = socket.AF_INET

    def __init__(self, host: str, received: list, send_error: OSError | None = None) -> None:
        self.host, self.received, self.send_error = host, received, send_error
        self.sent: list = []
        self.options: list = []

    def setblocking(self, flag: bool) -> None:
        assert flag is False

    def getsockname(self):
        return self.host, 53

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)

    def getsockopt(self, *_: int) -> bytes:
        return bytes(36)

    def next(self):
        if not self.received:
            raise BlockingIOError
        given = self.received.pop(0)
        if isinstance(given, OSError):
            raise given
        return given

    def recvfrom(self, size: int):
        return self.next()

    def recvmsg(self, size: int, ancillary: int):
        packet, address = self.next()
        return packet, [], 0, address

    def sendto(self, *sent) -> None:
        if self.send_error is not None:
            raise self.send_error
        self.sent.append(sent)

    def sendmsg(self, *sent) -> None:
        self.sendto(*sent)


def endpoint_on(sock: FakeSocket) -> UdpEndpoint:
    return UdpEndpoint(sock, responder(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENETUNREACH, errno.EPERM, errno.EMSGSIZE, errno.ENOBUFS])
def test_a_reply_the_kernel_does_not_take_is_counted(host: str, number: int):
    sock = FakeSocket(host, [(WEB, ("10.1.2.3", 4000))] * 3, OSError(number, os.strerror(number)))
    endpoint = endpoint_on(sock)
    endpoint._wake()
    assert endpoint.responder.counters.send_errors == {number: 3}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_failed_read_is_counted_and_ends_the_batch(host: str):
    sock = FakeSocket(host, [(WEB, ("10.1.2.3", 4000)), OSError(errno.ECONNREFUSED, "?"), (WEB, ("10.1.2.3", 4000))])
    endpoint = endpoint_on(sock)
    endpoint._wake()
    assert endpoint.responder.counters.receive_errors == {errno.ECONNREFUSED: 1}
    assert (len(sock.sent), len(sock.received)) == (1, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("port", [0, 7, 19])
def test_source_ports_0_7_19_are_dropped_and_counted(host: str, port: int):
    sock = FakeSocket(host, [(WEB, ("10.1.2.3", port)), (WEB, ("10.1.2.3", 4000))])
    endpoint = endpoint_on(sock)
    endpoint._wake()
    assert endpoint.responder.counters.dropped["source_port"] == 1
    assert len(sock.sent) == 1


def test_kinds_of_errors_counted_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(udp, "MAX_ERRNOS", 2)
    counts: dict[int, int] = {}
    for number in (1, 2, 3, 1):
        UdpEndpoint._count(counts, OSError(number, ""))
    UdpEndpoint._count({}, OSError("no number"))
    assert counts == {1: 2, 2: 1}


def test_a_responder_may_be_replaced_between_two_queries(serve, client):
    served = serve("127.0.0.1")
    asking = client()
    asking.sendto(WEB, ("127.0.0.1", served.port))
    served.turn()
    asking.recv(4096)
    other = responder()
    other.table.put(to_wire(short("web")), node.encode(rrsets=addresses("10.9.9.9")))
    served.endpoint.responder = other
    asking.sendto(WEB, ("127.0.0.1", served.port))
    served.turn()
    assert rdatas(read(asking.recv(4096))) == ["10.9.9.9"]


def test_closing_answers_what_has_arrived(serve, client):
    served = serve("127.0.0.1")
    asking = client()
    asking.sendto(WEB, ("127.0.0.1", served.port))
    served.endpoint.close()
    assert rdatas(read(asking.recv(4096))) == ["10.0.0.1"]
    assert served.endpoint.sock.fileno() == -1


V4 = struct.pack("@I4s4s", 5, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
LINK_LOCAL = bytes((0xFE, 0x80)) + bytes(13) + b"\x01"
GLOBAL = bytes((0x20, 0x01)) + bytes(13) + b"\x01"


@pytest.mark.parametrize(
    ("ancillary", "expected"),
    [
        ([], []),
        (
            [(socket.IPPROTO_IP, IP_PKTINFO, V4)],
            [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("@I4s4s", 0, bytes((10, 0, 0, 1)), bytes(4)))],
        ),
        (
            [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, GLOBAL + struct.pack("@I", 5))],
            [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, GLOBAL + struct.pack("@I", 0))],
        ),
        (
            [
                (socket.SOL_SOCKET, 1, b""),
                (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, LINK_LOCAL + struct.pack("@I", 5)),
            ],
            [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, LINK_LOCAL + struct.pack("@I", 5))],
        ),
        ([(socket.IPPROTO_IP, IP_PKTINFO, V4[:-1])], []),
        ([(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, GLOBAL)], []),
    ],
)
def test_where_a_reply_is_sent_from(ancillary, expected):
    assert reply_from(ancillary) == expected
