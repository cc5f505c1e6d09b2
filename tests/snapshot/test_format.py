"""A generation file: what is written is read; what was cut, flipped or made by a later version is not."""

from __future__ import annotations

import struct

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SnapshotError
from agent.snapshot import format as layout
from agent.snapshot.format import (
    ALIGN_BYTES,
    MAX_SECTIONS,
    PAGE_BYTES,
    SECTION_ANSWERS,
    SECTION_OBJECTS,
    SECTION_PROFILE,
    check_layout,
    decode,
    encode,
    parse_page,
)
from tests.snapshot.history import header

SECTIONS = [
    (SECTION_PROFILE, b"profile"),
    (SECTION_OBJECTS, b"o" * 33),
    (SECTION_ANSWERS, b"a" * 16),
    (99, b"later"),
]


def small_file(**changes: object) -> bytes:
    return b"".join(encode(header(7, **changes), SECTIONS))


def resealed(file: bytes, *changes: tuple[int, bytes]) -> bytes:
    """The file with bytes of its header replaced and the header's digest made right again: a hostile writer's."""
    out = bytearray(file)
    for at, replacement in changes:
        out[at : at + len(replacement)] = replacement
    out[4080:4096] = xxhash.xxh3_128_digest(bytes(out[:3952]))
    return bytes(out)


def test_what_is_written_is_read() -> None:
    wanted = header(7, compat=2, positions={"Service": "41", "EndpointSlice": "42"})
    file = b"".join(encode(wanted, SECTIONS))
    generation = decode(file)
    assert generation.header == wanted
    assert generation.file is file
    assert {number: file[at : at + size] for number, (at, size) in generation.sections.items()} == dict(SECTIONS)
    assert all(at % ALIGN_BYTES == 0 for at, _ in generation.sections.values())


def test_sections_are_not_copied() -> None:
    answers = bytes(1000)
    assert any(piece is answers for piece in encode(header(1), [(SECTION_ANSWERS, answers)]))


def test_generation_without_sections_is_a_page() -> None:
    file = b"".join(encode(header(1), []))
    assert len(file) == PAGE_BYTES
    assert decode(file).sections == {}


def test_every_flipped_bit_is_found() -> None:
    file = bytearray(small_file())
    unnoticed = []
    for at in range(len(file)):
        for bit in range(8):
            file[at] ^= 1 << bit
            try:
                decode(bytes(file))
            except SnapshotError:
                pass
            else:
                unnoticed.append((at, bit))
            file[at] ^= 1 << bit
    assert unnoticed == []


def test_every_cut_and_every_surplus_is_found() -> None:
    file = small_file()
    for length in range(len(file)):
        with pytest.raises(SnapshotError):
            decode(file[:length])
    for surplus in (b"\0", b"\0" * 16, file):
        with pytest.raises(SnapshotError, match="cut or grew"):
            decode(file + surplus)


@given(st.binary(max_size=5000))
def test_any_bytes_are_refused_with_the_projects_error(noise: bytes) -> None:
    for file in (noise, layout.MAGIC + noise, small_file()[:80] + noise):
        with pytest.raises(SnapshotError):
            decode(file)


@given(st.integers(8, 3951), st.binary(min_size=1, max_size=40))
def test_a_header_with_a_right_digest_is_still_not_believed(at: int, replacement: bytes) -> None:
    file = small_file()
    forged = resealed(file, (at, replacement[: 3952 - at]))
    try:
        generation = decode(forged)
    except SnapshotError:
        return
    # What was taken lies inside the file.
    assert all(PAGE_BYTES <= offset <= offset + size <= len(file) for offset, size in generation.sections.values())


def test_unknown_section_is_left_alone() -> None:
    assert 99 in decode(small_file()).sections
    assert [section.name for section in parse_page(small_file()).sections] == [
        "profile",
        "objects",
        "answers",
        "unknown",
    ]


def test_unknown_compat_bit_and_higher_minor_version_are_read() -> None:
    generation = decode(small_file(compat=1 << 63 | 1 << 1, minor=9))
    assert (generation.header.compat, generation.header.minor) == (1 << 63 | 1 << 1, 9)


def test_unknown_incompat_bit_is_refused_by_name() -> None:
    with pytest.raises(SnapshotError, match=r"does not know \(incompat bits 0x20\)\. Run the version"):
        decode(small_file(incompat=1 << 5))


@pytest.mark.parametrize("major", [0, 2, 65535])
def test_another_major_version_is_refused_by_name(major: int) -> None:
    with pytest.raises(SnapshotError, match=rf"has format version {major}\.0, this version reads 1\.x\. Run the"):
        decode(small_file(major=major))


def test_a_damaged_header_names_the_version_it_claims() -> None:
    file = bytearray(small_file(major=3))
    file[100] ^= 1
    with pytest.raises(SnapshotError, match=r"its version field says 3\.0"):
        decode(bytes(file))


def test_damage_names_the_section() -> None:
    file = bytearray(small_file())
    file[-1] ^= 1
    with pytest.raises(SnapshotError, match=r"digest of section 99 \(unknown\) differs"):
        decode(bytes(file))
    file = bytearray(small_file())
    file[PAGE_BYTES + 7] = 1
    with pytest.raises(SnapshotError, match=r"bytes stand in front of section 2 \(objects\)"):
        decode(bytes(file))


def test_signature_room_is_zero_unless_signed() -> None:
    forged = bytearray(small_file())
    forged[4000] = 1
    with pytest.raises(SnapshotError, match="not signed"):
        decode(bytes(forged))
    signed = bytearray(small_file(compat=layout.COMPAT_SIGNED))
    signed[3952:4080] = bytes(range(128))
    assert decode(bytes(signed)).header.compat == layout.COMPAT_SIGNED


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ([(12, struct.pack("<I", 8192))], "counts"),
        ([(72, struct.pack("<I", MAX_SECTIONS + 1))], "counts"),
        ([(76, struct.pack("<I", layout.MAX_TEXT_BYTES + 1))], "counts"),
        ([(32, struct.pack("<Q", 0))], "generation 0"),
        ([(32, struct.pack("<Q", 10**18))], "generation 1000000000000000000"),
        ([(40, struct.pack("<Q", 2**63))], "epoch"),
        ([(48, struct.pack("<d", float("nan")))], "not wall times"),
        ([(56, struct.pack("<d", float("inf")))], "not wall times"),
        ([(48, struct.pack("<d", -1.0))], "not wall times"),
        ([(64, struct.pack("<Q", 5000))], "cut or grew"),
        ([(72, struct.pack("<I", 3))], "sections that end at"),
        ([(80 + 8, struct.pack("<Q", 0))], r"section 1 \(profile\) not where"),
        ([(120, struct.pack("<I", SECTION_PROFILE))], r"section 1 \(profile\) not where the one before it ends, or tw"),
        ([(80 + 16, struct.pack("<Q", 2**64 - 1))], "not where"),
        ([(1360, b"\xc1")], "text in its header"),
        ([(1360, b"\x93\x01\x02\x03")], "text in its header"),
        ([(1361, b"\xa5\xff\xff\xff\xff\xff")], "text in its header"),
    ],
)
def test_a_hostile_header_is_refused(changes: list[tuple[int, bytes]], match: str) -> None:
    with pytest.raises(SnapshotError, match=match):
        decode(resealed(small_file(), *changes))


def test_layout_is_checked_apart_from_the_bytes() -> None:
    file = small_file()
    found = parse_page(file[:PAGE_BYTES])
    assert found.file_bytes == len(file)
    check_layout(found, len(file))
    with pytest.raises(SnapshotError, match="cut or grew"):
        check_layout(found, len(file) - 1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"generation": 0}, "generation 0"),
        ({"epoch": -1}, "epoch -1"),
        ({"confirmed_unix_s": float("nan")}, "wall times"),
        ({"origin": "x" * 3000}, "bytes of identity, origin and positions"),
    ],
)
def test_what_would_not_be_read_is_not_written(changes: dict[str, object], match: str) -> None:
    with pytest.raises(SnapshotError, match=match):
        encode(msgspec.structs.replace(header(1), **changes), [])


@pytest.mark.parametrize("ids", [range(MAX_SECTIONS + 1), (1, 1)])
def test_too_many_sections_and_one_twice_are_not_written(ids: list[int]) -> None:
    with pytest.raises(SnapshotError, match="or one of them twice"):
        encode(header(1), [(number, b"") for number in ids])
    assert len(decode(b"".join(encode(header(1), [(n, b"") for n in range(MAX_SECTIONS)]))).sections) == MAX_SECTIONS
