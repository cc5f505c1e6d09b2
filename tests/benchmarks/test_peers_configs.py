"""Configurations of the peers hold every record, in the peer's own words, and nothing beyond the loopback."""

from __future__ import annotations

import re

import dns.rdatatype
import dns.zone
import pytest

from benchmarks.cluster_generator import Spec
from benchmarks.peers import configs
from benchmarks.peers.zone import ZONE, ZONES, Record, records, reverse

FILES = {zone: f"/zones/{zone}.zone" for zone in ZONES}
HELD = [
    Record(f"web.shop.svc.{ZONE}", "A", "10.96.10.80"),
    Record(f"web.shop.svc.{ZONE}", "AAAA", "fd00:10:96::a50"),
    Record(f"_http._tcp.web.shop.svc.{ZONE}", "SRV", f"0 100 80 web.shop.svc.{ZONE}"),
    Record(reverse("10.96.10.80"), "PTR", f"web.shop.svc.{ZONE}"),
    Record(reverse("fd00:10:96::a50"), "PTR", f"web.shop.svc.{ZONE}"),
    Record(f"mail.shop.svc.{ZONE}", "CNAME", "smtp.example.com"),
    # The name of a headless Service and its endpoint's have one address, whose PTR record names the endpoint.
    Record(f"db.shop.svc.{ZONE}", "A", "10.128.0.7"),
    Record(f"db-0.db.shop.svc.{ZONE}", "A", "10.128.0.7"),
    Record(reverse("10.128.0.7"), "PTR", f"db-0.db.shop.svc.{ZONE}"),
]


def test_zone_files_hold_what_a_parser_of_zone_files_reads_back():
    held = list(records(Spec(services=60, endpoints=300, namespaces=12)))
    files = configs.zone_files(held)
    read = set()
    for zone, text in files.items():
        parsed = dns.zone.from_text(text, origin=zone, relativize=False, check_origin=True)
        for name, _, rdata in parsed.iterate_rdatas():
            type_ = dns.rdatatype.to_text(rdata.rdtype)
            if type_ not in {"SOA", "NS"}:
                read.add((name.to_text(omit_final_dot=True), type_, rdata.to_text().removesuffix(".")))
    assert read == {(record.name, record.type, record.value) for record in held}


def test_unbound_gets_every_record_and_the_soa_of_its_zones():
    text = configs.unbound(5301, "/place", HELD)
    assert text.count("local-data:") == len(HELD) + 3
    assert f'local-data: "_http._tcp.web.shop.svc.{ZONE}. 3600 SRV 0 100 80 web.shop.svc.{ZONE}."' in text
    assert f'local-data: "web.shop.svc.{ZONE}. 3600 A 10.96.10.80"' in text
    assert "num-threads: 1" in text


def test_dnsmasq_gives_an_address_back_to_the_name_its_ptr_record_has():
    lines = configs.dnsmasq_hosts(HELD).splitlines()
    assert lines.index(f"10.128.0.7 db-0.db.shop.svc.{ZONE}") < lines.index(f"10.128.0.7 db.shop.svc.{ZONE}")
    assert f"fd00:10:96::a50 web.shop.svc.{ZONE}" in lines
    assert len(lines) == 4


def test_dnsmasq_forwards_nothing():
    text = configs.dnsmasq(5301, "/place", "/place/hosts")
    assert "no-resolv" in text
    assert "addn-hosts=/place/hosts" in text
    assert all(f"local=/{zone}/" in text for zone in ZONES)


@pytest.mark.parametrize(
    ("text", "one_worker"),
    [
        (configs.knot(5301, "/place", FILES), "udp-workers: 1"),
        (configs.nsd(5301, "/place", FILES), "server-count: 1"),
        (configs.bind(5301, "/place", FILES), "recursion no;"),
        (configs.coredns(5301, 5302, FILES), "loadbalance"),
    ],
    ids=["knot", "nsd", "bind", "coredns"],
)
def test_name_servers_serve_every_zone_on_the_loopback_alone(text, one_worker):
    assert all(path in text for path in FILES.values())
    assert "5301" in text
    assert one_worker in text
    addresses = set(re.findall(r"\d+\.\d+\.\d+\.\d+", text))
    assert addresses == {"127.0.0.1"}


def test_node_cache_forwards_what_is_not_cached_and_keeps_all_of_it():
    text = configs.node_cache(5301, 5302, 5303)
    assert "forward . 127.0.0.1:5303 {" in text
    assert "success 65536 3600" in text
    assert "denial 65536 3600" in text
    assert "file" not in text


def test_a_name_lies_in_the_zone_it_ends_in():
    assert configs.zone_of(f"web.shop.svc.{ZONE}") == ZONE
    assert configs.zone_of(reverse("fd00::1")) == "ip6.arpa"
    assert configs.zone_of(ZONE) == ZONE
