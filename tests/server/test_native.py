"""Compiled workers on real sockets: what they answer, what they hand over, how they end."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agent.records.names import to_wire
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.wire import node
from agent.wire.table import PackedNodes, pack
from tests.server.tables import FRESH_NOW, STALE_NOW, addresses, extended_error, opt, query, rdatas, read, short, table

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
    here.responder.settle()
    counters = here.responder.counters
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
