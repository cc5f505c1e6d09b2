"""What every name of a cluster must answer, worked out from the manifests by the words of the specification.

Law: independent of nodens: nothing of `agent` is used. Numbers that load balancers choose (SRV weights, order) are
left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import dns.message

from tests import witness
from tests.control_plane.dns_client import Question, ask_many, status
from tests.control_plane.questions import dashed, reverse

Rightful = Mapping[tuple[str, str], frozenset[str]]
"""(name, type) → rdata; an address, a name, or `PORT TARGET` of an SRV record."""
ZONE = "cluster.local"
TRUNCATED = 0x02
"""TC, in the third byte of the header (RFC 1035 section 4.1.1)."""


def _type_of(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def right_answers(objects: Iterable[dict[str, Any]], zone: str = ZONE) -> Rightful:
    """Return every (name, type) with data."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    services: dict[tuple[str, str], dict[str, Any]] = {}
    slices = []
    for value in objects:
        meta = value["metadata"]
        if value["kind"] == "Service":
            services[meta["namespace"], meta["name"]] = value["spec"]
        elif value["kind"] == "EndpointSlice":
            slices.append((meta["namespace"], meta["labels"]["kubernetes.io/service-name"], value))
    for (namespace, name), spec in services.items():
        base = f"{name}.{namespace}.svc.{zone}"
        if spec.get("externalName"):
            found[base, "CNAME"].add(spec["externalName"] + ".")
            continue
        for address in spec["clusterIPs"]:
            if address != "None":
                found[base, _type_of(address)].add(address)
                found[reverse(address), "PTR"].add(base + ".")
                _add_srv(found, base, spec["ports"], base)
    for namespace, owner, value in slices:
        spec = services[namespace, owner]
        is_headless = spec.get("clusterIP") == "None"
        base = f"{owner}.{namespace}.svc.{zone}"
        for endpoint in value["endpoints"] or ():
            if endpoint["conditions"].get("ready", True):
                _add_endpoint(found, base, endpoint, (value["ports"] or ()) if is_headless else None)
    return {question: frozenset(rdata) for question, rdata in found.items()}


def _add_endpoint(
    found: dict[tuple[str, str], set[str]],
    base: str,
    endpoint: dict[str, Any],
    headless_ports: Iterable[dict[str, Any]] | None,
) -> None:
    for address in endpoint["addresses"]:
        own = f"{endpoint.get('hostname') or dashed(address)}.{base}"
        found[own, _type_of(address)].add(address)
        found[reverse(address), "PTR"].add(own + ".")
        if headless_ports is not None:
            found[base, _type_of(address)].add(address)
            _add_srv(found, base, headless_ports, own)


def _add_srv(found: dict[tuple[str, str], set[str]], base: str, ports: Iterable[dict[str, Any]], target: str) -> None:
    for port in ports:
        record = f"{port['port']} {target}."
        found[base, "SRV"].add(record)
        if port.get("name"):
            found[f"_{port['name']}._{port['protocol'].lower()}.{base}", "SRV"].add(record)


def answered_rdata(packet: bytes, type_: str) -> frozenset[str]:
    """Return an answer's rdata as `Rightful` has it, or one word instead: `no answer`, NXDOMAIN, ..."""
    if not packet:
        return frozenset({"no answer"})
    message = dns.message.from_wire(packet)
    if status(message) != "NOERROR":
        return frozenset({status(message)})
    texts = {record.to_text() for rrset in message.answer for record in rrset}
    return frozenset(text.split(" ", 2)[2] for text in texts) if type_ == "SRV" else frozenset(texts)


def wrong_answers(port: int, rightful: Rightful) -> dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]]:
    """Ask everything, over TCP what UDP can't hold; returns what was answered otherwise: (answered, right)."""
    wrong, cut = {}, []
    asked = 0

    def judge(question: Question, packet: bytes) -> None:
        nonlocal asked
        asked += 1
        answered, right = answered_rdata(packet, question.type), rightful[question.name, question.type]
        if not witness.NOW.judge(question.name, answered, right):
            wrong[question.name, question.type] = answered, right

    for question, packet in ask_many(port, [Question(name, type_) for name, type_ in rightful]):
        if len(packet) > 2 and packet[2] & TRUNCATED:
            cut.append(question._replace(tcp=True))
        else:
            judge(question, packet)
    for question, packet in ask_many(port, cut):
        judge(question, packet)
    assert asked == len(rightful)
    return wrong
