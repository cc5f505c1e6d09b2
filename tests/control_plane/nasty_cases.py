"""Objects that a real API server accepts and nobody expects: one namespace full of them, and two odd namespaces more.

Each case is a function giving Services and EndpointSlices; `objects()` gives them all. Addresses: ClusterIPs from
10.100.0.0, pods from 10.200.0.0, so that they meet nothing of the generator's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.control_plane.api_client import ApiClient

NAMESPACE = "nasty"
LONG_NAMESPACE = "n" * 63
ODD_NAMESPACES = ("svc", "pod", LONG_NAMESPACE)
GONE_NAMESPACE = "gone"
"""Its Namespace object is deleted after its services were made; they stay, since no controller runs."""
_Objects = Iterator[dict[str, Any]]


def port(name: str | None, number: int | None, protocol: str = "TCP") -> dict[str, Any]:
    value = {"name": name, "port": number, "protocol": protocol}
    return {key: part for key, part in value.items() if part is not None}


HTTP = port("http", 80)


def service(
    name: str, *ports: dict[str, Any], ips: tuple[str, ...] = (), namespace: str = NAMESPACE, **spec: Any
) -> dict[str, Any]:
    """Return a Service: headless without `ips`."""
    if "externalName" in spec:
        body: dict[str, Any] = {"type": "ExternalName", **spec}
    else:
        families = ["IPv6" if ":" in ip else "IPv4" for ip in ips]
        body = {
            "clusterIP": ips[0] if ips else "None",
            "clusterIPs": list(ips) or ["None"],
            "ports": list(ports) or None,
            **({"ipFamilies": families} if families else {}),
            **({"ipFamilyPolicy": "RequireDualStack"} if len(ips) > 1 else {}),
            **spec,
        }
    meta = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": body}


def endpoint(
    *addresses: str, ready: bool | None = True, hostname: str = "", target: str = "", **more: Any
) -> dict[str, Any]:
    """Return an endpoint; ready None leaves the condition out, `more` adds conditions."""
    value: dict[str, Any] = {"addresses": list(addresses), "conditions": dict(more)}
    if ready is not None:
        value["conditions"]["ready"] = ready
    if hostname:
        value["hostname"] = hostname
    if target:
        kind, _, name = target.rpartition("/")
        value["targetRef"] = {"kind": kind or "Pod", "name": name}
    return value


def slice_(owner: str, number: int, ports: list[dict[str, Any]] | None, *endpoints: dict[str, Any], family: str = "IPv4", namespace: str = NAMESPACE, label: bool = True) -> dict[str, Any]:  # fmt: skip  # noqa: E501
    """Return an EndpointSlice of `owner`."""
    labels = {"app": owner, **({"kubernetes.io/service-name": owner} if label else {})}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{owner[:50]}-{number}", "namespace": namespace, "labels": labels},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": ports,
    }


def readiness() -> _Objects:
    for name, ips in (("ready-cluster", ("10.100.0.1",)), ("ready-headless", ())):
        yield service(name, HTTP, ips=ips)
        yield slice_(
            name, 1, [HTTP],
            endpoint(f"10.200.0.{1 + 10 * len(ips)}"),
            endpoint(f"10.200.0.{2 + 10 * len(ips)}", ready=False),
            endpoint(f"10.200.0.{3 + 10 * len(ips)}", ready=None),
            endpoint(f"10.200.0.{4 + 10 * len(ips)}", ready=False, serving=True, terminating=True),
        )  # fmt: skip
    yield service("all-unready", HTTP)
    yield slice_("all-unready", 1, [HTTP], endpoint("10.200.0.31", ready=False))
    yield service("all-unready-cluster", HTTP, ips=("10.100.0.2",))
    yield slice_("all-unready-cluster", 1, [HTTP], endpoint("10.200.0.32", ready=False))
    yield service("published", HTTP, publishNotReadyAddresses=True)
    yield slice_("published", 1, [HTTP], endpoint("10.200.0.33", hostname="first", serving=False))


def hollow() -> _Objects:
    yield service("hollow", HTTP)
    yield service("hollow-slice", HTTP)
    yield slice_("hollow-slice", 1, [HTTP])
    yield service("hollow-cluster", HTTP, ips=("10.100.0.3",))
    yield service("no-ports")
    yield service("no-ports-either")
    yield slice_("no-ports-either", 1, None, endpoint("10.200.0.41"), endpoint("10.200.0.42", hostname="named"))
    yield service("no-slice-ports", HTTP, ips=("10.100.0.4",))
    yield slice_("no-slice-ports", 1, [], endpoint("10.200.0.43"))
    yield service("all-ports", HTTP)
    yield slice_("all-ports", 1, [port("any", None), port("http", 80)], endpoint("10.200.0.44"))


def shared_addresses() -> _Objects:
    yield service("twin-a", HTTP)
    yield slice_("twin-a", 1, [HTTP], endpoint("10.200.1.1", hostname="twin"), endpoint("10.200.1.2"))
    yield service("twin-b", HTTP, ips=("10.100.1.1",))
    yield slice_("twin-b", 1, [HTTP], endpoint("10.200.1.1"), endpoint("10.200.1.2", hostname="second"))
    yield service("front", HTTP, ips=("10.100.1.2",))
    yield service("back", HTTP)
    yield slice_("back", 1, [HTTP], endpoint("10.100.1.2"), endpoint("10.200.1.3"))
    yield service("doubled", HTTP)
    yield slice_("doubled", 1, [HTTP], endpoint("10.200.1.4"), endpoint("10.200.1.5"))
    yield slice_("doubled", 2, [HTTP], endpoint("10.200.1.4"), endpoint("10.200.1.6"))
    yield service("two-names", HTTP)
    yield slice_("two-names", 1, [HTTP], endpoint("10.200.1.7", hostname="one"), endpoint("10.200.1.7", hostname="two"))
    yield service("many-addresses", HTTP)
    yield slice_("many-addresses", 1, [HTTP], endpoint("10.200.1.8", "10.200.1.9", hostname="pair"), endpoint("10.200.1.10", "10.200.1.11"))  # fmt: skip  # noqa: E501


def hostnames() -> _Objects:
    grpc = port("grpc", 9000)
    yield service("spread", HTTP, grpc)
    yield slice_("spread", 1, [HTTP, grpc], endpoint("10.200.2.1", hostname="node-0"), endpoint("10.200.2.2", hostname="node-1"))  # fmt: skip  # noqa: E501
    yield slice_("spread", 2, [grpc], endpoint("10.200.2.3", hostname="node-0"))
    yield slice_("spread", 3, [HTTP], endpoint("fd00:10:200::2:1", hostname="node-0"), family="IPv6")
    yield service("masked", HTTP)
    yield slice_("masked", 1, [HTTP], endpoint("10.200.2.4", hostname="10-200-2-5"), endpoint("10.200.2.5"))
    yield service("hosted-cluster", HTTP, ips=("10.100.2.1", "fd00:10:96::2:1"))
    yield slice_("hosted-cluster", 1, [port("http", 8080)], endpoint("10.200.2.6", hostname="a"), endpoint("10.200.2.7", hostname="b"))  # fmt: skip  # noqa: E501
    yield slice_("hosted-cluster", 2, [port("http", 8080)], endpoint("fd00:10:200::2:6", hostname="a"), family="IPv6")
    yield service("pods", HTTP)
    yield slice_(
        "pods", 1, [HTTP],
        endpoint("10.200.2.8", target="pods-abc12"), endpoint("10.200.2.9", target="Node/worker-1"),
        endpoint("10.200.2.10", target="p" * 70), endpoint("10.200.2.11", hostname="host", target="pods-xyz"),
    )  # fmt: skip
    # A pod's name may hold dots; CoreDNS then makes a name of several labels that nobody can ask for.
    yield service("dotted-pods", HTTP)
    yield slice_("dotted-pods", 1, [HTTP], endpoint("10.200.2.12", target="a.b.c"))


def ports() -> _Objects:
    odd = [
        port("dns", 53, "UDP"),
        port("dns-tcp", 53),
        port("sctp", 132, "SCTP"),
        port("8080", 8080),
        port("p" * 62, 62),
    ]
    odd += [port("q" * 63, 63)]
    yield service("odd-ports", *odd, ips=("10.100.3.1",))
    yield service("odd-ports-headless", *odd)
    yield slice_("odd-ports-headless", 1, odd, endpoint("10.200.3.1"), endpoint("10.200.3.2", hostname="host"))
    yield service("unnamed", port(None, 6379), ips=("10.100.3.2", "fd00:10:96::3:2"))
    yield service("unnamed-headless", port(None, 6379))
    yield slice_("unnamed-headless", 1, [port("", 6379)], endpoint("10.200.3.3"))
    yield service("other-ports", port("web", 80), ips=("10.100.3.3",))
    yield slice_("other-ports", 1, [port("web", 8080), port("extra", 9)], endpoint("10.200.3.4"))
    yield service("split-ports", HTTP, port("grpc", 9000))
    yield slice_("split-ports", 1, [HTTP], endpoint("10.200.3.5"))
    yield slice_("split-ports", 2, [port("grpc", 9000)], endpoint("10.200.3.5"), endpoint("10.200.3.6"))
    yield service("node-port", port("http", 80), ips=("10.100.3.4",), type="NodePort")
    yield service("balanced", port("http", 80), ips=("10.100.3.5",), type="LoadBalancer", externalIPs=["192.0.2.7"])
    shared = [port(f"p{number}", 1000 + number) for number in range(40)]
    yield service("forty-ports", *shared, ips=("10.100.3.6",))
    yield service("crowd", HTTP)
    for number, size in ((0, 100), (1, 20)):
        members = [endpoint(f"10.200.{100 + number}.{i}") for i in range(1, size + 1)]
        yield slice_("crowd", number, [HTTP], *members)


def families() -> _Objects:
    yield service("both", HTTP, ips=("10.100.4.1", "fd00:10:96::4:1"))
    yield service("six-first", HTTP, ips=("fd00:10:96::4:2", "10.100.4.2"))
    yield service("six-only", HTTP, ips=("fd00:10:96::4:3",))
    yield service("both-headless", HTTP)
    yield slice_("both-headless", 1, [HTTP], endpoint("10.200.4.1"), endpoint("10.200.4.2"))
    yield slice_("both-headless", 2, [HTTP], endpoint("fd00:10:200::4:1"), endpoint("fd00:10:200:0:1::"), family="IPv6")
    yield service("six-headless", HTTP)
    yield slice_("six-headless", 1, [HTTP], endpoint("fd00:10:200::4:3"), family="IPv6")


def aliases(zone: str = "cluster.local") -> _Objects:
    base = f"{NAMESPACE}.svc.{zone}"
    targets = {
        "to-cluster": f"both.{base}",
        "to-four-only": f"front.{base}",
        "to-headless": f"both-headless.{base}",
        "to-endpoint": f"node-0.spread.{base}",
        "to-hollow": f"hollow.{base}",
        "to-nothing": f"nothing.{base}",
        "to-no-namespace": f"web.nowhere.svc.{zone}",
        "to-namespace": base,
        "to-apex": zone,
        "to-ns": f"ns.dns.{zone}",
        "to-pod": f"10-200-4-1.{NAMESPACE}.pod.{zone}",
        "to-dot": f"both.{base}.",
        "to-outside": "outside.example.org",
        "to-look-alike": f"both.{base}.example.org",
        "to-self": f"to-self.{base}",
        "to-below-self": f"x.to-below-self.{base}",
        "loop-a": f"loop-b.{base}",
        "loop-b": f"loop-a.{base}",
        "loop-3": f"loop-4.{base}",
        "loop-4": f"loop-5.{base}",
        "loop-5": f"loop-4.{base}",
        "via-outside": f"to-outside.{base}",
        "to-address": "192.0.2.1",
        "to-address-6": "fd00--1",
    }
    for name, target in targets.items():
        yield service(name, externalName=target)
    for hop in range(14):
        yield service(f"hop-{hop}", externalName=f"hop-{hop - 1}.{base}" if hop else f"both.{base}")
    yield service("alias-with-slice", externalName=f"both.{base}")
    yield slice_("alias-with-slice", 1, [HTTP], endpoint("10.200.5.1", hostname="host"))


def orphans() -> _Objects:
    yield slice_("orphan", 1, [HTTP], endpoint("10.200.6.1"), endpoint("10.200.6.2", hostname="host"))
    yield slice_("unlabelled", 1, [HTTP], endpoint("10.200.6.3"), label=False)
    yield service("by-name", HTTP)
    yield slice_("by-name", 1, [HTTP], endpoint("db.example.org"), family="FQDN")


def odd_names() -> _Objects:
    for name in ("svc", "pod", "dns", "any", "a", "s" * 63):
        yield service(name, HTTP, ips=(f"10.100.7.{10 + len(name)}",) if name in {"a", "s" * 63} else ())
        yield slice_(name, 1, [HTTP], endpoint(f"10.200.7.{len(name)}", hostname="h" * 63), namespace=NAMESPACE)
    for number, namespace in enumerate(ODD_NAMESPACES):
        yield service("web", HTTP, ips=(f"10.100.8.{number + 1}",), namespace=namespace)
        yield service("s" * 63, HTTP, namespace=namespace)
        yield slice_("s" * 63, 1, [HTTP], endpoint(f"10.200.8.{number}", hostname="h" * 63), namespace=namespace)
    yield service("left-behind", HTTP, ips=("10.100.9.1",), namespace=GONE_NAMESPACE)
    yield service("left-headless", HTTP, namespace=GONE_NAMESPACE)
    yield slice_("left-headless", 1, [HTTP], endpoint("10.200.9.1"), namespace=GONE_NAMESPACE)


def objects(zone: str = "cluster.local") -> _Objects:
    """Give every case, namespaces first."""
    for name in (NAMESPACE, GONE_NAMESPACE, *ODD_NAMESPACES):
        labels = {"kubernetes.io/metadata.name": name, "team": "tests"}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cases = (readiness, hollow, shared_addresses, hostnames, ports, families, orphans, odd_names)
    yield from itertools.chain(*(case() for case in cases), aliases(zone))


def change(admin: ApiClient, turn: int) -> None:
    """Do to these objects what is rarely done: turn 1 one way, turn 2 back or on."""
    base = f"{NAMESPACE}.svc.cluster.local"
    if turn == 1:
        admin.patch("Service", NAMESPACE, "to-cluster", {"spec": {"externalName": f"six-only.{base}"}})
        admin.patch("Service", NAMESPACE, "loop-a", {"spec": {"externalName": f"both.{base}"}})
        admin.delete("Service", NAMESPACE, "twin-a")
        admin.delete("EndpointSlice", NAMESPACE, "doubled-1")
        admin.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GONE_NAMESPACE}})
        admin.create(slice_("hollow", 1, [HTTP], endpoint("10.200.10.1")))
        relabel = {"metadata": {"labels": {"kubernetes.io/service-name": "hollow-slice"}}}
        admin.patch("EndpointSlice", NAMESPACE, "unlabelled-1", relabel)
        admin.patch(
            "EndpointSlice", NAMESPACE, "by-name-1", {"metadata": {"labels": {"kubernetes.io/service-name": "back"}}}
        )
        admin.replace(service("alias-with-slice", HTTP, ips=("10.100.5.1",)))
        admin.replace(service("front", externalName=f"both.{base}"))
        admin.patch("Service", NAMESPACE, "six-only", {"spec": {"ports": [port("renamed", 80)]}})
        admin.remove_namespace("svc")
        return
    admin.create(service("twin-a", HTTP))
    admin.patch("Service", NAMESPACE, "loop-a", {"spec": {"externalName": f"loop-b.{base}"}})
    admin.remove_namespace(GONE_NAMESPACE)
    admin.patch("EndpointSlice", NAMESPACE, "ready-headless-1", {"endpoints": [endpoint("10.200.0.1", ready=False)]})
    admin.patch("EndpointSlice", NAMESPACE, "spread-1", {"endpoints": [endpoint("10.200.2.1", hostname="node-9")]})
    admin.delete("EndpointSlice", NAMESPACE, "unlabelled-1")
    admin.ensure({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "svc"}})
    admin.replace(service("front", HTTP, ips=("10.100.1.2",)))
    admin.delete("Service", NAMESPACE, "alias-with-slice")
