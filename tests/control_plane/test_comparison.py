"""The comparison itself: it must see what differs, and want only what the list wants."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.control_plane.comparison import Difference, Tally, compare, wanted

NAME = "web.shop.svc.cluster.local."


def packet(
    *, rcode="NOERROR", flags="QR AA RD", answer=(), authority=(), additional=(), edns=True, question=NAME
) -> bytes:
    message = dns.message.make_query(question, "SRV", use_edns=0 if edns else False)
    message.flags = dns.flags.from_text(flags)
    message.set_rcode(dns.rcode.from_text(rcode))
    for section, lines in ((message.answer, answer), (message.authority, authority), (message.additional, additional)):
        section.extend(dns.rrset.from_text(*line.split(" ", 4)) for line in lines)
    return message.to_wire()


SRV = f"{NAME} 5 IN SRV 0 50 80 {NAME}"
SOA = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. {} 7200 1800 86400 5"
BASE = {"answer": (SRV,), "additional": (f"{NAME} 5 IN A 10.0.0.1",)}


@pytest.mark.parametrize(
    ("facet", "change"),
    [
        ("outcome", {"answer": (), "additional": ()}),
        ("outcome", {"rcode": "NXDOMAIN"}),
        ("answer", {"answer": (SRV.replace(" 80 ", " 81 "),)}),
        ("weight", {"answer": (SRV.replace(" 50 ", " 33 "),)}),
        ("ttl", {"answer": (SRV.replace(" 5 IN", " 30 IN"),)}),
        ("additional", {"additional": ()}),
        ("additional", {"additional": (f"{NAME} 5 IN A 10.0.0.2",)}),
        ("authority", {"authority": (SOA.format(1),)}),
        ("flags", {"flags": "QR RD"}),
        ("truncation", {"flags": "QR AA RD TC"}),
        ("edns", {"edns": False}),
    ],
)
def test_every_part_of_an_answer_is_compared(facet, change):
    found = compare("cluster", "SRV", packet(**BASE), packet(**{**BASE, **change}))
    assert [difference.facet for difference in found] == [facet]


def test_letter_case_is_compared_in_question_and_owner():
    bare, shouted = packet(), packet(question=NAME.replace("web", "WEB"))
    assert [difference.facet for difference in compare("cluster", "SRV", bare, shouted)] == ["question"]
    echoed = packet(**BASE)
    written_out = echoed.replace(b"\xc0\x0c\x00\x21", b"\3WEB\4shop\3svc\7cluster\5local\0\x00\x21", 1)
    assert [difference.facet for difference in compare("cluster", "SRV", echoed, written_out)] == ["owner case"]


def test_the_serial_and_the_order_are_free():
    one = packet(rcode="NXDOMAIN", authority=(SOA.format(1),))
    assert compare("neighbour", "A", one, packet(rcode="NXDOMAIN", authority=(SOA.format(99),))) == []
    records = (SRV, SRV.replace(" 80 ", " 81 "))
    assert compare("cluster", "SRV", packet(answer=records), packet(answer=records[::-1])) == []


def test_silence_is_an_outcome():
    found = compare("cluster", "A", b"", packet(rcode="NXDOMAIN"))
    assert found == [Difference("cluster", "A", "outcome", "no answer", "NXDOMAIN")]


def test_the_list_wants_what_it_says_and_nothing_near_it():
    tally = Tally(wanted())
    assert tally.row_for(Difference("neighbour", "SOA", "outcome", "NODATA", "NXDOMAIN"))
    assert tally.row_for(Difference("port of cluster", "A", "outcome", "A", "NODATA"))
    for unwanted in (
        Difference("cluster", "A", "outcome", "A", "NODATA"),
        Difference("cluster", "A", "outcome", "A", "NXDOMAIN"),
        Difference("neighbour", "A", "outcome", "NXDOMAIN", "A"),
        Difference("port of cluster", "SRV", "outcome", "SRV", "NODATA"),
        Difference("headless", "SRV", "weight", "16", "33"),
        Difference("cluster", "A", "ttl", "5", "30"),
        Difference("reverse of endpoint", "PTR", "outcome", "PTR", "NXDOMAIN"),
    ):
        assert tally.row_for(unwanted) is None


def test_every_row_of_the_list_has_a_reason():
    rows = wanted()
    assert len(rows) > 20
    assert all(len(row.reason) > 5 for row in rows)


def test_a_difference_without_a_row_is_reported_with_an_example():
    tally = Tally(wanted())
    tally.add([Difference("cluster", "A", "ttl", "5", "30")], "web.shop.svc.cluster.local")
    assert sum(tally.unlisted.values()) == 1
    assert "UNLISTED 1 x cluster | A | ttl | 5 | 30   e.g. web.shop" in tally.report()
