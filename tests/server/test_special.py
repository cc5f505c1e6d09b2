"""Special names: answered here as their RFC says, each one overridable."""

from __future__ import annotations

import pytest

from agent.records.names import to_text, to_wire
from agent.server import special
from tests.server.tables import ask, has_flag, rdatas, responder

LOOPBACK6 = ".".join("1" + "0" * 31) + ".ip6.arpa"


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "expected"),
    [
        ("localhost", "A", 0, ["127.0.0.1"]),
        ("localhost", "AAAA", 0, ["::1"]),
        ("www.localhost", "A", 0, ["127.0.0.1"]),
        ("localhost", "TXT", 0, []),
        ("LOCALHOST", "A", 0, ["127.0.0.1"]),
        ("1.0.0.127.in-addr.arpa", "PTR", 0, ["localhost."]),
        ("1.0.0.127.in-addr.arpa", "A", 0, []),
        ("0.0.127.in-addr.arpa", "PTR", 0, []),
        ("0.127.in-addr.arpa", "PTR", 0, []),
        ("2.0.0.127.in-addr.arpa", "PTR", 3, []),
        (LOOPBACK6, "PTR", 0, ["localhost."]),
        ("invalid", "A", 3, []),
        ("x.invalid", "A", 3, []),
        ("x.test", "A", 3, []),
        ("test", "SOA", 3, []),
        ("x.onion", "A", 3, []),
        ("x.alt", "A", 3, []),
        ("home.arpa", "A", 0, []),
        ("home.arpa", "SOA", 0, ["home.arpa. nobody.invalid. 1 3600 1200 604800 10800"]),
        ("home.arpa", "NS", 0, ["home.arpa."]),
        ("printer.home.arpa", "A", 3, []),
        ("resolver.arpa", "A", 0, []),
        ("_dns.resolver.arpa", "SVCB", 0, []),
        ("resolver.arpa", "SOA", 0, ["resolver.arpa. nobody.invalid. 1 3600 1200 604800 10800"]),
        ("resolver.arpa", "NS", 0, []),
        ("localhost", "SOA", 0, ["localhost. nobody.invalid. 1 3600 1200 604800 10800"]),
        ("10.in-addr.arpa", "SOA", 0, []),
        ("168.192.in-addr.arpa", "SOA", 0, ["168.192.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10800"]),
        ("168.192.in-addr.arpa", "ANY", 0, ["168.192.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10800"]),
        ("1.1.168.192.in-addr.arpa", "PTR", 3, []),
        ("1.1.16.172.in-addr.arpa", "PTR", 3, []),
        ("1.1.31.172.in-addr.arpa", "PTR", 3, []),
        ("1.1.64.100.in-addr.arpa", "PTR", 3, []),
        ("1.d.f.ip6.arpa", "PTR", 3, []),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "NS", 0, ["8.b.d.0.1.0.0.2.ip6.arpa."]),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
def test_special_names(name: str, qtype: str, rcode: int, expected: list[str], tcp: bool):
    served = responder()
    for _ in range(2):
        reply = ask(served, name, qtype, tcp=tcp)
        assert (reply.rcode(), has_flag(reply, "AA"), rdatas(reply)) == (rcode, True, expected)
        assert [rrset.rdtype.name for rrset in reply.authority] == ([] if expected else ["SOA"])


@pytest.mark.parametrize("name", ["1.1.15.172.in-addr.arpa", "1.1.32.172.in-addr.arpa", "1.1.63.100.in-addr.arpa"])
def test_neighbours_of_private_ranges_are_not_special(name: str):
    assert ask(responder(), name, "PTR").rcode() == 5


@pytest.mark.parametrize("name", [to_text(zone) for zone in special.ZONES])
def test_each_special_name_can_be_switched_off(name: str):
    wire = to_wire(name)
    inside = b"\x09something" + wire
    served = responder(special_names={wire: False})
    for asked in (wire, inside):
        assert special.zone_of(asked, {}) == wire
        assert special.zone_of(asked, {wire: False}) is None
        if not wire.endswith(b"\x0210\x07in-addr\x04arpa\x00"):
            assert ask(served, asked, "TXT").rcode() == 5
    assert special.zone_of(inside, {wire: True}) == wire


def test_the_root_is_no_special_name():
    assert special.zone_of(b"\x00", {}) is None


def test_every_special_zone_has_a_soa_of_its_own_name_below_it():
    served = responder()
    for zone in special.ZONES:
        reply = ask(served, b"\x09something" + zone, "TXT")
        assert reply.authority[0].name.to_text() == to_text(zone)
        assert reply.authority[0].ttl == special.TTL_S
