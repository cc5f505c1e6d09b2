"""What a file of the snapshot directory is and whether it can be trusted, for people and for pruning.

Law: only reads, in pieces, so that a file of any size costs little memory; says everything that is wrong, section by
section, and raises for nothing that lies on the disk.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import xxhash

from agent.errors import SnapshotError
from agent.snapshot.entries import Replay, replay
from agent.snapshot.files import check_number, failure, open_trusted, read_all, trusted_owners
from agent.snapshot.format import PAGE_BYTES, Layout, Section, check_gap, check_layout, check_section, parse_page
from agent.snapshot.recovery import DEFAULT_LIMITS, Limits

PIECE_BYTES = 1 << 20


class SectionVerdict(NamedTuple):
    """A row of the section table, and what is wrong with the section's bytes ("" if nothing)."""

    section: Section
    reason: str


class Description(NamedTuple):
    """A generation file.

    Attributes:
        path: as it was asked for.
        size_bytes: of the file, 0 if it could not be opened.
        layout: header and section table; None if they can't be read.
        sections: each with its verdict; empty if nothing is known of them.
        reason: why the file is refused, "" if it is valid.
        hint: what to do about it.
    """

    path: str
    size_bytes: int
    layout: Layout | None
    sections: tuple[SectionVerdict, ...]
    reason: str
    hint: str


class JournalDescription(NamedTuple):
    """A journal file; `replay` is None if nothing of it can be used. A journal may be cut: `replay.reason` says so."""

    path: str
    size_bytes: int
    replay: Replay | None
    reason: str
    hint: str


def describe(path: str, limits: Limits = DEFAULT_LIMITS, *, offline: bool = True) -> Description:
    """Examine a generation file wherever it lies; raises nothing."""
    try:
        fd, status = _open(path, limits.generation_bytes, offline=offline)
    except SnapshotError as error:
        return Description(path, 0, None, (), error.message, error.hint)
    try:
        return examine(path, fd, status.st_size)
    finally:
        os.close(fd)


def describe_journal(path: str, limits: Limits = DEFAULT_LIMITS, *, offline: bool = True) -> JournalDescription:
    """Examine a journal file wherever it lies; raises nothing."""
    size_bytes = 0
    try:
        fd, status = _open(path, limits.journal_bytes_to_read, offline=offline)
        try:
            size_bytes = status.st_size
            file = read_all(fd, size_bytes)
        finally:
            os.close(fd)
        found = replay(file)
        check_number(os.path.basename(path), found.head.generation)
        return JournalDescription(path, size_bytes, found, "", "")
    except SnapshotError as error:
        return JournalDescription(path, size_bytes, None, error.message, error.hint)
    except OSError as error:
        failed = failure(path, "can't be read", error)
        return JournalDescription(path, size_bytes, None, failed.message, failed.hint)


def examine(path: str, fd: int, size_bytes: int) -> Description:
    """Examine an open generation file; raises nothing."""
    layout: Layout | None = None
    sections: tuple[SectionVerdict, ...] = ()
    try:
        layout = parse_page(os.pread(fd, PAGE_BYTES, 0))
        check_layout(layout, size_bytes)
        sections = tuple(SectionVerdict(section, _wrong(fd, before, section)) for before, section in _pairs(layout))
        check_number(os.path.basename(path), layout.header.generation)
    except SnapshotError as error:
        return Description(path, size_bytes, layout, sections, error.message, error.hint)
    except OSError as error:
        failed = failure(path, "can't be read", error)
        return Description(path, size_bytes, layout, sections, failed.message, failed.hint)
    reason = "; ".join(verdict.reason for verdict in sections if verdict.reason)
    return Description(path, size_bytes, layout, sections, reason, "")


def _open(path: str, limit_bytes: int, *, offline: bool) -> tuple[int, os.stat_result]:
    try:
        parent = os.stat(os.path.dirname(path) or ".")
    except OSError as error:
        raise failure(path, "can't be found", error) from None
    return open_trusted(path, path, None, trusted_owners(parent, offline=offline), limit_bytes)


def _pairs(layout: Layout) -> list[tuple[int, Section]]:
    ends = [PAGE_BYTES, *(section.offset + section.length for section in layout.sections)]
    return list(zip(ends, layout.sections, strict=False))


def _wrong(fd: int, before: int, section: Section) -> str:
    """Read a section in pieces; what is wrong with it. Raises OSError."""
    digest = xxhash.xxh3_128()
    at, end = section.offset, section.offset + section.length
    while at < end:
        piece = os.pread(fd, min(PIECE_BYTES, end - at), at)
        if not piece:
            return f"section {section.id} ({section.name}) is cut"
        digest.update(piece)
        at += len(piece)
    try:
        check_gap(os.pread(fd, section.offset - before, before), section)
        check_section(digest.digest(), section)
    except SnapshotError as error:
        return error.message
    return ""
