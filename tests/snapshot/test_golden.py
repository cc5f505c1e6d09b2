"""Format 1.0, byte for byte: files that a released version wrote must be read for ever.

The golden files are read here a second time by nothing but the offsets of docs/snapshot-format.md.
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import xxhash

from agent.cluster.objects import Stored
from agent.snapshot.entries import Entry, Head, Place, encode_head, encode_record, replay
from agent.snapshot.format import (
    SECTION_ANSWERS,
    SECTION_OBJECTS,
    SECTION_PROFILE,
    Header,
    decode,
    encode,
)
from agent.snapshot.objects import decode_objects, encode_objects

GOLDEN = Path(__file__).with_name("golden")
GENERATION = GOLDEN / "gen-7.nds"
JOURNAL = GOLDEN / "journal-7.ndj"

HEADER = Header(
    cluster_identity="uid:6f1f9a52",
    generation=7,
    epoch=2,
    positions={"Namespace": "11", "Service": "12", "EndpointSlice": "13"},
    confirmed_unix_s=1_733_930_000.5,
    written_unix_s=1_733_930_001.25,
    origin="kubernetes",
)
OBJECTS = [
    Stored("Namespace", "payments", "payments", b"\x92\xa8payments\xa0"),
    Stored("Service", "a/b", "a/b", b"\x90"),
]
CHANGE = Entry(
    {"Service": "14"},
    1_733_930_060.0,
    "uid:6f1f9a52",
    [("Service", "a/c", "a/c", b"\x90"), ("Service", "a/b", "a/b", None)],
    [(b"\1c\1a\0", b"node"), (b"\1b\1a\0", None)],
)


def made() -> dict[Path, bytes]:
    """What this version writes."""
    *_, objects = encode_objects(OBJECTS)
    assert objects is not None
    sections = [(SECTION_PROFILE, b"profile"), (SECTION_OBJECTS, objects), (SECTION_ANSWERS, bytes(range(64)))]
    records = [msgspec.msgpack.encode(step) for step in (CHANGE, Entry(sealed=True))]
    return {
        GENERATION: b"".join(encode(HEADER, sections)),
        JOURNAL: encode_head(Head(7, Place(6, 31)))
        + b"".join(encode_record(record, Place(7, number)) for number, record in enumerate(records, 1)),
    }


def test_golden_files_are_read() -> None:
    generation = decode(GENERATION.read_bytes())
    assert generation.header == HEADER
    assert list(decode_objects(generation.file, *generation.sections[SECTION_OBJECTS])) == OBJECTS
    offset, length = generation.sections[SECTION_ANSWERS]
    assert generation.file[offset : offset + length] == bytes(range(64))
    journal = replay(JOURNAL.read_bytes())
    assert (journal.head, journal.entries, journal.sealed) == (Head(7, Place(6, 31)), [CHANGE], True)


def test_what_is_written_is_what_was_written() -> None:
    for path, content in made().items():
        assert content == path.read_bytes(), f"{path.name}: this is another format, and needs another version number"


def test_golden_generation_by_the_documented_offsets() -> None:
    file = GENERATION.read_bytes()
    assert file[:8] == b"\x89NDS\r\n\x1a\n"
    assert struct.unpack_from("<HHIQQ", file, 8) == (1, 0, 4096, 0, 0)
    assert struct.unpack_from("<QQddQ", file, 32) == (7, 2, 1_733_930_000.5, 1_733_930_001.25, len(file))
    rows, text_bytes = struct.unpack_from("<II", file, 72)
    end = 4096
    for row, wanted in zip(range(rows), (1, 2, 3), strict=True):
        number, flags, offset, length = struct.unpack_from("<IIQQ", file, 80 + 40 * row)
        assert (number, flags, offset) == (wanted, 0, (end + 15) // 16 * 16)
        assert not any(file[end:offset])
        end = offset + length
        assert file[80 + 40 * row + 24 : 120 + 40 * row] == xxhash.xxh3_128_digest(file[offset:end])
    assert end == len(file)
    text = msgspec.msgpack.decode(file[1360 : 1360 + text_bytes])
    assert text == ["uid:6f1f9a52", "kubernetes", {"Namespace": "11", "Service": "12", "EndpointSlice": "13"}]
    assert not any(file[80 + 40 * rows : 1360])
    assert not any(file[1360 + text_bytes : 4080])
    assert file[4080:4096] == xxhash.xxh3_128_digest(file[:3952])


def test_golden_journal_by_the_documented_offsets() -> None:
    file = JOURNAL.read_bytes()
    assert file[:8] == b"\x89NDJ\r\n\x1a\n"
    assert struct.unpack_from("<HHIQQQ", file, 8) == (1, 0, 0, 7, 6, 31)
    assert struct.unpack_from("<Q", file, 40)[0] == xxhash.xxh3_64_intdigest(file[:40])
    at, payloads = 48, []
    while at < len(file):
        digest, length, sequence, generation = struct.unpack_from("<QIQQ", file, at)
        end = at + 28 + length
        assert digest == xxhash.xxh3_64_intdigest(file[at + 8 : end])
        assert (sequence, generation) == (len(payloads) + 1, 7)
        payloads.append(msgspec.msgpack.decode(file[at + 28 : end]))
        at = end
    assert payloads == [
        [
            {"Service": "14"},
            1_733_930_060.0,
            "uid:6f1f9a52",
            [["Service", "a/c", "a/c", b"\x90"], ["Service", "a/b", "a/b", None]],
            [[b"\1c\1a\0", b"node"], [b"\1b\1a\0", None]],
            False,
        ],
        [None, 0.0, "", [], [], True],
    ]
