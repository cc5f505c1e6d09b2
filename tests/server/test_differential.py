"""Both data planes side by side: random tables, queries and postures; the same octets, the same counts.

They may differ in one thing: how far records in free order are rotated, which each counts for itself.
"""

from __future__ import annotations

import importlib
import ipaddress
import itertools
import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.records.names import to_wire
from agent.server.counters import Counters
from agent.server.options import ResponderOptions
from agent.server.overriding import NO_ZONE, Overridden, forged
from agent.server.responder import Responder
from agent.wire import cookies, node, timed
from agent.wire.node import CNAME_NODE, EXPLICIT, ROTATE, RRset
from agent.wire.posture import EXPIRED, FRESH, NOT_READY, STALE, Posture
from agent.wire.reply import Group
from agent.wire.table import AnswerTable, PackedNodes, pack
from tests.server.tables import CLIENT, ZONES, alias, option, record

_fast = pytest.importorskip("agent.wire._fast", reason="the compiled data plane is not built")
native = importlib.import_module("agent.server.native")

NAMES = (
    "cluster.local", "svc.cluster.local", "ns.svc.cluster.local", "a.ns.svc.cluster.local", "b.ns.svc.cluster.local",
    "pod.cluster.local", "ns.pod.cluster.local", "10-1-2-3.ns.pod.cluster.local", "in-addr.arpa", "1.10.in-addr.arpa",
    "x.ip6.arpa", f"{'l' * 63}.{'m' * 63}.{'n' * 63}.{'o' * 46}.cluster.local",
)  # fmt: skip
EXTERNAL = ("example.com", "www.example.com", "gone.in-addr.arpa", "c.ns.svc.cluster.local")
NOW_MS = 10_000_000
UNIX_S = 4_294_967_290  # stamps wrap around soon
SECRET = bytes(range(16))
OTHERS = (
    "c.ns.svc.cluster.local",
    "x.a.ns.svc.cluster.local",
    "gone.in-addr.arpa",
    "example.com",
    "www.example.com",
    "localhost",
    ".",
)
PLAIN = ("version", "identity", "status", "special_names", "allow", "drop_others", "tcp_idle_timeout_ms")
TYPES = (1, 2, 5, 6, 12, 16, 28, 33, 41, 64, 251, 252, 255, 1234, 65281)


@pytest.fixture(scope="module", autouse=True)
def build() -> str:
    """Each test here has both."""
    return "both"


@st.composite
def rrsets(draw: st.DrawFn) -> RRset:
    count = draw(st.sampled_from([1, 1, 2, 3, 40]))
    rdata_bytes = draw(st.sampled_from([4, 16, 30]))
    answer = b"".join(
        record(1, bytes((number,)) * rdata_bytes, draw(st.sampled_from([5, 5, 600])) if number == 0 else 5)
        for number in range(count)
    )
    more = draw(st.sampled_from([0, 0, 1, 12]))
    additional = record(1, b"\x0a\x00\x00\x01", 900) * more
    flags = ROTATE if draw(st.booleans()) else 0
    return RRset(draw(st.sampled_from(TYPES)), flags, count, more, answer, additional)


@st.composite
def nodes(draw: st.DrawFn, zone: int) -> bytes:
    if draw(st.integers(0, 2)) == 0:
        target = draw(st.sampled_from((*NAMES, *NAMES, *OTHERS)))
        record = alias(target if draw(st.booleans()) else target.upper())
        return node.encode(flags=CNAME_NODE, zone=zone, rrsets=(record,))
    held = {each.type: each for each in draw(st.lists(rrsets(), max_size=3))}
    return node.encode(flags=EXPLICIT, zone=zone, rrsets=tuple(held.values()))


@st.composite
def tables(draw: st.DrawFn) -> tuple[AnswerTable, AnswerTable]:
    """The same names in both kinds of table, in base, frozen layer and overlay."""
    pair = AnswerTable(ZONES), _fast.AnswerTable(ZONES)
    for layer in range(3):
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=8, unique=True)):
            key = to_wire(name)
            zone = pair[0].zone_of(key)
            assert zone is not None
            made = draw(st.one_of(st.none(), nodes(zone.number))) if layer else draw(nodes(zone.number))
            for table in pair:
                table.put(key, made)
        for table in pair:
            if layer < 2:
                table.freeze()
            if layer == 0:
                *_, section = pack(table.frozen_items(), table.names_at_most(), 99)
                assert section is not None
                table.rebase(PackedNodes(section, 0, len(section)))
    return pair


postures = st.builds(
    Posture,
    state=st.sampled_from([FRESH, FRESH, STALE, EXPIRED, NOT_READY]),
    connected=st.booleans(),
    ttl_cap_s=st.sampled_from([None, 0, 30]),
    age_s=st.integers(0, 10**6),
    generation=st.sampled_from([0, 7, 2**32 + 5]),
    note=st.just("a note"),
)
options = st.builds(
    ResponderOptions,
    ttl_s=st.sampled_from([0, 3, 3600]),
    pods=st.sampled_from(["disabled", "insecure"]),
    fallthrough=st.sampled_from([None, frozenset(), frozenset({ZONES[0].name})]),
    udp_size_bytes=st.sampled_from([512, 1232, 4096]),
    nsid=st.sampled_from([b"", b"node-1", b"n" * 128]),
    cookie_secrets=st.sampled_from([(), (SECRET,)]),
    **{word: st.just(ResponderOptions._field_defaults[word]) for word in PLAIN},
)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """A query, whole or damaged."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=40))
    wire = bytearray(to_wire(draw(st.sampled_from(NAMES + OTHERS))))
    pattern = draw(st.integers(0, 255))
    for at, octet in enumerate(wire):
        if 97 <= octet <= 122 and pattern >> at % 8 & 1:
            wire[at] -= 32
    body = bytes(wire) + struct.pack(">HH", draw(st.sampled_from(TYPES)), draw(st.sampled_from([1] * 9 + [3])))
    extra = 0
    if draw(st.booleans()):
        signed = st.builds(
            cookies.make,
            st.binary(min_size=8, max_size=8),
            st.sampled_from([CLIENT, CLIENT, "10.9.9.9"]),
            st.sampled_from([UNIX_S + ahead_s for ahead_s in (0, 300, 301, -1800, -1801, -3601)]),
            st.sampled_from([SECRET, SECRET, bytes(16)]),
        )
        said = st.one_of(
            st.tuples(st.sampled_from([3, 8, 10, 11, 12, 65001]), st.binary(max_size=24)),
            st.tuples(st.just(10), signed),
        )
        rdata = b"".join(option(*each) for each in draw(st.lists(said, max_size=17 if pattern == 255 else 2)))
        body += b"\x00" + struct.pack(
            ">HHBBHH", 41, draw(st.sampled_from([0, 512, 1232, 65535])), 0, draw(st.sampled_from([0] * 9 + [1])),
            draw(st.sampled_from([0, 0x8000, 0xFFFF])), len(rdata),
        ) + rdata  # fmt: skip
        extra = 1
    if draw(st.integers(0, 9)) == 0:
        body += draw(st.binary(max_size=8))
    flags = draw(st.sampled_from([0, 0x0100, 0x0120, 0x0130, 0x7FF, 0x2800, 0x8000]))
    made = bytearray(struct.pack(">HHHHHH", draw(st.integers(0, 65535)), flags, 1, 0, 0, extra) + body)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        made[draw(st.integers(2, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.integers(0, len(made)))] if draw(st.integers(0, 14)) == 0 else made)


@st.composite
def kept(draw: st.DrawFn) -> dict[bytes, bytes]:
    """Entries of the timed table, around NOW_MS in their lives."""
    held = {}
    for _ in range(draw(st.integers(0, 12))):
        name = to_wire(draw(st.sampled_from(EXTERNAL)))
        do, cd = draw(st.booleans()), draw(st.sampled_from([False, False, True]))
        key = timed.key_of(name, draw(st.sampled_from([1, 1, 28, 65281])), do=do, cd=cd)
        times = sorted(draw(st.lists(st.integers(-5000, 5000), min_size=4, max_size=4)))
        sections = []
        for count in draw(st.tuples(*[st.sampled_from([0, 1, 1, 2, 30])] * 3)):
            ttls = [draw(st.sampled_from([0, 2, 300, 2**32 - 1])) for _ in range(min(count, 3))]
            sections.append(
                Group(count, b"".join(record(1, b"\x0a\0\0\1", ttls[i % 3 % len(ttls)]) for i in range(count)))
            )
        life = timed.Life(*(NOW_MS + time for time in times))
        flags = draw(st.sampled_from([timed.RA, timed.RA | timed.AD, timed.CD]))
        held[key] = timed.encode(
            life, draw(st.sampled_from([0, 0, 3, 2])), flags, (sections[0], sections[1], sections[2])
        )
    return held


@st.composite
def pinned(draw: st.DrawFn) -> dict[bytes, Overridden]:
    """What a person answers by hand."""
    names = draw(st.lists(st.sampled_from((*NAMES, *OTHERS[:5])), max_size=3, unique=True))
    return {to_wire(name): Overridden(draw(nodes(NO_ZONE)), forged(name, "tomorrow")) for name in names}


def counted(counters: Counters) -> tuple[object, ...]:
    return (
        counters.responses, counters.answers, counters.dropped, counters.faults, counters.truncated, counters.queries,
        counters.cached,
    )  # fmt: skip


def compare(python: Responder, plane: object, tally: object, packet: bytes, seen: Counters) -> bool:
    """Ask both; gives whether the worker answered by itself."""
    due: list[bytes] = []
    mine = plane.answer(packet, NOW_MS, due, ipaddress.ip_address(CLIENT).packed, UNIX_S)
    tally.add(plane.counts(), seen)
    if mine is False:
        return False
    turns = []
    reported: list[bytes] = []
    python.cache.report = reported.append
    # Python takes one number, or two where the hit path gives up only after it has taken one.
    for taken in (1, 2):
        python.counters = python._sender._counters = Counters()
        python._hit.turn = plane.turn - taken
        python._hit.forget()
        reported.clear()
        turns.append(python.respond(packet, CLIENT, tcp=False))
        python.settle()
        if turns[-1] == mine:
            break
    assert mine in turns
    assert due == reported
    assert counted(seen) == counted(python.counters)
    if mine is not None and mine[4:6] == b"\x00\x01" and not mine[2] & 2 and mine[12:].isascii():
        assert dnslib.DNSRecord.parse(mine).header.a == struct.unpack(">H", mine[6:8])[0]
    return True


@settings(deadline=None, max_examples=60)
@given(
    tables(),
    kept(),
    pinned(),
    options,
    st.lists(postures, min_size=1, max_size=2),
    st.lists(packets(), min_size=1, max_size=30),
)
def test_what_a_worker_answers_is_what_python_answers(pair, kept, pinned, options, postures, packets):
    caches = timed.TimedTable(), _fast.TimedTable()
    for cache in caches:
        for key, value in kept.items():
            assert cache.put(key, value)
    python = Responder(pair[0], options, cache=caches[0], ticks_ms=lambda: NOW_MS, clock=lambda: UNIX_S)
    behind = Responder(pair[1], options, cache=caches[1])
    python.overrides = behind.overrides = pinned
    plane = native.Plane(pair[1])
    for posture in postures:
        python.posture = behind.posture = posture
        plane.show(native.terms_of(behind), pair[1], caches[1])
        tally = native.Tally()
        tally.add(plane.counts(), Counters())
        for packet in packets:
            compare(python, plane, tally, packet, Counters())


def test_what_is_asked_all_day_is_answered_without_python():
    """Handing over everything would be no difference either."""
    table = _fast.AnswerTable(ZONES)
    table.put(
        to_wire("a.ns.svc.cluster.local"), node.encode(rrsets=(RRset(1, 0, 1, 0, record(1, b"\x0a\0\0\1"), b""),))
    )
    plane = native.Plane(table)
    served = Responder(table, ResponderOptions(pods="insecure"))
    for state in (FRESH, STALE, EXPIRED, NOT_READY):
        served.posture = Posture(state, True, 30, 5, 7, "")
        plane.show(native.terms_of(served), table)
        for name in ("a.ns.svc.cluster.local", "x.ns.svc.cluster.local", "example.com.ns.svc.cluster.local"):
            for qtype in (1, 28, 33, 6, 65):
                question = to_wire(name) + struct.pack(">HH", qtype, 1)
                packet = struct.pack(">HHHHHH", 1, 0x100, 1, 0, 0, 0) + question
                assert isinstance(plane.answer(packet), bytes)


def test_rotation_gives_every_record_its_turn():
    table = _fast.AnswerTable(ZONES)
    answer = b"".join(record(1, bytes((10, 0, 0, last))) for last in range(3))
    table.put(to_wire("a.cluster.local"), node.encode(rrsets=(RRset(1, ROTATE, 3, 0, answer, b""),)))
    plane = native.Plane(table)
    served = Responder(table, ResponderOptions())
    served.posture = Posture(FRESH, True, None, 0, 7, "")
    plane.show(native.terms_of(served), table)
    packet = struct.pack(">HHHHHH", 1, 0x100, 1, 0, 0, 0) + to_wire("a.cluster.local") + struct.pack(">HH", 1, 1)
    first = [dnslib.DNSRecord.parse(plane.answer(packet)).rr[0].rdata.data[3] for _ in range(9)]
    assert sorted(first) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_aliases_and_what_upstreams_said_are_answered_without_python():
    """Handing them over would be no difference, as above."""
    table, cache = _fast.AnswerTable(ZONES), _fast.TimedTable()
    names = [f"hop{number}.cluster.local" for number in range(11)]
    for name, target in itertools.pairwise(names):
        table.put(to_wire(name), node.encode(flags=CNAME_NODE, rrsets=(alias(target),)))
    table.put(to_wire(names[-1]), node.encode(rrsets=(RRset(1, 0, 1, 0, record(1, b"\x0a\0\0\1"), b""),)))
    said = Group(1, record(1, b"\x0a\0\0\2")), Group(0, b""), Group(0, b"")
    cache.put(
        timed.key_of(to_wire("example.com"), 1, do=False, cd=False),
        timed.encode(timed.Life(0, 8_000, 10_000, 20_000), 0, timed.RA, said),
    )
    served = Responder(table, ResponderOptions(), cache=cache)
    served.posture = Posture(FRESH, True, None, 0, 7, "")
    plane = native.Plane(table)
    plane.show(native.terms_of(served), table, cache)

    def ask(name: str, now_ms: int = 0) -> dnslib.DNSRecord:
        question = to_wire(name) + struct.pack(">HH", 1, 1)
        return dnslib.DNSRecord.parse(plane.answer(struct.pack(">HHHHHH", 1, 0x100, 1, 0, 0, 0) + question, now_ms))

    assert [rr.rtype for rr in ask(names[2]).rr] == [5] * 8 + [1]
    assert ask(names[1]).header.rcode == 2, "nine aliases are too many"
    assert ask("example.com", 3_000).rr[0].ttl == 2
    assert ask("example.com", 19_999).rr[0].ttl == 30
    assert (
        plane.answer(struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + to_wire("example.com") + b"\0\1\0\1", 20_000) is False
    )
