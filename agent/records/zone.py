"""Which records a Service makes (Kubernetes DNS specification 1.1.0, and what CoreDNS adds to it).

Law: pure functions of trimmed objects and a profile. First an owner's names are worked out as small comparable
specs, so that an unchanged name is never encoded again; then the specs that changed become RRsets.

The reference for what the specification leaves open is CoreDNS 1.15, plugin/kubernetes; wanted differences are
listed in docs/differences-from-coredns.md.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agent.cluster.objects import NO_PORT, Port, unpack_service, unpack_slice
from agent.cluster.store import OwnerState
from agent.errors import WireError
from agent.records import rrset
from agent.records.names import dashed, label, packed, to_wire
from agent.wire.node import RRset

DNS_VERSION = "1.1.0"
DNS_VERSION_TTL_S = 28_800
_ALL_PORTS = (Port("", "", NO_PORT),)


class Profile(msgspec.Struct, frozen=True):
    """Everything besides the objects that decides what the records are; same words as CoreDNS's options.

    Attributes:
        zones: presentation form, the first is the one that PTR records name.
        ttl_s: TTL of cluster records, 0-3600 seconds.
        pods: `disabled`, `insecure` or `verified`.
        endpoint_pod_names: endpoints without a hostname are named after their pod.
        noendpoints: no records from EndpointSlices at all.
        ignore_empty_service: a ClusterIP service without ready endpoints does not exist.
        ns_addresses: packed addresses of `ns.dns.ZONE`.
        selection: text that tells apart which objects were selected; another selection needs a full set.
    """

    zones: tuple[str, ...] = ("cluster.local",)
    ttl_s: int = 5
    pods: str = "disabled"
    endpoint_pod_names: bool = False
    noendpoints: bool = False
    ignore_empty_service: bool = False
    ns_addresses: tuple[bytes, ...] = ()
    selection: str = ""


class Entry(NamedTuple):
    """One ready endpoint address: the label it is named by, the packed address, its ports."""

    host: bytes
    address: bytes
    ports: tuple[Port, ...]


class Spec(NamedTuple):
    """What stands at one name of an owner, small and comparable.

    Attributes:
        kind: `cluster`, `headless`, `host`, `port` or `alias`.
        entries: what addresses and SRV records come from; `host` is empty for a ClusterIP.
        addresses: packed addresses of a `host`. (SRV on an endpoint's own name, which CoreDNS answers and nobody
            asks, would be a third of the whole table: left out.)
        port: (name, protocol) wanted by a `port` name.
        alias: external name of an `alias`.
    """

    kind: str
    entries: tuple[Entry, ...] = ()
    addresses: tuple[bytes, ...] = ()
    port: tuple[str, str] = ("", "")
    alias: str = ""


class OwnerNames(NamedTuple):
    """Every name of one Service.

    Attributes:
        specs: name below the Service's (wire labels, empty for the Service's own) → spec.
        reverse: (packed address, label of the endpoint or empty for the Service's own name).
        pods: addresses of ready endpoints, for verified pod records.
    """

    specs: dict[bytes, Spec]
    reverse: frozenset[tuple[bytes, bytes]]
    pods: frozenset[bytes]


NOTHING = OwnerNames({}, frozenset(), frozenset())


def names_of(state: OwnerState, profile: Profile) -> OwnerNames:
    """Work out the names a Service and its slices make."""
    if state.service is None:
        return NOTHING
    service = unpack_service(state.service)
    if service.external_name:
        if packed(service.external_name) is not None:
            return NOTHING
        return OwnerNames({b"": Spec("alias", alias=service.external_name)}, frozenset(), frozenset())
    entries = [] if profile.noendpoints else _entries(state.slices, pod_names=profile.endpoint_pod_names)
    specs: dict[bytes, Spec] = {}
    hosts: dict[bytes, tuple[bytes, ...]] = {}
    for host, address, _ in entries:
        hosts[host] = (*hosts[host], address) if host in hosts else (address,)
    for host, addresses in hosts.items():
        specs[host] = Spec("host", addresses=addresses)
    reverse = {(entry.address, entry.host) for entry in entries}
    if service.headless:
        own = tuple(entries)
        kind = "headless"
    else:
        if profile.ignore_empty_service and not entries:
            return NOTHING
        own = tuple(Entry(b"", address, service.ports) for address in service.cluster_ips)
        kind = "cluster"
        reverse |= {(address, b"") for address in service.cluster_ips}
    for name, protocol in _named_ports(own):
        specs[b"%b%b" % (label("_" + name), label("_" + protocol.lower()))] = Spec("port", own, port=(name, protocol))
    if own:
        specs[b""] = Spec(kind, own)
    return OwnerNames(specs, frozenset(reverse), frozenset(entry.address for entry in entries))


def _entries(slices: tuple[bytes, ...], *, pod_names: bool) -> list[Entry]:
    out = []
    for blob in slices:
        held = unpack_slice(blob)
        ports = held.ports or _ALL_PORTS
        for addresses, hostname, pod in ((e.addresses, e.hostname, e.pod) for e in held.endpoints):
            name = hostname or (pod if pod_names else "")
            for address in addresses:
                text = name or dashed(address)
                out.append(Entry(b"%c%b" % (len(text), text.encode()), address, ports))
    return out


def _named_ports(entries: tuple[Entry, ...]) -> dict[tuple[str, str], None]:
    found: dict[tuple[str, str], None] = {}
    seen: tuple[Port, ...] | None = None
    for entry in entries:
        if entry.ports is seen:
            continue
        seen = entry.ports
        found.update(dict.fromkeys((port.name, port.protocol) for port in seen if port.name and len(port.name) < 63))
    return found


def rrsets_of(spec: Spec, prefix: bytes, base: bytes, profile: Profile) -> tuple[RRset, ...]:
    """Encode what stands at one name.

    Args:
        spec: what it is.
        prefix: labels in front of the Service's name.
        base: wire name of the Service in one zone.
        profile: TTL.
    """
    ttl_s = profile.ttl_s
    if spec.kind == "alias":
        try:
            return (rrset.single(rrset.CNAME, ttl_s, to_wire(spec.alias)),)
        except WireError:
            return ()
    if spec.kind == "host":
        return tuple(rrset.address_rrsets(spec.addresses, ttl_s))
    out = [] if spec.kind == "port" else rrset.address_rrsets((entry.address for entry in spec.entries), ttl_s)
    service = _service_records(spec, prefix, base, ttl_s)
    if service.ancount:
        out.append(service)
    return tuple(out)


def _service_records(spec: Spec, prefix: bytes, base: bytes, ttl_s: int) -> RRset:
    wanted = spec.port if spec.kind == "port" else None
    targets: dict[tuple[bytes, int], None] = {}
    addresses: dict[tuple[bytes, bytes], None] = {}
    total = 0
    for host, address, ports in spec.entries:
        for port in ports:
            if wanted is not None and (port.name, port.protocol) != wanted:
                continue
            total += 1
            if port.port != NO_PORT:
                targets[host, port.port] = None
                addresses[host, address] = None
    # CoreDNS divides by what matched before duplicates are dropped (plugin/backend_lookup.go, SRV).
    weight = max(1, 100 // total) if total else 0
    return rrset.srv(targets, weight, ttl_s, base, addresses, rrset.QUESTION_AT + len(prefix))


def service_name(owner: str, zone: bytes) -> bytes:
    """Give the wire name of a Service: SVC.NS.svc.ZONE."""
    namespace, _, name = owner.partition("/")
    return b"%b%b\x03svc%b" % (label(name), label(namespace), zone)
