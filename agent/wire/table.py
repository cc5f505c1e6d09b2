"""AnswerTable: name → node, in Python.

Law: reading needs no lock and no copy of the snapshot file; a name changes as a whole. Three layers, newest
first: `overlay` (changes since the last freeze), `frozen` (changes that a generation is being written from)
and `base` (the answers section of a snapshot file, used as it lies there).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import xxhash

from agent.errors import SnapshotError

MAX_PROBES = 64
"""Bound of a lookup in a packed base; a section that needs more is rejected when it is made."""
_SECTION = struct.Struct("<QQQQ")
_LENGTH = struct.Struct("<I")
_EMPTY = 0


class ZoneMeta(NamedTuple):
    """A zone that is ours.

    Attributes:
        name: apex in wire form, lower-cased.
        number: its index in a node's `zone` field.
        reverse: it is one of the two reverse trees.
    """

    name: bytes
    number: int
    reverse: bool


class PackedNodes:
    """The answers section of a snapshot: an open-addressed index in front of the nodes.

    Layout, little endian: u64 seed | u64 slots (a power of two) | u64 names | u64 blob bytes |
    slots × u32 (offset in the blob, plus one; 0 is empty) | slots × u32 tag (high half of the hash) |
    blob: u8 key length, key, u32 node length, node. Hash: xxh3-64 of the key with the seed, which is drawn
    anew for each file so that nobody who may create Services can aim for collisions; the first slot is its low
    bits, the step to the next one its high half made odd (double hashing keeps the longest search short).

    Attributes:
        find: finds the node of a lower-cased wire name, None if it isn't here.
        names: how many there are.
        bytes: length of the section.
        file, at: where it lies.

    Raises:
        SnapshotError: the section is not laid out like that.
    """

    __slots__ = ("_blob_at", "at", "bytes", "file", "find", "names")

    def __init__(self, file: bytes, at: int, length: int) -> None:
        if length < _SECTION.size or at + length > len(file):
            raise SnapshotError("answers section is shorter than its header")
        seed, slots, names, blob_bytes = _SECTION.unpack_from(file, at)
        if slots & (slots - 1) or not slots or _SECTION.size + slots * 8 + blob_bytes != length or names >= slots:
            raise SnapshotError("answers section's counts do not add up")
        index = memoryview(file)[at + _SECTION.size : at + _SECTION.size + slots * 8]
        offsets, tags = index[: slots * 4].cast("I"), index[slots * 4 :].cast("I")
        if max(offsets) > blob_bytes:
            raise SnapshotError("answers section's index points past its end")
        if _EMPTY not in offsets:
            raise SnapshotError("answers section's index has no empty place, where a search would end")
        self.file, self.at = file, at
        self._blob_at = at + _SECTION.size + slots * 8 - 1
        self.names = names
        self.bytes = length
        self.find = _finder(file, self._blob_at, seed, offsets, tags)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Walk all (name, node) in the order of the blob."""
        at, file = self._blob_at + 1, self.file
        for _ in range(self.names):
            end = at + 1 + file[at]
            (length,) = _LENGTH.unpack_from(file, end)
            yield file[at + 1 : end], file[end + 4 : end + 4 + length]
            at = end + 4 + length


def _finder(
    file: bytes, blob_at: int, seed: int, offsets: memoryview, tags: memoryview
) -> Callable[[bytes], bytes | None]:
    """Make a section's `find`: a closure, because its names cost less than attributes, a fifth of the whole."""
    mask = len(offsets) - 1
    hash_of, read_length = xxhash.xxh3_64_intdigest, _LENGTH.unpack_from

    def find(key: bytes) -> bytes | None:
        hashed = hash_of(key, seed)
        slot, tag = hashed & mask, hashed >> 32
        # Odd steps through a power of two pass every place, so the search ends at an empty one at the latest.
        while offset := offsets[slot]:
            if tags[slot] == tag:
                at = blob_at + offset + 1
                end = at + file[at - 1]
                if file[at:end] == key:
                    at = end + 4
                    return file[at : at + read_length(file, end)[0]]
            slot = (slot + (tag | 1)) & mask
        return None

    return find


def pack(items: Iterable[tuple[bytes, bytes]], names: int, seed: int) -> Iterator[bytes | None]:
    """Lay out an answers section, in steps: None after each bounded piece of work, the section at the end.

    Args:
        items: (name, node), each name once.
        names: how many there will be at most.
        seed: 64 bits nobody else can guess.

    Raises:
        SnapshotError: a name would need more than `MAX_PROBES` probes; try another seed.
    """
    slots = 1 << max(4, (names * 3 // 2).bit_length())
    mask = slots - 1
    offsets, tags = array("I", bytes(slots * 4)), array("I", bytes(slots * 4))
    blob, count = bytearray(), 0
    for count, (key, node) in enumerate(items, 1):
        hashed = xxhash.xxh3_64_intdigest(key, seed)
        slot, step = hashed & mask, (hashed >> 32) | 1
        for _ in range(MAX_PROBES):
            if not offsets[slot]:
                break
            slot = (slot + step) & mask
        else:
            raise SnapshotError(f"more than {MAX_PROBES} names share a place in the index")
        offsets[slot], tags[slot] = len(blob) + 1, hashed >> 32
        blob += b"%c%b%b%b" % (len(key), key, _LENGTH.pack(len(node)), node)
        if not count % 512:
            yield None
    yield b"".join((_SECTION.pack(seed, slots, count, len(blob)), offsets.tobytes(), tags.tobytes(), blob))


class AnswerTable:
    """Every name that is ours, and what is answered at it.

    Attributes:
        zones: own zones; a node's `zone` field is an index into it.
        version: another number after every change, so that whoever remembers an answer knows when to forget it.
    """

    __slots__ = ("_longest_first", "base", "frozen", "overlay", "version", "zones")

    def __init__(self, zones: tuple[ZoneMeta, ...]) -> None:
        self.overlay: dict[bytes, bytes | None] = {}
        self.frozen: dict[bytes, bytes | None] | None = None
        self.base: PackedNodes | None = None
        self.zones = zones
        self.version = 0
        self._longest_first = sorted(zones, key=lambda zone: -len(zone.name))

    def find(self, key: bytes) -> bytes | None:
        """Find the node of a lower-cased wire name, None if the name does not exist."""
        if key in self.overlay:
            return self.overlay[key]
        if self.frozen is not None and key in self.frozen:
            return self.frozen[key]
        return self.base.find(key) if self.base is not None else None

    def put(self, key: bytes, node: bytes | None) -> None:
        """Replace what is held at a name; None takes the name away."""
        self.version += 1
        if node is None and self.frozen is None and self.base is None:
            self.overlay.pop(key, None)
        else:
            self.overlay[key] = node

    def zone_of(self, key: bytes) -> ZoneMeta | None:
        """Find the closest own zone that a wire name lies in (itself included)."""
        for zone in self._longest_first:
            if key.endswith(zone.name):
                # The same octets inside a label are no zone, so the labels in front are counted.
                at, apex = 0, len(key) - len(zone.name)
                while at < apex:
                    at += key[at] + 1
                if at == apex:
                    return zone
        return None

    def freeze(self) -> None:
        """Set the overlay aside so that a generation can be written from it while changes go on."""
        if self.frozen is not None:
            raise SnapshotError("a generation is being written already")
        self.frozen, self.overlay = self.overlay, {}

    def thaw(self) -> None:
        """Take a freeze back: writing the generation failed."""
        if self.frozen is not None:
            self.frozen.update(self.overlay)
            self.overlay, self.frozen = self.frozen, None

    def rebase(self, base: PackedNodes) -> None:
        """Put a written generation in the place of the base and of what was frozen for it."""
        self.base, self.frozen = base, None
        self.version += 1

    def take_over(self, other: AnswerTable) -> None:
        """Hold what another table of the same zones holds, from one query to the next; the other is given up."""
        self.overlay, self.frozen, self.base = other.overlay, other.frozen, other.base
        if self.frozen is None and self.base is None:
            self.overlay = {key: node for key, node in self.overlay.items() if node is not None}
        self.version += 1

    def frozen_items(self) -> Iterator[tuple[bytes, bytes]]:
        """Walk (name, node) of base and frozen layer merged: what a new generation holds."""
        frozen = self.frozen if self.frozen is not None else {}
        if self.base is not None:
            for key, node in self.base.items():
                if key not in frozen:
                    yield key, node
        for key, held in frozen.items():
            if held is not None:
                yield key, held

    def names_at_most(self) -> int:
        """Bound the number of names held, without walking them."""
        frozen = len(self.frozen) if self.frozen is not None else 0
        return len(self.overlay) + frozen + (self.base.names if self.base is not None else 0)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Walk every (name, node) held now; for tools and tests, not while the table changes."""
        for key, node in self.frozen_items():
            if key not in self.overlay:
                yield key, node
        for key, held in self.overlay.items():
            if held is not None:
                yield key, held
