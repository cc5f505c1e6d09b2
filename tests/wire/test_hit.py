"""The hit path: what it answers is what the slow path would, whatever changes between two queries."""

from __future__ import annotations

from typing import Any

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agent.records.names import to_wire
from agent.wire import hit, node
from agent.wire.hit import HitPath
from agent.wire.posture import FRESH, STALE, Posture
from tests.server.tables import (
    CLIENT,
    EXPIRED_NOW,
    FRESH_NOW,
    LOST_NOW,
    NAMES,
    NOT_READY_NOW,
    STALE_NOW,
    ZONES,
    addresses,
    ask,
    one,
    opt,
    option,
    packet,
    query,
    question,
    rdatas,
    responder,
    service,
    short,
    table,
)

EXTRAS = (
    b"",
    opt(),
    opt(512),
    opt(4096, flags=0x8000),
    opt(options=option(3)),
    opt(options=option(10, b"12345678")),
    opt(options=option(11)),
    opt(options=option(65001, b"x" * 60)),
    opt(version=1),
    b"\xc0\x0c" + opt()[1:],
    b"trailing",
)
ASKED = (
    *NAMES,
    short("gone"),
    "x." + short("web"),
    "9.9.9.10.in-addr.arpa",
    "1.0.0.10.in-addr.arpa",
    "10-1-2-3.default.pod.cluster.local",
    "localhost",
    "example.com",
)
QTYPES = ("A", "AAAA", "SRV", "PTR", "TXT", "NS", "CNAME", "SVCB", "SOA", "ANY", 1234)
CHANGES: tuple[tuple[Any, ...], ...] = (
    (),
    addresses("10.7.7.7"),
    addresses("10.7.7.7", "10.7.7.8", "fd00::7"),
    (one("TXT", b"\x02hi", 900),),
    (service(81),),
    (addresses("10.7.7.7")[0]._replace(ancount=40, answer=addresses("10.7.7.7")[0].answer * 40),),
)


def scrambled(wire: bytes, pattern: int) -> bytes:
    """Another case for some letters; length octets have none below 65."""
    return bytes(
        octet - 32 if 97 <= octet <= 122 and pattern >> (at % 8) & 1 else octet for at, octet in enumerate(wire)
    )


def understood(reply: bytes | None) -> Any:
    """A reply without the order of its records."""
    assert reply is not None
    message = dns.message.from_wire(reply, raise_on_truncation=False)
    sections = [sorted(line for rrset in s for line in rrset.to_text().splitlines()) for s in message.sections[1:]]
    return reply[:12], sections, message.question, message.ednsflags, message.options, len(reply)


class Twin(RuleBasedStateMachine):
    """Two responders of one table, one of them past its hit path, asked the same."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = responder(nsid=b"node-1")
        self.slow = responder(nsid=b"node-1")
        self.slow.table = self.fast.table

    @rule(
        name=st.sampled_from(ASKED),
        pattern=st.sampled_from([0, 0, 0, 0xA5]),
        qtype=st.sampled_from(QTYPES),
        extra=st.sampled_from(EXTRAS),
        flags=st.sampled_from([0x0100, 0x0120, 0, 0x0110, 0x0500, 0x0140]),
        qclass=st.sampled_from([1, 1, 1, 3, 255]),
        times=st.integers(1, 3),
        counted=st.sampled_from([None, None, None, 0, 1, 2]),
    )
    def asked(self, name, pattern, qtype, extra, flags, qclass, times, counted) -> None:
        for ident in range(times):
            body = question(scrambled(to_wire(name), pattern), qtype, qclass) + extra
            records = int(extra not in (b"", b"trailing")) if counted is None else counted
            sent = packet(body, (1, 0, 0, records), flags=flags, ident=ident)
            quick = self.fast.respond(sent, CLIENT, tcp=False)
            careful = self.slow._read(sent, CLIENT, tcp=False)
            assert understood(quick) == understood(careful)
            if qtype not in ("A", "AAAA", "ANY"):
                assert quick == careful

    @rule(name=st.sampled_from(ASKED[:20]), rrsets=st.sampled_from(CHANGES))
    def changed(self, name: str, rrsets: tuple[Any, ...]) -> None:
        zone = self.fast.table.zone_of(to_wire(name))
        assert zone is not None
        self.fast.table.put(to_wire(name), node.encode(zone=zone.number, rrsets=rrsets))

    @rule(name=st.sampled_from(ASKED[:20]))
    def taken_away(self, name: str) -> None:
        self.fast.table.put(to_wire(name), None)

    @rule(
        posture=st.one_of(
            st.sampled_from([FRESH_NOW, LOST_NOW, STALE_NOW, EXPIRED_NOW, NOT_READY_NOW]),
            st.builds(
                Posture,
                st.sampled_from([FRESH, STALE]),
                st.booleans(),
                st.sampled_from([None, 0, 4, 5, 30]),
                st.integers(0, 3),
                st.integers(0, 3),
                st.just(""),
            ),
        )
    )
    def postured(self, posture: Posture) -> None:
        self.fast.posture = self.slow.posture = posture

    @rule()
    def another_table(self) -> None:
        self.fast.table = table()
        self.slow.table = self.fast.table


Twin.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestTwin = Twin.TestCase


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def opened(cap_s: int | None = None, denies: frozenset[int] = frozenset({0}), *, marks: bool = False) -> HitPath:
    path = HitPath(table())
    path.open(serial=812, soa_ttl_s=5, cap_s=cap_s, denies=denies, marks=marks)
    return path


def test_closed_it_answers_and_keeps_nothing():
    path = HitPath(table())
    sent = query(short("web"))
    assert path.answer(sent) is None
    path.keep(sent, b"\x12\x34" + bytes(10))
    assert path.answer(sent) is None
    path.open(serial=1, soa_ttl_s=5, cap_s=None, denies=frozenset(), marks=False)
    assert path.answer(sent) is not None
    path.close()
    assert path.answer(sent) is None


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        bytes(12),
        query(short("web"))[:-1],
        query(short("web")) + b"x",
        query(short("web"), flags=0x8100),
        query(short("web"), flags=0x2900),
        query(short("web"), extra=opt()),
        query(short("web"), "ANY"),
        query(short("web"), "SOA"),
        query(short("web"), "AXFR"),
        query(short("web"), qclass=3),
        query(short("alias")),
        query(short("huge")),
        query("9.9.9.10.in-addr.arpa", "PTR"),
        query("example.com"),
        query(b"\x03a\x00b\x07cluster\x05local\x00"),
        query(b"\x41" + b"a" * 65 + b"\x07cluster\x05local\x00"),
        query(b"\x40" + b"a" * 64 + b"\x07cluster\x05local\x00"),
        query((b"\x3f" + b"a" * 63) * 4 + b"\x07cluster\x05local\x00"),
        packet(b"\x03web" + b"\xff" * 30),
    ],
)
def test_what_takes_more_care(sent: bytes):
    assert opened().answer(sent) is None


def test_a_label_with_a_zero_octet_is_no_other_name():
    """The name is cut at its first zero octet; what is left of this one ends like an own name but is none."""
    path = opened()
    assert path.answer(packet(b"\x04a\x07cluster\x05local\x00" + bytes(8))) is None
    assert path.answer(packet(b"\x05www\x00x\x07cluster\x05local\x00\x00\x01\x00\x01")) is None


def test_rotated_replies_are_not_kept():
    path = opened()
    assert path.answer(query(short("many"))) != path.answer(query(short("many")))
    assert path._kept == {}


def test_answers_are_counted_by_rcode_in_the_memo_and_before_it():
    path = opened()
    for _ in range(3):
        path.answer(query(short("web")))
        path.answer(query(short("web"), "TXT"))
        path.answer(query(short("gone")))
        path.answer(query(short("many")))
    assert [path.answered[rcode] for rcode in (0, 3)] == [9, 3]


def test_the_memo_starts_anew_when_full(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hit, "MAX_KEPT", 10)
    path = opened()
    for number in range(95):
        assert path.answer(query(f"{number}.cluster.local")) is not None
        assert 0 < len(path._kept) <= 10


def test_long_queries_and_replies_are_not_kept():
    path = opened()
    path.keep(bytes(hit.MAX_KEPT_QUERY_BYTES + 1), bytes(20))
    path.keep(bytes(20), bytes(hit.MAX_KEPT_REPLY_BYTES + 1))
    assert path._kept == {}
    path.keep(bytes(hit.MAX_KEPT_QUERY_BYTES), bytes(hit.MAX_KEPT_REPLY_BYTES))
    assert len(path._kept) == 1


def test_opts_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hit, "MAX_OPTS", 10)
    path = opened()
    for size in range(512, 560):
        path.learn(opt(size), size, opt(1232))
        assert path.answer(query(short("web"), extra=opt(size))) is not None
        assert 0 < len(path._opts) <= 10
    path.learn(opt(options=option(65001, b"x" * 100)), 512, opt(1232))
    assert all(len(known) <= hit.MAX_OPT_BYTES for known in path._opts)


def test_soas_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hit, "MAX_SOAS", 10)
    path = opened()
    for length in range(1, 60):
        assert path.answer(query("x" * length + ".cluster.local")) is not None
        assert 0 < len(path._soas) <= 10


def test_a_negative_answer_that_does_not_fit_takes_more_care():
    path = opened()
    path.learn(opt(), 40, opt())
    assert path.answer(query(short("gone"), extra=opt())) is None
    assert path.answer(query(short("web"), extra=opt())) is None


def test_marks_that_differ_by_rcode_are_left_to_the_slow_path():
    path = opened(marks=True)
    path.learn(opt(), 1232, opt())
    assert path.answer(query(short("gone"), extra=opt())) is None
    assert path.answer(query(short("gone"))) is not None
    assert path.answer(query(short("web"), extra=opt())) is not None


def test_ttls_over_the_cap_are_left_to_the_slow_path():
    path = opened(cap_s=30)
    assert path.answer(query(short("web"))) is not None
    assert path.answer(query(short("version"))) is None
    assert path.answer(query(short("web"), "SRV")) is None
    assert opened().answer(query(short("web"), "SRV")) is not None


def test_many_records_are_left_to_the_slow_path():
    path = opened()
    path.learn(opt(), 4096, opt())
    for count, is_answered in ((31, True), (32, False)):
        rrsets = addresses(*(f"10.8.0.{n}" for n in range(count)))
        path._table.put(to_wire(short("wide")), node.encode(rrsets=rrsets))
        assert (path.answer(query(short("wide"), extra=opt())) is not None) == is_answered
        srv = service(80)
        path._table.put(to_wire(short("wide")), node.encode(rrsets=(srv._replace(arcount=count),)))
        assert (path.answer(query(short("wide"), "SRV")) is not None) == is_answered


@given(st.binary(max_size=80))
def test_no_packet_raises(tail: bytes):
    path = opened()
    for sent in (tail, packet(tail), packet(tail, (1, 0, 0, 1)), packet(tail + to_wire("cluster.local") + bytes(4))):
        reply = path.answer(sent)
        assert reply is None or reply[:2] == sent[:2]


def test_remembered_replies_are_forgotten_with_every_change():
    served = responder()
    key = to_wire(short("web"))
    held = served.table.find(key)
    for number in range(1, 4):
        served.table.put(key, node.encode(rrsets=addresses(f"10.0.0.{number}")))
        for _ in range(2):
            assert rdatas(ask(served, short("web"))) == [f"10.0.0.{number}"]
    served.table.put(key, None)
    for _ in range(2):
        assert ask(served, short("web")).rcode() == 3
    served.table.put(key, held)
    served.table.freeze()
    served.table.put(key, node.encode(rrsets=addresses("10.0.0.9")))
    assert rdatas(ask(served, short("web"))) == ["10.0.0.9"]
    served.table.thaw()
    assert rdatas(ask(served, short("web"))) == ["10.0.0.9"]
    assert served.table.zones == ZONES
