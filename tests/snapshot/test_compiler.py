from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.objects import Endpoint, EndpointSlice, Namespace, Port, Service
from agent.cluster.store import Store
from agent.records.names import to_text, to_wire
from agent.records.zone import Profile
from agent.snapshot.compiler import Compiler, digest, zones_of
from agent.wire import node
from agent.wire.table import AnswerTable
from tests.snapshot.clusters import random_change, stored
from tests.view import message, zone

HTTP = Port("http", "TCP", 80)
IP = bytes((10, 0, 0))


class Cluster:
    """A store and a table in step, driven by hand."""

    def __init__(self, profile=None, *, needs_namespace=False):
        self.profile = profile or Profile(ns_addresses=(bytes((169, 254, 20, 10)),))
        self.store = Store(needs_namespace=needs_namespace)
        self.reset()

    def reset(self):
        self.table = AnswerTable(zones_of(self.profile))
        self.compiler = Compiler(self.profile, self.table)
        self.compiler.declare_zones()

    def put(self, *values):
        for value in values:
            self.store.upsert(stored(value))
        return self.settle()

    def settle(self):
        while (found := self.store.take_dirty_namespace()) is not None:
            self.compiler.namespace(found[0], exists=found[1])
        while (dirty := self.store.take_dirty()) is not None:
            self.compiler.owner(*dirty)
        return self

    @property
    def zone(self):
        return zone(self.table)

    def additional(self, name):
        key = to_wire(name)
        found = node.rrset(self.table.find(key), 33)
        return sorted(f"{each.name} {rdata}" for each in message(key, found).additional for rdata in each)


def slice_of(*endpoints, service="db", ports=(HTTP,), name="db-1"):
    return EndpointSlice("shop", name, service, ports, endpoints)


def test_every_zone_has_its_apex_its_server_and_its_version():
    found = Cluster(
        Profile(zones=("cluster.local", "west.example"), ns_addresses=(bytes((169, 254, 20, 10)), b"\xfd" + bytes(15)))
    ).zone
    for apex in ("cluster.local.", "west.example."):
        assert found[apex] == {"NS": [f"ns.dns.{apex}"]}
        assert found[f"ns.dns.{apex}"] == {"A": ["169.254.20.10"], "AAAA": ["fd00::"]}
        assert found[f"dns.{apex}"] == {}
        assert found[f"dns-version.{apex}"] == {"TXT": ['"1.1.0"']}
        assert found[f"svc.{apex}"] == {}
        assert f"pod.{apex}" not in found


def test_a_clusterip_service_has_addresses_srv_and_ptr():
    cluster = Cluster().put(
        Namespace("shop"),
        Service(
            "shop", "web", cluster_ips=(IP + b"\x05", b"\xfd" + bytes(14) + b"\x05"), ports=(HTTP, Port("", "TCP", 81))
        ),
    )
    found = cluster.zone
    assert found["web.shop.svc.cluster.local."] == {
        "A": ["10.0.0.5"],
        "AAAA": ["fd00::5"],
        "SRV": ["0 25 80 web.shop.svc.cluster.local.", "0 25 81 web.shop.svc.cluster.local."],
    }
    assert found["_http._tcp.web.shop.svc.cluster.local."] == {"SRV": ["0 50 80 web.shop.svc.cluster.local."]}
    assert found["_tcp.web.shop.svc.cluster.local."] == {}
    assert found["5.0.0.10.in-addr.arpa."] == {"PTR": ["web.shop.svc.cluster.local."]}
    assert found["0.0.10.in-addr.arpa."] == {}
    assert found["5." + "0." * 29 + "d.f.ip6.arpa."] == {"PTR": ["web.shop.svc.cluster.local."]}
    assert cluster.additional("_http._tcp.web.shop.svc.cluster.local.") == [
        "web.shop.svc.cluster.local. 10.0.0.5",
        "web.shop.svc.cluster.local. fd00::5",
    ]


def test_a_headless_service_has_every_ready_endpoint_by_name():
    cluster = Cluster().put(
        Namespace("shop"),
        Service("shop", "db", headless=True, ports=(HTTP,)),
        slice_of(
            Endpoint((IP + b"\x01",), "db-0"),
            Endpoint((IP + b"\x02",), "", "db-pod"),
            Endpoint((IP + b"\x01",), "db-0"),
        ),
    )
    found = cluster.zone
    assert found["db.shop.svc.cluster.local."] == {
        "A": ["10.0.0.1", "10.0.0.2"],
        "SRV": ["0 33 80 10-0-0-2.db.shop.svc.cluster.local.", "0 33 80 db-0.db.shop.svc.cluster.local."],
    }
    assert found["db-0.db.shop.svc.cluster.local."] == {"A": ["10.0.0.1"]}
    assert found["10-0-0-2.db.shop.svc.cluster.local."] == {"A": ["10.0.0.2"]}
    assert found["1.0.0.10.in-addr.arpa."] == {"PTR": ["db-0.db.shop.svc.cluster.local."]}
    assert cluster.additional("db.shop.svc.cluster.local.") == [
        "10-0-0-2.db.shop.svc.cluster.local. 10.0.0.2",
        "db-0.db.shop.svc.cluster.local. 10.0.0.1",
    ]


def test_endpoint_pod_names_name_endpoints_without_a_hostname():
    cluster = Cluster(Profile(endpoint_pod_names=True)).put(
        Service("shop", "db", headless=True), slice_of(Endpoint((IP + b"\x02",), "", "db-pod"))
    )
    assert cluster.zone["db-pod.db.shop.svc.cluster.local."] == {"A": ["10.0.0.2"]}


def test_monzo_2017_a_headless_service_without_ready_endpoints_does_not_exist_and_harms_nobody():
    cluster = Cluster().put(
        Service("shop", "db", headless=True, ports=(HTTP,)), Service("shop", "web", cluster_ips=(IP + b"\x05",))
    )
    assert "db.shop.svc.cluster.local." not in cluster.zone
    assert cluster.zone["web.shop.svc.cluster.local."] == {"A": ["10.0.0.5"]}


def test_a_clusterip_service_without_endpoints_answers_unless_told_not_to():
    service = Service("shop", "web", cluster_ips=(IP + b"\x05",), ports=(HTTP,))
    assert "web.shop.svc.cluster.local." in Cluster().put(service).zone
    assert "web.shop.svc.cluster.local." not in Cluster(Profile(ignore_empty_service=True)).put(service).zone


def test_noendpoints_leaves_out_every_endpoint():
    cluster = Cluster(Profile(noendpoints=True)).put(
        Service("shop", "db", headless=True), slice_of(Endpoint((IP + b"\x01",), "db-0"))
    )
    assert not [name for name in cluster.zone if "db" in name]


def test_an_external_name_is_an_alias_and_an_address_as_external_name_is_nothing():
    cluster = Cluster().put(
        Service("shop", "out", external_name="db.example.com"),
        Service("shop", "ip", external_name="10.1.2.3"),
    )
    assert cluster.zone["out.shop.svc.cluster.local."] == {"CNAME": ["db.example.com."]}
    assert node.head(cluster.table.find(to_wire("out.shop.svc.cluster.local")))[0] & node.CNAME_NODE
    assert "ip.shop.svc.cluster.local." not in cluster.zone


def test_an_existing_namespace_exists_without_any_service_and_goes_with_the_last_of_both():
    cluster = Cluster(Profile(pods="insecure")).put(Namespace("shop"))
    assert cluster.zone["shop.svc.cluster.local."] == {}
    assert cluster.zone["shop.pod.cluster.local."] == {}
    cluster.put(Service("shop", "web", cluster_ips=(IP + b"\x05",)))
    cluster.store.delete("Namespace", "shop")
    assert "shop.svc.cluster.local." in cluster.settle().zone
    assert "shop.pod.cluster.local." not in cluster.zone
    cluster.store.delete("Service", "shop/web")
    assert "shop.svc.cluster.local." not in cluster.settle().zone


def test_one_address_of_two_services_has_one_ptr_each_until_a_service_address_hides_them():
    cluster = Cluster().put(
        Service("shop", "db", headless=True),
        Service("shop", "all", headless=True),
        slice_of(Endpoint((IP + b"\x01",), "db-0")),
        slice_of(Endpoint((IP + b"\x01",), "db-0"), service="all", name="all-1"),
    )
    both = {"PTR": ["db-0.all.shop.svc.cluster.local.", "db-0.db.shop.svc.cluster.local."]}
    assert cluster.zone["1.0.0.10.in-addr.arpa."] == both
    cluster.put(Service("shop", "web", cluster_ips=(IP + b"\x01",)))
    assert cluster.zone["1.0.0.10.in-addr.arpa."] == {"PTR": ["web.shop.svc.cluster.local."]}
    cluster.store.delete("Service", "shop/web")
    assert cluster.settle().zone["1.0.0.10.in-addr.arpa."] == both


def test_verified_pods_are_the_addresses_of_known_endpoints_of_that_namespace():
    cluster = Cluster(Profile(pods="verified")).put(
        Namespace("shop"), Service("shop", "db", headless=True), slice_of(Endpoint((IP + b"\x01",), "db-0"))
    )
    assert cluster.zone["10-0-0-1.shop.pod.cluster.local."] == {"A": ["10.0.0.1"]}
    cluster.put(slice_of())
    assert "10-0-0-1.shop.pod.cluster.local." not in cluster.zone
    assert cluster.zone["shop.pod.cluster.local."] == {}


def test_with_namespace_labels_a_service_counts_while_its_namespace_does():
    cluster = Cluster(needs_namespace=True).put(Service("shop", "web", cluster_ips=(IP + b"\x05",)))
    assert "web.shop.svc.cluster.local." not in cluster.zone
    cluster.put(Namespace("shop"))
    assert "web.shop.svc.cluster.local." in cluster.zone
    cluster.store.delete("Namespace", "shop")
    assert "web.shop.svc.cluster.local." not in cluster.settle().zone


def test_a_name_that_would_be_too_long_is_left_out_and_counted():
    zone_name = ".".join(["z" * 62, "y" * 62])
    cluster = Cluster(Profile(zones=(zone_name,))).put(
        Service("n" * 63, "s" * 63, cluster_ips=(IP + b"\x05",)), Service("n", "s", cluster_ips=(IP + b"\x06",))
    )
    assert cluster.compiler.left_out == 1
    assert f"s.n.svc.{zone_name}." in cluster.zone
    assert "5.0.0.10.in-addr.arpa." not in cluster.zone


def test_an_answer_that_would_not_fit_a_message_is_cut_to_whole_records():
    ports = (HTTP, Port("metrics", "TCP", 81))
    endpoints = [Endpoint((bytes((10, n >> 16, n >> 8 & 255, n & 255)),), f"host-{n}") for n in range(4500)]
    cluster = Cluster().put(Service("shop", "db", headless=True), slice_of(*endpoints, ports=ports))
    for each in node.rrsets(cluster.table.find(to_wire("db.shop.svc.cluster.local"))):
        assert len(each.answer) + len(each.additional) <= node.MAX_ANSWER_BYTES
        assert each.ancount > 500
        assert each.flags & node.CUT
    assert cluster.compiler.left_out == 4


def test_only_what_changed_is_put():
    cluster = Cluster().put(
        Service("shop", "db", headless=True),
        slice_of(Endpoint((IP + b"\x01",), "db-0"), Endpoint((IP + b"\x02",), "db-1")),
    )
    cluster.compiler.take_changes()
    cluster.put(slice_of(Endpoint((IP + b"\x01",), "db-0"), Endpoint((IP + b"\x03",), "db-1")))
    changed = cluster.compiler.take_changes()
    assert {to_text(key) for key in changed} == {
        "db.shop.svc.cluster.local.",
        "_http._tcp.db.shop.svc.cluster.local.",
        "db-1.db.shop.svc.cluster.local.",
        "2.0.0.10.in-addr.arpa.",
        "3.0.0.10.in-addr.arpa.",
    }


def test_the_digest_tells_profiles_apart():
    assert digest(Profile()) == digest(Profile())
    assert digest(Profile()) != digest(Profile(ttl_s=6))


@pytest.mark.parametrize("pods", ["disabled", "verified"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), gated=st.booleans())
def test_any_sequence_of_changes_leaves_the_table_that_its_end_makes(seed, steps, gated, pods):
    rng = random.Random(seed)
    profile = Profile(zones=("cluster.local", "b.example"), pods=pods, ns_addresses=(IP + b"\x63",))
    cluster = Cluster(profile, needs_namespace=gated)
    for _ in range(steps):
        kind, key, value = random_change(rng)
        if value is None:
            cluster.store.delete(kind, key)
        else:
            cluster.store.upsert(value)
        if rng.random() < 0.5:
            cluster.settle()
    held = dict(cluster.settle().table.items())
    fresh = Cluster(profile, needs_namespace=gated)
    for value in cluster.store.objects():
        fresh.store.upsert(value)
    assert dict(fresh.settle().table.items()) == held
    # And each empty non-terminal is one: something is below every name without data.
    names = set(held)
    for key, value in held.items():
        flags, n, _, children = node.head(value)
        below = sum(1 for other in names if len(other) > 1 and other[other[0] + 1 :] == key)
        assert children == below or key in cluster.compiler._apexes
        assert n or flags or children
