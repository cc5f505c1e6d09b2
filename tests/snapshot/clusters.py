"""Small random clusters with everything that collides: shared addresses, hidden PTRs, aliases, dual stack."""

from __future__ import annotations

import random

import msgspec

from agent.cluster.objects import (
    ENDPOINT_SLICE,
    NAMESPACE,
    NO_PORT,
    SERVICE,
    Endpoint,
    EndpointSlice,
    Namespace,
    Port,
    Service,
    Stored,
)

_PORTS = (
    Port("http", "TCP", 80),
    Port("dns", "UDP", 53),
    Port("dns-tcp", "TCP", 53),
    Port("", "TCP", 9000),
    Port("any", "SCTP", NO_PORT),
)


def stored(value: Service | EndpointSlice | Namespace) -> Stored:
    """Pack a trimmed object as a source would."""
    blob = msgspec.msgpack.encode(value)
    if isinstance(value, Namespace):
        return Stored(NAMESPACE, value.name, value.name, blob)
    key = f"{value.namespace}/{value.name}"
    if isinstance(value, Service):
        return Stored(SERVICE, key, key, blob)
    return Stored(ENDPOINT_SLICE, key, f"{value.namespace}/{value.service}", blob)


def _address(rng: random.Random) -> bytes:
    if rng.random() < 0.7:
        return bytes((10, 0, rng.randrange(2), rng.randrange(6)))
    return b"\xfd" + bytes(13) + bytes((rng.randrange(2), rng.randrange(4)))


def random_service(rng: random.Random, namespace: str, name: str) -> Service:
    """Draw a ClusterIP, headless or ExternalName Service."""
    ports = tuple(rng.sample(_PORTS[:4], rng.randrange(4)))
    kind = rng.randrange(5)
    if kind == 0:
        target = rng.choice(["example.com", "a.one.svc.cluster.local", "b.two.svc.cluster.local", "10.0.0.1"])
        return Service(namespace, name, external_name=target, ports=ports)
    if kind <= 2:
        return Service(namespace, name, headless=True, ports=ports)
    addresses = tuple(dict.fromkeys(_address(rng) for _ in range(rng.choice((1, 1, 2)))))
    return Service(namespace, name, cluster_ips=addresses, ports=ports)


def random_slice(rng: random.Random, namespace: str, name: str, service: str) -> EndpointSlice:
    """Draw a slice of one address family."""
    wanted = rng.choice((4, 16))
    endpoints = []
    for _ in range(rng.randrange(4)):
        address = _address(rng)
        while len(address) != wanted:
            address = _address(rng)
        endpoints.append(Endpoint((address,), rng.choice(["", "", "h-0", "h-1"]), rng.choice(["", "pod-0", "pod-1"])))
    return EndpointSlice(namespace, name, service, tuple(rng.sample(_PORTS, rng.randrange(4))), tuple(endpoints))


def random_change(rng: random.Random) -> tuple[str, str, Stored | None]:
    """Draw one change: (kind, key, object or None for a deletion)."""
    namespace, name = rng.choice(["one", "two"]), rng.choice("abc")
    kind = rng.choice([NAMESPACE, SERVICE, SERVICE, ENDPOINT_SLICE, ENDPOINT_SLICE, ENDPOINT_SLICE])
    if kind == NAMESPACE:
        key, value = namespace, stored(Namespace(namespace))
    elif kind == SERVICE:
        key, value = f"{namespace}/{name}", stored(random_service(rng, namespace, name))
    else:
        part = f"{name}-{rng.randrange(2)}"
        # Rarely a slice changes its Service.
        service = rng.choice("abc") if rng.random() < 0.1 else name
        key, value = f"{namespace}/{part}", stored(random_slice(rng, namespace, part, service))
    return kind, key, None if rng.random() < 0.25 else value
