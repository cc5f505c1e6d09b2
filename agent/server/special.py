"""Special names: what must not leave the node even if nobody answers for it (dns.md section 3, last rows).

Law: own zones come first, special names after them, forwarding last. Each name is answered as its RFC says, with
the SOA that RFC 6303 section 3 gives an empty zone, so that the answer is cached.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import Enum

from agent.wire.codes import AAAA, ANY, NOERROR, NS, NXDOMAIN, PTR, SOA, A
from agent.wire.reply import Answer, Group
from agent.wire.sections import pointer, record

TTL_S = 10_800
_SERIAL, _REFRESH_S, _RETRY_S, _EXPIRE_S = 1, 3600, 1200, 604_800
"""RFC 6303 section 3."""
_NOBODY = b"\x06nobody\x07invalid\x00"
_LOCALHOST = b"\x09localhost\x00"


class Kind(Enum):
    """What a special zone answers."""

    LOOPBACK = "127.0.0.1 and ::1, at the name and below it (RFC 6761 section 6.3)"
    NOTHING = "NXDOMAIN, at the name and below it (RFC 6761 section 6.2 and 6.4, RFC 7686, RFC 9476)"
    EMPTY = "an empty zone: NXDOMAIN below the name (RFC 6303, RFC 8375)"
    NODATA = "no data at and below the name (RFC 9462 section 6.4)"


def _wire(dotted: str) -> bytes:
    return b"".join(b"%c%b" % (len(part), part.encode()) for part in dotted.split(".")) + b"\x00"


_REVERSE4 = ("0", "127", "10", "168.192", "254.169", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255")
_REVERSE6 = ("d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2", ".".join("0" * 32), ".".join("1" + "0" * 31))
ZONES: Mapping[bytes, Kind] = {
    _LOCALHOST: Kind.LOOPBACK,
    _wire("invalid"): Kind.NOTHING,
    _wire("test"): Kind.NOTHING,
    _wire("onion"): Kind.NOTHING,
    _wire("alt"): Kind.NOTHING,
    _wire("home.arpa"): Kind.EMPTY,
    _wire("resolver.arpa"): Kind.NODATA,
    # RFC 6303 section 4 and, for 64-127.100, RFC 7793.
    **{_wire(f"{name}.in-addr.arpa"): Kind.EMPTY for name in _REVERSE4},
    **{_wire(f"{number}.172.in-addr.arpa"): Kind.EMPTY for number in range(16, 32)},
    **{_wire(f"{number}.100.in-addr.arpa"): Kind.EMPTY for number in range(64, 128)},
    **{_wire(f"{name}.ip6.arpa"): Kind.EMPTY for name in _REVERSE6},
}
"""Every special name and what is answered at it."""
LOOPBACK_NAMES = (_wire("1.0.0.127.in-addr.arpa"), _wire(".".join("1" + "0" * 31) + ".ip6.arpa"))
"""Reverse names of 127.0.0.1 and ::1."""
_NON_TERMINALS = (_wire("0.127.in-addr.arpa"), _wire("0.0.127.in-addr.arpa"))
"""They exist because 1.0.0.127 is below them (RFC 8020)."""
_LOOPBACK = {A: bytes((127, 0, 0, 1)), AAAA: bytes(15) + b"\x01"}


def zone_of(key: bytes, overridden: Mapping[bytes, bool]) -> bytes | None:
    """Find the special name that a name is or lies below; None if there is none or it is switched off."""
    at = 0
    while key[at]:
        name = key[at:]
        if name in ZONES:
            return name if overridden.get(name, True) else None
        at += key[at] + 1
    return None


def answer(key: bytes, qtype: int, zone: bytes) -> Answer:
    """Answer a question at or below a special name."""
    kind = ZONES[zone]
    is_apex = key == zone
    if kind is Kind.LOOPBACK and qtype in {A, AAAA, ANY}:
        shown = A if qtype == ANY else qtype
        return _found(record(shown, TTL_S, _LOOPBACK[shown]))
    if key in LOOPBACK_NAMES and qtype in {PTR, ANY}:
        return _found(record(PTR, TTL_S, _LOCALHOST))
    if is_apex and kind is not Kind.NOTHING and qtype in {SOA, ANY}:
        return _found(_soa(12))
    if is_apex and kind is Kind.EMPTY and qtype == NS:
        return _found(record(NS, TTL_S, pointer(12)))
    exists = kind in {Kind.LOOPBACK, Kind.NODATA} or key in LOOPBACK_NAMES + _NON_TERMINALS
    is_empty = exists or (is_apex and kind is Kind.EMPTY)
    soa = _soa(12 + len(key) - len(zone))
    return Answer(NOERROR if is_empty else NXDOMAIN, authoritative=True, authority=(Group(1, soa),))


def _found(body: bytes) -> Answer:
    return Answer(NOERROR, authoritative=True, answer=(Group(1, body),))


def _soa(zone_at: int) -> bytes:
    numbers = struct.pack(">IIIII", _SERIAL, _REFRESH_S, _RETRY_S, _EXPIRE_S, TTL_S)
    return record(SOA, TTL_S, pointer(zone_at) + _NOBODY + numbers, pointer(zone_at))
