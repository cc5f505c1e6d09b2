"""Own zones, and overrides in front of them: what is said of a name under the posture of the moment (dns.md section 2).

Law: an override goes before everything, in every state. A name is denied only by a state that was in sync once;
without one the answer is SERVFAIL. What the table holds is answered in every state but `expired`, and marked when it is
stale.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from agent.errors import WireError
from agent.server.options import ResponderOptions
from agent.server.overriding import NO_ZONE, Overridden, Overrides
from agent.wire import node as nodes
from agent.wire.codes import (
    AAAA,
    ANY,
    CNAME,
    EDE_NO_REACHABLE_AUTHORITY,
    EDE_NOT_READY,
    EDE_OTHER,
    EDE_STALE,
    EDE_STALE_NXDOMAIN,
    HINFO,
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    SOA,
    A,
)
from agent.wire.node import CNAME_NODE, PRIVATE_TYPE, RRset
from agent.wire.posture import EXPIRED, NOT_READY, STALE, Posture
from agent.wire.reply import Answer, Group
from agent.wire.sections import (
    MAX_SOA_TTL_S,
    hinfo,
    lower_ttls,
    moved,
    record,
    records,
    skip_name,
    soa,
    turn,
)
from agent.wire.table import AnswerTable, ZoneMeta

MAX_ALIAS_HOPS = 8
TOO_MANY_ALIASES = (EDE_OTHER, f"more than {MAX_ALIAS_HOPS} aliases")
MAX_ANY_BYTES = 256
"""An ANY query gets no RRset over this."""


class Behind(NamedTuple):
    """What stands in front of the name that is looked up, when that is not the question's name.

    Attributes:
        aliases: records that led here.
        key_at: offset in the reply where the name stands.
        end: offset behind those records.
    """

    aliases: tuple[Group, ...]
    key_at: int
    end: int


class Onward(NamedTuple):
    """A name of ours is an alias of one that is not.

    Attributes:
        key: that name.
        behind: where it stands.
        answer: what to say if nobody can go on from there.
    """

    key: bytes
    behind: Behind
    answer: Answer


class Found(NamedTuple):
    """Where following a name has led.

    Attributes:
        key: name at the end of the aliases.
        key_at: offset in the reply where that name stands.
        zone: own zone of that name; None: the name is not ours.
        node: node at that name; None: there is none.
        aliases: the CNAME records on the way, ready for their place.
        end: offset behind question and aliases.
        override: the last one met on the way; None: none was.
        is_overridden: `node` is that one's.
    """

    key: bytes
    key_at: int
    zone: ZoneMeta | None
    node: bytes | None
    aliases: tuple[Group, ...]
    end: int
    override: Overridden | None = None
    is_overridden: bool = False


class OwnZones:
    """Answers for own zones.

    Args:
        table: names and their answers.
        options: ttl_s, pods and fallthrough count here.
        posture: what answers are given under.
        overrides: names that go before the table.

    Attributes:
        overrides: as given.
        denies: numbers of the zones in which a name that is not in the table does not exist.
        fallthrough: names of those whose unknown names may be forwarded.
        handed: names of those whose unknown names nobody but the responder answers.
        soa_ttl_s: TTL and MINIMUM of their SOA.
    """

    def __init__(
        self, table: AnswerTable, options: ResponderOptions, posture: Posture, overrides: Overrides | None = None
    ) -> None:
        self.overrides = overrides if overrides is not None else {}
        self._table = table
        self._options = options
        self._posture = posture
        through = options.fallthrough
        self.fallthrough = frozenset(z.name for z in table.zones if z.reverse) if through is None else through
        walked = frozenset(zone.name for zone in table.zones if options.search_shortcut and not zone.reverse)
        self.handed = self.fallthrough | walked
        denying = (zone.number for zone in table.zones if zone.name not in self.handed)
        self.denies = frozenset(denying if options.pods != "insecure" else ())
        cap_s = MAX_SOA_TTL_S if posture.ttl_cap_s is None else min(posture.ttl_cap_s, MAX_SOA_TTL_S)
        self.soa_ttl_s = min(options.ttl_s, cap_s)
        self._soas: dict[tuple[int, int], Group] = {}

    def exists(self, key: bytes) -> bool:
        """Tell whether the table holds a name."""
        return self._table.find(key) is not None

    def zone_of(self, key: bytes) -> ZoneMeta | None:
        """Find the own zone that a name lies in."""
        return self._table.zone_of(key)

    def is_ours(self, key: bytes) -> bool:
        """Tell whether a name is for us alone to answer: it lies in an own zone, and does not fall through there."""
        if key in self.overrides:
            return True
        zone = self._table.zone_of(key)
        return zone is not None and (zone.name not in self.fallthrough or self._table.find(key) is not None)

    def answer(self, key: bytes, qtype: int, by: int, behind: Behind | None = None) -> Answer | Onward | None:
        """Answer a question of class IN; None if the name is not ours.

        Args:
            key: question name, or the name at the end of what stands `behind` the question.
            qtype: any type but AXFR and IXFR.
            by: how far an RRset in free order is to be rotated.
            behind: records in front of the answer.

        Raises:
            WireError, IndexError, struct.error: a node is damaged.
        """
        zone = self._table.zone_of(key)
        if key not in self.overrides:
            if zone is None:
                return None
            refusal = self._refusal()
            if refusal is not None:
                return refusal
        found = self._follow(key, qtype, zone, behind or Behind((), 12, 12 + len(key) + 4))
        if found is None:
            return Answer(SERVFAIL, error=TOO_MANY_ALIASES)
        if found.override is not None:
            return self._overridden(found, found.override, qtype, by)
        if found.node is None and found.zone is not None and found.zone.name in self.fallthrough:
            if not found.aliases:
                return None
            found = found._replace(zone=None)
        said = self._said(found, qtype, by)
        if found.zone is None:
            return Onward(found.key, Behind(found.aliases, found.key_at, found.end), said)
        return said

    def _refusal(self) -> Answer | None:
        """Give what every name of an own zone gets while there is no state to answer from; None while there is."""
        if self._posture.state == NOT_READY:
            return Answer(SERVFAIL, error=(EDE_NOT_READY, "no snapshot yet"))
        if self._posture.state == EXPIRED:
            return Answer(SERVFAIL, error=(EDE_NO_REACHABLE_AUTHORITY, self.age_text()))
        return None

    def _overridden(self, found: Found, override: Overridden, qtype: int, by: int) -> Answer | Onward:
        """Answer with what an override says, be it only that another name is asked."""
        if not found.is_overridden and found.zone is not None:
            refusal = self._refusal()
            if refusal is not None:
                return refusal
            if found.node is None and found.zone.name in self.fallthrough:
                found = found._replace(zone=None)
        answer = self._said(found, qtype, by)._replace(error=override.error, lasting=False, overridden=True)
        if found.zone is None and not found.is_overridden:
            return Onward(found.key, Behind(found.aliases, found.key_at, found.end), answer)
        return answer

    def age_text(self) -> str:
        """Write the EXTRA-TEXT of an answer from an aged snapshot."""
        pinned = " pinned" if self._posture.pinned else ""
        return f"age={self._posture.age_s}s generation={self._posture.generation}{pinned}"

    def error(self, rcode: int) -> tuple[int, str] | None:
        """Give the extended error that marks an answer as stale; None while it is not."""
        if self._posture.state != STALE:
            return None
        return EDE_STALE_NXDOMAIN if rcode == NXDOMAIN else EDE_STALE, self.age_text()

    def _follow(self, key: bytes, qtype: int, zone: ZoneMeta | None, behind: Behind) -> Found | None:
        """Follow aliases inside own zones; None if there are too many (a loop, sooner or later)."""
        aliases, key_at, end = behind
        own: ZoneMeta | None = zone
        override: Overridden | None = None
        for _ in range(MAX_ALIAS_HOPS + 1):
            here = self.overrides.get(key) if self.overrides else None
            override = here or override
            if here is not None:
                node: bytes | None = here.node
            else:
                node = self._node(key, own) if own is not None else None
            found = Found(key, key_at, own, node, aliases, end, override, here is not None)
            if node is None or not node[0] & CNAME_NODE or qtype in {CNAME, ANY}:
                return found
            alias = nodes.rrset(node, CNAME)
            if alias is None:
                raise WireError("a node that is an alias has no CNAME")
            body = self._capped(self._placed(found, alias).answer, 1)
            aliases = (*aliases, Group(1, body))
            key_at = end + skip_name(body, 0) + 10
            end += len(body)
            # Written out even if it stands as a pointer; where a target is compressed key_at still leads to it.
            target = next(records(key, alias.answer, 1)).rdata
            key, own = target.lower(), self._table.zone_of(target.lower())
        return None

    def _node(self, key: bytes, zone: ZoneMeta) -> bytes | None:
        node = self._table.find(key)
        if node is None and self._options.pods == "insecure":
            return self._pod(key, zone)
        return node

    def _pod(self, key: bytes, zone: ZoneMeta) -> bytes | None:
        """Make the node of 10-1-2-3.NS.pod.ZONE, if that namespace exists."""
        tree = b"\x03pod" + zone.name
        namespace = key[key[0] + 1 :]
        if not key.endswith(tree) or namespace[namespace[0] + 1 :] != tree or self._table.find(namespace) is None:
            return None
        address = undashed(key[1 : key[0] + 1])
        if address is None:
            return None
        rtype = A if len(address) == 4 else AAAA
        rrset = RRset(rtype, 0, 1, 0, record(rtype, self._options.ttl_s, address), b"")
        return nodes.encode(zone=zone.number, rrsets=(rrset,))

    def _said(self, found: Found, qtype: int, by: int) -> Answer:
        """Turn what was found into an answer."""
        if found.zone is None and not found.is_overridden:
            return Answer(NOERROR, authoritative=True, answer=found.aliases, error=self.error(NOERROR))
        if found.node is None:
            return self._negative(NXDOMAIN, found, found.zone)
        number = nodes.head(found.node)[2]
        zone = self._table.zones[number] if number != NO_ZONE else None
        if zone is not None and found.key == zone.name and qtype in {SOA, ANY} and not found.is_overridden:
            body = soa(zone.name, self._posture.generation, self.soa_ttl_s, found.key_at)
            rrset: RRset | None = RRset(SOA, 0, 1, 0, body, b"")
        elif qtype == ANY:
            rrset = self._any(found.node)
        else:
            rrset = nodes.rrset(found.node, qtype) if qtype < PRIVATE_TYPE else None
        if rrset is None:
            return self._negative(NOERROR, found, zone)
        if rrset.type != SOA:
            rrset = self._placed(found, rrset)
        group = Group(rrset.ancount, self._capped(turn(rrset, by), rrset.ancount))
        more = Group(rrset.arcount, self._capped(rrset.additional, rrset.arcount))
        return Answer(
            NOERROR,
            authoritative=True,
            answer=(*found.aliases, group),
            additional=(more,) if more.records else (),
            error=self.error(NOERROR),
            lasting=rrset.ancount == 1 or not rrset.flags & nodes.ROTATE,
        )

    def _any(self, node: bytes) -> RRset | None:
        """Choose the one RRset that ANY gets below an apex: the smallest, or HINFO if that is large (RFC 8482)."""
        public = [rrset for rrset in nodes.rrsets(node) if rrset.type < PRIVATE_TYPE]
        if not public:
            return None
        least = min(public, key=lambda rrset: len(rrset.answer))
        if len(least.answer) > MAX_ANY_BYTES:
            return RRset(HINFO, 0, 1, 0, hinfo(), b"")
        return least._replace(arcount=0, additional=b"")

    def _negative(self, rcode: int, found: Found, zone: ZoneMeta | None) -> Answer:
        if zone is None:
            return Answer(rcode, True, found.aliases, (), (), self.error(rcode))
        at = found.key_at + len(found.key) - len(zone.name)
        # A target may stand compressed in its CNAME record; only the question's name is sure to be written out.
        group = self._soa_at(zone, 0 if found.aliases else at)
        return Answer(rcode, True, found.aliases, (group,), (), self.error(rcode))

    def _soa_at(self, zone: ZoneMeta, zone_at: int) -> Group:
        """Give a zone's SOA; one is made for each place (at most 256) and kept until the posture changes."""
        group = self._soas.get((zone.number, zone_at))
        if group is None:
            body = soa(zone.name, self._posture.generation, self.soa_ttl_s, zone_at)
            group = self._soas[zone.number, zone_at] = Group(1, body)
        return group

    def _placed(self, found: Found, rrset: RRset) -> RRset:
        """Give an RRset ready to stand where its name was found: as it is behind its own question."""
        return moved(found.key, rrset, found.key_at) if found.aliases else rrset

    def _capped(self, body: bytes, count: int) -> bytes:
        cap_s = self._posture.ttl_cap_s
        return body if cap_s is None else lower_ttls(body, count, cap_s)


def undashed(label: bytes) -> bytes | None:
    """Read the address in a pod's label (10-1-2-3, fd00--1); None if there is none in it."""
    text = label.decode("ascii", "replace")
    try:
        if text.count("-") == 3 and "--" not in text:
            return ipaddress.IPv4Address(text.replace("-", ".")).packed
        return ipaddress.IPv6Address(text.replace("-", ":")).packed
    except ipaddress.AddressValueError:
        return None
