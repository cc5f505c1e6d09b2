"""What an upstream said: from the octets of a reply to the records that may be kept.

Law: pure, and nothing is read past the packet. Kept is what lies on the CNAME chain from the question's name, the SOA
of a negative answer, and the DNSSEC records of both if they were asked for; all else is passed over, whatever
section it stands in. A chain ends where it leads into an own zone: what is said of names there is ours to say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from agent.errors import WireError
from agent.forward.question import Question
from agent.wire import codes
from agent.wire.codes import ANY, CNAME, IN, NOERROR, NS, NSEC, NSEC3, NXDOMAIN, OPT, RRSIG, SOA
from agent.wire.message import HEADER_BYTES, read_name

MAX_RECORDS = 512
"""Records read of one message; one with more can't be read."""
MAX_CHAIN = 12
"""CNAME records followed."""
MAX_TTL_S = 0x7FFFFFFF
"""A TTL above counts as 0 (RFC 2181 section 8)."""
MAX_ERROR_TEXT = 120

_COUNTS = struct.Struct(">HHHH")
_FIXED = struct.Struct(">HHIH")
_NAMES = {
    **dict.fromkeys((2, 3, 4, 5, 7, 8, 9, 12, 39), (0, 1)),
    **dict.fromkeys((6, 14, 17), (0, 2)),
    **dict.fromkeys((15, 18, 21, 36), (2, 1)),
    26: (2, 2),
    33: (6, 1),
}
"""Type → octets in front of the names in its rdata, and how many names: where a name may be compressed (RFC 3597
section 4). NAPTR is looked at by itself."""
_NAPTR = 35
_DENIALS = frozenset((NSEC, NSEC3))


class RRset(NamedTuple):
    """Records of one owner and type, names written out.

    Attributes:
        owner: lower-cased wire form.
        type: RR type; for RRSIG: RRSIG.
        ttl_s: least of its records.
        rdatas: in the order of the message, each once.
    """

    owner: bytes
    type: int
    ttl_s: int
    rdatas: tuple[bytes, ...]


class Reply(NamedTuple):
    """What of a reply may be kept.

    Attributes:
        rcode: NOERROR, NXDOMAIN or what else it said.
        answer: the chain and what stands at its end.
        authority: SOA of a negative answer (and DNSSEC records).
        end: name at the end of the chain.
        is_complete: nothing is missing at the end of the chain: data, or an SOA saying that there is none.
        is_cut: the chain leads into an own zone, and what was said of the name there was passed over.
        ad: the upstream says that it has validated this.
        error: extended error it sent, or what is wrong with the reply for us; None: nothing.
    """

    rcode: int
    answer: tuple[RRset, ...]
    authority: tuple[RRset, ...]
    end: bytes
    is_complete: bool
    is_cut: bool
    ad: bool
    error: tuple[int, str] | None

    @property
    def is_usable(self) -> bool:
        """It says something of the name, as opposed to: ask somebody else."""
        return self.rcode in {NOERROR, NXDOMAIN} and (self.error is None or self.is_complete)


class _Record(NamedTuple):
    owner: bytes
    type: int
    rclass: int
    ttl_s: int
    rdata: bytes


def matches(packet: bytes, question: Question, ident: int) -> bool:
    """Tell whether a packet is a reply to this very query: QR, id, one question, its name, type and class."""
    end = HEADER_BYTES + len(question.name) + 4
    return (
        len(packet) >= HEADER_BYTES
        and packet[0] << 8 | packet[1] == ident
        and packet[2] & (codes.QR | codes.OPCODE_BITS) == codes.QR
        and packet[4:6] == b"\x00\x01"
        # Length octets are below 65, so lower-casing leaves them alone.
        and packet[HEADER_BYTES : end - 4].lower() == question.name
        and packet[end - 4 : end] == question.on_wire[-4:]
    )


def is_truncated(packet: bytes) -> bool:
    """Tell whether a reply has TC."""
    return bool(packet[2] & codes.TC)


def read(packet: bytes, question: Question, is_own: Callable[[bytes], bool]) -> Reply:
    """Read a reply that `matches`.

    Args:
        packet: whole message.
        question: what was asked.
        is_own: tells whether a name lies in an own zone.

    Raises:
        WireError: it can't be read.
    """
    try:
        sections, opt = _sections(packet, HEADER_BYTES + len(question.on_wire))
    except (struct.error, IndexError) as fault:
        raise WireError(f"a reply from upstream can't be read: {fault}") from None
    rcode = packet[3] & 0xF | (opt.ttl_s >> 24 << 4 if opt is not None else 0)
    error = _extended_error(opt.rdata) if opt is not None else None
    ad = bool(packet[3] & codes.AD)
    answer, end, is_found = _chain(sections[0], question, is_own)
    if rcode not in {NOERROR, NXDOMAIN}:
        return Reply(rcode, (), (), question.name, is_complete=False, is_cut=False, ad=False, error=error)
    is_cut = bool(answer) and not is_found and is_own(end)
    authority = () if is_cut else _authority(sections[1], question, end, is_negative=not is_found)
    is_complete = is_found or is_cut or any(rrset.type == SOA for rrset in authority)
    if not is_complete and not answer and rcode == NOERROR and any(each.type == NS for each in sections[1]):
        error = (codes.EDE_OTHER, "a referral: the upstream does not resolve for us")
    if is_cut:
        rcode = NOERROR  # Whatever was said of the name at the end: it is ours.
    return Reply(rcode, answer, authority, end, is_complete, is_cut, ad, error)


def joined(first: Reply, rest: Reply) -> Reply:
    """Give a reply whose chain led on to a name that was asked for by itself.

    Raises:
        WireError: the chain is a loop or too long.
    """
    owners = [rrset.owner for rrset in first.answer + rest.answer if rrset.type == CNAME]
    if len(owners) > MAX_CHAIN or len(owners) != len(set(owners)):
        raise WireError(f"replies from upstream make a CNAME loop, or more than {MAX_CHAIN} of them")
    return rest._replace(answer=first.answer + rest.answer, ad=first.ad and rest.ad)


def _sections(packet: bytes, at: int) -> tuple[tuple[list[_Record], list[_Record]], _Record | None]:
    """Read answer and authority, and look for an OPT behind them."""
    _, ancount, nscount, arcount = _COUNTS.unpack_from(packet, 4)
    if ancount + nscount + arcount > MAX_RECORDS:
        raise WireError(f"a reply from upstream has more than {MAX_RECORDS} records")
    sections: tuple[list[_Record], list[_Record]] = ([], [])
    opt: _Record | None = None
    for number in range(ancount + nscount + arcount):
        record, at = _record(packet, at)
        if record.type == OPT:
            opt = record if record.owner == b"\x00" and number >= ancount + nscount else opt
        elif number < ancount:
            sections[0].append(record)
        elif number < ancount + nscount:
            sections[1].append(record)
    return sections, opt


def _record(packet: bytes, at: int) -> tuple[_Record, int]:
    owner, at = read_name(packet, at)
    rtype, rclass, ttl_s, length = _FIXED.unpack_from(packet, at)
    at += _FIXED.size
    end = at + length
    if end > len(packet):
        raise WireError("a record runs over the end of its message")
    if rtype in _NAMES or rtype == _NAPTR:
        rdata = _with_names(packet, at, end, rtype)
    else:
        rdata = packet[at:end]
    if rtype != OPT and ttl_s > MAX_TTL_S:
        ttl_s = 0
    return _Record(owner.lower(), rtype, rclass, ttl_s, rdata), end


def _with_names(packet: bytes, at: int, end: int, rtype: int) -> bytes:
    """Give rdata with its names written out."""
    if rtype == _NAPTR:
        head = at + 4
        for _ in range(3):
            head += packet[head] + 1
        fixed, count = head - at, 1
    else:
        fixed, count = _NAMES[rtype]
    parts, here = [packet[at : at + fixed]], at + fixed
    for _ in range(count):
        name, here = read_name(packet, here)
        parts.append(name)
    if here > end:
        raise WireError("a name runs over the end of its record")
    parts.append(packet[here:end])
    return b"".join(parts)


def _chain(
    records: list[_Record], question: Question, is_own: Callable[[bytes], bool]
) -> tuple[tuple[RRset, ...], bytes, bool]:
    """Follow the CNAME chain; gives its records, the name at its end and whether there is data there.

    Raises:
        WireError: the chain is a loop or too long.
    """
    by_name: dict[bytes, dict[int, list[_Record]]] = {}
    for record in records:
        if record.rclass == IN:
            by_name.setdefault(record.owner, {}).setdefault(record.type, []).append(record)
    name, out = question.name, []
    for _ in range(MAX_CHAIN + 1):
        held = by_name.get(name, {})
        wanted = [kind for kind in held if kind == question.qtype or (question.qtype == ANY and kind != RRSIG)]
        for kind in wanted:
            out += _signed(held, kind, do=question.do)
        if wanted:
            return tuple(out), name, True
        alias = held.get(CNAME)
        if alias is None:
            return tuple(out), name, False
        out += _signed({**held, CNAME: alias[:1]}, CNAME, do=question.do)
        name = alias[0].rdata.lower()
        if is_own(name):
            return tuple(out), name, False
    raise WireError(f"a reply from upstream has a CNAME loop, or more than {MAX_CHAIN} of them")


def _signed(held: dict[int, list[_Record]], kind: int, *, do: bool) -> list[RRset]:
    """Give an RRset, and its signatures if DNSSEC was asked for."""
    out = [_rrset(held[kind])]
    if do and kind != RRSIG and (signatures := _covering(held.get(RRSIG, ()), kind)):
        out.append(_rrset(signatures))
    return out


def _covering(signatures: list[_Record] | tuple[()], kind: int) -> list[_Record]:
    return [each for each in signatures if each.rdata[:2] == kind.to_bytes(2, "big")]


def _rrset(records: list[_Record]) -> RRset:
    first = records[0]
    rdatas = tuple(dict.fromkeys(record.rdata for record in records))
    return RRset(first.owner, first.type, min(record.ttl_s for record in records), rdatas)


def _authority(records: list[_Record], question: Question, end: bytes, *, is_negative: bool) -> tuple[RRset, ...]:
    """Choose what says that there is nothing: the SOA of a zone that the name lies in, and proofs if asked for."""
    out: list[RRset] = []
    soas = [each for each in records if each.type == SOA and each.rclass == IN and lies_in(end, each.owner)]
    if is_negative and soas:
        out.append(_rrset([min(soas, key=lambda each: -len(each.owner))]))
    if not question.do:
        return tuple(out)
    groups: dict[tuple[bytes, int], list[_Record]] = {}
    for record in records:
        covered = int.from_bytes(record.rdata[:2], "big") if record.type == RRSIG else record.type
        if record.rclass == IN and (covered in _DENIALS or (covered == SOA and is_negative and record.type == RRSIG)):
            groups.setdefault((record.owner, covered << 16 | record.type), []).append(record)
    return (*out, *map(_rrset, groups.values()))


def lies_in(name: bytes, zone: bytes) -> bool:
    """Tell whether a name is a zone's apex or lies below it."""
    if not name.endswith(zone):
        return False
    at, apex = 0, len(name) - len(zone)
    while at < apex:
        at += name[at] + 1
    return at == apex


def _extended_error(rdata: bytes) -> tuple[int, str] | None:
    """Read the first extended error of an OPT (RFC 8914); its text cut and made printable."""
    at = 0
    while at + 4 <= len(rdata):
        code, length = struct.unpack_from(">HH", rdata, at)
        value = rdata[at + 4 : at + 4 + length]
        if code == codes.EDE and len(value) >= 2:
            text = value[2 : 2 + MAX_ERROR_TEXT].decode("ascii", "replace")
            return value[0] << 8 | value[1], "".join(char if " " <= char <= "~" else "?" for char in text)
        at += 4 + length
    return None
