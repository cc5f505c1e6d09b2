"""The responder as a whole: what is counted, what a change of table or posture does, who may ask."""

from __future__ import annotations

import ipaddress

import pytest

from agent.records.names import to_wire
from agent.server import access
from agent.server.access import Access
from agent.server.counters import DROPS, FAULTS, LATENCY_BOUNDS_S, Counters, Latency
from agent.server.options import MAX_NSID_BYTES, ResponderOptions
from agent.server.responder import Responder
from agent.wire import hit, message, node
from agent.wire.posture import START
from tests.server.tables import (
    BUILD,
    CLIENT,
    FRESH_NOW,
    NOT_READY_NOW,
    STALE_NOW,
    addresses,
    ask,
    opt,
    option,
    packet,
    query,
    question,
    rdatas,
    read,
    responder,
    short,
    table,
)

WEB = short("web")


def test_before_the_first_posture_nothing_is_denied():
    served = Responder(table(), ResponderOptions())
    assert served.posture is START
    assert ask(served, short("gone")).rcode() == 2


def test_queries_and_replies_are_counted_by_protocol_rcode_and_freshness():
    served = responder()
    for _ in range(3):
        ask(served, WEB)
        ask(served, short("gone"), tcp=True)
        ask(served, "example.com")
        ask(served, "localhost")
    served.respond(b"", CLIENT, tcp=False)
    served.settle()
    counters = served.counters
    assert {rcode: count for rcode, count in counters.responses.items() if count} == {0: 6, 3: 3, 5: 3}
    assert counters.queries == {"udp": 10, "tcp": 3}
    assert counters.answers == {"fresh": 6, "stale": 0, "override": 0}
    served.settle()
    assert counters.queries == {"udp": 10, "tcp": 3}


def test_answers_count_under_the_posture_they_were_given_in():
    served = responder()
    for posture, times in ((STALE_NOW, 2), (FRESH_NOW, 3), (NOT_READY_NOW, 4), (STALE_NOW, 5)):
        served.posture = posture
        for _ in range(times):
            ask(served, WEB)
    served.settle()
    assert served.counters.answers == {"fresh": 3, "stale": 7, "override": 0}
    assert served.counters.responses[2] == 4


def test_a_posture_that_clients_cannot_tell_from_the_one_before_forgets_nothing():
    if BUILD[0] == "compiled":
        pytest.skip("the compiled data plane remembers nothing")
    served = responder()
    ask(served, WEB)
    kept = dict(served._hit._kept)
    assert kept
    served.posture = FRESH_NOW._replace(age_s=4, note="still following")
    assert served._hit._kept == kept
    served.posture = FRESH_NOW._replace(generation=813)
    assert served._hit._kept == {}
    assert ask(served, short("gone")).authority[0][0].serial == 813


def test_another_table_is_answered_from_at_once_and_nothing_counted_is_lost():
    served = responder()
    ask(served, WEB)
    other = table()
    other.put(to_wire(WEB), node.encode(rrsets=addresses("10.9.9.9")))
    served.table = other
    assert served.table is other
    assert rdatas(ask(served, WEB)) == ["10.9.9.9"]
    served.settle()
    assert served.counters.answers["fresh"] == 2


def test_counters_outlive_their_responder():
    served = responder()
    ask(served, WEB, tcp=True)
    again = Responder(served.table, ResponderOptions(), counters=served.counters)
    again.posture = FRESH_NOW
    ask(again, WEB, tcp=True)
    assert served.counters.queries == {"udp": 0, "tcp": 2}


def test_an_opt_learned_in_one_posture_is_not_used_in_another():
    served = responder(nsid=b"node-1")
    extra = opt(options=option(3))
    for posture, codes in ((FRESH_NOW, [3]), (STALE_NOW, [3, 15]), (FRESH_NOW, [3])):
        served.posture = posture
        for name in (WEB, short("many"), short("version")):
            assert [int(each.otype) for each in ask(served, name, extra=extra).options] == codes


def test_an_opt_whose_owner_is_a_pointer_is_not_learned():
    """It is the root behind one question and something else behind another."""
    served = responder()
    root_at = 12 + len(to_wire(WEB)) - 1
    extra = bytes((0xC0, root_at)) + opt()[1:]
    assert ask(served, WEB, extra=extra).rcode() == 0
    assert served._hit._opts == {}
    assert ask(served, short("longer-name"), extra=extra).rcode() == 1


@pytest.mark.parametrize("counts", [(1, 0, 0, 0), (1, 0, 0, 2)])
def test_an_opt_that_is_not_the_one_further_record_is_not_learned(counts: tuple[int, int, int, int]):
    served = responder()
    record = b"\x00" + bytes((0, 16, 0, 1, 0, 0, 0, 0, 0, 0))
    assert rdatas(read(served.respond(packet(question(WEB) + opt() + record, counts), CLIENT, tcp=False))) == [
        "10.0.0.1"
    ]
    assert served._hit._opts == {}


def test_replies_with_cookies_are_not_remembered():
    served = responder(cookie_secrets=(bytes(16),))
    sent = query(WEB, extra=opt(options=option(10, b"12345678")))
    first = served.respond(sent, "192.0.2.1", tcp=False)
    assert served.respond(sent, "192.0.2.2", tcp=False) != first
    assert (served._hit._kept, served._hit._opts) == ({}, {})


def test_a_long_nsid_is_cut():
    reply = ask(responder(nsid=b"n" * 300), WEB, extra=opt(options=option(3)))
    assert reply.options[0].nsid == b"n" * MAX_NSID_BYTES


def test_every_reason_has_its_counter():
    words = {value for name, value in vars(message).items() if name.isupper() and isinstance(value, str)}
    assert words <= {*FAULTS, *DROPS}
    assert {"short", "response"} <= set(DROPS)


# ── allow list ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("fd00::1", True),
        ("fd01::1", False),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("fe80::1%eth0", False),
    ],
)
def test_who_is_allowed(client: str, allowed: bool):
    listed = Access((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/64")))
    for _ in range(2):
        assert listed.allows(client) is allowed


def test_verdicts_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    if BUILD[0] == "compiled":
        pytest.skip("the compiled data plane compares with every network and remembers nothing")
    monkeypatch.setattr(access, "MAX_REMEMBERED", 8)
    served = responder(allow=(ipaddress.ip_network("10.0.0.0/8"),))
    for number in range(50):
        assert served.respond(query(WEB), f"10.0.0.{number}", tcp=False) is not None
        assert served.access is not None
        assert len(served.access._verdicts) <= 8
    for _ in range(2):
        served.settle()
        assert served.counters.evicted == {"replies": 0, "opts": 0, "soas": 0, "verdicts": 48, "cache": 0}


def test_what_the_hit_path_forgot_for_want_of_room_is_counted(monkeypatch: pytest.MonkeyPatch):
    if BUILD[0] == "compiled":
        pytest.skip("the compiled data plane remembers nothing")
    monkeypatch.setattr(hit, "MAX_KEPT", 10)
    monkeypatch.setattr(hit, "MAX_OPTS", 10)
    monkeypatch.setattr(hit, "MAX_SOAS", 10)
    served = responder()
    for number in range(1, 36):
        ask(served, "x" * number + ".cluster.local")
        ask(served, WEB, extra=opt(1000 + number))
    for _ in range(2):
        served.settle()
        assert served.counters.evicted == {"replies": 60, "opts": 30, "soas": 30, "verdicts": 0, "cache": 0}


def test_latency_falls_into_the_bucket_of_its_mean():
    latency = Latency()
    latency.observe(0.000_02, 4)
    latency.observe(0.000_05, 10)
    latency.observe(5.0, 1)
    latency.observe(LATENCY_BOUNDS_S[-1], 1)
    assert latency.buckets[0] == 14
    assert latency.buckets[-2:] == [1, 1]
    assert latency.sum_s == pytest.approx(6.000_07)
    assert sum(Counters().latency.buckets) == 0
