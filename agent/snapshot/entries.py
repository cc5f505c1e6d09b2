"""What a journal holds: changes between generations, record by record (docs/snapshot-format.md has the table).

Law: pure, bytes in, bytes out. A record counts only if it is whole and every record before it was. Reading stops at
the first that isn't, and nothing behind it is ever looked at: a hole would look like a state that never was.

Layout, little endian. Head: magic | u16 major | u16 minor | u32 incompat | u64 generation | u64 follows.generation |
u64 follows.sequence | u64 xxh3-64 of what stands before. Record: u64 xxh3-64 of all that stands behind it |
u32 payload bytes | u64 sequence | u64 generation | payload (msgpack of `Entry`).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec
import xxhash

from agent.errors import SnapshotError

MAGIC = b"\x89NDJ\r\n\x1a\n"
MAJOR = 1
MINOR = 0
KNOWN_INCOMPAT = 0
MAX_RECORD_BYTES = 16_777_216
"""Largest payload of a record; a change beyond it is worth a generation."""

_HEAD = struct.Struct("<8sHHIQQQ")
_DIGEST = struct.Struct("<Q")
_BODY = struct.Struct("<IQQ")
HEAD_BYTES = _HEAD.size + _DIGEST.size
RECORD_BYTES = _DIGEST.size + _BODY.size


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One consistent step.

    Attributes:
        positions: kind → resume token after this step; None: as before.
        confirmed_unix_s: wall time at which the source last confirmed the state.
        identity: of the cluster; "" if unknown.
        objects: (kind, key, owner, blob, or None: gone), in order.
        nodes: (name in wire form, node, or None: gone), in order.
        sealed: the last record of a journal that was ended on purpose; it changes nothing.
    """

    positions: dict[str, str] | None = None
    confirmed_unix_s: float = 0.0
    identity: str = ""
    objects: list[tuple[str, str, str, bytes | None]] = []
    nodes: list[tuple[bytes, bytes | None]] = []
    sealed: bool = False


class Place(NamedTuple):
    """A point in the history on disk: after record `sequence` (0: before the first) of journal `generation`."""

    generation: int
    sequence: int


NOWHERE = Place(0, 0)


class Head(NamedTuple):
    """First bytes of a journal.

    Attributes:
        generation: number of the journal, and of the generation it goes on from.
        follows: where the history goes on from if that generation is not there: each record of this journal was
            written after that point and after nothing else.
    """

    generation: int
    follows: Place


class Replay(NamedTuple):
    """What a journal holds.

    Attributes:
        head: its head.
        entries: good records in order, the seal left out; entry i is record i + 1.
        sequence: of the last good record.
        sealed: it was ended on purpose.
        size_bytes: of the whole file.
        left_bytes: bytes behind the last good record.
        reason: why they were left, "" if none were.
    """

    head: Head
    entries: list[Entry]
    sequence: int
    sealed: bool
    size_bytes: int
    left_bytes: int
    reason: str


_ENCODE = msgspec.msgpack.Encoder()
_DECODE = msgspec.msgpack.Decoder(Entry)


def encode_head(head: Head) -> bytes:
    """Lay out the head of a journal."""
    packed = _HEAD.pack(MAGIC, MAJOR, MINOR, 0, head.generation, *head.follows)
    return packed + _DIGEST.pack(xxhash.xxh3_64_intdigest(packed))


def read_head(file: bytes) -> Head:
    """Read the head of a journal.

    Raises:
        SnapshotError: it is cut, damaged, or of a version that can't be read.
    """
    if len(file) < HEAD_BYTES:
        raise SnapshotError(f"is cut: {len(file)} bytes, the head alone has {HEAD_BYTES}")
    magic, major, minor, incompat, *numbers = _HEAD.unpack_from(file)
    if magic != MAGIC:
        raise SnapshotError("is not a nodens journal: the first bytes differ")
    if _DIGEST.unpack_from(file, _HEAD.size)[0] != xxhash.xxh3_64_intdigest(file[: _HEAD.size]):
        raise SnapshotError(f"head is damaged: its digest differs (its version field says {major}.{minor})")
    if major != MAJOR or incompat & ~KNOWN_INCOMPAT:
        raise SnapshotError(
            f"has format version {major}.{minor} and incompat bits {incompat:#x}, this version reads {MAJOR}.x",
            hint="Run the version of nodens that wrote it",
        )
    return Head(numbers[0], Place(numbers[1], numbers[2]))


def encode_record(payload: bytes, place: Place) -> bytes:
    """Lay out one record."""
    body = _BODY.pack(len(payload), place.sequence, place.generation) + payload
    return _DIGEST.pack(xxhash.xxh3_64_intdigest(body)) + body


def replay(file: bytes) -> Replay:
    """Read a journal up to the first bad record.

    Raises:
        SnapshotError: its head can't be used, so nothing of it can.
    """
    head = read_head(file)
    view, end = memoryview(file), len(file)
    entries: list[Entry] = []
    at, sequence, sealed, reason = HEAD_BYTES, 0, False, ""
    while at < end and not reason:
        found = _read_record(view[at:], Place(head.generation, sequence + 1))
        if isinstance(found, str):
            reason = f"stops after record {sequence}, {end - at} bytes are left behind: the next record {found}"
        elif sealed:
            reason = f"is sealed after record {sequence}, {end - at} bytes are left behind"
        else:
            entry, size = found
            sequence, at, sealed = sequence + 1, at + size, entry.sealed
            if not sealed:
                entries.append(entry)
    return Replay(head, entries, sequence, sealed, end, end - at, reason)


def _read_record(rest: memoryview, place: Place) -> tuple[Entry, int] | str:
    """Read the record at the start of `rest`: the entry and its size in bytes, or what is wrong with it."""
    if len(rest) < RECORD_BYTES:
        return "is cut"
    (digest,) = _DIGEST.unpack_from(rest)
    length, sequence, generation = _BODY.unpack_from(rest, _DIGEST.size)
    size = RECORD_BYTES + length
    if length > MAX_RECORD_BYTES or size > len(rest):
        return "is cut, or its length is damaged"
    if xxhash.xxh3_64_intdigest(rest[_DIGEST.size : size]) != digest:
        return "is damaged: its digest differs"
    if (generation, sequence) != place:
        return f"is record {sequence} of journal {generation}"
    try:
        return _DECODE.decode(rest[RECORD_BYTES:size]), size
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"can't be read: {error}"
