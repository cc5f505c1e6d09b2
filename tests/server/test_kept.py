"""What upstreams have said, answered by the responder: counted down, then marked, then gone; never in an own zone."""

from __future__ import annotations

import dns.flags
import pytest

from agent.records.names import to_wire
from agent.server.counters import Counters
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.wire import timed
from agent.wire.posture import Posture
from agent.wire.reply import Group
from agent.wire.timed import AD, RA, Life
from tests.server.tables import (
    BUILD,
    CLIENT,
    EXPIRED_NOW,
    FRESH_NOW,
    NOT_READY_NOW,
    Compiled,
    ask,
    empty_cache,
    extended_error,
    has_flag,
    opt,
    query,
    rdatas,
    read,
    record,
    short,
    table,
)

LIFE = Life(born_ms=0, refresh_ms=270_000, expires_ms=300_000, stale_until_ms=900_000)
NONE = Group(0, b"")
SOA = record(6, b"\x00\x00" + bytes(20), 300, owner=b"\xc0\x10")
NAME = "www.example.com"


class Kept:
    """A responder with a cache, and its clock."""

    def __init__(self, posture: Posture = FRESH_NOW, **options: object) -> None:
        self.now_ms = 0
        self.reported: list[bytes] = []
        kind = Responder if BUILD[0] == "python" else Compiled
        made = ResponderOptions(**options)  # type: ignore[arg-type]
        self.cache = empty_cache()
        self.cache.report = self.reported.append
        self.served = kind(table(), made, counters=Counters(), cache=self.cache, ticks_ms=lambda: self.now_ms)
        self.served.posture = posture

    def put(
        self,
        *sections: Group,
        name: str = NAME,
        qtype: int = 1,
        rcode: int = 0,
        flags: int = RA,
        do: bool = False,
        cd: bool = False,
        life: Life = LIFE,
    ) -> bytes:
        key = timed.key_of(to_wire(name), qtype, do=do, cd=cd)
        three = (*sections, NONE, NONE, NONE)[:3]
        self.cache.put(key, timed.encode(life, rcode, flags, (three[0], three[1], three[2])))
        return key


def address(last: int, ttl_s: int = 300) -> Group:
    return Group(1, record(1, bytes((192, 0, 2, last)), ttl_s))


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.mark.parametrize("tcp", [False, True])
def test_a_ttl_counts_down_and_nothing_is_authoritative(kept, tcp: bool):
    kept.put(address(1))
    kept.now_ms = 100_900
    reply = ask(kept.served, NAME.upper(), tcp=tcp)
    assert (rdatas(reply), reply.answer[0].ttl) == (["192.0.2.1"], 200)
    assert (has_flag(reply, "RA"), has_flag(reply, "AA"), reply.ednsflags) == (True, False, 0)
    assert kept.served.counters.cached == {"fresh": 1, "stale": 0}
    assert kept.served.counters.answers["fresh"] == 0
    assert kept.reported == []


def test_what_is_about_to_expire_is_answered_and_reported(kept):
    key = kept.put(address(1))
    kept.now_ms = 270_000
    assert ask(kept.served, NAME).answer[0].ttl == 30
    assert kept.reported == [key]
    assert kept.served.counters.refreshes["reported"] == 1


@pytest.mark.parametrize(("rcode", "mark"), [(0, 3), (3, 19)])
def test_past_its_ttl_it_is_answered_with_30_seconds_and_says_so(kept, rcode: int, mark: int):
    key = kept.put(address(1) if not rcode else NONE, Group(1, SOA), rcode=rcode)
    kept.now_ms = 899_999
    reply = ask(kept.served, NAME, extra=opt())
    assert extended_error(reply) == (mark, timed.STALE_TEXT)
    assert {rrset.ttl for section in (reply.answer, reply.authority) for rrset in section} == {30}
    assert extended_error(ask(kept.served, NAME)) is None, "no OPT, no mark"
    assert (kept.reported, kept.served.counters.cached["stale"]) == ([key, key], 2)
    kept.now_ms = 900_000
    assert ask(kept.served, NAME).rcode() == 5, "too old to be answered at all"


def test_do_and_cd_are_asked_apart_and_ad_is_for_who_asks(kept):
    kept.put(address(1), flags=RA | AD)
    kept.put(address(2), do=True, flags=RA | AD)
    kept.put(address(3), cd=True, flags=RA | timed.CD)
    assert not has_flag(ask(kept.served, NAME), "AD")
    with_ad = read(kept.served.respond(query(NAME, flags=0x0120), CLIENT, tcp=False))
    assert (rdatas(with_ad), has_flag(with_ad, "AD")) == (["192.0.2.1"], True)
    with_do = ask(kept.served, NAME, extra=opt(flags=0x8000))
    assert (rdatas(with_do), has_flag(with_do, "AD")) == (["192.0.2.2"], True)
    assert with_do.ednsflags & dns.flags.DO
    with_cd = read(kept.served.respond(query(NAME, flags=0x0110), CLIENT, tcp=False))
    assert (rdatas(with_cd), has_flag(with_cd, "CD")) == (["192.0.2.3"], True)


@pytest.mark.parametrize("name", [short("web"), short("gone"), "cluster.local"])
@pytest.mark.parametrize("posture", [FRESH_NOW, NOT_READY_NOW, EXPIRED_NOW])
def test_nothing_from_upstream_enters_an_own_zone(name: str, posture: Posture):
    kept = Kept(posture)
    kept.put(address(66), name=name)
    assert "192.0.2.66" not in rdatas(ask(kept.served, name))


def test_names_that_fall_through_and_states_without_a_snapshot_are_answered(kept):
    kept.put(Group(1, record(12, to_wire("host.example"))), name="9.9.9.9.in-addr.arpa", qtype=12)
    assert rdatas(ask(kept.served, "9.9.9.9.in-addr.arpa", "PTR")) == ["host.example."]
    early = Kept(NOT_READY_NOW)
    early.put(address(1))
    assert rdatas(ask(early.served, NAME)) == ["192.0.2.1"]


def test_whole_sections_are_cut_and_additional_ones_left_out(kept):
    many = Group(60, record(1, bytes(4), 300) * 60)
    kept.put(many)
    reply = ask(kept.served, NAME)
    assert (has_flag(reply, "TC"), reply.answer) == (True, [])
    assert len(rdatas(ask(kept.served, NAME, extra=opt(1232)))) == 1  # sixty times the same
    kept.put(address(1), NONE, many)
    reply = ask(kept.served, NAME)
    assert (has_flag(reply, "TC"), rdatas(reply), reply.additional) == (False, ["192.0.2.1"], [])


def test_nsid_and_padding_of_our_own_opt_stay_what_they_are():
    kept = Kept(nsid=b"node-1")
    kept.put(address(1))
    reply = ask(kept.served, NAME, extra=opt(options=b"\x00\x03\x00\x00"))
    assert [option.otype for option in reply.options] == [3]


def test_a_renewed_entry_takes_the_place_of_the_old_one_and_a_dropped_one_is_gone(kept):
    key = kept.put(address(1))
    kept.put(address(2))
    assert rdatas(ask(kept.served, NAME)) == ["192.0.2.2"]
    kept.cache.drop(key)
    assert ask(kept.served, NAME).rcode() == 5


def test_what_is_evicted_is_counted(kept):
    kept.cache.max_entries = 1
    kept.put(address(1))
    kept.put(address(1), name="other.example.com")
    kept.served.settle()
    assert kept.served.counters.evicted["cache"] == 1
