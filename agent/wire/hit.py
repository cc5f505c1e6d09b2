"""The hit path: the common query, answered with as few operations as Python allows.

Law: it answers only what it is sure of and says None to everything else, which the responder's slow path then reads
with care; where both answer, they send the same octets (a test compares them). It reads no clock.

Sure is: QR=0, QUERY, one question, at most one further record which is an OPT seen before, a common type, a name
found in the table (what is found is well formed, see `answer`) or a well-formed one that an own zone denies, no TTL
to be lowered, a reply that fits.

A bounded memo of exact queries (without their id) → replies stands in front. It is emptied whenever the table's
version or the posture changes, so it never has to be told which entry is out of date.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from functools import cache

from agent.wire import codes
from agent.wire.edns import MIN_UDP_BYTES
from agent.wire.message import HEADER_BYTES, MAX_LABEL_BYTES, MAX_NAME_BYTES
from agent.wire.node import CNAME_NODE, ENTRY_BYTES, HEAD_BYTES, ROTATE
from agent.wire.sections import soa
from agent.wire.table import AnswerTable, ZoneMeta

MAX_KEPT = 16_384
"""Replies in the memo; it starts anew when full. Of usual sizes they take 5 MB, of the greatest 13 MB."""
MAX_KEPT_QUERY_BYTES = 160
MAX_KEPT_REPLY_BYTES = 512
MAX_OPTS = 128
"""Different OPT records remembered; they start anew when full."""
MAX_OPT_BYTES = 40
MAX_SOAS = 1024
"""SOA records remembered, one for each zone and place in the message; they start anew when full."""

_COUNTED = 32
"""Sections of up to this many records less one have their header ready."""
_ENTRY = struct.Struct("<HHHHII").unpack_from
_COUNTS = struct.Struct(">HHHH")
_NO_OPT = (MIN_UDP_BYTES, b"")
_TYPES = {
    struct.pack(">HH", qtype, codes.IN): qtype
    for qtype in (codes.A, codes.AAAA, codes.SRV, codes.PTR, codes.TXT, codes.NS, codes.CNAME, codes.SVCB, codes.HTTPS)
}
"""QTYPE and QCLASS as they stand in a packet."""

Opts = dict[bytes, tuple[int, bytes]]
Plan = tuple[tuple[bytes, ...], dict[int, bytes], Opts]
"""For the octets 2-12 of a query: headers by ancount and arcount, headers of negative replies by rcode, OPT records
known."""


@cache
def _headers(rd: int, opt: int) -> tuple[tuple[bytes, ...], dict[int, bytes]]:
    first = bytes((codes.QR | codes.AA | rd,))
    numbers = range(_COUNTED)
    found = tuple(
        first + b"\x00" + _COUNTS.pack(1, ancount, 0, arcount + opt) for arcount in numbers for ancount in numbers
    )
    negative = {
        rcode: first + bytes((rcode,)) + _COUNTS.pack(1, 0, 1, opt) for rcode in (codes.NOERROR, codes.NXDOMAIN)
    }
    return found, negative


def _plans(opts: Opts) -> dict[bytes, Plan]:
    plans: dict[bytes, Plan] = {}
    for opt, known in ((0, {b"": _NO_OPT}), (1, opts)):
        for rd in (0, codes.RD):
            found, negative = _headers(rd, opt)
            # AD and CD may be set and are answered with neither (RFC 6840 section 5.7, RFC 4035 section 3.1.6).
            for second in (0, 0x10, 0x20, 0x30):
                plans[bytes((rd, second)) + _COUNTS.pack(1, 0, 0, opt)] = (found, negative, known)
    return plans


class HitPath:
    """Answers common queries from one table.

    Args:
        table: what is answered from; read anew for every query that is not in the memo.

    Attributes:
        answered: replies given, by rcode; whoever reads it may set it to zero in place.
        evicted: entries forgotten because their table was full: replies, opts, soas.
        turn: counts the answers whose order is free; whoever makes one takes the next number.
    """

    __slots__ = (
        "_cap",
        "_denies",
        "_kept",
        "_leaves",
        "_marks",
        "_opts",
        "_plans",
        "_serial",
        "_soa_ttl_s",
        "_soas",
        "_table",
        "_version",
        "answered",
        "evicted",
        "turn",
    )

    def __init__(self, table: AnswerTable) -> None:
        self._table = table
        self._version = -1
        self._kept: dict[bytes, bytes] = {}
        self._opts: Opts = {}
        self._plans: dict[bytes, Plan] = {}
        self._soas: dict[tuple[int, int], bytes] = {}
        self._serial = 0
        self._soa_ttl_s = 0
        self._cap: bytes | None = None
        self._denies: frozenset[int] = frozenset()
        self._marks = False
        self._leaves: Collection[bytes] = ()
        self.answered = [0] * 16
        self.evicted = {"replies": 0, "opts": 0, "soas": 0}
        self.turn = 0

    def close(self) -> None:
        """Answer nothing from now on: every query takes the slow path."""
        self.forget()
        self._opts.clear()
        self._soas.clear()
        self._plans = {}

    def open(
        self,
        *,
        serial: int,
        soa_ttl_s: int,
        cap_s: int | None,
        denies: frozenset[int],
        marks: bool,
        leaves: Collection[bytes] = (),
    ) -> None:
        """Answer under another posture from now on.

        Args:
            serial: of the own zones' SOA.
            soa_ttl_s: its TTL and MINIMUM.
            cap_s: an answer with a higher TTL is left to the slow path.
            denies: numbers of the zones in which a name that is not in the table does not exist.
            marks: our OPT records carry a mark that differs by rcode (stale answers).
            leaves: names that are left to the slow path.
        """
        self.close()
        self._serial, self._soa_ttl_s, self._denies, self._marks = serial, soa_ttl_s, denies, marks
        self._leaves = leaves
        self._cap = cap_s.to_bytes(4, "big") if cap_s is not None else None
        self._plans = _plans(self._opts)

    def forget(self) -> None:
        """Empty the memo."""
        self._kept.clear()
        self._version = self._table.version

    def keep(self, packet: bytes, reply: bytes) -> None:
        """Remember a reply that stays the same for as long as table and posture do, NOERROR or NXDOMAIN."""
        if len(packet) > MAX_KEPT_QUERY_BYTES or len(reply) > MAX_KEPT_REPLY_BYTES or not self._plans:
            return
        if self._version != self._table.version:
            self.forget()
        elif len(self._kept) >= MAX_KEPT:
            self.evicted["replies"] += len(self._kept)
            self._kept.clear()
        self._kept[packet[2:]] = reply[2:]

    def learn(self, opt: bytes, limit_bytes: int, reply_opt: bytes) -> None:
        """Remember what a query's OPT means: bound of the reply, and our OPT if the reply is NOERROR."""
        if len(opt) <= MAX_OPT_BYTES:
            if len(self._opts) >= MAX_OPTS:
                self.evicted["opts"] += len(self._opts)
                self._opts.clear()
            self._opts[opt] = (limit_bytes, reply_opt)

    def answer(self, packet: bytes) -> bytes | None:
        """Answer one query that came by UDP, None if that takes more care.

        The name is cut at the first zero octet and looked up as it is, but for case: length octets are below
        65, so lower-casing leaves them alone. Every key in the table is well formed, so a name that is found is.

        Raises:
            struct.error, IndexError: a node is damaged.
        """
        if self._version == self._table.version:
            reply = self._kept.get(packet[2:])
            if reply is not None:
                self.answered[reply[1] & 0xF] += 1
                return packet[:2] + reply
        plan = self._plans.get(packet[2:12])
        if plan is None:
            return None
        end = packet.find(0, 12) + 1
        tail = end + 4
        headers, negative, opts = plan
        opt = opts.get(packet[tail:])
        qtype = _TYPES.get(packet[end:tail])
        if opt is None or qtype is None:
            return None
        key = packet[12:end].lower()
        if self._leaves and key in self._leaves:
            return None
        node = self._table.find(key)
        if node is None:
            return self._denial(packet, key, negative, opt)
        at, body = HEAD_BYTES, HEAD_BYTES + node[1] * ENTRY_BYTES
        first = body
        while at < first:
            rtype, flags, ancount, arcount, size, more = _ENTRY(node, at)
            if rtype == qtype:
                break
            body += size + more
            at += ENTRY_BYTES
        else:
            # An alias is followed by the slow path.
            zone = self._table.zones[node[2] | node[3] << 8]
            return None if node[0] & CNAME_NODE else self._negative(packet, codes.NOERROR, zone, end, negative, opt)
        if ancount >= _COUNTED or arcount >= _COUNTED:
            return None
        # The records of an RRset have one TTL (RFC 2181 section 5.2), so its first one tells; additional ones differ.
        if self._cap is not None and (arcount or node[body + 6 : body + 10] > self._cap):
            return None
        stop = body + size
        limit_bytes, opt_record = opt
        if is_free := flags & ROTATE and ancount > 1:
            self.turn += 1
            cut = body + self.turn % ancount * (size // ancount)
            found = node[cut:stop] + node[body:cut] + node[stop : stop + more]
        else:
            found = node[body : stop + more]
        reply = b"".join((packet[:2], headers[arcount << 5 | ancount], packet[12:tail], found, opt_record))
        if len(reply) > limit_bytes:
            return None
        self.answered[0] += 1
        if not is_free:
            self.keep(packet, reply)
        return reply

    def _denial(self, packet: bytes, key: bytes, headers: dict[int, bytes], opt: tuple[int, bytes]) -> bytes | None:
        """Answer NXDOMAIN for a well-formed name inside a zone that denies names."""
        zone = self._table.zone_of(key)
        if zone is None or zone.number not in self._denies or (self._marks and opt[1]):
            return None
        # The zone was found at the boundary of a label, so what is left to check are lengths.
        at, apex = 0, len(key) - len(zone.name)
        while at < apex:
            length = key[at]
            if length > MAX_LABEL_BYTES:
                return None
            at += length + 1
        if len(key) > MAX_NAME_BYTES:
            return None
        return self._negative(packet, codes.NXDOMAIN, zone, HEADER_BYTES + len(key), headers, opt)

    def _negative(
        self, packet: bytes, rcode: int, zone: ZoneMeta, end: int, headers: dict[int, bytes], opt: tuple[int, bytes]
    ) -> bytes | None:
        """Answer that there is nothing, with the zone's SOA."""
        zone_at = end - len(zone.name)
        record = self._soas.get((zone.number, zone_at))
        if record is None:
            if len(self._soas) >= MAX_SOAS:
                self.evicted["soas"] += len(self._soas)
                self._soas.clear()
            record = soa(zone.name, self._serial, self._soa_ttl_s, zone_at)
            self._soas[zone.number, zone_at] = record
        reply = b"".join((packet[:2], headers[rcode], packet[12 : end + 4], record, opt[1]))
        if len(reply) > opt[0]:
            return None
        self.answered[rcode] += 1
        self.keep(packet, reply)
        return reply
