"""RRsets as wire bytes that stand behind a question.

Law: an owner name is a pointer into the question, a target is written out (RFC 2782 forbids compressing SRV
targets, and a pointer elsewhere would tie an answer to its neighbours). Sizes are bounded by
`node.MAX_ANSWER_BYTES`: records beyond it are left out and the RRset is flagged `CUT`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from agent.wire.node import CUT, MAX_ANSWER_BYTES, ROTATE, RRset

A = 1
NS = 2
CNAME = 5
SOA = 6
PTR = 12
TXT = 16
AAAA = 28
SRV = 33
CONTRIBUTED_PTR = 65281
"""Private type: every PTR target known at a reverse name, where some of them are not answered."""

QUESTION_AT = 12
"""Offset of the question name in a message (RFC 1035 section 4.1.1)."""
_POINTER = 0xC000
_FIXED = struct.Struct(">HHIH")
_SRV = struct.Struct(">HHH")
_TO_QUESTION = b"\xc0\x0c"
_OF_SIZE = {4: A, 16: AAAA}


def record(rtype: int, ttl_s: int, rdata: bytes, owner: bytes = _TO_QUESTION) -> bytes:
    """Lay out one record of class IN; the owner is a pointer to the question name unless given."""
    return owner + _FIXED.pack(rtype, 1, ttl_s, len(rdata)) + rdata


def pointer(offset: int) -> bytes:
    """Write a compression pointer (RFC 1035 section 4.1.4)."""
    return (_POINTER | offset).to_bytes(2, "big")


def address_rrsets(addresses: Iterable[bytes], ttl_s: int) -> list[RRset]:
    """Make the A and AAAA RRsets of packed addresses, duplicates once, in the order given."""
    out = []
    distinct = list(dict.fromkeys(addresses))
    if len(distinct) == 1:
        return [single(_OF_SIZE[len(distinct[0])], ttl_s, distinct[0])]
    for size, rtype in _OF_SIZE.items():
        of_size = [address for address in distinct if len(address) == size]
        if of_size:
            fixed = b"%b%b" % (_TO_QUESTION, _FIXED.pack(rtype, 1, ttl_s, size))
            fitting = of_size[: MAX_ANSWER_BYTES // (len(fixed) + size)]
            flags = (ROTATE if len(fitting) > 1 else 0) | (CUT if len(fitting) < len(of_size) else 0)
            out.append(RRset(rtype, flags, len(fitting), 0, fixed + fixed.join(fitting), b""))
    return out


def single(rtype: int, ttl_s: int, rdata: bytes) -> RRset:
    """Make an RRset of one record."""
    return RRset(rtype, 0, 1, 0, record(rtype, ttl_s, rdata), b"")


def ptr(targets: Sequence[bytes], ttl_s: int, rtype: int = PTR) -> RRset:
    """Make a PTR RRset of wire names."""
    parts, is_cut = _fitting((record(rtype, ttl_s, target) for target in targets), MAX_ANSWER_BYTES)
    return RRset(rtype, CUT * is_cut, len(parts), 0, b"".join(parts), b"")


def _fitting(parts: Iterable[bytes], bound_bytes: int) -> tuple[list[bytes], bool]:
    """Take parts while they fit; tell whether any was left out."""
    taken: list[bytes] = []
    total = 0
    for part in parts:
        total += len(part)
        if total > bound_bytes:
            return taken, True
        taken.append(part)
    return taken, False


def rdatas(rrset: RRset) -> list[bytes]:
    """Read the rdata of every record back out of an answer made here."""
    out, at, answer = [], 0, rrset.answer
    for _ in range(rrset.ancount):
        length = int.from_bytes(answer[at + 10 : at + 12], "big")
        out.append(answer[at + 12 : at + 12 + length])
        at += 12 + length
    return out


def srv(
    targets: Iterable[tuple[bytes, int]],
    weight: int,
    ttl_s: int,
    base: bytes,
    addresses: Iterable[tuple[bytes, bytes]],
    base_at: int,
) -> RRset:
    """Make an SRV RRset (RFC 2782) with the targets' addresses as additional data.

    Args:
        targets: (label in wire form or empty, port); the target is that label below `base`.
        weight: of every record; priority is 0.
        ttl_s: TTL, seconds.
        base: wire name of the Service.
        addresses: (label, packed address) of the additional section.
        base_at: offset in the message where `base` stands inside the question.
    """
    records = (record(SRV, ttl_s, _SRV.pack(0, weight, port) + label + base) for label, port in targets)
    answer, is_cut = _fitting(records, MAX_ANSWER_BYTES)
    below = pointer(base_at)
    extra = (record(_OF_SIZE[len(address)], ttl_s, address, label + below) for label, address in addresses)
    additional, _ = _fitting(extra, MAX_ANSWER_BYTES - sum(map(len, answer)))
    return RRset(SRV, CUT * is_cut, len(answer), len(additional), b"".join(answer), b"".join(additional))


def txt(text: str, ttl_s: int) -> RRset:
    """Make a TXT RRset of one string of at most 255 octets."""
    raw = text.encode("ascii")
    return single(TXT, ttl_s, bytes((len(raw),)) + raw)
