"""The objects section: written in steps, read lazily, never past its end."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.objects import Stored
from agent.errors import SnapshotError
from agent.snapshot.objects import CHUNK_BYTES, CHUNK_OBJECTS, decode_objects, encode_objects

stored = st.builds(Stored, st.text(max_size=5), st.text(max_size=9), st.text(max_size=9), st.binary(max_size=20))


def section(objects: list[Stored]) -> bytes:
    *_, last = encode_objects(objects)
    assert last is not None
    return last


@given(st.lists(stored, max_size=20), st.binary(max_size=9), st.binary(max_size=9))
def test_what_is_written_is_read_wherever_it_lies(objects: list[Stored], before: bytes, behind: bytes) -> None:
    written = section(objects)
    found = list(decode_objects(before + written + behind, len(before), len(written)))
    assert found == objects
    assert all(isinstance(each, Stored) for each in found)


def test_writing_goes_in_bounded_steps() -> None:
    small = [Stored("Service", f"a/{n}", f"a/{n}", b"x") for n in range(CHUNK_OBJECTS * 2 + 1)]
    steps = list(encode_objects(small))
    assert steps[:-1] == [None, None]
    large = [Stored("Service", "a/b", "a/b", bytes(CHUNK_BYTES // 2 + 1))] * 4
    steps = list(encode_objects(large))
    assert steps[:-1] == [None, None]
    for objects in (small, large):
        assert list(decode_objects(section(objects), 0, len(section(objects)))) == objects


def test_objects_are_decoded_only_when_they_are_reached() -> None:
    objects = [Stored("Service", f"a/{n}", f"a/{n}", b"x") for n in range(CHUNK_OBJECTS + 1)]
    damaged = section(objects)[:-2] + b"\x09x"  # the last blob claims to be longer than the section
    walk = decode_objects(damaged, 0, len(damaged))
    assert [next(walk) for _ in range(CHUNK_OBJECTS)] == objects[:CHUNK_OBJECTS]
    with pytest.raises(SnapshotError, match=f"behind object {CHUNK_OBJECTS} of {CHUNK_OBJECTS + 1}"):
        next(walk)


def test_every_cut_and_every_flipped_bit_gives_objects_or_the_projects_error() -> None:
    written = section([Stored("Service", "a/b", "a/b", b"blob"), Stored("Namespace", "a", "a", b"blob")])
    for length in range(len(written)):
        with pytest.raises(SnapshotError):
            list(decode_objects(written, 0, length))
    for at in range(len(written) * 8):
        flipped = bytearray(written)
        flipped[at // 8] ^= 1 << at % 8
        with suppress(SnapshotError):
            assert len(list(decode_objects(bytes(flipped), 0, len(flipped)))) == 2


@pytest.mark.parametrize(("offset", "length"), [(-1, 20), (0, 7), (1, 40), (30, 20), (50, 8)])
def test_a_section_outside_the_file_is_refused(offset: int, length: int) -> None:
    with pytest.raises(SnapshotError, match="shorter than its header, or past the file's end"):
        list(decode_objects(bytes(40), offset, length))


def test_a_wrong_count_and_a_chunk_past_the_end_are_refused() -> None:
    written = bytearray(section([Stored("Namespace", "a", "a", b"")]))
    written[0] = 2
    with pytest.raises(SnapshotError, match="has 1 objects, its header says 2"):
        list(decode_objects(bytes(written), 0, len(written)))
    with pytest.raises(SnapshotError, match="chunk that ends past it, behind object 0 of 2"):
        list(decode_objects(bytes(written), 0, len(written) - 1))
    with pytest.raises(SnapshotError, match="chunk that ends past it"):
        list(decode_objects(bytes(written), 0, 11))
