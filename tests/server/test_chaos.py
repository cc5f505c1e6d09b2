"""Class CHAOS: introspection with dig alone."""

from __future__ import annotations

import dns.rcode
import pytest

from agent.server.chaos import status
from tests.server.tables import FRESH_NOW, NOT_READY_NOW, STALE_NOW, ask, has_flag, opt, rdatas, responder

OPTIONS = {"version": "nodens 0.1.0", "identity": "node-1"}
CHAOS = 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("version.bind", "nodens 0.1.0"),
        ("version.server", "nodens 0.1.0"),
        ("VERSION.Bind", "nodens 0.1.0"),
        ("id.server", "node-1"),
        ("hostname.bind", "node-1"),
        ("status.nodens", "generation=812 age=3s state=fresh source=following"),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
def test_each_name_has_one_txt(name: str, words: str, tcp: bool):
    served = responder(**OPTIONS)
    for qtype in ("TXT", "ANY"):
        reply = ask(served, name, qtype, opt(), qclass=CHAOS, tcp=tcp)
        assert (reply.rcode(), has_flag(reply, "AA"), rdatas(reply)) == (0, True, [f'"{words}"'])
        assert reply.answer[0].rdclass == CHAOS
    empty = ask(served, name, "A", qclass=CHAOS, tcp=tcp)
    assert (empty.rcode(), empty.answer, empty.authority) == (0, [], [])


@pytest.mark.parametrize("name", ["version.bind", "version.server", "id.server", "hostname.bind", "status.nodens"])
def test_each_name_can_be_refused(name: str):
    assert ask(responder(status=False), name, "TXT", qclass=CHAOS).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("name", ["authors.bind", "cluster.local", ".", "localhost"])
def test_other_names_are_refused(name: str):
    assert ask(responder(**OPTIONS), name, "TXT", qclass=CHAOS).rcode() == dns.rcode.REFUSED


def test_status_says_what_is_now():
    served = responder(NOT_READY_NOW)
    for posture in (NOT_READY_NOW, FRESH_NOW, FRESH_NOW._replace(age_s=4), STALE_NOW):
        served.posture = posture
        assert rdatas(ask(served, "status.nodens", "TXT", qclass=CHAOS)) == [f'"{status(posture)}"']


def test_a_long_or_foreign_note_is_cut_and_made_ascii():
    served = responder(FRESH_NOW._replace(note="gewiß: " + "x" * 300))
    shown = rdatas(ask(served, "status.nodens", "TXT", opt(), qclass=CHAOS))[0]
    assert len(shown) == 255 + 2
    assert "gewi?" in shown
