"""Generations through a life: written, numbered, gone on from, pruned, under one lock."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import SnapshotError
from agent.snapshot import generations as room
from agent.snapshot import inspection
from agent.snapshot.entries import NOWHERE, Place, read_head
from agent.snapshot.files import AbsentError
from agent.snapshot.format import MAX_NUMBER
from agent.snapshot.generations import Generations
from agent.snapshot.recovery import Limits
from tests.snapshot.history import entry, header, sections, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.snapshot.journal import JournalWriter


@pytest.fixture
def generations(tmp_path: Path) -> Iterator[Generations]:
    with Generations(tmp_path) as opened:
        yield opened


def names(generations: Generations) -> list[str]:
    return sorted(os.listdir(generations.path))


def write(generations: Generations, state: int) -> JournalWriter:
    """Freeze and write a generation; gives the journal that goes on from it."""
    journal = generations.rotate()
    generations.write(header(journal.generation, state), sections(state))
    return journal


def step(journal: JournalWriter, *states: int) -> None:
    for state in states:
        journal.append(entry(state))
    journal.sync()


def on_disk(generations: Generations) -> int:
    return state_of(Generations(generations.state_dir).load())


def damage(generations: Generations, number: int) -> None:
    path = Path(generations.path_of(number))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def failing(patch: pytest.MonkeyPatch, call: str, code: int = errno.ENOSPC) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    patch.setattr(os, call, fail)


# A life ----------------------------------------------------------------------------------------------------------


def test_the_first_generation_and_what_comes_after_it(generations: Generations) -> None:
    journal = generations.rotate()
    assert journal.head == (1, NOWHERE)
    step(journal, 6)  # while generation 1 is being written
    assert (journal.anchored, journal.confirmed, on_disk(generations)) == (False, 0, 0)
    size = generations.write(header(1, 5), sections(5))
    assert size == Path(generations.path_of(1)).stat().st_size
    assert (journal.anchored, journal.confirmed, on_disk(generations)) == (True, 1, 6)
    step(journal, 7, 8)
    assert on_disk(generations) == 8
    journal = generations.rotate()
    assert journal.head == (2, Place(1, 4))
    step(journal, 9)
    assert (journal.confirmed, on_disk(generations)) == (1, 9)
    generations.write(header(2, 8), sections(8))
    assert on_disk(generations) == 9
    assert (generations.counts.generations, generations.counts.failures) == (2, 0)
    assert generations.counts.generation_bytes > size


def test_files_and_directories_are_private(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with Generations(tmp_path / "state") as generations:
            step(write(generations, 1), 2)
            modes = {path.name: path.stat().st_mode & 0o777 for path in Path(generations.path).iterdir()}
            assert modes == {"gen-1.nds": 0o600, "journal-1.ndj": 0o600}
            assert Path(generations.path).stat().st_mode & 0o777 == 0o700
            assert (tmp_path / "state" / "lock").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(previous)


def test_a_restart_goes_on_in_a_new_journal(generations: Generations, tmp_path: Path) -> None:
    step(write(generations, 5), 6, 7)
    generations.close()
    with Generations(tmp_path) as second:
        recovered = second.load()
        assert recovered is not None
        journal = second.open_journal(recovered)
        assert journal.head == (2, Place(1, 3))  # two steps and the seal
        assert names(second) == ["gen-1.nds", "journal-1.ndj"]
        step(journal, 8)
        assert (journal.anchored, journal.confirmed, on_disk(second)) == (True, 1, 8)
        journal = write(second, 8)
        assert journal.head == (3, Place(2, 2))
        step(journal, 9)
        assert on_disk(second) == 9


def test_restarts_without_changes_leave_nothing_behind(generations: Generations, tmp_path: Path) -> None:
    step(write(generations, 5), 6)
    generations.close()
    for _ in range(5):
        with Generations(tmp_path) as again:
            recovered = again.load()
            assert recovered is not None
            again.open_journal(recovered)
            assert state_of(recovered) == 6
    assert names(generations) == ["gen-1.nds", "journal-1.ndj"]
    with Generations(tmp_path) as last:
        recovered = last.load()
        assert recovered is not None
        last.open_journal(recovered)
        journal = last.rotate()  # the journal before it was never made, so this one goes on from the one before that
        assert (journal.head.follows, journal.anchored) == (Place(1, 2), True)


def test_a_generation_lost_later_is_replaced_by_its_history(generations: Generations) -> None:
    step(write(generations, 5), 6, 7)
    step(write(generations, 7), 8)
    step(write(generations, 8), 9, 10)
    for number in (3, 2):
        damage(generations, number)
        assert on_disk(generations) == 10


def test_a_generation_that_came_without_a_journal_is_gone_on_from(generations: Generations) -> None:
    generations.write(header(4, 5), sections(5))  # by a tool
    recovered = generations.load()
    assert recovered is not None
    journal = generations.open_journal(recovered)
    step(journal, 6)
    assert (journal.head, journal.confirmed, on_disk(generations)) == ((5, Place(4, 0)), 1, 6)


def test_one_generation_can_be_read_by_number(generations: Generations) -> None:
    write(generations, 5)
    write(generations, 6)
    offset, length = generations.read(1).sections[1]
    assert generations.read(1).file[offset : offset + length] == b"5"
    damage(generations, 1)
    with pytest.raises(SnapshotError, match=r"gen-1\.nds is damaged: the digest of section 1"):
        generations.read(1)
    with pytest.raises(AbsentError):
        generations.read(3)
    assert generations.list().generations == (2, 1)


# The disk fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_generation_that_cannot_be_written_changes_nothing(
    generations: Generations, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    step(write(generations, 5), 6)
    journal = generations.rotate()
    with monkeypatch.context() as patch:
        failing(patch, call)
        with pytest.raises(SnapshotError, match=r"gen-2\.nds can't be written: No space left on device. Make room"):
            generations.write(header(2, 6), sections(6))
    assert names(generations) == ["gen-1.nds", "journal-1.ndj", "journal-2.ndj"]
    step(journal, 7)
    assert (journal.confirmed, on_disk(generations)) == (1, 7)
    assert generations.counts.failures == 1
    journal = write(generations, 7)
    assert journal.generation == 3
    assert on_disk(generations) == 7


def test_a_broken_journal_is_mended_by_the_next_generation(
    generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = write(generations, 5)
    step(journal, 6)
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO)
        with pytest.raises(SnapshotError):
            step(journal, 7)
    with pytest.raises(SnapshotError):
        journal.append(entry(8))
    journal = generations.rotate()
    assert (journal.head, journal.anchored) == ((2, NOWHERE), False)
    step(journal, 9)
    assert journal.confirmed == 0
    assert on_disk(generations) in {6, 7}
    # The agent stops here: what goes on must not go on from journal 2, whose generation never came.
    recovered = Generations(generations.state_dir).load()
    assert recovered is not None
    assert recovered.trail.generation == 1
    generations.write(header(2, 8), sections(8))
    assert (journal.anchored, journal.confirmed, on_disk(generations)) == (True, 1, 9)
    step(journal, 10)
    assert on_disk(generations) == 10


def test_a_journal_that_cannot_be_begun_is_broken_and_says_so(
    generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(write(generations, 5), 6)
    with monkeypatch.context() as patch:
        failing(patch, "write")
        journal = generations.rotate()
    assert "No space left" in journal.broken
    assert on_disk(generations) == 6
    journal = generations.rotate()
    assert not journal.anchored
    generations.write(header(journal.generation, 6), sections(6))
    step(journal, 7)
    assert (journal.confirmed, on_disk(generations)) == (1, 7)


def test_a_history_that_cannot_be_made_sure_of_is_not_built_on(
    generations: Generations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(write(generations, 5), 6)
    generations.close()
    for call in ("fsync", "open"):
        with Generations(tmp_path) as second:
            recovered = second.load()
            assert recovered is not None
            with monkeypatch.context() as patch:
                if call == "fsync":
                    failing(patch, "fsync", errno.EIO)
                else:
                    patch.setattr(second, "limits", Limits(journal_bytes=1, read_journal_bytes=1))
                journal = second.open_journal(recovered)
            assert not journal.anchored
            assert second.counts.failures == 1


def fill(journal: JournalWriter, state: int, size_bytes: int) -> int:
    """Keep steps until the journal has a size or breaks; the last state kept."""
    while journal.size_bytes < size_bytes:
        try:
            step(journal, state + 1)
        except SnapshotError:
            break
        state += 1
    return state


def test_a_full_journal_asks_for_a_generation(tmp_path: Path) -> None:
    with Generations(tmp_path, Limits(journal_bytes=500)) as generations:
        journal, state = write(generations, 0), 0
        for _ in range(10):  # each generation fails, so journals pile up: until their bound together
            state = fill(journal, state, 300)
            if journal.broken:
                break
            journal = generations.rotate()
        assert "is full" in journal.broken
        total = sum(path.stat().st_size for path in Path(generations.path).glob("*.ndj"))
        assert total <= room.MAX_JOURNALS_ROOM * 500
        assert on_disk(generations) == state
        journal = write(generations, state)
        step(journal, state + 1)
        assert on_disk(generations) == state + 1


def test_a_restart_counts_the_journals_it_found(tmp_path: Path) -> None:
    limits = Limits(journal_bytes=500)
    with Generations(tmp_path, limits) as generations:
        step(write(generations, 0), 1, 2, 3)
    state, lives = 3, 0
    while lives < 20:
        with Generations(tmp_path, limits) as generations:
            recovered = generations.load()
            assert recovered is not None
            journal = generations.open_journal(recovered)
            state = fill(journal, state, 200)
            if journal.broken:
                break
        lives += 1
    assert "is full" in journal.broken
    assert 2 < lives < 19
    assert sum(path.stat().st_size for path in (tmp_path / "snapshot").glob("*.ndj")) <= 4 * 500
    assert on_disk(generations) == state


SCRIPT = """
import os, resource, sys
from agent.errors import SnapshotError
from agent.snapshot.generations import Generations
from tests.snapshot.history import entry, header, sections
generations = Generations(sys.argv[1])
generations.lock()
journal = generations.rotate()
generations.write(header(1, 5), sections(5))
journal.append(entry(6))
journal.sync()
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
state = 6
try:
    for state in range(7, 10_000):
        journal.append(entry(state, 500))
        journal.sync()
except SnapshotError as error:
    print(error)
print(state - 1)
journal = generations.rotate()
try:
    generations.write(header(journal.generation, state), sections(state, 10_000_000))
except SnapshotError as error:
    print(error)
print(sorted(os.listdir(generations.path)))
os._exit(0)
"""


def write_until_full(state_dir: Path, how: str) -> list[str]:
    """Let a child write until the disk takes no more; its lines."""
    command = [sys.executable, "-c", SCRIPT, str(state_dir), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return done.stdout.splitlines()


def check_what_was_kept(state_dir: Path, lines: list[str], reason: str) -> None:
    full, confirmed, failed, left = lines
    assert f"can't be written: {reason}. Make room" in full
    assert f"gen-2.nds can't be written: {reason}. Make room" in failed
    assert "gen-2.nds.tmp" not in left
    assert "gen-2.nds" not in left
    state = state_of(Generations(state_dir).load())
    assert state in {int(confirmed), int(confirmed) + 1}
    assert state > 6


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no RLIMIT_FSIZE here")
def test_a_real_limit_of_file_size(tmp_path: Path) -> None:
    check_what_was_kept(tmp_path, write_until_full(tmp_path, "limit"), "File too large")


def test_a_real_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs can't be mounted here (needs root)")
    try:
        check_what_was_kept(tmp_path, write_until_full(tmp_path, "full"), "No space left on device")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# Bounds and order ------------------------------------------------------------------------------------------------


def test_a_generation_over_its_bound_is_not_written(tmp_path: Path) -> None:
    with Generations(tmp_path, Limits(generation_bytes=5000)) as generations:
        journal = generations.rotate()
        with pytest.raises(SnapshotError, match=r"gen-1\.nds would have \d+ bytes, more than the 5000 allowed. Raise"):
            generations.write(header(journal.generation), sections(0, 2000))
        assert names(generations) == ["journal-1.ndj"]
        assert generations.counts.failures == 1


def test_a_header_that_does_not_fit_is_a_failure_like_any_other(generations: Generations) -> None:
    with pytest.raises(SnapshotError, match="its header has room for"):
        generations.write(header(1, origin="x" * 4000), [])
    assert generations.counts.failures == 1


def test_a_generation_belongs_to_the_journal_that_is_open(generations: Generations) -> None:
    write(generations, 5)
    with pytest.raises(SnapshotError, match=r"gen-9\.nds is not the generation that journal 1 goes on from"):
        generations.write(header(9, 5), sections(5))


def test_order_only_goes_forward(generations: Generations) -> None:
    generations.write(header(5, 1), sections(1))  # a tool writes without a journal
    for number in (5, 4):
        with pytest.raises(SnapshotError, match=r"would not be the newest generation: 5 is there"):
            generations.write(header(number, 2), sections(2))
    assert on_disk(generations) == 1


@pytest.mark.parametrize("name", ["gen-41.nds", "gen-41.nds.tmp", "journal-41.ndj"])
def test_a_number_seen_on_disk_is_never_used_again(generations: Generations, name: str) -> None:
    step(write(generations, 5), 6)
    (Path(generations.path) / name).write_bytes(b"refused")
    assert generations.rotate().generation == 42
    generations.close()
    with Generations(generations.state_dir) as second:
        recovered = second.load()
        assert state_of(recovered) == 6
        assert recovered is not None
        assert second.open_journal(recovered).generation == 43


def test_a_number_is_not_used_again_when_its_files_are_gone(generations: Generations) -> None:
    write(generations, 5)
    write(generations, 6)
    for name in names(generations):
        (Path(generations.path) / name).unlink()
    assert generations.rotate().generation == 3


def test_numbers_used_up_by_a_strange_file_are_told(generations: Generations) -> None:
    (Path(generations.path) / f"gen-{MAX_NUMBER}.nds").write_bytes(b"")
    with pytest.raises(SnapshotError, match=f"file with number {MAX_NUMBER}, so that none is left.*Remove that file"):
        generations.rotate()


def test_a_generation_written_meanwhile_is_not_forgotten(generations: Generations) -> None:
    # Hand-over: the second agent answers from disk while the first still writes, and takes the lock late.
    step(write(generations, 5), 6)
    second = Generations(generations.state_dir)
    recovered = second.load()
    assert recovered is not None
    step(write(generations, 6), 7)
    generations.close()
    second.lock()
    journal = second.open_journal(recovered)
    assert not journal.anchored
    journal.append(entry(7))
    assert journal.sync() == 0
    assert on_disk(second) == 7  # the first agent's
    journal = write(second, 7)
    step(journal, 8)
    assert (journal.confirmed, on_disk(second)) == (1, 8)
    second.close()


def test_records_written_meanwhile_give_way_to_the_journal_that_went_on(generations: Generations) -> None:
    journal = write(generations, 5)
    step(journal, 6)
    second = Generations(generations.state_dir)
    recovered = second.load()
    assert recovered is not None
    step(journal, 7, 8)
    generations.close()
    second.lock()
    journal = second.open_journal(recovered)
    step(journal, 7)
    assert (journal.confirmed, on_disk(second)) == (1, 7)
    second.close()


# Pruning ---------------------------------------------------------------------------------------------------------


def test_pruning_keeps_three_and_their_journals(generations: Generations) -> None:
    for state in range(5):
        step(write(generations, state), state + 1)
    (Path(generations.path) / "gen-9.nds.tmp").write_bytes(b"torn")
    (Path(generations.path) / "notes").write_bytes(b"not ours")
    removed = generations.prune()
    assert sorted(removed) == ["gen-1.nds", "gen-2.nds", "gen-9.nds.tmp", "journal-1.ndj", "journal-2.ndj"]
    assert names(generations) == [
        "gen-3.nds", "gen-4.nds", "gen-5.nds", "journal-3.ndj", "journal-4.ndj", "journal-5.ndj", "notes",
    ]  # fmt: skip
    assert generations.counts.removed == 5
    assert generations.prune() == ()
    for number in (5, 4):
        damage(generations, number)
        assert on_disk(generations) == 5


def test_a_pinned_generation_is_never_pruned_and_goes_when_it_is_not_pinned(generations: Generations) -> None:
    for state in range(5):
        write(generations, state)
    generations.spared = lambda: frozenset((2, 77))
    generations.prune()
    assert generations.list().generations == (5, 4, 3, 2)
    assert generations.read(2).header.generation == 2
    assert on_disk(generations) == 4
    generations.spared = frozenset
    assert "gen-2.nds" in generations.prune()


def test_refused_generations_do_not_count_and_the_newest_stay_to_be_looked_at(generations: Generations) -> None:
    for state in range(9):
        step(write(generations, state), state + 1)
    for number in (3, 5, 6, 8, 9):
        damage(generations, number)
    removed = generations.prune()
    # Valid: 7, 4, 2. Refused and newer than 2: 9, 8, 6, 5, 3.
    assert sorted(removed) == ["gen-1.nds", "gen-3.nds", "gen-5.nds", "journal-1.ndj"]
    assert on_disk(generations) == 9


def test_with_fewer_valid_than_wanted_all_stay(generations: Generations) -> None:
    for state in range(3):
        step(write(generations, state), state + 1)
    damage(generations, 2)
    assert generations.prune() == ()
    damage(generations, 1)
    damage(generations, 3)
    assert generations.prune() == ()
    assert generations.list().generations == (3, 2, 1)


def test_pruning_reads_a_generation_once(generations: Generations, monkeypatch: pytest.MonkeyPatch) -> None:
    for state in range(3):
        write(generations, state)
    generations.prune()
    seen = []
    monkeypatch.setattr(inspection, "examine", lambda path, *_: seen.append(path))
    generations.prune()
    assert seen == []


def test_pruning_sees_damage_done_since(generations: Generations) -> None:
    for state in range(5):
        write(generations, state)
        generations.prune()
    damage(generations, 4)
    write(generations, 5)
    assert generations.prune() == ()
    assert generations.list().generations == (6, 5, 4, 3)


def test_a_file_that_must_not_be_opened_is_not_valid(generations: Generations) -> None:
    for state in range(4):
        write(generations, state)
    Path(generations.path_of(4)).chmod(0o666)
    assert generations.prune() == ()
    assert generations.list().generations == (4, 3, 2, 1)


def test_what_cannot_be_removed_is_tried_again(generations: Generations, monkeypatch: pytest.MonkeyPatch) -> None:
    for state in range(4):
        write(generations, state)
    with monkeypatch.context() as patch:
        failing(patch, "unlink", errno.EIO)
        assert generations.prune() == ()
    assert generations.prune() == ("gen-1.nds", "journal-1.ndj")


# Lock and reading alone -------------------------------------------------------------------------------------------


def test_nothing_is_written_without_the_lock(tmp_path: Path) -> None:
    with Generations(tmp_path) as generations:
        write(generations, 5)
    for call in (
        generations.rotate,
        generations.prune,
        lambda: generations.write(header(9), []),
        lambda: generations.open_journal(generations.load()),
    ):
        with pytest.raises(SnapshotError, match="is not locked by this process"):
            call()


def test_two_agents_never_share_a_state_directory(generations: Generations) -> None:
    second = Generations(generations.state_dir)
    with pytest.raises(SnapshotError, match=f"is in use by process {os.getpid()} on"):
        second.lock()
    assert second.load() is None  # reading needs no lock
    generations.close()
    second.lock()
    second.close()
    second.close()


def test_a_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SnapshotError, match="file/state/snapshot can't be made: Not a directory"):
        Generations(tmp_path / "file" / "state").lock()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot").chmod(0o777)
    with pytest.raises(SnapshotError, match="snapshot can be written by others"):
        Generations(tmp_path).lock()
    assert not (tmp_path / "lock").exists()


def test_reading_writes_nothing_and_makes_no_directory(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    generations = Generations(state_dir, offline=True)
    assert generations.load() is None
    with pytest.raises(AbsentError):
        generations.list()
    assert not state_dir.exists()


def test_root_at_a_keyboard_reads_what_another_user_wrote(generations: Generations) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    step(write(generations, 5), 6)
    for path in (Path(generations.path), *Path(generations.path).iterdir()):
        os.chown(path, 12345, 12345)
    assert state_of(Generations(generations.state_dir, offline=True).load()) == 6
    serving = Generations(generations.state_dir)
    assert serving.load() is None
    assert "belongs to user 12345, which is neither root nor the user 0" in serving.refused[0]
    for path in (Path(generations.path), *Path(generations.path).iterdir()):
        os.chown(path, 0, 0)


def test_heads_on_disk_say_what_they_follow(generations: Generations) -> None:
    step(write(generations, 5), 6)
    generations.rotate()
    assert read_head((Path(generations.path) / "journal-2.ndj").read_bytes()) == (2, Place(1, 2))
