"""dnslib and dnspython as oracles: what they can read is read alike here, and what is sent they can read."""

from __future__ import annotations

import struct

import dns.edns
import dns.exception
import dns.message
import dns.name
import dnslib
from hypothesis import given
from hypothesis import strategies as st

from agent.wire.message import read_query
from tests.server.tables import (
    CLIENT,
    EXPIRED_NOW,
    FRESH_NOW,
    LOST_NOW,
    NAMES,
    NOT_READY_NOW,
    STALE_NOW,
    query,
    responder,
)

octets = st.binary(min_size=1, max_size=63)
labels = st.one_of(
    st.sampled_from([b"web", b"default", b"svc", b"cluster", b"local", b"arpa", b"WEB", b"_tcp"]), octets
)
names = st.one_of(
    st.sampled_from(sorted(NAMES)).map(dns.name.from_text),
    st.lists(labels, max_size=6)
    .filter(lambda parts: sum(len(part) + 1 for part in parts) < 255)
    .map(lambda parts: dns.name.Name((*parts, b""))),
)
options = st.lists(
    st.one_of(
        st.builds(lambda data: dns.edns.GenericOption(65_001, data), st.binary(max_size=20)),
        st.just(dns.edns.GenericOption(3, b"")),
        st.just(dns.edns.GenericOption(11, b"")),
        st.sampled_from([8, 16, 24, 40]).map(lambda size: dns.edns.GenericOption(10, bytes(size))),
    ),
    max_size=4,
)
postures = st.sampled_from([FRESH_NOW, LOST_NOW, STALE_NOW, EXPIRED_NOW, NOT_READY_NOW])


@st.composite
def queries(draw: st.DrawFn) -> dns.message.Message:
    """Any query dnspython can write."""
    made = dns.message.make_query(
        draw(names), draw(st.integers(1, 0xFFFF)), draw(st.sampled_from([1, 1, 1, 3, 4, 254]))
    )
    made.flags = draw(st.integers(0, 0xFFFF)) & 0x07F0
    made.id = draw(st.integers(0, 0xFFFF))
    if draw(st.booleans()):
        made.use_edns(
            edns=draw(st.sampled_from([0, 0, 0, 1, 7])),
            ednsflags=draw(st.sampled_from([0, 0x8000, 0x7FFF])),
            payload=draw(st.integers(0, 0xFFFF)),
            options=draw(options),
        )
    return made


@given(queries(), postures, st.booleans(), st.sampled_from([(), (bytes(16),)]))
def test_a_reply_to_any_query_can_be_read(made, posture, tcp, secrets):
    served = responder(posture, nsid=b"node-1", version="1", identity="node-1", cookie_secrets=secrets, pods="insecure")
    sent = made.to_wire()
    first = None
    for _ in range(2):
        reply = served.respond(sent, CLIENT, tcp=tcp)
        assert reply is not None
        message = dns.message.from_wire(reply, raise_on_truncation=False)
        assert message.id == made.id
        assert message.question == made.question
        assert message.edns == (0 if made.edns >= 0 else -1)
        assert (message.flags & 0x0100) == (made.flags & 0x0100)
        assert not message.flags & (0x02F0 if tcp else 0x00F0)
        if sent.isascii() or not sent[12:].strip(b"\x00"):
            parsed = dnslib.DNSRecord.parse(reply)
            assert parsed.header.a == sum(len(rrset) for rrset in message.answer)
        if not tcp:
            bound = max(512, min(made.payload, 1232)) if made.edns >= 0 else 512
            assert len(reply) <= bound
        if made.edns > 0:
            assert message.rcode() == dns.rcode.BADVERS
        first = first or message.rcode()
        assert message.rcode() == first


@given(st.binary(min_size=12, max_size=200))
def test_what_dnspython_reads_is_read_alike(packet: bytes):
    compare(packet)


@given(
    names,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=40),
    st.integers(0, 3),
    st.integers(0, 0xFFFF),
)
def test_what_dnspython_reads_is_read_alike_behind_a_question(name, qtype, qclass, tail, records, flags):
    header = struct.pack(">HHHHHH", 7, flags, 1, 0, 0, records)
    compare(header + name.to_wire() + struct.pack(">HH", qtype, qclass) + tail)


@given(
    names,
    st.lists(
        st.tuples(
            st.sampled_from([b"\x00", b"\xc0\x0c", b"\x01a\x00"]), st.sampled_from([41, 41, 16]), st.binary(max_size=12)
        ),
        max_size=3,
    ),
    st.integers(0, 0xFFFF),
    st.integers(0, 0x00FF_FFFF),
)
def test_what_dnspython_reads_of_an_opt_is_read_alike(name, records, size, ttl):
    body = b"".join(
        owner + struct.pack(">HHIH", rtype, size, ttl, len(rdata)) + rdata for owner, rtype, rdata in records
    )
    compare(struct.pack(">HHHHHH", 7, 0, 1, 0, 0, len(records)) + name.to_wire() + struct.pack(">HH", 1, 1) + body)


def compare(packet: bytes) -> None:
    """Where dnspython accepts a query of one question whose name is written out, both read the same."""
    query = read_query(packet)
    try:
        message = dns.message.from_wire(packet, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError):
        return
    if message.opcode() != 0 or len(message.question) != 1 or struct.unpack_from(">H", packet, 4)[0] != 1:
        assert query.rcode
        return
    question = message.question[0]
    written_out = question.name.to_wire()
    if packet[12 : 12 + len(written_out)] != written_out:
        # A pointer into the header: dnspython follows it, RFC 1035 has nothing there that it could mean.
        assert query.fault == "bad_question"
        return
    assert query.key == written_out.lower()
    assert (query.qtype, query.qclass) == (question.rdtype, question.rdclass)
    if not query.rcode:
        assert (message.edns if message.edns >= 0 else -1) == (query.opt.version if query.opt is not None else -1)
        if query.opt is not None:
            assert (query.opt.size_bytes, query.opt.do) == (message.payload, bool(message.ednsflags & 0x8000))


@given(names, st.integers(0, 0xFFFF), st.binary(max_size=30))
def test_what_dnslib_reads_is_read_alike(name, qtype, tail):
    packet = query(name.to_wire(), qtype) + tail
    try:
        parsed = dnslib.DNSRecord.parse(packet)
    except dnslib.DNSError:
        return
    read = read_query(packet)
    assert read.rcode == 0
    assert [label.lower() for label in parsed.q.qname.label] == [label.lower() for label in name.labels[:-1]]
    assert (parsed.q.qtype, parsed.q.qclass) == (read.qtype, read.qclass)


@given(st.binary(max_size=600), st.booleans(), postures)
def test_random_octets_never_raise(packet: bytes, tcp: bool, posture):
    served = responder(posture, cookie_secrets=(bytes(16),))
    reply = served.respond(packet, CLIENT, tcp=tcp)
    if reply is not None:
        assert reply[:2] == packet[:2]
        assert reply[2] & 0x80


@given(st.integers(0, 0x07FF), st.tuples(*[st.integers(0, 3)] * 4), st.binary(max_size=80), st.booleans())
def test_random_octets_behind_a_likely_header_never_raise(flags, counts, body, tcp):
    served = responder(cookie_secrets=(bytes(16),))
    packet = struct.pack(">HHHHHH", 7, flags, *counts) + body
    reply = served.respond(packet, CLIENT, tcp=tcp)
    assert reply is not None
    dns.message.from_wire(reply, raise_on_truncation=False)


def test_random_damage_to_real_queries_never_raises():
    served = responder(STALE_NOW, nsid=b"node-1", cookie_secrets=(bytes(16),))
    made = dns.message.make_query("_http._tcp.web.default.svc.cluster.local", "SRV", use_edns=0, options=[
        dns.edns.GenericOption(3, b""), dns.edns.GenericOption(10, b"12345678")])  # fmt: skip
    sent = made.to_wire()
    for at in range(len(sent)):
        for octet in (0, 1, 0x3F, 0x40, 0xC0, 0xFF, sent[at] ^ 0x20):
            damaged = sent[:at] + bytes((octet,)) + sent[at + 1 :]
            for packet in (damaged, damaged[:at], damaged + sent):
                for tcp in (False, True):
                    reply = served.respond(packet, CLIENT, tcp=tcp)
                    if reply is not None:
                        dns.message.from_wire(reply, raise_on_truncation=False)
