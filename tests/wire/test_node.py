"""Nodes: what is encoded is read back, and what is damaged is found."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.wire import node
from agent.wire.node import ROTATE, RRset

u16 = st.integers(0, 0xFFFF)
rrsets = st.lists(
    st.builds(
        RRset,
        type=u16,
        flags=st.just(0),
        ancount=u16,
        arcount=u16,
        answer=st.binary(max_size=60),
        additional=st.binary(max_size=60),
    ),
    max_size=6,
    unique_by=lambda rrset: rrset.type,
).map(tuple)
nodes = st.builds(node.encode, flags=st.integers(0, 255), zone=u16, children=st.integers(0, 2**32 - 1), rrsets=rrsets)


@given(st.integers(0, 255), u16, st.integers(0, 2**32 - 1), rrsets)
def test_what_is_encoded_is_read_back(flags: int, zone: int, children: int, held: tuple[RRset, ...]):
    made = node.encode(flags=flags, zone=zone, children=children, rrsets=held)
    assert node.is_sound(made)
    assert node.head(made) == (flags, len(held), zone, children)
    assert node.rrsets(made) == held
    for rrset in held:
        assert node.rrset(made, rrset.type) == rrset
    assert node.rrset(made, 0x1_0000) is None


@given(nodes, st.integers(0, 2**32 - 1))
def test_children_are_replaced_and_nothing_else(made: bytes, children: int):
    other = node.with_children(made, children)
    assert node.head(other) == (*node.head(made)[:3], children)
    assert node.rrsets(other) == node.rrsets(made)


@given(nodes)
def test_every_cut_is_found(made: bytes):
    for size in range(len(made)):
        assert not node.is_sound(made[:size])
    assert not node.is_sound(made + b"x")


def test_a_free_order_needs_records_of_one_size():
    for ancount, answer, is_sound in ((2, b"abcd", True), (3, b"abcd", False), (0, b"abcd", False)):
        made = node.encode(rrsets=(RRset(1, ROTATE, ancount, 0, answer, b""),))
        assert node.is_sound(made) == is_sound


def test_the_layout_is_the_documented_one():
    made = node.encode(
        flags=3, zone=7, children=9, rrsets=(RRset(1, 1, 2, 3, b"aabb", b"c"), RRset(28, 0, 1, 0, b"d", b""))
    )
    expected = struct.pack("<BBHI", 3, 2, 7, 9) + struct.pack("<HHHHII", 1, 1, 2, 3, 4, 1)
    assert made == expected + struct.pack("<HHHHII", 28, 0, 1, 0, 1, 0) + b"aabbcd"
    one = node.encode(flags=3, zone=7, children=9, rrsets=(RRset(1, 1, 2, 3, b"aabb", b"c"),))
    assert one == struct.pack("<BBHI", 3, 1, 7, 9) + struct.pack("<HHHHII", 1, 1, 2, 3, 4, 1) + b"aabbc"
