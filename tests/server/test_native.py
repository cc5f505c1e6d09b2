"""Compiled workers on real sockets: what they answer, what they hand over, how they end."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.errors import NodensError
from agent.records.names import to_wire
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.wire import edns, node, timed
from agent.wire.reply import Group
from agent.wire.table import PackedNodes, pack
from tests.server.tables import (
    EXPIRED_NOW,
    FRESH_NOW,
    NOT_READY_NOW,
    STALE_NOW,
    addresses,
    extended_error,
    opt,
    query,
    rdatas,
    read,
    record,
    short,
    table,
)

_fast = pytest.importorskip("agent.wire._fast", reason="the compiled data plane is not built")
native = importlib.import_module("agent.server.native")
WEB = query(short("web"), "A")


@pytest.fixture(scope="module", autouse=True)
def build() -> Iterator[str]:
    tables = importlib.import_module("tests.server.tables")
    tables.BUILD[0] = "compiled"
    yield "compiled"
    tables.BUILD[0] = "python"


def bound(host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, 0))
    return made


def client(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(5)
    made.connect((host, port))
    return made


def made_responder(**options: object) -> Responder:
    made = Responder(table(), ResponderOptions(**options))  # type: ignore[arg-type]
    made.posture = FRESH_NOW
    return made


class Served:
    """An endpoint on a loop that turns only when it is told to."""

    def __init__(self, host: str = "127.0.0.1", workers: int = 1, **options: object) -> None:
        self.loop = asyncio.new_event_loop()
        self.responder = made_responder(**options)
        sock = bound(host)
        self.port = sock.getsockname()[1]
        self.endpoint = native.NativeEndpoint([sock], self.responder, self.loop, workers)
        self.endpoint.start()
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

    def ask(self, packet: bytes, *, host: str = "", turns: bool = False) -> bytes:
        with client(host or self.host, self.port) as asking:
            asking.send(packet)
            if turns:
                self.turn(asking)
            return asking.recv(4096)

    def turn(self, asking: socket.socket) -> None:
        """Turn the loop until something is there to be read."""

        async def wait() -> None:
            loop = asyncio.get_running_loop()
            arrived = loop.create_future()
            loop.add_reader(asking, lambda: arrived.done() or arrived.set_result(None))
            try:
                async with asyncio.timeout(5):
                    await arrived
            finally:
                loop.remove_reader(asking)

        self.loop.run_until_complete(wait())

    def close(self) -> None:
        self.endpoint.close()
        self.loop.close()


@pytest.fixture
def served() -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def make(*args: object, **options: object) -> Served:
        made.append(Served(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_hit_needs_no_loop(served, host: str):
    here = served(host)
    assert rdatas(read(here.ask(WEB))) == ["10.0.0.1"]
    counters = here.responder.counters
    deadline_s = time.monotonic() + 5
    while not sum(counters.latency.buckets) and time.monotonic() < deadline_s:  # counted when the reply has left
        here.responder.settle()
    assert (counters.responses[0], counters.answers["fresh"], counters.handed_over) == (1, 1, 0)
    assert sum(counters.latency.buckets) == 1
    assert counters.latency.sum_s > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_what_is_odd_is_answered_by_python_from_the_same_socket(served, host: str):
    here = served(host, version="nodens 1")
    reply = read(here.ask(query(b"\x07version\x04bind\x00", 16, qclass=3), turns=True))
    assert "nodens 1" in reply.answer[0].to_text()
    here.responder.settle()
    assert (here.responder.counters.handed_over, here.responder.counters.queries["udp"]) == (1, 1)


def test_a_wildcard_answers_from_the_address_that_was_asked(served):
    here = served("0.0.0.0", version="nodens 1")
    # A connected socket takes nothing from another address.
    assert rdatas(read(here.ask(WEB, host="127.0.0.9"))) == ["10.0.0.1"]
    assert here.ask(query(b"\x07version\x04bind\x00", 16, qclass=3), host="127.0.0.8", turns=True)


def test_one_socket_for_both_families_answers_both_from_where_they_asked():
    """Inherited from systemd with BindIPv6Only=both; what nodens binds itself is never such a socket."""
    responder, loop = made_responder(version="nodens 1"), asyncio.new_event_loop()
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    endpoint = native.NativeEndpoint([sock], responder, loop, 1)
    endpoint.start()
    for host in ("127.0.0.7", "::1"):
        with client(host, sock.getsockname()[1]) as asking:
            asking.send(WEB)
            assert rdatas(read(asking.recv(512))) == ["10.0.0.1"]
            asking.send(query(b"\x07version\x04bind\x00", 16, qclass=3))
            here = Served.__new__(Served)
            here.loop = loop
            here.turn(asking)
            assert "nodens 1" in read(asking.recv(512)).answer[0].to_text()
    endpoint.close()
    loop.close()


def test_many_addresses_are_served_by_one_worker():
    responder, loop = made_responder(), asyncio.new_event_loop()
    socks = [bound(f"127.0.1.{number}") for number in range(1, 41)]
    names = [sock.getsockname() for sock in socks]
    endpoint = native.NativeEndpoint(socks, responder, loop, 1)
    endpoint.start()
    for name in names:
        with client(*name) as asking:
            asking.send(WEB)
            assert rdatas(read(asking.recv(512))) == ["10.0.0.1"]
    endpoint.close()
    loop.close()


def test_more_addresses_than_a_worker_serves_are_refused_by_name():
    loop = asyncio.new_event_loop()
    with bound() as sock, pytest.raises(NodensError, match="257 listen addresses"):
        native.NativeEndpoint([sock] * 257, made_responder(), loop, 1)
    loop.close()


def test_what_the_kernel_has_no_room_for_is_counted(served):
    here = served()
    here.endpoint._socks[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least there can be
    deadline_s = time.monotonic() + 10
    with client(here.host, here.port) as asking:
        while not here.responder.counters.dropped["receive_buffer"] and time.monotonic() < deadline_s:
            for _ in range(2000):
                asking.send(WEB)
            here.responder.settle()
    counters = here.responder.counters
    assert counters.dropped["receive_buffer"] > 0


def test_what_is_past_its_ttl_is_answered_at_once_and_told_to_the_loop_once(served):
    here = served()
    cache = _fast.TimedTable()
    told: list[bytes] = []
    cache.report = told.append
    key = timed.key_of(to_wire("example.com"), 1, do=False, cd=False)
    now_ms = time.monotonic_ns() // 1_000_000
    said = Group(1, record(1, bytes((192, 0, 2, 1)), 300)), Group(0, b""), Group(0, b"")
    life = timed.Life(now_ms - 2000, now_ms - 1000, now_ms - 1, now_ms + 600_000)
    other = Responder(here.responder.table, ResponderOptions(), counters=here.responder.counters, cache=cache)
    other.posture = FRESH_NOW
    here.endpoint.responder = other
    cache.put(key, timed.encode(life, 0, timed.RA, said))
    for _ in range(20):
        reply = read(here.ask(query("example.com", "A", opt())))
        assert (rdatas(reply), reply.answer[0].ttl, extended_error(reply)) == (["192.0.2.1"], 30, (3, timed.STALE_TEXT))
    with client(here.host, here.port) as asking:
        asking.send(query(b"\x07version\x04bind\x00", 16, qclass=3))
        here.turn(asking)
    assert told == [key]
    other.settle()
    assert other.counters.cached == {"fresh": 0, "stale": 20}
    assert other.counters.refreshes == {"reported": 1, "lost": 0}


def test_a_pinned_name_is_answered_ahead_of_everything_and_what_it_lacks_is_python_s():
    responder = made_responder()
    plane, reports = native.Plane(responder.table), []
    option = edns.extended_error(4, "pinned")
    held = node.encode(rrsets=addresses("10.66.0.1"))
    pinned = {to_wire(name): (option, held) for name in (short("web"), "example.com")} | {
        to_wire(short("many")): (b"", b"")
    }
    for posture in (FRESH_NOW, STALE_NOW, NOT_READY_NOW, EXPIRED_NOW):
        responder.posture = posture
        terms = native.terms_of(responder)._replace(pinned=pinned)
        plane.show(terms, responder.table)
        for name in (short("web"), "EXAMPLE.com"):
            reply = read(plane.answer(query(name, "A", opt())))
            assert (rdatas(reply), extended_error(reply)) == (["10.66.0.1"], (4, "pinned"))
            assert plane.answer(query(name, "AAAA")) is False
            assert plane.answer(query(name, "ANY")) is False
        assert plane.answer(query(short("many"), "A")) is False
        assert not reports
    responder.posture = FRESH_NOW
    plane.show(native.terms_of(responder)._replace(pinned=pinned), responder.table)
    assert plane.answer(query(short("alias"), "A")) is False, "an alias of a pinned name"
    assert isinstance(plane.answer(query(short("version"), "A")), bytes)
    assert plane.counts()["pinned"] == 8
    plane.show(native.terms_of(responder), responder.table)
    assert rdatas(read(plane.answer(WEB))) == ["10.0.0.1"]


def test_an_alias_that_leads_out_can_be_left_to_python():
    responder = made_responder()
    plane = native.Plane(responder.table)
    for follows_out in (False, True):
        plane.show(native.terms_of(responder)._replace(follows_out=follows_out), responder.table)
        for name in ("outside", "backwards"):
            assert (plane.answer(query(short(name), "A")) is False) is follows_out
        assert isinstance(plane.answer(query(short("alias"), "A")), bytes)


def test_a_worker_is_not_waited_for_in_a_forked_child(served):
    """A child has none of the threads; whatever it does with what it inherited must end."""
    here = served()
    assert here.ask(WEB)
    child = os.fork()
    if not child:
        for worker in here.endpoint._workers:
            worker.stop()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert here.ask(WEB)


def test_a_posture_and_a_change_are_seen_at_once(served):
    here = served()
    here.responder.posture = STALE_NOW
    assert extended_error(read(here.ask(query(short("web"), "A", opt())))) == (3, "age=1843s generation=812")
    here.responder.posture = FRESH_NOW
    here.responder.table.put(to_wire(short("web")), node.encode(rrsets=addresses("10.9.9.9")))
    assert rdatas(read(here.ask(WEB))) == ["10.9.9.9"]
    here.responder.table = table()
    assert rdatas(read(here.ask(WEB))) == ["10.0.0.1"]


def test_another_responder_takes_over_and_nothing_counted_is_lost(served):
    here = served()
    here.ask(WEB)
    other = Responder(here.responder.table, ResponderOptions(nsid=b"other"), counters=here.responder.counters)
    other.posture = FRESH_NOW
    here.endpoint.responder = other
    assert b"other" in here.ask(query(short("web"), "A", opt(options=b"\x00\x03\x00\x00")))
    other.settle()
    assert other.counters.responses[0] == 2


def test_two_workers_have_sockets_of_their_own_and_both_answer(served):
    here = served(workers=2)
    for _ in range(64):
        assert here.ask(WEB)
    done = [sum(worker.counts()["responses"]) for worker in here.endpoint._workers]
    assert sum(done) == 64
    assert all(done)


def test_an_inherited_socket_that_can_not_be_shared_serves_two_workers():
    responder, loop = made_responder(), asyncio.new_event_loop()
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    endpoint = native.NativeEndpoint([sock], responder, loop, 2)
    endpoint.start()
    with client(*sock.getsockname()) as asking:
        asking.send(WEB)
        assert asking.recv(512)
    endpoint.close()
    loop.close()


def test_what_had_arrived_is_answered_before_the_end(served):
    here = Served(version="1")
    with client(here.host, here.port) as asking:
        for _ in range(50):
            asking.send(WEB)
        asking.send(query(b"\x07version\x04bind\x00", 16, qclass=3))
        here.close()
        assert len([asking.recv(512) for _ in range(51)]) == 51
    assert here.responder.counters.queries["udp"] == 51
    assert here.responder.on_settle is None


def test_what_python_does_not_get_round_to_is_dropped_and_counted(served):
    here = served()
    slow = query("example.com", "A", opt(options=b"\xff\x00\x03\xe8" + bytes(1000)))
    room = _fast.MAX_QUEUE_BYTES // len(slow) + 100
    with client(here.host, here.port) as asking:
        for number in range(room):
            asking.send(slow)
            if not number % 20:
                time.sleep(0.001)  # the kernel's own queue must not be what overflows
        assert rdatas(read(here.ask(WEB))) == ["10.0.0.1"], "hits go on"
        here.responder.settle()
        counters = here.responder.counters
        assert counters.dropped["queue_full"] > 0
        assert counters.dropped["queue_full"] + counters.handed_over == room
        here.turn(asking)
        asking.recv(4096)
        reply = here.ask(query("example.com", "A"), turns=True)
        assert reply[3] & 0xF == 5, "when Python is back, so are its answers"


def test_hits_are_answered_while_python_is_stuck(served):
    """The lock of the interpreter is held for long: a hit must not notice."""
    here = served()
    script = (
        "import socket,sys,time\n"
        "s=socket.socket(type=socket.SOCK_DGRAM);s.settimeout(5);s.connect(('127.0.0.1',int(sys.argv[1])))\n"
        "q=bytes.fromhex(sys.argv[2]);worst=0;end=time.monotonic()+1\n"
        "while time.monotonic()<end:\n"
        "  t=time.monotonic();s.send(q);s.recv(512);worst=max(worst,time.monotonic()-t)\n"
        "print(worst)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(here.port), WEB.hex()], stdout=subprocess.PIPE) as asking:
        began_s = time.monotonic()
        while time.monotonic() < began_s + 2:
            sum(range(20_000_000))  # one call into C, which does not give the lock away
        out, _ = asking.communicate(timeout=10)
    assert float(out) < 0.5


def test_a_writer_at_full_speed_and_readers_at_full_speed_agree(served):
    """Names replaced, views grown, bases exchanged under a worker that answers from them."""
    here = served(workers=2)
    changing, key = here.responder.table, to_wire(short("web"))
    choices = [node.encode(rrsets=addresses(f"10.5.0.{last}")) for last in range(4)]
    is_over, wrong, answered = threading.Event(), [], []

    def ask() -> None:
        with client(here.host, here.port) as asking:
            count = 0
            while not is_over.is_set():
                asking.send(WEB)
                found = rdatas(read(asking.recv(512)))
                count += 1
                if len(found) != 1 or not found[0].startswith(("10.5.0.", "10.0.0.1")):
                    wrong.append(found)
            answered.append(count)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for each in asking:
        each.start()
    end_s, number = time.monotonic() + 2, 0
    while time.monotonic() < end_s:
        number += 1
        changing.put(key, choices[number % 4])
        changing.put(b"\x06n%05d\x07cluster\x05local\x00" % (number % 20_000), choices[0] if number % 3 else None)
        if number % 2000 == 0:
            changing.freeze()
            *_, section = pack(changing.frozen_items(), changing.names_at_most(), number)
            changing.rebase(PackedNodes(section, 0, len(section)))
    is_over.set()
    for each in asking:
        each.join()
    assert not wrong
    assert min(answered) > 100
    assert _fast.reclaim() < 64


@pytest.mark.parametrize(
    ("networks", "address", "is_allowed"),
    [
        (("10.0.0.0/8",), "10.9.9.9", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("10.128.0.0/9",), "10.127.0.1", False),
        (("10.128.0.0/9",), "::ffff:10.128.0.1", True),
        (("fd00::/15",), "fd01::1", True),
        (("fd00::/15",), "fd02::1", False),
        (("10.0.0.1/32",), "10.0.0.1", True),
        (("10.0.0.1/32",), "10.0.0.2", False),
        (("10.0.0.0/8",), "127.0.0.1", True),
        (("10.0.0.0/8",), "::1", True),
        (("0.0.0.0/0",), "::2", False),
        ((), "8.8.8.8", True),
    ],
)
def test_who_may_ask_is_decided_alike(networks, address: str, is_allowed: bool):
    responder = made_responder(allow=tuple(map(ipaddress.ip_network, networks)))
    plane = native.Plane(responder.table)
    plane.show(native.terms_of(responder), responder.table)
    assert plane.allows(ipaddress.ip_address(address).packed) is is_allowed
    assert (responder.access is None or responder.access.allows(address)) is is_allowed


def test_too_many_sockets_for_a_worker_are_refused():
    worker = _fast.Worker(native.Plane(table()))
    with bound() as sock:
        for _ in range(_fast.MAX_SOCKETS):
            worker.add(sock.fileno(), False)
        with pytest.raises(ValueError, match="too many sockets"):
            worker.add(sock.fileno(), False)
