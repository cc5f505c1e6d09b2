"""From changed owners to changed names of the answer table.

Law: pure; one call, one owner, before → after; a name is put only if its bytes changed, so one changed Service
costs what one Service costs. The tree is kept whole: a name exists for as long as it holds data, is declared, or
has a name below it (RFC 8020), which is why a node counts its children.

Reverse names may be fed by several owners. A PTR target tells which (SVC.NS.svc.ZONE, or HOST in front of it), so
the table itself is the index and nothing is held twice. A Service's own address hides endpoint names of the same
address (as in CoreDNS); what is hidden is kept in a private RRset until it may show again.
"""

from __future__ import annotations

import heapq

import msgspec
import xxhash

from agent.cluster.store import OwnerState
from agent.records import rrset
from agent.records.names import IN_ADDR_ARPA, IP6_ARPA, MAX_NAME_BYTES, dashed, label, parent, reverse, to_wire
from agent.records.zone import (
    DNS_VERSION,
    DNS_VERSION_TTL_S,
    OwnerNames,
    Profile,
    names_of,
    rrsets_of,
    service_name,
)
from agent.wire import node
from agent.wire.node import CNAME_NODE, CUT, EXPLICIT, RRset
from agent.wire.table import AnswerTable, ZoneMeta

Changes = dict[bytes, bytes | None]


def zones_of(profile: Profile) -> tuple[ZoneMeta, ...]:
    """List the own zones of a profile: the cluster's, then the two reverse trees."""
    forward = [to_wire(zone) for zone in profile.zones]
    names = [*forward, IN_ADDR_ARPA, IP6_ARPA]
    return tuple(ZoneMeta(name, number, number >= len(forward)) for number, name in enumerate(names))


def digest(profile: Profile) -> bytes:
    """Give 16 bytes that tell two profiles (and two versions of the compiler) apart."""
    return xxhash.xxh3_128_digest(b"compiler 1" + msgspec.msgpack.encode(profile))


class Compiler:
    """Keeps one answer table in step with the owners.

    Args:
        profile: what decides the records.
        table: written by this compiler alone.

    Attributes:
        changes: names put since `take_changes`, for the journal.
        left_out: names over 255 octets, and RRsets cut to their bound, since the start.
    """

    def __init__(self, profile: Profile, table: AnswerTable) -> None:
        self.profile = profile
        self.table = table
        self.changes: Changes = {}
        self.left_out = 0
        self._zones = [zone for zone in table.zones if not zone.reverse]
        self._apexes = {zone.name for zone in table.zones}
        self._primary = self._zones[0].name
        self._service_labels = _labels(self._primary) + 3
        self._number_of_reverse = {4: len(self._zones), 16: len(self._zones) + 1}
        self._grown: dict[bytes, tuple[int, int]] = {}

    def take_changes(self) -> Changes:
        """Hand over what was put since the last call."""
        changes, self.changes = self.changes, {}
        return changes

    def declare_zones(self) -> None:
        """Put what every zone has: apex, NS and its address, dns-version, svc and pod."""
        ttl_s = self.profile.ttl_s
        for zone in self.table.zones:
            if zone.reverse:
                self._put(zone.name, zone.number, (), EXPLICIT)
                continue
            server = b"\x02ns\x03dns" + zone.name
            addresses = rrset.address_rrsets(self.profile.ns_addresses, ttl_s)
            glue = b"".join(
                rrset.record(r.type, ttl_s, rdata, b"\x02ns\x03dns" + rrset.pointer(rrset.QUESTION_AT))
                for r in addresses
                for rdata in rrset.rdatas(r)
            )
            count = sum(r.ancount for r in addresses)
            ns = RRset(rrset.NS, 0, 1, count, rrset.record(rrset.NS, ttl_s, server), glue)
            self._put(zone.name, zone.number, (ns,), EXPLICIT)
            self._put(server, zone.number, tuple(addresses), EXPLICIT)
            version = rrset.txt(DNS_VERSION, DNS_VERSION_TTL_S)
            self._put(b"\x0bdns-version" + zone.name, zone.number, (version,))
            self._put(b"\x03svc" + zone.name, zone.number, (), EXPLICIT)
            if self.profile.pods != "disabled":
                self._put(b"\x03pod" + zone.name, zone.number, (), EXPLICIT)
        self._settle()

    def namespace(self, name: str, *, exists: bool) -> None:
        """Declare NS.svc.ZONE and NS.pod.ZONE, or take the declaration back."""
        trees = [b"\x03svc"] + ([b"\x03pod"] if self.profile.pods != "disabled" else [])
        for zone in self._zones:
            for tree in trees:
                self._put(label(name) + tree + zone.name, zone.number, (), EXPLICIT if exists else 0)
        self._settle()

    def owner(self, owner: str, before: OwnerState, after: OwnerState) -> None:
        """Bring the names of one Service from `before` to `after`."""
        old = names_of(before, self.profile)
        new = names_of(after, self.profile)
        for zone in self._zones:
            self._forward(old, new, service_name(owner, zone.name), zone.number)
        base = service_name(owner, self._primary)
        gone, come = old.reverse - new.reverse, new.reverse - old.reverse
        touched: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        for address, host in gone:
            touched.setdefault(address, ([], []))[0].append(host + base)
        for address, host in come:
            touched.setdefault(address, ([], []))[1].append(host + base)
        for address, (less, more) in touched.items():
            self._reverse(address, less, more)
        if self.profile.pods == "verified":
            self._verified_pods(owner, old.pods, new.pods)
        self._settle()

    def _forward(self, old: OwnerNames, new: OwnerNames, base: bytes, number: int) -> None:
        for prefix in old.specs.keys() - new.specs.keys():
            self._put(prefix + base, number, ())
        for prefix, spec in new.specs.items():
            if old.specs.get(prefix) == spec:
                continue
            key = prefix + base
            if len(key) > MAX_NAME_BYTES:
                self.left_out += 1
                continue
            rrsets = rrsets_of(spec, prefix, base, self.profile)
            self.left_out += sum(1 for each in rrsets if each.flags & CUT)
            flags = CNAME_NODE if spec.kind == "alias" and rrsets else 0
            self._put(key, number, rrsets, flags or EXPLICIT * (not rrsets))

    def _reverse(self, address: bytes, less: list[bytes], more: list[bytes]) -> None:
        key = reverse(address)
        held = self.table.find(key)
        if held is None and len(more) == 1 and len(more[0]) <= MAX_NAME_BYTES:
            # By far the most common case: the only Service with this address.
            self._put(key, self._number_of_reverse[len(address)], (rrset.ptr(more, self.profile.ttl_s),))
            return
        targets: set[bytes] = set()
        if held is not None:
            known = node.rrset(held, rrset.CONTRIBUTED_PTR) or node.rrset(held, rrset.PTR)
            if known is not None:
                targets.update(rrset.rdatas(known))
        targets.difference_update(less)
        targets.update(target for target in more if len(target) <= MAX_NAME_BYTES)
        ttl_s = self.profile.ttl_s
        rrsets: tuple[RRset, ...] = ()
        if targets:
            own = sorted(target for target in targets if _labels(target) == self._service_labels)
            rrsets = (rrset.ptr(own or sorted(targets), ttl_s),)
            if own and len(own) < len(targets):
                rrsets += (rrset.ptr(sorted(targets), ttl_s, rrset.CONTRIBUTED_PTR),)
        self._put(key, self._number_of_reverse[len(address)], rrsets)

    def _verified_pods(self, owner: str, old: frozenset[bytes], new: frozenset[bytes]) -> None:
        namespace = label(owner.partition("/")[0])
        in_namespace = namespace + b"\x03svc" + self._primary
        ttl_s = self.profile.ttl_s
        for address in old ^ new:
            is_known = False
            held = self.table.find(reverse(address))
            if held is not None:
                known = node.rrset(held, rrset.CONTRIBUTED_PTR) or node.rrset(held, rrset.PTR)
                targets = rrset.rdatas(known) if known is not None else []
                is_known = any(
                    target.endswith(in_namespace) and _labels(target) > self._service_labels for target in targets
                )
            rrsets = tuple(rrset.address_rrsets((address,), ttl_s)) if is_known else ()
            name = label(dashed(address)) + namespace + b"\x03pod"
            for zone in self._zones:
                self._put(name + zone.name, zone.number, rrsets)

    def _put(self, key: bytes, number: int, rrsets: tuple[RRset, ...], flags: int = 0) -> None:
        held = self.table.find(key)
        children = node.head(held)[3] if held is not None else 0
        if rrsets or flags or children:
            made = node.encode(flags=flags, zone=number, children=children, rrsets=rrsets)
            if made == held:
                return
            self._store(key, made)
            if held is None:
                self._grow(key, number, 1)
        elif held is not None:
            self._store(key, None)
            self._grow(key, number, -1)

    def _store(self, key: bytes, made: bytes | None) -> None:
        self.table.put(key, made)
        self.changes[key] = made

    def _grow(self, key: bytes, number: int, by: int) -> None:
        if key in self._apexes:
            return
        above = parent(key)
        self._grown[above] = (self._grown.get(above, (0, 0))[0] + by, number)

    def _settle(self) -> None:
        """Carry births and deaths of names up the tree, deepest first."""
        if not self._grown:
            return
        heap = [(-len(key), key) for key in self._grown]
        heapq.heapify(heap)
        while heap:
            _, key = heapq.heappop(heap)
            by, number = self._grown.pop(key, (0, 0))
            if not by:
                continue
            before = len(self._grown)
            held = self.table.find(key)
            if held is None:
                self._store(key, node.encode(zone=number, children=by))
                self._grow(key, number, 1)
            else:
                flags, n, _, children = node.head(held)
                if children + by > 0 or flags or n:
                    self._store(key, node.with_children(held, children + by))
                else:
                    self._store(key, None)
                    self._grow(key, number, -1)
            if len(self._grown) > before:
                above = parent(key)
                heapq.heappush(heap, (-len(above), above))


def _labels(wire: bytes) -> int:
    count = at = 0
    while wire[at]:
        at += wire[at] + 1
        count += 1
    return count


def profile_section(profile: Profile) -> bytes:
    """Encode the profile for a generation: its digest, then msgpack for people's tools."""
    return digest(profile) + msgspec.msgpack.encode(profile)


def read_profile(section: bytes) -> Profile | None:
    """Read the profile of a generation back; None if another version wrote it or it can't be read."""
    try:
        profile = msgspec.msgpack.decode(section[16:], type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return profile if section[:16] == digest(profile) else None
