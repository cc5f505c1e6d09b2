"""Own zones: what is answered at which name, and how the state of the snapshot shows (dns.md sections 1 and 2)."""

from __future__ import annotations

import dns.rcode
import pytest

from agent.records.names import IN_ADDR_ARPA, to_wire
from agent.server.zones import undashed
from agent.wire import node
from agent.wire.node import CNAME_NODE
from tests.server.tables import (
    CLIENT,
    EXPIRED_NOW,
    FRESH_NOW,
    LOST_NOW,
    MANY,
    NOT_READY_NOW,
    STALE_NOW,
    addresses,
    ask,
    extended_error,
    has_flag,
    opt,
    query,
    rdatas,
    read,
    responder,
    short,
)

WEB = short("web")
AGE = "age=1843s generation=812"
POSTURES = {"fresh": FRESH_NOW, "lost": LOST_NOW, "stale": STALE_NOW}


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        (WEB, "A", ["10.0.0.1"]),
        (WEB, "AAAA", ["fd00::1"]),
        (WEB, "SRV", [f"0 100 80 {WEB}."]),
        ("_http._tcp." + WEB, "SRV", [f"0 100 80 {WEB}."]),
        ("1.0.0.10.in-addr.arpa", "PTR", [WEB + "."]),
        (".".join("1" + "0" * 27 + "00df") + ".ip6.arpa", "PTR", [WEB + "."]),
        ("cluster.local", "NS", ["ns.dns.cluster.local."]),
        ("cluster.local", "SOA", ["ns.dns.cluster.local. hostmaster.cluster.local. 812 7200 1800 86400 5"]),
        ("in-addr.arpa", "SOA", ["ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 812 7200 1800 86400 5"]),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
        ("ns.dns.cluster.local", "A", ["10.0.0.10"]),
    ],
)
@pytest.mark.parametrize("posture", POSTURES.values(), ids=POSTURES.keys())
@pytest.mark.parametrize("tcp", [False, True])
def test_names_are_answered_in_every_state_that_was_in_sync_once(name, qtype, expected, posture, tcp):
    served = responder(posture)
    for _ in range(2):
        reply = ask(served, name, qtype, tcp=tcp)
        assert (reply.rcode(), has_flag(reply, "AA"), has_flag(reply, "RA"), rdatas(reply)) == (
            0,
            True,
            False,
            expected,
        )


@pytest.mark.parametrize("tcp", [False, True])
def test_additional_addresses_follow_srv_and_ns(tcp: bool):
    served = responder()
    glue = ask(served, "_http._tcp." + WEB, "SRV", opt(), tcp=tcp).additional[0]
    assert (glue.name.to_text(), glue[0].to_text()) == (WEB + ".", "10.0.0.1")
    glue = ask(served, "cluster.local", "NS", tcp=tcp).additional[0]
    assert (glue.name.to_text(), glue[0].to_text()) == ("ns.dns.cluster.local.", "10.0.0.10")


@pytest.mark.parametrize("name", ["svc.cluster.local", "default.svc.cluster.local", "_tcp." + WEB, "10.in-addr.arpa"])
def test_empty_non_terminals_are_nodata(name: str):
    reply = ask(responder(), name)
    assert (reply.rcode(), reply.answer, len(reply.authority)) == (0, [], 1)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("extra", [b"", opt()])
def test_the_order_of_addresses_rotates_through_every_record(tcp: bool, extra: bytes):
    served = responder()
    seen = [rdatas(ask(served, short("many"), "A", extra, tcp=tcp)) for _ in range(len(MANY))]
    assert {order[0] for order in seen} == set(MANY)
    for order in seen:
        assert sorted(order) == sorted(MANY)


def test_rotation_of_two_names_asked_in_turns_is_independent_of_the_memo():
    served = responder()
    firsts = {name: set() for name in ("many", "turning")}
    for _ in range(4 * len(MANY)):
        for name, seen in firsts.items():
            seen.add(rdatas(ask(served, short(name)))[-1])
    assert len(firsts["many"]) > 1
    assert len(firsts["turning"]) > 1


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("alias", "A", [WEB + ".", "10.0.0.1"]),
        ("alias", "AAAA", [WEB + ".", "fd00::1"]),
        ("alias", "CNAME", [WEB + "."]),
        ("alias", "SRV", [WEB + ".", f"0 100 80 {WEB}."]),
        ("double", "A", [short("alias") + ".", WEB + ".", "10.0.0.1"]),
        ("ports", "SRV", [f"_http._tcp.{WEB}.", f"0 100 80 {WEB}."]),
        ("apex", "SOA", ["cluster.local.", "ns.dns.cluster.local. hostmaster.cluster.local. 812 7200 1800 86400 5"]),
        ("apex", "NS", ["cluster.local.", "ns.dns.cluster.local."]),
        ("hop1", "A", [*(short(f"hop{n}") + "." for n in range(2, 10)), "10.0.0.7"]),
    ],
)
@pytest.mark.parametrize("posture", POSTURES.values(), ids=POSTURES.keys())
def test_an_alias_is_followed_inside_own_zones(name, qtype, expected, posture):
    served = responder(posture, udp_size_bytes=4096)
    for _ in range(2):
        reply = ask(served, short(name), qtype, opt(4096))
        assert (reply.rcode(), rdatas(reply), reply.authority) == (0, expected, [])
        owners = [rrset.name.to_text() for rrset in reply.answer]
        assert owners == [short(name) + ".", *expected[: len(owners) - 1]]
        for glue in reply.additional:
            assert glue.name.to_text() in {WEB + ".", "ns.dns.cluster.local."}


def test_an_alias_that_turns_still_rotates():
    served = responder()
    seen = {rdatas(ask(served, short("turning")))[1] for _ in range(len(MANY))}
    assert seen == set(MANY)


@pytest.mark.parametrize("name", ["ping", "hop0"])
def test_a_loop_or_more_than_8_aliases_is_servfail(name: str):
    reply = ask(responder(STALE_NOW), short(name), extra=opt())
    assert (reply.rcode(), reply.answer) == (dns.rcode.SERVFAIL, [])
    assert extended_error(reply) == (0, "more than 8 aliases")


@pytest.mark.parametrize(("name", "target"), [("outside", "www.example.com."), ("backwards", "9.9.9.10.in-addr.arpa.")])
def test_an_alias_out_of_own_zones_is_answered_alone(name: str, target: str):
    reply = ask(responder(), short(name))
    assert (reply.rcode(), rdatas(reply), reply.authority) == (0, [target], [])


@pytest.mark.parametrize(("name", "qtype", "rcode"), [("dangling", "A", 3), ("alias", "TXT", 0), ("apex", "A", 0)])
def test_a_negative_end_of_an_alias_has_the_alias_the_rcode_of_its_end_and_soa(name: str, qtype: str, rcode: int):
    for posture in POSTURES.values():
        reply = ask(responder(posture), short(name), qtype, opt())
        assert (reply.rcode(), len(reply.answer)) == (rcode, 1)
        assert reply.authority[0].name.to_text() == "cluster.local."


def test_an_alias_node_without_a_cname_is_servfail_and_counted():
    served = responder()
    served.table.put(to_wire(short("bad")), node.encode(flags=CNAME_NODE, rrsets=addresses("10.0.0.1")))
    assert rdatas(ask(served, short("bad"))) == ["10.0.0.1"]
    assert ask(served, short("bad"), "TXT").rcode() == dns.rcode.SERVFAIL
    assert served.counters.damaged_nodes == 1


def test_a_damaged_node_is_servfail_and_counted():
    served = responder()
    whole = node.encode(rrsets=addresses("10.0.0.1"))
    served.table.put(to_wire(short("bad")), whole[:12])
    for qtype in ("A", "TXT", "ANY", 1234):
        assert ask(served, short("bad"), qtype).rcode() == dns.rcode.SERVFAIL
    served.table.put(to_wire(short("bad")), node.encode(zone=77))
    assert ask(served, short("bad"), "TXT").rcode() == dns.rcode.SERVFAIL
    assert served.counters.damaged_nodes == 5


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────
OWN = [(WEB, "A"), (short("gone"), "A"), ("1.0.0.10.in-addr.arpa", "PTR"), ("9.9.9.10.in-addr.arpa", "PTR")]


@pytest.mark.parametrize(("name", "qtype"), [*OWN, ("x.ip6.arpa", "PTR")])
@pytest.mark.parametrize("tcp", [False, True])
def test_never_synced_is_servfail_with_ede_14_and_never_nxdomain(name: str, qtype: str, tcp: bool):
    served = responder(NOT_READY_NOW)
    for _ in range(2):
        reply = ask(served, name, qtype, opt(), tcp=tcp)
        assert (reply.rcode(), reply.answer, extended_error(reply)) == (2, [], (14, "no snapshot yet"))
        assert ask(served, name, qtype, tcp=tcp).edns == -1
    assert sum(served.counters.answers.values()) == 0


@pytest.mark.parametrize(("name", "qtype"), OWN)
def test_older_than_max_stale_is_servfail_with_ede_22(name: str, qtype: str):
    served = responder(EXPIRED_NOW)
    for _ in range(2):
        reply = ask(served, name, qtype, opt())
        assert (reply.rcode(), extended_error(reply)) == (2, (22, "age=99999s generation=812"))


@pytest.mark.parametrize("tcp", [False, True])
def test_a_lost_source_lowers_ttls_and_marks_nothing_yet(tcp: bool):
    served = responder(LOST_NOW)
    for _ in range(2):
        for name, qtype, ttl in (
            ("dns-version.cluster.local", "TXT", 30),
            (short("version"), "A", 30),
            (WEB, "A", 5),
        ):
            reply = ask(served, name, qtype, opt(), tcp=tcp)
            assert [rrset.ttl for rrset in reply.answer] == [ttl]
            assert extended_error(reply) is None
    assert ask(responder(), "dns-version.cluster.local", "TXT").answer[0].ttl == 28_800


def test_a_cap_below_the_soas_ttl_lowers_it_and_additional_records_too():
    served = responder(LOST_NOW._replace(ttl_cap_s=2))
    for _ in range(2):
        soa = ask(served, short("gone")).authority[0]
        assert (soa.ttl, soa[0].minimum) == (2, 2)
        reply = ask(served, "_http._tcp." + WEB, "SRV")
        assert {rrset.ttl for rrset in (*reply.answer, *reply.additional)} == {2}
        assert {rrset.ttl for rrset in ask(served, short("alias")).answer} == {2}


@pytest.mark.parametrize(
    ("name", "qtype", "mark"),
    [
        (WEB, "A", 3),
        (WEB, "TXT", 3),
        (short("alias"), "A", 3),
        (short("outside"), "A", 3),
        (short("gone"), "A", 19),
        (short("dangling"), "A", 19),
        ("cluster.local", "SOA", 3),
        (short("many"), "A", 3),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
def test_a_stale_answer_says_so_to_a_client_with_edns(name: str, qtype: str, mark: int, tcp: bool):
    served = responder(STALE_NOW)
    for _ in range(3):
        assert extended_error(ask(served, name, qtype, opt(), tcp=tcp)) == (mark, AGE)
        plain = ask(served, name, qtype, tcp=tcp)
        assert plain.edns == -1
    assert served.counters.answers["fresh"] == 0
    served.settle()
    assert served.counters.answers["stale"] == 6


def test_a_stale_answer_says_its_age_of_the_moment():
    served = responder(STALE_NOW)
    assert extended_error(ask(served, WEB, extra=opt())) == (3, AGE)
    served.posture = STALE_NOW._replace(age_s=1844)
    assert extended_error(ask(served, WEB, extra=opt())) == (3, "age=1844s generation=812")
    served.posture = FRESH_NOW
    assert extended_error(ask(served, WEB, extra=opt())) is None


def test_names_outside_own_zones_do_not_depend_on_the_state():
    for posture in (NOT_READY_NOW, STALE_NOW, EXPIRED_NOW, FRESH_NOW):
        served = responder(posture)
        assert ask(served, "example.com", extra=opt()).rcode() == dns.rcode.REFUSED
        assert rdatas(ask(served, "localhost")) == ["127.0.0.1"]
        assert sum(served.counters.answers.values()) == 0


def test_a_name_not_ours_is_refused_with_ede_20():
    served = responder()
    for name in ("example.com", "local", ".", "xcluster.local", "\\007cluster\\005local"):
        reply = ask(served, name, extra=opt())
        assert (reply.rcode(), has_flag(reply, "AA")) == (dns.rcode.REFUSED, False)
        assert extended_error(reply) == (20, "not an own zone, and nowhere to forward to")


def test_the_octets_of_a_zone_inside_a_label_are_no_zone():
    served = responder()
    name = b"\x17a\x07cluster\x05local" + b"b" * 8 + b"\x00"
    assert read(served.respond(query(name), CLIENT, tcp=False)).rcode() == dns.rcode.REFUSED
    inside = b"\x0fx\x07cluster\x05local\x00"
    assert len(inside) == inside[0] + 2
    assert read(served.respond(query(inside), CLIENT, tcp=False)).rcode() == dns.rcode.REFUSED


# ── fallthrough ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_reverse_trees_fall_through_to_special_names_and_then_to_not_ours():
    served = responder()
    for tcp in (False, False, True):
        private = ask(served, "9.9.9.10.in-addr.arpa", "PTR", tcp=tcp)
        assert (private.rcode(), private.authority[0].name.to_text()) == (3, "10.in-addr.arpa.")
        assert ask(served, "8.8.8.8.in-addr.arpa", "PTR", tcp=tcp).rcode() == dns.rcode.REFUSED


def test_without_fallthrough_a_reverse_zone_denies_names():
    served = responder(fallthrough=frozenset())
    for tcp in (False, False, True):
        for name in ("9.9.9.10.in-addr.arpa", "8.8.8.8.in-addr.arpa"):
            reply = ask(served, name, "PTR", tcp=tcp)
            assert (reply.rcode(), reply.authority[0].name.to_text()) == (3, "in-addr.arpa.")


def test_fallthrough_can_name_a_cluster_zone_and_a_name_that_exists_stays_ours():
    served = responder(fallthrough=frozenset({to_wire("cluster.local"), IN_ADDR_ARPA}))
    for _ in range(2):
        assert ask(served, short("gone")).rcode() == dns.rcode.REFUSED
        assert ask(served, WEB, "TXT").rcode() == dns.rcode.NOERROR
        assert rdatas(ask(served, short("dangling"))) == [short("gone") + "."]


# ── pods ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("label", "qtype", "rcode", "expected"),
    [
        ("10-1-2-3", "A", 0, ["10.1.2.3"]),
        ("10-1-2-3", "AAAA", 0, []),
        ("10-1-2-3", "ANY", 0, ["10.1.2.3"]),
        ("fd00--1", "AAAA", 0, ["fd00::1"]),
        ("fd00--1", "A", 0, []),
        ("fd00-0-0-0-0-0-0-1", "AAAA", 0, ["fd00::1"]),
        ("10-1-2", "A", 3, []),
        ("10-1-2-256", "A", 3, []),
        ("web", "A", 3, []),
        ("x.10-1-2-3", "A", 3, []),
    ],
)
def test_insecure_pod_records_are_made_from_their_names(label: str, qtype: str, rcode: int, expected: list[str]):
    served = responder(pods="insecure")
    for tcp in (False, False, True):
        reply = ask(served, f"{label}.default.pod.cluster.local", qtype, tcp=tcp)
        assert (reply.rcode(), rdatas(reply), len(reply.authority)) == (rcode, expected, not expected)


def test_pod_records_need_their_namespace_and_are_for_insecure_alone():
    assert ask(responder(pods="insecure"), "10-1-2-3.other.pod.cluster.local").rcode() == 3
    assert ask(responder(pods="insecure"), "10-1-2-3.cluster.local").rcode() == 3
    assert ask(responder(pods="insecure"), "pod.cluster.local").rcode() == 0
    for pods in ("disabled", "verified"):
        assert ask(responder(pods=pods), "10-1-2-3.default.pod.cluster.local").rcode() == 3


def test_pod_records_have_the_configured_ttl_and_its_cap():
    assert ask(responder(pods="insecure", ttl_s=60), "10-1-2-3.default.pod.cluster.local").answer[0].ttl == 60
    assert ask(responder(LOST_NOW, pods="insecure", ttl_s=60), "10-1-2-3.default.pod.cluster.local").answer[0].ttl == 30


@pytest.mark.parametrize(
    ("label", "packed"),
    [
        (b"10-1-2-3", bytes((10, 1, 2, 3))),
        (b"--1", bytes(15) + b"\x01"),
        (b"--ffff-10-1", bytes(10) + b"\xff\xff\x00\x10\x00\x01"),
        (b"1--2-3-4", bytes((0, 1)) + bytes(8) + bytes((0, 2, 0, 3, 0, 4))),
        (b"010-1-2-3", None),
        (b"10-1-2-3-", None),
        (b"10.1.2.3", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_undashed(label: bytes, packed: bytes | None):
    assert undashed(label) == packed


@pytest.mark.parametrize(("ttl_s", "expected"), [(0, 0), (3, 3), (5, 5), (60, 5)])
def test_the_soas_ttl_and_minimum_are_the_lesser_of_ttl_and_5(ttl_s: int, expected: int):
    served = responder(ttl_s=ttl_s)
    for _ in range(2):
        soa = ask(served, short("gone")).authority[0]
        assert (soa.ttl, soa[0].minimum) == (expected, expected)
