"""One answer from upstream as it is kept: records ready to stand behind their question, and how long they are good.

Law: pure, `now_s` comes from the caller (a monotonic clock). All records of an answer count down together from the
lowest of their TTLs, so that an answer expires as a whole. What is held is laid out as a node's RRsets are: an owner
that was named before is a pointer, so a group may be cut off behind any other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from agent.forward.question import Question
from agent.forward.reply import Reply, RRset
from agent.wire.codes import CNAME, IN, NOERROR, NXDOMAIN, SOA
from agent.wire.message import HEADER_BYTES
from agent.wire.reply import Group
from agent.wire.sections import pointer, skip_name

POSITIVE = "positive"
NEGATIVE = "negative"
KINDS = (POSITIVE, NEGATIVE)
STALE_TTL_S = 30
"""RFC 8767 section 4."""
_OVERHEAD_BYTES = 700
"""About what Python takes for an entry besides its octets."""
_GROUP_BYTES = 120
_FIXED = struct.Struct(">HHIH")
_MAX_POINTER = 0x3FFF


class Caps(NamedTuple):
    """Highest TTLs, seconds."""

    positive_s: int = 3600
    negative_s: int = 1800


class Laid(NamedTuple):
    """Sections behind a question; the last CNAME's target stands at `end_at` (12: there is none)."""

    answer: tuple[Group, ...]
    authority: tuple[Group, ...]
    end_at: int


class Entry:
    """An answer that is held.

    Attributes:
        rcode: NOERROR or NXDOMAIN.
        kind: POSITIVE: it has data at the end of its chain, or the chain leads into an own zone; NEGATIVE: it says
            that there is none.
        ad: the upstream says that it has validated this.
        ttl_s: as it came, lowest of all and capped.
        answer, authority: groups behind the question.
        end: name at the end of the chain if that is for us to answer (it lies in an own zone); empty: it isn't.
        end_at: offset where that name stands.
        stored_s, expires_s: on the monotonic clock.
        bytes: about what it takes.
        retry_s: before this it is not asked for again, once that has failed.
        failures: refreshes that failed one after the other.
        epoch: of the upstreams when it last failed: once one is found again there is no more waiting.
        older: the positive that this negative came after, while it may be used yet.
    """

    __slots__ = (
        "_shown",
        "_shown_s",
        "_size_bytes",
        "ad",
        "answer",
        "authority",
        "end",
        "end_at",
        "epoch",
        "expires_s",
        "failures",
        "kind",
        "older",
        "rcode",
        "retry_s",
        "stored_s",
        "ttl_s",
    )

    def __init__(self, rcode: int, laid: Laid, end: bytes, ttl_s: int, *, is_positive: bool, ad: bool) -> None:
        self.rcode = rcode
        self.kind = POSITIVE if is_positive else NEGATIVE
        self.ad = ad
        self.ttl_s = ttl_s
        self.answer, self.authority, self.end_at = laid
        self.end = end
        self.stored_s = self.expires_s = 0.0
        self.failures = self.epoch = 0
        self.retry_s = 0.0
        self.older: Entry | None = None
        self._shown: tuple[tuple[Group, ...], tuple[Group, ...]] = (self.answer, self.authority)
        self._shown_s = ttl_s
        groups = self.answer + self.authority
        # The octets, and once more as they are shown.
        self._size_bytes = _OVERHEAD_BYTES + sum(2 * len(group.body) + _GROUP_BYTES for group in groups)

    @property
    def bytes(self) -> int:
        """About what it takes, with what it came after."""
        return self._size_bytes + (self.older.bytes if self.older is not None else 0)

    def start(self, now_s: float) -> None:
        """Begin to count down."""
        self.stored_s, self.expires_s = now_s, now_s + self.ttl_s

    def shown(self, ttl_s: int) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """Give answer and authority with this TTL; made once for each second that somebody asks in."""
        if ttl_s != self._shown_s:
            raw = ttl_s.to_bytes(4, "big")
            self._shown = (_with_ttl(self.answer, raw), _with_ttl(self.authority, raw))
            self._shown_s = ttl_s
        return self._shown


def entry_of(question: Question, reply: Reply, caps: Caps) -> Entry:
    """Make an entry of a usable reply."""
    rrsets = reply.answer + reply.authority
    soas = [each for each in reply.authority if each.type == SOA]
    is_positive = reply.is_cut or (reply.rcode == NOERROR and reply.is_complete and not soas)
    ttls = [rrset.ttl_s for rrset in rrsets]
    if soas:
        ttls.append(int.from_bytes(soas[0].rdatas[0][-4:], "big"))  # MINIMUM (RFC 2308 section 5)
    cap_s = caps.positive_s if is_positive else caps.negative_s
    # Nothing that says how long it is good is good for this once alone.
    ttl_s = min(*ttls, cap_s) if ttls and reply.is_complete else 0
    laid = lay(question, reply.answer, reply.authority, ttl_s)
    end = reply.end if reply.is_cut else b""
    return Entry(reply.rcode, laid, end, ttl_s, is_positive=is_positive, ad=reply.ad)


def lay(question: Question, answer: Iterable[RRset], authority: Iterable[RRset], ttl_s: int) -> Laid:
    """Lay records out behind a question, all with one TTL."""
    writer = _Writer(question, ttl_s)
    return Laid(tuple(map(writer.group, answer)), tuple(map(writer.group, authority)), writer.end_at)


class _Writer:
    """Lays out one group after the other and knows where names stand."""

    def __init__(self, question: Question, ttl_s: int) -> None:
        self._at = HEADER_BYTES + len(question.on_wire)
        self._ttl_s = ttl_s
        self._places = {question.name: HEADER_BYTES}
        self.end_at = HEADER_BYTES

    def group(self, rrset: RRset) -> Group:
        parts = []
        for rdata in rrset.rdatas:
            place = self._places.get(rrset.owner)
            if place is None:
                owner = rrset.owner
                if self._at <= _MAX_POINTER:
                    self._places[owner] = self._at
            else:
                owner = pointer(place)
            head = owner + _FIXED.pack(rrset.type, IN, self._ttl_s, len(rdata))
            if rrset.type == CNAME:
                target_at = self._at + len(head)
                self.end_at = target_at
                if target_at <= _MAX_POINTER:
                    self._places.setdefault(rdata.lower(), target_at)
            self._at += len(head) + len(rdata)
            parts.append(head + rdata)
        return Group(len(parts), b"".join(parts))


def _with_ttl(groups: tuple[Group, ...], raw: bytes) -> tuple[Group, ...]:
    out = []
    for count, body in groups:
        new = bytearray(body)
        at = 0
        for _ in range(count):
            at = skip_name(body, at)
            new[at + 4 : at + 8] = raw
            at += _FIXED.size + (body[at + 8] << 8 | body[at + 9])
        out.append(Group(count, bytes(new)))
    return tuple(out)


def is_laid_out(rcode: int, groups: Iterable[Group]) -> bool:
    """Check that groups read from disk are what `lay` makes, as far as lengths go."""
    if rcode not in {NOERROR, NXDOMAIN}:
        return False
    try:
        for count, body in groups:
            at = 0
            for _ in range(count):
                at = skip_name(body, at)
                at += _FIXED.size + _FIXED.unpack_from(body, at)[3]
            if at != len(body):
                return False
    except (IndexError, struct.error):
        return False
    return True
