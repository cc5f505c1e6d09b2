"""Finding the newest state on disk that can be trusted.

Law: only reads. The newest valid generation wins, then its journal, then each journal that says it goes on from the
exact point reached: the result is always a state that was, never a mixture. What is refused on the way is told in
words and never raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agent.errors import SnapshotError
from agent.snapshot.entries import NOWHERE, Entry, Head, Place, Replay, replay
from agent.snapshot.files import AbsentError, Directory, Listing, check_number, generation_name, journal_name, named
from agent.snapshot.format import Generation, decode

MAX_TRIES = 16
"""Generations looked at before giving up: each is read as a whole."""
MAX_SCANS = 3
"""Directory listings taken when files vanish while they are read: the agent prunes while a person looks."""


_NOTHING = Replay(Head(0, NOWHERE), [], 0, sealed=False, size_bytes=0, left_bytes=0, reason="")


class Limits(NamedTuple):
    """Bounds of files, bytes.

    Attributes:
        generation_bytes: of a generation, written or read.
        journal_bytes: of a journal being written.
        read_journal_bytes: of a journal that is read, unless `journal_bytes` is more: whoever lowers that option must
            not lose what was written before.
    """

    generation_bytes: int = 1 << 30
    journal_bytes: int = 64 << 20
    read_journal_bytes: int = 1 << 30

    @property
    def journal_bytes_to_read(self) -> int:
        """Bound of a journal that is read."""
        return max(self.journal_bytes, self.read_journal_bytes)


DEFAULT_LIMITS = Limits()


class Recovered(NamedTuple):
    """The newest state on disk.

    Attributes:
        generation: the newest valid one, verified as a whole.
        entries: what the journals add to it, in order.
        trail: the point reached; the next journal goes on from here.
        journals: how many of them were read. A long chain is a reason to write a generation.
        journal_bytes: their size.
        left_bytes: bytes of the last journal that were left behind.
    """

    generation: Generation
    entries: list[Entry]
    trail: Place
    journals: int
    journal_bytes: int
    left_bytes: int

    @property
    def positions(self) -> dict[str, str]:
        """Resume tokens after the last entry."""
        positions = dict(self.generation.header.positions)
        for entry in self.entries:
            positions.update(entry.positions or {})
        return positions

    @property
    def identity(self) -> str:
        """Cluster after the last entry."""
        named = [entry.identity for entry in self.entries if entry.identity]
        return named[-1] if named else self.generation.header.cluster_identity

    @property
    def confirmed_unix_s(self) -> float:
        """Wall time at which the source last confirmed this state."""
        return max([self.generation.header.confirmed_unix_s, *(entry.confirmed_unix_s for entry in self.entries)])


class _Chain(NamedTuple):
    entries: list[Entry]
    trail: Place
    journals: int
    journal_bytes: int
    left_bytes: int


def read_generation(directory: Directory, number: int, limits: Limits) -> Generation:
    """Read and verify one generation.

    Raises:
        AbsentError: there is none.
        SnapshotError: it must not be used.
    """
    name = generation_name(number)
    file = directory.read(name, limits.generation_bytes)
    try:
        generation = decode(file)
        check_number(name, generation.header.generation)
    except SnapshotError as error:
        raise named(directory.where(name), error) from None
    return generation


def read_journal(directory: Directory, number: int, limits: Limits) -> Replay:
    """Read one journal up to its first bad record; raises as `read_generation` if nothing of it can be used."""
    name = journal_name(number)
    file = directory.read(name, limits.journal_bytes_to_read)
    try:
        journal = replay(file)
        check_number(name, journal.head.generation)
    except SnapshotError as error:
        raise named(directory.where(name), error) from None
    return journal


def recover(directory: Directory, limits: Limits) -> tuple[Recovered | None, tuple[str, ...]]:
    """Find the newest state that can be trusted.

    Returns:
        It, or None if there is none, and a sentence for each file that was not used, or not to its end.

    Raises:
        SnapshotError: the directory can't be listed.
    """
    refused: list[str] = []
    for _ in range(MAX_SCANS):
        refused, vanished = [], False
        listing = directory.list()
        for number in listing.generations[:MAX_TRIES]:
            try:
                generation = read_generation(directory, number, limits)
            except AbsentError:
                vanished = True
            except SnapshotError as error:
                refused.append(str(error))
            else:
                chain = _follow(directory, listing, number, limits, refused)
                return Recovered(generation, *chain), tuple(refused)
        if not vanished:
            break
    return None, tuple(refused)


def _follow(directory: Directory, listing: Listing, base: int, limits: Limits, refused: list[str]) -> _Chain:
    """Read the journals that go on from a generation, each from the exact point where the one before was left."""
    read = dict(_read_journals(directory, [number for number in listing.journals if number >= base], limits, refused))
    entries: list[Entry] = []
    place, count, size_bytes = base, 0, 0
    while True:
        journal = read.get(place, _NOTHING)
        count, size_bytes = count + (journal is not _NOTHING), size_bytes + journal.size_bytes
        going_on = [head for head, *_ in read.values() if head.generation > place == head.follows.generation]
        reached = [head for head in going_on if head.follows.sequence <= journal.sequence]
        if not reached:
            break
        # The newest wins: it was begun by whoever took up the history at this point last.
        follower = max(reached)
        entries += journal.entries[: follower.follows.sequence]
        place = follower.generation
    entries += journal.entries
    path = directory.where(journal_name(place))
    if journal.reason:
        refused.append(f"{path} {journal.reason}")
    refused += [
        f"{directory.where(journal_name(head.generation))} is left out: it goes on from record {head.follows.sequence} "
        f"of {path}, of which {journal.sequence} could be read. The source will tell again what it held"
        for head in going_on
    ]
    return _Chain(entries, Place(place, journal.sequence), count, size_bytes, journal.left_bytes)


def _read_journals(
    directory: Directory, numbers: list[int], limits: Limits, refused: list[str]
) -> Iterator[tuple[int, Replay]]:
    for number in numbers:
        try:
            journal = read_journal(directory, number, limits)
        except AbsentError:
            continue
        except SnapshotError as error:
            refused.append(str(error))
            continue
        yield number, journal
