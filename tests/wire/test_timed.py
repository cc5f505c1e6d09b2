"""Answers with an age: their life, their bounds, in both data planes."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable

import pytest

from agent.errors import WireError
from agent.wire import timed
from agent.wire.reply import Group
from agent.wire.sections import record
from agent.wire.timed import ENTRY_BYTES, RA, Life, TimedTable, encode, key_of, question_of, read

KEY = key_of(b"\x07example\x03com\x00", 1, do=False, cd=False)
NONE = Group(0, b"")
LIFE = Life(born_ms=1_000, refresh_ms=271_000, expires_ms=301_000, stale_until_ms=900_000)
Maker = Callable[..., TimedTable]


@pytest.fixture(params=["python", "compiled"])
def make(request: pytest.FixtureRequest) -> Maker:
    if request.param == "python":
        return TimedTable
    pytest.importorskip("agent.wire._fast", reason="the compiled data plane is not built")
    made: Maker = importlib.import_module("agent.wire._fast").TimedTable
    return made


def entry(*ttls_s: int, life: Life = LIFE, rcode: int = 0) -> bytes:
    body = b"".join(record(1, ttl_s, bytes(4)) for ttl_s in ttls_s)
    return encode(life, rcode, RA, (Group(len(ttls_s), body), NONE, NONE))


def ttls_s(value: bytes, now_ms: int) -> list[int]:
    found = read(value, now_ms)
    assert found is not None
    return [
        int.from_bytes(found.sections[0].body[at + 6 : at + 10], "big")
        for at in range(0, len(found.sections[0].body), 16)
    ]


@pytest.mark.parametrize(
    ("now_ms", "expected", "is_stale", "is_due"),
    [
        (1_000, [300, 600, 0], False, False),
        (1_999, [300, 600, 0], False, False),
        (2_000, [299, 599, 0], False, False),
        (270_999, [31, 331, 0], False, False),
        (271_000, [30, 330, 0], False, True),
        (300_999, [1, 301, 0], False, True),
        (301_000, [30, 30, 30], True, True),
        (899_999, [30, 30, 30], True, True),
        (0, [300, 600, 0], False, False),
    ],
)
def test_ttls_count_down_then_stay_at_30_then_there_is_nothing(now_ms, expected, is_stale, is_due):
    value = entry(300, 600, 0)
    found = read(value, now_ms)
    assert found is not None
    assert (ttls_s(value, now_ms), found.is_stale, found.is_due) == (expected, is_stale, is_due)
    assert read(value, 900_000) is None


def test_a_key_says_its_question():
    for do in (False, True):
        for cd in (False, True):
            assert question_of(key_of(b"\x01a\x00", 0xFF01, do=do, cd=cd)) == (b"\x01a\x00", 0xFF01, do, cd)


@pytest.mark.parametrize(
    "sections",
    [
        (Group(2, record(1, 5, bytes(4))), NONE, NONE),
        (Group(0, record(1, 5, bytes(4))), NONE, NONE),
        (NONE, Group(1, record(1, 5, bytes(4))[:-1]), NONE),
        (NONE, NONE, Group(1, b"\x01")),
        (Group(1, record(16, 5, bytes(60_000))), Group(1, record(16, 5, bytes(6_000))), NONE),
    ],
)
def test_sections_that_are_none_are_refused(sections):
    with pytest.raises(WireError):
        encode(LIFE, 0, 0, sections)


def test_both_bounds_hold_and_the_longest_not_renewed_goes_first(make: Maker):
    value = entry(60)
    cost = ENTRY_BYTES + len(KEY) + len(value)
    by_bytes, by_number = make(max_bytes=3 * cost), make(max_entries=3)
    keys = [key_of(b"\x01%c\x00" % letter + b"\x00" * 9, 1, do=False, cd=False)[: len(KEY)] for letter in b"abcd"]
    for table in (by_bytes, by_number):
        for key in (*keys[:3], keys[0], keys[3]):
            assert table.put(key, value)
        assert list(table.held) == [keys[2], keys[0], keys[3]]
        assert [table.find(key) is None for key in keys] == [False, True, False, False]
        assert table.evicted == 1
        assert table.bytes == sum(ENTRY_BYTES + len(key) + len(value) for key in table.held)
        table.clear()
        assert (table.bytes, table.held) == (0, {})


def test_what_is_over_the_bound_alone_is_not_taken_and_hides_what_it_would_replace(make: Maker):
    table = make(max_bytes=ENTRY_BYTES + 200)
    assert table.put(KEY, entry(60))
    assert not table.put(KEY, entry(*[60] * 20))
    assert (table.find(KEY), table.bytes, table.evicted) == (None, 0, 1)
    assert not make(max_entries=0).put(KEY, entry(60))


def test_the_longest_name_there_can_be_is_a_key(make: Maker):
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"b" * 61 + b"\x00"
    assert len(name) == 255
    table = make()
    table.put(key_of(name, 1, do=True, cd=True), entry(60))
    assert len(table.held) == 1


def test_workers_see_what_is_held_and_memory_is_given_back():
    fast = pytest.importorskip("agent.wire._fast", reason="the compiled data plane is not built")
    table, value = fast.TimedTable(max_entries=10), entry(60)
    before = sys.getrefcount(value)
    for number in range(1000):
        table.put(key_of(b"\x04%04d\x00" % number, 1, do=False, cd=False), value)
    for key in list(table.held):
        assert table.memory.find(key) == value
    gone = key_of(b"\x040001\x00", 1, do=False, cd=False)
    assert table.memory.find(gone) is None
    table.clear()
    del table
    gc.collect()
    assert fast.reclaim() == 0
    assert sys.getrefcount(value) == before


def test_flags_are_those_of_the_protocol():
    assert (timed.RA, timed.AD, timed.CD) == (0x80, 0x20, 0x10)
