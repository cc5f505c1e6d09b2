"""One node: everything held at one owner name, as bytes ready for the wire.

Law: a node is immutable bytes, read alike from the snapshot file, from the overlay and by compiled code.
Layout, little endian:

    u8 flags | u8 n | u16 zone | u32 children
    n × (u16 type | u16 flags | u16 ancount | u16 arcount | u32 answer bytes | u32 additional bytes)
    n × (answer | additional)

An answer stands directly behind header and question (12 + len(name) + 4), so its owner names are pointers
into the question. `children` counts the names one label below, which makes empty non-terminals exist
(RFC 8020) for as long as something is below them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

EXPLICIT = 1
"""Node flag: the name exists even with no data and nothing below it."""
CNAME_NODE = 2
"""Node flag: the name is an alias."""
ROTATE = 1
"""RRset flag: the answer is `ancount` records of one size, in no order that matters."""
CUT = 2
"""RRset flag: records were left out, the whole would not fit `MAX_ANSWER_BYTES`."""
PRIVATE_TYPE = 65280
"""First type (RFC 6895 private use) that is bookkeeping and never answered."""
MAX_ANSWER_BYTES = 60_000
"""Bound of an RRset in bytes, so that it fits one message over TCP."""

_HEAD = struct.Struct("<BBHI")
_ENTRY = struct.Struct("<HHHHII")
_ONE = struct.Struct("<BBHIHHHHII")
HEAD_BYTES = _HEAD.size
ENTRY_BYTES = _ENTRY.size


class RRset(NamedTuple):
    """One type's answer at a node.

    Attributes:
        type: RR type, 0-65535.
        flags: `ROTATE`, `CUT`.
        ancount: records in `answer`.
        arcount: records in `additional`.
        answer: wire bytes of the answer section.
        additional: wire bytes of the additional section (optional data, without OPT).
    """

    type: int
    flags: int
    ancount: int
    arcount: int
    answer: bytes
    additional: bytes


def encode(*, flags: int = 0, zone: int = 0, children: int = 0, rrsets: tuple[RRset, ...] = ()) -> bytes:
    """Lay out a node."""
    if len(rrsets) == 1:
        # Nine names of ten hold one RRset.
        rtype, rrset_flags, ancount, arcount, answer, additional = rrsets[0]
        sizes = (len(answer), len(additional))
        return _ONE.pack(flags, 1, zone, children, rtype, rrset_flags, ancount, arcount, *sizes) + answer + additional
    parts = [_HEAD.pack(flags, len(rrsets), zone, children)]
    parts += [_ENTRY.pack(r.type, r.flags, r.ancount, r.arcount, len(r.answer), len(r.additional)) for r in rrsets]
    for r in rrsets:
        parts.append(r.answer)
        parts.append(r.additional)
    return b"".join(parts)


def head(node: bytes) -> tuple[int, int, int, int]:
    """Read flags, number of RRsets, zone index, number of children."""
    return _HEAD.unpack_from(node)


def with_children(node: bytes, children: int) -> bytes:
    """Give the node with another number of children."""
    flags, n, zone, _ = _HEAD.unpack_from(node)
    return _HEAD.pack(flags, n, zone, children) + node[HEAD_BYTES:]


def rrset(node: bytes, qtype: int) -> RRset | None:
    """Find the RRset of one type.

    Raises:
        struct.error: the bytes are not a node.
    """
    n = node[1]
    body = HEAD_BYTES + n * ENTRY_BYTES
    for at in range(HEAD_BYTES, body, ENTRY_BYTES):
        rtype, flags, ancount, arcount, answer, additional = _ENTRY.unpack_from(node, at)
        if rtype == qtype:
            middle = body + answer
            return RRset(rtype, flags, ancount, arcount, node[body:middle], node[middle : middle + additional])
        body += answer + additional
    return None


def rrsets(node: bytes) -> tuple[RRset, ...]:
    """Read every RRset of a node."""
    n = node[1]
    body = HEAD_BYTES + n * ENTRY_BYTES
    out = []
    for at in range(HEAD_BYTES, body, ENTRY_BYTES):
        rtype, flags, ancount, arcount, answer, additional = _ENTRY.unpack_from(node, at)
        middle = body + answer
        out.append(RRset(rtype, flags, ancount, arcount, node[body:middle], node[middle : middle + additional]))
        body = middle + additional
    return tuple(out)


def is_sound(node: bytes) -> bool:
    """Check that every length inside a node adds up to the node itself."""
    if len(node) < HEAD_BYTES:
        return False
    body = HEAD_BYTES + node[1] * ENTRY_BYTES
    if len(node) < body:
        return False
    total = body
    for at in range(HEAD_BYTES, body, ENTRY_BYTES):
        _, flags, ancount, _, answer, additional = _ENTRY.unpack_from(node, at)
        if flags & ROTATE and (not ancount or answer % ancount):
            return False
        total += answer + additional
    return total == len(node)
