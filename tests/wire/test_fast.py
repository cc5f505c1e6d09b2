"""The seam to C memory: what it takes, what it keeps alive, what it refuses."""

from __future__ import annotations

import gc
import sys

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SnapshotError
from agent.wire.table import PackedNodes, ZoneMeta, pack

_fast = pytest.importorskip("agent.wire._fast", reason="the compiled data plane is not built")

ZONES = (ZoneMeta(b"\x05local\x00", 0, False), ZoneMeta(b"\x07cluster\x05local\x00", 1, False))


@given(st.binary(max_size=255), st.integers(0, 2**64 - 1))
def test_names_are_hashed_as_the_snapshot_does(name: bytes, seed: int):
    assert _fast.name_hash(name, seed) == xxhash.xxh3_64_intdigest(name, seed)


def test_every_length_of_a_name_is_hashed_as_the_snapshot_does():
    octets = bytes(range(256))
    for length in range(256):
        assert _fast.name_hash(octets[:length], 7) == xxhash.xxh3_64_intdigest(octets[:length], 7)
    with pytest.raises(ValueError, match="longer than 255"):
        _fast.name_hash(octets, 7)


def test_nodes_are_kept_alive_not_copied_and_given_back():
    table = _fast.AnswerTable(ZONES)
    key, node = bytes([3, 97, 98, 99, 0]), bytes(1000)
    before = sys.getrefcount(node), sys.getrefcount(key)
    table.put(key, node)
    table.put(key, None)
    table.put(key, node)
    assert table.find(key) == node
    del table
    gc.collect()
    assert _fast.reclaim() == 0
    assert (sys.getrefcount(node), sys.getrefcount(key)) == before


def test_a_base_is_kept_alive_and_given_back():
    items = {b"\x01a\x00": b"node", b"\x01b\x00": b"other"}
    *_, section = pack(items.items(), len(items), 5)
    assert section is not None
    before = sys.getrefcount(section)
    table = _fast.AnswerTable(ZONES)
    table.rebase(PackedNodes(section, 0, len(section)))
    assert sys.getrefcount(section) > before
    assert (table.find(b"\x01a\x00"), table.find(b"\x01c\x00")) == (b"node", None)
    table.put(b"\x01a\x00", None)
    assert table.find(b"\x01a\x00") is None
    del table
    gc.collect()
    assert sys.getrefcount(section) == before


def test_many_names_find_their_place_as_the_table_grows():
    table = _fast.AnswerTable(ZONES)
    for number in range(5000):
        table.put(b"%d" % number, b"node%d" % number)
        if number % 3 == 0:
            table.put(b"%d" % (number // 2), None)
    assert {key: table.find(key) for key, _ in table.items()} == dict(table.items())
    assert all(table.find(b"%d" % number) == dict(table.overlay).get(b"%d" % number) for number in range(5000))


def test_a_name_that_is_too_long_is_refused_and_none_is_found_at_it():
    table = _fast.AnswerTable(ZONES)
    with pytest.raises(SnapshotError, match="longer than 255"):
        table.put(bytes(256), b"node")
    assert table.overlay == {}
    assert table.find(bytes(256)) is None


@pytest.mark.parametrize(
    "key", [b"\x05local\x00", b"\x01a\x07cluster\x05local\x00", b"\x03com\x00", b"\x02x\x05local\x00"]
)
def test_the_zone_of_a_name_is_found_alike(key: bytes):
    table = _fast.AnswerTable(ZONES)
    zone = table.zone_of(key)
    assert table.memory.zone_of(key) == (zone.number if zone is not None else -1)


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_what_is_not_bytes_is_refused(wrong: object):
    table = _fast.AnswerTable(ZONES)
    with pytest.raises((TypeError, SnapshotError)):
        table.put(wrong, b"")
