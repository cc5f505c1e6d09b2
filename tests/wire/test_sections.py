"""Records as bytes: TTLs, rotation, and RRsets that move behind another question."""

from __future__ import annotations

import struct

import dns.message
import pytest

from agent.errors import WireError
from agent.wire import sections
from agent.wire.node import ROTATE, RRset

KEY = b"\x03web\x07default\x03svc\x07cluster\x05local\x00"
ZONE_AT = 12 + 4 + 8 + 4
TARGET = b"\x01t\x00"


def fixed(rtype: int, ttl_s: int, rdata: bytes) -> bytes:
    return struct.pack(">HHIH", rtype, 1, ttl_s, len(rdata)) + rdata


def read(question: bytes, answer: bytes, counts: tuple[int, int, int]) -> dns.message.Message:
    header = struct.pack(">HHHHHH", 0, 0x8400, 1, *counts)
    return dns.message.from_wire(header + question + struct.pack(">HH", 255, 1) + answer)


def lines(message: dns.message.Message) -> list[str]:
    every = (*message.answer, *message.authority, *message.additional)
    return [line for rrset in every for line in rrset.to_text().splitlines()]


@pytest.mark.parametrize("zone_at", [0, ZONE_AT])
def test_soa(zone_at: int):
    body = sections.soa(b"\x07cluster\x05local\x00", 2**32 + 7, 5, zone_at)
    assert lines(read(KEY, body, (0, 1, 0))) == [
        "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"
    ]


def test_text_is_cut_at_255_octets_and_ascii():
    assert sections.text("a" * 300, 0, rclass=3)[12] == 255
    assert sections.text("é", 0).endswith(b"\x01?")


def test_hinfo():
    assert lines(read(KEY, sections.hinfo(), (1, 0, 0))) == [
        'web.default.svc.cluster.local. 3600 IN HINFO "RFC8482" ""'
    ]


def test_ttls_are_lowered_only_where_they_are_higher():
    body = (
        b"\xc0\x0c" + fixed(1, 5, b"aaaa") + b"\x03abc\xc0\x0c" + fixed(1, 60, b"bbbb") + TARGET + fixed(1, 31, b"cc")
    )
    assert sections.lower_ttls(body, 3, 60) is body
    lowered = sections.lower_ttls(body, 3, 30)
    assert len(lowered) == len(body)
    expected = body.replace(struct.pack(">I", 60), struct.pack(">I", 30)).replace(
        struct.pack(">I", 31), struct.pack(">I", 30)
    )
    assert lowered == expected
    assert sections.lower_ttls(b"", 0, 0) == b""


@pytest.mark.parametrize("size", range(28))
def test_a_damaged_body_is_an_error(size: int):
    body = b"\xc0\x0c" + fixed(1, 5, b"aaaa") + TARGET + fixed(1, 31, b"")
    with pytest.raises((IndexError, struct.error)):
        sections.lower_ttls(body[:size], 2, 30)


def test_turning():
    free = RRset(1, ROTATE, 3, 0, b"aabbcc", b"")
    assert [sections.turn(free, by) for by in range(4)] == [b"aabbcc", b"bbccaa", b"ccaabb", b"aabbcc"]
    assert sections.turn(free._replace(flags=0), 1) == b"aabbcc"
    assert sections.turn(RRset(1, ROTATE, 1, 0, b"aa", b""), 1) == b"aa"


def test_a_moved_rrset_says_the_same_elsewhere():
    """An SRV RRset of KEY is moved behind a question for another name, at whose end KEY stands."""
    srv = b"\xc0\x0c" + fixed(33, 5, b"\x00\x00\x00\x64\x00\x50" + KEY)
    glue = b"\xc0\x0c" + fixed(1, 5, b"\x0a\x00\x00\x01") + b"\x03sub\xc0\x10" + fixed(28, 5, bytes(16))
    rrset = RRset(33, 0, 1, 2, srv, glue)
    original = lines(read(KEY, srv + glue, (1, 0, 2)))
    moved = sections.moved(KEY, rrset, 14)
    again = lines(read(b"\x01x" + KEY, moved.answer + moved.additional, (1, 0, 2)))
    assert again == original
    assert (moved.ancount, moved.arcount, moved.type, moved.flags) == (1, 2, 33, 0)


@pytest.mark.parametrize(
    ("rtype", "rdata", "expected"),
    [
        (2, b"\x01a\xc0\x10", "a.default.svc.cluster.local."),
        (5, b"\xc0\x10", "default.svc.cluster.local."),
        (12, b"\x01a\x00", "a."),
        (15, b"\x00\x0a\x01m\xc0\x1c", "10 m.cluster.local."),
        (16, b"\x02hi", '"hi"'),
        (1, b"\x0a\x00\x00\x01", "10.0.0.1"),
    ],
)
def test_names_in_rdata_are_written_out_when_moved(rtype: int, rdata: bytes, expected: str):
    rrset = RRset(rtype, 0, 1, 0, b"\xc0\x0c" + fixed(rtype, 5, rdata), b"")
    moved = sections.moved(KEY, rrset, 14)
    message = read(b"\x01x" + KEY, moved.answer, (1, 0, 0))
    assert message.answer[0][0].to_text() == expected
    assert message.answer[0].name.to_text() == "web.default.svc.cluster.local."


def test_records_that_are_none_are_an_error():
    for body in (b"", b"\xc0\x0c", b"\xc0\xff" + fixed(1, 5, b"")):
        with pytest.raises((WireError, struct.error)):
            list(sections.records(KEY, body, 1))
