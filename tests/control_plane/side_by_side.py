"""CoreDNS and nodens on the same API server, asked the same questions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tests.control_plane.api_client import PLURALS
from tests.control_plane.comparison import Difference, Tally, compare
from tests.control_plane.control_plane import ControlPlane
from tests.control_plane.dns_client import Question, addresses, ask_many, rdata, try_ask
from tests.control_plane.processes import wait_until
from tests.control_plane.questions import Name, reverse

ATTEMPTS = 3
_marks = itertools.count(1)
Asked = tuple[Name, Question]


def objects_of(plane: ControlPlane) -> list[dict[str, Any]]:
    """Read every object of the three kinds, as the API server has them now."""
    return [{**item, "kind": kind} for kind in PLURALS for item in plane.admin.get(kind)["items"]]


def wait_for_mark(plane: ControlPlane, ports: Iterable[int], zone: str = "cluster.local") -> None:
    """Write a Namespace, a Service and a slice and wait until every server answers all three: older changes are in."""
    number = next(_marks)
    namespace, address = f"mark-{number}", f"10.111.{number // 250}.{number % 250 + 1}"
    labels = {"team": "tests", "app": "mark"}
    meta = {"name": "mark", "namespace": namespace, "labels": labels}
    http = [{"name": "http", "port": 80, "protocol": "TCP"}]
    create = plane.admin.create
    create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": address, "ports": http}})
    create(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "labels": {**labels, "kubernetes.io/service-name": "mark"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"10.201.{number // 250}.{number % 250 + 1}"], "hostname": "host"}],
            "ports": http,
        }
    )
    name = f"mark.{namespace}.svc.{zone}"
    for port in ports:
        wait_until(f"the mark's Service at port {port}", lambda port=port: addresses(port, name) == {address})
        wait_until(f"the mark's endpoint at port {port}", lambda port=port: addresses(port, f"host.{name}"))
        wait_until(f"the mark's PTR at port {port}", lambda port=port: rdata(try_ask(port, reverse(address), "PTR")))


def examine(tally: Tally, coredns: int, nodens: int, asked: Iterable[Asked]) -> None:
    """Ask both and count differences. What differs unexpectedly is asked again: one of them may be a moment behind."""
    left = list(asked)
    tally.asked += len(left)
    for attempt in range(ATTEMPTS):
        again = []
        for name, question, differences in _differing(coredns, nodens, left):
            if attempt < ATTEMPTS - 1 and any(tally.row_for(each) is None for each in differences):
                again.append((name, question))
            else:
                tally.add(differences, question.name)
        if not again:
            return
        left = again
        time.sleep(0.5)


def _differing(coredns: int, nodens: int, asked: list[Asked]) -> Iterator[tuple[Name, Question, list[Difference]]]:
    questions = [question for _, question in asked]
    first, second = dict(ask_many(coredns, questions)), dict(ask_many(nodens, questions))
    for name, question in asked:
        one, two = first[question], second[question]
        differences = compare(name.kind, question.type, one, two)
        if _is_cut(one) or _is_cut(two):
            stream = question._replace(tcp=True)
            (_, one), (_, two) = next(ask_many(coredns, [stream])), next(ask_many(nodens, [stream]))
            differences += compare(name.kind, question.type, one, two)
        if differences:
            yield name, question, differences


def _is_cut(packet: bytes) -> bool:
    """Tell whether TC is set (RFC 1035 section 4.1.1)."""
    return len(packet) > 2 and bool(packet[2] & 2)
