"""The clusters that are made up: which services there are, and which pods stand behind them.

Law: everything follows from (`Spec`, index): no state, so a cluster of any size is streamed, one workload at a time,
and the same seed gives the same cluster on every machine.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER_IPV4 = int(ipaddress.IPv4Address("10.96.0.0"))  # /12
CLUSTER_IPV6 = int(ipaddress.IPv6Address("fd00:10:96::"))  # /108
POD_IPV4 = int(ipaddress.IPv4Address("10.128.0.0"))  # /9
POD_IPV6 = int(ipaddress.IPv6Address("fd00:10:128::"))
SLICE_LIMIT = 100
"""Endpoints the slice controller puts into one slice."""
FIRST_CLUSTER_IP = 4096
"""Offset of the first generated ClusterIP; the ones below belong to the fixed services."""
FIRST_POD_IP = 65536

SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
TEAMS = (
    "payments", "search", "checkout", "identity", "catalog", "shipping", "media", "analytics", "messaging", "billing",
    "fraud", "recommendations", "inventory", "support", "platform", "data", "ml", "growth", "partner", "mobile",
)  # fmt: skip
STEMS = (
    "checkout", "cart", "order", "user", "session", "invoice", "product", "price", "stock", "review", "image", "video",
    "feed", "search", "suggest", "ledger", "refund", "address", "courier", "notify", "email", "token", "profile",
    "audit", "report", "export", "import", "rate", "quota", "webhook",
)  # fmt: skip
ROLES = (
    "api", "worker", "gateway", "db", "cache", "queue", "indexer", "scheduler", "frontend", "proxy", "sync", "store",
    "consumer", "bff", "admin",
)  # fmt: skip
OUTSIDE = ("smtp.example.com", "api.partner.example.net", "db-legacy.corp.example.org", "s3.storage.example.com")


@dataclass(frozen=True)
class Spec:
    """What the cluster is like. Sizes count everything in it, fixed services included."""

    services: int = 1000
    endpoints: int = 5000
    """Ready and unready pods behind services; a dual-stack one counts once."""
    namespaces: int = 50
    headless: float = 0.12
    """Share of services without a ClusterIP; half of them are StatefulSets, whose pods have hostnames."""
    dual_stack: float = 0.2
    external_name: float = 0.03
    unready: float = 0.02
    """Share of pods that are not ready."""
    demonstration: bool = True
    """Whether namespace `shop` with its well-known names is there."""
    bulk: bool = False
    """Whether objects carry managedFields and last-applied annotations, as the API server sends them."""
    zone: str = "cluster.local"
    seed: int = 1


@dataclass(frozen=True)
class Port:
    """One port; `name` may be empty."""

    name: str
    port: int
    protocol: str = "TCP"
    target: int = 0


@dataclass(frozen=True)
class Pod:
    """One endpoint. `offset` picks its addresses out of the pod ranges; `hostname` is empty in a Deployment."""

    name: str
    offset: int
    ready: bool = True
    hostname: str = ""
    terminating: bool = False


@dataclass(frozen=True)
class Workload:
    """One Service and what stands behind it. `slices` are its pods as they lie in slices (per address family)."""

    namespace: str
    name: str
    kind: str = "cluster"
    """cluster, headless or external."""
    offset: int = 0
    """Picks the ClusterIPs out of their ranges."""
    families: tuple[str, ...] = ("IPv4",)
    ports: tuple[Port, ...] = ()
    slices: tuple[tuple[Pod, ...], ...] = ()
    external_name: str = ""
    stateful: bool = False
    selector: bool = True
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def pods(self) -> tuple[Pod, ...]:
        return tuple(itertools.chain.from_iterable(self.slices))


def chunk(pods: list[Pod] | tuple[Pod, ...]) -> tuple[tuple[Pod, ...], ...]:
    """Spread pods over slices; no pods make one empty slice, as the slice controller does."""
    return tuple(tuple(pods[i : i + SLICE_LIMIT]) for i in range(0, len(pods), SLICE_LIMIT)) or ((),)


def suffix(*parts: object, length: int = 5) -> str:
    """Return the random-looking tail of a generated name (the alphabet of Kubernetes)."""
    return "".join(random.Random("/".join(map(str, parts))).choices("bcdfghjklmnpqrstvwxz2456789", k=length))


def namespace_names(spec: Spec) -> list[str]:
    """Return the namespaces of teams, then those of `fixed`; `spec.namespaces` in all where that is possible."""
    fixed = sorted({*SYSTEM_NAMESPACES, *(["shop"] if spec.demonstration else [])})
    count = max(1, spec.namespaces - len(fixed))
    teams = [
        f"team-{TEAMS[i % len(TEAMS)]}" + (f"-{i // len(TEAMS) + 1}" if i >= len(TEAMS) else "") for i in range(count)
    ]
    return fixed + teams


def workloads(spec: Spec) -> Iterator[Workload]:
    """Stream the cluster's workloads: system services, the demonstration's, then generated ones."""
    first = list(fixed(spec))
    yield from first
    taken = sum(len(w.pods) for w in first)
    teams = namespace_names(spec)[len({*SYSTEM_NAMESPACES}) + int(spec.demonstration) :]
    count = max(0, spec.services - len(first))
    offset = FIRST_POD_IP
    for index, pods in enumerate(_sizes(spec, count, max(0, spec.endpoints - taken))):
        yield generated(spec, index, pods, offset, teams)
        offset += pods


def _sizes(spec: Spec, count: int, endpoints: int) -> list[int]:
    """Share `endpoints` among `count` services: a long tail, some without any, ExternalNames always without."""
    rng = random.Random(f"{spec.seed}/sizes")
    weights = [
        0.0 if rng.random() < 0.03 or _is_external(spec, i) else rng.lognormvariate(0, 1.1) for i in range(count)
    ]
    total = sum(weights)
    if not total:
        return [0] * count
    sizes, carry = [], 0.0
    for weight in weights:
        carry += weight * endpoints / total
        sizes.append(int(carry))
        carry -= int(carry)
    rest = endpoints - sum(sizes)
    if rest:
        sizes[weights.index(max(weights))] += rest
    return sizes


def _is_external(spec: Spec, index: int) -> bool:
    return random.Random(f"{spec.seed}/{index}/external").random() < spec.external_name


def service_name(index: int) -> str:
    """Name service `index`; unique in the whole cluster."""
    place = index * 211 % (len(STEMS) * len(ROLES))  # 211 is coprime to 450: neighbours differ
    name = f"{STEMS[place % len(STEMS)]}-{ROLES[place // len(STEMS)]}"
    lap = index // (len(STEMS) * len(ROLES))
    return name if lap == 0 else f"{name}-{lap + 1}"


def generated(spec: Spec, index: int, pods: int, offset: int, namespaces: list[str]) -> Workload:
    """Make workload `index` with `pods` pods whose addresses start at `offset`."""
    rng = random.Random(f"{spec.seed}/{index}")
    namespace = namespaces[int(len(namespaces) * rng.random() ** 2)]
    name = service_name(index)
    if _is_external(spec, index):
        inside = rng.random() < 0.4
        target = f"web.shop.svc.{spec.zone}" if inside and spec.demonstration else rng.choice(OUTSIDE)
        return Workload(namespace, name, "external", external_name=target, selector=False)
    kind = "headless" if rng.random() < spec.headless else "cluster"
    stateful = kind == "headless" and rng.random() < 0.5
    families = ("IPv4", "IPv6") if rng.random() < spec.dual_stack else ("IPv4",)
    members = [
        Pod(
            f"{name}-{i}" if stateful else f"{name}-{suffix(spec.seed, index, length=9)}-{suffix(spec.seed, index, i)}",
            offset + i,
            rng.random() >= spec.unready,
            f"{name}-{i}" if stateful else "",
        )
        for i in range(pods)
    ]
    return Workload(
        namespace, name, kind, FIRST_CLUSTER_IP + index, families, _ports(rng), chunk(members), stateful=stateful
    )


def _ports(rng: random.Random) -> tuple[Port, ...]:
    return rng.choices(
        (
            (Port("http", 80, target=8080),),
            (Port("http", 80, target=8080), Port("metrics", 9090)),
            (Port("grpc", 9000), Port("metrics", 9090)),
            (Port("http", 80, target=8080), Port("grpc", 9000), Port("metrics", 9090)),
            (Port("https", 443, target=8443),),
            (Port("", 8080),),
            (Port("dns", 53, "UDP"), Port("dns-tcp", 53)),
            (Port("amqp", 5672), Port("management", 15672), Port("gossip", 4369, "UDP")),
        ),
        weights=(22, 22, 14, 14, 8, 12, 4, 4),
    )[0]


def fixed(spec: Spec) -> Iterator[Workload]:
    """Give the services that are always there: the system's, and (`spec.demonstration`) the names a README can use."""
    pod = itertools.count(16)

    def deployment(name: str, count: int, **more: bool) -> list[Pod]:
        return [Pod(f"{name}-{suffix(name, length=9)}-{suffix(name, i)}", next(pod), **more) for i in range(count)]

    def stateful(name: str, count: int) -> list[Pod]:
        return [Pod(f"{name}-{i}", next(pod), hostname=f"{name}-{i}") for i in range(count)]

    both, http = ("IPv4", "IPv6"), Port("http", 80, target=8080)
    dns_ports = (Port("dns", 53, "UDP"), Port("dns-tcp", 53), Port("metrics", 9153))
    yield Workload("default", "kubernetes", offset=1, ports=(Port("https", 443, target=6443),), slices=((Pod("", 2),),), selector=False)  # fmt: skip  # noqa: E501
    yield Workload("kube-system", "kube-dns", offset=10, ports=dns_ports, slices=chunk(deployment("coredns", 2)))
    if not spec.demonstration:
        return
    web = Workload("shop", "web", "cluster", 0xA50, both, (http, Port("https", 443, target=8443)))
    yield replace(web, slices=chunk(deployment("web", 3)))
    yield replace(web, name="db", kind="headless", ports=(Port("postgres", 5432),), slices=chunk(stateful("db", 3)), stateful=True)  # fmt: skip  # noqa: E501
    workers = [*deployment("workers", 2), *deployment("workers-slow", 1, ready=False)]
    yield replace(web, name="workers", kind="headless", families=("IPv4",), ports=(Port("grpc", 9000),), slices=chunk(workers))  # fmt: skip  # noqa: E501
    cache = replace(web, name="cache", families=("IPv4",), ports=(Port("", 6379),), offset=0xA51)
    yield replace(cache, slices=chunk(deployment("cache", 1)))
    yield replace(cache, name="catalog", offset=0xA52, ports=(http,), slices=chunk(deployment("catalog", 230)))
    yield replace(cache, name="idle", offset=0xA53, ports=(http,), slices=((),))
    yield replace(cache, name="drained", kind="headless", ports=(http,), slices=((),))
    yield Workload("shop", "storefront", "external", external_name=f"web.shop.svc.{spec.zone}", selector=False)
    yield Workload("shop", "mail", "external", external_name="smtp.example.com", selector=False)
