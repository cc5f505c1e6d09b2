"""The generation file: layout, checksums, versions (docs/snapshot-format.md has the table).

Law: pure, bytes in, bytes out. Nothing of a file is believed before its digest: every flipped bit and every cut is
found, and what is not understood (a higher major version, an incompat bit) is refused in words. What may be unknown
(a higher minor version, a compat bit, a section) is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import xxhash

from agent.errors import SnapshotError

MAGIC = b"\x89NDS\r\n\x1a\n"
MAJOR = 1
MINOR = 0
COMPAT_SIGNED = 1
"""Compat bit 0: the signature room holds a signature. Without it the room must be zero."""
KNOWN_COMPAT = COMPAT_SIGNED
KNOWN_INCOMPAT = 0

SECTION_PROFILE = 1
SECTION_OBJECTS = 2
SECTION_ANSWERS = 3
SECTION_NAMES = {SECTION_PROFILE: "profile", SECTION_OBJECTS: "objects", SECTION_ANSWERS: "answers"}

PAGE_BYTES = 4096
MAX_SECTIONS = 32
ALIGN_BYTES = 16
"""Sections start at multiples of it, so that an index of integers can be read where it lies."""
MAX_NUMBER = 10**18 - 1
"""Highest generation number: 18 digits in a file name, and room below 2**63."""
MAX_EPOCH = 2**63 - 1
MAX_UNIX_S = 1e11
"""A time past the year 5138 is no time."""

_HEAD = struct.Struct("<8sHHIQQQQddQII")
_SECTION = struct.Struct("<IIQQ16s")
_TABLE_AT = _HEAD.size
_TEXT_AT = _TABLE_AT + MAX_SECTIONS * _SECTION.size
_SIGNATURE_AT = 3952
_DIGEST_AT = 4080
MAX_TEXT_BYTES = _SIGNATURE_AT - _TEXT_AT
_NO_SIGNATURE = bytes(_DIGEST_AT - _SIGNATURE_AT)
_UPGRADE = "Run the version of nodens that wrote it, or remove the file to start from an older generation"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation is about.

    Attributes:
        cluster_identity: `uid:` + UID of the kube-system Namespace; "" if unknown.
        generation: its number, 1 to `MAX_NUMBER`.
        epoch: raised when order starts anew (another cluster, a restored control plane).
        positions: kind → resume token of the source (a resourceVersion).
        confirmed_unix_s: wall time at which the source last confirmed the state.
        written_unix_s: wall time of writing.
        origin: name of the source.
        major: format version; another major is refused.
        minor: format version; any is read.
        compat: feature bits a reader may ignore.
        incompat: feature bits a reader must know.
    """

    cluster_identity: str
    generation: int
    epoch: int
    positions: dict[str, str]
    confirmed_unix_s: float
    written_unix_s: float
    origin: str
    major: int = MAJOR
    minor: int = MINOR
    compat: int = 0
    incompat: int = 0


class Section(NamedTuple):
    """One row of the section table: `offset` and `length` in bytes, `digest` the xxh3-128 of its bytes."""

    id: int
    offset: int
    length: int
    digest: bytes

    @property
    def name(self) -> str:
        """Name for people."""
        return SECTION_NAMES.get(self.id, "unknown")


class Layout(NamedTuple):
    """A header page whose own digest is right; the rest of the file has not been looked at."""

    header: Header
    sections: tuple[Section, ...]
    file_bytes: int


class Generation(NamedTuple):
    """A verified generation.

    Attributes:
        header: what it is about.
        sections: id → (offset, length) in `file`, in bytes; unknown ids are in it and can be left alone.
        file: the whole file; sections are used where they lie.
    """

    header: Header
    sections: dict[int, tuple[int, int]]
    file: bytes


class _Text(msgspec.Struct, frozen=True, array_like=True):
    cluster_identity: str
    origin: str
    positions: dict[str, str]


_ENCODE_TEXT = msgspec.msgpack.Encoder()
_DECODE_TEXT = msgspec.msgpack.Decoder(_Text)


def encode(header: Header, sections: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Lay out a generation: the pieces of the file in order. Sections are passed through, not copied.

    Args:
        header: what it is about; version and feature bits are written as they are given.
        sections: (id, bytes), each id once.

    Raises:
        SnapshotError: something does not fit the header page.
    """
    _check_values(header)
    if len(sections) > MAX_SECTIONS or len({number for number, _ in sections}) != len(sections):
        raise SnapshotError(f"has {len(sections)} sections, more than {MAX_SECTIONS}, or one of them twice")
    text = _ENCODE_TEXT.encode(_Text(header.cluster_identity, header.origin, header.positions))
    if len(text) > MAX_TEXT_BYTES:
        raise SnapshotError(
            f"has {len(text)} bytes of identity, origin and positions, its header has room for {MAX_TEXT_BYTES}",
            hint="Give the source a shorter name",
        )
    page = bytearray(PAGE_BYTES)
    pieces: list[bytes] = [b""]
    end = PAGE_BYTES
    for row, (number, content) in enumerate(sections):
        offset = _aligned(end)
        row_at = _TABLE_AT + row * _SECTION.size
        _SECTION.pack_into(page, row_at, number, 0, offset, len(content), xxhash.xxh3_128_digest(content))
        pieces += (bytes(offset - end), content)
        end = offset + len(content)
    _HEAD.pack_into(
        page, 0, MAGIC, header.major, header.minor, PAGE_BYTES, header.compat, header.incompat, header.generation,
        header.epoch, header.confirmed_unix_s, header.written_unix_s, end, len(sections), len(text),
    )  # fmt: skip
    page[_TEXT_AT : _TEXT_AT + len(text)] = text
    page[_DIGEST_AT:] = xxhash.xxh3_128_digest(bytes(page[:_SIGNATURE_AT]))
    pieces[0] = bytes(page)
    return [piece for piece in pieces if piece]


def decode(file: bytes) -> Generation:
    """Verify a whole generation file. Costs one xxh3 over it; no section is looked into.

    Raises:
        SnapshotError: the file is cut, damaged, or of a version that can't be read.
    """
    layout = parse_page(file[:PAGE_BYTES])
    check_layout(layout, len(file))
    view = memoryview(file)
    end = PAGE_BYTES
    for section in layout.sections:
        check_gap(bytes(view[end : section.offset]), section)
        end = section.offset + section.length
        check_section(xxhash.xxh3_128_digest(view[section.offset : end]), section)
    return Generation(layout.header, {s.id: (s.offset, s.length) for s in layout.sections}, file)


def parse_page(page: bytes) -> Layout:
    """Read a header page.

    Raises:
        SnapshotError: it is cut, damaged, or of another major version.
    """
    if len(page) < PAGE_BYTES:
        raise SnapshotError(f"is cut: {len(page)} bytes, the header alone has {PAGE_BYTES}")
    if not page.startswith(MAGIC):
        raise SnapshotError("is not a nodens generation: the first bytes differ")
    (
        _, major, minor, page_bytes, compat, incompat, number, epoch, confirmed, written, file_bytes, rows, text_bytes,
    ) = _HEAD.unpack_from(page)  # fmt: skip
    if xxhash.xxh3_128_digest(page[:_SIGNATURE_AT]) != page[_DIGEST_AT:PAGE_BYTES]:
        raise SnapshotError(f"is damaged: the digest of its header differs (its version field says {major}.{minor})")
    if major != MAJOR:
        raise SnapshotError(f"has format version {major}.{minor}, this version reads {MAJOR}.x", hint=_UPGRADE)
    if page_bytes != PAGE_BYTES or rows > MAX_SECTIONS or text_bytes > MAX_TEXT_BYTES:
        raise SnapshotError(f"has counts in its header that do not fit: {page_bytes}, {rows}, {text_bytes}")
    if not compat & COMPAT_SIGNED and page[_SIGNATURE_AT:_DIGEST_AT] != _NO_SIGNATURE:
        raise SnapshotError("is damaged: bytes stand in the room of a signature, but it is not signed")
    try:
        text = _DECODE_TEXT.decode(page[_TEXT_AT : _TEXT_AT + text_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(f"has text in its header that can't be read: {error}") from None
    header = Header(
        cluster_identity=text.cluster_identity,
        generation=number,
        epoch=epoch,
        positions=text.positions,
        confirmed_unix_s=confirmed,
        written_unix_s=written,
        origin=text.origin,
        major=major,
        minor=minor,
        compat=compat,
        incompat=incompat,
    )
    _check_values(header)
    table = (_SECTION.unpack_from(page, _TABLE_AT + row * _SECTION.size) for row in range(rows))
    return Layout(header, tuple(Section(row[0], row[2], row[3], row[4]) for row in table), file_bytes)


def check_layout(layout: Layout, size_bytes: int) -> None:
    """Check that this version may use the file, and that the section table describes exactly its bytes.

    Raises:
        SnapshotError: an incompat bit is unknown, or sections and file size do not add up.
    """
    unknown = layout.header.incompat & ~KNOWN_INCOMPAT
    if unknown:
        raise SnapshotError(f"needs features this version does not know (incompat bits {unknown:#x})", hint=_UPGRADE)
    if size_bytes != layout.file_bytes:
        raise SnapshotError(f"has {size_bytes} bytes, its header says {layout.file_bytes}: it was cut or grew")
    end, seen = PAGE_BYTES, set()
    for section in layout.sections:
        if section.offset != _aligned(end) or section.id in seen:
            raise SnapshotError(f"has section {section.id} ({section.name}) not where the one before it ends, or twice")
        end = section.offset + section.length
        seen.add(section.id)
    if end != layout.file_bytes:
        raise SnapshotError(f"has sections that end at {end}, in a file that ends at {layout.file_bytes}")


def check_section(digest: bytes, section: Section) -> None:
    """Compare the digest of a section's bytes; raises SnapshotError if they are not what was written."""
    if digest != section.digest:
        raise SnapshotError(f"is damaged: the digest of section {section.id} ({section.name}) differs")


def check_gap(gap: bytes, section: Section) -> None:
    """Check the zeros in front of a section; raises SnapshotError if they are not."""
    if gap.strip(b"\0"):
        raise SnapshotError(f"is damaged: bytes stand in front of section {section.id} ({section.name})")


def _check_values(header: Header) -> None:
    if not 1 <= header.generation <= MAX_NUMBER:
        raise SnapshotError(f"has generation {header.generation}, not a number from 1 to {MAX_NUMBER}")
    if not 0 <= header.epoch <= MAX_EPOCH:
        raise SnapshotError(f"has epoch {header.epoch}, not a number from 0 to {MAX_EPOCH}")
    # A comparison with NaN is false, so this takes in what is not a number at all.
    if not (0 <= header.confirmed_unix_s <= MAX_UNIX_S and 0 <= header.written_unix_s <= MAX_UNIX_S):
        raise SnapshotError(
            f"has times {header.confirmed_unix_s} and {header.written_unix_s}, which are not wall times"
        )


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN_BYTES) * ALIGN_BYTES
