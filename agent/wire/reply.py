"""Replies: an answer put together behind its question, within the size the client takes.

Law: RRsets are sent whole or not at all. Leaving out answer or authority sets TC and leaves out what comes behind;
leaving out additional data, which is optional, does not (RFC 2181 section 9). Question and id are echoed byte for
byte; of the query's flags only RD is copied (RFC 1035 section 4.1.1), CD is cleared as by every server that
validates nothing (RFC 4035 section 3.1.6) unless the answer comes from upstream, where it was asked for.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from agent.wire.codes import AA, OPCODE_BITS, QR, RD, TC
from agent.wire.message import Query

MAX_TCP_BYTES = 0xFFFF

_COUNTS = struct.Struct(">HHHH")


class Group(NamedTuple):
    """Records that stay together: whole RRsets, ready for their place in the message."""

    records: int
    body: bytes


class Answer(NamedTuple):
    """What a question is answered with.

    Attributes:
        rcode: up to 12 bits; the upper eight go into the OPT.
        authoritative: AA.
        answer, authority, additional: the sections; additional without OPT.
        error: extended DNS error for a client that has EDNS: info code and text.
        flags: what the second octet of flags has beside the rcode.
        overridden: a person's override had a part in it.
        lasting: the same question gets the same octets for as long as table and posture stay what they are.
    """

    rcode: int
    authoritative: bool = False
    answer: tuple[Group, ...] = ()
    authority: tuple[Group, ...] = ()
    additional: tuple[Group, ...] = ()
    error: tuple[int, str] | None = None
    lasting: bool = True
    flags: int = 0
    overridden: bool = False


def assemble(query: Query, answer: Answer, opt: bytes, limit_bytes: int) -> bytes:
    """Lay out the reply to a query that has been read.

    Args:
        query: the query; its question is echoed if it has one.
        answer: what to say.
        opt: our OPT record, empty without one.
        limit_bytes: bound of the reply; whatever it is, header, question and OPT are sent.
    """
    packet, end = query.packet, query.end
    room = limit_bytes - end - len(opt)
    bodies: list[bytes] = []
    counts = [0, 0, 0]
    is_cut = False
    for section, groups in enumerate((answer.answer, answer.authority, answer.additional)):
        for group in groups:
            if is_cut:
                break
            if len(group.body) > room:
                is_cut = section < 2
                continue
            room -= len(group.body)
            bodies.append(group.body)
            counts[section] += group.records
    flags = QR | (packet[2] & RD) | (AA if answer.authoritative else 0) | (TC if is_cut else 0)
    return b"%b%c%c%b%b%b%b" % (
        packet[:2],
        flags,
        answer.rcode & 0xF | answer.flags,
        _COUNTS.pack(1 if end > 12 else 0, counts[0], counts[1], counts[2] + (1 if opt else 0)),
        packet[12:end],
        b"".join(bodies),
        opt,
    )


def is_truncated(reply: bytes) -> bool:
    """Tell whether a reply has TC."""
    return bool(reply[2] & TC)


def header_only(packet: bytes, rcode: int) -> bytes:
    """Lay out a reply that echoes id and opcode and nothing else."""
    return b"%b%c%c%b" % (packet[:2], QR | (packet[2] & OPCODE_BITS), rcode, bytes(8))
