"""The responder over tables that the compiler made: the laws it relies on hold, and both of its paths agree."""

from __future__ import annotations

import random

import pytest

from agent.cluster.store import Store
from agent.records.names import to_text
from agent.records.zone import Profile
from agent.server.options import ResponderOptions
from agent.server.responder import Responder
from agent.snapshot.compiler import Compiler, zones_of
from agent.wire import node
from agent.wire.sections import records
from agent.wire.table import AnswerTable, PackedNodes, pack
from tests.server.tables import CLIENT, FRESH_NOW, LOST_NOW, STALE_NOW, opt, query, read
from tests.snapshot.clusters import random_change
from tests.view import records as texts

PROFILE = Profile(zones=("cluster.local", "west.example"), ns_addresses=(bytes((169, 254, 20, 10)),), ttl_s=40)
SEED = 7


@pytest.fixture(scope="module")
def compiled() -> AnswerTable:
    rng = random.Random(SEED)
    store = Store()
    table = AnswerTable(zones_of(PROFILE))
    compiler = Compiler(PROFILE, table)
    compiler.declare_zones()
    for number in range(400):
        kind, key, value = random_change(rng)
        if value is None:
            store.delete(kind, key)
        else:
            store.upsert(value)
        while (found := store.take_dirty_namespace()) is not None:
            compiler.namespace(found[0], exists=found[1])
        while (dirty := store.take_dirty()) is not None:
            compiler.owner(*dirty)
        if number == 300:
            table.freeze()
            items = dict(table.frozen_items())
            section = [step for step in pack(items.items(), len(items), SEED) if step is not None][-1]
            table.rebase(PackedNodes(section, 0, len(section)))
    assert table.base is not None
    assert table.overlay
    return table


def test_an_answer_begins_with_its_owner_as_a_pointer_and_has_one_ttl(compiled: AnswerTable):
    for key, held in compiled.items():
        for rrset in node.rrsets(held):
            read = list(records(key, rrset.answer, rrset.ancount))
            assert rrset.answer.startswith(b"\xc0\x0c")
            assert {record.owner for record in read} == {key}
            assert len({record.ttl_s for record in read}) == 1
            assert node.head(held)[1] < 256


@pytest.mark.parametrize("posture", [FRESH_NOW, LOST_NOW, STALE_NOW])
@pytest.mark.parametrize("extra", [b"", opt(4096)])
def test_every_name_and_type_is_answered_alike_by_both_paths(compiled, posture, extra):
    served = Responder(compiled, ResponderOptions(ttl_s=40, udp_size_bytes=4096))
    served.posture = posture
    asked = 0
    for key in sorted(dict(compiled.items())):
        for below in (b"", b"\x05other"):
            for qtype in (1, 28, 33, 12, 5, 16, 2, 6, 65_281):
                sent = query(below + key, qtype, extra)
                careful = served._read(sent, CLIENT, tcp=False)
                replies = [careful, *(served.respond(sent, CLIENT, tcp=False) for _ in range(2))]
                for reply in replies:
                    # Octets differ where the order of addresses turns, and only there.
                    assert reply == careful or _shown(reply) == _shown(careful)
                asked += 1
    assert asked > 1000


def test_what_is_answered_is_what_was_compiled(compiled: AnswerTable):
    served = Responder(compiled, ResponderOptions())
    served.posture = FRESH_NOW
    for key, held in compiled.items():
        for rrset in node.rrsets(held):
            if rrset.type < node.PRIVATE_TYPE:
                answer = read(served.respond(query(key, rrset.type), CLIENT, tcp=True)).answer
                assert sorted(rdata.to_text() for each in answer for rdata in each) == texts(key, rrset)


def _shown(reply: bytes | None) -> tuple[object, ...]:
    message = read(reply)
    sections = tuple(
        tuple(sorted(line for rrset in s for line in rrset.to_text().splitlines())) for s in message.sections
    )
    options = [option.to_wire() for option in message.options]
    return message.id, message.flags, message.rcode(), message.ednsflags, options, sections


def test_no_name_of_a_cluster_is_denied_above_one_that_exists(compiled: AnswerTable):
    """RFC 8020: whatever is below an existing name exists, so no resolver may cut a tree."""
    served = Responder(compiled, ResponderOptions())
    served.posture = FRESH_NOW
    for key in sorted(dict(compiled.items())):
        at = 0
        while compiled.zone_of(key[at:]) is not None:
            reply = served.respond(query(key[at:], "TXT"), CLIENT, tcp=False)
            assert reply is not None
            assert reply[3] & 15 == 0, to_text(key[at:])
            at += key[at] + 1
