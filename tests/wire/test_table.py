"""AnswerTable: three layers that read as one, and a packed base that refuses what it can't serve."""

from __future__ import annotations

import importlib.util
import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.errors import SnapshotError
from agent.wire import table as tables
from agent.wire.table import AnswerTable, PackedNodes, ZoneMeta, pack

SEED = 0x1234_5678_9ABC_DEF0
HEAD = struct.Struct("<QQQQ")


def section(items: dict[bytes, bytes], seed: int = SEED) -> bytes:
    *steps, made = pack(items.items(), len(items), seed)
    assert all(step is None for step in steps)
    assert made is not None
    return made


def packed(items: dict[bytes, bytes], before: bytes = b"", behind: bytes = b"") -> PackedNodes:
    made = section(items)
    # The index is read in place as 32-bit numbers; files keep sections aligned.
    before = before.ljust((len(before) + 7) // 8 * 8, b"\x00")
    return PackedNodes(before + made + behind, len(before), len(made))


contents = st.dictionaries(st.binary(min_size=1, max_size=255), st.binary(max_size=40), max_size=60)


@given(contents, st.binary(max_size=20), st.binary(max_size=20), st.binary(min_size=1, max_size=255))
def test_what_is_packed_is_found_and_nothing_else(items, before, behind, other):
    nodes = packed(items, before, behind)
    assert {key: nodes.find(key) for key in items} == items
    assert nodes.find(other) == items.get(other)
    assert dict(nodes.items()) == items
    assert (nodes.names, nodes.bytes) == (len(items), len(section(items)))


def test_a_key_that_begins_or_ends_like_another_is_another():
    nodes = packed({b"\x03www\x00": b"short", b"\x03www\x00\x00": b"long"})
    assert nodes.find(b"\x03www\x00") == b"short"
    assert nodes.find(b"\x03www\x00\x00") == b"long"
    assert nodes.find(b"\x03www") is None
    assert nodes.find(b"") is None


def test_packing_goes_in_bounded_steps():
    items = {b"%d" % number: b"" for number in range(1025)}
    assert [step is None for step in pack(items.items(), len(items), SEED)] == [True, True, False]


def test_too_many_names_in_one_place_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "MAX_PROBES", 1)
    with pytest.raises(SnapshotError, match="more than 1 names share a place"):
        list(pack(((b"%d" % number, b"") for number in range(1000)), 1000, SEED))


SOUND = section({b"\x01a\x00": b"node", b"\x01b\x00": b"other"})
SEED_AT, SLOTS_AT, NAMES_AT, BLOB_AT, OFFSETS_AT = 0, 8, 16, 24, 32
SLOTS = HEAD.unpack_from(SOUND)[1]


def patched(at: int, fmt: str, value: int) -> bytes:
    made = bytearray(SOUND)
    struct.pack_into(fmt, made, at, value)
    return bytes(made)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SOUND[:31], "shorter than its header"),
        (SOUND[:-1], "do not add up"),
        (SOUND + b"x", "do not add up"),
        (patched(SLOTS_AT, "<Q", 0), "do not add up"),
        (patched(SLOTS_AT, "<Q", SLOTS - 1), "do not add up"),
        (patched(SLOTS_AT, "<Q", SLOTS * 2), "do not add up"),
        (patched(NAMES_AT, "<Q", SLOTS), "do not add up"),
        (patched(BLOB_AT, "<Q", 1), "do not add up"),
        (patched(OFFSETS_AT, "<I", 0xFFFF_FFFF), "points past its end"),
        (SOUND[:32] + struct.pack("<I", 1) * SLOTS + SOUND[32 + 4 * SLOTS :], "no empty place"),
    ],
)
def test_a_section_that_does_not_add_up_is_refused(made: bytes, words: str):
    with pytest.raises(SnapshotError, match=words):
        PackedNodes(made, 0, len(made))


def test_a_tag_alone_does_not_make_a_name():
    """Half of a 64-bit hash can be the same; the name decides."""
    for number in range(100):
        key = b"\x02%02d\x00" % number
        hashed = xxhash.xxh3_64_intdigest(key, SEED)
        slot = hashed & (SLOTS - 1)
        if struct.unpack_from("<I", SOUND, OFFSETS_AT + 4 * slot)[0]:
            made = patched(OFFSETS_AT + 4 * SLOTS + 4 * slot, "<I", hashed >> 32)
            assert PackedNodes(made, 0, len(made)).find(key) is None
            return
    raise AssertionError("no name falls on a place that is taken")


def test_a_section_past_the_end_of_its_file_is_refused():
    with pytest.raises(SnapshotError, match="shorter than its header"):
        PackedNodes(SOUND, 8, len(SOUND))


# ── zones ────────────────────────────────────────────────────────────────────────────────────────────────────────────
ZONES = (
    ZoneMeta(b"\x05local\x00", 0, False),
    ZoneMeta(b"\x07cluster\x05local\x00", 1, False),
    ZoneMeta(b"\x04arpa\x00", 2, True),
)


@pytest.mark.parametrize(
    ("key", "number"),
    [
        (b"\x05local\x00", 0),
        (b"\x07cluster\x05local\x00", 1),
        (b"\x01a\x07cluster\x05local\x00", 1),
        (b"\x01a\x05local\x00", 0),
        (b"\x08xcluster\x05local\x00", 0),
        (b"\x0ba\x07cluster\x01b\x05local\x00", 0),
        (b"\x0fx\x07cluster\x05local\x00", None),
        (b"\x02x\x05local\x00", None),
        (b"\x01a\x04arpa\x00", 2),
        (b"\x03com\x00", None),
        (b"\x00", None),
        (b"", None),
    ],
)
def test_the_closest_zone_is_found_at_label_boundaries_alone(key: bytes, number: int | None):
    zone = AnswerTable(ZONES).zone_of(key)
    assert (zone.number if zone is not None else None) == number


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────
KEYS = st.sampled_from([b"\x01%c\x00" % letter for letter in b"abcdef"])


class Layers(RuleBasedStateMachine):
    """A table under random changes and generations, against a dict."""

    kind = AnswerTable

    def __init__(self) -> None:
        super().__init__()
        self.table = self.kind(ZONES)
        self.model: dict[bytes, bytes] = {}
        self.frozen: dict[bytes, bytes] | None = None
        self.seen: set[int] = set()

    @rule(key=KEYS, made=st.binary(min_size=1, max_size=3))
    def put(self, key: bytes, made: bytes) -> None:
        before = self.table.version
        self.table.put(key, made)
        self.model[key] = made
        assert self.table.version != before

    @rule(key=KEYS)
    def take_away(self, key: bytes) -> None:
        before = self.table.version
        self.table.put(key, None)
        self.model.pop(key, None)
        assert self.table.version != before

    @rule()
    def freeze(self) -> None:
        if self.frozen is not None:
            with pytest.raises(SnapshotError, match="already"):
                self.table.freeze()
            return
        self.table.freeze()
        self.frozen = dict(self.model)

    @rule()
    def thaw(self) -> None:
        self.table.thaw()
        self.frozen = None

    @rule()
    def rebase(self) -> None:
        if self.frozen is None:
            return
        items = dict(self.table.frozen_items())
        assert items == self.frozen
        before = self.table.version
        self.table.rebase(packed(items))
        self.frozen = None
        assert self.table.version != before

    @rule(made=contents)
    def take_over(self, made: dict[bytes, bytes]) -> None:
        before = self.table.version
        other = self.kind(ZONES)
        for key in (*made, b"\x01a\x00"):
            other.put(key, made.get(key, b"x"))
        other.put(b"\x01b\x00", None)
        self.table.take_over(other)
        self.model = dict(other.items())
        self.frozen = None
        assert self.table.version != before

    @rule()
    def take_over_packed(self) -> None:
        other = self.kind(ZONES)
        other.rebase(packed({b"\x01a\x00": b"x", b"\x01b\x00": b"y"}))
        other.put(b"\x01b\x00", None)
        self.table.take_over(other)
        self.model, self.frozen = {b"\x01a\x00": b"x"}, None

    @invariant()
    def reads_as_one(self) -> None:
        assert dict(self.table.items()) == self.model
        assert len(self.model) <= self.table.names_at_most()
        for letter in b"abcdefg":
            key = b"\x01%c\x00" % letter
            assert self.table.find(key) == self.model.get(key)


TestLayers = Layers.TestCase

if importlib.util.find_spec("agent.wire._fast") is not None:
    _fast = importlib.import_module("agent.wire._fast")

    class CompiledLayers(Layers):
        """The same, in C memory."""

        kind = _fast.AnswerTable

        def teardown(self) -> None:
            del self.table
            assert _fast.reclaim() == 0, "with no worker about, what is replaced is given back at once"

    TestCompiledLayers = CompiledLayers.TestCase
