"""Every name of a random, changing cluster, asked of a real CoreDNS and of nodens on the same API server.

A difference that docs/differences-from-coredns.md does not list is a failure. What was asked and what differed is
printed, by kind.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from benchmarks.cluster_generator import Spec, churn
from benchmarks.cluster_generator import objects as generated
from tests.control_plane import nasty_cases
from tests.control_plane.api_client import MERGE, ApiError
from tests.control_plane.comparison import Tally, wanted
from tests.control_plane.control_plane import ControlPlane
from tests.control_plane.questions import TYPES, Name, names, questions
from tests.control_plane.side_by_side import examine, objects_of, wait_for_mark

if TYPE_CHECKING:
    from tests.control_plane.agent_process import Nodens
    from tests.control_plane.coredns import CoreDNS

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]

SERVICES = int(os.environ.get("NODENS_DIFFERENTIAL_SERVICES", "40"))
ALIKE = {"fallthrough": [], "edns_udp_size": 4096}
"""Unknown reverse names stay here, and large answers fit, as with CoreDNS in this set-up."""


class Populated(NamedTuple):
    """An API server and what was generated on it."""

    plane: ControlPlane
    spec: Spec


@pytest.fixture(scope="module")
def populated(control_plane_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Populated]:
    """An API server with a generated cluster and every nasty case."""
    spec = Spec(services=SERVICES, endpoints=SERVICES * 8, namespaces=8, seed=random.randrange(1 << 30))
    print(f"generated cluster: {spec}")
    with ControlPlane(tmp_path_factory.mktemp("populated")) as plane:
        plane.admin.write([*generated(spec), *nasty_cases.objects()])
        plane.admin.remove_namespace(nasty_cases.GONE_NAMESPACE)
        yield Populated(plane, spec)


def finish(tally: Tally) -> None:
    print(tally.report())
    assert not tally.unlisted, tally.report()


def test_every_name_of_a_random_changing_cluster_is_answered_alike(
    populated: Populated, start_coredns: Callable[..., CoreDNS], start_nodens: Callable[..., Nodens]
):
    plane = populated.plane
    coredns, nodens = start_coredns(plane), start_nodens(plane, **ALIKE)
    nodens.wait_connected()
    rng = random.Random(random.random())
    tally = Tally(wanted())
    ever: dict[str, Name] = {}
    changes = churn(populated.spec, 400)
    for turn in range(3):
        if turn:
            for _ in range(150):
                plane.admin.apply(*next(changes))
            nasty_cases.change(plane.admin, turn)
        wait_for_mark(plane, (coredns.port, nodens.port))
        ever.update((name.text, name) for name in names(objects_of(plane)))
        types = TYPES if turn == 0 else FEW_TYPES
        examine(tally, coredns.port, nodens.port, questions(list(ever.values()), rng, types))
        print(f"turn {turn}: {len(ever)} names, {tally.asked} questions so far")
    finish(tally)


FEW_TYPES = ("A", "AAAA", "SRV", "PTR", "TXT")
SOME_APPS = "app in (front,back,spread,both,twin-a)"
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "pods: insecure": (("pods insecure",), {"pods": "insecure"}),
    "endpoint_pod_names": (("endpoint_pod_names",), {"endpoint_pod_names": True}),
    "noendpoints": (("noendpoints",), {"noendpoints": True}),
    "ignore_empty_service": (("ignore empty_service",), {"ignore_empty_service": True}),
    "noendpoints, ignore_empty_service": (
        ("noendpoints", "ignore empty_service"),
        {"noendpoints": True, "ignore_empty_service": True},
    ),
    "labels": ((f"labels {SOME_APPS}",), {"labels": SOME_APPS}),
    "namespaces": (("namespaces nasty shop nowhere",), {"namespaces": ["nasty", "shop", "nowhere"]}),
    "namespace_labels": (("namespace_labels team=tests",), {"namespace_labels": "team=tests"}),
    "ttl: 0": (("ttl 0",), {"ttl": 0}),
    "ttl: 3600": (("ttl 3600",), {"ttl": 3600}),
}


def of_interest(plane: ControlPlane) -> list[dict[str, Any]]:
    """Return the nasty cases and the demonstration's objects; the generated mass says no more about an option."""
    places = {nasty_cases.NAMESPACE, nasty_cases.GONE_NAMESPACE, *nasty_cases.ODD_NAMESPACES, "shop", "kube-system"}
    return [
        value
        for value in objects_of(plane)
        if (value["metadata"].get("namespace") or value["metadata"]["name"]) in places
        and not value["metadata"]["name"].startswith(("catalog", "crowd"))
    ]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_answers_as_it_does_in_coredns(
    option: str, populated: Populated, start_coredns: Callable[..., CoreDNS], start_nodens: Callable[..., Nodens]
):
    lines, configuration = OPTIONS[option]
    plane = populated.plane
    coredns, nodens = start_coredns(plane, *lines), start_nodens(plane, **ALIKE, **configuration)
    nodens.wait_connected()
    tally = Tally(wanted(*option.split(", ")))
    asked = questions(names(of_interest(plane)), random.Random(option), (*FEW_TYPES, "SOA"))
    examine(tally, coredns.port, nodens.port, asked)
    finish(tally)


def test_verified_pods_are_those_of_ready_endpoints(
    populated: Populated, start_coredns: Callable[..., CoreDNS], start_nodens: Callable[..., Nodens]
):
    plane = populated.plane
    some = of_interest(plane)
    known = {value["metadata"]["name"] for value in some if value["kind"] == "Namespace"}
    for namespace, address in {("shop", "10.204.0.1"), *pod_addresses(some)}:
        if namespace in known:
            run_pod(plane, namespace, address)
    coredns = start_coredns(plane, "pods verified")
    nodens = start_nodens(plane, **ALIKE, pods="verified")
    nodens.wait_connected()
    tally = Tally(wanted("pods: verified"))
    bare = [Name("10-204-0-1.shop.pod.cluster.local", "bare pod")]
    below = [Name("x.10-204-0-1.shop.pod.cluster.local", "below pod")]
    asked = questions([*names(some), *bare, *below], random.Random(5), FEW_TYPES)
    examine(tally, coredns.port, nodens.port, asked)
    finish(tally)


def pod_addresses(some: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return namespace and address of every endpoint."""
    return {
        (value["metadata"]["namespace"], address)
        for value in some
        if value["kind"] == "EndpointSlice" and value["addressType"] != "FQDN"
        for endpoint in value["endpoints"] or ()
        for address in endpoint["addresses"]
    }


def run_pod(plane: ControlPlane, namespace: str, address: str) -> None:
    """Make a Pod that runs at an address, as kubelet would report it."""
    name = f"pod-{address.replace('.', '-').replace(':', '-')}".rstrip("-")
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "main", "image": "none"}], "automountServiceAccountToken": False}
    try:
        plane.admin.request("POST", path, {"metadata": {"name": name}, "spec": spec})
    except ApiError as error:
        if error.code != 409:
            raise
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    plane.admin.request("PATCH", f"{path}/{name}/status", {"status": status}, MERGE)


def test_several_zones_are_answered_alike(
    populated: Populated, start_coredns: Callable[..., CoreDNS], start_nodens: Callable[..., Nodens]
):
    zones = ("cluster.local", "west.example.org")
    plane = populated.plane
    coredns = start_coredns(plane, zones=(*zones, "in-addr.arpa", "ip6.arpa"))
    nodens = start_nodens(plane, **ALIKE, zones=list(zones))
    nodens.wait_connected()
    tally = Tally(wanted("several zones"))
    for zone in zones:
        asked = questions(names(of_interest(plane), zone), random.Random(zone), (*FEW_TYPES, "SOA"))
        examine(tally, coredns.port, nodens.port, asked)
    finish(tally)
