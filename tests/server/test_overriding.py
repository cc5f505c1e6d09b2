"""Overrides: ahead of everything, every type, in every state, and marked."""

from __future__ import annotations

import pytest

from agent.control.overrides import Override
from agent.control.span import Span
from agent.orders import answers_of
from agent.records.names import to_wire
from agent.server.overriding import MAX_TEXT_CHARS, forged
from agent.server.responder import Responder
from agent.wire.posture import Posture
from tests.server.tables import (
    EXPIRED_NOW,
    FRESH_NOW,
    NOT_READY_NOW,
    STALE_NOW,
    ask,
    extended_error,
    opt,
    rdatas,
    responder,
    short,
)

WEB, MANY, OUTSIDE = short("web"), short("many"), "www.example.com"
SPAN = Span(1_800_000_000.0, 100.0, "boot", 3600.0)
UNTIL = "2027-01-15T09:00:00Z"
STATES = [FRESH_NOW, STALE_NOW, EXPIRED_NOW, NOT_READY_NOW]


def served(posture: Posture = FRESH_NOW, left_s: float = 3600.0, **names: str) -> Responder:
    made = responder(posture)
    put(made, left_s, **names)
    return made


def put(made: Responder, left_s: float = 3600.0, **names: str) -> None:
    """Override names (underscores for dots) with addresses, or another name."""
    found = {}
    for word, says in names.items():
        name = word.replace("_", ".") + "."
        addresses = tuple(says.split(",")) if says[0].isdigit() or ":" in says else ()
        each = Override(
            name=name, span=SPAN, reason="why", who="ann", addresses=addresses, cname="" if addresses else says
        )
        found[each.key] = answers_of(each, left_s, made.table)
    made.overrides = found


WEB_IS = {WEB.replace(".", "_"): "192.0.2.1"}


@pytest.mark.parametrize("posture", STATES, ids=lambda posture: posture.state)
@pytest.mark.parametrize("tcp", [False, True])
def test_an_override_is_answered_in_every_state_and_says_so(posture: Posture, tcp: bool):
    made = served(posture, **WEB_IS)
    for _ in range(2):
        reply = ask(made, WEB, extra=opt(), tcp=tcp)
        assert (reply.rcode(), rdatas(reply), reply.answer[0].ttl) == (0, ["192.0.2.1"], 5)
        assert extended_error(reply) == (4, f"override of {WEB}. until {UNTIL}")
    made.settle()
    assert made.counters.answers["override"] == 2
    assert made.counters.answers["fresh"] == made.counters.answers["stale"] == 0


@pytest.mark.parametrize("qtype", ["AAAA", "SRV", "TXT", "SOA", "CNAME", 4711])
def test_what_it_does_not_say_is_no_data_of_its_zone(qtype: str | int):
    reply = ask(served(**WEB_IS), WEB, qtype, opt())
    assert (reply.rcode(), reply.answer) == (0, [])
    assert reply.authority[0].name.to_text() == "cluster.local."
    assert extended_error(reply) is not None


def test_names_below_and_beside_it_stay():
    made = served(**WEB_IS)
    assert rdatas(ask(made, f"_http._tcp.{WEB}", "SRV")) == [f"0 100 80 {WEB}."]
    assert len(rdatas(ask(made, MANY))) == 5
    assert extended_error(ask(made, MANY, extra=opt())) is None
    assert ask(made, short("gone")).rcode() == 3


def test_an_answer_remembered_before_is_not_given_after_nor_the_override_after_it_is_taken_back():
    made = responder()
    for _ in range(2):
        assert rdatas(ask(made, WEB, extra=opt())) == ["10.0.0.1"]
    put(made, **WEB_IS)
    for _ in range(2):
        assert rdatas(ask(made, WEB, extra=opt())) == ["192.0.2.1"]
    made.overrides = {}
    reply = ask(made, WEB, extra=opt())
    assert (rdatas(reply), extended_error(reply)) == (["10.0.0.1"], None)


def test_a_name_outside_is_ours_while_it_is_overridden_and_its_no_data_is_kept_by_nobody():
    made = served(www_example_com="192.0.2.1,192.0.2.2,2001:db8::1")
    assert sorted(rdatas(ask(made, OUTSIDE))) == ["192.0.2.1", "192.0.2.2"]
    assert rdatas(ask(made, OUTSIDE, "AAAA")) == ["2001:db8::1"]
    reply = ask(made, OUTSIDE, "TXT")
    assert (reply.rcode(), reply.answer, reply.authority) == (0, [], [])
    assert ask(made, f"a.{OUTSIDE}").rcode() == 5


def test_the_addresses_take_turns():
    made = served(www_example_com="192.0.2.1,192.0.2.2")
    assert {rdatas(ask(made, OUTSIDE))[0] for _ in range(4)} == {"192.0.2.1", "192.0.2.2"}


def test_an_alias_is_followed_into_an_own_zone():
    reply = ask(served(www_example_com=f"{WEB}."), OUTSIDE, "A", opt())
    assert rdatas(reply) == [f"{WEB}.", "10.0.0.1"]
    assert extended_error(reply) == (4, f"override of {OUTSIDE}. until {UNTIL}")
    reply = ask(served(www_example_com=f"{short('gone')}."), OUTSIDE)
    assert (reply.rcode(), rdatas(reply)) == (3, [f"{short('gone')}."])


@pytest.mark.parametrize("posture", [NOT_READY_NOW, EXPIRED_NOW], ids=lambda posture: posture.state)
def test_an_alias_into_a_zone_without_state_denies_nothing(posture: Posture):
    assert ask(served(posture, www_example_com=f"{WEB}."), OUTSIDE).rcode() == 2


def test_an_alias_that_leads_outside_stands_alone():
    made = served(**{WEB.replace(".", "_"): "web.other.example."})
    reply = ask(made, WEB)
    assert (reply.rcode(), rdatas(reply)) == (0, ["web.other.example."])
    assert rdatas(ask(made, WEB, "CNAME")) == ["web.other.example."]


def test_an_external_name_that_leads_to_an_override_is_followed_there():
    reply = ask(served(www_example_com="192.0.2.1"), short("outside"), "A", opt())
    assert rdatas(reply) == ["www.example.com.", "192.0.2.1"]
    assert extended_error(reply) == (4, f"override of {OUTSIDE}. until {UNTIL}")


def test_a_ring_through_an_external_name_ends():
    reply = ask(served(www_example_com=f"{short('outside')}."), OUTSIDE)
    assert reply.rcode() == 2


def test_the_apex_can_be_overridden_as_a_whole():
    made = served(cluster_local="192.0.2.1")
    assert rdatas(ask(made, "cluster.local")) == ["192.0.2.1"]
    assert ask(made, "cluster.local", "SOA").answer == []
    assert rdatas(ask(made, WEB)) == ["10.0.0.1"]


def test_a_special_name_can_be_overridden():
    assert rdatas(ask(served(localhost="192.0.2.1"), "localhost")) == ["192.0.2.1"]


@pytest.mark.parametrize(("left_s", "ttl_s"), [(3600, 5), (6.5, 5), (4.5, 3), (1.5, 0), (0.5, 0)])
def test_no_answer_outlives_the_override(left_s: float, ttl_s: int):
    assert ask(served(left_s=left_s, **WEB_IS), WEB).answer[0].ttl == ttl_s


def test_in_its_last_seconds_no_data_is_kept_by_nobody():
    assert ask(served(left_s=6.5, **WEB_IS), WEB, "AAAA").authority
    reply = ask(served(left_s=4.5, **WEB_IS), WEB, "AAAA")
    assert (reply.rcode(), reply.answer, reply.authority) == (0, [], [])


def test_the_mark_is_bounded_whatever_the_name():
    name = ".".join(["x" * 60] * 4) + "."
    code, text = forged(name, UNTIL)
    assert code == 4
    assert len(text) == MAX_TEXT_CHARS
    assert text.endswith(f"... until {UNTIL}")
    made = responder()
    each = Override(name=name, span=SPAN, reason="why", who="ann", addresses=("192.0.2.1",))
    made.overrides = {to_wire(name): answers_of(each, 60.0, made.table)}
    assert rdatas(ask(made, name, extra=opt())) == ["192.0.2.1"]
