"""Which names to ask about a cluster: everything that exists, and neighbours of it that must not.

Law: names come from the API objects alone, by the specification's words; nothing of nodens is used here.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tests.control_plane.dns_client import Question

TYPES = ("A", "AAAA", "SRV", "PTR", "TXT", "CNAME", "SOA", "NS", "ANY", "MX", "HTTPS")
REVERSE_ZONES = ("in-addr.arpa", "ip6.arpa")


class Name(NamedTuple):
    """A name to ask, and what it is to the one who wrote the objects."""

    text: str
    kind: str


def mixed_case(text: str, rng: random.Random) -> str:
    """Return the name in random letter case."""
    return "".join(letter.upper() if rng.random() < 0.5 else letter for letter in text)


def reverse(address: str) -> str:
    """Return the reverse name of an address, without the last dot."""
    return ipaddress.ip_address(address).reverse_pointer


def dashed(address: str) -> str:
    """Return an endpoint's name made of its address."""
    text = address.replace(".", "-").replace(":", "-")
    return text + "0" if text.endswith("-") else text


def _of_zone(zone: str) -> Iterator[Name]:
    yield from (Name(zone, "apex"), Name(f"svc.{zone}", "svc"), Name(f"pod.{zone}", "pod apex"))
    yield from (
        Name(f"ns.dns.{zone}", "ns.dns"),
        Name(f"dns.{zone}", "dns"),
        Name(f"dns-version.{zone}", "dns-version"),
    )
    for text in (
        "nothing",
        "*",
        "_tcp",
        "x.ns.dns",
        "x.dns",
        "x.dns-version",
        "web.shop",
        "apex.dns",
        "10-1-2-3",
        "a.b.c.d.e",
    ):
        yield Name(f"{text}.{zone}", "neighbour")
    for text in ("nowhere.svc", "web.nowhere.svc", "*.svc", "_tcp.svc", "x.y.nowhere.svc", "svc.svc.svc"):
        yield Name(f"{text}.{zone}", "neighbour")
    for text in ("nowhere.pod", "10-1-2-3.nowhere.pod", "*.pod"):
        yield Name(f"{text}.{zone}", "pod neighbour")


def _of_namespace(name: str, zone: str) -> Iterator[Name]:
    yield Name(f"{name}.svc.{zone}", "namespace")
    yield Name(f"{name}.pod.{zone}", "pod namespace")
    for text in ("no-such-service", "*", "_tcp", "_http._tcp", "10-1-2-3"):
        yield Name(f"{text}.{name}.svc.{zone}", "neighbour")
    for text in ("10-1-2-3", "fd00--1", "fd00-10-0-0-0-0-0-1", "--1", "1--", "0-0-0-0"):
        yield Name(f"{text}.{name}.pod.{zone}", "pod address")
    for text in (
        "10-1-2",
        "10-1-2-3-4",
        "256-1-2-3",
        "01-2-3-4",
        "x",
        "10.1.2.3",
        "fd00---1",
        "fd00-1",
        "web",
        "1-2--3-4-g",
    ):
        yield Name(f"{text}.{name}.pod.{zone}", "pod neighbour")
    yield Name(f"--ffff-a01-203.{name}.pod.{zone}", "pod mapped address")
    for text in ("x.10-1-2-3", "a.b.10-1-2-3"):
        yield Name(f"{text}.{name}.pod.{zone}", "below pod address")
    yield Name(f"a.b.c.10-1-2-3.{name}.pod.{zone}", "pod neighbour")


def _kind_of_service(value: dict[str, Any]) -> str:
    spec = value["spec"]
    if spec.get("externalName"):
        return "alias"
    return "headless" if spec.get("clusterIP") == "None" else "cluster"


def _kinds(everything: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Say what kind every Service is; one whose endpoints are host names is of a kind of its own."""
    kinds = {
        (value["metadata"]["namespace"], value["metadata"]["name"]): _kind_of_service(value)
        for value in everything
        if value["kind"] == "Service"
    }
    for value in everything:
        owner = value["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        key = (value["metadata"].get("namespace", ""), owner)
        if kinds.get(key) == "headless":
            if value.get("addressType") == "FQDN":
                kinds[key] = "by name"
            elif any(_is_odd(endpoint) for endpoint in value.get("endpoints") or ()):
                kinds[key] = "odd targets"
    return kinds


def _is_odd(endpoint: dict[str, Any]) -> bool:
    """Tell whether an endpoint's target can't give it a name: it is no Pod, or its name is no label."""
    target = endpoint.get("targetRef")
    return target is not None and (target["kind"] != "Pod" or "." in target["name"])


def _lost(some: Iterator[Name], value: dict[str, Any], known: set[str], zone: str) -> Iterator[Name]:
    """Mark names of a namespace that has no Namespace object (any more)."""
    namespace = value["metadata"]["namespace"]
    if namespace in known:
        yield from some
        return
    yield Name(f"{namespace}.svc.{zone}", "lost namespace")
    yield Name(f"{namespace}.pod.{zone}", "lost pod namespace")
    for name in some:
        yield Name(name.text, name.kind if "reverse" in name.kind else f"lost {name.kind}")


def _of_service(value: dict[str, Any], kinds: dict[tuple[str, str], str], zone: str) -> Iterator[Name]:
    meta, spec = value["metadata"], value["spec"]
    kind = kinds[meta["namespace"], meta["name"]]
    base = f"{meta['name']}.{meta['namespace']}.svc.{zone}"
    yield Name(base, kind)
    yield from _of_ports(base, kind, spec.get("ports") or [])
    for text in ("no-such-host", "*", "127-0-0-1"):
        yield Name(f"{text}.{base}", "neighbour" if kind != "alias" else "below alias")
    yield Name(f"x._http._tcp.{base}", "too deep")
    yield Name(f"pin._zone.{base}", "neighbour")
    for address in spec.get("clusterIPs") or ():
        if address != "None":
            yield from _of_address(address, "cluster")


def _of_ports(base: str, kind: str, ports: list[dict[str, Any]]) -> Iterator[Name]:
    for protocol in ("tcp", "udp", "sctp"):
        there = any(port.get("protocol", "TCP").lower() == protocol and port.get("name") for port in ports)
        yield Name(f"_{protocol}.{base}", "protocol" if there and kind != "alias" else "neighbour")
        yield Name(f"_no-such-port._{protocol}.{base}", "neighbour")
    yield Name(f"_._tcp.{base}", "any port")
    for port in ports:
        name, protocol = port.get("name") or "", port.get("protocol", "TCP").lower()
        if name and len(name) < 63:
            yield Name(f"_{name}._{protocol}.{base}", f"port of {kind}")
            yield Name(f"_{name}._{'udp' if protocol == 'tcp' else 'tcp'}.{base}", "other protocol")
            yield Name(f"{name}.{protocol}.{base}", "port without underscores")
            yield Name(f"_{name}.{base}", "neighbour")
        yield Name(f"_{port['port']}._{protocol}.{base}", "port number")


def _of_slice(value: dict[str, Any], kinds: dict[tuple[str, str], str], zone: str) -> Iterator[Name]:
    meta = value["metadata"]
    owner = meta.get("labels", {}).get("kubernetes.io/service-name", "")
    kind = kinds.get((meta["namespace"], owner), "none")
    base = f"{owner or 'unlabelled'}.{meta['namespace']}.svc.{zone}"
    for port in value.get("ports") or ():
        if port.get("name") and len(port["name"]) < 63:
            yield Name(f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{base}", f"port of {kind}")
    for endpoint in value.get("endpoints") or ():
        ready = endpoint.get("conditions", {}).get("ready", True)
        named = "endpoint" if ready else "unready endpoint"
        if kind in {"none", "alias"}:
            named = f"orphan {named}"
        if _is_odd(endpoint):
            named = f"odd {named}"
        target = (endpoint.get("targetRef") or {}).get("name", "")
        if target:
            yield Name(f"{target}.{base}", f"pod name of {kind}")
        for address in endpoint["addresses"]:
            if value["addressType"] == "FQDN":
                yield Name(f"{dashed(address)}.{base}", "endpoint by name")
                continue
            host = endpoint.get("hostname") or dashed(address)
            yield Name(f"{host}.{base}", f"{named} of {kind}")
            yield Name(f"{dashed(address)}.{base}", f"address of {kind}")
            yield Name(f"x.{host}.{base}", "below endpoint")
            pod = "zero endpoint" if address.endswith("::") else named
            yield Name(f"{dashed(address)}.{meta['namespace']}.pod.{zone}", f"pod of {pod}")
            yield from _of_address(address, named)


def _of_address(address: str, kind: str) -> Iterator[Name]:
    name = reverse(address)
    yield Name(name, f"reverse of {kind}")
    labels = name.split(".")
    middle = len(labels) // 2
    yield Name(".".join(labels[1:]), "reverse inner")
    yield Name(".".join(labels[middle:]), "reverse inner")
    yield Name(f"x.{name}", "below reverse")
    last = "9" if labels[0] != "9" else "7"
    yield Name(".".join((last, *labels[1:])), "reverse neighbour")


def _of_reverse_zones() -> Iterator[Name]:
    for zone in REVERSE_ZONES:
        yield from (Name(zone, "reverse apex"), Name(f"ns.dns.{zone}", "reverse ns.dns"))
        yield from (Name(f"svc.{zone}", "reverse svc"), Name(f"dns-version.{zone}", "reverse dns-version"))
        for text in ("x", "pod", "web.shop.svc", "1.2.3.4.5", "0", "300.1.1.1", "01.0.96.10", "dns"):
            yield Name(f"{text}.{zone}", "reverse neighbour")


def names(objects: Iterable[dict[str, Any]], zone: str = "cluster.local") -> list[Name]:
    """Return every name worth asking, each once; of several descriptions the first is kept."""
    everything = list(objects)
    kinds = _kinds(everything)
    known = {value["metadata"]["name"] for value in everything if value["kind"] == "Namespace"}
    found: dict[str, Name] = {}

    def add(some: Iterable[Name]) -> None:
        for name in some:
            if name.text in found and "neighbour" in found[name.text].kind:
                found[name.text] = name  # what exists wins over what was thought not to
            if len(name.text) <= 253 and all(0 < len(label) <= 63 for label in name.text.split(".")):
                found.setdefault(name.text, name)

    add(_of_zone(zone))
    add(_of_reverse_zones())
    for value in everything:
        if value["kind"] == "Namespace":
            add(_of_namespace(value["metadata"]["name"], zone))
        elif value["kind"] == "Service":
            add(_lost(_of_service(value, kinds, zone), value, known, zone))
    for value in everything:
        if value["kind"] == "EndpointSlice":
            add(_lost(_of_slice(value, kinds, zone), value, known, zone))
    return list(found.values())


def questions(
    some: Iterable[Name], rng: random.Random, types: tuple[str, ...] = TYPES
) -> Iterator[tuple[Name, Question]]:
    """Give every name with every type; one question in ten in mixed case, over TCP, or without EDNS."""
    for name in some:
        for type_ in types:
            way = rng.random()
            text = mixed_case(name.text, rng) if way < 0.1 else name.text
            size = 0 if 0.1 <= way < 0.2 else 4096
            yield name, Question(text, type_, size, tcp=0.2 <= way < 0.25)
