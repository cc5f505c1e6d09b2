"""Records as bytes inside a message: TTLs lowered, an RRset moved behind another question, small RRsets made.

Law: what comes in was made by nodens (a node's RRset) and is laid out as `node` says; what goes out stands where the
caller says it will. An owner name that is the question's name is always the pointer 0xC00C.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.wire.codes import CH, CNAME, HINFO, IN, MX, NS, PTR, SOA, SRV, TXT
from agent.wire.message import HEADER_BYTES, read_name
from agent.wire.node import ROTATE, RRset

TO_QUESTION = b"\xc0\x0c"
SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S = 7200, 1800, 86400
MAX_SOA_TTL_S = 5
"""Highest TTL and MINIMUM of an own zone's SOA (RFC 2308): a negative answer is not kept longer than this."""
HINFO_TTL_S = 3600

_FIXED = struct.Struct(">HHIH")
_SOA = struct.Struct(">IIIII")
_NAMES_AT = {NS: 0, CNAME: 0, PTR: 0, SRV: 6, MX: 2}
"""Where in the rdata a name stands that runs to its end."""


class Record(NamedTuple):
    """One record, names uncompressed."""

    owner: bytes
    type: int
    ttl_s: int
    rdata: bytes


def pointer(offset: int) -> bytes:
    """Write a compression pointer (RFC 1035 section 4.1.4)."""
    return (0xC000 | offset).to_bytes(2, "big")


def record(rtype: int, ttl_s: int, rdata: bytes, owner: bytes = TO_QUESTION, rclass: int = IN) -> bytes:
    """Lay out one record; the owner is a pointer to the question name unless given."""
    return b"%b%b%b" % (owner, _FIXED.pack(rtype, rclass, ttl_s, len(rdata)), rdata)


def text(words: str, ttl_s: int, rclass: int = CH) -> bytes:
    """Lay out a TXT record of one string, cut at 255 octets (RFC 1035 section 3.3.14)."""
    raw = words.encode("ascii", "replace")[:255]
    return record(TXT, ttl_s, bytes((len(raw),)) + raw, rclass=rclass)


def hinfo() -> bytes:
    """Lay out what an ANY query gets instead of everything (RFC 8482 section 4.2)."""
    return record(HINFO, HINFO_TTL_S, b"\x07RFC8482\x00")


def soa(zone: bytes, serial: int, ttl_s: int, zone_at: int = 0) -> bytes:
    """Lay out an own zone's SOA: ns.dns.ZONE hostmaster.ZONE.

    Args:
        zone: apex in wire form.
        serial: the snapshot's generation.
        ttl_s: TTL and MINIMUM.
        zone_at: offset in the message where the apex stands already; 0 writes it out.
    """
    apex = pointer(zone_at) if zone_at else zone
    numbers = _SOA.pack(serial & 0xFFFFFFFF, SOA_REFRESH_S, SOA_RETRY_S, SOA_EXPIRE_S, ttl_s)
    return record(SOA, ttl_s, b"\x02ns\x03dns%b\x0ahostmaster%b%b" % (apex, apex, numbers), apex)


def skip_name(body: bytes, at: int) -> int:
    """Find the end of a name, without following its pointer."""
    while body[at]:
        if body[at] >= 0xC0:
            return at + 2
        at += body[at] + 1
    return at + 1


def lower_ttls(body: bytes, count: int, cap_s: int) -> bytes:
    """Give records with no TTL above `cap_s`, the same object if none was.

    Raises:
        IndexError, struct.error: the body does not hold `count` records.
    """
    lowered: bytearray | None = None
    at = 0
    for _ in range(count):
        at = skip_name(body, at)
        _, _, ttl_s, length = _FIXED.unpack_from(body, at)
        if ttl_s > cap_s:
            lowered = bytearray(body) if lowered is None else lowered
            lowered[at + 4 : at + 8] = cap_s.to_bytes(4, "big")
        at += _FIXED.size + length
    return body if lowered is None else bytes(lowered)


def turn(rrset: RRset, by: int) -> bytes:
    """Give the answer with its records rotated, if their order is free."""
    count = rrset.ancount
    if not rrset.flags & ROTATE or count < 2:
        return rrset.answer
    cut = by % count * (len(rrset.answer) // count)
    return rrset.answer[cut:] + rrset.answer[:cut]


def records(key: bytes, body: bytes, count: int) -> Iterator[Record]:
    """Read records that stand behind a question for `key`, their names written out.

    Raises:
        WireError, struct.error: the body is not laid out as a node's.
    """
    at = HEADER_BYTES + len(key) + 4
    message = b"%b%b%b%b" % (bytes(HEADER_BYTES), key, bytes(4), body)
    for _ in range(count):
        owner, at = read_name(message, at)
        rtype, _, ttl_s, length = _FIXED.unpack_from(message, at)
        at += _FIXED.size
        rdata = message[at : at + length]
        fixed = _NAMES_AT.get(rtype)
        if fixed is not None:
            rdata = rdata[:fixed] + read_name(message, at + fixed)[0]
        at += length
        yield Record(owner, rtype, ttl_s, rdata)


def moved(key: bytes, rrset: RRset, key_at: int) -> RRset:
    """Give an RRset so that it can stand anywhere in a message that has its owner's name at `key_at`.

    An answer that may be rotated still may: it grew by nothing.
    """
    owner = pointer(key_at)
    answer, additional = (
        b"".join(
            record(each.type, each.ttl_s, each.rdata, owner if each.owner == key else each.owner)
            for each in records(key, body, count)
        )
        for body, count in (
            (rrset.answer, rrset.ancount),
            # Records of the additional section may point into the answer, so the answer is read in front of them.
            (rrset.answer + rrset.additional, rrset.ancount + rrset.arcount),
        )
    )
    return rrset._replace(answer=answer, additional=additional[len(answer) :])
