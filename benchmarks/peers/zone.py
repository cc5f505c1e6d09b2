"""What everybody serves and is asked: a generated cluster's records, and questions about them.

Law: pure; everything follows from the cluster's `Spec`. Each question carries the answer that is expected, so that a
server which is fast because it is wrong is found out.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.cluster_manifests import cluster_ip, pod_ip
from benchmarks.cluster_workloads import OUTSIDE, Spec, Workload, namespace_names, workloads

ZONE = "cluster.local"
ZONES = (ZONE, "in-addr.arpa", "ip6.arpa")
TTL_S = 3600
MAX_ADDRESSES = 20
"""A Service with more of them is not asked: its answer would not fit 512 bytes."""
MIX_QUESTIONS = 20_000
ZIPF_QUESTIONS = 50_000
ZIPF_EXPONENT = 1.0
MIXES = ("hit", "mix", "zipf")
FEW_ADDRESSES = range(2, 9)
SHARES = (("A", 60), ("AAAA", 15), ("NXDOMAIN", 10), ("few", 10), ("SRV/PTR", 5))
"""Of the realistic mix, in percent.

`few` stands where cached external names belong, which wait for the forwarder: A questions for headless Services of 2 to
8 addresses, answers of the same shape from the own zone. They cost no look at an expiry and no counting down.
"""


class Record(NamedTuple):
    """One record; names are absolute, without the last dot, and so are those in the value."""

    name: str
    type: str
    value: str


class Question(NamedTuple):
    """One question and what the answer to it must be: rcode, and number of records in the answer section."""

    name: str
    type: str
    rcode: str
    answers: int


def reverse(address: str) -> str:
    """Return the name whose PTR record an address has."""
    return ipaddress.ip_address(address).reverse_pointer


def records(spec: Spec) -> Iterator[Record]:
    """Give the records of a cluster, those of Kubernetes' DNS specification that are asked for here."""
    yield Record(f"ns.dns.{ZONE}", "A", "127.0.0.1")
    for workload in workloads(spec):
        yield from _of_workload(workload)


def _of_workload(workload: Workload) -> Iterator[Record]:
    name = f"{workload.name}.{workload.namespace}.svc.{ZONE}"
    if workload.kind == "external":
        yield Record(name, "CNAME", workload.external_name)
        return
    hosts: list[tuple[str, str, str]] = []
    for family, pod in itertools.product(workload.families, workload.pods):
        if pod.ready and not pod.terminating:
            address = pod_ip(pod.offset, family)
            label = pod.hostname or address.replace(".", "-").replace(":", "-")
            hosts.append((f"{label}.{name}", address, family))
    for host, address, family in hosts:
        yield Record(host, _address_type(family), address)
        yield Record(reverse(address), "PTR", host)
    if workload.kind == "headless":
        own = hosts
    else:
        own = [(name, cluster_ip(workload.offset, family), family) for family in workload.families]
        for _, address, _ in own:
            yield Record(reverse(address), "PTR", name)
    for _, address, family in own:
        yield Record(name, _address_type(family), address)
    targets = sorted({target for target, _, _ in own})
    for port in workload.ports:
        if port.name:
            number = port.port if workload.kind != "headless" else port.target or port.port
            for target in targets:
                yield Record(f"_{port.name}._{port.protocol.lower()}.{name}", "SRV", f"0 100 {number} {target}")


def _address_type(family: str) -> str:
    return "A" if family == "IPv4" else "AAAA"


class Names:
    """What can be asked of a set of records."""

    def __init__(self, held: Sequence[Record]) -> None:
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for record in held:
            counts[record.name, record.type] += 1
        self.counts = dict(counts)
        self.existing = {name for name, _ in counts}
        depth = ZONE.count(".") + 4
        aliases = {name for name, type_ in counts if type_ == "CNAME"}
        self.services = sorted(
            name
            for name in self.existing - aliases
            if name.endswith(".svc." + ZONE)
            and name.count(".") == depth - 1
            and 1 <= counts.get((name, "A"), 0) <= MAX_ADDRESSES
            and counts.get((name, "AAAA"), 0) <= MAX_ADDRESSES
        )
        self.few = [name for name in self.services if counts[name, "A"] in FEW_ADDRESSES]
        self.ports = sorted(name for (name, type_), count in counts.items() if type_ == "SRV" and count == 1)
        self.reverse = sorted(name for (name, type_), count in counts.items() if type_ == "PTR" and count == 1)

    def question(self, name: str, type_: str) -> Question:
        """Return a question with its answer."""
        count = self.counts.get((name, type_), 0)
        return Question(name, type_, "NOERROR" if name in self.existing else "NXDOMAIN", count)


def questions(names: Names, spec: Spec) -> dict[str, list[Question]]:
    """Return the questions of every mix.

    - `hit`: the A records of every Service that has any, ClusterIP and headless, each once, shuffled.
    - `mix`: `SHARES`, Services drawn evenly.
    - `zipf`: A records again, the n-th name asked in proportion to 1/n.
    """
    rng = random.Random(f"{spec.seed}/questions")
    hit = [names.question(name, "A") for name in names.services]
    rng.shuffle(hit)
    weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, len(hit) + 1)]
    return {
        "hit": hit,
        "mix": _mix(names, spec, rng),
        "zipf": rng.choices(hit, weights, k=ZIPF_QUESTIONS),
    }


def _mix(names: Names, spec: Spec, rng: random.Random) -> list[Question]:
    places = namespace_names(spec)
    kinds = rng.choices([kind for kind, _ in SHARES], [share for _, share in SHARES], k=MIX_QUESTIONS)
    out = []
    for kind in kinds:
        if kind == "NXDOMAIN":
            out.append(names.question(_searched(names, places, rng), rng.choice(("A", "AAAA"))))
        elif kind == "SRV/PTR":
            if rng.random() < 0.5:
                out.append(names.question(rng.choice(names.ports), "SRV"))
            else:
                out.append(names.question(rng.choice(names.reverse), "PTR"))
        elif kind == "few":
            out.append(names.question(rng.choice(names.few or names.services), "A"))
        else:
            out.append(names.question(rng.choice(names.services), kind))
    return out


def _searched(names: Names, places: Sequence[str], rng: random.Random) -> str:
    """Make a name up as a resolver with ndots:5 does: an outside name or a Service's full one, and a search path."""
    place = rng.choice(places)
    if rng.random() < 0.5:
        return f"{rng.choice(names.services)}.{place}.svc.{ZONE}"
    suffix = rng.choice((f"{place}.svc.{ZONE}", f"svc.{ZONE}", ZONE))
    return f"host-{rng.randrange(100)}.{rng.choice(OUTSIDE)}.{suffix}"
