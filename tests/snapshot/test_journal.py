"""Writing a journal: what is confirmed stays, and a journal that failed once takes nothing more."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from agent.errors import SnapshotError
from agent.snapshot.entries import (
    HEAD_BYTES,
    MAX_RECORD_BYTES,
    NOWHERE,
    Entry,
    Head,
    Place,
    Replay,
    encode_record,
    replay,
)
from agent.snapshot.journal import Counts, JournalWriter
from tests.snapshot.history import entry

ROOM_BYTES = 1 << 20
RECORD = encode_record(msgspec.msgpack.encode(entry(1)), Place(7, 1))
SEAL = encode_record(msgspec.msgpack.encode(Entry(sealed=True)), Place(7, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def journal(folder: Path, counts: Counts) -> JournalWriter:
    return JournalWriter(str(folder), Head(7, Place(6, 3)), ROOM_BYTES, counts, anchored=True)


def on_disk(folder: Path) -> Replay:
    return replay((folder / "journal-7.ndj").read_bytes())


def failing(monkeypatch: pytest.MonkeyPatch, call: str, code: int = errno.ENOSPC) -> list[object]:
    calls: list[object] = []

    def fail(*arguments: object, **_: object) -> None:
        calls.append(arguments)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    return calls


def test_records_are_buffered_then_written_then_confirmed(folder: Path, journal: JournalWriter, counts: Counts) -> None:
    journal.append(entry(1))
    journal.append(entry(2))
    assert os.listdir(folder) == []
    journal.flush()
    assert on_disk(folder) == Replay(
        Head(7, Place(6, 3)), [entry(1), entry(2)], 2, False, journal.size_bytes, left_bytes=0, reason=""
    )
    assert journal.confirmed == 0
    assert journal.sync() == journal.confirmed == journal.sequence == 2
    assert (counts.records, counts.syncs, counts.journal_bytes) == (2, 1, journal.size_bytes)
    assert (folder / "journal-7.ndj").stat().st_mode & 0o777 == 0o600
    journal.close()


def test_a_restart_without_changes_leaves_no_file(folder: Path, journal: JournalWriter) -> None:
    journal.flush()
    assert journal.sync() == 0
    journal.seal()
    assert os.listdir(folder) == []
    assert not journal.created


def test_a_made_journal_is_empty_and_takes_records(folder: Path, journal: JournalWriter) -> None:
    journal.create()
    assert on_disk(folder).size_bytes == HEAD_BYTES
    journal.append(entry(1))
    journal.flush()
    assert on_disk(folder).entries == [entry(1)]
    journal.close()


def test_the_disk_is_asked_only_when_there_is_something_new(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    journal.append(entry(1))
    journal.sync()
    assert len(synced) == 2  # the file, and once the directory
    journal.sync()
    assert len(synced) == 2
    journal.append(entry(2))
    journal.sync()
    assert len(synced) == 3
    journal.close()


def test_nothing_is_confirmed_before_the_history_has_a_base(folder: Path, counts: Counts) -> None:
    journal = JournalWriter(str(folder), Head(7, NOWHERE), ROOM_BYTES, counts, anchored=False)
    journal.append(entry(1))
    assert journal.sync() == 0
    journal.append(entry(2))
    journal.anchor(ROOM_BYTES)
    assert journal.confirmed == 1
    assert journal.sync() == 2
    journal.close()


def test_a_sealed_journal_is_ended(folder: Path, journal: JournalWriter) -> None:
    journal.append(entry(1))
    journal.seal()
    read = on_disk(folder)
    assert (read.entries, read.sequence, read.sealed) == ([entry(1)], 2, True)
    assert journal.confirmed == 2
    for call in (journal.flush, journal.sync, journal.seal, journal.create):
        with pytest.raises(SnapshotError, match=r"journal-7\.ndj takes no more records: it is closed"):
            call()


def test_what_was_not_flushed_when_closed_is_not_there(folder: Path, journal: JournalWriter) -> None:
    journal.append(entry(1))
    journal.flush()
    journal.append(entry(2))
    journal.close()
    journal.close()
    assert on_disk(folder).entries == [entry(1)]


def test_the_bound_is_kept_with_the_seal_inside(folder: Path, counts: Counts) -> None:
    room_bytes = HEAD_BYTES + 3 * len(RECORD) + len(SEAL)
    for spare, taken in ((0, 3), (-1, 2)):
        journal = JournalWriter(str(folder), Head(7 + taken, NOWHERE), room_bytes + spare, counts, anchored=True)
        for state in range(1, taken + 1):
            journal.append(entry(state))
        journal.seal()
        assert (folder / f"journal-{7 + taken}.ndj").stat().st_size == journal.size_bytes <= room_bytes + spare
        full = JournalWriter(str(folder), Head(7, NOWHERE), room_bytes + spare, counts, anchored=True)
        for state in range(1, taken + 1):
            full.append(entry(state))
        with pytest.raises(
            SnapshotError, match=r"journal-7\.ndj is full: \d+ of \d+ bytes are taken\. Nothing is lost"
        ):
            full.append(entry(4))
    assert (counts.dropped, counts.failures) == (2, 2)


def test_a_record_that_is_too_large_breaks_the_journal(journal: JournalWriter, counts: Counts) -> None:
    huge = Entry(nodes=[(b"n", bytes(MAX_RECORD_BYTES))])
    with pytest.raises(SnapshotError, match="can't take a record of 16777"):
        journal.append(huge)
    with pytest.raises(SnapshotError, match=r"takes no more records: .*can't take a record"):
        journal.append(entry(1))
    assert (counts.dropped, counts.failures, counts.records) == (2, 1, 0)


@pytest.mark.parametrize(
    ("call", "match"), [("open", "can't be opened as a dir"), ("write", "can't be made: No space")]
)
def test_a_journal_that_cannot_be_made_is_broken(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, counts: Counts, call: str, match: str
) -> None:
    journal.append(entry(1))
    with monkeypatch.context() as patch:
        failing(patch, call)
        with pytest.raises(SnapshotError, match=match):
            journal.flush()
    assert match.removesuffix(": No space") in journal.broken
    with pytest.raises(SnapshotError, match="takes no more records"):
        journal.append(entry(2))
    assert (counts.dropped, counts.failures) == (1, 1)


def test_a_journal_never_goes_on_in_an_old_file(folder: Path, journal: JournalWriter) -> None:
    (folder / "journal-7.ndj").write_bytes(b"old")
    with pytest.raises(SnapshotError, match="can't be made: File exists"):
        journal.create()
    assert (folder / "journal-7.ndj").read_bytes() == b"old"


def test_a_failed_write_is_the_end_and_leaves_a_beginning(
    folder: Path, journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    journal.append(entry(1))
    journal.sync()
    journal.append(entry(2))
    journal.append(entry(3))
    real = os.write
    with monkeypatch.context() as patch:
        pieces = []

        def half(fd: int, piece: bytes) -> int:
            if pieces:
                raise OSError(errno.ENOSPC, "")
            pieces.append(piece)
            return real(fd, piece[: len(piece) // 2 + 3])

        patch.setattr(os, "write", half)
        with pytest.raises(SnapshotError, match=r"can't be written: No space left on device\. Make room"):
            journal.flush()
    with pytest.raises(SnapshotError, match=r"takes no more records: .*No space left"):
        journal.sync()
    assert on_disk(folder).entries == [entry(1), entry(2)]
    assert on_disk(folder).left_bytes > 0
    assert (journal.confirmed, counts.failures) == (1, 1)


@pytest.mark.parametrize("which", ["file", "directory"])
def test_a_failed_sync_is_not_tried_again(
    journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, counts: Counts, which: str
) -> None:
    journal.append(entry(1))
    journal.flush()
    real, tried = os.fsync, []
    with monkeypatch.context() as patch:

        def fail(fd: int) -> None:
            tried.append(fd)
            if (which == "file") == (len(tried) == 1):
                raise OSError(errno.EIO, "")
            real(fd)

        patch.setattr(os, "fsync", fail)
        with pytest.raises(SnapshotError, match=r"can't be synced: Input/output error\. The disk or its driver"):
            journal.sync()
        count = len(tried)
        with pytest.raises(SnapshotError, match="takes no more records"):
            journal.sync()
        assert len(tried) == count
    assert (journal.confirmed, counts.syncs, counts.failures) == (0, 0, 1)


def test_a_directory_that_lost_our_trust_breaks_the_journal(folder: Path, journal: JournalWriter) -> None:
    journal.append(entry(1))
    journal.flush()
    folder.chmod(0o777)
    with pytest.raises(SnapshotError, match="can be written by others"):
        journal.sync()
    assert journal.confirmed == 0
    assert journal.broken


def test_closing_a_broken_disk_is_no_trouble(journal: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.create()
    real = os.close
    with monkeypatch.context() as patch:

        def fail(fd: int) -> None:
            real(fd)
            raise OSError(errno.EIO, "")

        patch.setattr(os, "close", fail)
        journal.close()
    assert journal.broken == "it is closed"
