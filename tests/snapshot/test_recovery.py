"""Which state comes back, for everything that can lie in the directory."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from agent.snapshot import recovery
from agent.snapshot.entries import NOWHERE, Entry, Head, Place, encode_head, encode_record
from agent.snapshot.format import encode
from agent.snapshot.generations import Generations
from agent.snapshot.recovery import MAX_TRIES, Limits, Recovered
from tests.snapshot.history import entry, header, sections, state_of


class Disk:
    """A snapshot directory laid out by hand."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.folder = state_dir / "snapshot"
        self.folder.mkdir(mode=0o700)

    def put(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def generation(self, number: int, state: int) -> Path:
        return self.put(f"gen-{number}.nds", b"".join(encode(header(number, state), sections(state))))

    def journal(
        self, number: int, states: range, follows: Place = NOWHERE, *, sealed: bool = False, tail: bytes = b""
    ) -> Path:
        steps = [entry(state) for state in states] + [Entry(sealed=True)] * sealed
        records = [encode_record(msgspec.msgpack.encode(step), Place(number, at)) for at, step in enumerate(steps, 1)]
        return self.put(f"journal-{number}.ndj", encode_head(Head(number, follows)) + b"".join(records) + tail)

    def load(self, limits: Limits = recovery.DEFAULT_LIMITS) -> tuple[Recovered | None, str]:
        """What comes back, and what was said about it. Nothing may have been written."""
        before = {path: path.lstat() for path in self.state_dir.rglob("*")}
        generations = Generations(self.state_dir, limits)
        recovered = generations.load()
        after = {path: path.lstat() for path in self.state_dir.rglob("*")}
        assert [s.st_mtime_ns for s in before.values()] == [s.st_mtime_ns for s in after.values()]
        assert generations.counts.refused == len(generations.refused)
        return recovered, "\n".join(generations.refused)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def damage(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_nothing_on_disk_is_nothing(disk: Disk) -> None:
    assert disk.load() == (None, "")
    shutil.rmtree(disk.folder)
    assert disk.load() == (None, "")


def test_newest_generation_and_its_journal(disk: Disk) -> None:
    disk.generation(1, 5)
    disk.journal(1, range(6, 9), sealed=True)
    disk.generation(2, 8)
    disk.journal(2, range(9, 12), Place(1, 4))
    recovered, said = disk.load()
    assert (state_of(recovered), said) == (11, "")
    assert recovered is not None
    assert recovered.generation.header.generation == 2
    assert recovered.trail == Place(2, 3)
    assert (recovered.journals, recovered.left_bytes) == (1, 0)
    assert recovered.journal_bytes == (disk.folder / "journal-2.ndj").stat().st_size
    assert recovered.identity == "uid:1"


def test_identity_may_stand_in_the_generation_alone(disk: Disk) -> None:
    disk.generation(1, 5)
    recovered, _ = disk.load()
    assert recovered is not None
    assert (recovered.identity, recovered.trail, recovered.journals) == ("uid:1", Place(1, 0), 0)


def test_damaged_generation_is_replaced_by_the_history_before_it(disk: Disk) -> None:
    disk.generation(1, 5)
    disk.journal(1, range(6, 9), sealed=True)
    damage(disk.generation(2, 8))
    disk.journal(2, range(9, 12), Place(1, 4))
    recovered, said = disk.load()
    assert state_of(recovered) == 11
    assert recovered is not None
    assert (recovered.trail, recovered.journals) == (Place(2, 3), 2)
    assert said.endswith("gen-2.nds is damaged: the digest of section 1 (profile) differs")


def test_without_any_valid_generation_there_is_no_state(disk: Disk) -> None:
    damage(disk.generation(1, 5))
    disk.put("gen-2.nds", b"")
    disk.put("gen-3.nds", os.urandom(9000))
    disk.journal(3, range(1, 3))
    recovered, said = disk.load()
    assert recovered is None
    assert [line.split(" ", 1)[1][:40] for line in said.splitlines()] == [
        "is not a nodens generation: the first by",
        "is cut: 0 bytes, the header alone has 40",
        "is damaged: the digest of section 1 (pro",
    ]


def test_every_way_a_newer_file_can_be_wrong_leaves_the_older_one(disk: Disk, tmp_path: Path) -> None:
    disk.generation(1, 5)
    newer = disk.generation(2, 9)
    good = newer.read_bytes()

    def wrong() -> str:
        recovered, said = disk.load()
        assert state_of(recovered) == 5
        return said

    newer.write_bytes(good[:-1])
    assert "cut or grew" in wrong()
    newer.write_bytes(b"".join(encode(header(2, 9, incompat=1), sections(9))))
    assert "incompat bits 0x1" in wrong()
    newer.write_bytes(b"".join(encode(header(2, 9, major=2), sections(9))))
    assert "format version 2.0" in wrong()
    newer.write_bytes(b"".join(encode(header(3, 9), sections(9))))
    assert "gen-2.nds holds number 3. Give it back the name it was written under" in wrong()
    newer.write_bytes(good)
    newer.chmod(0o660)
    assert "chmod go-w" in wrong()
    newer.unlink()
    newer.mkdir(mode=0o700)
    assert "not a regular file" in wrong()
    newer.rmdir()
    os.mkfifo(newer, 0o600)
    assert "not a regular file" in wrong()
    newer.unlink()
    newer.symlink_to(disk.folder / "gen-1.nds")
    assert "symbolic link" in wrong()
    newer.unlink()
    (disk.folder / "gen-2.nds").write_bytes(good)
    newer.chmod(0o600)
    recovered, said = disk.load(Limits(generation_bytes=len(good) - 1))
    assert recovered is None
    assert f"has {len(good)} bytes, more than the {len(good) - 1} allowed" in said


def test_an_oversized_or_unreadable_journal_is_left_out(disk: Disk) -> None:
    disk.generation(1, 5)
    journal = disk.journal(1, range(6, 9))
    size = journal.stat().st_size
    assert state_of(disk.load(Limits(journal_bytes=size - 1))[0]) == 8  # the bound of what is written was lowered
    recovered, said = disk.load(Limits(journal_bytes=size - 1, read_journal_bytes=size - 1))
    assert state_of(recovered) == 5
    assert "journal-1.ndj has" in said
    journal.write_bytes(b"\x89NDJ")
    recovered, said = disk.load()
    assert state_of(recovered) == 5
    assert "journal-1.ndj is cut: 4 bytes" in said
    journal.rename(disk.folder / "journal-4.ndj")
    disk.journal(2, range(6, 9)).rename(disk.folder / "journal-1.ndj")
    recovered, said = disk.load()
    assert state_of(recovered) == 5
    assert "journal-1.ndj holds number 2" in said


def test_every_byte_of_every_file_flipped_gives_a_state_that_was(disk: Disk) -> None:
    files = [
        disk.generation(1, 5),
        disk.journal(1, range(6, 9), sealed=True),
        disk.generation(2, 8),
        disk.journal(2, range(9, 11), Place(1, 4)),
    ]
    seen = set()
    for path in files:
        content = path.read_bytes()
        for at in range(len(content)):
            if path.suffix == ".nds" and at < 4096 and at % 61:
                continue  # the header page is gone through bit by bit in test_format
            flipped = bytearray(content)
            flipped[at] ^= 1 << at % 8
            path.write_bytes(flipped)
            recovered = Generations(disk.state_dir).load()
            state = state_of(recovered)
            assert state == 10 or path is files[3]
            seen.add(state)
        path.write_bytes(content)
    assert seen == {8, 9, 10}


def test_every_cut_of_every_file_gives_a_state_that_was(disk: Disk) -> None:
    files = [
        disk.generation(1, 5),
        disk.journal(1, range(6, 9), sealed=True),
        disk.generation(2, 8),
        disk.journal(2, range(9, 11), Place(1, 4)),
    ]
    for path in files:
        content = path.read_bytes()
        step = 37 if path.suffix == ".nds" else 1
        for length in range(0, len(content), step):
            path.write_bytes(content[:length])
            state = state_of(Generations(disk.state_dir).load())
            assert state == 10 or (path is files[3] and 8 <= state < 10)
        path.write_bytes(content)


def test_a_torn_tail_is_told_and_a_new_journal_goes_on_from_before_it(disk: Disk) -> None:
    disk.generation(1, 5)
    disk.journal(1, range(6, 9), tail=b"torn")
    recovered, said = disk.load()
    assert state_of(recovered) == 8
    assert recovered is not None
    assert recovered.left_bytes == 4
    assert "journal-1.ndj stops after record 3, 4 bytes are left behind: the next record is cut" in said
    disk.journal(2, range(9, 12), Place(1, 3))
    recovered, said = disk.load()
    assert (state_of(recovered), said) == (11, "")


def test_a_journal_that_went_on_earlier_takes_the_place_of_what_was_behind(disk: Disk) -> None:
    # One agent could read two records, and went on from there; the third became readable again later.
    disk.generation(1, 5)
    disk.journal(1, range(6, 9))
    disk.journal(2, range(8, 11), Place(1, 2))
    recovered, said = disk.load()
    assert (state_of(recovered), said) == (10, "")
    assert recovered is not None
    assert [step.positions for step in recovered.entries] == [{"Service": str(n)} for n in range(6, 11)]


def test_of_two_that_go_on_from_one_point_the_newer_counts(disk: Disk) -> None:
    disk.generation(1, 5)
    disk.journal(1, range(6, 9))
    disk.journal(2, range(9, 20), Place(1, 3))
    disk.journal(3, range(9, 11), Place(1, 3))
    recovered, _ = disk.load()
    assert state_of(recovered) == 10
    assert recovered is not None
    assert recovered.trail == Place(3, 2)


def test_a_journal_behind_a_gap_is_left_out(disk: Disk) -> None:
    disk.generation(1, 5)
    path = disk.journal(1, range(6, 9))
    disk.journal(2, range(9, 11), Place(1, 3))
    path.write_bytes(path.read_bytes()[:-1])
    recovered, said = disk.load()
    assert state_of(recovered) == 7
    assert "journal-2.ndj is left out: it goes on from record 3 of" in said
    assert "journal-1.ndj, of which 2 could be read" in said
    path.unlink()
    recovered, said = disk.load()
    assert state_of(recovered) == 5
    assert "of which 0 could be read" in said


def test_a_long_chain_of_journals_is_one_history(disk: Disk) -> None:
    disk.generation(1, 0)
    state = 0
    for number in range(1, 50):
        disk.journal(number, range(state + 1, state + 3), Place(number - 1, 2))
        state += 2
    recovered, said = disk.load()
    assert (state_of(recovered), said) == (98, "")
    assert recovered is not None
    assert recovered.journals == 49


def test_heads_that_point_backwards_or_at_themselves_end(disk: Disk) -> None:
    disk.generation(3, 5)
    disk.journal(3, range(6, 7), Place(4, 0))
    disk.journal(4, range(7, 8), Place(4, 0))
    disk.journal(5, range(7, 8), Place(6, 0))
    disk.journal(6, range(7, 8), Place(5, 0))
    recovered, _ = disk.load()
    assert state_of(recovered) == 6


def test_a_journal_that_counts_with_its_own_generation_only(disk: Disk) -> None:
    # Journal 1 broke, so journal 2 follows nothing; before generation 2 is written it must not be used.
    disk.generation(1, 5)
    disk.journal(1, range(6, 8), tail=b"torn")
    disk.journal(2, range(12, 14))
    assert state_of(disk.load()[0]) == 7
    disk.generation(2, 11)
    assert state_of(disk.load()[0]) == 13


@pytest.mark.parametrize("prefix_bytes", [0, 1, 4095, 4096, 4100])
def test_states_of_an_interrupted_write(disk: Disk, prefix_bytes: int) -> None:
    disk.generation(1, 5)
    disk.journal(1, range(6, 9), sealed=True)
    disk.journal(2, range(9, 11), Place(1, 4))
    whole = b"".join(encode(header(2, 8), sections(8)))
    disk.put("gen-2.nds.tmp", whole[:prefix_bytes])  # cut while writing
    assert state_of(disk.load()[0]) == 10
    disk.put("gen-2.nds.tmp", whole)  # written, not renamed
    assert state_of(disk.load()[0]) == 10
    (disk.folder / "gen-2.nds.tmp").rename(disk.folder / "gen-2.nds")
    assert state_of(disk.load()[0]) == 10
    (disk.folder / "journal-1.ndj").unlink()  # pruned
    (disk.folder / "gen-1.nds").unlink()
    assert state_of(disk.load()[0]) == 10
    (disk.folder / "journal-2.ndj").unlink()  # the new generation with no journal yet
    assert state_of(disk.load()[0]) == 8


def test_an_unsealed_journal_before_a_new_generation(disk: Disk) -> None:
    disk.generation(1, 5)
    disk.journal(1, range(6, 9))
    disk.generation(2, 8)
    assert state_of(disk.load()[0]) == 8
    damage(disk.folder / "gen-2.nds")
    assert state_of(disk.load()[0]) == 8


def test_search_for_a_valid_generation_is_bounded(disk: Disk) -> None:
    disk.generation(1, 5)
    for number in range(2, MAX_TRIES + 1):
        disk.put(f"gen-{number}.nds", b"garbage")
    assert state_of(disk.load()[0]) == 5
    disk.put(f"gen-{MAX_TRIES + 1}.nds", b"garbage")
    recovered, said = disk.load()
    assert recovered is None
    assert len(said.splitlines()) == MAX_TRIES


def test_files_pruned_while_they_are_read_are_looked_for_again(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.generation(1, 5)
    listed = recovery.Directory.list

    def list_late(directory: recovery.Directory) -> recovery.Listing:
        listing = listed(directory)
        if 1 in listing.generations:  # before it is read, the agent writes a newer one and prunes
            (disk.folder / "gen-1.nds").unlink()
            disk.generation(2, 9)
        return listing

    monkeypatch.setattr(recovery.Directory, "list", list_late)
    assert state_of(Generations(disk.state_dir).load()) == 9


def test_a_directory_that_keeps_changing_is_given_up(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = []

    def always_gone(_: recovery.Directory) -> recovery.Listing:
        listings.append(1)
        return recovery.Listing((9,), (9,), (), 9)

    monkeypatch.setattr(recovery.Directory, "list", always_gone)
    assert Generations(disk.state_dir).load() is None
    assert len(listings) == recovery.MAX_SCANS


def test_a_journal_pruned_while_it_is_read_is_no_trouble(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.generation(1, 5)
    monkeypatch.setattr(recovery.Directory, "list", lambda _: recovery.Listing((1,), (1, 2), (), 2))
    generations = Generations(disk.state_dir)
    assert state_of(generations.load()) == 5
    assert generations.refused == ()


def test_a_directory_that_cannot_be_listed_or_trusted_is_told(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.generation(1, 5)
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "")

        patch.setattr(os, "listdir", fail)
        recovered, said = disk.load()
    assert recovered is None
    assert "can't be listed" in said
    disk.folder.chmod(0o777)
    recovered, said = disk.load()
    assert recovered is None
    assert "chmod go-w" in said


def test_reading_errors_fall_back(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.generation(1, 5)
    disk.generation(2, 9)
    bad = (disk.folder / "gen-2.nds").stat().st_ino
    real = os.read

    def fail(fd: int, size: int) -> bytes:
        if os.fstat(fd).st_ino == bad:
            raise OSError(errno.EIO, "")
        return real(fd, size)

    monkeypatch.setattr(os, "read", fail)
    recovered, said = disk.load()
    assert state_of(recovered) == 5
    assert "gen-2.nds can't be read: Input/output error" in said
