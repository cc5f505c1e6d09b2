"""A journal's bytes: whatever happens to them, what is read is a beginning of what was written."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SnapshotError
from agent.snapshot import entries as journal
from agent.snapshot.entries import (
    HEAD_BYTES,
    MAX_RECORD_BYTES,
    RECORD_BYTES,
    Entry,
    Head,
    Place,
    encode_head,
    encode_record,
    replay,
)
from tests.snapshot.history import entry

HEAD = Head(7, Place(6, 3))
STEPS = [
    Entry({"Service": "9"}, 1.7e9, "uid:1", [("Service", "a/b", "a/b", b"blob"), ("Service", "a/c", "a/c", None)]),
    Entry(nodes=[(b"\1a\0", b"node"), (b"\1b\0", None)]),
    Entry(confirmed_unix_s=1.7e9),
]


def record(step: Entry, sequence: int, generation: int = 7) -> bytes:
    return encode_record(msgspec.msgpack.encode(step), Place(generation, sequence))


RECORDS = [record(step, sequence) for sequence, step in enumerate(STEPS, 1)]
FILE = encode_head(HEAD) + b"".join(RECORDS)
ENDS = [HEAD_BYTES + sum(map(len, RECORDS[:n])) for n in range(len(RECORDS) + 1)]


def whole_before(at: int) -> int:
    """Records that end at or before a byte."""
    return sum(end <= at for end in ENDS[1:])


def test_what_is_written_is_read() -> None:
    read = replay(FILE)
    assert read.head == HEAD
    assert read.entries == STEPS
    assert (read.sequence, read.sealed, read.size_bytes, read.left_bytes, read.reason) == (3, False, len(FILE), 0, "")


def test_every_cut_leaves_the_records_before_it() -> None:
    for length in range(len(FILE)):
        if length < HEAD_BYTES:
            with pytest.raises(SnapshotError, match="is cut"):
                replay(FILE[:length])
            continue
        read = replay(FILE[:length])
        assert read.entries == STEPS[: whole_before(length)]
        assert read.left_bytes == length - ENDS[read.sequence]
        assert bool(read.reason) == bool(read.left_bytes)


def test_every_flipped_bit_leaves_the_records_before_it() -> None:
    file = bytearray(FILE)
    for at in range(len(FILE)):
        for bit in range(8):
            file[at] ^= 1 << bit
            if at < HEAD_BYTES:
                with pytest.raises(SnapshotError):
                    replay(bytes(file))
            else:
                read = replay(bytes(file))
                assert read.entries == STEPS[: whole_before(at)]
                assert read.left_bytes == len(FILE) - ENDS[read.sequence]
                assert f"stops after record {read.sequence}, {read.left_bytes} bytes are left behind" in read.reason
            file[at] ^= 1 << bit


@pytest.mark.parametrize("tail", [b"\0", bytes(RECORD_BYTES), bytes(4096), b"\xff" * 100, FILE, RECORDS[0], RECORDS[2]])
def test_what_does_not_belong_at_the_end_is_left_behind(tail: bytes) -> None:
    read = replay(FILE + tail)
    assert read.entries == STEPS
    assert read.left_bytes == len(tail)


@pytest.mark.parametrize(
    ("next_record", "match"),
    [
        (record(STEPS[0], 5), "is record 5 of journal 7"),
        (record(STEPS[0], 4, generation=6), "is record 4 of journal 6"),
        (encode_record(b"\xc1", Place(7, 4)), "can't be read"),
        (encode_record(b"\x93\x01", Place(7, 4)), "can't be read"),
        (encode_record(msgspec.msgpack.encode([None, 0.0, 5]), Place(7, 4)), "can't be read"),
        (encode_record(b"\x93\xc0\xca\0\0\0\0\xa2\xff\xff", Place(7, 4)), "can't be read"),
        (struct.pack("<QIQQ", 0, MAX_RECORD_BYTES + 1, 4, 7) + bytes(MAX_RECORD_BYTES + 1), "its length is damaged"),
    ],
)
def test_a_record_that_is_whole_but_wrong_ends_the_reading(next_record: bytes, match: str) -> None:
    read = replay(FILE + next_record + record(STEPS[0], 5))
    assert read.entries == STEPS
    assert match in read.reason


def test_a_seal_is_the_end() -> None:
    sealed = FILE + record(Entry(sealed=True), 4)
    read = replay(sealed)
    assert (read.entries, read.sequence, read.sealed, read.reason) == (STEPS, 4, True, "")
    read = replay(sealed + record(STEPS[0], 5))
    assert (read.entries, read.sequence, read.sealed) == (STEPS, 4, True)
    assert read.reason == f"is sealed after record 4, {len(RECORDS[0])} bytes are left behind"


def test_an_entry_of_a_later_version_with_more_fields_is_read() -> None:
    later = msgspec.msgpack.encode([None, 1.5, "uid:1", [], [], False, "new"])
    read = replay(encode_head(HEAD) + encode_record(later, Place(7, 1)))
    assert read.entries == [Entry(None, 1.5, "uid:1")]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"MAGIC": b"\x89NDS\r\n\x1a\n"}, "not a nodens journal"),
        ({"MAJOR": 2}, r"has format version 2\.0 and incompat bits 0x0, this version reads 1\.x\. Run the version"),
    ],
)
def test_another_kind_or_major_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], match: str
) -> None:
    with monkeypatch.context() as patch:
        for name, value in changes.items():
            patch.setattr(journal, name, value)
        head = encode_head(HEAD)
    with pytest.raises(SnapshotError, match=match):
        replay(head)


def test_a_higher_minor_version_is_read_and_an_unknown_incompat_bit_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal, "MINOR", 9)
        later = encode_head(HEAD)
    assert replay(later).head == HEAD
    monkeypatch.setattr(journal, "KNOWN_INCOMPAT", 0)
    packed = journal._HEAD.pack(journal.MAGIC, 1, 0, 4, 7, 6, 3)
    with pytest.raises(SnapshotError, match="incompat bits 0x4"):
        replay(packed + struct.pack("<Q", journal.xxhash.xxh3_64_intdigest(packed)))


@given(st.binary(max_size=400))
def test_any_bytes_give_a_beginning_or_the_projects_error(noise: bytes) -> None:
    assert replay(FILE + noise).entries[:3] == STEPS
    with pytest.raises(SnapshotError):
        replay(noise)


def test_order_is_kept_over_many_records() -> None:
    steps = [entry(n) for n in range(1, 1001)]
    read = replay(encode_head(HEAD) + b"".join(record(step, n) for n, step in enumerate(steps, 1)))
    assert read.entries == steps
