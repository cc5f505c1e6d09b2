"""The questions asked of every server, and the answers expected, fit the records that are served."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from agent.cluster.objects import KINDS, Stored, decode_object
from agent.records.names import to_wire
from agent.records.zone import Profile
from agent.snapshot.compiler import zones_of
from agent.snapshot.freshness import Freshness
from agent.snapshot.publisher import Publisher
from agent.wire import codes
from agent.wire.node import rrset
from agent.wire.table import AnswerTable
from benchmarks.cluster_generator import Spec, objects
from benchmarks.peers.zone import FEW_ADDRESSES, MAX_ADDRESSES, MIXES, ZONE, Names, questions, records

SPEC = Spec(services=150, endpoints=900, namespaces=20, seed=3)
TYPES = {"A": codes.A, "AAAA": codes.AAAA, "SRV": codes.SRV, "PTR": codes.PTR}


@pytest.fixture(scope="module")
def names():
    return Names(list(records(SPEC)))


@pytest.fixture(scope="module")
def asked(names):
    return questions(names, SPEC)


async def compiled() -> AnswerTable:
    """What nodens makes of the same cluster."""
    profile = Profile(ns_addresses=(b"\x7f\0\0\1",))
    publisher = Publisher(profile, Freshness(60, 0), AnswerTable(zones_of(profile)), lambda *_, **__: None)
    publisher.compiler.declare_zones()
    held = [stored for value in objects(SPEC) if isinstance(stored := decode_object(value), Stored)]
    for kind in KINDS:
        publisher.replace(kind, [stored for stored in held if stored.kind == kind], "1")
    publisher.connected()
    await publisher.idle()
    return publisher.table


def test_nodens_compiles_the_records_that_its_peers_are_given():
    table, held = asyncio.run(compiled()), list(records(SPEC))
    counts = Names(held).counts
    for (name, type_), count in counts.items():
        if type_ == "CNAME" or name.startswith("ns.dns."):  # the latter follows the listen addresses
            continue
        node = table.find(to_wire(name))
        assert node is not None, name
        found = rrset(node, TYPES[type_])
        assert found is not None, (name, type_)
        assert found.ancount == count, (name, type_)


def test_the_same_seed_asks_the_same(names, asked):
    assert questions(names, SPEC) == asked
    assert set(asked) == set(MIXES)


def test_the_hit_mix_asks_every_service_once_and_always_hits(names, asked):
    hit = asked["hit"]
    assert sorted(question.name for question in hit) == names.services
    assert all(question.type == "A" and question.rcode == "NOERROR" for question in hit)
    assert all(1 <= question.answers <= MAX_ADDRESSES for question in hit)
    assert {f"web.shop.svc.{ZONE}", f"db.shop.svc.{ZONE}"} <= set(names.services)
    # Aliases, names of ports and of endpoints, and Services with more addresses than fit are not asked.
    assert not {f"mail.shop.svc.{ZONE}", f"db-0.db.shop.svc.{ZONE}"} & set(names.services)


def test_the_realistic_mix_has_its_shares(asked):
    mix = asked["mix"]
    count = Counter("NXDOMAIN" if question.rcode == "NXDOMAIN" else question.type for question in mix)
    shares = {kind: round(number / len(mix) * 100) for kind, number in count.items()}
    assert shares["A"] == pytest.approx(70, abs=2)
    assert shares["AAAA"] == pytest.approx(15, abs=1)
    assert shares["NXDOMAIN"] == pytest.approx(10, abs=1)
    assert shares["SRV"] + shares["PTR"] == pytest.approx(5, abs=1)
    # Where cached external names belong stand names of several addresses.
    several = sum(question.type == "A" and question.answers in FEW_ADDRESSES for question in mix)
    assert several / len(mix) >= 0.1
    # Most Services have no IPv6 address: the question exists to be answered with nothing.
    assert any(question.type == "AAAA" and not question.answers and question.rcode == "NOERROR" for question in mix)


def test_zipf_asks_few_names_often(asked):
    count = Counter(question.name for question in asked["zipf"])
    most = [number for _, number in count.most_common(10)]
    assert most[0] > 1.5 * most[1] > most[9]
    assert sum(most) > len(asked["zipf"]) / 3
