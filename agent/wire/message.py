"""Queries: from the octets of a packet to a question, or to the reason why there is none.

Law: staged rejection in the order of RFC 1035, cheapest first; nothing is read past the packet, no loop runs longer
than a bound named here, and no packet raises. A `Query` with an rcode says what its sender is told and how much of
it may be echoed.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from agent.errors import WireError
from agent.wire import edns
from agent.wire.codes import BADVERS, FORMERR, NOERROR, NOTIMP, OPCODE_BITS, OPT, QR
from agent.wire.edns import Opt

HEADER_BYTES = 12
MAX_NAME_BYTES = 255
MAX_LABEL_BYTES = 63
MAX_POINTER_HOPS = 16
"""Compression pointers followed in one name."""
MAX_RECORDS = 64
"""Records (and questions) read in one message; a query has no use for more than a few."""

SHORT = "short"
RESPONSE = "response"

NO_QUESTION = "no_question"
MANY_QUESTIONS = "many_questions"
BAD_QUESTION = "bad_question"
BAD_RECORDS = "bad_records"
OPT_MISPLACED = "opt_misplaced"
OPT_OWNER = "opt_owner"
OPT_REPEATED = "opt_repeated"
OPT_VERSION = "opt_version"
OPCODE = "opcode"

_COUNTS = struct.Struct(">HHHH")
_RECORD = struct.Struct(">HHIH")


class Query(NamedTuple):
    """What could be read of a query.

    Attributes:
        packet: as it came.
        end: offset behind the question; 12 if none could be read.
        key: question name, lower-cased wire form; empty without a question.
        qtype: QTYPE, 0-65535.
        qclass: QCLASS, 0-65535.
        opt: its OPT, if one could be read.
        rcode: 0, or what is wrong: FORMERR, NOTIMP, BADVERS.
        fault: the same as a word, for a counter.
    """

    packet: bytes
    end: int
    key: bytes
    qtype: int
    qclass: int
    opt: Opt | None
    rcode: int
    fault: str


def drop_reason(packet: bytes) -> str:
    """Say why a packet gets no reply at all; empty if it gets one."""
    if len(packet) < HEADER_BYTES:
        return SHORT
    return RESPONSE if packet[2] & QR else ""


def read_query(packet: bytes) -> Query:
    """Read a query of at least 12 octets.

    Never raises: see `Query.rcode`.
    """
    if packet[2] & OPCODE_BITS:
        return Query(packet, HEADER_BYTES, b"", 0, 0, None, NOTIMP, OPCODE)
    questions, answers, authorities, additionals = _COUNTS.unpack_from(packet, 4)
    if questions != 1:
        fault = MANY_QUESTIONS if questions else NO_QUESTION
        opt = _opt_behind_questions(packet)
        return Query(packet, HEADER_BYTES, b"", 0, 0, opt, FORMERR, fault)
    end = _question_end(packet)
    if not end:
        return Query(packet, HEADER_BYTES, b"", 0, 0, None, FORMERR, BAD_QUESTION)
    key = packet[HEADER_BYTES : end - 4].lower()
    qtype, qclass = packet[end - 4] << 8 | packet[end - 3], packet[end - 2] << 8 | packet[end - 1]
    opt, fault = None, ""
    if answers or authorities or additionals:
        opt, fault = _read_opt(packet, end, answers + authorities, additionals)
        if not fault and opt is not None and opt.version:
            return Query(packet, end, key, qtype, qclass, opt, BADVERS, OPT_VERSION)
    return Query(packet, end, key, qtype, qclass, opt, FORMERR if fault else NOERROR, fault)


def _question_end(packet: bytes) -> int:
    """Find the end of the question, 0 if it can't be read.

    A pointer is an error here: nothing stands before the first name that it could point at but the header, which a
    reply changes.
    """
    at, size = HEADER_BYTES, len(packet)
    limit = min(size, HEADER_BYTES + MAX_NAME_BYTES)
    while at < limit:
        length = packet[at]
        if length > MAX_LABEL_BYTES:
            return 0
        at += length + 1
        if not length:
            return at + 4 if at + 4 <= size else 0
    return 0


def _opt_behind_questions(packet: bytes) -> Opt | None:
    """Look for an OPT in a message whose number of questions is wrong, to answer with one (RFC 6891 section 6.1.1)."""
    questions, answers, authorities, additionals = _COUNTS.unpack_from(packet, 4)
    if questions > MAX_RECORDS:
        return None
    at = HEADER_BYTES
    try:
        for _ in range(questions):
            _, at = read_name(packet, at)
            at += 4
    except WireError:
        return None
    return _read_opt(packet, at, answers + authorities, additionals)[0]


def _read_opt(packet: bytes, at: int, before: int, additionals: int) -> tuple[Opt | None, str]:
    """Walk the records behind the question for the one OPT.

    Args:
        packet: the message.
        at: offset of the first record.
        before: number of records in answer and authority section, where no OPT may stand.
        additionals: number of records in the additional section.

    Returns:
        The first OPT if there is one, and a word for what is wrong with the records (empty if nothing is).
    """
    opt: Opt | None = None
    if before + additionals > MAX_RECORDS:
        return None, BAD_RECORDS
    for number in range(before + additionals):
        try:
            owner, fixed = read_name(packet, at)
            rtype, rclass, ttl, length = _RECORD.unpack_from(packet, fixed)
        except (WireError, struct.error):
            return opt, BAD_RECORDS
        at = fixed + _RECORD.size + length
        if at > len(packet):
            return opt, BAD_RECORDS
        if rtype != OPT:
            continue
        if opt is not None:
            return opt, OPT_REPEATED
        opt, fault = edns.read(rclass, ttl, packet[at - length : at])
        if number < before:
            return opt, OPT_MISPLACED
        if owner != b"\x00":
            return opt, OPT_OWNER
        if fault:
            return opt, fault
    return opt, ""


def read_name(packet: bytes, at: int) -> tuple[bytes, int]:
    """Read a name that may be compressed (RFC 1035 section 4.1.4).

    Args:
        packet: a whole message.
        at: offset of the name.

    Returns:
        The name in uncompressed wire form, case kept, and the offset behind it where it stands.

    Raises:
        WireError: it runs over the end or 255 octets, a label type other than 00 and 11, a pointer that does not go
            strictly back (so none can loop) or goes into the header, or more than `MAX_POINTER_HOPS` of them.
    """
    parts: list[bytes] = []
    size, end, floor, hops = 1, 0, at, 0
    while at < len(packet):
        length = packet[at]
        if not length:
            return b"".join(parts) + b"\x00", end or at + 1
        if length <= MAX_LABEL_BYTES:
            size += length + 1
            if size > MAX_NAME_BYTES:
                raise WireError("a name is longer than 255 octets")
            parts.append(packet[at : at + length + 1])
            at += length + 1
            continue
        if length < 0xC0:
            raise WireError(f"label type 0x{length & 0xC0:02x} is not in use")
        if at + 1 == len(packet):
            break
        target = (length & 0x3F) << 8 | packet[at + 1]
        end = end or at + 2
        hops += 1
        if not HEADER_BYTES <= target < floor or hops > MAX_POINTER_HOPS:
            raise WireError("a compression pointer does not go back, or there are too many")
        at = floor = target
    raise WireError("a name runs over the end of its message")
