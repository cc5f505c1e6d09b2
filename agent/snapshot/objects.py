"""The objects section: trimmed objects in chunks.

Law: pure. Written and read in bounded steps, so that neither stands in the way of queries; nothing is read past the
section, and an object that does not decode ends the reading with an error.

Layout, little endian: u64 objects | chunks of (u32 bytes | msgpack array of [kind, key, owner, blob]).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import msgspec

from agent.cluster.objects import Stored
from agent.errors import SnapshotError

CHUNK_OBJECTS = 512
"""Objects of one chunk at most: one step of work."""
CHUNK_BYTES = 262_144
"""Bytes of blobs at which a chunk ends early."""

_COUNT = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Stored])


def encode_objects(objects: Iterable[Stored]) -> Iterator[bytes | None]:
    """Lay out an objects section, in steps: None after each chunk, the section's bytes at the end."""
    pieces: list[bytes] = [b""]
    chunk: list[Stored] = []
    count = size = 0
    for stored in objects:
        chunk.append(stored)
        size += len(stored.blob)
        if len(chunk) >= CHUNK_OBJECTS or size >= CHUNK_BYTES:
            count += len(chunk)
            pieces += _lay_out(chunk)
            chunk, size = [], 0
            yield None
    if chunk:
        count += len(chunk)
        pieces += _lay_out(chunk)
    pieces[0] = _COUNT.pack(count)
    yield b"".join(pieces)


def _lay_out(chunk: list[Stored]) -> tuple[bytes, bytes]:
    encoded = _ENCODER.encode(chunk)
    return _LENGTH.pack(len(encoded)), encoded


def decode_objects(file: bytes, offset: int, length: int) -> Iterator[Stored]:
    """Walk the objects of a section, one chunk decoded at a time.

    Args:
        file: a whole generation.
        offset: where the section starts, bytes.
        length: of the section, bytes.

    Raises:
        SnapshotError: while walking, when the section is not laid out as above. Compile from the sources anew then.
    """
    end = offset + length
    if offset < 0 or length < _COUNT.size or end > len(file):
        raise SnapshotError(f"objects section of {length} bytes is shorter than its header, or past the file's end")
    (count,) = _COUNT.unpack_from(file, offset)
    view = memoryview(file)
    at, seen = offset + _COUNT.size, 0
    while at < end:
        size = _LENGTH.unpack_from(file, at)[0] if at + _LENGTH.size <= end else length
        at += _LENGTH.size
        if size > end - at:
            raise SnapshotError(f"objects section has a chunk that ends past it, behind object {seen} of {count}")
        try:
            objects = _DECODER.decode(view[at : at + size])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SnapshotError(f"objects section can't be read behind object {seen} of {count}: {error}") from None
        at += size
        seen += len(objects)
        yield from objects
    if seen != count:
        raise SnapshotError(f"objects section has {seen} objects, its header says {count}")
