"""Answers with an age: what upstreams said of names that are not ours, ready for the wire, until it is too old.

Law: pure; the clock is an argument, monotonic milliseconds, the same one for whoever puts and whoever asks. What is
held is immutable bytes, read alike here and by compiled workers. Both bounds hold after every `put`; the entry that
was longest not renewed goes first (names in use are renewed before they expire, so they stay).

Layout, little endian:

    u64 born_ms | u64 refresh_ms | u64 expires_ms | u64 stale_until_ms | u8 rcode | u8 flags
    3 × u16 records (answer, authority, additional) | 3 × u16 bytes | u16 0
    records × u16 (offset of its TTL behind the question, ascending) | answer | authority | additional

The sections stand directly behind header and question, so names may point into both. TTLs are those at birth.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from agent.errors import WireError
from agent.wire.reply import Group
from agent.wire.sections import skip_name

MAX_ENTRIES = 65_536
MAX_BYTES = 32 << 20
ENTRY_BYTES = 320
"""What an entry takes beside its own octets: two bytes objects, a place in a dict, one in the workers' index."""
STALE_TTL_S = 30
"""TTL of what is past its own (RFC 8767 section 4)."""
STALE_TEXT = "past its TTL, being asked for again"
RA, AD, CD = 0x80, 0x20, 0x10
"""Flags that an entry may have (second octet of flags); AD is given only to who asks by AD or DO."""
_KEY_DO, _KEY_CD = 1, 2
_HEAD = struct.Struct("<QQQQBBHHHHHHH")
_KEY = struct.Struct(">HB")
_TTL = struct.Struct(">I")
_MAX_SECTIONS_BYTES = 0xFFFF


class Life(NamedTuple):
    """Times of an entry, monotonic milliseconds, not decreasing.

    Attributes:
        born_ms: when the TTLs were what is held.
        refresh_ms: from here on whoever is answered is reported too, so that it can be renewed in time.
        expires_ms: from here on it is stale.
        stale_until_ms: from here on it is not answered.
    """

    born_ms: int
    refresh_ms: int
    expires_ms: int
    stale_until_ms: int


class Timed(NamedTuple):
    """An entry as it is answered at one moment; sections without OPT.

    Attributes:
        rcode, flags: as put.
        sections: answer, authority, additional, with TTLs of that moment.
        is_stale: it is past its TTL.
        is_due: it is to be reported.
    """

    rcode: int
    flags: int
    sections: tuple[Group, Group, Group]
    is_stale: bool
    is_due: bool


def key_of(name: bytes, qtype: int, *, do: bool, cd: bool) -> bytes:
    """Give the key of a question: lower-cased wire name, type, DO and CD."""
    return name + _KEY.pack(qtype, do * _KEY_DO | cd * _KEY_CD)


def question_of(key: bytes) -> tuple[bytes, int, bool, bool]:
    """Read name, type, DO and CD of a key."""
    qtype, bits = _KEY.unpack_from(key, len(key) - _KEY.size)
    return key[: -_KEY.size], qtype, bool(bits & _KEY_DO), bool(bits & _KEY_CD)


def encode(life: Life, rcode: int, flags: int, sections: tuple[Group, Group, Group]) -> bytes:
    """Lay out an entry.

    Args:
        life: its times.
        rcode: 0-15.
        flags: of `RA`, `AD` and `CD`.
        sections: answer, authority, additional without OPT, as they stand behind the question.

    Raises:
        WireError: the sections do not hold the records they say, or more than a message can.
    """
    body = b"".join(group.body for group in sections)
    if len(body) > _MAX_SECTIONS_BYTES or not 0 <= rcode < 16:
        raise WireError("more than a message can hold")
    offsets: list[int] = []
    start = 0
    for group in sections:
        at = start
        start += len(group.body)
        try:
            for _ in range(group.records):
                at = skip_name(body, at)
                offsets.append(at + 4)
                at += 10 + (body[at + 8] << 8 | body[at + 9])
        except IndexError:
            at = -1
        if at != start:
            raise WireError("a section does not hold the records it says")
    counts = [group.records for group in sections] + [len(group.body) for group in sections]
    head = _HEAD.pack(*life, rcode, flags, *counts, 0)
    return b"%b%b%b" % (head, struct.pack(f"<{len(offsets)}H", *offsets), body)


def read(value: bytes, now_ms: int) -> Timed | None:
    """Read an entry as of now; None if it is too old."""
    born_ms, refresh_ms, expires_ms, until_ms, rcode, flags, *numbers = _HEAD.unpack_from(value)
    if now_ms >= until_ms:
        return None
    counts, sizes = numbers[:3], numbers[3:6]
    offsets = struct.unpack_from(f"<{sum(counts)}H", value, _HEAD.size)
    body = bytearray(value[_HEAD.size + 2 * len(offsets) :])
    is_stale = now_ms >= expires_ms
    age_s = max(0, now_ms - born_ms) // 1000
    for at in offsets:
        ttl_s = STALE_TTL_S if is_stale else max(0, _TTL.unpack_from(body, at)[0] - age_s)
        _TTL.pack_into(body, at, ttl_s)
    groups, at = [], 0
    for count, size in zip(counts, sizes, strict=True):
        groups.append(Group(count, bytes(body[at : at + size])))
        at += size
    return Timed(rcode, flags, (groups[0], groups[1], groups[2]), is_stale, is_stale or now_ms >= refresh_ms)


class TimedTable:
    """Entries by key, bounded in number and bytes.

    Args:
        max_entries, max_bytes: bounds; an entry that alone is over the second one is not taken.

    Attributes:
        held: key → entry, the longest not renewed first; not to be changed from outside.
        bytes: what they take, `ENTRY_BYTES` each and their own octets.
        evicted: entries that had to go for others.
        report: called with the key of what was answered and is to be renewed, and may be called often for one key.
    """

    __slots__ = ("bytes", "evicted", "held", "max_bytes", "max_entries", "report")

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.held: dict[bytes, bytes] = {}
        self.bytes = 0
        self.evicted = 0
        self.report: Callable[[bytes], None] | None = None

    def put(self, key: bytes, value: bytes) -> bool:
        """Hold an entry in the place of what was held under its key; gives whether it was taken."""
        size_bytes = ENTRY_BYTES + len(key) + len(value)
        if size_bytes > self.max_bytes or not self.max_entries:
            self.drop(key)
            self.evicted += 1
            return False
        self._show(key, value)
        before = self.held.pop(key, None)
        if before is not None:
            self.bytes -= ENTRY_BYTES + len(key) + len(before)
        self.held[key] = value
        self.bytes += size_bytes
        while len(self.held) > self.max_entries or self.bytes > self.max_bytes:
            self.drop(next(iter(self.held)))
            self.evicted += 1
        return True

    def drop(self, key: bytes) -> None:
        """Forget a key."""
        value = self.held.pop(key, None)
        if value is not None:
            self.bytes -= ENTRY_BYTES + len(key) + len(value)
            self._show(key, None)

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self.held):
            self.drop(key)

    def find(self, key: bytes) -> bytes | None:
        """Find an entry."""
        return self.held.get(key)

    def _show(self, key: bytes, value: bytes | None) -> None:
        """Show a change to whoever reads beside Python."""
